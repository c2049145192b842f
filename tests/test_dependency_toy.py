"""The pattern of the toy experiment, on seeds that the page does not use. About 10 s; only what is robust is asserted."""
import warnings

import pytest
import torch

from mkdcls.dependency import marginal_log
from mkdcls.dependency_toy import toy_bayes, toy_data, toy_scores, toy_train

SEEDS = range(100, 110)


@pytest.fixture(scope='module')
def runs():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)
        yield {k: toy_train(k, SEEDS) for k in ('none', 'constant', 'literal', 'corrected', 'shifted', 'soft_kl')}
    torch.set_num_threads(before)


def test_training_learns_something(runs):
    assert runs['none'][0]['agesup'].mean() > 60 and runs['none'][0]['agesub'].mean() > 40


def test_constant_is_none_bit_for_bit(runs):
    assert all(torch.equal(a, b) for a, b in zip(runs['none'][1], runs['constant'][1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(runs['none'][1], runs['corrected'][1], strict=True))


def test_literal_collapses(runs):
    scores = runs['literal'][0]
    assert (scores['conflict'] > 95).all() and scores['agesub'].mean() < 25 and scores['agesup'].mean() < 50


@pytest.mark.parametrize('kind', ['corrected', 'shifted'])
def test_conflicts_fall(runs, kind):
    change = runs[kind][0]['conflict'] - runs['none'][0]['conflict']
    assert (change < 0).sum() >= 8 and change.mean() < -.25 * runs['none'][0]['conflict'].mean()


@pytest.mark.parametrize('kind', ['corrected', 'shifted', 'soft_kl'])
def test_accuracy_hardly_moves(runs, kind):
    for head in ('agesup', 'agesub'):
        assert abs((runs[kind][0][head] - runs['none'][0][head]).mean()) < 2


def test_nobody_beats_the_perfect_classifier_by_more_than_chance(runs):
    x, _, y = (torch.cat(t) for t in zip(*(toy_data(10_000 + s, 2000, 0.) for s in SEEDS)))
    ideal = toy_bayes(x)
    perfect = toy_scores(ideal, marginal_log(ideal), y, len(SEEDS))
    assert perfect['conflict'].mean() > 5 and perfect['marginal'].max() == 0
    for scores, _ in runs.values():
        for head in ('agesup', 'agesub'): assert scores[head].mean() < perfect[head].mean() + .5


def test_labels_move_to_neighbours_only():
    _, seen, true = toy_data(0, 20_000, .15)
    step = (seen - true).abs()
    assert step.max() == 1 and 0 <= seen.min() and seen.max() == 4 and abs(step.float().mean() - .15) < .01
