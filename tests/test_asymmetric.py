"""Eq. 4: properties over random inputs that do not need a place on the page."""
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from torch.autograd import gradcheck
from torch.testing import assert_close

from mkdcls.asymmetric import asymmetric_loss, smoothed_ce

SETTINGS = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31 - 1)
gammas = st.one_of(st.just(0.), st.floats(1., 6.))


def batch(seed, B=7, K=5, scale=3.):
    g = torch.Generator().manual_seed(seed)
    return scale * torch.randn(B, K, dtype=torch.double, generator=g), torch.randint(0, K, (B,), generator=g)


def by_the_book(x, y, gp, gn, m, act):
    "Eq. 4 one class at a time, in plain Python"
    out = []
    for row, label in zip(x.tolist(), y.tolist(), strict=True):
        e = [math.exp(v) for v in row]
        p = [v / sum(e) for v in e] if act == 'softmax' else [v / (1 + v) for v in e]
        total = -(1 - p[label])**gp * math.log(p[label])
        for c, pc in enumerate(p):
            pm = max(pc - m, 0.)
            if c != label and pm > 0: total -= pm**gn * math.log(1 - pm)
        out.append(total)
    return torch.tensor(out, dtype=torch.double)


@SETTINGS
@given(seeds, gammas, gammas, st.floats(0., .5), st.sampled_from(['softmax', 'sigmoid']), st.integers(2, 6))
def test_equals_the_equation_term_by_term(seed, gp, gn, m, act, K):
    x, y = batch(seed, K=K)
    assert_close(asymmetric_loss(x, y, gp, gn, m, act, reduction='none'), by_the_book(x, y, gp, gn, m, act), rtol=1e-9, atol=1e-12)


@SETTINGS
@given(seeds, gammas, st.floats(0., .5))
def test_with_gamma_pos_zero_softmax_is_never_below_cross_entropy(seed, gn, m):
    x, y = batch(seed)
    ours, ce = asymmetric_loss(x, y, 0., gn, m, reduction='none'), F.cross_entropy(x, y, reduction='none')
    assert (ours >= ce - 1e-12).all()
    quiet = (x.softmax(-1).scatter(1, y[:, None], 0.) <= m).all(-1)
    assert_close(ours[quiet], ce[quiet], rtol=0, atol=0)


@SETTINGS
@given(seeds, gammas, gammas, st.floats(0., .3))
def test_larger_margin_and_larger_gamma_neg_never_cost_more(seed, gn, more, m):
    x, y = batch(seed)
    base = asymmetric_loss(x, y, gamma_neg=gn, margin=m, reduction='none')
    assert (asymmetric_loss(x, y, gamma_neg=gn, margin=m + .1, reduction='none') <= base + 1e-12).all()
    assert (asymmetric_loss(x, y, gamma_neg=max(gn, 1.) + more, margin=m, reduction='none') <= base + 1e-12).all()


@pytest.mark.parametrize('act', ['softmax', 'sigmoid'])
@pytest.mark.parametrize('kw', [dict(), dict(gamma_pos=1.), dict(gamma_pos=2., gamma_neg=1., margin=.2), dict(gamma_neg=0., margin=0.)])
def test_gradient_flows_through_the_weights(act, kw):
    x, y = batch(1, B=4, K=4, scale=1.5)
    assert gradcheck(lambda z: asymmetric_loss(z, y, act=act, **kw), x.requires_grad_())


@pytest.mark.parametrize('kw', [dict(), dict(gamma_pos=1.), dict(eps=0.), dict(eps=.3, gamma_neg=1.)])
def test_official_gradient(kw):
    x, y = batch(2, B=4, K=4, scale=1.5)
    assert gradcheck(lambda z: asymmetric_loss(z, y, official=True, **kw), x.requires_grad_())


@pytest.mark.parametrize('gn', [0., 1., 4.])
@pytest.mark.parametrize('m', [.05, .2])
def test_sigmoid_dead_zone_is_exactly_dead_up_to_and_including_the_margin(gn, m):
    p = torch.tensor([m, m - 1e-3, m / 2, 1e-6], dtype=torch.double)
    z = torch.logit(p)
    z[0] = torch.nextafter(z[0], torch.tensor(-math.inf, dtype=z.dtype))  # the rounding of sigmoid(logit(m)) must not lift it over m
    x = torch.stack([torch.full_like(z, 800.), z], -1).requires_grad_()
    out = asymmetric_loss(x, torch.zeros(4, dtype=torch.int64), gamma_neg=gn, margin=m, act='sigmoid', reduction='none')
    grad, = torch.autograd.grad(out.sum(), x)
    assert (out == 0).all() and (grad == 0).all()


@SETTINGS
@given(seeds)
def test_sample_order_and_neighbours_do_not_matter(seed):
    x, y = batch(seed)
    each = asymmetric_loss(x, y, reduction='none')
    flip = asymmetric_loss(x.flip(0), y.flip(0), reduction='none')
    assert_close(flip.flip(0), each, rtol=1e-13, atol=0)
    assert_close(asymmetric_loss(x[:1], y[:1]), each[0], rtol=1e-13, atol=0)
    assert_close(asymmetric_loss(x, y, reduction='sum'), each.sum(), rtol=1e-13, atol=0)


@SETTINGS
@given(seeds, st.floats(0., .5))
def test_official_identity_for_any_smoothing(seed, eps):
    x, y = batch(seed)
    lp = x.log_softmax(-1)
    rest = -(lp.exp()**4 * lp).scatter(1, y[:, None], 0.).sum(-1)
    want = (1 - eps + eps / 5) * F.cross_entropy(x, y, reduction='none') + eps / 5 * rest
    assert_close(asymmetric_loss(x, y, official=True, eps=eps, reduction='none'), want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    x, y = batch(3)
    for f in (asymmetric_loss, smoothed_ce):
        out = f(x.to(dtype), y)
        assert out.dtype == torch.float32
        assert_close(out, f(x.to(dtype).float(), y), rtol=0, atol=0)


@pytest.mark.parametrize('size', [1e2, 1e4, 1e30])
@pytest.mark.parametrize('kw', [dict(), dict(margin=0.), dict(gamma_neg=0., margin=0.), dict(gamma_pos=1.), dict(act='sigmoid'), dict(official=True)])
def test_finite_far_from_home(size, kw):
    x = torch.tensor([[size, -size, 0.], [-size, size, 0.], [size, size, size]], requires_grad=True)
    out = asymmetric_loss(x, torch.zeros(3, dtype=torch.int64), **kw)
    grad, = torch.autograd.grad(out, x)
    assert out.isfinite() and grad.isfinite().all()


def test_smoothed_ce_is_the_mixture_it_says():
    x, y = batch(4, K=2)
    lp = x.log_softmax(-1)
    want = -.9 * lp.gather(1, y[:, None])[:, 0] - .05 * lp.sum(-1)
    assert_close(smoothed_ce(x, y, reduction='none'), want, rtol=1e-12, atol=0)
    assert_close(smoothed_ce(x, y, smoothing=0.), F.cross_entropy(x, y), rtol=1e-12, atol=0)


@pytest.mark.parametrize('kw, says', [(dict(gamma_pos=.5), 'gamma_pos'), (dict(gamma_neg=-1.), 'gamma_neg'), (dict(margin=1.), 'margin'),
                                      (dict(margin=-.1), 'margin'), (dict(act='relu'), 'act'), (dict(reduction='avg'), 'reduction')])
def test_refuses_with_the_name_of_the_argument(kw, says):
    with pytest.raises(ValueError, match=says): asymmetric_loss(torch.zeros(2, 3), torch.tensor([0, 1]), **kw)
