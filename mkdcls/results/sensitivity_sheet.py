"""The sensitivity sheet (protocol, section 2): the primary contrast at half and at one and a half times the judged
spreads."""
from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd

from mkdcls.results.figures import COLOURS, STYLE, save_figure
from mkdcls.results.report import held_against, published, read
from mkdcls.engine.store import write_text
from mkdcls.evaluation import MARGIN, status
from mkdcls.runs import preset_of


def spread_of(knobs) -> float: return json.loads(knobs).get("spread", 1.) if isinstance(knobs, str) else 1.


def spread_contrasts(folder: Path) -> pd.DataFrame:
    "+MKD+CH against base, agesup macro F1, at each spread"
    runs, lines = read(folder)
    at = lambda t: (t["knobs"] if "knobs" in t
                    else pd.Series(None, index=t.index, dtype=object)).map(spread_of, na_action=None)
    runs, lines = runs.assign(spread=at(runs)), lines.assign(spread=at(lines))
    paper, out = published(), []
    theirs = paper.loc["6", "agesup_f1"] - paper.loc["3", "agesup_f1"]
    for spread in sorted(runs["spread"].unique()):
        mine, said = runs[runs["spread"] == spread], lines[lines["spread"] == spread]
        c, f1s = held_against(mine, said, "3", "6", "agesup")
        mean = lambda row, name, mine=mine: mine.loc[mine["row"] == row, name].mean()
        out.append(dict(spread=spread, row="6", base_row="3", task="agesup",
                        **mine[["corpus", "preset", "protocol"]].iloc[0],
                        n_seeds=c.n, base_f1=round(f1s[0], 2), f1=round(f1s[1], 2), gain=round(c.value, 2),
                        low=round(c.low, 2), high=round(c.high, 2),
                        as_trained=round(mean("6", "as_trained_agesup_f1") - mean("3", "agesup_f1"), 2),
                        paper_gain=round(theirs, 2),
                        status=status(c, evidence=preset_of(mine["preset"].iloc[0]).evidence)))
    return pd.DataFrame(out)


def figure_spreads(table: pd.DataFrame, folder: Path):
    "Gain against spread, and the scores it is made of"
    with mpl.rc_context(STYLE):
        fig, (left, right) = plt.subplots(1, 2, figsize=(6.2, 2.5), layout="constrained")
        left.axhspan(-MARGIN, MARGIN, color="0.92", lw=0, label=f"margin, ±{MARGIN:g} point")
        left.axhline(0, color="0.5", lw=.8)
        left.errorbar(table["spread"], table["gain"], [table["gain"] - table["low"], table["high"] - table["gain"]],
                      fmt="o", color=COLOURS[0], label="gain, 95 %")
        left.set(xlabel="spread of the judged variables (× s)", ylabel="gain in agesup F1 (points)",
                 xticks=table["spread"])
        for column, name, marker, colour in (("base_f1", "base", "s", COLOURS[7]), ("f1", "+MKD+CH", "o", COLOURS[0])):
            right.plot(table["spread"], table[column], marker + "-", color=colour, label=name)
        right.set(xlabel="spread of the judged variables (× s)", ylabel="agesup macro F1 (%)", xticks=table["spread"])
        for ax in (left, right): ax.legend(frameon=False, fontsize=7)
        save_figure(fig, folder, "sensitivity")
    return fig


def write(folder: Path) -> pd.DataFrame:
    "sensitivity.csv from the records in <folder>/sensitivity"
    table = spread_contrasts(Path(folder) / "sensitivity")
    write_text(Path(folder) / "sensitivity.csv", table.to_csv(index=False))
    return table
