"""The sheet of attributions: what is measured on which utterances, its table, its figures

The methods are those of mkdcls.attribution (page 15).
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mkdcls.attribution import (GROUPS, PAUSES, Answer, answered, attribute, band_hz, completeness, counterfactual,
                                group_sums, infidelity, permuted,
                                randomised, rank_correlation, removal_changes, resynthesise, sensitivity, truth_share)
from mkdcls.engine.codehash import code_hashes, source_hash
from mkdcls.results.figures import COLOURS, STYLE, save_figure
from mkdcls.results.report import ENCODER
from mkdcls.engine.store import digest, home, plain, writable, write_table, write_text
from mkdcls.evaluation import bootstrap
from mkdcls.labels import CLASSES
from mkdcls.runs import PROTOCOL, rows_of
from mkdcls.standin import render

ROWS = ("3", "6", "7", "10")  # base and +MKD+CH of both encoders
ROLE = "LTV+FCVE"  # all four are trained and tested on it
METHODS = ("integrated_gradients", "gradcam", "conductance", "occlusion", "kernel_shap", "attention")
HELD = "integrated_gradients, K held"
INPUT = "|input|, no network"
CAUSE = {"gender": "gender", "agesup": "age", "agesub": "age"}  # which intervention has a task's answer in it
MEASURES = ("completeness_gap", "infidelity", "sensitivity", "randomised_rank_corr", "truth_share_age",
            "truth_share_gender", "untrained_share_age",
            "untrained_share_gender", "chance")
IDENTITY = ["row", "encoder", "method_of_model", "task", "attribution", "measure"]
COLUMNS = [*IDENTITY, "value", "low", "high", "n_utterances", "n_seeds", "corpus", "preset", "protocol"]


@dataclass(frozen=True)
class Size:
    "How much is measured; declared before any result"
    utterances: int  # test utterances: integrated gradients, Grad-CAM, attention and the picture itself
    # of these for what asks the network hundreds of times: conductance, occlusion, KernelSHAP, infidelity, random
    # weights
    some: int
    few: int  # of these for sensitivity
    steps: int = 50  # of integrated gradients and conductance
    rectangles: int = 20  # removed for infidelity
    max_frames: int = 200  # longer utterances are cut, after the mean of the whole is taken off

    def settings(self, method: str) -> dict:
        return dict(steps=self.steps) if method in ("integrated_gradients", "conductance") else {}

    def of(self, method: str) -> int:
        return self.some if method in ("conductance", "occlusion", "kernel_shap") else self.utterances


SIZES = {"smoke": Size(6, 3, 2, steps=6, rectangles=4, max_frames=100), "laptop": Size(100, 32, 8),
         "gpu": Size(200, 100, 32), "paper": Size(100, 32, 8)}


@dataclass(frozen=True)
class Heard:
    "The utterances of a seed: what was heard and, for synthetic speech, what would have been"
    manifest: pd.DataFrame  # `[n]` rows
    x: Tensor  # `[n, T, 80]`
    n_frames: Tensor  # `[n]` int64
    change: dict  # 'age' and 'gender' → `[n, T, 80]`; empty where the truth is unknown


def crop(x: Tensor, n_frames: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    "The first frames of a padded batch"
    n = n_frames.clamp(max=frames)
    return x[:, :int(n.max())], n


def heard(runner, seed: int, size: Size) -> Heard:
    "Test utterances of a seed, drawn once for all rows: speakers first, one utterance each as far as they go"
    corpus = runner.data(ROLE, seed)
    test = rows_of(corpus.manifest, "test").numpy()
    order = np.random.default_rng([seed, 15]).permutation(test)
    speaker = corpus.manifest["speaker"].to_numpy()[order]
    again = pd.Series(speaker).duplicated().to_numpy()
    at = np.concatenate([order[~again], order[again]])[:size.utterances]
    m = corpus.manifest.iloc[at].reset_index(drop=True)
    x, n = corpus.features.batch(torch.from_numpy(at))
    if runner.corpus != "standin": return Heard(m, *(v.cpu() for v in crop(x, n, size.max_frames)), {})
    age = np.where(m["age"] < 45, 70., 25.)
    threads = torch.get_num_threads()
    # as the corpus was rendered: with more, sums differ in their last digit, and a codec may round a sample the other
    # way
    torch.set_num_threads(1)
    try: pairs = {"age": counterfactual(m, age=age), "gender": counterfactual(m, female=1 - m["female"].to_numpy(int))}
    finally: torch.set_num_threads(threads)
    # a step of float16 above 32
    assert torch.allclose(pairs["age"].x, x.cpu(), atol=.05), "rendered again, the speech is not what the row heard"
    change = {cause: crop(p.changed - p.x, p.n_frames, size.max_frames)[0] for cause, p in pairs.items()}
    return Heard(m, *crop(pairs["age"].x, pairs["age"].n_frames, size.max_frames), change)


def measure(model, task: str, what: Heard, size: Size, seed: int) -> pd.DataFrame:
    "One line for each attribution, measure and utterance: attribution, measure, utterance (position), value"
    device = next(model.parameters()).device
    x, n = what.x.to(device), what.n_frames.to(device)
    f, lines, some, few = Answer(model, task), [], size.some, size.few
    def note(attribution, name, values): lines.extend((attribution, name, i, float(v)) for i, v in enumerate(values))
    target = answered(f, x, n)
    lost = removal_changes(f, x[:some], n[:some], target[:some], size.rectangles, seed)
    random = Answer(randomised(model, x[:32], n[:32], seed=seed), task)
    for name in METHODS:
        m, settings = size.of(name), size.settings(name)
        a = attribute(f, x[:m], n[:m], name, target[:m], **settings)
        if name == "integrated_gradients":
            total, gained = completeness(f, x[:m], n[:m], a, target[:m]).unbind(1)
            note(name, "completeness_gap", (total - gained).abs() / gained.abs().mean())
        note(name, "infidelity", infidelity(f, x[:some], n[:some], a[:some], target[:some], size.rectangles, seed,
                                            changes=lost))
        note(name, "sensitivity", sensitivity(f, x[:few], n[:few], name, target[:few], samples=2, seed=seed,
                                              **settings))
        untrained = attribute(random, x[:some], n[:some], name, target[:some], **settings)
        note(name, "randomised_rank_corr", rank_correlation(a[:some], untrained, n[:some]))
        for cause, change in what.change.items():
            note(name, f"truth_share_{cause}", truth_share(a, change[:m].to(device), n[:m]))
            note(name, f"untrained_share_{cause}", truth_share(untrained, change[:some].to(device), n[:some]))
            if cause == CAUSE[task]:
                note(name, "chance", truth_share(permuted(a, n[:m], seed), change[:m].to(device), n[:m]))
        if name in ("integrated_gradients", "kernel_shap"):
            for i in range(some):
                sums = group_sums(a[i:i + 1, :n[i]], x[i:i + 1, :n[i]])[0].abs()
                for group, v in zip((*GROUPS, PAUSES), (sums / sums.sum().clamp(min=1e-12)).tolist()):
                    lines.append((name, f"group: {group}", i, v))
    if f.has_k:
        held = Answer(model, task, k="fixed")
        a = attribute(held, x[:some], n[:some], "integrated_gradients", target[:some], steps=size.steps)
        total, gained = completeness(held, x[:some], n[:some], a, target[:some]).unbind(1)
        note(HELD, "completeness_gap", (total - gained).abs() / gained.abs().mean())
        note(HELD, "infidelity", infidelity(held, x[:some], n[:some], a, target[:some], size.rectangles, seed))
        for cause, change in what.change.items():
            note(HELD, f"truth_share_{cause}", truth_share(a, change[:some].to(device), n[:some]))
    return pd.DataFrame(lines, columns=["attribution", "measure", "utterance", "value"])


def cached_measure(runner, row: str, seed: int, task: str, what: Heard, size: Size) -> pd.DataFrame:
    "`measure`, from the cache where it is there"
    code = code_hashes("mkdcls.attribution") | {"measure": source_hash(measure), "heard": source_hash(heard)}
    key = digest(dict(run=runner.key(row, seed)[1], task=task, seed=seed, size=plain(size), code=code))
    path = writable(home() / runner.name / "attributions") / f"row{row}-seed{seed}-{task}-{key}.parquet"
    if not path.exists(): write_table(path, measure(runner.trained(row, seed), task, what, size, seed))
    return pd.read_parquet(path).assign(row=row, seed=seed, task=task,
                                        speaker=lambda t: what.manifest["speaker"].to_numpy()[t["utterance"]])


def collect(runner, seeds: int) -> pd.DataFrame:
    "Every value of the sheet: a line for each row, seed, task, attribution, measure and utterance"
    size, parts = SIZES[runner.preset.name], []
    todo = [(row, seed, task) for seed in range(seeds) for row in ROWS for task in runner.rows[row].tasks]
    for done, (row, seed, task) in enumerate(todo):
        runner.progress("attributions", done, len(todo))
        if not done or todo[done - 1][1] != seed:
            what = heard(runner, seed, size)
            for cause, change in what.change.items():
                share = truth_share(what.x, change, what.n_frames)
                parts.append(pd.DataFrame(dict(attribution=INPUT, measure=f"truth_share_{cause}",
                                               utterance=range(len(share)), value=share.numpy(),
                                               row="", seed=seed, task="",
                                               speaker=what.manifest["speaker"].to_numpy())))
        parts.append(cached_measure(runner, row, seed, task, what, size))
    runner.progress("attributions", len(todo), len(todo))
    return pd.concat(parts, ignore_index=True)


def interval(part: pd.DataFrame, draws: int = 2000) -> tuple[float, float, float]:
    """Mean over utterances, averaged over seeds, with its 95 % interval: seeds resampled, and speakers inside them
    (page 12)"""
    seeds, means = [], []
    for _, one in part.groupby("seed"):
        by = one.groupby("speaker")["value"].agg(["sum", "count"]).to_numpy(float)
        seeds.append([np.stack([by, 0 * by], 1)])  # bootstrap adds up 2 × 2 arrays; here a sum and a count
        means.append(by[:, 0].sum() / by[:, 1].sum())
    sims = bootstrap(seeds, lambda c: c[..., 0, 0] / c[..., 0, 1], draws)[:, 0]
    return float(np.mean(means)), *np.percentile(sims, [2.5, 97.5])


def summarise_measures(values: pd.DataFrame, runner) -> pd.DataFrame:
    "attributions.csv: one line for each row, task, attribution and measure"
    out = []
    for (row, task, attribution,
         name), part in values.dropna(subset="value").groupby(["row", "task", "attribution", "measure"], sort=False):
        r = runner.rows.get(row)
        mean, low, high = interval(part)
        out.append(dict(row=row, encoder=ENCODER[r.family] if r else "", method_of_model=r.method if r else "",
                        task=task, attribution=attribution, measure=name,
                        value=round(mean, 4), low=round(low, 4), high=round(high, 4), n_utterances=len(part),
                        n_seeds=part["seed"].nunique(),
                        corpus=Path(runner.corpus).name, preset=runner.preset.name, protocol=PROTOCOL))
    return pd.DataFrame(out, columns=COLUMNS)


def write(values: pd.DataFrame, runner, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    "attributions.csv and attribution_groups.csv; returns both"
    table, folder = summarise_measures(values, runner), writable(Path(folder))
    grouped = table["measure"].str.startswith("group: ")
    groups = table[grouped].assign(group=lambda t: t["measure"]
                                   .str.removeprefix("group: ")).drop(columns="measure").reset_index(drop=True)
    table = table[~grouped].reset_index(drop=True)
    write_text(folder / "attributions.csv", table.to_csv(index=False))
    write_text(folder / "attribution_groups.csv", groups.to_csv(index=False))
    return table, groups


def learnt(values: pd.DataFrame) -> pd.DataFrame:
    """How much more lies on the cells of the cause that a task asks for than with random weights, same utterances

    Over all rows: task, attribution, value, low, high.
    """
    wide = values[values["row"] != ""].pivot_table("value", ["row", "seed", "task", "attribution", "utterance",
                                                             "speaker"], "measure").reset_index()
    out = []
    for (task, name), part in wide.groupby(["task", "attribution"], sort=False):
        if not {f"truth_share_{CAUSE[task]}", f"untrained_share_{CAUSE[task]}"} <= set(part):
            return pd.DataFrame(columns=["task", "attribution", "value", "low", "high"])
        more = (part[f"truth_share_{CAUSE[task]}"] - part[f"untrained_share_{CAUSE[task]}"]).rename("value")
        pairs = part[["seed", "speaker"]].join(more).dropna()
        if len(pairs):
            out.append(dict(task=task, attribution=name, **dict(zip(("value", "low", "high"), interval(pairs)))))
    return pd.DataFrame(out)


# ---- figures

NICE = {"integrated_gradients": "integrated gradients", "gradcam": "Grad-CAM", "kernel_shap": "KernelSHAP",
        HELD: "int. gradients, K held"}
PANELS = ("integrated_gradients", "gradcam", "occlusion", "attention")
TITLES = {"infidelity": "infidelity\n(0 best, 1 worthless)", "sensitivity": "sensitivity to 1 dB\n(0 steady)",
          "randomised_rank_corr": "rank correlation with\nrandom weights (0 best)",
          "truth": "share on the changed fifth\n(more is better)"}
MARKS = {"3": ("o", 0), "6": ("D", 1), "7": ("s", 2), "10": ("^", 3)}


def figure_examples(runner, folder: Path, seed: int = 0, rows: tuple = ("6", "10")):
    """One utterance: the picture, and four attributions below it for gender and agesup, by the full rows of both
    encoders"""
    size = SIZES[runner.preset.name]
    what = heard(runner, seed, size)
    i = int(what.n_frames.argmax())
    n = what.n_frames[i:i + 1]
    x = what.x[i:i + 1, :int(n)]
    columns = [(row, task) for row in rows for task in ("gender", "agesup")]
    hz, extent = band_hz(), (0, int(n) / 100, 0, 80)
    with mpl.rc_context(STYLE | {"image.interpolation": "nearest"}):
        fig, axes = plt.subplots(1 + len(PANELS), len(columns), figsize=(2.3 * len(columns), 7.), dpi=72, sharex=True,
                                 sharey=True,
                                 layout="constrained", squeeze=False)
        for (row, task), column in zip(columns, axes.T):
            f = Answer(runner.trained(row, seed).cpu(), task)
            target = answered(f, x, n)
            column[0].imshow(x[0].T, origin="lower", aspect="auto", cmap="gray_r", vmin=-30, vmax=30, extent=extent)
            said = f"{task}: says {CLASSES[task][int(target[0])]}, label {what.manifest[task][i]}"
            column[0].set_title(f"{ENCODER[runner.rows[row].family]} {runner.rows[row].method}\n{said}", fontsize=8)
            for ax, name in zip(column[1:], PANELS):
                a = attribute(f, x, n, name, target, **size.settings(name))[0]
                top = max(float(a.abs().quantile(.99)), 1e-12)
                look = dict(cmap="viridis") if name == "attention" else dict(cmap="RdBu_r", vmin=-top, vmax=top)
                ax.imshow(a.T, origin="lower", aspect="auto", extent=extent, **look)
            column[-1].set_xlabel("time (s)")
            column[-1].xaxis.set_major_locator(mpl.ticker.MaxNLocator(2))
        for ax, name in zip(axes[:, 0], ("log-Mel input", *PANELS)):
            ax.set_ylabel(f"{NICE.get(name, name).replace('integrated ', 'int. ')}\nkHz")
        axes[0, 0].set_yticks([int((hz < f).sum()) for f in (300, 1000, 2000, 3400)], ["0.3", "1", "2", "3.4"])
        for ax in axes.flat: ax.spines[["top", "right"]].set_visible(True)
        save_figure(fig, folder, "attribution_examples")
    return fig


def _panel(ax, part, names, rows):
    for row in rows:
        mine = part[part["row"] == row].set_index("attribution").reindex(names)
        shape, colour = MARKS[row]
        y = np.arange(len(names)) + .18 * (rows.index(row) - (len(rows) - 1) / 2)
        ax.hlines(y, mine["low"], mine["high"], color=COLOURS[colour], lw=1)
        ax.plot(mine["value"], y, shape, color=COLOURS[colour], ms=3.5)


def _handles(rows, runner):
    name = {r: f"{r}: {ENCODER[runner.rows[r].family]} {runner.rows[r].method}" for r in rows}
    return [plt.Line2D([], [], marker=MARKS[r][0], ls="", color=COLOURS[MARKS[r][1]], label=name[r]) for r in rows]


def figure_measures(table: pd.DataFrame, runner, folder: Path):
    "Every measure of every method: a line of panels for each task, a mark for each row"
    tasks = [t for t in CAUSE if (table["task"] == t).any()]
    kinds = [k for k in TITLES if k != "truth" or table["measure"].str.startswith("truth_share").any()]
    names = [*METHODS, HELD]
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(len(tasks), len(kinds), figsize=(2.3 * len(kinds) + .8, 2.2 * len(tasks) + .5),
                                 sharex="col", sharey=True,
                                 layout="constrained", squeeze=False)
        for line, task in zip(axes, tasks):
            for ax, kind in zip(line, kinds):
                name = f"truth_share_{CAUSE[task]}" if kind == "truth" else kind
                part = table[(table["task"] == task) & (table["measure"] == name)]
                _panel(ax, part, names, [r for r in ROWS if (part["row"] == r).any()])
                if kind == "truth":
                    ax.axvline(.2, color="0.5", lw=.8, ls="--", label="chance (area)")
                    blind = table[(table["attribution"] == INPUT) & (table["measure"] == name)]
                    if len(blind): ax.axvspan(blind["low"].iloc[0], blind["high"].iloc[0], color="0.85", label=INPUT)
                ax.set(xlabel=TITLES[kind] + (f"\ndo({CAUSE[task]})" if kind == "truth" else ""))
                if kind == "infidelity": ax.set_xlim(0, 1)
                if kind == "truth": ax.set_xlim(0, max(.5, 1.05 * float(part["high"].max()), ax.get_xlim()[1]))
            line[0].set_yticks(range(len(names)), [NICE.get(n, n) for n in names])
            line[0].set_ylabel(task, fontsize=9)
        axes[0, 0].invert_yaxis()
        rows = [r for r in ROWS if (table["row"] == r).any()]
        fig.legend(handles=_handles(rows, runner) + list(axes[0, -1].get_legend_handles_labels()[0]),
                   loc="outside upper center", ncols=3, frameon=False)
        save_figure(fig, folder, "attribution_measures")
    return fig


def figure_groups(groups: pd.DataFrame, runner, folder: Path):
    "Share of the six groups in an answer, KernelSHAP beside integrated gradients"
    tasks, names = [t for t in CAUSE if (groups["task"] == t).any()], [*GROUPS, PAUSES]
    kinds = ("kernel_shap", "integrated_gradients")
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(2, len(tasks), figsize=(2.5 * len(tasks) + .9, 4.2), sharex=True, sharey=True,
                                 layout="constrained", squeeze=False)
        for line, kind in zip(axes, kinds):
            for ax, task in zip(line, tasks):
                part = groups[(groups["task"] == task) & (groups["attribution"]
                                                          == kind)].assign(attribution=lambda t: t["group"])
                _panel(ax, part, names, [r for r in ROWS if (part["row"] == r).any()])
                ax.set_title(task)
            line[0].set_yticks(range(len(names)), names)
            line[0].set_ylabel(NICE[kind])
        axes[0, 0].invert_yaxis()
        for ax in axes[-1]: ax.set_xlabel("share of the groups' sizes")
        rows = [r for r in ROWS if (groups["row"] == r).any()]
        fig.legend(handles=_handles(rows, runner), loc="outside upper center", ncols=4, frameon=False)
        save_figure(fig, folder, "attribution_groups")
    return fig


# ---- words and sounds

def _say(line): return f"{line['value']:.2f} [{line['low']:.2f}, {line['high']:.2f}]"


def _ends(table, name):
    "The methods with the lowest and the highest mean of a measure, over models and tasks, as (name, value)"
    part = table[(table["measure"] == name) & table["row"].ne("")]
    mean = part.groupby("attribution")["value"].mean().sort_values()
    return [(NICE.get(mean.index[i], mean.index[i]), mean.iloc[i]) for i in (0, -1)]


def _pointing(shares, cause, tasks):
    own = shares[(shares["measure"] == f"truth_share_{cause}") & shares["task"].isin(tasks)]
    blind = shares[(shares["measure"] == f"truth_share_{cause}") & (shares["attribution"] == INPUT)].iloc[0]
    top = own.sort_values("value").iloc[-1]
    return (f"Of {len(own)} combinations of model, task and method, {(own['low'] > .2).sum()} put more on the fifth of "
            f"the cells that do({cause}) "
            f"changes most than chance would (0.2), and {(own['low'] > blind['high']).sum()} put more there than "
            "the picture's own size does "
            f"({_say(blind)}); both counted by the intervals. The highest is {_say(top)}: "
            f"{NICE.get(top['attribution'], top['attribution'])}, "
            f"row {top['row']}, {top['task']}. A method that knows only time, or only bands, cannot reach far; "
            "and a network may rightly use "
            "what a cause changes a little but always.")


def _specific(shares):
    "Is it this cause that an explanation points at, or any?"
    own = shares[shares["row"].ne("")].pivot_table("value", ["row", "task", "attribution"], "measure")
    blind = shares[shares["attribution"] == INPUT].set_index("measure")["value"]
    above = {c: own[f"truth_share_{c}"] - blind[f"truth_share_{c}"] for c in ("age", "gender")}
    gender = own.index.get_level_values("task") == "gender"
    asked, other = np.where(gender, above["gender"], above["age"]), np.where(gender, above["age"], above["gender"])
    return (f"Measured from the picture's own share of each cause, {(asked > other).sum()} of {len(own)} explanations "
            "lie more on the cause that was asked for "
            f"than on the other one; half would be no preference. On average {asked.mean():+z.3f} on the cause asked "
            f"for and {other.mean():+z.3f} on the other. "
            "To lie above chance where a cause shows is not yet to point at this cause.")


def paragraphs(table: pd.DataFrame) -> dict[str, str]:
    "A paragraph for each question; every number and comparison in it is taken from the table"
    gap = table.loc[table["measure"] == "completeness_gap", "value"]
    say = {"Does it add up?":
           f"The sum of integrated gradients misses the score gained over the baseline by {100 * gap.min():.1f} to "
           f"{100 * gap.max():.1f} % of the "
           f"mean gain, over {len(gap)} combinations of model, task and path of K. What is missing is the rest of an "
           "integral; that it adds up "
           "says nothing on whether it is true."}
    (best, low), (worst, high) = _ends(table, "infidelity")
    say["Does it foretell what a removal costs?"] = (
        f"Averaged over models and tasks, {best} misses least of the score's changes, {low:.2f}, and {worst} most, "
        f"{high:.2f}; 1 is worth nothing. "
        "Removal leaves pictures that no voice makes: this measures agreement with the network, not with speech.")
    (best, low), (worst, high) = _ends(table, "sensitivity")
    say["Does it hold still?"] = (
        f"When every cell moves by at most 1 dB, an explanation changes by {low:.2f} ({best}) to {high:.2f} "
        f"({worst}) of its size. "
        "To hold still is not to be right: a map that ignores the answer can hold still best.")
    (best, low), (worst, high) = _ends(table, "randomised_rank_corr")
    say["Does it notice that nothing was learnt?"] = (
        f"The ranks of an explanation agree with those of the same network with random weights to {low:+z.2f} "
        f"({best}) at the least and "
        f"{high:+z.2f} ({worst}) at the most. What the two share cannot be evidence of learning.")
    shares = table[table["measure"].str.startswith("truth_share")]
    if shares.empty:
        return say | {"Does it point where the cause is?": "The causes of these recordings are not known, "
                                                           "so this cannot be asked of them."}
    for cause, tasks in (("gender", ("gender",)), ("age", ("agesup", "agesub"))):
        say[f"Does it point where {cause} is?"] = _pointing(shares, cause, tasks)
    return say | {"Does it point at this cause and no other?": _specific(shares)}


def say_learnt(more: pd.DataFrame) -> str:
    "What `learnt` says"
    if more.empty: return "The causes of these recordings are not known, so this cannot be asked of them."
    cells = lambda part: "; ".join(f"{NICE.get(t.attribution, t.attribution)}, {t.task} {t.value:+z.3f} "
                                   f"[{t.low:+z.3f}, {t.high:+z.3f}]"
                                  for t in part.itertuples()) or "none"
    up, down = more[more["low"] > 0], more[more["high"] < 0]
    rest = more.drop([*up.index, *down.index])
    return (f"More than untrained, with the whole interval: {cells(up)}. Less: {cells(down)}. "
            f"Not told apart: {cells(rest)}. "
            "A share of 0.2 is chance: what is learnt is the few hundredths above an untrained network, and no more.")


def largest(groups: pd.DataFrame) -> str:
    "The largest of KernelSHAP's groups for each row and task, and those whose intervals overlap with its own"
    lines, part = [], groups[groups["attribution"] == "kernel_shap"]
    for (row, task), g in sorted(part.groupby(["row", "task"]), key=lambda kv: (int(kv[0][0]), kv[0][1])):
        g = g.sort_values("value", ascending=False)
        near = "; ".join(f"{t.group} {t.value:.2f} [{t.low:.2f}, {t.high:.2f}]"
                         for t in g[g["high"] >= g["low"].iloc[0]].itertuples())
        lines.append(f"- row {row}, {task}: {near}")
    return "\n".join(lines)


def sounds(runner, row: str = "6", task: str = "gender", seed: int = 0, share: float = .2,
           seconds: float = 1.8) -> dict[str, Tensor]:
    """A synthetic utterance whole, from its most and from its least attributed cells, at one loudness

    Empty where speech is not synthetic.
    """
    if runner.corpus != "standin": return {}
    size = SIZES[runner.preset.name]
    what = heard(runner, seed, size)
    i = int(what.n_frames.argmax())
    n = what.n_frames[i:i + 1]
    x = what.x[i:i + 1, :int(n)]
    a = attribute(Answer(runner.trained(row, seed).cpu(), task), x, n, "integrated_gradients",
                  **size.settings("integrated_gradients"))[0]
    waves, lengths = render(what.manifest.iloc[i:i + 1])
    wave = waves[0, :int(lengths[0])]
    least = a.abs().max() - a.abs()
    out = {"original": wave, f"its {share:.0%} most attributed cells": resynthesise(wave, a, share),
           f"its {share:.0%} least attributed cells": resynthesise(wave, least, share)}
    level = wave.square().mean().sqrt()
    return {name: (v * level / v.square().mean().sqrt().clamp(min=1e-9))
            .clamp(-1, 1)[:round(8000 * min(seconds, int(n) / 100))] for name, v in out.items()}
