"Heads and embedding distillation: independent formulas and properties that would crowd page 24"
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from mkdcls.verification.losses import DISTIL, CircleHead, SoftmaxHead, circle_logits, distil_cos, distil_mse

HEADS = (SoftmaxHead, CircleHead)
problems = settings(max_examples=40, deadline=None, derandomize=True)


def problem(B, N, seed):
    g = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(B, N, generator=g, dtype=torch.double) - 1, torch.randint(N, (B,), generator=g)


def printed(s, y, gamma, m):
    "The formula of section 3.4 as the circle-loss paper sums it up: log(1 + sum of exp of differences), utterance by utterance"
    losses = []
    for row, k in zip(s, y.tolist()):
        p, others = row[k], torch.cat([row[:k], row[k + 1:]])
        pos = gamma * max(1 + m - p.item(), 0) * (p - (1 - m))
        neg = gamma * (others.detach() + m).clamp(min=0) * (others - m)
        losses.append(F.softplus(torch.logsumexp(neg, 0) - pos))
    return torch.stack(losses).mean()


@problems
@given(st.integers(1, 6), st.integers(2, 9), st.sampled_from([1., 16., 256.]), st.floats(.05, .95), st.integers(0, 999))
def test_circle_is_the_printed_formula(B, N, gamma, m, seed):
    "Value and gradient, with the paces as numbers"
    s, y = problem(B, N, seed)
    a, b = s.clone().requires_grad_(), s.clone().requires_grad_()
    ours, theirs = F.cross_entropy(circle_logits(a, y, gamma, m), y), printed(b, y, gamma, m)
    assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    ours.backward(), theirs.backward()
    assert_close(a.grad, b.grad, rtol=1e-8, atol=1e-9)


@problems
@given(st.integers(2, 8), st.integers(0, 999))
def test_circle_does_not_care_for_order(N, seed):
    s, y = problem(5, N, seed)
    turn = torch.randperm(N, generator=torch.Generator().manual_seed(seed))
    back = turn.argsort()
    assert_close(circle_logits(s[:, turn], back[y]), circle_logits(s, y)[:, turn])
    extra = torch.cat([s, torch.zeros(5, 1, dtype=torch.double)], 1)  # one more speaker can only cost
    assert F.cross_entropy(circle_logits(extra, y), y) >= F.cross_entropy(circle_logits(s, y), y)


def test_circle_gradient_pushes_the_right_way():
    "Never away from the true speaker, never towards another"
    s, y = problem(50, 9, 0)
    s.requires_grad_()
    F.cross_entropy(circle_logits(s, y), y, reduction='sum').backward()
    hit = F.one_hot(y, 9).bool()
    assert (s.grad[hit] <= 0).all() and (s.grad[~hit] >= 0).all() and (s.grad[hit] < 0).any() and (s.grad[~hit] > 0).any()
    assert s.grad[~hit & (s < -.35)].eq(0).all()


@pytest.mark.parametrize('make', HEADS)
def test_head_contract(make):
    "A scalar loss, one score a speaker, the same loss for a repeated batch, and a state dict that carries it all"
    torch.manual_seed(0)
    head, e, y = make(16, 7), torch.randn(5, 16), torch.tensor([0, 6, 3, 3, 1])
    assert head(e, y).ndim == 0 and head.logits(e).shape == (5, 7)
    assert_close(head(e.repeat(3, 1), y.repeat(3)), head(e, y))
    torch.manual_seed(1)
    other = make(16, 7)
    assert not torch.equal(other.logits(e), head.logits(e))
    other.load_state_dict(head.state_dict())
    assert torch.equal(other(e, y), head(e, y)) and torch.equal(other.logits(e), head.logits(e))


@pytest.mark.parametrize('make', HEADS)
def test_head_is_float32_in_autocast(make):
    torch.manual_seed(0)
    head, e, y = make(64, 30), torch.randn(8, 64), torch.arange(8)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(head(e, y), head(e.clone(), y)) and head.logits(e).dtype == torch.float32
        inside = head(e, y)
    assert torch.equal(inside, head(e, y))
    assert head(e.bfloat16(), y).dtype == torch.float32  # an embedding that comes in bfloat16 is widened first


@pytest.mark.parametrize('make', HEADS)
def test_head_learns(make):
    torch.manual_seed(0)
    e, y = torch.randn(60, 16), torch.arange(60) % 6
    e += 2 * torch.randn(6, 16)[y]
    head = make(16, 6)
    opt, first = torch.optim.Adam(head.parameters(), lr=.05), head(e, y).item()
    for _ in range(60): opt.zero_grad(); head(e, y).backward(); opt.step()
    assert head(e, y) < .2 * first and (head.logits(e).argmax(1) == y).float().mean() > .9


@pytest.mark.parametrize('make', HEADS)
@pytest.mark.parametrize('e,y,says', [
    (torch.zeros(2, 9), torch.zeros(2, dtype=torch.int64), r'reads \[B, 8\]'), (torch.zeros(8), torch.zeros(1, dtype=torch.int64), r'reads \[B, 8\]'),
    (torch.zeros(2, 8), torch.zeros(3, dtype=torch.int64), r'wanted \[2\]'), (torch.zeros(2, 8), torch.zeros(2), 'int64'),
    (torch.zeros(2, 8), torch.tensor([0, -1]), r'number the training speakers 0\.\.3'), (torch.zeros(2, 8), torch.tensor([0, 4]), r'speakers 0\.\.4')])
def test_head_refuses(make, e, y, says):
    with pytest.raises(ValueError, match=says): make(8, 4)(e, y)


@pytest.mark.parametrize('gamma,m', [(0., .35), (-1., .35), (256., 0.), (256., 1.)])
def test_circle_settings(gamma, m):
    with pytest.raises(ValueError, match='need gamma > 0 and 0 < m < 1'): CircleHead(8, 4, gamma, m)


def test_zero_embedding_is_survived():
    head, e = CircleHead(8, 4), torch.zeros(1, 8, requires_grad=True)
    loss = head(e, torch.tensor([0]))
    loss.backward()
    assert loss.isfinite() and e.grad.isfinite().all()


@problems
@given(st.integers(1, 6), st.integers(2, 20), st.integers(0, 999))
def test_distillation_against_torch(B, E, seed):
    a, b = torch.randn(2, B, E, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    assert_close(distil_mse(a, b), F.mse_loss(a, b))
    assert_close(distil_cos(a, b), F.cosine_embedding_loss(a, b, torch.ones(B)) - 1, rtol=0, atol=1e-7)
    assert_close(distil_cos(3 * a, .1 * b), distil_cos(a, b), rtol=1e-9, atol=1e-12)
    assert -1 - 1e-9 <= distil_cos(a, b) <= 1 + 1e-9


@pytest.mark.parametrize('kind', list(DISTIL))
def test_distillation_refuses(kind):
    with pytest.raises(ValueError, match='one embedding width'): DISTIL[kind](torch.zeros(2, 4), torch.zeros(3, 4))
    with pytest.raises(ValueError, match='one embedding width'): DISTIL[kind](torch.zeros(4), torch.zeros(4))
