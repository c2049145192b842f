"The paper's figures: legible, nothing over anything else, true to what they show, the same bytes in every process."
import hashlib
import json
import os
import subprocess
import sys
from itertools import combinations

import matplotlib as mpl
import networkx as nx
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.legend import Legend
from matplotlib.text import Text
from PIL import Image

from mkdcls.encoders import encoder, n_params
from mkdcls.results import diagrams, report
from mkdcls.results.diagrams import DOUBLE, DRAWINGS, MM, SINGLE, SMALLEST
from mkdcls.engine.store import PROJECT
from mkdcls.labels import AGESUB, AGESUP, PARENT, TASKS

NAMES = tuple(DRAWINGS)


@pytest.fixture(scope="module")
def figures():
    "Each figure, laid out once, with its renderer"
    done = {}
    def get(name):
        if name not in done:
            fig = diagrams.figure_by_name(name)
            with mpl.rc_context(diagrams.STYLE): (canvas := FigureCanvasAgg(fig)).draw()
            done[name] = fig, canvas.get_renderer()
        return done[name]
    return get


def words(fig):
    "Texts that print: not empty, not hidden, inside the axis they label"
    hidden = {t for ax in fig.axes if not ax.axison for axis in (ax.xaxis, ax.yaxis) for t in axis.findobj(Text)}
    for ax in fig.axes:  # ticks beyond the limits are kept by matplotlib, and not drawn
        for axis, (low, high) in ((ax.xaxis, sorted(ax.get_xlim())), (ax.yaxis, sorted(ax.get_ylim()))):
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not low - 1e-9 <= tick.get_loc() <= high + 1e-9: hidden |= {tick.label1, tick.label2}
    return [t for t in fig.findobj(Text) if t.get_text().strip() and t.get_visible() and t not in hidden]


@pytest.mark.parametrize("name", NAMES)
def test_letters_are_large_enough(figures, name):
    fig = figures(name)[0]
    assert words(fig) and not [(t.get_text(), t.get_fontsize()) for t in words(fig) if t.get_fontsize() < SMALLEST]


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_inside_and_apart(figures, name):
    fig, renderer = figures(name)
    w, h = renderer.get_canvas_width_height()
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in words(fig)]
    assert not [t for t, b in boxes if b.x0 < 0 or b.y0 < 0 or b.x1 > w or b.y1 > h]
    def over(a, b): return min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
    assert not [(s, t) for (s, a), (t, b) in combinations(boxes, 2) if over(a, b)]


@pytest.mark.parametrize("name", [n for n in NAMES if n != "poster_method"])
def test_width_is_a_column(figures, name):
    assert round(figures(name)[0].get_figwidth() / MM) in (SINGLE, DOUBLE)


def test_legends_hide_no_curve(figures):
    "The legend of a plot of lines lies on none of their points"
    for name in ("poster_ages", "poster_dependency"):
        fig, renderer = figures(name)
        for ax in fig.axes:
            if ax.get_legend() is None: continue
            frame = ax.get_legend().get_window_extent(renderer)
            points = np.concatenate([ax.transData.transform(line.get_xydata()) for line in ax.lines if len(line.get_xdata()) > 2])
            assert not any(frame.contains(*p) for p in points), name
    assert figures("poster_results")[0].findobj(Legend)


def test_two_voices_in_grey_and_for_the_colour_blind(figures):
    "Marker and dash differ, so that colour is never alone; and the colours differ by more than hue"
    low = figures("figure1")[0].axes[2]
    a, b = (line for line in low.get_legend().get_lines())
    assert a.get_marker() != b.get_marker() and a.get_linestyle() != b.get_linestyle()
    for lines in (diagrams.LINE_STYLES.values(), ):
        assert len({m for _, m in lines}) == 5 and len({str(ls) for ls, _ in lines}) == 5
    # deuteranopia, complete (Machado et al. 2009), on linear light
    blind = np.array([[.367322, .860646, -.227968], [.280085, .672501, .047413], [-.011820, .042940, .968881]])
    def seen(colour):
        c = np.array(mpl.colors.to_rgb(colour))
        return blind @ np.where(c <= .04045, c / 12.92, ((c + .055) / 1.055) ** 2.4)
    for p, q in combinations(diagrams.TINTS, 2): assert np.abs(seen(p) - seen(q)).max() > .06, (p, q)
    assert np.abs(seen(diagrams.FIRST) - seen(diagrams.SECOND)).max() > .2


# ---- the same bytes, in another process

SCRIPT = """
import hashlib, json, sys
from pathlib import Path
from mkdcls.results import diagrams
out = Path(sys.argv[1])
for name in diagrams.DRAWINGS: diagrams.leave(diagrams.figure_by_name(name), out, name)
print(json.dumps({f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted((out / "figures").iterdir())}))
"""


def test_same_bytes_in_two_processes(tmp_path):
    runs = [subprocess.Popen([sys.executable, "-c", SCRIPT, tmp_path / n], stdout=subprocess.PIPE, text=True, cwd=PROJECT, env=os.environ | {"PYTHONHASHSEED": seed})
            for n, seed in (("a", "1"), ("b", "2"))]  # sets and their order differ between the two
    a, b = (json.loads(r.communicate(timeout=900)[0]) for r in runs)
    assert a == b and set(a) == {f"{n}.{kind}" for n in NAMES for kind in ("svg", "png")}
    text = (tmp_path / "a" / "figures" / "figure3.svg").read_bytes()
    assert b"<dc:date>" not in text and hashlib.sha256(text).hexdigest() == a["figure3.svg"]
    with Image.open(tmp_path / "a" / "figures" / "figure3.png") as im: assert abs(im.width - DOUBLE * MM * 220) <= 1 and im.info["dpi"][0] == pytest.approx(220, abs=1)
    heavy = {f.name: f.stat().st_size for f in (tmp_path / "a" / "figures").iterdir() if f.stat().st_size > 450_000}
    assert not heavy


# ---- facts

def test_overlay_lies_as_far_below_as_its_label_says():
    o = diagrams.overlaid()
    ratio = 10 * np.log10((o.first.astype(float) ** 2).sum() / (o.second.astype(float) ** 2).sum())
    assert ratio == pytest.approx(o.row["overlay_db"], abs=1e-3) and 0 < o.row["overlay_db"] < 6
    s = diagrams.said(o.row)
    assert s["first"] == "female / 20-30 / 20s" and s["second"] == s["written"] == "male / 40-50 / 50s"


def test_f0_tracks_are_in_the_sound():
    "Where the two-voice picture shows a track, the voice's own spectrum has its strongest low partial"
    o = diagrams.overlaid()
    for name, wave in (("first", o.first), ("second", o.second)):
        f0, cells = o.f0[name], np.abs(np.fft.rfft(np.stack([wave[i:i + 800] * np.hanning(800) for i in range(0, len(wave) - 800, 32)]), 4000))
        f = np.fft.rfftfreq(4000, 1 / 8000)
        centre = np.arange(len(cells)) + 12  # frames of 4 ms; the window is 100 ms long
        ok = []
        for c, line in zip(centre, cells):
            around = f0[c - 12:c + 13]
            if np.isnan(around).any() or np.ptp(around) > .06 * around.mean(): continue
            harmonics = np.interp(np.arange(1, 4) * np.mean(around), f, line).sum()
            between = np.interp((np.arange(1, 4) + .5) * np.mean(around), f, line).sum()
            ok.append(harmonics > 2 * between)
        assert len(ok) > 20 and np.mean(ok) > .9, (name, len(ok), np.mean(ok))


def test_punishment_by_hand():
    "A wrong answer at 60 % leaves 10 % (agesub) or 20 % (agesup) for the truth; the answer itself and the rest cost (p - m)^4 log of what is left"
    negative = lambda p: -(p - .05) ** 4 * np.log(1 - p + .05)
    sub = -np.log(.1) + negative(.6) + 3 * negative(.1)
    sup = -np.log(.2) + negative(.6) + negative(.2)
    cost = diagrams.punishment("30s")
    assert cost[1, 1:] == pytest.approx(sup - 1)
    assert cost[2:, 0] == pytest.approx(sub - 1)
    assert cost[[0, 3, 4], [1, 2, 1]] == pytest.approx(sub * sup - 1)
    assert (cost[np.arange(5), list(PARENT)] == 0).all()
    assert np.allclose(diagrams.punishment("30s", "literal"), -1 - cost)
    for truth in AGESUB:
        c = diagrams.punishment(truth)
        agree = np.arange(3) == np.array(PARENT)[:, None]
        assert (c[agree] == 0).all() and (c[~agree] > 0).all()


def test_map_shows_the_values(figures):
    shown = [t.get_text() for t in figures("figure2")[0].axes[1].texts]
    assert shown == [f"{v:.2f}" for v in diagrams.punishment("30s").flatten()]
    printed = [t.get_text() for t in figures("figure2")[0].axes[2].texts]
    assert printed == [f"{v:.2f}".replace("-", "−") for v in diagrams.punishment("30s", "literal").flatten()]


@pytest.mark.parametrize("family", ["ecapa", "resnet"])
def test_shapes_are_the_modules(figures, family):
    t = diagrams.layers(family)
    for size, part in (("teacher", "teacher"), ("student", "student")):
        e = encoder(family, size)
        assert t.loc[(part, "all"), "params"] == n_params(e)
        assert t.loc[(part, "pool"), "outs"] == (e.pooled_dim,) and t.loc[(part, "fc"), "outs"] == (256,)
        chain = t.loc[part].query("name != 'all'")
        assert chain["params"].sum() == n_params(e) - (n_params(e.norm0) if family == "resnet" else 0)
    assert t.loc[("z", "z"), "outs"] == (512,) and t.loc[("agesub", "score"), "outs"] == (len(AGESUB),) and t.loc[("agesup", "score"), "outs"] == (len(AGESUP),)
    said = [x.get_text() for x in figures("figure3" if family == "ecapa" else "figure3_resnet")[0].axes[0].texts]
    for part in ("teacher", "student"):
        for name, r in t.loc[part].iterrows():
            if name not in ("all", "norm", "norm_embed"): assert diagrams.times(r["outs"]) in said
    assert "Z: 512" in said and "K: 256" in said and "X: 256" in said


def test_kinds_of_noise():
    o = diagrams.noisy()
    assert (o.clean == o.clean[0]).all() and len(o.clean) == len(diagrams.NOISE_NAMES)
    for i, kind in enumerate(diagrams.NOISE_NAMES):
        if kind not in ("babble", "music", "coloured"): continue
        voice = diagrams.stages(o.manifest.iloc[[i]], channel="telephone", overlay=False)
        n = o.wave.shape[1]
        snr = 10 * np.log10((voice.speech[0, :n].astype(float) ** 2).sum() / (o.noise[i].astype(float) ** 2).sum())
        assert snr == pytest.approx(o.manifest["snr_telephone"][i], abs=.01), kind


def test_label_noise_is_as_set():
    share, source = diagrams.mislabelled()
    want, n = diagrams.expected_sources(), len(diagrams.corpus())
    assert sum(want.values()) == pytest.approx(100) and want["overlay"] == pytest.approx(5)
    for name, p in want.items(): assert abs(source[name] - p) < 3.5 * 100 * np.sqrt(p / 100 * (1 - p / 100) / n), name
    assert np.allclose(share.sum(1), 100) and (np.diag(share) > 80).all()
    far = np.abs(np.arange(5)[:, None] - np.arange(5)) > 1
    assert share[far].max() < 2  # a slip goes to the next decade; only a second voice goes further


def test_boundaries_are_ambiguous():
    people, p = diagrams.ageing()
    assert np.allclose(p.sum(axis=1), 1) and p.index[0] == 21 and p.index[-1] == 69
    assert abs(p.loc[29, "20s"] - p.loc[29, "30s"]) < .1 and p.loc[25].max() < .5 < p.loc[67, "60s+"]


def test_mixup_is_equation_1():
    o = diagrams.mixed()
    assert np.allclose(o.mixup, .7 * o.normal + .3 * o.smooth, atol=1e-4)
    assert (o.specaug == 0).mean() > .02 and o.normal.shape == o.mixup.shape and o.normal.shape[1] == 80


def test_growing_is_the_map():
    p, curves = diagrams.growing()
    at = int(np.abs(p - diagrams.SURE).argmin())
    assert p[at] == pytest.approx(diagrams.SURE)
    cost = diagrams.punishment("30s")
    assert [v[at] for v in curves.values()] == pytest.approx([cost[3, 2], cost[3, 0], cost[1, 1], 0])
    assert all((np.diff(v) > 0).all() for n, v in curves.items() if "conflict" in n)


def test_results_panel_is_the_record(figures):
    folder = report.default_folder("standin-laptop")
    table, marked = diagrams.recorded(folder)
    fig, _ = figures("poster_results")
    said = " ".join(t.get_text() for t in fig.findobj(Text))
    assert "synthetic stand-in speech, not the paper's corpora" in said and f"{table['n_seeds'].min()} seed" in said and f"Preset {table['preset'].iloc[0]}" in said
    for ax, task in zip(fig.axes, ("agesup", "gender")):
        part = table[table["task"] == task]
        dots = next(line for line in ax.lines if line.get_marker() == "o")
        assert list(dots.get_xdata()) == list(part["gain"])
        status = [t.get_text() for t in ax.texts if t.get_ha() == "right"]
        assert status == [s + marked.get((r, task), "") for s, r in zip(part["status"], part["row"])]


def test_graphs_are_those_of_page_14(figures):
    g = diagrams.graphs()
    heads = [e for t in TASKS for e in (("Z", f"H_{t}"), (f"H_{t}", f"Y_{t}"))]
    assert set(g["paper"].edges) == {("X", "Z"), ("K", "Z"), *heads, ("Y_agesub", "H_agesup"), ("Y_agesub", "Y_agesup")}
    assert {("U", "X"), ("U", "K")} <= set(g["code"].edges) and not {"U", "M"} & set(g["paper"])
    for ax, graph in zip(figures("figure4")[0].axes, g.values()):
        assert sum(t.arrow_patch is not None for t in ax.texts if hasattr(t, "arrow_patch")) == graph.number_of_edges()


def test_the_three_claims_are_arrows_of_the_paper(figures):
    "And what is said of the code beside them holds in its graph"
    g = diagrams.graphs()
    parts = [diagrams.part(g["paper"], nodes) for nodes, _, _ in diagrams.GRAPH_CLAIMS.values()]
    assert [p.number_of_edges() for p in parts] == [2, 2, 3] and all(set(p) == set(places) for p, places in zip(parts, diagrams.FRAGMENTS))
    at_test = nx.DiGraph([e[:2] for e in g["code"].edges(data="when") if e[2] != "training"])
    answers = {f"Y_{t}" for t in TASKS}
    assert nx.is_d_separator(at_test, {"X", "K"}, answers, {"Z"})
    assert not any(e[0] in answers for e in at_test.edges) and any(e[0] == "Y_agesub" for e in g["code"].edges)


# ---- bad input

def test_unknown_figure_lists_what_there_is(tmp_path):
    with pytest.raises(ValueError, match="no figure 'figure5'; choose one of figure1, figure2"): diagrams.figure_by_name("figure5")
    with pytest.raises(ValueError, match="no figure 'figure5'; choose one of figure1"): diagrams.leave(diagrams.blank_page(SINGLE, 20), tmp_path, "figure5")
    with pytest.raises(ValueError, match="no agesub '35'; choose one of .*'30s'"): diagrams.punishment("35")
    with pytest.raises(ValueError, match="no encoder family 'lstm'; choose one of"): diagrams.layers("lstm")
    with pytest.raises(ValueError, match="no scale 'huge'; choose one of"): diagrams.layers("ecapa", "huge")


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write to .*choose another folder"): diagrams.leave(diagrams.blank_page(SINGLE, 20), tmp_path / "file", "figure1")


def test_results_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="run make table1 for it first; there are .*standin-laptop"): diagrams.recorded(tmp_path)


def test_nothing_is_left_behind():
    "Drawing asks no global generator and leaves no open pyplot figure"
    import matplotlib.pyplot as plt
    torch.manual_seed(5); np.random.seed(5)
    before = torch.get_rng_state().clone(), np.random.get_state()[1].copy(), plt.get_fignums()
    diagrams.layers.cache_clear()
    for name in ("figure3", "poster_mixup", "poster_dependency"): diagrams.figure_by_name(name)
    assert torch.equal(before[0], torch.get_rng_state()) and (before[1] == np.random.get_state()[1]).all() and plt.get_fignums() == before[2]
