"The phrase network and its bias: an independent implementation, properties, and what would crowd the page"
import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from torch.testing import assert_close

from mkdcls.encoders import n_params
from mkdcls.engine.features import Features
from mkdcls.engine.portable import holds
from mkdcls.verification.phrases import (BIAS, DILATIONS, KERNEL, WIDTHS, CausalConv, CausalTCN, PhraseNet, fit_phrases, phrase_answers,
                                         phrase_bias, phrase_scores, receptive_field)
from mkdcls.verification.training import SpeakerSettings

SMALL = dict(channels=6, embed=5, attention=4)


def small(seed=0, **more):
    torch.manual_seed(seed)
    net = CausalTCN(8, **SMALL | more).double()
    for m in net.modules():  # statistics of a network that has trained
        if isinstance(m, torch.nn.BatchNorm1d):
            m.running_mean.normal_(), m.running_var.uniform_(.5, 2)
            torch.nn.init.normal_(m.weight, 1, .2), torch.nn.init.normal_(m.bias, 0, .2)
    return net.eval()


def rand(*shape, seed=0): return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


# ---- the network against its definition

def direct(net, x):
    "The same frames by the definition of a causal dilated convolution, frame by frame, tap by tap, in numpy"
    h = x.numpy()
    for block in net.blocks:
        y = h
        for layer in block.layers:
            w, d = layer.conv.weight.detach().numpy(), layer.conv.dilation[0]
            out = np.zeros((len(y), len(w), y.shape[-1]))
            for t in range(y.shape[-1]):
                for lag in range(w.shape[-1]):
                    if t - lag * d >= 0: out[..., t] += y[..., t - lag * d] @ w[..., w.shape[-1] - 1 - lag].T
            n = layer.norm
            scale = (n.weight / (n.running_var + n.eps).sqrt()).detach().numpy()[:, None]
            y = np.maximum((out - n.running_mean.numpy()[:, None]) * scale + n.bias.detach().numpy()[:, None], 0)
        skip = h if isinstance(block.skip, torch.nn.Identity) else \
            np.einsum('oi,bit->bot', block.skip.weight.detach().numpy()[..., 0], h) + block.skip.bias.detach().numpy()[:, None]
        h = y + skip
    return torch.from_numpy(h)


@pytest.mark.parametrize('kernel,dilations', [(7, DILATIONS), (3, (1, 2)), (2, (5, 1, 3, 3)), (1, (1, 1))])
def test_against_the_definition(kernel, dilations):
    net, x = small(kernel=kernel, dilations=dilations), rand(2, 41, 8)
    assert_close(net.frames(x), direct(net, x.transpose(1, 2)), rtol=0, atol=1e-10)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(1, 4), st.lists(st.integers(1, 6), min_size=1, max_size=3), st.integers(0, 99))
def test_receptive_field_by_gradient(kernel, half, seed):
    dilations = [d for d in half for _ in range(2)]
    net, R = small(seed, kernel=kernel, dilations=dilations, channels=24), receptive_field(kernel, dilations)
    x = rand(1, R + 9, 8, seed=seed).requires_grad_()
    net.frames(x)[0, :, R + 3].square().sum().backward()
    seen = x.grad[0].abs().sum(1).nonzero().flatten()
    assert net.receptive == R and int(seen[-1]) == R + 3
    assert int(seen[0]) == (R + 3) - (R - 1)


def test_the_papers_numbers():
    assert (KERNEL, DILATIONS, BIAS) == (7, (1, 1, 2, 2, 4, 4, 8, 8, 16, 16), -4)
    assert receptive_field() == 373 and receptive_field(7, ()) == 1 and receptive_field(1, (9, 9)) == 1
    net = PhraseNet(scale='smoke')
    assert len(net.encoder.blocks) == 5 and [len(b.layers) for b in net.encoder.blocks] == [2] * 5
    assert [m.conv.dilation[0] for m in net.modules() if isinstance(m, CausalConv)] == list(DILATIONS)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(2, 60), st.data())
def test_the_future_changes_nothing(T, data):
    at = data.draw(st.integers(1, T - 1))
    net, x, y = small(), rand(1, T, 8), rand(1, T, 8, seed=1)
    mixed = torch.cat([x[:, :at], y[:, at:]], 1)
    assert torch.equal(net.frames(x)[..., :at], net.frames(mixed)[..., :at])
    assert not torch.equal(net.frames(x)[..., at], net.frames(mixed)[..., at])


def test_chunks_with_their_memory_equal_the_whole():
    net, x = small(), rand(1, 450, 8)
    whole = net.frames(x)
    R = net.receptive
    for start in (0, 10, 372, 373, 440):
        before = min(start, R - 1)
        assert_close(net.frames(x[:, start - before:])[..., before:], whole[..., start:], rtol=0, atol=1e-12)
    assert (net.frames(x[:, 440 - (R - 2):])[..., R - 2] - whole[..., 440]).abs().max() > 0


def test_padding_is_invisible():
    net, lengths = small(), torch.tensor([30, 7, 1, 55])
    xs = [rand(1, int(n), 8, seed=int(n)) for n in lengths]
    batch = torch.cat([F.pad(x, (0, 0, 0, 55 - x.shape[1]), value=9.) for x in xs])
    together = net(batch, lengths)
    for i, x in enumerate(xs):
        alone = net(x)
        assert_close(together.pooled[i:i + 1], alone.pooled, rtol=0, atol=1e-10)
        assert_close(together.embedding[i:i + 1], alone.embedding, rtol=0, atol=1e-10)


def test_level_and_scale_of_a_band_do_not_matter():
    "Instance normalisation takes both out, up to its eps"
    net, x = small(), rand(2, 50, 8)
    assert_close(net(3 * x + rand(8)).embedding, net(x).embedding, rtol=0, atol=1e-4)


def test_gradients_are_right():
    net = small(dilations=(1, 2), kernel=2)
    assert torch.autograd.gradcheck(lambda o: net(o).embedding, rand(2, 6, 8).requires_grad_())


@pytest.mark.parametrize('scale', WIDTHS)
@pytest.mark.parametrize('n_mels,K', [(64, 10), (8, 3)])
def test_counts_and_shapes(scale, n_mels, K):
    net, C = PhraseNet(n_mels, K, scale), WIDTHS[scale]['channels']
    A, E = WIDTHS[scale]['attention'], WIDTHS[scale]['embed']
    skip = (n_mels + 1) * C if n_mels != C else 0
    assert n_params(net) == 7 * (n_mels + 9 * C) * C + 20 * C + skip + (C + 1) * A + 2 * A + (A + 1) * C + (2 * C + 1) * E + (E + 1) * K
    out = net.eval().encoder(torch.randn(2, 20, n_mels))
    assert out.pooled.shape == (2, net.encoder.pooled_dim) == (2, 2 * C) and out.embedding.shape == (2, net.encoder.embed_dim)
    assert net(torch.randn(2, 20, n_mels)).shape == (2, K)


def test_settings_win_over_the_scale():
    assert PhraseNet(scale='smoke', embed=3).encoder.embed_dim == 3


def test_frame_level_is_all_before_the_pooling():
    net = CausalTCN(8, **SMALL)
    kept = {id(p) for part in net.frame_level() for p in part.parameters()}
    rest = [k for k, p in net.named_parameters() if id(p) not in kept]
    assert {k.split('.')[0] for k in rest} == {'pool', 'fc'} and len(kept) + len(rest) == len(list(net.parameters()))


def test_weights_survive_a_round_trip(tmp_path):
    a, b = (PhraseNet(8, 4, 'smoke').eval() for _ in range(2))
    torch.save(a.state_dict(), tmp_path / 'w.pt')
    b.load_state_dict(torch.load(tmp_path / 'w.pt', weights_only=True))
    x = torch.randn(2, 30, 8)
    assert torch.equal(a(x), b(x)) and torch.equal(a(x), copy.deepcopy(a)(x))


def test_bfloat16_pools_in_float32():
    net = PhraseNet(8, 4, 'smoke').eval()
    x = torch.randn(3, 40, 8)
    with torch.autocast('cpu', torch.bfloat16): out, logits = net.encoder(x), net(x)
    assert out.pooled.dtype == logits.dtype == torch.float32
    assert_close(logits, net(x), rtol=0, atol=.1)


# ---- training and answers

def spoken(n=60, K=3, F_=8, seed=0):
    "Utterances of 30 frames in which the phrase is the order of K tones, not which tones there are"
    g = torch.Generator().manual_seed(seed)
    phrase, length = torch.randint(K, (n,), generator=g), torch.full((n,), 30)
    parts = []
    for p, k in zip(phrase.tolist(), length.tolist()):
        x = torch.randn(k, F_, generator=g)
        for j in range(K): x[j * k // K:(j + 1) * k // K, (p + j) % K] += 6
        parts.append(x)
    return Features(torch.cat(parts).half(), length.cumsum(0) - length, length), phrase


QUICK = dict(batch=16, optimiser='adam', lr=1e-2, momentum=0., weight_decay=0., schedule='step', factor=.85, every=10, crop=30, mask=False)


def fitted(phrase=None, rows=None, epochs=2, **more):
    f, y = spoken()
    torch.manual_seed(0)
    net = PhraseNet(8, 3, 'smoke')
    return net, fit_phrases(net, f, y if phrase is None else phrase, torch.arange(60) if rows is None else rows, SpeakerSettings(epochs=epochs, **QUICK), 0, **more)


def test_it_learns_an_order():
    "Each phrase has the same three tones; only a network that hears their order can tell"
    net, curves = fitted(epochs=10)
    f, y = spoken(seed=1)
    holds('phrases test: the loss falls to half', curves[-1]['total'] / curves[0]['total'], below=.5)
    holds('phrases test: an order is learnt', (phrase_answers(net, f) == y).float().mean(), above=.9)
    assert not any(m.training for m in net.modules())


def test_labels_outside_the_rows_are_not_looked_at():
    f, y = spoken()
    rows = torch.arange(0, 60, 2)
    hidden = torch.full_like(y, -1)
    hidden[rows] = y[rows]
    a, b = fitted(y, rows)[0].state_dict(), fitted(hidden, rows)[0].state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_stopped_and_resumed_is_uninterrupted(tmp_path):
    class Killed(Exception): pass
    calls = []
    def kill(*_):
        calls.append(0)
        if len(calls) == 6: raise Killed
    whole = fitted()[0].state_dict()
    with pytest.raises(Killed): fitted(checkpoint=tmp_path / 'c.pt', key='k', save_every=0., progress=kill)
    again = fitted(checkpoint=tmp_path / 'c.pt', key='k', save_every=0.)[0].state_dict()
    assert all(torch.equal(whole[k], again[k]) for k in whole)


@pytest.mark.parametrize('phrase,message', [(torch.full((60,), 3), r'\[3\] lie outside 0\.\.2'), (torch.full((60,), -1), 'free speech'),
                                            (torch.zeros(60), 'whole numbers'), (torch.zeros(59, dtype=torch.int64), 'give one for each')])
def test_labels_are_refused(phrase, message):
    with pytest.raises(ValueError, match=message): fitted(phrase)


def test_scores_come_in_the_order_asked_for():
    g = torch.Generator().manual_seed(3)
    n = torch.randint(5, 60, (60,), generator=g)  # of all lengths: sorting moves every row
    f = Features(torch.randn(int(n.sum()), 8, generator=g).half(), n.cumsum(0) - n, n)
    torch.manual_seed(0)
    net = PhraseNet(8, 3, 'smoke')
    every = phrase_scores(net.train(), f)
    assert net.training and net.encoder.training and every.shape == (60, 3)
    assert_close(every.exp().sum(1), torch.ones(60), rtol=0, atol=1e-5)
    assert_close(every[7:8], net.eval()(*f.batch(torch.tensor([7]))).log_softmax(1), rtol=0, atol=1e-4)
    rows = torch.tensor([5, 59, 5, 0])
    for batch in (1, 3, 64): assert_close(phrase_scores(net, f, rows, batch), every[rows], rtol=0, atol=1e-4)
    assert torch.equal(phrase_answers(net, f, rows), every[rows].argmax(1))
    assert phrase_scores(net, f, torch.zeros(0, dtype=torch.int64)).shape == (0, 3)


# ---- the bias

def test_bias_takes_arrays_and_tensors():
    scores, said, asked = np.array([.5, .5, .1]), np.array([1, 2, 0]), np.array([1, 1, 0])
    assert phrase_bias(scores, said, asked).tolist() == [.5, -3.5, .1] and scores.tolist() == [.5, .5, .1]
    out = phrase_bias(torch.tensor(scores), torch.tensor(said), torch.tensor(asked))
    assert out.tolist() == [.5, -3.5, .1] and out.dtype == torch.float64
    assert phrase_bias(torch.tensor([.5]), torch.tensor([1]), torch.tensor([0])).dtype == torch.float32
    assert phrase_bias(scores, said, asked, 0.).tolist() == scores.tolist()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.floats(-1e3, -2.01))
def test_every_bias_below_minus_two_is_the_same_gate(seed, bias):
    r = np.random.default_rng(seed)
    cosine, said, asked = r.uniform(-1, 1, 50), r.integers(3, size=50), r.integers(3, size=50)
    order = np.lexsort((cosine, said == asked))  # all wrong words first, then by cosine
    assert (np.argsort(phrase_bias(cosine, said, asked, bias), kind='stable') == order).all()


def test_perfect_ears_never_hurt():
    "Lowering non-targets alone cannot lower the area under the curve"
    r = np.random.default_rng(0)
    for bias in (0., -.1, -.5, -4.):
        said, asked, same = r.integers(4, size=400), r.integers(4, size=400), r.random(400) < .5
        scores, target = r.normal(same * .3, .3), same & (said == asked)
        assert roc_auc_score(target, phrase_bias(scores, said, asked, bias)) >= roc_auc_score(target, scores)


@pytest.mark.parametrize('shapes', [((3,), (3,), (2,)), ((3,), (1,), (3,)), ((3, 1), (3,), (3,))])
def test_trials_must_agree(shapes):
    with pytest.raises(ValueError, match='one of each per trial'): phrase_bias(*(torch.zeros(s) for s in shapes))
