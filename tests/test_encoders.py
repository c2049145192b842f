"""Our encoders against SpeechBrain's: same numbers forward and backward, in float64."""
import pytest
import torch
from torch.testing import assert_close

from mkdcls.encoders import EcapaTdnn, ResNet, ecapa_settings, encoder, load_speechbrain, n_params, speechbrain_names
from mkdcls.engine.doors import torchaudio

B, T = 4, 41
N_FRAMES = torch.tensor([41, 33, 20, 12])


@pytest.fixture
def double():
    "Without lengths SpeechBrain makes its mask in torch's default type: 1/T in float32 would cost nine digits"
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def peers():
    torchaudio()
    pytest.importorskip("speechbrain")
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
    from speechbrain.lobes.models.ResNet import ResNet as SBResNet
    return ECAPA_TDNN, SBResNet


def randomised(m):
    "BatchNorm's affine and running values away from 1 and 0, so that a mix-up shows"
    g = torch.Generator().manual_seed(7)
    for name, v in m.state_dict().items():
        if v.is_floating_point() and v.ndim == 1: v += .3 * torch.rand(v.shape, generator=g, dtype=v.dtype)
        if name.endswith("num_batches_tracked"): v.fill_(3)
    return m


def pair(peers, name):
    "(ours, theirs) with equal float64 weights"
    torch.manual_seed(3)
    SBEcapa, SBResNet = peers
    if name.startswith("ecapa"):
        s = {"ecapa": ecapa_settings(16, 24, 4, attention=6, se=5, embed=9),
             "ecapa uneven": dict(channels=(24, 16, 16, 30), kernels=(5, 3, 5, 1), dilations=(1, 3, 2, 1), scale=2, attention=6, se=5, embed=9),
             "ecapa default": {}}[name]
        ours = EcapaTdnn(**s)
        theirs = SBEcapa(80, lin_neurons=ours.embed_dim, channels=list(s["channels"]), kernel_sizes=list(s["kernels"]), dilations=list(s["dilations"]),
                         attention_channels=6, res2net_scale=s["scale"], se_channels=5) if s else SBEcapa(80, lin_neurons=256)
    else:
        s = {"resnet": dict(channels=(4, 4, 6, 8), blocks=(1, 2, 1, 1), strides=(1, 2, 2, 2), embed=9),
             "resnet early": dict(channels=(4, 6, 6, 8), blocks=(2, 1, 1, 1), strides=(2, 2, 1, 2), embed=9),
             "resnet default": dict(blocks=(2, 2, 2, 2))}[name]
        ours = ResNet(**s)
        theirs = SBResNet(80, lin_neurons=ours.embed_dim, block_sizes=list(s["blocks"]),
                          **{k: list(s[k]) for k in ("channels", "strides") if k in s})
    theirs = randomised(theirs.double())
    assert n_params(ours) == n_params(theirs)
    return load_speechbrain(ours.double(), theirs.state_dict()), theirs


def run_theirs(theirs, x, lengths):
    "(pooled, embedding): pooled is what goes into the BatchNorm on the statistics"
    seen = []
    norm = theirs.asp_bn if hasattr(theirs, "asp_bn") else theirs.norm_stats
    hook = norm.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    e = theirs(x, lengths)
    hook.remove()
    return seen[0].flatten(1), e.flatten(1)


@pytest.mark.parametrize("lengths", [False, True], ids=["whole", "lengths"])
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", ["ecapa", "ecapa uneven", "ecapa default", "resnet", "resnet early", "resnet default"])
def test_equals_speechbrain(peers, double, name, train, lengths):
    b, t = (3, 21) if "default" in name else (B, T)
    n = (N_FRAMES[:b] * t) // T if lengths else None
    ours, theirs = (m.train(train) for m in pair(peers, name))
    x1 = torch.randn(b, t, 80, dtype=torch.double, requires_grad=True)
    x2 = x1.detach().clone().requires_grad_()
    # relative lengths half a frame short: the same mask, immune to (n/T)*T rounding up past n
    a, e = ours(x1, n), run_theirs(theirs, x2, None if n is None else (n.double() - .5) / t)
    assert_close(a.pooled, e[0], rtol=1e-6, atol=1e-10)
    assert_close(a.embedding, e[1], rtol=1e-6, atol=1e-10)
    wp, we = torch.randn_like(a.pooled), torch.randn_like(a.embedding)
    ((a.pooled * wp).sum() + (a.embedding * we).sum()).backward()
    ((e[0] * wp).sum() + (e[1] * we).sum()).backward()
    theirs_grad, names = {k: p.grad for k, p in theirs.named_parameters()}, speechbrain_names(ours)
    scale = max(float(g.abs().max()) for g in theirs_grad.values())
    for k, p in ours.named_parameters():
        assert_close(p.grad, theirs_grad[names[k]].reshape(p.shape), rtol=1e-6, atol=1e-10 * scale, msg=lambda s, k=k: f"gradient of {k}: {s}")
    assert_close(x1.grad, x2.grad, rtol=1e-6, atol=1e-10 * float(x2.grad.abs().max()))
    if train:
        theirs_state = theirs.state_dict()
        for k, v in ours.state_dict().items(): assert_close(v.flatten(), theirs_state[names[k]].flatten(), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", ["ecapa", "resnet"])
def test_loader_refuses_a_misfit(peers, name):
    ours, theirs = pair(peers, name)
    state = dict(theirs.state_dict())
    gone = next(iter(state))
    with pytest.raises(ValueError, match=f"missing \\['{gone}'\\]"): load_speechbrain(ours, {k: v for k, v in state.items() if k != gone})
    with pytest.raises(ValueError, match="unexpected \\['more'\\]"): load_speechbrain(ours, state | {"more": torch.zeros(1)})
    with pytest.raises(ValueError, match="wants"): load_speechbrain(ours, state | {gone: torch.zeros(1, 2)})


def test_channels_last_backward():
    "Strided 1x1 convolutions in channels-last crashed torch's CPU backward for 8 channels; ours has none"
    m = ResNet(channels=(8, 8, 8, 16), blocks=(1, 1, 1, 1), attention=8, embed=16).to(memory_format=torch.channels_last)
    assert not [c for c in m.modules() if isinstance(c, torch.nn.Conv2d) and c.kernel_size == (1, 1) and c.stride != (1, 1)]
    ref = ResNet(channels=(8, 8, 8, 16), blocks=(1, 1, 1, 1), attention=8, embed=16)
    ref.load_state_dict(m.state_dict())
    x = torch.randn(4, 64, 80)
    w = torch.randn(4, m.pooled_dim)
    for net in (m, ref): (net.eval()(x).pooled * w).sum().backward()
    peak = max(float(p.grad.abs().max()) for p in ref.parameters() if p.grad is not None)
    for (k, a), b in zip(m.named_parameters(), ref.parameters(), strict=True):
        if b.grad is not None: assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4 * peak, msg=lambda s, k=k: f"{k}: {s}")


@pytest.mark.parametrize("family", ["ecapa", "resnet"])
def test_bf16_stays_close_and_trains(family):
    torch.manual_seed(0)
    m = encoder(family, "student", scale_name="laptop")
    x, n = torch.randn(6, 80, 80), torch.tensor([80, 80, 70, 60, 50, 40])
    m(x, n)
    grads = []
    for low in (False, True):
        m.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=low): out = m.eval()(x, n)
        assert out.pooled.dtype == torch.float32
        out.pooled.square().mean().backward()
        grads.append((out, torch.cat([p.grad.flatten() for p in m.parameters() if p.grad is not None])))
    (a, ga), (b, gb) = grads
    assert torch.cosine_similarity(a.embedding, b.embedding.float()).min() > .99
    assert torch.cosine_similarity(ga, gb, dim=0) > .99


def test_masked_resnet_follows_the_strides():
    "masked=True: equal to the unmasked network on each utterance alone wherever the edge is a true edge, that is, without padding"
    torch.manual_seed(0)
    a = encoder("resnet", "student", scale_name="smoke", masked=True).eval()
    b = encoder("resnet", "student", scale_name="smoke").eval()
    b.load_state_dict(a.state_dict())
    x = torch.randn(3, 50, 80)
    full = torch.full((3,), 50)
    assert_close(a(x, full).embedding, b(x, full).embedding, rtol=1e-4, atol=1e-5)
    far = torch.cat([x, torch.zeros(3, 200, 80)], 1)
    move = lambda m: float((m(far, full).embedding - b(x).embedding).norm().detach())
    assert move(a) < .5 * move(b)
