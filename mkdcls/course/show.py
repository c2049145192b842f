"What a lesson shows: dials, players, and the tables of kept results."
from __future__ import annotations

import html
import os
from fractions import Fraction
from itertools import product

from mkdcls.engine.store import PROJECT


def record(
    name: str, # of a table in paper/results, e.g. 'standin-laptop/runs.csv'
): # DataFrame; rows of Table 1 are words ('3', '7r')
    "A table of the committed results"
    import pandas as pd
    path = PROJECT / "paper" / "results" / name
    if not path.is_file():
        raise FileNotFoundError(f"no table {name} in paper/results: run the course from the project's folder")
    if path.suffix == ".parquet": return pd.read_parquet(path)
    head = pd.read_csv(path, nrows=0).columns
    return pd.read_csv(path, dtype={c: str for c in head if c in ("row", "base")})


def live() -> bool:
    "Is there a kernel with a front end, and ipywidgets? Kept outputs are made without"
    if os.environ.get("IN_TEST"): return False
    try:
        from IPython import get_ipython
        import ipywidgets  # noqa: F401
    except ImportError: return False
    return hasattr(get_ipython(), "kernel")


def dial(
    draw, # draw(ax, name=value, ...): draws on one axis, in less than .3 s
    size: tuple = (2.6, 2.4), # inches of one small picture
    **values, # name → the values that the dial takes; the first two are laid out, across and down
) -> None:
    "A row of small pictures; in Jupyter with ipywidgets a slider for each name comes below it"
    import matplotlib.pyplot as plt
    names = list(values)
    some = [_spread(list(v), most) for v, most in zip(values.values(), (5, 3))]
    across, down = some[0], some[1] if len(some) > 1 else [None]
    rest = {n: list(values[n])[0] for n in names[2:]}
    fig, axes = plt.subplots(len(down), len(across), figsize=(size[0]*len(across), size[1]*len(down)),
                             squeeze=False, layout="constrained", sharex=True, sharey=True)
    for (i, d), (j, a) in product(enumerate(down), enumerate(across)):
        ax = axes[i, j]
        draw(ax, **{names[0]: a}, **({names[1]: d} if len(some) > 1 else {}), **rest)
        told = [f"{_shown(n)} = {v}" for n, v in zip(names[:len(some)], (a, d))]
        ax.set_title("\n".join([*([ax.get_title()] if ax.get_title() else []), ", ".join(told)]), fontsize=10)
        if j: ax.set_ylabel("")
        if i < len(down) - 1: ax.set_xlabel("")
    plt.show()
    if live(): _sliders(draw, size, values)


def _spread(values: list, most: int) -> list:
    "At most so many of the values, the first and the last among them"
    if len(values) <= most: return values
    return [values[round(i*(len(values) - 1)/(most - 1))] for i in range(most)]


def extremes(values: dict) -> list[dict]:
    "Both ends and the middle of each value of a dial, while the others stay at their first, and at their last"
    found = []
    for end, (n, v) in product((0, -1), values.items()):
        rest = {other: list(w)[end] for other, w in values.items()}
        found += [rest | {n: x} for x in _spread(list(v), 3)]
    return [now for i, now in enumerate(found) if now not in found[:i]]


def _shown(name: str) -> str:
    "The name of a value as a reader sees it"
    return {"rho": "ρ", "gamma": "γ", "lam": "λ"}.get(name, name.replace("_", " "))


def _in_order(values: list) -> list:
    "Numbers, fractions in words too, from the lowest to the highest; anything else as it was given"
    try: return sorted(values, key=lambda x: Fraction(str(x)))
    except ValueError: return values


def _sliders(draw, size: tuple, values: dict) -> None:
    import ipywidgets as w
    import matplotlib.pyplot as plt
    from IPython.display import display
    room = f"{.6*max(len(_shown(n)) for n in values) + 1.5:.1f}em"
    sliders = {n: w.SelectionSlider(options=[(str(x), x) for x in _in_order(list(v))], value=list(v)[0],
                                    description=_shown(n), continuous_update=False, layout={"width": "min(100%, 30em)"},
                                    style={"description_width": room}) for n, v in values.items()}

    def show(**now):
        fig, ax = plt.subplots(figsize=(2*size[0], 1.6*size[1]), layout="constrained")
        draw(ax, **now)
        plt.show()
    display(w.VBox([*sliders.values(), w.interactive_output(show, sliders)]))


def play(
    wave, # mono, floats in [-1, 1]
    rate: int, # samples a second
    caption: str, # what to listen for
) -> None:
    "A player with its caption"
    import numpy as np
    from IPython.display import HTML, Audio, display
    wave = np.asarray(wave, float).squeeze()
    if wave.ndim != 1: raise ValueError(f"a wave of shape {wave.shape}: one channel is played")
    loud = np.clip(wave, -1, 1)
    player = Audio(loud, rate=rate, normalize=False)
    text = f"<figcaption>{html.escape(caption)}</figcaption>{player._repr_html_()}"
    display(HTML(f"<figure style='margin:0'>{text}</figure>"))


RED, BLUE, ORANGE, GREY = "#c03028", "#0173b2", "#de8f05", "0.6"  # colour-blind safe


def draw_arrows(
    ax,
    edges: list, # pairs (from, to)
    places: dict, # node → (x, y)
    known: tuple = (), # nodes that are conditioned on: red
    set_to: tuple = (), # nodes that are intervened on: square, and no arrow into them
    title: str = "",
) -> None:
    "A causal graph; a node's name may hold a line break"
    boxes = {}
    for v, at in places.items():
        shape = "square,pad=.4" if v in set_to else "round,pad=.4"
        look = dict(boxstyle=shape, fc="#f6d5d2" if v in known else "w", ec=RED if v in known else ".2")
        boxes[v] = ax.text(*at, v, ha="center", va="center", fontsize=10, bbox=look).get_bbox_patch()
    for a, b in edges:
        if b in set_to: continue
        ax.annotate("", places[b], places[a], arrowprops=dict(arrowstyle="-|>", lw=1.6, color=".2", shrinkA=2,
                                                              shrinkB=2, patchA=boxes[a], patchB=boxes[b]))
    xs, ys = zip(*places.values())
    ax.set(xlim=(min(xs) - .75, max(xs) + .75), ylim=(min(ys) - .45, max(ys) + .4))
    ax.axis("off")
    ax.set_title(title, fontsize=11)
