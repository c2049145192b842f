"""Page 12: scores and intervals by hand, Holm by hand, the words at their edges; every sheet's verdict goes through one function."""
import numpy as np
import pandas as pd
import pytest
import torch

from mkdcls.encoders import encoder
from mkdcls.engine.features import Features
from mkdcls.evaluation import (MARGIN, MIN_SEEDS, Contrast, bootstrap, conflict_share, confusion, contrast, holm, p_value, predict, prf, scorecard,
                               status)
from mkdcls.model import MultiTaskModel


def accuracy(cm): return 100 * np.trace(cm, axis1=-2, axis2=-1) / cm.sum((-1, -2))


def answered(right):
    "One two-class matrix a speaker, one utterance each; label 0, answer 0 where right"
    right = np.asarray(right, bool)
    return confusion(np.zeros(len(right), int), (~right).astype(int), 2, np.arange(len(right)))


# ---- scores

def test_confusion_by_hand():
    y, guess = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0])
    assert confusion(y, guess, 2).tolist() == [[1, 1], [1, 2]]
    assert confusion(y, guess, 2, np.array([0, 1, 0, 1, 1])).tolist() == [[[1, 0], [0, 1]], [[0, 1], [1, 1]]]


def test_precision_recall_f1_by_hand():
    "Class 0: P 1/2, R 1/2; class 1: P 2/3, R 2/3; three utterances of class 1, two of class 0"
    assert prf([[1, 1], [1, 2]]) == pytest.approx([100 * 7 / 12] * 3)
    assert prf([[1, 1], [1, 2]], "weighted") == pytest.approx([60.] * 3)


def test_a_class_without_labels_is_left_out_of_macro():
    assert prf([[0, 0, 0], [0, 0, 0], [0, 1, 3]]) == pytest.approx([100., 75., 100 * 6 / 7])
    assert prf(np.zeros((3, 3))) == pytest.approx([0, 0, 0])


def test_many_matrices_at_once_are_each_alone():
    cms = np.random.default_rng(0).integers(0, 9, (4, 7, 3, 3))
    for average in ("macro", "weighted"):
        assert np.array_equal(prf(cms, average)[2, 5], prf(cms[2, 5], average)) and prf(cms, average).shape == (4, 7, 3)


def test_contradictions():
    "20s, 30s are group 0; 40s, 50s group 1; 60+ group 2"
    assert conflict_share(np.arange(5), np.array([0, 0, 1, 1, 2])) == 0
    assert conflict_share(np.arange(5), np.array([1, 0, 1, 0, 2])) == pytest.approx(40.)


def test_scorecard_counts_what_it_names():
    table = pd.DataFrame(dict(corpus=["LTV", "LTV", "FCVE"], y_agesup=[0, 1, 2], agesup=[0, 0, 2], agesup_as_trained=[0, 1, 2], true_agesup=[0, 0, 2],
                              y_agesub=[0, 2, 4], agesub=[0, 2, 4]))
    card = scorecard(table, ("agesup", "agesub"))
    assert card["agesup_f1"] == pytest.approx(100 * (2 / 3 + 0 + 1) / 3) and card["LTV_agesup_f1"] == pytest.approx(100 * (2 / 3 + 0) / 2)
    assert card["FCVE_agesup_f1"] == card["as_trained_agesup_f1"] == card["true_agesup_f1"] == card["agesub_f1"] == 100
    assert card["conflict_rate"] == pytest.approx(100 / 3) and "no_k_agesup_f1" not in card
    assert "conflict_rate" not in scorecard(table, ("agesup",))


def test_predict_leaves_weights_and_statistics():
    torch.manual_seed(0)
    n = torch.tensor([30, 50, 40])
    f = Features(torch.randn(120, 80).half(), n.cumsum(0) - n, n)
    model = MultiTaskModel(encoder("ecapa", "student", scale_name="smoke"), ("gender",)).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    a, b = (predict(model, f, torch.arange(3))["gender"] for _ in range(2))
    assert np.array_equal(a, b) and all(torch.equal(before[k], v) for k, v in model.state_dict().items())


# ---- intervals

def test_bootstrap_of_two_speakers_by_hand():
    "One right, one wrong: 0, 50, 100 % in the proportions 1 : 2 : 1"
    values, times = np.unique(bootstrap([[answered([1, 0])]], accuracy, draws=4000), return_counts=True)
    assert list(values) == [0, 50, 100] and times / 4000 == pytest.approx([.25, .5, .25], abs=.03)


def test_bootstrap_of_seeds_by_hand():
    "Two seeds whose speakers all agree, 100 % and 0 %: only the seeds vary, in the same proportions"
    values, times = np.unique(bootstrap([[answered([1] * 5)], [answered([0] * 5)]], accuracy, draws=4000), return_counts=True)
    assert list(values) == [0, 50, 100] and times / 4000 == pytest.approx([.25, .5, .25], abs=.03)


def test_bootstrap_is_paired():
    "The same answers twice: the difference is 0 in every single replicate; one speaker better: it is never negative"
    right = np.arange(50) < 30
    same = bootstrap([[answered(right), answered(right)]], accuracy, draws=200)
    assert (same[:, 0] == same[:, 1]).all() and same[:, 0].std() > 0
    more = bootstrap([[answered(right), answered(right | (np.arange(50) == 40))]], accuracy, draws=200)
    gains = (more[:, 1] - more[:, 0]).round(9)
    assert set(gains / 2) <= set(range(9)) and gains.max() > 0 and gains.min() == 0


def test_contrast_by_hand():
    "Differences 0, 1 … 1000: the middle 95 % is 25 to 975; one replicate at or below 0 of 1,001"
    c = contrast([3., 7.], np.c_[np.zeros(1001), np.arange(1001.)], 5)
    assert (c.value, c.low, c.high, c.n) == (4., 25., 975., 5) and c.p == pytest.approx(4 / 1002)
    back = contrast([7., 3.], np.c_[np.arange(1001.), np.zeros(1001)], 5)
    assert (back.value, back.low, back.high, back.p) == (-4., -975., -25., c.p)


@pytest.mark.parametrize("gains,p", [([1.] * 99, 2 / 100), ([-1.] * 99, 2 / 100), ([1., -1.], 1.), ([0.] * 5, 1.), ([1.] * 95 + [-1.] * 4, 10 / 100)])
def test_p_value_by_hand(gains, p): assert p_value(np.array(gains)) == pytest.approx(p)


def test_holm_by_hand():
    assert holm([.02]) == pytest.approx([.02])
    assert holm([.01, .02, .03, .2]) == pytest.approx([.04, .06, .06, .2]), "0.03 × 2 = 0.06 ties with 0.02 × 3; 0.2 × 1"
    assert holm([.04, .01]) == pytest.approx([.04, .02]) and holm([.9, .8]) == pytest.approx([1., 1.]), "order kept; never above 1"
    assert holm([.02, .02]) == pytest.approx([.04, .04]), "ties are not told apart"


# ---- words

def word(low, high, paper=None, n=MIN_SEEDS, **more): return status(Contrast((low + high) / 2, low, high, .001, n), paper, **more)


E = 1e-9


@pytest.mark.parametrize("low,high,paper,want", [
    (MARGIN + E, 5, 1, "same direction"), (MARGIN, 5, 1, "undecided"), (-5, -MARGIN - E, -1, "same direction"), (-5, -MARGIN, -1, "undecided"),
    (MARGIN + E, 5, -1, "opposite"), (-5, -MARGIN - E, 1, "opposite"), (-MARGIN + E, MARGIN - E, 1, "no difference"), (-MARGIN, .5, 1, "undecided"),
    (-.5, MARGIN, 1, "undecided"), (-2, 2, 1, "undecided"), (MARGIN + E, 5, None, "better"), (-5, -MARGIN - E, None, "worse"), (2, 5, 0., "better")])
def test_words_at_the_edges(low, high, paper, want): assert word(low, high, paper) == want


def test_seeds_margin_and_correction():
    assert [word(2, 5, 1, n) for n in (0, 1, MIN_SEEDS - 1, MIN_SEEDS)] == ["not run", "undecided", "undecided", "same direction"]
    assert [word(2, 5, 1, p=p) for p in (None, float("nan"), .0499, .05)] == ["same direction"] * 3 + ["undecided"]
    assert word(-.5, .5, 1, p=.9) == "no difference", "the correction takes a direction away, not an equivalence"
    assert [word(a, b, margin=0.) for a, b in ((.1, .2), (-.2, -.1), (-.1, .1), (0., .1))] == ["better", "worse", "undecided", "undecided"]
    assert word(2, 5, 1, evidence=False) == "plumbing only"
