"""Eq. 5: properties over random inputs that do not need a place on the page."""
import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from torch.autograd import grad, gradcheck
from torch.testing import assert_close

from mkdcls.asymmetric import asymmetric_loss
from mkdcls.dependency import KINDS, conflict_rate, conflicts, dependency_loss, marginal_log
from mkdcls.labels import PARENT, parent

SETTINGS = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31 - 1)
TRAINING = ('corrected', 'shifted', 'soft_kl')


def batch(seed, B=12):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 5, (B,), generator=g)
    return 2 * torch.randn(B, 5, dtype=torch.double, generator=g), 2 * torch.randn(B, 3, dtype=torch.double, generator=g), y


def losses(sub, sup, y):
    return asymmetric_loss(sub, y, reduction='none'), asymmetric_loss(sup, parent(y), reduction='none')


def quiet(*args, **kw):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)
        return dependency_loss(*args, **kw)


def by_the_book(l_sub, l_sup, sub, sup, y, kind):
    "Eq. 5 one sample at a time, in plain Python"
    out = []
    for a, b, p, q, k in zip(l_sub.tolist(), l_sup.tolist(), sub.tolist(), sup.tolist(), y.tolist(), strict=True):
        yhat_sub, yhat_sup = p.index(max(p)), q.index(max(q))
        D, I_sub, I_sup = PARENT[yhat_sub] != yhat_sup, yhat_sub != k, yhat_sup != PARENT[k]
        if kind == 'constant': a = b = 3.
        if kind == 'shifted': a, b = 1 + a, 1 + b
        product = a**(D * I_sub) * b**(D * I_sup)
        out.append(-product if kind == 'literal' else product - 1)
    return torch.tensor(out, dtype=torch.double)


@SETTINGS
@given(seeds, st.sampled_from(['corrected', 'literal', 'constant', 'shifted']))
def test_equals_the_equation_sample_by_sample(seed, kind):
    sub, sup, y = batch(seed)
    l = losses(sub, sup, y)
    each = quiet(*l, sub, sup, y, parent(y), kind=kind, reduction='none')
    assert_close(each, by_the_book(*l, sub, sup, y, kind), rtol=1e-12, atol=1e-12)
    assert_close(quiet(*l, sub, sup, y, parent(y), kind=kind), each.mean(), rtol=1e-12, atol=1e-12)
    assert_close(quiet(*l, sub, sup, y, parent(y), kind=kind, reduction='sum'), each.sum(), rtol=1e-12, atol=1e-12)


@SETTINGS
@given(seeds)
def test_without_a_conflict_nothing_happens(seed):
    sub, _, y = batch(seed)
    sup = F.one_hot(parent(sub.argmax(-1)), 3).double().requires_grad_()
    sub = sub.requires_grad_()
    assert conflict_rate(sub, sup) == 0
    for kind, value in (('corrected', 0.), ('shifted', 0.), ('constant', 0.), ('literal', -1.)):
        out = quiet(*losses(sub, sup, y), sub, sup, y, parent(y), kind=kind, reduction='none')
        assert (out == value).all()
        if kind != 'constant': assert all((g == 0).all() for g in grad(out.sum(), (sub, sup)))


@SETTINGS
@given(seeds)
def test_a_conflict_needs_a_mistake_and_costs(seed):
    sub, sup, y = batch(seed, 40)
    D, wrong = conflicts(sub, sup), (sub.argmax(-1) != y) | (sup.argmax(-1) != parent(y))
    assert (wrong | ~D).all()
    for base in (losses(sub, sup, y), (F.cross_entropy(sub, y, reduction='none'), F.cross_entropy(sup, parent(y), reduction='none'))):
        corrected, shifted = (dependency_loss(*base, sub, sup, y, parent(y), kind=k, reduction='none') for k in ('corrected', 'shifted'))
        assert (corrected >= math.log(2)**2 - 1).all() and (shifted[D] >= math.log(2)).all()


@SETTINGS
@given(seeds)
def test_literal_pushes_against_corrected(seed):
    sub, sup, y = batch(seed)
    l = [o.detach().requires_grad_() for o in losses(sub, sup, y)]
    up, down = (grad(quiet(*l, sub, sup, y, parent(y), kind=k), l) for k in ('corrected', 'literal'))
    for a, b in zip(up, down, strict=True):
        assert (a >= 0).all() and torch.equal(a, -b)


@pytest.mark.parametrize('kind', TRAINING)
@pytest.mark.parametrize('seed', [0, 1])
def test_gradients_against_finite_differences(kind, seed):
    sub, sup, y = batch(seed, 6)
    assert conflicts(sub, sup).any()
    f = lambda a, b: dependency_loss(*losses(a, b, y), a, b, y, parent(y), kind=kind)
    assert gradcheck(f, (sub.requires_grad_(), sup.requires_grad_()))


@pytest.mark.parametrize('eq4, kind, rewarded', [
    (-1, 'literal', [False, True, False]), (1, 'literal', [True, True, True]),
    (-1, 'corrected', [True, False, True]), (1, 'corrected', [False, False, False])])
def test_two_signs_two_by_two(eq4, kind, rewarded):
    "Speakers in their 40s: no conflict, then a conflict with the decade wrong, both wrong, the group wrong; every product of losses is above 1"
    sub, sup = F.one_hot(torch.tensor([1, 1, 1, 2]), 5).float(), F.one_hot(torch.tensor([0, 1, 2, 2]), 3).float()
    y, l_sub, l_sup = torch.full((4,), 2), torch.full((4,), eq4 * 1.5), torch.full((4,), eq4 * 2.)
    value = quiet(l_sub, l_sup, sub, sup, y, parent(y), kind=kind, reduction='none')
    assert ((value[1:] - value[0]) < 0).tolist() == rewarded


@pytest.mark.parametrize('eq4, kind, flips', [
    (-1, 'literal', [False, True, False]), (1, 'literal', [True, True, True]),
    (-1, 'corrected', [False, True, False]), (1, 'corrected', [True, True, True])])
def test_two_signs_turn_round_where_the_product_is_below_1(eq4, kind, flips):
    "The same speakers with every loss L on either side of 1; the slope of a loss keeps its sign"
    sub, sup = F.one_hot(torch.tensor([1, 1, 1, 2]), 5).float(), F.one_hot(torch.tensor([0, 1, 2, 2]), 3).float()
    y, less, slopes = torch.full((4,), 2), [], []
    for L in (.8, 1.25):
        l = torch.full((4,), L, requires_grad=True)
        value = quiet(eq4 * l, eq4 * l, sub, sup, y, parent(y), kind=kind, reduction='none')
        less.append((value[1:] - value[0]) < 0)
        slopes.append(grad(value.sum(), l)[0].sign())
    assert (less[0] != less[1]).tolist() == flips and torch.equal(*slopes)


def test_constant_hangs_on_nothing():
    sub, sup, y = batch(0)
    sub, sup = sub.requires_grad_(), sup.requires_grad_()
    l = losses(sub, sup, y)
    extra = dependency_loss(*l, sub, sup, y, parent(y), kind='constant')
    assert extra > 0 and not extra.requires_grad
    total = l[0].mean() + l[1].mean()
    for a, b in zip(grad(total + extra, (sub, sup), retain_graph=True), grad(total, (sub, sup)), strict=True): assert torch.equal(a, b)


@pytest.mark.parametrize('value', [0., 1e-38, 1e18, math.inf])
@pytest.mark.parametrize('kind', ['corrected', 'shifted'])
def test_no_nan_from_powers_of_zero(value, kind):
    sub, sup = F.one_hot(torch.tensor([1, 1, 3]), 5).float(), F.one_hot(torch.tensor([0, 1, 0]), 3).float()
    y = torch.tensor([2, 2, 1])
    l_sub, l_sup = (torch.full((3,), value, requires_grad=True) for _ in range(2))
    out = dependency_loss(l_sub, l_sup, sub, sup, y, parent(y), kind=kind, reduction='none')
    slopes = grad(out.sum(), (l_sub, l_sup))
    assert out[0] == 0 and not out.isnan().any()
    assert not any(g.isnan().any() for g in slopes) and slopes[0][0] == slopes[1][0] == slopes[1][1] == 0


@SETTINGS
@given(seeds)
def test_soft_kl_is_a_divergence(seed):
    sub, sup, y = batch(seed)
    zero = torch.zeros(len(y), dtype=torch.double)
    kl = lambda a, b: dependency_loss(zero, zero, a, b, y, parent(y), kind='soft_kl', reduction='none')
    assert (kl(sub, sup) >= -1e-12).all()
    assert_close(kl(sub, marginal_log(sub) + 3), zero, rtol=0, atol=1e-12)
    assert_close(kl(sub + 5, sup - 2), kl(sub, sup), rtol=1e-9, atol=1e-12)
    swapped = sub[:, [1, 0, 3, 2, 4]]
    assert_close(kl(swapped, sup), kl(sub, sup), rtol=1e-9, atol=1e-12)
    reference = F.kl_div(sup.log_softmax(-1), marginal_log(sub), reduction='none', log_target=True).sum(-1)
    assert_close(kl(sub, sup), reference, rtol=1e-9, atol=1e-12)
    assert_close(marginal_log(sub).exp().sum(-1), torch.ones_like(zero), rtol=0, atol=1e-12)


@pytest.mark.parametrize('kind', KINDS)
def test_half_precision_logits(kind):
    sub, sup, y = batch(5)
    sub, sup = sub.bfloat16().requires_grad_(), sup.bfloat16().requires_grad_()
    out = quiet(*losses(sub, sup, y), sub, sup, y, parent(y), kind=kind)
    assert out.dtype == torch.float32 and out.isfinite()


def test_only_literal_warns():
    sub, sup, y = batch(0)
    for kind in KINDS:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter('always')
            dependency_loss(*losses(sub, sup, y), sub, sup, y, parent(y), kind=kind)
        assert [w.category for w in seen] == ([UserWarning] if kind == 'literal' else [])
        if seen: assert seen[0].filename == __file__


@pytest.mark.parametrize('change, says', [
    (dict(loss_sub=torch.tensor(1.)), 'one loss per sample'), (dict(loss_sup=torch.ones(11)), 'one loss per sample'),
    (dict(sub_logits=torch.zeros(12, 3)), 'logits must be'), (dict(y_sup=torch.full((12,), 2)), 'parent'),
    (dict(kind='gao'), 'kind'), (dict(reduction='avg'), 'reduction')])
def test_refuses_by_name(change, says):
    sub, sup, y = batch(0)
    l_sub, l_sup = losses(sub, sup, y)
    args = dict(loss_sub=l_sub, loss_sup=l_sup, sub_logits=sub, sup_logits=sup, y_sub=y, y_sup=parent(y))
    with pytest.raises(ValueError, match=says): dependency_loss(**{**args, **change})
