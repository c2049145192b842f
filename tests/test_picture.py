"The drawn picture of the method: legible, nothing over anything else, the same bytes each time, and the committed one is this one."
import io
from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from mkdcls.results import picture
from mkdcls.engine.store import PROJECT


@pytest.fixture(scope="module")
def drawn():
    fig = picture.figure_method()
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return fig, canvas.get_renderer()


def texts(drawn): return {t.get_text(): t.get_window_extent(drawn[1]) for t in drawn[0].axes[0].texts if t.get_text()}


def shafts(drawn):
    "The arrows' lines, in pixels"
    ax = drawn[0].axes[0]
    return [ax.transData.transform(line.get_xydata()) for line in ax.lines if len(line.get_xdata()) == 2]


def crosses(a, b, c, d):
    "Do the segments ab and cd cut each other inside? Touching ends do not count"
    def side(p, q, r): return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])
    return side(a, b, c) * side(a, b, d) < -1e-6 and side(c, d, a) * side(c, d, b) < -1e-6


def test_texts_are_apart_and_inside(drawn):
    boxes, (w, h) = texts(drawn), drawn[1].get_canvas_width_height()
    assert len(boxes) > 25
    assert not [t for t, b in boxes.items() if b.x0 < 2 or b.y0 < 2 or b.x1 > w - 2 or b.y1 > h - 2]
    assert not [(s, t) for (s, a), (t, b) in combinations(boxes.items(), 2) if a.overlaps(b)]


def test_boxes_are_apart(drawn):
    "Only the badge Z lies on others: on the two halves that make it"
    boxes = [p.get_window_extent(drawn[1]) for p in drawn[0].axes[0].patches if p.get_zorder() >= 0]
    def on(a, b): return min(a.x1, b.x1) - max(a.x0, b.x0) > 2 and min(a.y1, b.y1) - max(a.y0, b.y0) > 2
    both = [(i, j) for (i, a), (j, b) in combinations(enumerate(boxes), 2) if on(a, b)]
    badge = max((i for pair in both for i in pair), key=lambda i: sum(i in pair for pair in both))
    assert len(boxes) >= 17 and len(both) == 2 and all(badge in pair for pair in both)


def test_arrows_cross_nothing(drawn):
    lines = shafts(drawn)
    assert len(lines) >= 25
    assert not [(i, j) for (i, p), (j, q) in combinations(enumerate(lines), 2) if crosses(*p, *q)]
    def through(line, b): return any(b.contains(*p) for p in np.linspace(*line, 60))
    assert not [t for t, b in texts(drawn).items() for line in lines if through(line, b)]


def test_every_equation_and_symbol_is_there(drawn):
    said = " ".join(texts(drawn))
    wanted = ("bf{Eq. 1}", "Eq. 2", "Eq. 3", "Eq. 4", "Eq. 5", "Teacher", "Student", "x_{normal}", "x_{mixup}", "H_{agesup}", "Y_{agesub}", "0.25")
    assert not [w for w in wanted if w not in said]
    assert {"X", "K", "Z", "Z = [X; K]"} <= set(texts(drawn))


def test_eq1_of_the_drawing():
    "The third view is 0.7 of the first and 0.3 of the second, as its arrows say"
    x, smooth, mixed = picture.spectrograms()
    assert np.allclose(mixed, .7 * x + .3 * smooth) and x.shape == (20, 30) and np.abs(x - smooth).max() > .5


def test_same_bytes(tmp_path):
    for name in ("a", "b"): picture.save_method(picture.figure_method(), tmp_path, name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert not [w for w in (b"<dc:date>", b"Matplotlib") if w in (tmp_path / "a.svg").read_bytes()]
    assert Image.open(tmp_path / "a.png").size == (1800, 912)


def test_committed_picture_is_this_one(tmp_path):
    "By eye, not by bytes: another version of matplotlib may set a letter a pixel aside"
    picture.save_method(picture.figure_method(), tmp_path)
    new, old = (np.asarray(Image.open(io.BytesIO((folder / "method.png").read_bytes())).convert("L"), float) for folder in (tmp_path, PROJECT / "paper" / "figures"))
    assert new.shape == old.shape and np.abs(new - old).mean() < 3, "draw it again: run nbs/00_tour.ipynb and commit paper/figures"
