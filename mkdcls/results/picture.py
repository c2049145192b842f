"""The method in one drawn picture (README.md and the tour show it)

Plain matplotlib, no data: the same code gives the same bytes.
"""
from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from PIL import Image

STYLE = {"svg.hashsalt": "mkdcls", "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 8.5,
         "mathtext.fontset": "dejavusans"}
SIZE = (9.375, 4.75)  # inches: 900 x 456 pixels at 96 dpi; one unit of the drawing is a sixteenth of an inch
TEACHER, STUDENT, HEAD, LOSS, PLAIN = (("#0173b2", "#d8ecf7"), ("#b86f00", "#fdeccf"), ("#02795a", "#d5f0e6"),
                                       ("#b0307f", "#fae3f1"), ("0.35", "white"))


def box(ax, x, y, w, h, text, colour=PLAIN, size=None, **style):
    "A rounded box around (x, y), with its text"
    edge, fill = colour
    ax.add_patch(FancyBboxPatch((x - w / 2, y - h / 2), w, h, boxstyle="round,pad=0,rounding_size=1", fc=fill, ec=edge,
                                lw=1.3, **style))
    ax.text(x, y, text, ha="center", va="center", fontsize=size, linespacing=1.35)


def flow_arrow(ax, start, end, loss=False):
    "Solid for data, dashed for what only training has; the head is solid either way"
    colour, way = LOSS[0] if loss else "0.2", np.subtract(end, start) / np.hypot(*np.subtract(end, start))
    neck = end - 1.2 * way
    ax.plot(*zip(start, neck), color=colour, lw=1.2, ls=(0, (3, 1.6)) if loss else "-", solid_capstyle="butt")
    ax.annotate("", end, neck, arrowprops=dict(arrowstyle="-|>,head_width=.28,head_length=.55", shrinkA=0, shrinkB=0,
                                               lw=1, mutation_scale=11, color=colour))


def panel(ax, left, right, title):
    "The light ground of one stage"
    ax.add_patch(FancyBboxPatch((left, 11.5), right - left, 63, boxstyle="round,pad=0,rounding_size=1.5", fc="0.955",
                                ec="none", zorder=-1))
    ax.text((left + right) / 2, 71.3, title, ha="center", va="center", fontsize=9, weight="bold")


def spectrograms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A drawn utterance, 20 bands x 30 frames: three formants that bend; the running mean of its masked copy; and Eq

    1 of the two.
    """
    t, f = np.meshgrid(np.linspace(0, 1, 30), np.linspace(0, 1, 20))
    x = sum(a * np.exp(-((f - c - d * np.sin(5 * t + p)) / .07) ** 2)
            for a, c, d, p in ((1, .15, .05, 0), (.8, .45, .1, 1), (.6, .75, .06, 2)))
    x = x * (.35 + .65 * (np.sin(19 * t) > -.55))
    masked = x.copy()
    masked[8:12], masked[:, 12:18] = 0, 0
    smooth = np.stack([masked[:, max(0, i - 2):i + 3].mean(1) for i in range(30)], 1)
    return x, smooth, .7 * x + .3 * smooth


def views(ax):
    "Stage one: Eq. 1"
    panel(ax, 1, 39, "1  two views of one utterance")
    t = np.linspace(0, 1, 400)
    ax.plot(3.5 + 11 * t, 58 + 3.6 * np.sin(170 * t) * np.sin(2.4 * np.pi * t) * (.4 + .6 * np.cos(7 * t) ** 2), lw=.7,
            color="0.25")
    ax.text(9, 65.8, "speech, 8 kHz", ha="center", va="center", fontsize=8)
    for x, y, cells in zip((29.5, 10.5, 29.5), (58, 28, 28), spectrograms()):
        ax.imshow(cells, extent=(x - 7, x + 7, y - 5.5, y + 5.5), origin="lower", cmap="magma", vmin=0, vmax=1.05,
                  aspect="auto", interpolation="nearest")
        ax.add_patch(FancyBboxPatch((x - 7, y - 5.5), 14, 11, boxstyle="square,pad=0", fc="none", ec="0.3", lw=1))
    flow_arrow(ax, (15.5, 58), (22, 58))
    flow_arrow(ax, (29.5, 52), (29.5, 34.1)); flow_arrow(ax, (24, 52), (12, 34.1)); flow_arrow(ax, (18, 28), (22, 28))
    ax.text(29.5, 65.8, "$x_{normal}$: log-Mel", ha="center", va="center")
    ax.text(9.8, 45, "SpecAugment,\nrunning mean", ha="center", va="center", fontsize=8, linespacing=1.35)
    ax.text(30.8, 42.5, "keep 0.7\n$\\bf{Eq. 1}$", ha="left", va="center", fontsize=8, linespacing=1.6)
    ax.text(10.5, 19.8, "its copy, add 0.3", ha="center", va="center", fontsize=8)
    ax.text(29.5, 19.8, "$x_{mixup}$", ha="center", va="center")
    ax.text(20, 14.6, "at test, both networks hear $x_{normal}$", ha="center", va="center", fontsize=8, style="italic")


def networks(ax):
    "Stage two: Eq. 2 and Z"
    panel(ax, 41, 90, "2  one teaches, one learns")
    flow_arrow(ax, (37, 58), (43, 58)); flow_arrow(ax, (37, 28), (43, 28))
    box(ax, 51.5, 58, 17, 13, "Teacher\nfrozen, trained\non clean speech", TEACHER, 8.2)
    box(ax, 51.5, 28, 17, 13, "Student\nhalf the size\n(ours), learns", STUDENT, 8.2)
    flow_arrow(ax, (51.5, 51), (51.5, 46.6), True); flow_arrow(ax, (51.5, 35), (51.5, 39.6), True)
    box(ax, 51.5, 43.1, 17, 6, r"$\mathcal{L}_{dist}$   Eq. 2", LOSS)
    ax.text(61.2, 43.1, "pooled features\ncompared; a frozen\nConv1d where\nwidths differ", ha="left", va="center",
            fontsize=7.6, linespacing=1.3, color="0.2")
    flow_arrow(ax, (60.5, 58), (66, 58)); flow_arrow(ax, (60.5, 28), (66, 28))
    box(ax, 69.2, 58, 6, 6, "K", TEACHER, 11); box(ax, 69.2, 28, 6, 6, "X", STUDENT, 11)
    flow_arrow(ax, (72.5, 58), (79.4, 58)); flow_arrow(ax, (72.5, 28), (79.4, 28))
    for y, colour in ((54.75, TEACHER), (31.25, STUDENT)):
        ax.add_patch(FancyBboxPatch((79.7, y - 11.75), 7, 23.5, boxstyle="square,pad=0", fc=colour[1], ec=colour[0],
                                    lw=1.3))
    box(ax, 83.2, 43, 4.6, 5, "Z", size=11)
    ax.text(83.2, 16.4, "Z = [X; K]", ha="center", va="center", fontsize=8)


def heads(ax):
    "Stage three: Eq. 4 and 5"
    panel(ax, 92, 149, "3  one head for each task")
    losses = {"gender": r"$\mathcal{L}_{CE}$", "agesup": r"$\mathcal{L}_{asl}$   Eq. 4",
              "agesub": r"$\mathcal{L}_{asl}$   Eq. 4"}
    classes = {"gender": "female, male", "agesup": "20-30, 40-50, 60+", "agesub": "20s, 30s, ... 60s+"}
    for (task, loss), y in zip(losses.items(), (60, 45, 25)):
        flow_arrow(ax, (86.9, y), (94.2, y)); flow_arrow(ax, (102.6, y), (107.3, y))
        box(ax, 98.4, y, 8, 6.4, f"$H_{{{task}}}$", HEAD, 8)
        box(ax, 117.5, y, 20, 8, f"$Y_{{{task}}}$\n{classes[task]}", HEAD, 8)
        flow_arrow(ax, (127.7, y), (132.2, y), True)
        box(ax, 140, y, 15, 6, loss, LOSS)
    flow_arrow(ax, (117.5, 35), (117.5, 40.8), True); flow_arrow(ax, (117.5, 35), (117.5, 29.2), True)
    ax.plot([117.5, 132.2], [35, 35], color=LOSS[0], lw=1.2, ls=(0, (3, 1.6)))
    box(ax, 140, 35, 15, 6, r"$\mathcal{L}_{dep}$   Eq. 5", LOSS)
    ax.text(120.6, 14.6, "age answers that conflict: the wrong one is pushed harder", ha="center", va="center",
            fontsize=8, style="italic")


def total(ax):
    "Eq. 3, and what the arrows mean"
    terms = (r"0.25\,\mathcal{L}_{dist}", r"\mathcal{L}_{CE}(gender)", r"\mathcal{L}_{asl}(agesup)",
             r"\mathcal{L}_{asl}(agesub)", r"\mathcal{L}_{dep}")
    ax.text(1.5, 5.2, rf"$\mathcal{{L}}_{{total}} \;=\; {' + '.join(terms)}$      Eq. 3", va="center", fontsize=9.5,
            color=LOSS[0])
    for x, word, loss in ((113, "data", False), (127, "training only", True)):
        flow_arrow(ax, (x, 5.2), (x + 6, 5.2), loss)
        ax.text(x + 7, 5.2, word, va="center", fontsize=8)


def figure_method() -> Figure:
    "Student, teacher, mixup, Z, heads and losses, with the numbers of their equations"
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=SIZE, dpi=96)
        ax = fig.add_axes((0, 0, 1, 1))
        for draw in (views, networks, heads, total): draw(ax)
        ax.set(xlim=(0, 150), ylim=(0, 76))
        ax.axis("off")
    return fig


def save_method(fig: Figure, folder: Path, name: str = "method"):
    "SVG, and a PNG of twice the pixels in 128 colours, without dates or versions in them"
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        fig.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
        fig.savefig(png := io.BytesIO(), dpi=192)
    Image.open(png).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(folder / f"{name}.png", optimize=True)
