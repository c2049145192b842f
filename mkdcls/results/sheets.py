"""The list of results sheets. To add one, add an entry here and the page of the same name in nbs/results.

`make help`, the command line, README.md, the page of all results and the tests read this list; pages open with
`mkdcls.results.page.open_sheet`.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

# everything heavy is imported where it is used: the command line asks this list for names
if TYPE_CHECKING: from mkdcls.results.runner import Runner

# protocol, section 2: the primary contrast at half and at one and a half times the spread
SPREADS, SPREAD_ROWS, SPREAD_SEEDS = (.5, 1.5), ("3", "6"), 3

Jobs = list[tuple[str, int]]
RunPlan = "list[tuple[Runner, Jobs]]"


@dataclass(frozen=True)
class Wanted:
    "What a command asks for"
    preset: str
    seeds: int
    corpus: str
    real: str
    device: str
    callbacks: dict
    yours: str = ""  # one's own file
    schedule: dict | None = None  # epochs, lr, batch in place of the preset's

    def runner(self, **more) -> Runner:
        from mkdcls.results.runner import Runner
        return Runner(self.preset, self.corpus, self.real, self.device, yours=self.yours, schedule=self.schedule,
                      **self.callbacks, **more)

    def each(self, rows, seeds: int | None = None) -> Jobs:
        return [(r, s) for s in range(self.seeds if seeds is None else seeds) for r in rows]


@dataclass(frozen=True)
class Sheet:
    "One results sheet: what it asks, what it runs, how its records become tables"
    name: str  # of its page nbs/results/<name>.ipynb and of SHEET=<name>
    title: str
    asks: str  # one line, for `make help` and the page of all results
    plan: Callable[[Wanted], RunPlan]  # runners and what each has to do; the first runner names the results folder
    pages: tuple[str, ...]  # the pages that define what is measured here
    # finished runs → records in the folder; None: its page measures trained networks itself
    publish: Callable[[RunPlan, Path], object] | None = None
    tables: Callable[[Path], object] | None = None  # records in the folder → csv and md, without any network
    runs: str = ""  # its records inside the folder, with the time that each run took
    files: tuple[str, ...] = ()  # its tables inside the folder
    figures: tuple[str, ...] = ()  # names inside <folder>/figures
    only_standin: bool = False  # asks what only a corpus with known causes can answer
    seeds: int = 1  # how many its committed results were planned with
    first: int = 0  # its first seed
    by_seed: bool = False  # one seed after another, each one's features deleted then: the disk does not hold twenty
    after: str = ""  # said before it starts: what comes after the runs
    redraws: bool = False  # its page can be made from the records in the folder, without the trained networks
    left: Callable[[RunPlan, Path], RunPlan] | None = None  # of a plan what the folder holds no record of: CONTINUE=1

    def recorded(self, folder: Path) -> Jobs:
        "The runs (row, seed) whose records lie in the folder"
        import pandas as pd
        if not self.redraws:
            raise ValueError(f"REDRAW of {self.name}: its page asks trained networks; "
                             f"only {', '.join(n for n, s in SHEETS.items() if s.redraws)} are drawn from records")
        if not (Path(folder) / self.runs).is_file():
            raise ValueError(f"REDRAW: there is no {self.runs} in {folder}: run the sheet first, without REDRAW")
        runs = pd.read_csv(Path(folder) / self.runs, dtype={"row": str})
        return list(dict.fromkeys(zip(runs["row"], runs["seed"].astype(int))))

    def continued(self, parts: RunPlan, folder: Path) -> RunPlan:
        "Of a plan what the folder holds no record of"
        if self.left is None:
            raise ValueError(f"CONTINUE of {self.name}: its tables need the runs themselves; "
                             f"only {' and '.join(n for n, s in SHEETS.items() if s.left)} go on from records")
        return self.left(parts, Path(folder))

    def count(self, folder: Path) -> int:
        """How many runs have their records in the folder; a row and a seed may stand for several, as doses do, and a
        line without a key is no run (an oracle, a refusal)"""
        import pandas as pd
        runs = pd.read_csv(Path(folder) / self.runs, dtype={"row": str})
        return (runs["key"].nunique() if "key" in runs else 0) or len(self.recorded(folder))


def _rows_of_table1(w: Wanted) -> RunPlan: return [(t := w.runner(), w.each(t.rows))]


def _ablations(w: Wanted) -> RunPlan:
    from mkdcls.runs import preset_of
    from mkdcls.verification.bridge import sheet_rows
    a = w.runner(rows=sheet_rows(preset_of(w.preset).scheduled(**w.schedule or {}), w.corpus))
    return [(a, [*w.each(a.rows, 1), *((r, s) for s in range(1, w.seeds) for r in chosen_rows(a))])]


def _interventions(w: Wanted) -> RunPlan:
    from mkdcls.results.intervention_sheet import InterventionRunners as Asked
    asked = Asked(w.preset, w.corpus, w.real, w.device, **w.callbacks)
    return [(asked.runner(knobs), w.each(rows)) for knobs, rows in asked.plan().items()]


def _remedies(w: Wanted) -> RunPlan:
    from mkdcls.results.remedies_sheet import RemedyRunners
    return RemedyRunners(w.preset, w.device, **w.callbacks).plan(w.seeds)


def _attributions(w: Wanted) -> RunPlan:
    from mkdcls.results.attribution_sheet import ROWS
    return [(w.runner(), w.each(ROWS))]


def _sensitivity(w: Wanted) -> RunPlan:
    from mkdcls.runs import Knobs
    jobs = w.each(SPREAD_ROWS, min(w.seeds, SPREAD_SEEDS))
    return [(w.runner(), jobs), *((w.runner(knobs=Knobs(spread=f)), jobs) for f in SPREADS)]


def _second(w: Wanted, knobs=None) -> Runner:
    "A runner under protocol 2"
    from mkdcls.decisive import decisive_rows
    from mkdcls.runs import Knobs, preset_of
    return w.runner(rows=decisive_rows(preset_of(w.preset).protocol2()), protocol="2", knobs=knobs or Knobs())


def _from_first(rows, seeds: int) -> Jobs:
    from mkdcls.decisive import FIRST_SEED
    return [(r, FIRST_SEED + s) for s in range(seeds) for r in rows]


def _decisive(w: Wanted) -> RunPlan:
    from mkdcls.decisive import (ASKED_ALONE, CONTROL_SEEDS, CONTROLS, DOSE_SEEDS, DOSES, FIRST_SEED, PRIMARY,
                                 PRIMARY_SEEDS)
    from mkdcls.runs import Knobs, preset_of
    whole = preset_of(w.preset).evidence  # smoke checks that each kind of run works, not every one
    controls, alone = (CONTROLS, ASKED_ALONE) if whole else (("4a-none", "4a-causes", "subce"), ASKED_ALONE[:1])
    several = dict.fromkeys(PRIMARY, PRIMARY_SEEDS) | dict.fromkeys(controls, CONTROL_SEEDS) | dict.fromkeys(
        alone, DOSE_SEEDS)
    first = [(r, FIRST_SEED + s) for s in range(w.seeds) for r, most in several.items() if s < most]
    turned = [d for d in DOSES if d.knobs != Knobs()]
    return [(_second(w), first), *((_second(w, d.knobs), _from_first(d.rows, min(w.seeds, DOSE_SEEDS)))
                                   for d in (turned if whole else turned[2:3]))]


def _regime(w: Wanted) -> RunPlan:
    from mkdcls.decisive import REGIME_ROWS, REGIME_SEEDS, regimes
    from mkdcls.runs import preset_of
    jobs = _from_first(REGIME_ROWS, min(w.seeds, REGIME_SEEDS))
    return [(_second(w, k), jobs) for k in regimes(preset_of(w.preset)).values()]


def _real(w: Wanted) -> RunPlan:
    from mkdcls.results.real_sheet import real_plan
    return real_plan(w)


def _publish_real(parts: RunPlan, folder: Path):
    from mkdcls.results import real_sheet
    return real_sheet.publish(parts, Path(folder))


def _no_runs(w: Wanted) -> RunPlan: return [(w.runner(), [])]


def _verification(name: str, w: Wanted) -> RunPlan:
    from mkdcls.results.speaker_runner import SpeakerRunner
    v = SpeakerRunner(w.preset, w.corpus, w.real, w.device, **w.callbacks)
    return [(v, w.each(v.preset.rows(w.corpus, name)))]


def chosen_rows(runner: Runner) -> list[str]:
    "Rows of the ablation sheet that get more seeds; none before the screening is done"
    import pandas as pd
    from mkdcls.ablations import chosen
    from mkdcls.verification.bridge import ALL_QUESTIONS
    f1 = {r: rec["metrics"]["agesup_f1"] for r in runner.rows if (rec := runner.record(r, 0))}
    if set(runner.rows) - set(f1): return []
    return chosen(pd.DataFrame([(q.name, r, f1[r] - f1[q.against]) for q in ALL_QUESTIONS
                                for r in q.rows if {r, q.against} <= set(f1)], columns=["question", "row", "gain"]))


def _publish(inside: str, parts: RunPlan, folder: Path):
    from mkdcls.results import report
    return report.publish(parts, Path(folder) / inside)


def _publish_trials(name: str, parts: RunPlan, folder: Path):
    from mkdcls.results import verification_sheets
    (runner, plan), = parts
    verification_sheets.publish(runner, name, plan, Path(folder))
    return folder


def _publish_second(inside: str, parts: RunPlan, folder: Path, continued: bool = False):
    from mkdcls.results import decisive_sheet
    return decisive_sheet.publish(inside, parts, Path(folder), continued)


def _left_of_second(inside: str, parts: RunPlan, folder: Path) -> RunPlan:
    from mkdcls.results import decisive_sheet
    return decisive_sheet.left_to_run(parts, Path(folder) / inside)


def _tables(module: str, *names: str) -> Callable[[Path], object]:
    "`write` of a module, imported when it is wanted; it turns records into tables"
    def write(folder: Path):
        from importlib import import_module
        return import_module(f"mkdcls.results.{module}").write(Path(folder), *names)
    return write


def _of_verification(name: str) -> dict:
    return dict(plan=partial(_verification, name), publish=partial(_publish_trials, name),
                tables=_tables("verification_sheets", name), runs=f"{name}-runs.csv",
                files=(f"{name}.csv", f"{name}-claims.csv", f"{name}.md"), figures=(name, f"{name}-det"), seeds=3)


# `make help` reads name and third entry from the lines that begin with Sheet(
SHEETS = {s.name: s for s in (
    Sheet("table1", "Table 1", "the fourteen rows of the paper's only table",
          plan=_rows_of_table1, pages=("12_evaluation", "13_runs"), publish=partial(_publish, ""),
          tables=_tables("report"), runs="runs.csv",
          files=("table1.csv", "gains.csv", "table1.md", "table1.tex"),
          figures=("gains", "confusion_agesup", "confusion_agesub", "curves"), seeds=5, redraws=True),
    Sheet("ablations", "Ablations", "which part of MKD and of CH makes a difference",
          plan=_ablations, pages=("14b_ablations", "29_bridge"), publish=partial(_publish, "ablations"),
          tables=_tables("ablation_sheet"),
          runs="ablations/runs.csv", files=("ablations.csv", "ablations.md"), figures=("ablations",), seeds=5,
          redraws=True),
    Sheet("interventions", "Interventions", "one cause changed, everything else held: what do the answers do?",
          plan=_interventions, pages=("14c_counterfactuals", "11a_intervention"), runs="interventions-runs.csv",
          files=("interventions.csv",),
          figures=("effects", "rho", "label_noise", "refuters"), only_standin=True,
          after=" After them the networks listen, some minutes at laptop."),
    Sheet("remedies", "Remedies", "what keeps an answer on the voice where the line tells the age, and what it costs",
          plan=_remedies, pages=("16_remedies", "16b_remedies_in_speech"), tables=_tables("remedies_sheet"),
          runs="remedies-runs.csv", files=("remedies.csv",), figures=("remedies", "remedies_needs"),
          only_standin=True, seeds=5, redraws=True,
          after=" After them the networks listen to fresh speakers over both lines, about 20 seconds a run at laptop."),
    Sheet("attributions", "Attributions", "which parts of the spectrogram the answers depend on",
          plan=_attributions, pages=("15_attribution",), files=("attributions.csv", "attribution_groups.csv"),
          figures=("attribution_examples", "attribution_measures", "attribution_groups"),
          after=" After them the networks are asked, about 15 minutes at laptop; "
                "what is known of a row and task is kept."),
    Sheet("sensitivity", "Sensitivity", "the primary contrast where voices of one age differ less, or more",
          plan=_sensitivity, pages=("01a_scm",), publish=partial(_publish, "sensitivity"),
          tables=_tables("sensitivity_sheet"), runs="sensitivity/runs.csv",
          files=("sensitivity.csv",), figures=("sensitivity",), only_standin=True, seeds=3, redraws=True),
    Sheet("decisive", "What decides", "protocol 2: twenty seeds, fresh speakers, controls, doses",
          plan=_decisive, pages=("14d_decisive", "12a_seeds"), publish=partial(_publish_second, "decisive"),
          tables=_tables("decisive_sheet", "decisive"), runs="decisive/runs.csv",
          files=("decisive.csv", "decisive-scores.csv", "decisive-others.csv", "decisive-controls.csv",
                 "decisive-doses.csv"),
          figures=("decisive", "teacher_worth", "doses"), only_standin=True, seeds=20, first=100, by_seed=True,
          redraws=True, left=partial(_left_of_second, "decisive")),
    Sheet("regime", "Regime", "protocol 2: few speakers, many utterances, split by speaker and by utterance",
          plan=_regime, pages=("14d_decisive",), publish=partial(_publish_second, "regime"),
          tables=_tables("decisive_sheet", "regime"), runs="regime/runs.csv",
          files=("regime.csv", "regime-leak.csv"), figures=("regime",),
          only_standin=True, seeds=5, first=100, by_seed=True, redraws=True, left=partial(_left_of_second, "regime")),
    Sheet("real", "Real speech", "what a teacher is worth on real speech, beside language alone and a public encoder",
          plan=_real, pages=("18_pretrained", "12a_seeds"), publish=_publish_real, tables=_tables("real_sheet"),
          runs="real/real-runs.csv", files=("real.csv", "real-contrasts.csv", "real.md"), figures=("real",), seeds=5,
          redraws=True),
    Sheet("figures", "Figures", "the paper's figures and the poster's panels",
          plan=_no_runs, pages=("14_causal",),
          figures=("figure1", "figure2", "figure3", "figure3_resnet", "figure4", "poster_results")),
    Sheet("seo_kim", "Seo & Kim", "Seo & Kim 2020: ten encodings on one trunk", pages=("22_seo_kim", "28_systems"),
          **_of_verification("seo_kim")),
    Sheet("imu_elevoc", "IMU&Elevoc", "IMU&Elevoc 2021: seven networks, transfer, fusion and distillation",
          pages=("23_imu_networks", "28_systems"),
          **_of_verification("imu_elevoc")),
)}


def sheet_of(name: str) -> Sheet:
    "A sheet by name"
    if name not in SHEETS: raise ValueError(f"no sheet {name!r}; choose one of {', '.join(SHEETS)}")
    return SHEETS[name]


def some_of(parts: RunPlan, rows: tuple[str, ...], first: int, seeds: int) -> RunPlan:
    "Of a sheet's plan these rows (none: all), for so many seeds from `first` on"
    from mkdcls.results.runner import seed_of
    names = [list(dict.fromkeys(row for row, _ in jobs)) for _, jobs in parts]
    if gone := [row for row in rows if not any(row in known for known in names)]:
        every = dict.fromkeys(row for known in names for row in known)
        raise ValueError(f"ROWS={','.join(rows)}: no row {gone[0]!r} in this sheet; it has {', '.join(every)}")
    return [(r, [(row, seed_of(first + i)) for i in range(seeds) for row in known if not rows or row in rows])
            for (r, _), known in zip(parts, names)]


def remedy_named(text: str) -> tuple:
    "REMEDY=line, or name:strength, as a recipe carries it; without a strength the one that was chosen on the stand-in"
    from mkdcls.remedies import REMEDIES
    from mkdcls.results.remedies_sheet import strengths
    name, _, strength = text.partition(":")
    if name not in REMEDIES: raise ValueError(f"REMEDY={text}: choose one of {', '.join(REMEDIES)}")
    try: return ((name, float(strength) if strength else strengths()[name]),)
    except ValueError: raise ValueError(f"REMEDY={text}: after the colon comes a number") from None


TAKE_OWN = {"yours": ("table1",), "epochs": ("table1", "ablations"), "lr": ("table1", "ablations"),
       "batch": ("table1", "ablations"), "remedy": ("table1",)}  # option → the sheets that take it


def check_schedule(epochs: int | None = None, lr: float | None = None, batch: int | None = None):
    "One line for a schedule that nobody can train on"
    from mkdcls.results.runner import count
    if epochs is not None: count(epochs, "EPOCHS")
    if batch is not None and count(batch, "BATCH") < 2:
        raise ValueError("BATCH=1: BatchNorm needs two utterances or more")
    if lr is not None and not 0 < lr < 1:
        raise ValueError(f"LR={lr}: a number above 0 and below 1; the presets have 0.0001 to 0.003")


def plans(sheet: str, preset: str, seeds: int, corpus: str = "standin", real: str = "", device: str = "auto",
          yours: str = "", epochs: int | None = None, lr: float | None = None, batch: int | None = None,
          remedy: str = "", **callbacks) -> RunPlan:
    "Runners and what each has to do for a sheet; the first runner names the results folder"
    from mkdcls.results.runner import SEEDS, count
    s, seeds = sheet_of(sheet), count(seeds, "SEEDS", SEEDS)
    if s.only_standin and corpus != "standin":
        raise ValueError(f"SHEET={sheet} asks what only the stand-in knows, its causes: "
                         f"leave CORPUS={Path(corpus).name} out, or CORPUS=standin")
    given = dict(yours=yours or None, epochs=epochs, lr=lr, batch=batch, remedy=remedy or None)
    for name, value in given.items():
        if value is not None and sheet not in TAKE_OWN[name]:
            raise ValueError(f"{name.upper()}={value}: SHEET={sheet} does not take it; "
                             f"only {' and '.join(TAKE_OWN[name])}")
    check_schedule(epochs, lr, batch)
    schedule = {k: v for k, v in given.items() if k != "yours" and v is not None}
    if remedy: schedule["remedy"] = remedy_named(remedy)
    return s.plan(Wanted(preset, seeds, corpus, real, device, callbacks, yours, schedule))
