"""Scores, error rates and their bootstrap: against SpeechBrain, against the usual recipe with scikit-learn and SciPy, and by properties."""
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from mkdcls.engine.doors import torchaudio
from mkdcls.verification.scores import DENSE, alignment, bootstrap_trials, det, eer, enrol, fuse_embeddings, fuse_scores, min_dcf, over_seeds, score, unit


def trials(seed, n=400, levels=None, share=.2, d=2.):
    "Scores and targets; `levels` rounds the scores, so that many are equal"
    rng = np.random.default_rng(seed)
    y = np.r_[True, False, rng.random(n - 2) < share]
    s = rng.standard_normal(n) + d * y
    return (s if levels is None else (s * levels).round() / levels), y


@st.composite
def lists(draw):
    "Few trials, few different scores, both classes"
    n = draw(st.integers(2, 40))
    s = np.array(draw(st.lists(st.integers(-4, 4), min_size=n, max_size=n)), float)
    y = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    y[0], y[1] = True, False
    return s, y


# ---- against others

@pytest.fixture(scope="module")
def speechbrain():
    torchaudio()
    pytest.importorskip("speechbrain")
    from speechbrain.utils import metric_stats
    return metric_stats


@pytest.mark.parametrize("levels", [None, 8, 2])
@pytest.mark.parametrize("seed", range(4))
def test_eer_beside_speechbrain(speechbrain, seed, levels):
    "Theirs is the mean of both rates where they are nearest: within half a step of the curve"
    s, y = trials(seed, levels=levels)
    theirs = 100 * speechbrain.EER(torch.tensor(s[y]), torch.tensor(s[~y]))[0]
    p_miss, p_fa, _ = det(s, y)
    i = int(np.searchsorted(p_miss - p_fa, 0))
    step = 100 * max(p_miss[i] - p_miss[i - 1], p_fa[i - 1] - p_fa[i])
    assert abs(eer(s, y) - theirs) <= step / 2 + 1e-4
    if levels is None: assert step <= 100 / min(y.sum(), (~y).sum()) + 1e-9


@pytest.mark.parametrize("costs", [(10., 1., .01), (1., 1., .01), (1., 1., .05)])
@pytest.mark.parametrize("levels", [None, 2])
def test_min_dcf_beside_speechbrain(speechbrain, levels, costs):
    "Theirs is not normalised, and never accepts all, which costs more than rejecting all at these priors"
    s, y = trials(5, levels=levels)
    theirs = speechbrain.minDCF(torch.tensor(s[y]), torch.tensor(s[~y]), *costs)[0]
    c_miss, c_fa, p = costs
    assert_close(min_dcf(s, y, *costs), theirs / min(c_miss * p, c_fa * (1 - p)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_rates_beside_the_usual_recipe(seed):
    "EER: the root of 1 - x - tpr(x) on scikit-learn's ROC; minDCF: the least cost on its points"
    from scipy.interpolate import interp1d
    from scipy.optimize import brentq
    from sklearn.metrics import roc_curve
    s, y = trials(seed, 2000)
    fpr, tpr, _ = roc_curve(y, s, drop_intermediate=False)
    assert_close(eer(s, y), 100 * brentq(lambda x: 1 - x - interp1d(fpr, tpr)(x), 0, 1), rtol=0, atol=1e-6)
    assert_close(min_dcf(s, y), float((.1 * (1 - tpr) + .99 * fpr).min() / .1), rtol=0, atol=1e-12)


def test_eer_with_ties_is_on_the_straight_line():
    "Two scores in all: the ROC is one corner; the recipe's interpolation and ours agree at it"
    s, y = np.array([1, 1, 0, 1, 0, 0, 0, 0.]), np.array([1, 1, 1, 0, 0, 0, 0, 0], bool)  # points (p_fa, p_miss): (1, 0), (1/5, 1/3), (0, 1)
    x = (5 / 12) / (1 + 5 / 12)  # p_miss = (1 - p_fa)·5/12 between (1, 0) and (1/5, 1/3)
    assert_close(eer(s, y), 100 * x, rtol=0, atol=1e-9)


# ---- properties

@given(lists())
@settings(max_examples=200, deadline=None)
def test_curve(case):
    s, y = case
    p_miss, p_fa, threshold = det(s, y)
    assert p_miss[0] == 0 and p_fa[0] == 1 and p_miss[-1] == 1 and p_fa[-1] == 0 and threshold[-1] == math.inf
    assert (np.diff(p_miss) >= 0).all() and (np.diff(p_fa) <= 0).all() and (np.diff(threshold) > 0).all()
    for m, f, at in zip(p_miss, p_fa, threshold): assert math.isclose(m, (s[y] < at).mean()) and math.isclose(f, (s[~y] >= at).mean(), abs_tol=1e-12)


@given(lists())
@settings(max_examples=200, deadline=None)
def test_bounds_and_symmetry(case):
    "Exchanging the classes and the sign exchanges the errors; repeating a list changes nothing; nobody costs more than rejecting all"
    s, y = case
    e, c = eer(s, y), min_dcf(s, y)
    assert 0 <= e <= 100 and 0 <= c <= 1
    assert math.isclose(eer(-s, ~y), e, abs_tol=1e-9)
    assert math.isclose(min_dcf(-s, ~y, c_miss=1., c_fa=10., p_target=.99), c, abs_tol=1e-9)
    assert math.isclose(eer(np.tile(s, 3), np.tile(y, 3)), e, abs_tol=1e-9) and math.isclose(min_dcf(np.tile(s, 3), np.tile(y, 3)), c, abs_tol=1e-9)
    assert math.isclose(eer(3 * s - 7, y), e, abs_tol=1e-9)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.integers(1, 60), st.sampled_from([None, True, False]), st.sampled_from([1, 7, 2**24]),
       st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_score_is_the_mean_cosine(M, N, S, n, dense, block, seed):
    g = torch.Generator().manual_seed(seed)
    models, tests = torch.randn(M, 5, generator=g, dtype=torch.double), torch.randn(N, S, 5, generator=g, dtype=torch.double)
    m, t = torch.randint(M, (n,), generator=g), torch.randint(N, (n,), generator=g)
    want = torch.cosine_similarity(models[m][:, None], tests[t], dim=-1).mean(1)
    assert_close(score(models, tests, m, t, block, dense), want, rtol=0, atol=1e-12)
    if S == 1: assert_close(score(models, tests[:, 0], m, t, block, dense), want, rtol=0, atol=1e-12)


def test_both_ways_are_taken(monkeypatch):
    "Few cells a trial: a product; many: a gather"
    from mkdcls.verification import scores
    called = []
    for name in ("_product", "_gather"):
        real = getattr(scores, name)
        monkeypatch.setattr(scores, name, lambda *a, name=name, real=real: called.append(name) or real(*a))
    x = torch.randn(DENSE, 3)
    score(x, x, torch.zeros(DENSE, dtype=int), torch.arange(DENSE))
    score(x, x, torch.zeros(DENSE - 1, dtype=int), torch.arange(DENSE - 1))
    assert called == ["_product", "_gather"]


# ---- the bootstrap

@pytest.mark.parametrize("text_dependent", [False, True])
def test_bootstrap_is_repetition(text_dependent):
    "A replicate equals the figures of a trial list in which every trial stands as often as it was drawn"
    rng = np.random.default_rng(3)
    S, n = 12, 300
    a, b = rng.integers(S, size=(2, n))
    a[:60] = b[:60]
    y = a == b
    if text_dependent: y &= rng.random(n) < .5  # the right speaker with the wrong phrase is no target
    systems = [(rng.standard_normal(n) + y).round(1), rng.standard_normal(n) + 2 * y]
    names = np.array([f"s{i}" for i in range(S)])
    got, draws = bootstrap_trials(systems, y, names[a], names[b], draws=20, seed=5), np.random.default_rng(5)
    order = np.argsort(np.argsort(names))  # speakers are numbered in the order of their names
    for d in range(20):
        k = draws.multinomial(S, np.full(S, 1 / S))[order]
        times = np.where(a == b, k[a], k[a] * k[b])
        for i, s in enumerate(systems):
            want = eer(np.repeat(s, times), np.repeat(y, times)), min_dcf(np.repeat(s, times), np.repeat(y, times))
            assert_close(got[d, i], np.array(want), rtol=0, atol=1e-9)


def test_bootstrap_overstates_where_speakers_do_not_matter():
    "Pairs lucky on their own: the variance of a product of multiplicities is 3"
    rng, S = np.random.default_rng(0), 80
    a, b = np.array([(i, j) for i in range(S) for j in range(S)]).T
    y = a == b
    s = np.where(y, 0., np.where(rng.random(len(a)) < .2, 1., -1.))  # EER = share of impostors that pass
    p = (s[~y] > 0).mean()
    spread = bootstrap_trials([s], y, a, b)[:, 0, 0].std()
    assert abs(spread / (3**.5 * 100 * (p * (1 - p) / (~y).sum())**.5) - 1) < .1


def test_bootstrap_redraws_one_sided_draws():
    "Two speakers: half of the draws hold one of them twice and so no impostor; figures stay finite"
    s, y, a, b = np.array([1., 1., 0., 0.]), np.array([1, 1, 0, 0], bool), np.array([0, 1, 0, 1]), np.array([0, 1, 1, 0])
    got = bootstrap_trials([s], y, a, b, draws=50)
    assert np.isfinite(got).all() and (got == 0).all()


def test_bootstrap_over_models_alone():
    "One label a trial, the model's name on both sides: each counts as often as its model was drawn, whoever owns the model"
    model, y = np.r_[np.arange(40), np.arange(40)], np.arange(80) < 40
    s = np.where(y, np.where(model // 4 % 5 == 0, -1., 1.), 0.)  # four models a speaker, every fifth speaker missed: EER = share missed
    got = bootstrap_trials([s], y, model, model, draws=20)[:, 0, 0]
    rng = np.random.default_rng(0)
    for e in got: k = rng.multinomial(40, np.full(40, 1 / 40)); assert_close(e, 100 * k[s[:40] < 0].sum() / 40, rtol=0, atol=1e-9)


def test_bootstrap_is_paired_and_seeded():
    rng = np.random.default_rng(0)
    a, b = rng.integers(20, size=(2, 500)); y = np.arange(500) < 100; b[y] = a[y]
    s = rng.standard_normal(500) + 2 * y
    got = bootstrap_trials([s, s, 2 * s], y, a, b, 30, seed=1)
    assert (got[:, 0] == got[:, 1]).all() and (got[:, 0] == got[:, 2]).all()
    assert (got == bootstrap_trials([s, s, 2 * s], y, a, b, 30, seed=1)).all() and (got != bootstrap_trials([s, s, 2 * s], y, a, b, 30, seed=2)).any()


def test_over_seeds_needs_equal_shapes():
    with pytest.raises(ValueError, match="the same draws and systems"): over_seeds([np.zeros((5, 1, 2)), np.zeros((4, 1, 2))])
    with pytest.raises(ValueError, match="at least one seed"): over_seeds([])
    assert over_seeds([np.full((6, 2, 2), 3.)]).shape == (6, 2, 2)


# ---- fusion

def test_alignment_is_the_best_turn():
    "No other turn, among many, brings the tables nearer; a narrower space keeps its cosines"
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 4, generator=g, dtype=torch.double), torch.randn(40, 6, generator=g, dtype=torch.double)
    def far(q): return float((unit(x) @ q - unit(y)).square().sum())
    best = alignment(x, y)
    others = [torch.linalg.qr(torch.randn(6, 4, generator=g, dtype=torch.double))[0].T for _ in range(200)]
    assert all(far(best) < far(q) for q in others)
    i = torch.arange(20)
    assert_close(score(x[:20] @ best, x[20:] @ best, i, i), score(x[:20], x[20:], i, i))
    with pytest.raises(ValueError, match="widest network"): alignment(y, x)


def test_mean_of_embeddings_is_the_teachers_average():
    "Page 25's target before it gets its length, for tables of one segment"
    from mkdcls.verification.training import fused
    x = list(torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(0)))
    for normalise in (True, False): assert_close(fuse_embeddings(x, normalise=normalise), fused(x, normalise=normalise, rms=None))


def test_fused_embeddings():
    x, y = torch.tensor([[3., 4.]]), torch.tensor([[0., 2.]])
    assert_close(fuse_embeddings([x, y]), torch.tensor([[.3, .9]]))
    assert_close(fuse_embeddings([x, y], normalise=False), torch.tensor([[1.5, 3.]]))
    assert_close(fuse_embeddings([x, y], "concat"), torch.tensor([[.6, .8, 0., 1.]]))
    with pytest.raises(ValueError, match="'mean' or 'concat'"): fuse_embeddings([x, y], "sum")
    with pytest.raises(ValueError, match="same utterances"): fuse_embeddings([x, y.repeat(2, 1)])


def test_fused_scores():
    with pytest.raises(ValueError, match="2 weights for 1 systems"): fuse_scores([[0.]], [1, 2])
    with pytest.raises(ValueError, match="same trials"): fuse_scores([])


# ---- bad input

@pytest.mark.parametrize("scores,target,says", [
    ([.1, math.nan], [1, 0], "the first at trial 1"), ([.1, math.inf], [1, 0], "NaN or infinite"), ([.1, .2], [1, 1], "2 targets and 0 impostors"),
    ([.1, .2], [0, 0], "0 targets and 2 impostors"), ([], [], "0 targets and 0 impostors"), ([.1, .2, .3], [1, 0], "lists of one length"),
    ([[.1, .2]], [[1, 0]], "lists of one length"), ([.1, .2], [2, 0], "True")])
@pytest.mark.parametrize("figure", [det, eer, min_dcf])
def test_bad_trials(figure, scores, target, says):
    with pytest.raises(ValueError, match=says): figure(scores, target)


def test_tensors_and_series_are_welcome():
    import pandas as pd
    s, y = trials(0)
    want = eer(s, y), min_dcf(s, y)
    for a, b in ((torch.tensor(s), torch.tensor(y)), (pd.Series(s, index=range(5, 405)), pd.Series(y)), (list(s), y.astype(int))):
        assert (eer(a, b), min_dcf(a, b)) == want


@pytest.mark.parametrize("costs", [dict(c_miss=0.), dict(c_fa=-1.), dict(p_target=0.), dict(p_target=1.), dict(p_target=math.nan), dict(c_miss="10")])
def test_bad_costs(costs):
    with pytest.raises(ValueError, match=f"{next(iter(costs))}="): min_dcf(*trials(0), **costs)


def test_bad_enrolment_and_trials():
    x, i = torch.eye(3), torch.arange(3)
    with pytest.raises(ValueError, match="no enrolment utterance at all"): enrol(x[:0], i[:0])
    with pytest.raises(ValueError, match="model 3 of 4 has no enrolment"): enrol(x, i, n_models=4)
    with pytest.raises(ValueError, match="3 embeddings, 2 model numbers"): enrol(x, i[:2])
    with pytest.raises(ValueError, match="model numbers -1..2"): enrol(x, torch.tensor([-1, 0, 2]))
    with pytest.raises(ValueError, match="number 1"): enrol(torch.tensor([[1., 0.], [math.nan, 0.]]), i[:2])
    with pytest.raises(ValueError, match="trial 2 names model -1, of 3"): score(x, x, torch.tensor([0, 1, -1]), i)
    with pytest.raises(ValueError, match="at least one trial"): score(x, x, i[:0], i[:0])
    with pytest.raises(ValueError, match="3 models, 2 test utterances"): score(x, x, i, i[:2])
    with pytest.raises(ValueError, match="no direction"): score(x, torch.zeros(3, 2, 3), i, i)
    s, y = trials(0, 8)
    with pytest.raises(ValueError, match="one entry a trial"): bootstrap_trials([s], y, i, np.arange(8))
    with pytest.raises(ValueError, match="no systems"): bootstrap_trials([], y, np.arange(8), np.arange(8))
