"""The results sheets: which runs each one stands on. What is done with them is the notebook of the same name in nbs/results."""
from __future__ import annotations

from pathlib import Path

import pandas as pd

from mkdcls.ablations import chosen
from mkdcls.results.runner import SEEDS, Runner, count
from mkdcls.runs import Knobs, preset_of
from mkdcls.verification.bridge import ASKED, sheet_rows
from mkdcls.verification.systems import SHEETS as VERIFICATION

SHEETS = {"table1": "Table 1", "ablations": "Ablations", "interventions": "Interventions", "attributions": "Attributions",
          "sensitivity": "Sensitivity", "figures": "Figures", "seo_kim": "Seo & Kim", "imu_elevoc": "IMU&Elevoc"}
SPREADS, SPREAD_ROWS, SPREAD_SEEDS = (.5, 1.5), ("3", "6"), 3  # protocol, section 2: the primary contrast at half and at one and a half times the spread

Plan = list[tuple[Runner, list[tuple[str, int]]]]


def plans(sheet: str, preset: str, seeds: int, corpus: str = "standin", real: str = "", device: str = "auto", **callbacks) -> Plan:
    "Runners and what each has to do for a sheet; the first runner names the results folder"
    if sheet not in SHEETS: raise ValueError(f"no sheet {sheet!r}; choose one of {', '.join(SHEETS)}")
    seeds = count(seeds, "SEEDS", SEEDS)
    each = lambda rows, n=seeds: [(r, s) for s in range(n) for r in rows]
    if sheet in VERIFICATION:
        from mkdcls.results.speaker_runner import SpeakerRunner
        v = SpeakerRunner(preset, corpus, real, device, **callbacks)
        return [(v, each(v.preset.rows(corpus, sheet)))]
    make = lambda **more: Runner(preset, corpus, real, device, **callbacks, **more)
    if sheet == "table1": return [(t := make(), each(t.rows))]
    if sheet == "figures": return [(make(), [])]
    if sheet == "attributions":
        from mkdcls.results.attribution_sheet import ROWS
        return [(make(), each(ROWS))]
    if sheet == "ablations":
        a = make(rows=sheet_rows(preset_of(preset), corpus))
        return [(a, [*each(a.rows, 1), *((r, s) for s in range(1, seeds) for r in chosen_rows(a))])]
    if corpus != "standin": raise ValueError(f"SHEET={sheet} asks what only the stand-in knows, its causes: leave CORPUS={Path(corpus).name} out, or CORPUS=standin")
    if sheet == "sensitivity":
        n = min(seeds, SPREAD_SEEDS)
        return [(make(), each(SPREAD_ROWS, n)), *((make(knobs=Knobs(spread=f)), each(SPREAD_ROWS, n)) for f in SPREADS)]
    from mkdcls.results.intervention_sheet import Sheet
    sheet = Sheet(preset, corpus, real, device, **callbacks)
    return [(sheet.runner(knobs), each(rows)) for knobs, rows in sheet.plan().items()]


def chosen_rows(runner: Runner) -> list[str]:
    "Rows of the ablation sheet that get more seeds; none before the screening is done"
    f1 = {r: rec["metrics"]["agesup_f1"] for r in runner.rows if (rec := runner.record(r, 0))}
    if set(runner.rows) - set(f1): return []
    return chosen(pd.DataFrame([(q.name, r, f1[r] - f1[q.against]) for q in ASKED for r in q.rows if {r, q.against} <= set(f1)], columns=["question", "row", "gain"]))
