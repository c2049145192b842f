"Eq. 1 against slow and plain second opinions, and the corners that would crowd the notebook"
import copy
import dataclasses
import itertools
import pickle

import pytest
import torch
from torch.testing import assert_close

from mkdcls.mixup import (CUTS, EDGES, KINDS, NO_SPECAUGMENT, SPECAUGMENT, MixupSettings, SpecAugmentSettings, draw, frame_mask, frames_at, mixup, pick,
                          spec_augment, stripes, temporal_mean, time_warp)


def seeded(k=0): return torch.Generator().manual_seed(k)


def batch(lengths=(37, 20, 5, 1), F=6, seed=0, T=None):
    n = torch.tensor(lengths)
    x = torch.randn(len(n), T or int(n.max()), F, generator=seeded(seed))
    return x.masked_fill(~frame_mask(n, x.shape[1]), 0), n


def slow_mean(x, n, T, edge, kind):
    "Eq. 1's window, one frame at a time"
    out = torch.zeros_like(x)
    for b, N in enumerate(n.tolist()):
        w = max(1, N // 10) if T == 'tenth' else T
        offsets = range(-(w // 2), -(w // 2) + w) if kind == 'mean' else range(-(w // 2), w // 2 + 1)
        for i in range(N):
            seen = [x[b, (i + o) % N] for o in offsets] if edge == 'circular' else [x[b, i + o] for o in offsets if 0 <= i + o < N]
            out[b, i] = torch.stack(seen).mean(0) * (len(offsets)/w if kind == 'literal' else 1)
    return out


@pytest.mark.parametrize('edge,kind,T', list(itertools.product(EDGES, KINDS, (1, 2, 5, 10, 60, 'tenth'))))
def test_temporal_mean_equals_a_slow_loop(edge, kind, T):
    x, n = batch()
    assert_close(temporal_mean(x, n, T, edge, kind), slow_mean(x, n, T, edge, kind), rtol=0, atol=1e-5)


def test_long_utterances_keep_their_digits():
    x = 1000 + torch.randn(1, 20_000, 2, generator=seeded())
    n = torch.tensor([20_000])
    exact = temporal_mean(x.double(), n, 3)
    assert_close(temporal_mean(x, n, 3).double(), exact, rtol=1e-7, atol=0)
    assert_close(exact[:, 1:-1], x.double().unfold(1, 3, 1).mean(-1), rtol=1e-12, atol=0)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
def test_dtype_is_kept(dtype):
    x, n = batch((30, 12))
    for cut in CUTS: assert mixup(x.to(dtype), n, freq_cut=cut, generator=seeded()).dtype == dtype


def test_inputs_are_not_changed():
    x, n = batch((60, 30), F=80)
    before = copy.deepcopy((x, n))
    for cut in CUTS: mixup(x, n, freq_cut=cut, generator=seeded())
    assert torch.equal(x, before[0]) and torch.equal(n, before[1])


def test_zero_masks_and_no_warp_is_the_identity():
    x, n = batch(F=80)
    assert torch.equal(spec_augment(x, n, NO_SPECAUGMENT), x)
    assert NO_SPECAUGMENT.n_draws == 2


def test_pick_is_exact_at_both_ends():
    top = torch.tensor([2**31 - 1])
    for n in (1, 2, 3, 80, 2001, 2**31): assert pick(top, n) == n - 1 and pick(top*0, n) == 0


def test_stripes_are_uniform_over_width_and_position():
    k, size, widest = 40_000, 10, 4
    s = stripes(torch.full((k,), size), size, torch.full((k,), widest), draw(k, 2, seeded(1)))
    width = torch.bincount(s.sum(1), minlength=5)/k
    assert_close(width, torch.full((5,), .2), rtol=0, atol=.01)
    first = s[s.sum(1) == 4].float().argmax(1)
    assert_close(torch.bincount(first, minlength=7)/len(first), torch.full((7,), 1/7), rtol=0, atol=.015)


def test_every_utterance_gets_its_own_masks():
    x = torch.ones(6, 100, 80)
    y = spec_augment(x, torch.full((6,), 100), generator=seeded())
    assert len({tuple(o.flatten().tolist()) for o in y}) == 6


def test_default_numbers_are_speechbrains():
    # randint(0, 20) and randint(0, 100) exclude their upper end; window 5; two masks each
    assert dataclasses.astuple(SPECAUGMENT) == (2, 19, 2, 99, .2, 5)


def test_warp_moves_at_most_the_window_and_keeps_order():
    n = torch.full((500,), 60)
    ramp = torch.arange(60.)[None, :, None].expand(500, 60, 1)
    y = time_warp(ramp, n, 5, draw(500, 2, seeded()))[..., 0]
    assert (y.diff(dim=1) > 0).all() and y[:, 0].eq(0).all()
    last = y[:, -1]   # 59, unless 54 was moved to 59 and the right part is that one frame
    assert (torch.minimum((last - 59).abs(), (last - 54).abs()) < 1e-4).all() and ((last - 59).abs() < 1e-4).float().mean() > .95
    shift = (y - ramp[..., 0]).abs().amax(1)
    assert shift.max() <= 5 + 1e-4 and shift.max() > 4 and (shift == 0).any()


def test_time_warp_with_one_free_point():
    y = time_warp(torch.arange(11.)[None, :, None], torch.tensor([11]), 5, torch.tensor([[2**31 - 1, 2**31 - 1]]))[0, :, 0]
    assert y[-1] == 5 and (y.diff() >= 0).all()   # c = 5 moved to 10: the five frames 0..4 fill ten, the other six fall on the last


def test_generator_replay_from_a_saved_state():
    x, n = batch((80, 40), F=80)
    g = seeded(3)
    mixup(x, n, generator=g)
    state = g.get_state()
    want = mixup(x, n, generator=g)
    again = torch.Generator()
    again.set_state(state)
    assert torch.equal(want, mixup(x, n, generator=again)) and torch.equal(g.get_state(), again.get_state())


def test_global_generator_when_none_is_given():
    x, n = batch((80,), F=80)
    torch.manual_seed(5)
    a = mixup(x, n)
    torch.manual_seed(5)
    assert torch.equal(a, mixup(x, n))


def test_settings_are_values():
    a, b = MixupSettings(), MixupSettings(specaug=SpecAugmentSettings())
    assert a == b and hash(a) == hash(b) and pickle.loads(pickle.dumps(a)) == a
    with pytest.raises(dataclasses.FrozenInstanceError): a.lam = .5
    assert dataclasses.asdict(a)['specaug']['freq_width'] == 19


def test_settings_call_is_mixup():
    x, n = batch((50, 20), F=80)
    o = MixupSettings(.6, 'tenth', 'literal', 'circular', 'mask', SpecAugmentSettings(time_masks=1))
    direct = mixup(x, n, lam=.6, window='tenth', kind='literal', edge='circular', freq_cut='mask', specaug=o.specaug, generator=seeded())
    assert torch.equal(o(x, n, seeded()), direct)


@pytest.mark.parametrize('bad,words', [
    (dict(lam=-.1), '0..1'), (dict(window=0), 'tenth'), (dict(window=2.5), 'tenth'), (dict(window=True), 'tenth'), (dict(kind='max'), 'kind'),
    (dict(edge='zero'), 'edge'), (dict(freq_cut='cut'), 'freq_cut')])
def test_bad_settings_are_refused_twice(bad, words):
    x, n = batch()
    with pytest.raises(ValueError, match=words): MixupSettings(**bad)
    with pytest.raises(ValueError, match=words): mixup(x, n, **bad)


@pytest.mark.parametrize('n,words', [([0, 5], '1..9'), ([5, 10], '1..9'), ([5], 'one integer'), ([.5, 1.], 'one integer')])
def test_bad_lengths_are_refused(n, words):
    with pytest.raises(ValueError, match=words): mixup(torch.zeros(2, 9, 80), torch.tensor(n))


def test_lam_zero_is_the_smoothed_copy():
    x, n = batch((50, 20), F=80)
    r = draw(2, SPECAUGMENT.n_draws + 1, seeded())
    assert torch.equal(mixup(x, n, lam=0., draws=r), temporal_mean(spec_augment(x, n, draws=r[:, :-1]), n))


def test_gradient_reaches_every_real_frame_and_no_padding():
    x, n = batch((30, 12), F=80)
    x.requires_grad_()
    mixup(x, n, generator=seeded()).sum().backward()
    real = frame_mask(n, 30).expand_as(x)
    assert (x.grad[real] >= .69).all() and x.grad[~real].eq(0).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here: the CPU half of the promise is tested above")
@pytest.mark.parametrize('cut,window', list(itertools.product(CUTS, (10, 'tenth'))))
def test_cuda_agrees_with_the_cpu(cut, window):
    x, n = batch((300, 150, 40, 1), F=80)
    o = MixupSettings(freq_cut=cut, window=window)
    here, there = o(x, n, seeded()), o(x.cuda(), n.cuda(), seeded())
    assert_close(there.cpu(), here, rtol=0, atol=1e-5)
    assert torch.equal(spec_augment(x, n, generator=seeded()) == 0, spec_augment(x.cuda(), n.cuda(), generator=seeded()).cpu() == 0)


def test_whole_frames_are_what_gather_gives():
    "`frames_at` copies rows; number by number the same, and the gradient as well"
    g = torch.Generator().manual_seed(0)
    for shape, dtype in (((3, 7, 5), torch.float64), ((1, 1, 4), torch.float32)):
        x = torch.randn(shape, generator=g, dtype=dtype).requires_grad_()
        k = torch.randint(shape[1], (shape[0], 9), generator=g)
        ours, plain = frames_at(x, k), x.gather(1, k[..., None].expand(-1, -1, shape[2]))
        assert torch.equal(ours, plain)
        w = torch.randn(ours.shape, generator=g, dtype=dtype)
        torch.testing.assert_close(*(torch.autograd.grad((y * w).sum(), x)[0] for y in (ours, plain)))
