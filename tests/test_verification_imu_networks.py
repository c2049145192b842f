"""The networks of IMU&Elevoc against plain functions, closed-form counts and random settings."""
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from mkdcls.encoders import EcapaTdnn, EncoderOutput, n_params
from mkdcls.verification.frontend import instance_norm
from mkdcls.verification.imu_networks import NETWORKS, PRINTED, WIDTHS, ImuEcapa, ImuNet, Ladder, Res2Block, SEBasic, imu_network, res2net, se_resnet

FLAT = NETWORKS[:-1]  # the six that see a picture


def build(name, scale="smoke", seed=3, **more):
    "In float64, with BatchNorm's numbers away from 1 and 0, so that a mix-up shows"
    torch.manual_seed(seed)
    m = imu_network(name, scale, **more).double()
    for v in m.state_dict().values():
        if v.is_floating_point() and v.ndim == 1: v += .3 * torch.rand(v.shape, dtype=v.dtype)
    return m.eval()


def bn(sd, at, x):
    return F.batch_norm(x, sd[f"{at}.running_mean"], sd[f"{at}.running_var"], sd[f"{at}.weight"], sd[f"{at}.bias"])


def gate(sd, at, x):
    h = F.linear(x.mean((2, 3)), sd[f"{at}.squeeze.weight"], sd[f"{at}.squeeze.bias"]).relu()
    return x * F.linear(h, sd[f"{at}.excite.weight"], sd[f"{at}.excite.bias"]).sigmoid()[:, :, None, None]


def plain_block(sd, at, x, stride, climb, groups):
    "One residual block by functions alone, strided 1x1 shortcut and dense loops included"
    has = lambda k: f"{at}.{k}" in sd
    skip = bn(sd, f"{at}.skip.1", F.conv2d(x, sd[f"{at}.skip.0.weight"], stride=stride)) if has("skip.0.weight") else x
    if has("conv1.weight"):
        h = bn(sd, f"{at}.norm1", F.conv2d(x, sd[f"{at}.conv1.weight"], stride=stride, padding=1).relu())
        h = bn(sd, f"{at}.norm2", F.conv2d(h, sd[f"{at}.conv2.weight"], padding=1))
    else:
        h = bn(sd, f"{at}.norm1", F.conv2d(x, sd[f"{at}.enter.weight"])).relu()
        n = sum(k.startswith(f"{at}.ladder.convs.") for k in sd)
        w = sd[f"{at}.ladder.convs.0.weight"].shape[0]
        ys = [h[:, :w] if climb else F.avg_pool2d(F.pad(h[:, :w], (1, 1, 1, 1)), 3, stride)]
        for i in range(n):
            p = h[:, (i + 1) * w:(i + 2) * w]
            if climb and i > 0: p = p + ys[-1]
            y = F.conv2d(p, sd[f"{at}.ladder.convs.{i}.weight"], stride=stride, padding=1, groups=groups)
            ys.append(bn(sd, f"{at}.ladder.norms.{i}", y).relu())
        h = bn(sd, f"{at}.norm2", F.conv2d(torch.cat(ys, 1), sd[f"{at}.leave.weight"]))
    if has("se.squeeze.weight"): h = gate(sd, f"{at}.se", h)
    return (h + skip).relu()


def plain_network(m, x, groups):
    "The whole network by functions alone: channels x bands x frames inside, statistics by E[x²] − μ²"
    sd = m.state_dict()
    x = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    h = F.conv2d(x[:, None], sd["stages.0.0.conv.weight"], sd["stages.0.0.conv.bias"], stride=m.strides[0], padding=1).relu()
    h = bn(sd, "stages.0.0.norm", h)
    for i, stage in enumerate(m.stages):
        for j in range(len(stage) if i else 0): h = plain_block(sd, f"stages.{i}.{j}", h, 1 if j else m.strides[i], bool(j), groups)
    h = h.permute(0, 1, 3, 2).reshape(len(h), -1, h.shape[2])
    a = bn(sd, "pool.norm", F.conv1d(h, sd["pool.hidden.weight"], sd["pool.hidden.bias"]).relu())
    a = F.conv1d(a, sd["pool.score.weight"], sd["pool.score.bias"]).softmax(2)
    mu = (a * h).sum(2)
    pooled = torch.cat([mu, ((a * h**2).sum(2) - mu**2).clamp(min=1e-5).sqrt()], 1)
    return EncoderOutput(pooled, F.linear(pooled, sd["fc.weight"], sd["fc.bias"]))


@pytest.mark.parametrize("name", FLAT)
def test_equals_plain_functions(name):
    m, x = build(name), torch.randn(3, 70, 64, dtype=torch.double)
    want = plain_network(m, x, WIDTHS["smoke"]["next"]["groups"] if "NeXt" in name else 1)
    got = m(x)
    assert_close(got.pooled, want.pooled, rtol=1e-8, atol=1e-8)
    assert_close(got.embedding, want.embedding, rtol=1e-8, atol=1e-8)


def test_ecapa_is_ecapa():
    "Behind instance normalisation, the encoder of the method, weight for weight"
    m = build("ECAPA-TDNN")
    ref = EcapaTdnn(n_mels=80, **WIDTHS["smoke"]["ecapa"]).double().eval()
    ref.load_state_dict(m.state_dict())
    x, n = torch.randn(3, 40, 80, dtype=torch.double), torch.tensor([40, 31, 20])
    assert_close(m(x, n).embedding, ref(instance_norm(x, n), n).embedding, rtol=0, atol=0)


# ---- counts

def by_hand(m, stem, blocks_of_weights):
    "Parameters of stem, blocks and head from their sizes alone"
    cf, a, e = m.pooled_dim // 2, m.pool.hidden.out_channels, m.embed_dim
    return 9 * stem + stem + 2 * stem + blocks_of_weights + (cf * a + a + 2 * a + a * cf + cf) + (2 * cf * e + e)


@given(c=st.integers(1, 5), n=st.integers(1, 3), reduction=st.sampled_from([0, 1, 2]), bands=st.integers(5, 20))
@settings(max_examples=20, deadline=None)
def test_count_of_se_resnet(c, n, reduction, bands):
    with torch.device("meta"): m = se_resnet((2 * c,) * 2, (n, 1), (1, 1, 2), reduction, n_mels=bands, attention=3, embed=7)
    c *= 2
    one = 2 * 9 * c * c + 4 * c + ((2 * c * (c // reduction) + c // reduction + c) if reduction else 0)
    assert m.pooled_dim == 2 * c * ((bands + 1) // 2)
    assert n_params(m) == by_hand(m, c, (n + 1) * one + (c * c + 2 * c))


@given(w=st.integers(1, 3), s=st.integers(1, 6), g=st.integers(1, 3), se=st.integers(0, 4), n=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_count_of_res2net(w, s, g, se, n):
    w *= g
    with torch.device("meta"): m = res2net((8,), (w,), (n,), (1, 1), stem=8, ladder=s, groups=g, se=se, n_mels=6, attention=3, embed=7)
    k = max(s - 1, 1)
    one = 2 * 8 * w * s + 2 * w * s + k * (9 * w * w // g + 2 * w) + 16 + (17 * se + 8 if se else 0)
    assert n_params(m) == by_hand(m, 8, n * one)


COUNTS = (8_028_492, 13_122_780, 8_271_720, 9_819_880, 8_427_072, 9_975_232, 14_660_416)


@pytest.mark.parametrize("name,count", list(zip(NETWORKS, COUNTS, strict=True)))
def test_printed_counts(name, count):
    with torch.device("meta"): got = n_params(imu_network(name))
    assert got == count
    assert round(got / 1e6, 2) == PRINTED[name] if name.startswith("SE-ResNet") else abs(got / 1e6 / PRINTED[name] - 1) < .004


def test_full_size_runs():
    "A training step of the largest map at the paper's size, on 2 short crops"
    torch.manual_seed(0)
    m = imu_network("SE-Res2NeXt-50")
    out = m(torch.randn(2, 40, 64))
    assert out.pooled.shape == (2, 8192) and out.embedding.shape == (2, 512)
    out.embedding.square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in m.parameters())


# ---- properties

@given(s=st.integers(2, 7), climb=st.booleans())
@settings(max_examples=12, deadline=None)
def test_reach_of_the_ladder(s, climb):
    m = Ladder(1, s, climb=climb).eval()
    for c in m.convs: nn.init.ones_(c.weight)
    x = torch.ones(1, s, 17, 17, requires_grad=True)
    seen = torch.autograd.grad(m(x)[0, -1, 8, 8], x)[0].sum((0, 1)) > 0
    assert int(seen.any(0).sum()) == int(seen.any(1).sum()) == (1 + 2 * (s - 1) if climb else 3)


@given(n=st.lists(st.integers(1, 50), min_size=2, max_size=4), name=st.sampled_from(FLAT), extra=st.integers(0, 40))
@settings(max_examples=20, deadline=None)
def test_padding_never_leaks(n, name, extra):
    "Any lengths, any amount and any content of padding, down to one frame"
    m, n = build(name), torch.tensor(n)
    x = torch.randn(len(n), int(n.max()) + extra, 64, dtype=torch.double)
    for i, k in enumerate(n): x[i, k:] = torch.nan
    got = m(x, n)
    alone = [m(x[i:i + 1, :k]) for i, k in enumerate(n.tolist())]
    for part in (0, 1): assert_close(got[part], torch.cat([a[part] for a in alone]), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", NETWORKS)
def test_order_of_the_batch(name):
    m, n = build(name), torch.tensor([40, 33, 25])
    x, p = torch.randn(3, 40, m.n_mels, dtype=torch.double), torch.tensor([2, 0, 1])
    assert_close(m(x, n).embedding[p], m(x[p], n[p]).embedding, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_whole_networks(name):
    "Finite differences along random directions, input and every parameter, padding included"
    m, n = build(name), torch.tensor([30, 21])
    names, values = zip(*m.named_parameters())
    x = torch.randn(2, 30, m.n_mels, dtype=torch.double, requires_grad=True)
    def f(x, *ps): return torch.func.functional_call(m, dict(zip(names, ps, strict=True)), (x, n)).embedding
    assert torch.autograd.gradcheck(f, (x, *values), fast_mode=True, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_pools_in_float32(name):
    m = build(name).float()
    x = torch.randn(4, 60, m.n_mels)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16): low = m(x)
    with torch.no_grad(): ref = m(x)
    assert low.pooled.dtype == torch.float32
    assert (low.pooled - ref.pooled).norm() / ref.pooled.norm() < .06


@pytest.mark.parametrize("scale", WIDTHS)
def test_contract(scale):
    "What training, transfer and scoring rely on"
    with torch.device("meta"): nets = {n: imu_network(n, scale, embed=24) for n in NETWORKS}
    for name, m in nets.items():
        assert isinstance(m, ImuEcapa if name == "ECAPA-TDNN" else ImuNet)
        assert (m.embed_dim, m.n_mels) == (24, 80 if name == "ECAPA-TDNN" else 64)
        assert m.fc.out_features == 24 and m.fc.in_features == m.pooled_dim
        mine = {id(q) for q in m.modules()}
        assert all(isinstance(q, nn.Module) and id(q) in mine for q in m.frame_level())
        frozen = {id(p) for q in m.frame_level() for p in q.parameters()}
        assert frozen.isdisjoint({id(p) for q in (m.pool, m.fc) for p in q.parameters()})


@pytest.mark.parametrize("bands,frames", [(80, 50), (40, 33), (7, 5)])
def test_other_inputs(bands, frames):
    "Any number of bands, odd ones too; a 2-D network takes one frame"
    for name in FLAT:
        m = build(name, n_mels=bands)
        assert m(torch.randn(2, frames, bands, dtype=torch.double)).pooled.shape == (2, m.pooled_dim)
        assert torch.isfinite(m(torch.randn(2, 1, bands, dtype=torch.double)).embedding).all()


def test_weights_survive():
    a = build("SE-Res2NeXt-50")
    b = imu_network("SE-Res2NeXt-50", "smoke").double().eval()
    b.load_state_dict(a.state_dict())
    x = torch.randn(2, 30, 64, dtype=torch.double)
    assert torch.equal(a(x).embedding, b(x).embedding)


def test_same_seed_same_weights():
    a, b = build("SE-ResNet-101", seed=5), build("SE-ResNet-101", seed=5)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("make,text", [
    (lambda: imu_network("SE-ResNet-50"), "no network 'SE-ResNet-50'"),
    (lambda: imu_network("ECAPA-TDNN", "large"), "no width 'large'"),
    (lambda: imu_network("SE-ResNet-34", strides=(1, 2, 2)), r"2 stages by `strides`"),
    (lambda: imu_network("Res2Net-50", widths=(12, 24, 48)), r"\{'widths': 3\}"),
    (lambda: Ladder(6, groups=4), "cardinality 4"),
    (lambda: Res2Block(8, 8, 2, stride=2), "climb=False"),
    (lambda: imu_network("Res2Net-50", "smoke")(torch.zeros(2, 64, 50)), r"shape \[B, T, 64\]"),
    (lambda: imu_network("ECAPA-TDNN", "smoke")(torch.zeros(2, 4, 80)), "at least 5 frames"),
    (lambda: imu_network("Res2Net-50", "smoke")(torch.zeros(2, 50, 64), torch.tensor([51, 3])), "must lie in 1..50"),
])
def test_errors(make, text):
    with pytest.raises(ValueError, match=text): make()


def test_block_without_change_has_no_shortcut_weights():
    assert not [k for k in SEBasic(4, 4).state_dict() if k.startswith("skip")]
    assert [k for k in SEBasic(4, 4, 2).state_dict() if k.startswith("skip")]
