"""How a results notebook begins: one call that refuses unknown parameters and says what will be run, where it goes,
and what is missing."""
from __future__ import annotations

from pathlib import Path
from types import ModuleType

from mkdcls.results.cli import Bars, check_parameters, relative
from mkdcls.results.report import default_folder
from mkdcls.results.sheets import RunPlan, plans, sheet_of

PARAMETERS = ("preset", "seeds", "corpus", "real", "device", "out", "redraw", "continued", "yours", "epochs", "lr",
              "batch", "remedy")
PLUMBING = "> **Plumbing check.** The smoke preset is far too small to compare anything. No number below is evidence."


class Opened:
    """A sheet as its page works with it: `parts` is its plan, `runner` the first runner of it, `folder` where
    everything is left"""

    def __init__(self, name: str, preset: str, seeds: int, corpus: str, real: str, device: str, out: str,
                 redraw: bool = False, continued: bool = False, **own):
        "`own`: yours, epochs, lr, batch, remedy; None or an empty text is as if it were not given"
        self.sheet, self.seeds, self.bars = sheet_of(name), seeds, Bars()
        self.redraw, self.continued = redraw, continued
        self._asked = preset, corpus, real, device
        self._own = {k: v for k, v in own.items() if v not in (None, "")}
        runner = self._plan(seeds)[0][0]
        self.folder = Path(out or default_folder(getattr(runner, "results", runner.name)))
        self.recorded = self.sheet.recorded(self.folder) if redraw else None
        self.parts = self.plan(seeds)
        self.runner, self.jobs = self.parts[0]

    def plan(self, seeds: int) -> RunPlan:
        """The plan for so many seeds, of what is known now: the ablations choose their further rows by their first

        When redrawn: the recorded runs.
        """
        parts = self._plan(seeds)
        return parts if self.recorded is None else [(runner, [job for job in self.recorded if job[0] in runner.rows])
                                                    for runner, _ in parts]

    def _plan(self, seeds: int) -> RunPlan:
        preset, corpus, real, device = self._asked
        return plans(self.sheet.name, preset, seeds, corpus, real, device, say=print, progress=self.bars,
                     **self._own)

    def to_run(self) -> RunPlan:
        "The plan; of a sheet that is continued, what the folder holds no record of"
        return self.sheet.continued(self.parts, self.folder) if self.continued else self.parts

    def run(self, parts: RunPlan | None = None):
        "Everything that is missing; nothing when the sheet is redrawn"
        if self.redraw: return
        parts = self.to_run() if parts is None else parts
        for runner, jobs in parts:
            if not self.sheet.by_seed:
                runner.run_all(jobs)
                continue
            for seed in sorted({s for _, s in jobs}):
                if not runner.missing(mine := [job for job in jobs if job[1] == seed]): continue
                runner.run_all(mine)
                runner.forget(mine)
        self.bars.close()
        assert not any(runner.missing(jobs) for runner, jobs in parts)

    def publish(self, parts: RunPlan | None = None):
        "Records into the folder, then the tables made from them; only these when the sheet is redrawn"
        if not self.redraw:
            self.sheet.publish(self.parts if parts is None else parts, self.folder,
                               **{"continued": True} if self.continued else {})
        return self.sheet.tables(self.folder)

    def files(self, pattern: str = "*") -> list[str]:
        "What was left, as a reader of the project sees it"
        return sorted(relative(f) for f in self.folder.rglob(pattern) if f.is_file() and not f.name.startswith("."))

    def done(self, row: str) -> int:
        "How many seeds of a row are there"
        if self.recorded is not None: return len({s for r, s in self.recorded if r == row})
        return sum(self.runner.record(row, s) is not None for s in range(self.seeds))

    def _repr_markdown_(self) -> str:
        if self.recorded is not None:
            return (f"**{self.sheet.title}**: {self.sheet.asks}. Drawn from the "
                    f"{self.sheet.count(self.folder)} recorded runs; nothing is trained.")
        todo, every = (sum(len(r.missing(j)) for r, j in self.to_run()),
                       sum(len({*j, *r.missing(j)}) for r, j in self.parts))
        told = (f"**{self.sheet.title}**: {self.sheet.asks}. {todo} of {every} runs are still to be done." if every
                else f"**{self.sheet.title}**: {self.sheet.asks}.")
        own = [r for r in self.runner.rows if getattr(self.runner.rows[r], "against", None)]
        if own: told += f" Rows of your own: {', '.join(own)}."
        if moved := getattr(self.runner, "schedule", None):
            told += f" Not the preset's schedule: {', '.join(f'{k}={v}' for k, v in moved.items())}."
        return told if self.runner.preset.evidence else f"{told}\n\n{PLUMBING}"


def open_sheet(
    name: str,  # of the sheet, as in SHEET=<name>
    names: dict,  # globals() of the page, right after its parameters: a name that nobody reads is an error there
) -> Opened:  # shown as what will be done
    "The first line of a results page"
    # papermill brings literals
    brought = {k: v for k, v in names.items() if not callable(v) and not isinstance(v, ModuleType)}
    check_parameters(brought, PARAMETERS)
    return Opened(name, **{p: names[p] for p in PARAMETERS if p in names})
