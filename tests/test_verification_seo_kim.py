"""Seo & Kim's network against independent implementations, and properties that hold for any input."""
import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck
from torch.testing import assert_close

from mkdcls.encoders import frame_weights, n_params
from mkdcls.verification.seo_kim import (ENCODINGS, LDE, SAP, WIDTHS, DeepLengthNorm, FeatureRecalibration, MeanPool, NetVLAD, ResNetTrunk, architecture,
                                         scaled_resnet)

POOLS = {"mean": MeanPool, "sap": lambda: SAP(5), "lde": lambda: LDE(5, 3), "vlad": lambda: NetVLAD(5, 3), "ghost": lambda: NetVLAD(5, 3, 2)}


def pool_of(name):
    "A pooling in float64 and test mode, every parameter away from its start"
    torch.manual_seed(11)
    m = POOLS[name]().double().eval()
    for p in m.parameters(): p.data += .4 * torch.randn_like(p)
    return m


def sigma(x): return 1 / (1 + np.exp(-x))


def softmax(a, axis=-1):
    e = np.exp(a - a.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def by_loops(name, m, y):
    "One utterance `[c, N]` in numpy, frame by frame, centre by centre, as the equations are printed"
    p = {k: v.numpy() for k, v in m.state_dict().items()}
    if name == "mean": return sum(y.T) / y.shape[1]
    if name == "sap":
        h = [np.tanh(p["hidden.weight"] @ x + p["hidden.bias"]) for x in y.T]
        w = softmax(np.array([x @ p["context"] for x in h]))
        e = sum(a * x for a, x in zip(w, h))
        return (e - p["norm.running_mean"]) / np.sqrt(p["norm.running_var"] + m.norm.eps) * p["norm.weight"] + p["norm.bias"]
    out = np.zeros_like(p["centres"])
    for x in y.T:
        r = x - p["centres"]
        if name == "lde": a = softmax(-p["scale"] * (r**2).sum(1))
        else: a = softmax(p["assign.weight"] @ x + p["assign.bias"])[:3]
        for k in range(3): out[k] += a[k] * r[k] / (y.shape[1] if name == "lde" else 1)
    if name != "lde": out /= np.linalg.norm(out, axis=1, keepdims=True)
    return out.ravel()


@pytest.mark.parametrize("name", POOLS)
def test_poolings_by_loops(name):
    "Batched, masked and in matrices equals one utterance at a time in loops"
    m, y, n = pool_of(name), torch.randn(4, 5, 13).double(), torch.tensor([13, 8, 2, 1])
    with torch.no_grad(): got, whole = m(y, frame_weights(n, 13, torch.double)), m(y)
    for i in range(4):
        assert_close(got[i].numpy(), by_loops(name, m, y[i, :, :n[i]].numpy()), rtol=1e-9, atol=1e-9)
        assert_close(whole[i].numpy(), by_loops(name, m, y[i].numpy()), rtol=1e-9, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(POOLS)), st.integers(1, 12), st.integers(0, 9), st.integers(0, 2**31))
def test_poolings_see_a_set_of_frames(name, n, more, seed):
    "The order of frames, playing them twice, and whatever stands in the padding change nothing"
    m, g = pool_of(name), torch.Generator().manual_seed(seed)
    y = torch.randn(1, 5, n, generator=g, dtype=torch.double)
    noise = 30 * torch.randn(1, 5, more, generator=g, dtype=torch.double)
    want = m(y)
    assert_close(m(y[..., torch.randperm(n, generator=g)]), want, rtol=1e-8, atol=1e-8)
    assert_close(m(y.repeat(1, 1, 2)), want, rtol=1e-8, atol=1e-8)
    assert_close(m(torch.cat([y, noise], -1), frame_weights(torch.tensor([n]), n + more, torch.double)), want, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", POOLS)
def test_poolings_gradients(name):
    "Finite differences through frames, padding and every parameter; padded frames get exactly nothing"
    m, u = pool_of(name), frame_weights(torch.tensor([6, 4]), 6, torch.double)
    y = torch.randn(2, 5, 6, dtype=torch.double, requires_grad=True)
    names, values = zip(*m.named_parameters()) if list(m.parameters()) else ((), ())
    assert gradcheck(lambda y, *v: torch.func.functional_call(m, dict(zip(names, v)), (y, u)), (y, *values))
    m(y, u).square().sum().backward()
    assert (y.grad[1, :, 4:] == 0).all() and y.grad.abs().max() > 0


def test_recalibration_and_length():
    torch.manual_seed(0)
    fr, dln, v = FeatureRecalibration(16, 4).double(), DeepLengthNorm(3.).double(), torch.randn(5, 16).double()
    W1, b1, W2, b2 = (p.detach().numpy() for p in fr.parameters())
    hidden = v.numpy() @ W1.T + b1
    want = v.numpy() * sigma(np.where(hidden > 0, hidden, .01 * hidden) @ W2.T + b2)
    assert_close(fr(v).detach().numpy(), want, rtol=1e-12, atol=1e-12)
    assert_close(dln(v).detach().numpy(), 3 * v.numpy() / np.linalg.norm(v.numpy(), axis=1, keepdims=True), rtol=1e-12, atol=1e-12)
    silent = torch.zeros(1, 16, dtype=torch.double, requires_grad=True)
    dln(silent).sum().backward()
    assert torch.isfinite(dln(silent)).all() and torch.isfinite(silent.grad).all()


def plain_trunk(state, blocks, steps, x):
    "The trunk written with functions only, from its weights; the skip is a strided 1x1 convolution"
    def norm(h, k): return F.batch_norm(h, state[f"{k}.running_mean"], state[f"{k}.running_var"], state[f"{k}.weight"], state[f"{k}.bias"])
    h = norm(F.conv2d(x[:, None], state["parts.0.0.0.weight"], stride=steps[0], padding=1), "parts.0.0.1").relu()
    out = [h]
    for i, (n, step) in enumerate(zip(blocks, steps[1:]), 1):
        for j in range(n):
            k, s = f"parts.{i}.{j}", 1 if j else step
            y = norm(F.conv2d(h, state[f"{k}.conv1.weight"], stride=s, padding=1), f"{k}.norm1").relu()
            y = norm(F.conv2d(y, state[f"{k}.conv2.weight"], padding=1), f"{k}.norm2")
            if f"{k}.skip.0.weight" in state: h = norm(F.conv2d(h, state[f"{k}.skip.0.weight"], stride=s), f"{k}.skip.1")
            h = (y + h).relu()
        out.append(h)
    return out


@pytest.mark.parametrize("channels,blocks,stem,strides", [((4, 8, 16, 32), (3, 4, 6, 3), 1, (1, 2, 2, 2)), ((4, 4, 6, 6), (1, 2, 1, 1), 2, (2, 1, 2, 1))])
def test_trunk_by_functions(channels, blocks, stem, strides):
    torch.manual_seed(0)
    net = ResNetTrunk(channels, blocks, stem, strides).double().eval()
    for v in net.state_dict().values():
        if v.is_floating_point() and v.ndim == 1: v += .3 * torch.rand_like(v)
    x = torch.randn(2, 37, 21).double()
    with torch.no_grad(): got, _ = net(x)
    for a, b in zip(got, plain_trunk(net.state_dict(), blocks, (stem, *strides), x), strict=True): assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert net.bands(21) == got[-1].shape[-1]


def shaken(e, scale="smoke", **more):
    torch.manual_seed(5)
    net = scaled_resnet(e, scale, **more).double().eval()
    for v in net.state_dict().values():
        if v.is_floating_point() and v.ndim == 1: v += .3 * torch.rand_like(v)
    return net


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(sorted(ENCODINGS)), st.lists(st.integers(1, 45), min_size=1, max_size=4), st.integers(0, 12), st.sampled_from([24, 40, 64]))
def test_padding_never_leaks(e, lengths, more, n_mels):
    "Any lengths, any bands, NaN in the padding: every utterance gets the embedding that it has alone"
    net, T = shaken(e, n_mels=n_mels), max(lengths) + more
    x = torch.full((len(lengths), T, n_mels), torch.nan, dtype=torch.double)
    for i, n in enumerate(lengths): x[i, :n] = torch.randn(n, n_mels, generator=torch.Generator().manual_seed(i), dtype=torch.double)
    with torch.no_grad():
        together = net(x, torch.tensor(lengths))
        for i, n in enumerate(lengths):
            alone = net(x[i:i + 1, :n])
            for a, b in zip(together, alone): assert_close(a[i:i + 1], b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("scale", WIDTHS)
@pytest.mark.parametrize("e", ENCODINGS)
def test_architecture_agrees(e, scale):
    "The table's parameters are the network's, its last width the embedding's, its pictures the trunk's"
    with torch.device("meta"): net = scaled_resnet(e, scale)
    t = architecture(net, frames=203, speakers=100)
    assert t.parameters.sum() == n_params(net) + 100 * net.embed_dim + 100
    assert t["output size"].iloc[-1] == f"{net.embed_dim} × 100" and architecture(net)["output size"].iloc[-1] == f"{net.embed_dim} × N"
    assert ("concat" in t.index) == e.startswith("MLA") and ("FR" in t.index) == ("FR" in e) and ("DLN" in t.index) == ("DLN" in e)
    assert t.index.str.startswith("pool").sum() == (5 if e.startswith("MLA") else 1)
    assert t.encoding.str.contains("SE").sum() == 1 and list(t.blocks[["res1", "res2", "res3", "res4"]]) == ([*"3463"] if scale != "smoke" else [*"1111"])


def test_widths_of_embeddings():
    "Table 3 and 4's Dim at paper width; one width for all dictionaries at laptop width"
    with torch.device("meta"):
        dims = {s: [scaled_resnet(e, s).embed_dim for e in ENCODINGS] for s in WIDTHS}
        assert scaled_resnet("LDE", "laptop", embed=77).embed_dim == 77
    assert dims["paper"] == [256, 512, 256, 512, 512, 512, 512, 128, 512, 512]
    assert dims["laptop"] == [64, 128, 64, 128, 128, 128, 128, 128, 128, 128]


@pytest.mark.parametrize("e", ENCODINGS)
def test_freezing_saving_low_precision(e):
    torch.manual_seed(0)
    net, x, n = scaled_resnet(e, "smoke"), torch.randn(4, 50, 64), torch.tensor([50, 40, 30, 20])
    below = {id(p) for m in net.frame_level() for p in m.parameters()}
    for m in net.frame_level(): m.requires_grad_(False)
    if any(p.requires_grad for p in net.parameters()): net(x).embedding.sum().backward()
    assert all((p.grad is None) == (id(p) in below) for p in net.parameters())
    assert below == {id(p) for p in net.trunk.parameters()}
    net.eval()
    with torch.no_grad():
        want = net(x, n)
        twin = scaled_resnet(e, "smoke").eval()
        twin.load_state_dict(copy.deepcopy(net.state_dict()))
        assert torch.equal(twin(x, n).embedding, want.embedding)
        with torch.autocast("cpu", torch.bfloat16): low = net(x, n)
        assert low.embedding.dtype == low.pooled.dtype == torch.float32
        assert (low.embedding - want.embedding).norm() / want.embedding.norm() < .1
        assert_close(twin.to(memory_format=torch.channels_last)(x, n).embedding, want.embedding, rtol=1e-4, atol=1e-4)


def test_seed_fixes_the_start():
    def start(seed):
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(scaled_resnet("GhostVLAD", "smoke").parameters())
    assert torch.equal(start(3), start(3)) and not torch.equal(start(3), start(4))
