"Eq. 2, its adapter and its teacher inside a larger model: what would crowd the notebook"
import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from mkdcls.distillation import KINDS, Z_VARIANTS, FrozenAdapter, FrozenTeacher, check_frozen, distillation_loss, freeze, join


def pair(B=5, P=8, seed=0): return torch.randn(2, B, P, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


class Encoder(nn.Module):
    "Two BatchNorms, one dropout: all that could drift"
    pooled_dim, embed_dim = 12, 4

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.Dropout(.5))
        self.head = nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 4))

    def forward(self, x, n_frames):
        pooled = self.net(x.sum(1) / n_frames[:, None])
        return pooled, self.head(pooled)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.teacher, self.student, self.adapter = FrozenTeacher(Encoder()), nn.Linear(6, 8), FrozenAdapter(12, 8)


x, n = 2 + torch.randn(9, 7, 6, generator=torch.Generator().manual_seed(0)), torch.full((9,), 7)


@pytest.mark.parametrize('kind', KINDS)
def test_none_then_mean(kind):
    S, T = pair()
    each = distillation_loss(S, T, kind, 'none')
    assert each.shape == (5,)
    assert_close(distillation_loss(S, T, kind), each.mean(), rtol=1e-12, atol=0)
    for i in range(5): assert_close(distillation_loss(S[i:i+1], T[i:i+1], kind), each[i], rtol=1e-12, atol=0)


def test_against_pytorchs_own():
    S, T = pair(64, 1920)
    assert_close(distillation_loss(S, T), F.cosine_embedding_loss(S, T, torch.ones(64)), rtol=0, atol=1e-9)
    assert_close(distillation_loss(S, T, 'mse'), nn.MSELoss()(S, T), rtol=1e-12, atol=0)
    assert_close(distillation_loss(S, T, 'norm_mse'), ((S - T).norm(dim=1)/T.norm(dim=1)).square().mean(), rtol=1e-12, atol=0)


@pytest.mark.parametrize('kind', KINDS)
def test_silent_teacher_gives_finite_numbers(kind):
    S, T = pair()
    S.requires_grad_()
    loss = distillation_loss(S, torch.zeros_like(T), kind)
    loss.backward()
    assert loss.isfinite() and S.grad.isfinite().all()


@pytest.mark.parametrize('kind', KINDS)
def test_teacher_never_gets_a_gradient(kind):
    S, T = (o.requires_grad_() for o in pair().unbind())
    distillation_loss(S, 2*T, kind).backward()
    assert T.grad is None and S.grad.abs().sum() > 0


def test_mse_does_not_depend_on_the_width():
    S, T = pair(3, 10)
    assert_close(distillation_loss(S.repeat(1, 4), T.repeat(1, 4), 'mse'), distillation_loss(S, T, 'mse'), rtol=1e-12, atol=0)


@pytest.mark.parametrize('shapes', [((2, 3), (2, 4)), ((2, 3), (3, 3)), ((2, 3, 1), (2, 3, 1)), ((3,), (3,))])
def test_shapes_are_refused(shapes):
    with pytest.raises(ValueError, match=r'same \[B, P\]'): distillation_loss(*(torch.zeros(s) for s in shapes))


@pytest.mark.parametrize('wide,narrow', [(12, 8), (8, 12), (30, 1)])
def test_orthogonal_both_ways(wide, narrow):
    W = FrozenAdapter(wide, narrow).weight[..., 0].double()
    small = W @ W.T if narrow < wide else W.T @ W
    assert_close(small, torch.eye(min(wide, narrow)).double(), rtol=0, atol=1e-5)


def test_adapter_is_a_linear_map_without_bias():
    a, (s, t) = FrozenAdapter(12, 8).double(), pair(4, 12)
    assert_close(a(s + 3*t), a(s) + 3*a(t), rtol=0, atol=1e-9)
    assert_close(a(s), s @ a.weight[..., 0].T, rtol=0, atol=1e-12)


@pytest.mark.parametrize('kind', ['orthogonal', 'average', 'identity'])
def test_adapter_survives_torch_save_and_deepcopy(kind):
    a = FrozenAdapter(12, 12 if kind == 'identity' else 8, kind)
    f = io.BytesIO()
    torch.save(a.state_dict(), f)
    f.seek(0)
    b = FrozenAdapter(12, a.student_dim, kind, seed=9)
    b.load_state_dict(torch.load(f, weights_only=True))
    t = torch.randn(3, 12)
    assert torch.equal(a(t), b(t)) and torch.equal(a(t), copy.deepcopy(a)(t))
    assert not list(a.parameters()) and a.kind == kind


def test_adapter_survives_safetensors():
    st = pytest.importorskip('safetensors.torch')
    a, b = FrozenAdapter(12, 8), FrozenAdapter(12, 8, seed=1)
    b.load_state_dict(st.load(st.save(a.state_dict())))
    assert torch.equal(a.weight, b.weight)


def test_wrong_checkpoint_is_refused():
    with pytest.raises(RuntimeError, match='size mismatch'): FrozenAdapter(12, 8).load_state_dict(FrozenAdapter(12, 6).state_dict())


def test_teacher_stays_in_eval_inside_a_model():
    m = Model()
    for _ in range(2):
        m.train()
        assert m.training and m.student.training and not any(o.training for o in m.teacher.modules())
        m.eval()
    check_frozen(m.teacher)


def test_teacher_statistics_and_answers_do_not_move():
    m = Model().train()
    before, first = copy.deepcopy(m.teacher.state_dict()), m.teacher(x, n)
    for _ in range(3): m.teacher(10*x, n)
    assert all(torch.equal(v, before[k]) for k, v in m.teacher.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(first, m.teacher(x, n), strict=True))


def test_only_the_student_learns():
    m = Model().train()
    assert [k for k, p in m.named_parameters() if p.requires_grad] == ['student.weight', 'student.bias']
    distillation_loss(m.student(x.mean(1)), m.adapter(m.teacher(x, n)[0])).backward()
    assert all(p.grad is None for p in m.teacher.parameters()) and m.student.weight.grad.abs().sum() > 0


def test_thawing_is_noticed():
    m = Model()
    m.requires_grad_(True)
    with pytest.raises(ValueError, match='asks for a gradient'): m.teacher(x, n)
    freeze(m.teacher.encoder)
    m.teacher(x, n)


def test_teacher_records_nothing_even_for_an_input_that_asks():
    assert not any(o.requires_grad for o in FrozenTeacher(Encoder())(x.clone().requires_grad_(), n))


def test_frozen_teacher_passes_widths_on():
    t = FrozenTeacher(Encoder())
    assert (t.pooled_dim, t.embed_dim) == (12, 4)


@pytest.mark.parametrize('variant', Z_VARIANTS)
def test_join_keeps_shape_dtype_and_gradient_rule(variant):
    X, K = torch.randn(3, 4, requires_grad=True), torch.randn(3, 5, dtype=torch.double, requires_grad=True)
    Z = join(X, K, variant)
    assert Z.shape == (3, 9) and Z.dtype == X.dtype
    if variant != 'no_x': Z.sum().backward()
    assert K.grad is None and (X.grad is None) == (variant == 'no_x')
    assert Z[:, 4:].eq(0).all() == (variant == 'no_k') and Z[:, :4].eq(0).all() == (variant == 'no_x')


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_moves_to_cuda_as_one():
    m = Model().cuda()
    assert m.adapter.weight.is_cuda
    assert_close(m.adapter(m.teacher(x.cuda(), n.cuda())[0]).cpu(), m.cpu().adapter(m.teacher(x, n)[0]), rtol=1e-4, atol=1e-4)
