"""The paper's figures and the poster's panels, drawn from what the modules and the generator compute; the same code
gives the same bytes.

Every drawing stands on a function that returns its facts (`overlaid`, `punishment`, `layers`, ...), so that what is
drawn can be checked. Sizes are those of the printed page: 85 or 175 mm wide, no letter below 7 points. Shape, hatching
or a word always says what a colour says.
"""
from __future__ import annotations

import io
import warnings
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from scipy import signal

from mkdcls import voice
from mkdcls.asymmetric import asymmetric_loss
from mkdcls.dependency import dependency_loss
from mkdcls.results import figures, picture, report
from mkdcls.results.picture import HEAD, LOSS, PLAIN, STUDENT, TEACHER, box
from mkdcls.evaluation import MARGIN
from mkdcls.fbank import fbank, mean_norm
from mkdcls.labels import AGESUB, AGESUP, PARENT, TASKS
from mkdcls.mixup import MixupSettings, draw as random_numbers, mixup, spec_augment, temporal_mean
from mkdcls.runs import build, preset_of
from mkdcls.scm import draw_speakers, latents, posterior
from mkdcls.standin import RATE, STANDINS, draw_manifest, stages

MM = 1 / 25.4  # inches
SINGLE, DOUBLE = 85, 175  # mm, the widths of one and of two columns
SMALLEST = 7  # points
STYLE = figures.STYLE | {"font.family": "DejaVu Sans", "mathtext.fontset": "dejavusans", "font.size": 7.5,
                         "axes.labelsize": 7.5, "axes.titlesize": 8,
                         "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7, "axes.linewidth": .6,
                         "lines.linewidth": 1.3,
                         "hatch.linewidth": .5, "hatch.color": "0.35", "xtick.major.width": .6, "ytick.major.width": .6}
FIRST, SECOND = "#0173b2", "#c05a00"  # two voices: dark blue and orange, told apart in grey by line and marker
BLUES = mpl.colors.LinearSegmentedColormap.from_list("pale blues", ["#ffffff", "#9ecae8", "#0173b2"])


def blank_page(width: float, height: float, **layout) -> Figure:
    "An empty page in millimetres"
    return Figure(figsize=(width * MM, height * MM), dpi=100, **layout)


def sheet(width: float, height: float):
    "A page to draw on freely: one unit is one millimetre, the origin is bottom left"
    fig = blank_page(width, height)
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(0, height))
    ax.axis("off")
    return fig, ax


def arrow(ax, start, end, colour="0.2", ls="-", lw=1., bend=0.):
    "From start to end, head at the end"
    ax.annotate("", end, start, arrowprops=dict(arrowstyle="-|>,head_width=.22,head_length=.45", shrinkA=0, shrinkB=0,
                                                lw=lw, ls=ls, color=colour,
                                                mutation_scale=10, connectionstyle=f"arc3,rad={bend}"))


def letter(ax, text): ax.set_title(text, loc="left", fontsize=8)


# ---- Figure 1: an overlaid second voice

@lru_cache(maxsize=1)
def corpus(speakers: int = 20_000) -> pd.DataFrame:
    "A stand-in of LTV on paper, large enough to find examples in; no audio"
    return draw_manifest("LTV", speakers, seed=4)


class Overlaid(NamedTuple):
    "An utterance with a second voice over it, and what only its generator knows"
    row: pd.Series  # of the manifest: causes and labels of both voices
    first: np.ndarray  # `[N]` the speaker's voice
    second: np.ndarray  # `[N]` the voice over it, at its level
    recorded: np.ndarray  # `[N]` what the telephone line makes of both
    time: np.ndarray  # `[T]` s, of the F0 tracks
    f0: dict[str, np.ndarray]  # 'first', 'second' → `[T]` Hz, NaN where nothing is voiced


def track(row: pd.Series, prefix: str = "") -> np.ndarray:
    "`[T]` Hz every 4 ms: F0 as the generator sets it, NaN where the voice is not voiced"
    person = (row.to_frame().T.infer_objects().filter(regex="^ov_").rename(columns=lambda c: c[3:]) if prefix
              else row.to_frame().T.infer_objects())
    plan = voice.write_score(latents(person), [row["duration"]], [row[prefix + "seed"]], [-1])
    sounding = (plan.active & (plan.voice > .2))[0].numpy()
    keep = int(plan.n_samples[0]) // voice.STEP
    return np.where(sounding, plan.f0[0].numpy(), np.nan)[:keep]


@lru_cache(maxsize=1)
def overlaid() -> Overlaid:
    """The paper's example: a woman in her twenties, under the voice of a man in his fifties, whose labels were
    written down"""
    m = corpus()
    like = (m["overlaid"] & (m["true_gender"] == "female") & (m["true_agesub"]
                                                              == "20s") & (m["label_source"]
                                                                           == "overlay") & m["duration"]
            .between(2, 3.5))
    like &= (m["ov_female"] == 0) & m["ov_age"].between(50, 59.99)
    found = m[like].sort_values("snr_telephone", ascending=False).iloc[[0]]
    s, row = stages(found), found.iloc[0]
    n = int(s.n_samples[0])
    f0 = {"first": track(row), "second": track(row, "ov_")}
    T = min(map(len, f0.values()))
    return Overlaid(row, s.clean[0, :n], s.second[0, :n], s.wave[0, :n], np.arange(T) * voice.STEP / RATE,
                    {k: v[:T] for k, v in f0.items()})


def said(row: pd.Series) -> dict[str, str]:
    "Labels of the first voice, of the second, and those written down, each gender / agesup / agesub"
    band = min(int(row["ov_age"] // 10) - 2, len(AGESUB) - 1)
    return {"first": " / ".join(row[f"true_{t}"] for t in TASKS), "written": " / ".join(row[t] for t in TASKS),
            "second": " / ".join((("male", "female")[int(row["ov_female"])], AGESUP[PARENT[band]], AGESUB[band]))}


def envelope(ax, wave, at, colour, scale, bins=700, **style):
    "A waveform as its highest and lowest sample in each of `bins` slices"
    edges = np.linspace(0, len(wave), bins + 1).astype(int)
    top, low = (np.array([f(wave[a:b]) for a, b in zip(edges, edges[1:])]) for f in (np.max, np.min))
    ax.fill_between(edges[:-1] / RATE, at + low / scale, at + top / scale, color=colour, lw=.4, **style)


def narrowband(wave: np.ndarray, top: float = 600., span: float = 45.):
    "Levels in dB below the loudest, bands up to `top` Hz, 80 ms windows; and the edges of the picture"
    f, t, z = signal.stft(wave, RATE, "hann", nperseg=640, noverlap=560, nfft=2048, boundary="zeros")
    level = 20 * np.log10(np.abs(z[f <= top]) + 1e-9)
    return np.clip(level - level.max(), -span, 0), (0, t[-1], 0, f[f <= top][-1])


def log_mel(wave: np.ndarray, span: float = 60.) -> np.ndarray:
    "`[T, 80]` dB below the loudest cell, cut at `span`"
    x = fbank(torch.from_numpy(np.ascontiguousarray(wave, np.float32))[None])[0][0].numpy()
    return np.clip(x - x.max(), -span, 0)


def mel_picture(ax, x, **style):
    "One log-Mel picture over time in seconds"
    ax.imshow(x.T, origin="lower", aspect="auto", extent=(0, len(x) / 100, 0, x.shape[1]), cmap="Greys",
              interpolation="nearest", **style)


def figure1() -> Figure:
    "Waveforms, log-Mel and the F0 tracks of both voices"
    o, fig = overlaid(), blank_page(DOUBLE, 118, layout="constrained")
    top, mid, low = fig.subplots(3, 1, sharex=True, height_ratios=(1.25, 1, 1.35))
    words, seconds, scale = said(o.row), len(o.recorded) / RATE, np.abs(o.first).max() * 2.2
    lanes = ((o.first, FIRST, f"first voice: {words['first']}"),
             (o.second, SECOND, f"second voice, {o.row['overlay_db']:.1f} dB below: {words['second']}"),
             (o.recorded * np.abs(o.first).max() / np.abs(o.recorded).max(), "0.25",
             f"recorded over the telephone, labelled: {words['written']}"))
    for at, (wave, colour, text) in zip((2, 1, 0), lanes):
        envelope(top, wave, at, colour, scale)
        top.text(0, at + .47, text, fontsize=7.5, va="center")
    top.set(ylim=(-.5, 2.7), yticks=[], xlim=(0, seconds))
    top.spines["left"].set_visible(False)
    letter(top, "a   Three waveforms; labels as gender / agesup / agesub")
    mel_picture(mid, log_mel(o.recorded))
    mid.set(ylabel="Mel band", yticks=(0, 40, 80))
    letter(mid, "b   What the networks read: log-Mel of the recording (dark: loud, 60 dB range)")
    cells, extent = narrowband(o.first + o.second)
    low.imshow(cells, origin="lower", aspect="auto", extent=extent, cmap="Greys", vmin=-45, vmax=15,
               interpolation="bilinear")
    for name, colour, marker, ls in (("first", FIRST, "o", "-"), ("second", SECOND, "s", (0, (4, 1.2)))):
        for lw, c in ((3., "white"), (1.4, colour)):
            low.plot(o.time, o.f0[name], color=c, lw=lw, ls=ls if c != "white" else "-")
        low.plot(o.time[::50], o.f0[name][::50], marker, color=colour, mec="white", mew=.6, ms=4.5, ls="none")
        low.plot([], [], marker=marker, color=colour, ls=ls, ms=4.5, mec="white", mew=.6,
                 label=f"F0 of the {name} voice")
    low.axhline(300, color="0.2", lw=.8, ls=":")
    low.text(seconds, 306, "the telephone line cuts what lies below ", ha="right", va="bottom", fontsize=7,
             bbox=dict(fc="white", ec="none", pad=.8, alpha=.85))
    low.set(ylabel="frequency (Hz)", xlabel="time (s)", ylim=(50, 600), xlim=(0, seconds))
    low.legend(loc="upper left", ncols=2, frameon=True, framealpha=.9, edgecolor="none", borderpad=.3)
    letter(low, "c   Both voices before the line, with the F0 that the generator gave each")
    return fig


# ---- Figure 2: the dependency punishment

SURE = .6  # probability that each head gives the class it answers; the others share the rest evenly


def scores(answers: torch.Tensor, classes: int, p: float | torch.Tensor = SURE) -> torch.Tensor:
    "`[B, K]` logits of a head that gives its answer the probability p"
    p = torch.as_tensor(p, dtype=torch.float64).expand(len(answers))[:, None]
    return torch.where(torch.nn.functional.one_hot(answers, classes).bool(), p, (1 - p) / (classes - 1)).log()


def punishment(truth: str = "30s", kind: str = "corrected", p: float | torch.Tensor = SURE) -> np.ndarray:
    "`[5, 3]` L_dep (Eq. 5 over the losses of Eq. 4) for every pair of an agesub and an agesup answer, nats"
    if truth not in AGESUB: raise ValueError(f"punishment: no agesub {truth!r}; choose one of {AGESUB}")
    sub, sup = (v.flatten() for v in torch.meshgrid(torch.arange(5), torch.arange(3), indexing="ij"))
    y_sub = torch.full_like(sub, AGESUB.index(truth))
    y_sup = torch.tensor(PARENT)[y_sub]
    a, b = scores(sub, 5, p), scores(sup, 3, p)
    loss = partial(dependency_loss, asymmetric_loss(a, y_sub, reduction="none"),
                   asymmetric_loss(b, y_sup, reduction="none"), a, b, y_sub, y_sup)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # 'literal' warns that it is for teaching: this is teaching
        return loss(kind=kind, reduction="none").reshape(5, 3).numpy()


def tree(ax, truth: str):
    "The hierarchy of Figure 2 with an agreeing and a contradicting pair of answers"
    y_sub, y_sup = AGESUB.index(truth), PARENT[AGESUB.index(truth)]
    for k, x in enumerate((11, 31.5, 47)):
        box(ax, x, 40, 14 if k < 2 else 9, 6, AGESUP[k], HEAD if k == y_sup else PLAIN, 7.5)
    top, low = (11, 31.5, 47), (5, 16.5, 26.5, 36.5, 47)
    for i, x in enumerate(low):
        box(ax, x, 24, 8.6, 6, AGESUB[i], HEAD if i == y_sub else PLAIN, 7.5)
        ax.plot([x, top[PARENT[i]]], [27, 37], color=HEAD[0] if i == y_sub else "0.45", lw=2.2 if i == y_sub else .8,
                zorder=0)
    ax.text(0, 46.5, "agesup", fontsize=7.5, style="italic", va="center")
    ax.text(0, 18.2, "agesub", fontsize=7.5, style="italic", va="center")
    ax.text(31.5, 18.2, f"thick, green: the truth, {truth}", fontsize=7, va="center", ha="center")
    cost = punishment(truth)
    for y, (i, k), mark, colour in ((10, (y_sub - 1, y_sup), "agree", "0.2"),
                                    (3, (y_sub, y_sup + 1), "conflict", LOSS[0])):
        box(ax, 5, y, 9.5, 5, AGESUB[i], (colour, "white"), 7)
        box(ax, 20.5, y, 11, 5, AGESUP[k], (colour, "white"), 7)
        ax.text(12.3, y, "=" if mark == "agree" else "≠", ha="center", va="center", fontsize=9, color=colour)
        ax.text(28, y, rf"{mark}: $\mathcal{{L}}_{{dep}}$ = {cost[i, k]:.2f}", va="center", fontsize=7.5, color=colour)


def cost_map(ax, truth: str, kind: str, title: str):
    "The values of `punishment` as a map; pairs that agree are framed, conflicts are hatched"
    cost = punishment(truth, kind)
    size = np.abs(cost - cost[AGESUB.index(truth), PARENT[AGESUB.index(truth)]])
    ax.imshow(size.T, cmap=BLUES, vmin=0, vmax=6, origin="lower", aspect="auto")
    for i in range(5):
        for k in range(3):
            agree = PARENT[i] == k
            ax.add_patch(Rectangle((i - .46, k - .44), .92, .88, fill=False, ec="k" if agree else "0.5",
                                   lw=1.3 if agree else 0, hatch=None if agree else "...."))
            ax.text(i, k, f"{cost[i, k]:.2f}".replace("-", "−"), ha="center", va="center", fontsize=7,
                    bbox=dict(fc="white", ec="none", pad=.7, alpha=.85))
    ax.set(xticks=range(5), xticklabels=AGESUB, yticks=range(3), yticklabels=AGESUP, xlabel="answer of the agesub head")
    ax.tick_params(length=0)
    for side in ax.spines.values(): side.set_visible(False)
    ax.get_xticklabels()[AGESUB.index(truth)].set(weight="bold", color=HEAD[0])
    ax.get_yticklabels()[PARENT[AGESUB.index(truth)]].set(weight="bold", color=HEAD[0])
    letter(ax, title)


def figure2(truth: str = "30s") -> Figure:
    "The hierarchy, and Eq. 5 for every pair of answers: as a loss, and as printed"
    fig = blank_page(DOUBLE, 66)
    left = fig.add_axes((1.5 / DOUBLE, 10 / 66, 54 / DOUBLE, 49 / 66))
    left.set(xlim=(-1, 53), ylim=(0, 49))
    left.axis("off")
    tree(left, truth)
    fig.text(1.5 / DOUBLE, 61.5 / 66, "a   The hierarchy and two pairs of answers", fontsize=8)
    for x, kind, title in ((75, "corrected", "b   Eq. 5 corrected: a punishment"),
                           (126, "literal", "c   Eq. 5 as printed: a reward")):
        ax = fig.add_axes((x / DOUBLE, 19 / 66, 47.5 / DOUBLE, 40 / 66))
        cost_map(ax, truth, kind, title)
        if kind == "corrected": ax.set_ylabel("answer of the agesup head")
        else: ax.set_yticklabels([])
    fine = ("Each cell: the loss in nats of one pair of answers. Framed: the two agree. Dotted: they conflict. "
            f"The truth, {truth}, in green and bold.\n"
            f"Each head gives its answer {SURE:.0%} and shares the rest evenly; the losses inside are those of Eq. 4. "
            "As printed, Eq. 5 is lowest at the conflicts.")
    fig.text(1.5 / DOUBLE, 2 / 66, fine, fontsize=7, linespacing=1.35)
    return fig


# ---- Figure 3: the architecture

PROBE_SECONDS = 2  # of speech, run through the networks to read their shapes
FULL_ROWS = {"ecapa": "6", "resnet": "10"}  # the rows of Table 1 with everything on


def _kind(m) -> str:
    "What a layer is, by its own settings"
    name = type(m).__name__
    if name == "TDNN": return f"Conv1d, kernel {m.conv.kernel_size[0]}"
    if name == "SERes2": return f"SE-Res2, dilation {m.res2.parts[0].conv.dilation[0]}"
    if name == "Conv2d": return f"Conv2d, kernel {m.kernel_size[0]}"
    if name == "AttentiveStatsPool": return "attentive pooling"
    return {"BatchNorm1d": "BatchNorm", "FrozenAdapter": "frozen Conv1d"}.get(name, name)


@lru_cache(maxsize=2)
def layers(family: str = "ecapa", scale: str = "paper") -> pd.DataFrame:
    """Every layer that Figure 3 shows, in order of execution: part, name, kind, the shapes in and out of one
    utterance, parameters"""
    if family not in FULL_ROWS:
        raise ValueError(f"layers: no encoder family {family!r}; choose one of {tuple(FULL_ROWS)}")
    rows = {p.scale: p for p in map(preset_of, ("smoke", "laptop", "paper"))}
    if scale not in rows: raise ValueError(f"layers: no scale {scale!r}; choose one of {tuple(rows)}")
    rows, seen = rows[scale].rows(), []
    recipe = rows[FULL_ROWS[family]]
    model = build(recipe, 0, build(rows[recipe.teacher], 0).student).eval()

    def watch(part, name, m):
        # a stage of the ResNet is a list of blocks: it begins in the first, ends in the last
        stage = isinstance(m, torch.nn.ModuleList)
        def hook(last, args, out):
            entry = dict(part=part, name=name, kind=f"{len(m)} residual blocks" if stage else _kind(m),
                         ins=tuple(args[0].shape[1:]), outs=tuple(out.shape[1:]))
            seen.append(entry | dict(params=sum(p.numel() for p in m.parameters())))
        return (m[-1] if stage else m).register_forward_hook(hook)

    hooks = [watch("adapter", "adapter", model.adapter)]
    for part, enc in (("teacher", model.teacher.encoder), ("student", model.student)):
        if family == "ecapa": inner = {f"block {i + 1}": b for i, b in enumerate(enc.blocks)} | {"mfa": enc.mfa}
        else: inner = {f"stage {i + 1}": s for i, s in enumerate(enc.stages)}
        last = {"norm_embed": enc.norm_embed} if family == "resnet" else {}
        hooks += [watch(part, name, m) for name, m in {"stem": enc.stem, **inner, "pool": enc.pool, "norm": enc.norm,
                                                       "fc": enc.fc, **last}.items()]
    for task, head in model.heads.items():
        hooks += [watch(task, n, m)
                  for n, m in zip(("linear", "norm", "leaky", "dropout", "score"), (*head.block, head.score))]
    frames = torch.tensor([100 * PROBE_SECONDS + 1])
    with torch.no_grad():
        out = model(torch.zeros(1, int(frames), 80), frames)
        model.adapter(out.k.pooled)
    for h in hooks: h.remove()
    whole = {"teacher": model.teacher, "student": model.student, **model.heads}
    total = [dict(part=part, name="all", kind=type(m).__name__, ins=(), outs=(),
                  params=sum(p.numel() for p in m.parameters())) for part, m in whole.items()]
    total.append(dict(part="z", name="z", kind="concatenation", ins=tuple(out.x.embedding.shape[1:]),
                      outs=tuple(out.z.shape[1:]), params=0))
    return pd.DataFrame(seen + total).set_index(["part", "name"])


def times(shape) -> str: return " × ".join(map(str, shape))


def _steps(t: pd.DataFrame, part: str) -> list[tuple[str, str]]:
    "Text and shape of each row of a column of Figure 3; norms stand with the linear layer they enclose"
    enc = t.loc[part]
    end = "norm, linear" + (", norm" if "norm_embed" in enc.index else "")
    texts = {"pool": "attentive mean, deviation", "fc": end,
             "mfa": enc["kind"].get("mfa", "").replace("Conv1d", "joined")}
    return [(texts.get(name, r["kind"]), times(r["outs"]))
            for name, r in enc.iterrows() if name not in ("all", "norm", "norm_embed")]


def _column(ax, t, part, x, width, at, high, colour):
    "One encoder, from the input at the top to its embedding"
    for i, (text, shape) in enumerate(_steps(t, part)):
        box(ax, x, at[i], width, high, "", colour)
        ax.text(x - width / 2 + 1.2, at[i], text, va="center", fontsize=7)
        ax.text(x + width / 2 - 1.2, at[i], shape, va="center", ha="right", fontsize=7, weight="bold")
        if i + 1 < len(at): arrow(ax, (x, at[i] - high / 2), (x, at[i + 1] + high / 2))


def _heads(ax, t, bottom):
    "Z to H to Y for each task, upwards, and the losses on top"
    losses = {"gender": r"$\mathcal{L}_{CE}$", "agesup": r"$\mathcal{L}_{asl}$, Eq. 4",
              "agesub": r"$\mathcal{L}_{asl}$, Eq. 4"}
    for task, x in zip(TASKS, (123.5, 144, 164.5)):
        part = t.loc[task]
        arrow(ax, (x, bottom), (x, 21))
        box(ax, x, 31.5, 19, 21, "\n".join(part["kind"].iloc[:4]), HEAD, 7)
        arrow(ax, (x, 42), (x, 46.2))
        box(ax, x, 49.5, 19, 6.6, f"H: {times(part.loc['dropout', 'outs'])}", HEAD, 7.5)
        arrow(ax, (x, 52.8), (x, 57))
        box(ax, x, 60, 19, 6, part.loc["score", "kind"], HEAD, 7)
        arrow(ax, (x, 63), (x, 67.2))
        box(ax, x, 73, 19, 11.6, f"$Y$ {task}\n{times(part.loc['score', 'outs'])} classes", HEAD, 7)
        arrow(ax, (x, 78.8), (x, 83.2), LOSS[0], (0, (3, 1.5)))
        box(ax, x, 86.2, 19, 6, losses[task], LOSS, 7)
        if task != "gender": arrow(ax, (x, 89.2), (x + np.sign(154 - x) * 4, 93.2), LOSS[0], (0, (3, 1.5)))
    box(ax, 154.25, 96.2, 22, 6, r"$\mathcal{L}_{dep}$, Eq. 5", LOSS, 7)


def figure3(family: str = "ecapa") -> Figure:
    "Teacher, student, Z and the heads, each layer with the shape that comes out of it"
    t = layers(family)
    fig, ax = sheet(DOUBLE, 108)
    n, high, width = len(_steps(t, "teacher")), 7, 45
    gap = (74 - high * n) / (n - 1)
    at = [89 - i * (high + gap) for i in range(n)]
    for part, x, colour, view, name in (("teacher", 24, TEACHER, "$x_{normal}$", "K"),
                                        ("student", 89, STUDENT, "$x_{mixup}$", "X")):
        frozen = " (frozen)" if part == "teacher" else ""
        ax.text(x, 105.2, f"{part.capitalize()}{frozen}, {t.loc[(part, 'all'), 'params'] / 1e6:.1f} M weights",
                ha="center", va="center", fontsize=7.5, weight="bold")
        ax.text(x, 99, f"{view}: {times((100 * PROBE_SECONDS + 1, 80))} (frames × bands)", ha="center", va="center",
                fontsize=7.5)
        arrow(ax, (x, 97), (x, at[0] + high / 2))
        _column(ax, t, part, x, width, at, high, colour)
        box(ax, x, 9.5, 17, 6.4, f"{name}: {times(t.loc[(part, 'fc'), 'outs'])}", colour, 8)
        arrow(ax, (x, at[-1] - high / 2), (x, 12.7))
    pooled, adapter = at[-2], t.loc[("adapter", "adapter")]
    change = "identity" if adapter["ins"] == adapter["outs"] else adapter["kind"].replace(" ", "\n")
    ax.text(56.5, 9.5, "dashed:\ntraining only", ha="center", va="center", fontsize=7)
    box(ax, 56.5, pooled + 1, 14, 11.4, f"{change}\n{times(adapter['outs'])}", TEACHER, 7)
    box(ax, 56.5, pooled - 13, 14, 6, r"$\mathcal{L}_{dist}$, Eq. 2", LOSS, 7)
    arrow(ax, (46.5, pooled), (49.5, pooled), LOSS[0], (0, (3, 1.5)))
    arrow(ax, (56.5, pooled - 4.7), (56.5, pooled - 10), LOSS[0], (0, (3, 1.5)))
    arrow(ax, (66.5, pooled - 2), (60.5, pooled - 10), LOSS[0], (0, (3, 1.5)))
    for x, name, colour in ((128.75, "X", STUDENT), (159.25, "K", TEACHER)):
        ax.add_patch(Rectangle((x - 15.25, 6.3), 30.5, 6.4, fc=colour[1], ec=colour[0], lw=1.3))
        ax.text(x + (5 if name == "K" else -5), 9.5, name, ha="center", va="center", fontsize=8)
    box(ax, 144, 9.5, 14, 4.6, f"Z: {times(t.loc[('z', 'z'), 'outs'])}", PLAIN, 7.5)
    arrow(ax, (97.5, 9.5), (113.5, 9.5))
    ax.plot([24, 24, 159.25], [6.3, 3, 3], color="0.2", lw=1, solid_joinstyle="miter")
    arrow(ax, (159.25, 3), (159.25, 6.3))
    ax.text(144, 105.2, f"Heads, {t.loc[('agesub', 'all'), 'params'] / 1e6:.2f} M weights each", ha="center",
            va="center", fontsize=7.5, weight="bold")
    _heads(ax, t, 12.7)
    return fig


# ---- Figure 4: the structural causal model

def graphs() -> dict:
    "Figure 4 as printed, and the graph that the code of row 6 (ECAPA, +MKD+CH) carries"
    from mkdcls.causal import graph_of, paper_graph  # page 14: only these two drawings need it
    return {"paper": paper_graph(), "code": graph_of(preset_of("paper").rows()[FULL_ROWS["ecapa"]])}


def figure4() -> Figure:
    "The graph of the paper beside the graph of the code"
    from mkdcls.causal import arrow_look, figure_graph
    fig = blank_page(DOUBLE, 78, layout="constrained")
    for ax, (name, graph), title in zip(fig.subplots(1, 2), graphs().items(),
                                        ("a   As the paper draws it", "b   As the code of row 6 carries it")):
        figure_graph(graph, ax=ax)
        letter(ax, title)
        if name == "code":
            ax.text(0, 0, "U: the utterance\nM: its mixed copy", transform=ax.transAxes, fontsize=7, va="bottom",
                    linespacing=1.35)
    keys = {"as printed (a)": {"mechanism": ""}, "carries values at test and in training (b)": {"when": "forward"},
            "exists in training only (b)": {"when": "training"}}
    lines = [mpl.lines.Line2D([], [], ls=ls, color=colour, lw=1.2) for ls, colour in map(arrow_look, keys.values())]
    fig.legend(lines, list(keys), loc="outside lower center", ncols=3, frameon=False)
    return fig


GRAPH_CLAIMS = {"X → Z ← K": (("X", "K", "Z"), "Z is X and K side by side.",
                              "No sum over K is taken: what is\ncomputed is P(Y | X, k(x)), not P(Y | do(X))."),
                "Z → H → Y": (("Z", "H_agesup", "Y_agesup"), "Every answer comes by way of Z.",
                              "By construction, with any weights:\nholding Z, X can change no answer."),
                "Y → H → Y": (("Y_agesub", "H_agesup", "Y_agesup"), "The decade informs the age group.",
                              "By losses alone: at test nothing\npasses from one answer to the other.")}
FRAGMENTS = ({"X": (0, 1), "K": (0, -1), "Z": (2, 0)}, {"Z": (0, 0), "H_agesup": (1.6, 0), "Y_agesup": (3.2, 0)},
             {"Y_agesub": (0, -1), "H_agesup": (0, 1), "Y_agesup": (2, 1)})


def part(graph, nodes):
    """The arrows between some nodes, in the order of the graph: networkx's own subgraph has another order in every
    process"""
    return type(graph)((a, b, data) for a, b, data in graph.edges(data=True) if {a, b} <= set(nodes))


def figure_poster_causal() -> Figure:
    "The three claims of the causal perspective: the arrows, the paper's words in short, what the code does"
    from mkdcls.causal import figure_graph
    graph, fig = graphs()["paper"], blank_page(DOUBLE, 62)
    for i, ((name, (nodes, claim, here)), places) in enumerate(zip(GRAPH_CLAIMS.items(), FRAGMENTS)):
        ax = fig.add_axes((i / 3 + .01, .44, .31, .43))
        figure_graph(part(graph, nodes), ax=ax, places=places)
        fig.text(i / 3 + .012, .93, f"{'abc'[i]}   {name}", fontsize=8)
        fig.text(i / 3 + .012, .36, claim, fontsize=7.5, weight="bold", va="top")
        fig.text(i / 3 + .012, .26, "Here:", fontsize=7.5, style="italic", va="top")
        fig.text(i / 3 + .012, .18, here, fontsize=7, va="top", linespacing=1.35)
    return fig


# ---- the poster: what makes speech hard to classify

NOISE_NAMES = {"clean": "clean: studio", "reverb": "reverberation", "babble": "babble", "music": "music",
               "coloured": "coloured noise", "overlay": "a second voice"}


class Noisy(NamedTuple):
    "One utterance in every kind of noise"
    manifest: pd.DataFrame  # a row a kind, in the order of `NOISE_NAMES`; nothing differs but the line and its noise
    clean: np.ndarray  # `[6, N]` the voice before the line, six times the same
    speech: np.ndarray  # `[6, N]` what the line makes of the voices
    noise: np.ndarray  # `[6, N]`
    wave: np.ndarray  # `[6, N]` recordings


@lru_cache(maxsize=1)
def noisy(snr: float = 8.) -> Noisy:
    """One utterance over the telephone at `snr` dB in each kind of noise

    The room and the second voice have a quiet line.
    """
    row = corpus().query("duration > 2 and duration < 2.2 and true_agesub == '40s' and true_gender == 'female'").iloc[0]
    kind = list(NOISE_NAMES)
    m = pd.concat([row.to_frame().T.infer_objects()] * len(kind), ignore_index=True)
    m = m.assign(noise_kind=[k if k in ("reverb", "babble", "music") else "coloured" for k in kind], codec="mu-law",
                 noise_slope=1.5, rt60=.6, overlay_db=3.,
                 snr_telephone=[30. if k in ("reverb", "overlay") else snr for k in kind], snr_studio=40.)
    s = stages(m, channel=["studio" if k == "clean" else "telephone" for k in kind],
               overlay=[k == "overlay" for k in kind])
    n = int(s.n_samples[0])
    return Noisy(m, s.clean[:, :n], s.speech[:, :n], s.noise[:, :n], s.wave[:, :n])


def figure_poster_noise() -> Figure:
    "One utterance, clean and in five kinds of noise, as log-Mel pictures"
    o, fig = noisy(), blank_page(DOUBLE, 78, layout="constrained")
    axes = fig.subplots(2, 3, sharex=True, sharey=True)
    for i, (ax, (kind, text)) in enumerate(zip(axes.flat, NOISE_NAMES.items())):
        mel_picture(ax, log_mel(o.wave[i]))
        snr, below = o.manifest["snr_telephone"][i], o.manifest["overlay_db"][i]
        more = {"clean": "", "overlay": f", {below:.0f} dB below",
                "reverb": f", {1000 * o.manifest['rt60'][i]:.0f} ms"}.get(kind, f", {snr:.0f} dB SNR")
        letter(ax, f"{'abcdef'[i]}   {text}{more}")
    axes[0, 0].set(yticks=(0, 40, 80))
    fig.supxlabel("time (s)", fontsize=7.5)
    fig.supylabel("Mel band", fontsize=7.5)
    return fig


@lru_cache(maxsize=1)
def ageing(speakers: int = 12_000) -> tuple[pd.DataFrame, pd.DataFrame]:
    "Speakers' age and pause share; and the oracle's mean posterior over agesub at each age (two-year bins, 20 to 70)"
    people = draw_speakers(speakers, seed=(4, 15))
    p = pd.DataFrame(posterior(people, "agesub"),
                     columns=list(AGESUB)).groupby((people["age"] // 2 * 2 + 1).to_numpy()).mean()
    return (people[["age"]].assign(pause_share=latents(people)["pause_share"],
                                   agesub=[AGESUB[i] for i in (people["age"] // 10 - 2).astype(int)]), p)


LINE_STYLES = {"20s": ("-", "o"), "30s": ((0, (5, 1.2)), "s"), "40s": ((0, (1.2, 1)), "^"),
               "50s": ((0, (5, 1, 1, 1)), "D"), "60s+": ((0, (3, 1, 1, 1, 1, 1)), "v")}
TINTS = ("#0173b2", "#b86f00", "#02795a", "#b0307f", "#404040")


def figure_poster_ages() -> Figure:
    "How little a decade can be heard: one latent by decade, and what Bayes' rule makes of all of them"
    people, p = ageing()
    fig = blank_page(DOUBLE, 66, layout="constrained")
    left, right = fig.subplots(1, 2, width_ratios=(1, 1.6))
    for i, name in enumerate(AGESUB):
        low, q1, mid, q3, high = 100 * np.percentile(people.loc[people["agesub"] == name, "pause_share"],
                                                     (5, 25, 50, 75, 95))
        left.plot((low, high), (i, i), color=TINTS[i], lw=1.2)
        left.plot((q1, q3), (i, i), color=TINTS[i], lw=5, solid_capstyle="butt")
        left.plot(mid, i, LINE_STYLES[name][1], color="white", mec=TINTS[i], ms=5)
    left.set(yticks=range(5), yticklabels=AGESUB, xlabel="share of pauses in the speech (%)", ylim=(-.6, 4.6))
    letter(left, "a   One audible trait, by decade")
    for tint, (name, (ls, marker)) in zip(TINTS, LINE_STYLES.items()):
        right.plot(p.index, 100 * p[name], ls=ls, marker=marker, markevery=3, ms=4, mec="white", mew=.4, color=tint,
                   label=name)
    for edge in range(30, 70, 10): right.axvline(edge, color="0.75", lw=.6, zorder=0)
    right.set(xlabel="true age (years)", ylabel="mean posterior (%)", xlim=(20, 70), ylim=(0, None))
    right.legend(ncols=5, loc="upper center", frameon=False, columnspacing=1.2, handlelength=2.6, borderpad=.1)
    right.set(ylim=(0, 122), yticks=range(0, 101, 20))
    letter(right, "b   What Bayes' rule makes of ten such traits")
    return fig


@lru_cache(maxsize=1)
def mislabelled() -> tuple[np.ndarray, pd.Series]:
    """`[5, 5]` percent of each true agesub (row) that was written down as which (column)

    And where the labels came from, percent.
    """
    m = corpus()
    counts = np.zeros((5, 5))
    np.add.at(counts, tuple(m[c].map(AGESUB.index).to_numpy() for c in ("true_agesub", "agesub")), 1)
    return 100 * counts / counts.sum(1, keepdims=True), 100 * m["label_source"].value_counts(normalize=True)


def expected_sources(name: str = "LTV") -> dict[str, float]:
    """Percent of labels from each source, by the settings of the stand-in: an overlaid voice's labels come first,
    then the slip to the next decade"""
    s = STANDINS[name]
    over = s.p_overlay * s.overlay_label
    return {"own": 100 * (1 - over) * (1 - s.label_noise), "adjacent": 100 * (1 - over) * s.label_noise,
            "overlay": 100 * over}


def figure_poster_labels() -> Figure:
    "Label noise of the telephone stand-in: who is written down as what, and why"
    share, source = mislabelled()
    fig = blank_page(DOUBLE, 66, layout="constrained")
    left, right = fig.subplots(1, 2, width_ratios=(1.15, 1))
    left.imshow(share, cmap=BLUES, norm=mpl.colors.PowerNorm(.5, 0, 200), aspect="auto")
    for i in range(5):
        for j in range(5):
            left.text(j, i, f"{share[i, j]:.1f}", ha="center", va="center", fontsize=7.5,
                      weight="bold" if i == j else "normal")
        left.add_patch(Rectangle((i - .48, i - .46), .96, .92, fill=False, ec="k", lw=1.1))
    left.set(xticks=range(5), yticks=range(5), xticklabels=AGESUB, yticklabels=AGESUB, xlabel="label written down",
             ylabel="true agesub")
    left.tick_params(length=0)
    letter(left, "a   Of each true decade, % labelled as")
    words = {"own": "the speaker's own", "adjacent": "the next decade", "overlay": "the second voice's"}
    wanted = expected_sources()
    for y, (name, hatch) in enumerate((("overlay", "////"), ("adjacent", "...."), ("own", ""))):
        right.barh(y, source[name], color=("#e8c9a8", "#9ecae8", "0.85")[y], hatch=hatch, ec="0.3", lw=.7, height=.6)
        right.plot((wanted[name],) * 2, (y - .4, y + .4), color="k", lw=1.6)
        right.text(max(source[name], wanted[name]) + 2, y, f"{source[name]:.1f} %", va="center", fontsize=7.5)
    right.set(yticks=range(3), yticklabels=[words[k] for k in ("overlay", "adjacent", "own")],
              xlabel="utterances (%); black tick: as set", xlim=(0, 105))
    letter(right, "b   Whose label it is")
    return fig


# ---- the poster: method

class Mixed(NamedTuple):
    "The parts of Eq. 1, `[T, 80]` dB each, mean-normalised"
    normal: np.ndarray; specaug: np.ndarray; smooth: np.ndarray; mixup: np.ndarray


@lru_cache(maxsize=1)
def mixed() -> Mixed:
    "x_normal, its SpecAugment copy, the copy's running mean, and x_mixup"
    settings = MixupSettings()
    waves = torch.from_numpy(noisy().wave[:1].copy())
    x = mean_norm(*fbank(waves))
    n = torch.tensor([x.shape[1]])
    draws = random_numbers(1, settings.specaug.n_draws + 1, torch.Generator().manual_seed(3))
    copy = spec_augment(x, n, settings.specaug, draws=draws[:, :-1])
    smooth = temporal_mean(copy, n, settings.window, settings.edge, settings.kind)
    return Mixed(*(v[0].numpy()
                   for v in (x, copy, smooth,
                             mixup(x, n, settings.lam, settings.window, specaug=settings.specaug, draws=draws))))


def figure_poster_mixup() -> Figure:
    "Eq. 1 in four pictures"
    o, s = mixed(), MixupSettings()
    fig = blank_page(DOUBLE, 46, layout="constrained")
    axes = fig.subplots(1, 4, sharex=True, sharey=True)
    titles = ("a   $x_{normal}$", "b   $x_{specaug}$", f"c   mean of b over {10 * s.window} ms",
              f"d   $x_{{mixup}}$ = {s.lam} a + {1 - s.lam:.1f} c")
    low, high = np.percentile(o.normal, (1, 99.8))
    for ax, x, title in zip(axes, o, titles):
        mel_picture(ax, x, vmin=low, vmax=high)
        letter(ax, title)
    axes[0].set(yticks=(0, 40, 80), ylabel="Mel band")
    fig.supxlabel("time (s)", fontsize=7.5)
    return fig


@lru_cache(maxsize=1)
def growing() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    "L_dep (corrected) of four pairs of answers for a speaker of the 30s, as both heads grow surer of them"
    p = np.linspace(.4, .95, 56)
    maps = np.stack([punishment("30s", p=float(v)) for v in p])
    where = {"both wrong, conflict": (3, 2), "agesub wrong, conflict": (3, 0), "agesup wrong, conflict": (1, 1),
             "agree, right or wrong": (2, 1)}
    return p, {name: maps[:, i, k] for name, (i, k) in where.items()}


def figure_poster_dependency() -> Figure:
    "The punishment grows with the confidence in contradicting answers; agreeing answers go free, wrong ones too"
    p, curves = growing()
    fig = blank_page(SINGLE, 66, layout="constrained")
    ax = fig.subplots()
    pairs = ("50s and 60+", "50s and 20-30", "30s and 40-50", "40s and 40-50")
    for (name, y), tint, (ls, marker), pair in zip(curves.items(), TINTS, LINE_STYLES.values(), pairs):
        ax.plot(100 * p, y, ls=ls, marker=marker, markevery=(4, 11), ms=4, mec="white", mew=.4, color=tint,
                label=f"{name}: {pair}")
    ax.set(xlabel="probability each head gives its answer (%)", ylabel=r"$\mathcal{L}_{dep}$, Eq. 5 corrected (nats)",
           ylim=(-1, None))
    ax.legend(loc="upper left", frameon=False, title="truth: 30s", title_fontsize=7, alignment="left", borderpad=.1,
              handlelength=2.6)
    return fig


def figure_poster_method() -> Figure:
    "The method in one picture, as README.md shows it (results/picture.py)"
    return picture.figure_method()


# ---- the poster: results

def recorded(folder: Path) -> tuple[pd.DataFrame, dict]:
    "Gains over base on the pooled test set from a results folder, with the marks of its table"
    folder = Path(folder)
    if not (folder / "gains.csv").exists() or not (folder / "table1.csv").exists():
        have = sorted(f.parent.name for f in (report.default_folder("x").parent).glob("*/gains.csv"))
        raise FileNotFoundError(f"no table1.csv with gains.csv in {folder.name}: run make table1 for it first; "
                                f"there are {have}")
    g = pd.read_csv(folder / "gains.csv", dtype={"row": str, "base_row": str, "protocol": str}, keep_default_na=True)
    g["kd_loss"] = g["kd_loss"].fillna("")
    return g[g["scope"] == "pooled"].reset_index(drop=True), report.marks(folder)


WHAT = {"standin": "synthetic stand-in speech", "real": "a little real speech (Speech Accent Archive, Common Voice)"}


def figure_poster_results(folder: Path | None = None) -> Figure:
    "The gains of a results folder beside the paper's, with the protocol's word for each"
    table, marked = recorded(folder or report.default_folder("standin-laptop"))
    first, n = table.iloc[0], int(table["n_seeds"].min())
    fig = blank_page(DOUBLE, 100, layout="constrained")
    axes = fig.subplots(1, 2, sharey=True)
    for ax, task in zip(axes, ("agesup", "gender")):
        part = table[table["task"] == task].reset_index(drop=True)
        y = part.index + 1.2 * part["block"].ne(part["block"].shift()).cumsum()
        ax.axvspan(-MARGIN, MARGIN, color="0.9", label=f"margin, ±{MARGIN:g} point")
        ax.axvline(0, color="0.5", lw=.7)
        ax.hlines(y, part["low"], part["high"], color=FIRST, lw=1.8)
        ax.plot(part["gain"], y, "o", color=FIRST, ms=5, label="ours, 95 % interval")
        ax.plot(part["as_trained"], y, "x", color="0.25", ms=4.5, mew=1.3, label="ours, as trained")
        ax.plot(part["paper_gain"], y, "d", color=SECOND, mfc="white", ms=5, mew=1.3, label="paper (its own corpora)")
        right = max(part[["high", "paper_gain", "gain"]].max())
        left = min(part[["low", "paper_gain", "as_trained", "gain"]].min())
        ax.set_xlim(left - 1, right + .45 * (right - left))
        for at, (_, g) in zip(y, part.iterrows()):
            ax.text(.995, at, g["status"] + marked.get((g["row"], task), ""), transform=ax.get_yaxis_transform(),
                    ha="right", va="center", fontsize=7)
        names = [f"{g['row']}  {g['method']}" + (f" ({g['kd_loss']})" if g["kd_loss"] else "")
                 for _, g in part.iterrows()]
        ax.set(yticks=list(y), yticklabels=names, xlabel=f"{task} macro F1, gain over base (points)")
        for block, where in y.groupby(part["block"]):
            ax.text(0, where.min() - .75, block, transform=ax.get_yaxis_transform(), fontsize=7, style="italic",
                    va="center")
        ax.set_ylim(y.max() + .7, y.min() - 1.2)
        ax.tick_params(axis="y", length=0)
    what = WHAT.get(first["corpus"], "corpora of your own")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=4, frameon=False,
               columnspacing=1.6, alignment="left",
               title=f"Measured on {what}, not the paper's corpora.", title_fontproperties=dict(weight="bold", size=8))
    few = "; fewer than 5 decide nothing" if n < 5 else ""
    notes = {"†": "One class is answered nearly always: compares nothing.",
             "‡": "By the protocol, too small to compare anything."}
    dagger = "".join(f"\n{m} {text}" for m, text in notes.items() if any(m in v for v in marked.values()))
    fig.supxlabel(f"Preset {first['preset']}, {n} seed{'s' * (n > 1)}{few}. Status by protocol {first['protocol']}. "
                  f"As trained: without re-estimated BatchNorm.{dagger}", fontsize=7, x=.008, ha="left",
                  linespacing=1.35)
    return fig


# ---- all of them

DRAWINGS = {"figure1": figure1, "figure2": figure2, "figure3": figure3, "figure3_resnet": partial(figure3, "resnet"),
            "figure4": figure4,
            "poster_noise": figure_poster_noise, "poster_ages": figure_poster_ages,
            "poster_labels": figure_poster_labels, "poster_method": figure_poster_method,
            "poster_mixup": figure_poster_mixup, "poster_dependency": figure_poster_dependency,
            "poster_causal": figure_poster_causal, "poster_results": figure_poster_results}


def figure_by_name(name: str, **how) -> Figure:
    "A figure by name; `folder` is for poster_results"
    if name not in DRAWINGS: raise ValueError(f"no figure {name!r}; choose one of {', '.join(DRAWINGS)}")
    with mpl.rc_context(STYLE):
        fig = DRAWINGS[name](**how)
        fig.draw_without_rendering()
        fig.set_layout_engine("none")  # laid out once, not again for every file
    return fig


def leave(fig: Figure, folder: Path, name: str):
    "SVG and PNG under <folder>/figures, the same bytes every time; the PNG with 220 dots per inch, for print"
    if name not in DRAWINGS: raise ValueError(f"no figure {name!r}; choose one of {', '.join(DRAWINGS)}")
    with mpl.rc_context(STYLE): figures.save_figure(fig, folder, name, png(fig, 220, 52))


def png(fig: Figure, dpi: int, levels: int) -> bytes:
    "A PNG with so many levels of red, green and blue, without date or version"
    with mpl.rc_context(STYLE):
        fig.savefig(raw := io.BytesIO(), format="png", dpi=dpi, pil_kwargs=dict(compress_level=1))
    step = 255 / (levels - 1)
    coarse = Image.open(raw).convert("RGB").point([round(round(v / step) * step) for v in range(256)] * 3)
    coarse.quantize(256, dither=Image.Dither.NONE).save(out := io.BytesIO(), "png", dpi=(dpi, dpi))
    return out.getvalue()


def as_image(fig: Figure):
    "For a notebook: the picture as a small PNG"
    from IPython.display import Image as Shown
    return Shown(png(fig, 84, 8))
