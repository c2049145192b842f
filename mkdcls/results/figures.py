"""Figures of a results folder, as SVG and PNG; the same data gives the same bytes."""
from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from mkdcls.results.report import about, rows_of_yours, read, scored_on
from mkdcls.engine.store import writable
from mkdcls.evaluation import MARGIN, confusion
from mkdcls.labels import CLASSES, TASKS
from mkdcls.runs import preset_of, table1_rows

# now: loaded inside rc_context below, a notebook's backend would forget after one figure that it shows figures
plt.switch_backend(mpl.get_backend())
STYLE = {"svg.hashsalt": "mkdcls", "svg.fonttype": "path", "font.size": 8, "axes.spines.top": False,
         "axes.spines.right": False, "axes.titlesize": 8}
COLOURS = sns.color_palette("colorblind")
TERMS = {"total": "-", "gender": "--", "agesup": ":", "agesub": "-.", "dist": (0, (1, 1)), "dep": (0, (5, 1))}


def save_figure(fig, folder: Path, name: str, png: bytes | None = None):
    "One figure as SVG and PNG without dates in them; `png` in place of the usual 110 dots per inch"
    folder = writable(Path(folder) / "figures")
    fig.savefig(folder / f"{name}.svg", metadata={"Date": None})
    if png is None: fig.savefig(folder / f"{name}.png", dpi=110, metadata={"Software": None})
    else: (folder / f"{name}.png").write_bytes(png)


def _label(r):
    return f"{r['row']}  {r['method']}" + (f" ({r['kd_loss']})" if isinstance(r["kd_loss"], str) and r["kd_loss"]
                                           else "")


def _name(row, first):
    r = first.loc[row]
    return f"{row}: {r['encoder'].split('-')[0]} {r['method']}" + (" mse" if r["kd_loss"] == "mse" else "")


def figure_curves(folder: Path):
    "Every term of Eq. 3 by epoch, a panel a row (mean over seeds)"
    runs, _ = read(folder)
    data = pd.read_csv(Path(folder) / "curves.csv", dtype={"row": str})
    rows = [r for r in (*table1_rows(), *rows_of_yours(runs)) if (runs["row"] == r).any()]
    first = runs.drop_duplicates("row").set_index("row")
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(-(-len(rows) // 5), 5, figsize=(9, 1.75 * -(-len(rows) // 5)), sharex=False,
                                 layout="constrained", squeeze=False)
        for ax, row in zip(axes.flat, rows):
            part = data[data["row"] == row].groupby("epoch").mean(numeric_only=True)
            for (term, style), colour in zip(TERMS.items(), COLOURS):
                if term in part and part[term].notna().any():
                    ax.plot(part.index, part[term], ls=style, color=colour, label=term, lw=1.4)
            ax.set_title(_name(row, first), loc="left")
            ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4, integer=True))
        for ax in axes.flat[len(rows):]: ax.axis("off")
        for ax in axes[:, 0]: ax.set_ylabel("mean of the term")
        for ax in axes.flat[max(0, len(rows) - 5):len(rows)]: ax.set_xlabel("epoch")
        handles = {t: plt.Line2D([], [], ls=s, color=c, lw=1.4) for (t, s), c in zip(TERMS.items(), COLOURS)}
        spare = axes.flat[len(rows)] if len(rows) < axes.size else axes.flat[-1]
        spare.legend(handles.values(), handles.keys(), loc="center", frameon=False)
        save_figure(fig, folder, "curves")
    return fig


def figure_gains(folder: Path, contrasts: pd.DataFrame):
    "Gain over base with its interval, and the paper's gain; ±1 point shaded. A preset too small for evidence is named"
    table = contrasts[contrasts["scope"] == "pooled"]
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(1, 2, figsize=(8, 3.3), sharey=True, layout="constrained")
        for ax, task in zip(axes, ("agesup", "gender")):
            part = table[table["task"] == task].reset_index(drop=True)
            y = part.index + part["block"].ne(part["block"].shift()).cumsum()
            ax.axvspan(-MARGIN, MARGIN, color="0.92", label=f"the protocol's margin, ±{MARGIN:g} point")
            ax.axvline(0, color="0.5", lw=.8)
            ax.hlines(y, part["low"], part["high"], color=COLOURS[0], lw=2)
            ax.plot(part["gain"], y, "o", color=COLOURS[0], label="ours, 95 % interval")
            ax.plot(part["paper_gain"], y, "|", color="k", ms=11, mew=2, label="paper (its own corpora)")
            ax.set(yticks=list(y), yticklabels=[_label(g) for _, g in part.iterrows()],
                   xlabel=f"{task} macro F1, gain over base (points)")
            for block, where in y.groupby(part["block"]):
                ax.annotate(block, (1, where.min() - .75), xycoords=("axes fraction", "data"), ha="right", fontsize=7,
                            color="0.35")
        axes[0].invert_yaxis()
        if not preset_of(table["preset"].iloc[0]).evidence:
            fig.supxlabel(f"Plumbing check at preset {table['preset'].iloc[0]}: nothing in this picture is evidence.",
                          color="C3", fontsize=9)
        fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=3, frameon=False)
        save_figure(fig, folder, "gains")
    return fig


def figure_confusions(folder: Path, task: str = "agesup"):
    "Share of each label's utterances that got each answer, a panel a row (all seeds)"
    runs, lines = read(folder)
    rows = [r for r in (*table1_rows(), *rows_of_yours(runs)) if (runs["row"] == r).any()
            and task in scored_on(runs[runs["row"] == r].iloc[0])]
    first, columns = runs.drop_duplicates("row").set_index("row"), min(7, max(1, len(rows)))
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(-(-len(rows) // columns), columns, figsize=(9, 1.75 * -(-len(rows) // columns)),
                                 layout="constrained", squeeze=False)
        for i, (ax, row) in enumerate(zip(axes.flat, rows)):
            part = lines[lines["row"] == row]
            cm = confusion(part[f"y_{task}"].to_numpy(int), part[task].to_numpy(int), TASKS[task]).astype(float)
            share = 100 * cm / np.maximum(cm.sum(1, keepdims=True), 1)
            sns.heatmap(share, ax=ax, vmin=0, vmax=100, cmap="Blues", cbar=False, square=True, annot=True, fmt=".0f",
                        annot_kws={"size": 6.5},
                        xticklabels=CLASSES[task], yticklabels=CLASSES[task] if i % columns == 0 else False)
            ax.set_title(_name(row, first), loc="left", fontsize=7)
            ax.tick_params(labelsize=6, rotation=0)
        for ax in axes.flat[len(rows):]: ax.axis("off")
        for ax in axes[:, 0]: ax.set_ylabel("label")
        fig.supxlabel("answer (% of the label's test utterances)", fontsize=8)
        save_figure(fig, folder, f"confusion_{task}")
    return fig


def save_figures(folder: Path, contrasts: pd.DataFrame) -> str:
    "Draw and save everything; returns the caption"
    runs, _ = read(folder)
    for fig in (figure_curves(folder), figure_gains(folder, contrasts) if len(contrasts) else None,
                figure_confusions(folder, "agesup"),
                figure_confusions(folder, "agesub") if runs["method"].str.contains("CH").any() else None):
        if fig is not None: plt.close(fig)
    return about(runs)
