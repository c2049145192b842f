"""The article's figures, from the committed csv files, at the width that they are printed at.

No letter below 7 points; a marker, a line or a word always says what a colour says, so that grey paper shows the same.
The same records give the same bytes.
"""
from __future__ import annotations

import contextlib
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mkdcls.evaluation import MARGIN
from mkdcls.publish.named import PAPER, PRIMARY_ROWS, RESULT_FOLDERS, record_table
from mkdcls.publish.second import REMEDY_NAMES, marked_family, second_files
from mkdcls.results.diagrams import SMALLEST, blank_page
from mkdcls.results.diagrams import STYLE as PRINTED
from mkdcls.results.picture import HEAD, LOSS, PLAIN, STUDENT, TEACHER, box, flow_arrow
from mkdcls.results.remedies_sheet import undisturbed

PRINT_WIDTH = 160  # mm, the article's column
ON_POSTER = 124, 55  # mm, scaled to 346 mm there: letters of 20 points
BLOCK_TITLES = {"ecapa": "ECAPA-TDNN", "resnet": "ResNet", "calls": "call centre"}
DARK, WARM, MUTED = "#0173b2", "#c05a00", "0.45"


def method_in_print() -> Figure:
    "The method at the article's width: both views, both networks, Z, a head a task, and the losses"
    with mpl.rc_context(PRINTED):
        fig = blank_page(PRINT_WIDTH, 64)
        ax = fig.add_axes((0, 0, 1, 1))
        ax.set(xlim=(0, 150), ylim=(0, 60.8))
        ax.axis("off")
        box(ax, 11, 46, 20, 10, "$x_{normal}$\nlog-Mel", PLAIN, 7.5)
        box(ax, 11, 15, 20, 10, "$x_{mixup}$\nEq. 1", PLAIN, 7.5)
        ax.text(8, 30.5, "0.7 of it, and 0.3 of\nthe running mean of its\nSpecAugmented copy", ha="left", va="center",
                fontsize=SMALLEST, linespacing=1.3)
        flow_arrow(ax, (5, 40.6), (5, 20.6))
        box(ax, 52, 46, 28, 11, "teacher, frozen\n(trained on FCVG)", TEACHER, 7.5)
        box(ax, 52, 15, 28, 11, "student\n(about half as large)", STUDENT, 7.5)
        box(ax, 52, 30.5, 19, 6.4, r"$\mathcal{L}_{dist}$   Eq. 2", LOSS, 7.5)
        flow_arrow(ax, (21.3, 46), (37.6, 46)); flow_arrow(ax, (21.3, 15), (37.6, 15))
        flow_arrow(ax, (52, 40.2), (52, 34.2), True); flow_arrow(ax, (52, 20.8), (52, 26.8), True)
        box(ax, 73, 46, 6, 6, "K", TEACHER, 9); box(ax, 73, 15, 6, 6, "X", STUDENT, 9)
        box(ax, 85, 30.5, 9, 24, "Z =\n[X; K]", PLAIN, 7.5)
        flow_arrow(ax, (66.3, 46), (69.7, 46)); flow_arrow(ax, (66.3, 15), (69.7, 15))
        flow_arrow(ax, (76.3, 45.2), (80.2, 40.6)); flow_arrow(ax, (76.3, 15.8), (80.2, 20.4))
        for y, task, classes, loss in ((50, "gender", "female, male", r"$\mathcal{L}_{CE}$"),
                                       (35, "agesup", "20-30, 40-50, 60+", r"$\mathcal{L}_{asl}$   Eq. 4"),
                                       (15, "agesub", "20s, 30s, ..., 60s+", r"$\mathcal{L}_{asl}$   Eq. 4")):
            flow_arrow(ax, (89.7, np.clip(y, 20.5, 40.5)), (95.5, y))
            box(ax, 109.5, y, 27, 9.4, f"head {task}\n{classes}", HEAD, 7.5)
            flow_arrow(ax, (123.3, y), (128.6, y), True)
            box(ax, 138.8, y, 20, 6.4, loss, LOSS, 7.5)
        box(ax, 138.8, 25, 20, 6.4, r"$\mathcal{L}_{dep}$   Eq. 5", LOSS, 7.5)
        flow_arrow(ax, (109.5, 25), (109.5, 30), True); flow_arrow(ax, (109.5, 25), (109.5, 20), True)
        ax.plot([109.5, 128.6], [25, 25], color=LOSS[0], lw=1.2, ls=(0, (3, 1.6)))
        ax.text(75, 2.6, r"Eq. 3:  $\mathcal{L}_{total}=0.25\,\mathcal{L}_{dist}+\mathcal{L}_{CE}(gender)+"
                r"\mathcal{L}_{asl}(agesup)+\mathcal{L}_{asl}(agesub)+\mathcal{L}_{dep}$", ha="center", va="center",
                fontsize=8, color=LOSS[0])
        ax.text(2, 57.6, "solid arrows: data", fontsize=SMALLEST, va="center")
        ax.text(30, 57.6, "dashed: losses, in training only", fontsize=SMALLEST, va="center", color=LOSS[0])
    return fig


def _whisker(ax, y, value, low, high, marker, colour, label=None, filled=True):
    ax.plot([low, high], [y, y], color=colour, lw=1.3, solid_capstyle="butt")
    ax.plot(value, y, marker, color=colour, mfc=colour if filled else "white", ms=5, mew=1.1, label=label)


def second_primary(top: Path) -> pd.DataFrame | None:
    "The three primary contrasts of protocol 2 by block, where all have been run"
    path = top / "results" / RESULT_FOLDERS["standin"] / "decisive.csv"
    if not path.exists(): return None
    t = record_table(path)
    if not {"block", "row", "gain", "low", "high"} <= set(t): return None
    t = t[t["contrast"].str.startswith("+MKD+CH − base, ")].set_index("row")
    rows = [r for r, _, _ in PRIMARY_ROWS.values()]
    return t.loc[rows] if set(rows) <= set(t.index) else None


def gains_in_print(top: Path = PAPER, width: float = PRINT_WIDTH, height: float = 60, second: bool = False) -> Figure:
    """The three primary contrasts under protocol 1: stand-in three ways, real speech, and what the paper prints; in
    millimetres, the narrower the larger the letters where it is scaled; with `second`, protocol 2 above them"""
    two = second_primary(top) if second else None
    kinds = (*([("stand-in, protocol 2", "s", "0.1", True)] if two is not None else []),
             ("stand-in, base re-estimated too", "o", DARK, False),
             ("stand-in, headline of protocol 1", "o", DARK, True),
             ("stand-in, as trained", "v", WARM, False),
             ("real speech, headline", "D", MUTED, True))
    g = {c: record_table(top / "results" / f / "gains.csv").query("primary").set_index("row")
         for c, f in RESULT_FOLDERS.items()}
    fair = record_table(top / "results" / RESULT_FOLDERS["standin"] / "ablations.csv").set_index(["question", "row"])
    with mpl.rc_context(PRINTED):
        fig = blank_page(width, height, layout="constrained")
        axes = fig.subplots(1, 3, sharey=True)
        for ax, (name, (row, _, _)) in zip(axes, PRIMARY_ROWS.items()):
            ax.axvspan(-MARGIN, MARGIN, color="0.9", lw=0, label="margin of one point")
            ax.axvline(0, color="0.5", lw=.7)
            lines = (*([two.loc[row]] if two is not None else []), fair.loc[(f"fair_{name}", row)],
                     g["standin"].loc[row], None, g["real"].loc[row])
            for y, ((_, marker, colour, filled), r) in enumerate(zip(kinds, lines)):
                if r is None:
                    plain = g["standin"].loc[row, "as_trained"]
                    ax.plot(plain, y, marker, color=colour, mfc="white", ms=5.5, mew=1.1)
                else: _whisker(ax, y, r["gain"], r["low"], r["high"], marker, colour, filled=filled)
                if name == "calls" and marker in "ov":  # compares nothing under protocol 1
                    ax.annotate("‡", (plain if r is None else r["high"], y), (6, 0), textcoords="offset points",
                                va="center", fontsize=SMALLEST)
            ax.axvline(g["standin"].loc[row, "paper_gain"], color="k", lw=1.6, ls=(0, (4, 1.5)),
                       label="the paper's gain")
            ax.set(title=BLOCK_TITLES[name], yticks=range(len(kinds)), yticklabels=[k[0] for k in kinds],
                   xlim=(-8, 17))
            ax.set_ylim(len(kinds) - .4, -.6)
            ax.tick_params(axis="y", length=0)
        fig.supxlabel("+MKD+CH less base, points of agesup macro F1, 95 % interval", fontsize=7.5)
        fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False)
    return fig


RHO = {"3": ("base", "-", "o", DARK), "4a": ("+MKD", (0, (5, 1.5)), "s", WARM),
       "6": ("+MKD+CH", (0, (1, 1)), "^", "0.15"), "bd": ("+MKD+CH, back-door over K", (0, (5, 1, 1, 1)), "x", MUTED)}


def rho_in_print(top: Path = PAPER, width: float = PRINT_WIDTH, height: float = 62) -> Figure:
    "Scores where the recording line was tied to age in training, over how it is tied at test; and without the tie"
    t = record_table(top / "results" / RESULT_FOLDERS["standin"] / "interventions.csv")
    t = t[(t["sheet"] == "rho") & (t["task"] == "agesup") & (t["measure"] == "f1") & t["against"].isna()]
    with mpl.rc_context(PRINTED):
        fig = blank_page(width, height, layout="constrained")
        axes = fig.subplots(1, 2, sharey=True)
        for ax, rho, words in ((axes[0], 0., "not tied in training (ρ = 0)"),
                               (axes[1], t["train_rho"].max(), f"tied in training (ρ = {t['train_rho'].max():g})")):
            for row, (name, style, marker, colour) in RHO.items():
                part = t[(t["row"] == row) & np.isclose(t["train_rho"], rho)].sort_values("test_rho")
                ax.plot(part["test_rho"], part["value"], ls=style, marker=marker, ms=4, color=colour, label=name,
                        lw=1.2)
                if row == "3":
                    ax.fill_between(part["test_rho"], part["low"], part["high"], color=colour, alpha=.15, lw=0)
            ax.set(title=words, xlabel="ρ at test: the tie of age and studio", ylim=(0, 90))
            ax.grid(axis="y", color="0.9", lw=.6)
        axes[0].set_ylabel("agesup macro F1, %")
        axes[0].legend(loc="lower left", frameon=False)
    return fig


# question and row of the ablation sheet → what the figure calls it
PARTS_SHOWN = (("mkd", "4a", "+MKD"), ("mkd", "3mix", "mixup alone, no teacher"),
               ("mkd", "kd", "teacher alone, no mixup"), ("teacher", "random", "+MKD, teacher never trained"),
               ("ch", "5r", "+CH"), ("ch", "subce", "agesub head, cross-entropy"),
               ("asymmetry", "subasl", "Eq. 4 in place of cross-entropy"),
               ("dependency", "5r", "Eq. 5, sign corrected"),
               ("intervention", "bd", "back-door average over K"), ("intervention", "pr", "class prototypes"))


def parts_in_print(top: Path = PAPER) -> Figure:
    "What each part of the method adds on the stand-in, each against its own control"
    a = record_table(top / "results" / RESULT_FOLDERS["standin"] / "ablations.csv").set_index(["question", "row"])
    names = {"3r": "base", "4a": "+MKD", "subce": "the same with CE", "subasl": "the same without it", "6": "+MKD+CH"}
    with mpl.rc_context(PRINTED):
        fig = blank_page(PRINT_WIDTH, 62, layout="constrained")
        ax = fig.subplots()
        ax.axvspan(-MARGIN, MARGIN, color="0.9", lw=0)
        ax.axvline(0, color="0.5", lw=.7)
        for y, (question, row, _) in enumerate(PARTS_SHOWN):
            r = a.loc[(question, row)]
            _whisker(ax, y, r["gain"], r["low"], r["high"], "o", DARK)
            ax.annotate(f"against {names[r['against']]}", (1.01, y), xycoords=("axes fraction", "data"), va="center",
                        fontsize=SMALLEST, color="0.3", annotation_clip=False)
        ax.set(yticks=range(len(PARTS_SHOWN)), yticklabels=[p[2] for p in PARTS_SHOWN], xlim=(-4, 4),
               xlabel="difference in agesup macro F1, points, 95 % interval; grey: the margin of one point")
        ax.invert_yaxis()
        ax.tick_params(axis="y", length=0)
    return fig


# ---- protocol 2, from tables whose columns we know

def family_in_print(path: Path) -> Figure:
    "The declared contrasts with their intervals and words, and the paper's gains"
    t = marked_family(path)
    with mpl.rc_context(PRINTED):
        fig = blank_page(PRINT_WIDTH, 18 + 4.8 * len(t), layout="constrained")
        ax = fig.subplots()
        ax.axvspan(-MARGIN, MARGIN, color="0.9", lw=0, label="margin of one point")
        ax.axvline(0, color="0.5", lw=.7)
        for y, (_, r) in enumerate(t.iterrows()):
            _whisker(ax, y, r["gain"], r["low"], r["high"], "o", DARK)
            ax.plot(r["paper"], y, "|", color="k", ms=9, mew=1.8, label="the paper's gain" if y == 0 else None)
            ax.annotate(r["word"] + r["mark"], (1.01, y), xycoords=("axes fraction", "data"), va="center",
                        fontsize=SMALLEST, color="0.3", annotation_clip=False)
        ax.set(yticks=range(len(t)), yticklabels=t["contrast"], ylim=(len(t) - .4, -.6),
               xlabel="difference in agesup macro F1, points, 95 % interval")
        ax.tick_params(axis="y", length=0)
        fig.legend(*ax.get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False)
    return fig


DOSE_PAIRS = {("6", "3"): ("+MKD+CH − base", "-", "o", DARK), ("5", "3"): ("+CH − base", (0, (5, 1.5)), "s", WARM),
              ("6", "5"): ("+MKD+CH − +CH", (0, (1, 1)), "^", "0.15"),
               ("4a", "3"): ("+MKD − base", "-.", "x", MUTED)}


def doses_in_print(path: Path) -> Figure:
    "Gains against training speakers, against the share of labels moved, against what the teacher learnt from"
    t = record_table(path)
    panels = (("speakers", "utterances trained on"), ("labels", "share of labels moved"),
              ("teacher", "utterances the teacher learnt from"))
    panels = [p for p in panels if (t["curve"] == p[0]).any()]
    with mpl.rc_context(PRINTED):
        fig = blank_page(PRINT_WIDTH, 52, layout="constrained")
        axes = fig.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for ax, (curve, words) in zip(axes, panels):
            ax.axhspan(-MARGIN, MARGIN, color="0.9", lw=0)
            ax.axhline(0, color="0.5", lw=.7)
            for i, (pair, part) in enumerate(t[t["curve"] == curve].groupby(["row", "against"])):
                name, style, marker, colour = DOSE_PAIRS[pair]
                if len(part) < 3: style = "none"  # two points are no curve
                x = part["level"] + .004 * (i - 1) if curve == "labels" else part["train_utterances"] * 1.05**(i - 1)
                ax.errorbar(x, part["gain"], [part["gain"] - part["low"], part["high"] - part["gain"]], ls=style,
                            marker=marker, ms=4, lw=1.1, color=colour, label=name)
            if curve != "labels":
                ax.set_xscale("log")
                ticks = sorted(set(t.loc[t["curve"] == curve, "train_utterances"]))
                ax.set_xticks(ticks, [f"{x:,.0f}" for x in ticks])
                ax.xaxis.set_minor_locator(mpl.ticker.NullLocator())
            ax.set_xlabel(words)
        axes[0].set_ylabel("difference in agesup F1, points")
        named = {name: h for ax in axes for h, name in zip(*ax.get_legend_handles_labels())}
        fig.legend(named.values(), named.keys(), loc="outside upper right", ncols=4, frameon=False)
    return fig


def remedies_in_print(path: Path) -> Figure:
    "Points lost where the tie is turned round, a line a remedy, for both students"
    t = undisturbed(record_table(path))
    lost = t[(t["measure"] == "lost") & (t["train_rho"] == t["train_rho"].max())]
    names = list(dict.fromkeys(lost["remedy"]))
    with mpl.rc_context(PRINTED):
        fig = blank_page(PRINT_WIDTH, 18 + 4.6 * len(names), layout="constrained")
        ax = fig.subplots()
        ax.axvline(0, color="0.5", lw=.7)
        for student, marker, colour, up in (("base", "o", DARK, -.12), ("+MKD+CH", "^", WARM, .12)):
            part = lost[lost["student"] == student]
            if part.empty: continue
            for i, (_, r) in enumerate(part.iterrows()):
                low, high = (r[c] if pd.notna(r.get(c)) else r["value"] for c in ("value_low", "value_high"))
                _whisker(ax, names.index(r["remedy"]) + up, r["value"], low, high, marker, colour,
                         student if i == 0 else None, student == "base")
        seeds = lost.groupby("remedy")["n_seeds"].min()
        few = {n: "" if k == seeds.max() else f" ({k:.0f} seed{'s' if k > 1 else ''})" for n, k in seeds.items()}
        who = lost["student"].unique()
        ax.set(yticks=range(len(names)), yticklabels=[REMEDY_NAMES.get(n, n) + few[n] for n in names],
               ylim=(len(names) - .4, -.6), xlabel="points of agesup F1 lost, mean and 95 % interval"
               + (f", {who[0]}" if len(who) == 1 else ""))
        ax.grid(axis="y", color="0.92", lw=.6)
        ax.tick_params(axis="y", length=0)
        if len(who) > 1:
            fig.legend(*ax.get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False)
    return fig


SECOND_FIGURES = {"decisive": ("decisive", family_in_print), "doses": ("decisive-doses", doses_in_print),
                  "remedies": ("remedies", remedies_in_print)}  # name → the table that it is drawn from, how


def figures(top: Path = PAPER) -> dict[str, Figure]:
    "Every figure of the article and the poster that the records allow, by the name that the sources use"
    found = {"method": method_in_print(), "gains": gains_in_print(top), "rho": rho_in_print(top),
             "parts": parts_in_print(top), "gains-poster": gains_in_print(top, *ON_POSTER, second=True),
             "rho-poster": rho_in_print(top, *ON_POSTER)}
    for name, (table, draw) in SECOND_FIGURES.items():
        path = next((p for p in second_files(top, table.split("-")[0]) if p.stem == table), None)
        with contextlib.suppress(KeyError):  # a table of another shape is printed, not drawn
            if path is not None: found[name] = draw(path)
    return found


def save_svg(fig: Figure, path: Path):
    "One figure without a date in it, its letters as outlines"
    with mpl.rc_context(PRINTED | {"svg.hashsalt": "mkdcls", "svg.fonttype": "path"}):
        fig.savefig(path, metadata={"Date": None, "Creator": None})
