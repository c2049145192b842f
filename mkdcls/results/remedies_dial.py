"""A reader turns the tie and picks a remedy: the score against the tie of the test, and what a training hears of one
utterance. From kept records; nothing is trained, and one utterance is rendered."""
from __future__ import annotations

from functools import lru_cache
from math import sqrt
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm

from mkdcls.course.show import live, play
from mkdcls.engine.store import PROJECT
from mkdcls.remedies import REMEDIES, made_up_telephone
from mkdcls.results.disturbed import OFF
from mkdcls.results.remedies_sheet import REMEDY_RUNS, STUDENTS, read, tested_at, undisturbed
from mkdcls.runs import preset_of
from mkdcls.standin import RATE, STANDINS, draw_manifest, render

KEPT = "standin-laptop"  # the committed records, in paper/results
AGE, AT_MOST = 65., 1.4  # whose utterance is played: about so many years old, shorter than so many seconds
MANY = 200_001  # people, evenly aged, over whom shares are taken
MADE_UP = "made-up telephone"


def kept_records(folder: Path | None = None) -> tuple[pd.DataFrame | None, str]:
    "Base's records of the main grid, and what a reader must know about them; None where there are none"
    folder = PROJECT / "paper" / "results" / KEPT if folder is None else Path(folder)
    if not (folder / REMEDY_RUNS).is_file():
        return None, (f"No scores yet: {REMEDY_RUNS} is not in {folder.name}. `make table SHEET=remedies` makes it; "
                      "until then you can hear what each remedy does, but not what it is worth.")
    runs = undisturbed(read(folder))
    runs = runs[(runs["student"] == STUDENTS["3"]) & runs["train_rho"].notna()]
    preset, seeds = runs["preset"].iloc[0], runs["seed"].nunique()
    told = f"Scores of base on fresh test speakers, preset {preset}, up to {seeds} seed{'s' * (seeds > 1)}."
    if not preset_of(preset).evidence: told += " Plumbing only: at this size no number is evidence of anything."
    return runs, told


def trained_at(runs: pd.DataFrame | None) -> list[float]:
    "The ties that there are records of, the strongest first; without records those that the sheet will have"
    return [.8, .4, 0.] if runs is None else sorted(runs["train_rho"].unique(), reverse=True)


def studio_share(age: float, rho: float) -> float:
    "P(recorded in the studio | age), from `standin.choose_channel`: Φ(ρ z / √(1 − ρ²))"
    return float(norm.cdf(rho * (age - 45) / (50 / sqrt(12)) / sqrt(1 - rho**2)))


def heard_shares(remedy: str, age: float, rho: float) -> dict[str, float]:
    """What a training hears of people of this age, as shares that sum to 1: the studio, the telephone, a made-up one

    Remedies that change the loss or the heads leave what is heard as it was.
    """
    own = studio_share(age, rho)
    if remedy == "line": own = 0.
    elif remedy in ("replay", "match"): own = .5
    elif remedy == "balance": own = balanced_share(age, rho)
    coded = REMEDIES["codec"].strength if remedy == "codec" else 0.
    return {"studio": (1 - coded)*own, "telephone": (1 - coded)*(1 - own), MADE_UP: coded}


@lru_cache(maxsize=64)
def balanced_share(age: float, rho: float) -> float:
    "P(studio | age) after `balance_weights` over the three age groups: inside a group the tie is left"
    ages = np.linspace(20, 70, MANY)
    group, own = (ages >= 40).astype(int) + (ages >= 60), norm.cdf(rho*(ages - 45)/(50/sqrt(12))/sqrt(1 - rho**2))
    here = group == int(age >= 40) + int(age >= 60)
    studio, mine = own.mean(), own[here].mean()
    odds = (studio/mine)/((1 - studio)/(1 - mine))  # weight of a pair with the studio over one with the telephone
    p = studio_share(age, rho)
    return p*odds/(p*odds + 1 - p)


@lru_cache(maxsize=1)
def heard_three_ways() -> dict[str, np.ndarray]:
    "One utterance over the studio, over the telephone, and over a made-up telephone on top of the studio"
    m = draw_manifest(STANDINS["LTV"], 400, seed=0)
    m = m[(m["duration"] < AT_MOST) & ~m["overlaid"]]
    m = m.iloc[[(m["age"] - AGE).abs().argmin()]]
    waves = {c: render(m, channel=c) for c in ("studio", "telephone")}
    made_up = made_up_telephone(*waves["studio"], m["utterance"])
    cut = int(waves["studio"][1][0])
    return {**{c: w[0, :cut].numpy() for c, (w, _) in waves.items()}, MADE_UP: made_up[0, :cut].numpy()}


def heard_of_one(remedy: str, rho: float):
    "Players of one utterance, each with the share in which a training hears people of that age so"
    for over, share in heard_shares(remedy, AGE, rho).items():
        if share: play(heard_three_ways()[over], RATE, f"{over}: {share:.0%} of what is heard of people aged {AGE:.0f}")


def what_it_does(remedy: str) -> str:
    "A remedy in words"
    return "no remedy" if remedy == OFF else REMEDIES[remedy].words


def draw_scores(ax, runs: pd.DataFrame, rho: float, remedy: str):
    "Agesup score against the tie of the test: base with the remedy, and without any"
    at = tested_at(runs)
    for name, look in dict.fromkeys(((OFF, "k:"), (remedy, "C0-"))):
        part = runs[(runs["remedy"] == name) & (runs["train_rho"] == rho)]
        for _, one in part.iterrows() if len(part) > 1 else ():
            ax.plot(at, [one[f"agesup@{r:g}"] for r in at], look, lw=.6, alpha=.4)
        if len(part): ax.plot(at, part[[f"agesup@{r:g}" for r in at]].mean(), look, lw=1.8, label=name)
        else: ax.text(0, 82, f"{name}: not trained at ρ = {rho:g}", ha="center")
    ax.axvline(rho, color="0.88", lw=5, zorder=0)
    ax.set(xlabel="ρ in the test", ylabel="agesup macro F1 (%)", ylim=(10, 90), xticks=[-.8, 0, .8])
    ax.legend(frameon=False, loc="lower right", fontsize=8)


def shares_table(rhos) -> pd.DataFrame:
    "Percent of what each remedy lets a training hear of people of one age"
    lines = {(n, r): heard_shares(n, AGE, r) for n in (OFF, *REMEDIES) for r in rhos}
    table = (100*pd.DataFrame(lines).T).round(0).astype(int)
    return table.rename_axis(["remedy", "ρ in training"])


def control(folder: Path | None = None):
    """See the score of some settings, hear the line; in Jupyter with ipywidgets every setting, by two sliders

    `folder` holds the records; None: the committed ones.
    """
    from IPython.display import Markdown, display
    runs, told = kept_records(folder)
    display(Markdown(told))
    rhos = trained_at(runs)
    names = [n for n in (OFF, *REMEDIES) if runs is None or (runs["remedy"] == n).any()]
    ends = list(dict.fromkeys((rhos[0], rhos[-1])))  # what lies between, the slider shows
    if runs is not None: laid_out(runs, ends, [n for n in ("replay", "balance", "line") if n in names] or names[:1])
    display(shares_table(ends))
    for over, wave in heard_three_ways().items(): play(wave, RATE, f"the same utterance, {over}")
    if live(): turned_by_hand(runs, rhos, names)


def laid_out(runs: pd.DataFrame, rhos: list, names: list):
    "A picture for each tie (across) and each of a few remedies (down)"
    import matplotlib.pyplot as plt
    fig, axes = plt.subplots(len(names), len(rhos), figsize=(3*len(rhos), 2.2*len(names)), squeeze=False,
                             layout="constrained", sharex=True, sharey=True)
    for line, remedy in zip(axes, names):
        for ax, rho in zip(line, rhos):
            draw_scores(ax, runs, rho, remedy)
            ax.set_title(f"{remedy}, trained at ρ = {rho:g}", fontsize=9)
            ax.label_outer()
    plt.show()


def turned_by_hand(runs: pd.DataFrame | None, rhos: list, names: list):
    "A slider and a list, and below them the picture and the players of the setting"
    import ipywidgets as w
    from IPython.display import Markdown, display
    knobs = dict(rho=w.SelectionSlider(options=[(f"{r:g}", r) for r in rhos], description="ρ", continuous_update=False),
                 remedy=w.Dropdown(options=names, value="replay" if "replay" in names else names[0],
                                   description="remedy"))

    def show(rho, remedy):
        display(Markdown(f"**{remedy}**: {what_it_does(remedy)}"))
        if runs is not None: one_picture(runs, rho, remedy)
        heard_of_one(remedy, rho)
    display(w.VBox([*knobs.values(), w.interactive_output(show, knobs)]))


def one_picture(runs: pd.DataFrame, rho: float, remedy: str):
    "The picture of one setting"
    import matplotlib.pyplot as plt
    _, ax = plt.subplots(figsize=(5.2, 3.2), layout="constrained")
    draw_scores(ax, runs, rho, remedy)
    plt.show()
