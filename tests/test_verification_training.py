"The speaker loop: killed at every kind of place, in every kind of run; what moves and what does not"
from dataclasses import asdict, replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from mkdcls.encoders import EncoderOutput, statistics
from mkdcls.engine.features import Features
from mkdcls.engine.portable import holds
from mkdcls.intake.features import Streamed
from mkdcls.verification import training
from mkdcls.verification.losses import CircleHead, SoftmaxHead
from mkdcls.verification.training import SpeakerData, SpeakerSettings, embed_all, fit_speakers, fused, transfer


class Tiny(nn.Module):
    "The contract in few lines: a 2-D convolution, BatchNorm, dropout; statistics; a linear layer"
    n_mels, pooled_dim, embed_dim = 6, 48, 8

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(.2)
        self.after, self.fc = nn.BatchNorm1d(48), nn.Linear(48, 8)

    def frame_level(self): return [self.conv, self.norm]

    def forward(self, x, n_frames=None):
        h = F.relu(self.norm(self.conv(self.drop(x)[:, None]))).transpose(2, 3).flatten(1, 2)
        pooled = torch.cat(statistics(h), 1)
        return EncoderOutput(pooled, self.fc(self.after(pooled)))


def corpus(speakers=5, per=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    bend, who = torch.randn(speakers, 6, generator=g), torch.arange(speakers).repeat_interleave(per)
    n = torch.randint(8, 40, (len(who),), generator=g)
    values = bend[who].repeat_interleave(n, 0) + torch.randn(int(n.sum()), 6, generator=g)
    return SpeakerData(Features(values.half(), n.cumsum(0) - n, n), who, torch.arange(len(who)))


data = corpus()
SGD = SpeakerSettings(epochs=4, batch=8, lr=.05, crop=12, mask=False, patience=0, threshold=.9, factor=.5)
ADAM = SpeakerSettings(epochs=4, batch=8, optimiser='adam', lr=.01, schedule='step', factor=.85, every=2, crop=12, mask=False, clip=5.)


def run(s, weights=0, data=data, head=SoftmaxHead, freeze=False, seed=0, **more):
    torch.manual_seed(weights)
    net, head = Tiny(), head(8, 5)
    torch.seed()  # what the global generator holds must not matter
    curves = fit_speakers(net, head, data, s, seed, frozen=(net.conv, net.norm) if freeze else (), **more)
    return [{k: v for k, v in c.items() if k != 'seconds'} for c in curves], [*net.state_dict().values(), *head.state_dict().values()]


def same(a, b): return a[0] == b[0] and all(torch.equal(x, y) for x, y in zip(a[1], b[1], strict=True))


class Killed(Exception): pass


def killed(path, at, *args, **kwargs):
    "Run, die at (epoch, step), begin again from other weights; 'forever' checkpoints only at the ends of epochs"
    def die(epoch, step, steps, ledger):
        if (epoch, step) == at: raise Killed
    with pytest.raises(Killed): run(*args, checkpoint=path, key='k', progress=die, **kwargs)
    if 'weights' not in kwargs and not kwargs.get('freeze'): kwargs['weights'] = 9
    return run(*args, checkpoint=path, key='k', **kwargs)


KINDS = {
    'sgd': (SGD, {}), 'adam circle': (ADAM, dict(head=CircleHead)), 'bf16': (replace(ADAM, precision='bf16'), {}),
    'channels last': (replace(SGD, channels_last=True), {}), 'frozen': (replace(ADAM, weight_decay=.1), dict(freeze=True)),
    'mse': (SGD, dict(distil='mse', targets=torch.randn(25, 8, generator=torch.Generator().manual_seed(0)))),
    'cos': (ADAM, dict(distil='cos', targets=torch.randn(25, 8, generator=torch.Generator().manual_seed(0)), weight=3.))}


@cache
def whole(kind):
    "The run that nobody interrupts, once for all tests that compare with it"
    s, more = KINDS[kind]
    return run(s, **more)


@pytest.mark.parametrize('kind', KINDS)
def test_same_seed_same_run(kind):
    s, more = KINDS[kind]
    assert same(whole(kind), run(s, **more)) and not same(whole(kind), run(s, seed=1, **more))


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('at', [(1, 2), (2, 3), (4, 3)])
def test_killed_and_resumed_is_the_same_run(kind, at, tmp_path):
    "After some steps of the first epoch, at an epoch's last step, in the last epoch"
    s, more = KINDS[kind]
    assert same(killed(tmp_path / 'a.pt', at, s, save_every=0., **more), whole(kind))


def test_checkpoints_between_epochs_only(tmp_path):
    "With a long interval the run goes back to the end of the last epoch and still ends at the same numbers"
    assert same(killed(tmp_path / 'a.pt', (3, 2), SGD, save_every=1e9), whole('sgd'))


def test_finished_run_is_not_trained_again(tmp_path):
    steps = []
    first = run(SGD, checkpoint=tmp_path / 'a.pt', key='k')
    again = run(SGD, weights=3, checkpoint=tmp_path / 'a.pt', key='k', progress=lambda *a: steps.append(a))
    assert same(first, again) and not steps


def test_plateau_survives(tmp_path):
    "The kill lies between two bad epochs: a loop that forgot the first would halve the rate an epoch late"
    s = replace(SGD, epochs=6, patience=1, threshold=.99)
    curves = killed(tmp_path / 'a.pt', (3, 2), s, save_every=0.)[0]
    lowest = min(c['total'] for c in curves[:-1])
    holds('speaker training test: no loss is a new best by 99 %', lowest / curves[0]['total'], above=.01)
    assert [c['lr'] for c in curves] == [.05, .05, .05, .025, .025, .0125]


def test_bad_checkpoints(tmp_path):
    path = tmp_path / 'a.pt'
    run(replace(SGD, epochs=1), checkpoint=path, key='one')
    with pytest.raises(ValueError, match="is of run 'one', this is run 'two'"): run(SGD, checkpoint=path, key='two')
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match='truncated or not ours'): run(SGD, checkpoint=path, key='one')


def test_frozen_part_does_not_move():
    "Under an optimiser with weight decay; whatever is not frozen moves"
    torch.manual_seed(0)
    net, head = Tiny(), SoftmaxHead(8, 5)
    was = {k: v.clone() for k, v in net.state_dict().items()}
    fit_speakers(net, head, data, replace(ADAM, weight_decay=.1), 0, frozen=tuple(net.frame_level()))
    moved = {k for k, v in net.state_dict().items() if not torch.equal(v, was[k])}
    assert moved == {k for k in was if not k.startswith(('conv', 'norm'))}
    assert all(p.grad is None for part in net.frame_level() for p in part.parameters())


def test_weight_decay_is_the_settings():
    "One SGD step by hand: w - lr·(g + wd·w)"
    torch.manual_seed(0)
    net, head = Tiny(), SoftmaxHead(8, 5)
    with torch.no_grad(): was = head.linear.weight.clone()
    net.eval()
    seen = []
    hook = head.linear.weight.register_hook(lambda g: seen.append(g.clone()))
    fit_speakers(net, head, data, replace(SGD, epochs=1, batch=25, weight_decay=.1), 0)
    hook.remove()
    assert_close(head.linear.weight.detach(), was - .05 * (seen[0] + .1 * was))


def test_other_rows_are_not_seen():
    "Rows that are not trained on may hold -1 and NaN"
    values, speaker = data.features.values.clone(), data.speaker.clone()
    values[data.features.starts[20]:] = float('nan')
    speaker[20:] = -1
    d = SpeakerData(Features(values, data.features.starts, data.features.n_frames), speaker, torch.arange(20))
    assert d.n_speakers == 4
    curves, weights = run(SGD, data=d)
    assert all(w.isfinite().all() for w in weights)


def test_rows_of_any_order_and_a_last_batch_of_one():
    "25 rows in batches of 8 leave one over: it joins its neighbour, since BatchNorm cannot train on one"
    sizes = []
    run(replace(SGD, epochs=1), progress=lambda epoch, step, steps, ledger: sizes.append((step, steps)))
    assert sizes == [(1, 3), (2, 3), (3, 3)]


def test_streamed_features_train_alike():
    f = data.features
    d = SpeakerData(Streamed(f, torch.device('cpu')), data.speaker, data.rows)
    assert same(run(SGD, data=d), whole('sgd'))
    torch.manual_seed(0)
    net = Tiny()
    assert torch.equal(embed_all(net, d.features, d.rows, 12, 3), embed_all(net, f, d.rows, 12, 3))


def test_masks_are_drawn_from_the_seed():
    "SpecAugment gets a generator of the step, after the cuts have been drawn from it"
    s = replace(SGD, mask=True)
    first = run(s)
    assert same(first, run(s)) and not same(first, whole('sgd'))


def test_every_step_draws_anew(monkeypatch):
    "Cuts differ between the steps and the epochs of a run"
    seen, cut = [], training.cut
    monkeypatch.setattr(training, 'cut', lambda f, index, frames, u: seen.append(tuple(u[:4].tolist())) or cut(f, index, frames, u))
    run(SGD)
    assert len(set(seen)) == len(seen) == 12


def test_distillation_adds_its_weight():
    ledger = []
    targets = torch.ones(25, 8)
    run(replace(SGD, epochs=1), targets=targets, distil='mse', weight=.25, progress=lambda e, i, n, o: ledger.append(o))
    for o in ledger: assert_close(o['total'], o['speaker'] + .25 * o['distil'])
    run(replace(SGD, epochs=1), progress=lambda e, i, n, o: ledger.append(o))
    assert 'distil' not in ledger[-1] and ledger[-1]['total'] == ledger[-1]['speaker']


@pytest.mark.parametrize('kind', ['mse', 'cos'])
def test_targets_are_reached(kind):
    "With all weight on the target, ten hidden directions that differ by speaker are learnt"
    g = torch.Generator().manual_seed(1)
    targets = F.normalize(torch.randn(5, 8, generator=g), dim=1)[data.speaker] * 8**.5
    s = replace(ADAM, epochs=60, lr=.02, every=20)
    torch.manual_seed(0)
    net = Tiny()
    before = F.cosine_similarity(embed_all(net, data.features, data.rows, 12, 3).mean(1), targets).mean()
    fit_speakers(net, SoftmaxHead(8, 5), data, s, 0, targets=targets, distil=kind, weight=20.)
    after = F.cosine_similarity(embed_all(net, data.features, data.rows, 12, 3).mean(1), targets).mean()
    assert before < .5
    holds(f'speaker training test: {kind} reaches its targets', after, above=.9)


@pytest.mark.parametrize('change,says', [
    (dict(optimiser='lion'), "'sgd', 'adam'"), (dict(schedule='cosine'), "'plateau', 'step'"), (dict(precision='fp16'), "'float32', 'bf16'"),
    (dict(epochs=0), 'epochs=0'), (dict(batch=1), 'batch=1'), (dict(crop=0), 'crop=0'), (dict(every=0), 'every=0'), (dict(patience=-1), 'patience=-1')])
def test_settings_refuse(change, says):
    with pytest.raises(ValueError, match=says): SpeakerSettings(**change)


def test_presets_are_plain_data():
    "A record can hold them, and they differ where the papers differ"
    a, b = asdict(SpeakerSettings.SEO_KIM), asdict(SpeakerSettings.IMU)
    assert 'SEO_KIM' not in a and SpeakerSettings(**a) == SpeakerSettings.SEO_KIM
    assert (a['lr'], a['momentum'], a['weight_decay'], a['factor'], a['epochs'], a['batch'], a['crop']) == (.1, .9, 1e-4, .1, 200, 96, 1200)
    assert (b['optimiser'], b['lr'], b['weight_decay'], b['factor'], b['every'], b['crop'], b['mask']) == ('adam', 1e-3, 5e-5, .85, 10, 200, False)


@pytest.mark.parametrize('more,says', [
    (dict(distil='kl', targets=torch.zeros(25, 8)), "choose one of"), (dict(distil='mse'), 'both or neither'), (dict(targets=torch.zeros(25, 8)), 'both or neither'),
    (dict(distil='cos', targets=torch.zeros(24, 8)), 'one row an utterance'), (dict(distil='cos', targets=torch.full((25, 8), torch.nan)), 'NaN'),
    (dict(frozen=(nn.Linear(2, 2),)), 'not part of this network')])
def test_fit_refuses(more, says):
    with pytest.raises(ValueError, match=says): fit_speakers(Tiny(), SoftmaxHead(8, 5), data, SGD, 0, **more)


def test_data_refuses():
    f = data.features
    with pytest.raises(ValueError, match='24 speakers for 25'): SpeakerData(f, data.speaker[:24], data.rows)
    with pytest.raises(ValueError, match=r'within 0\.\.24'): SpeakerData(f, data.speaker, torch.tensor([25]))
    with pytest.raises(ValueError, match='0 of them'): SpeakerData(f, data.speaker, torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match='speaker < 0'): SpeakerData(f, data.speaker - 1, data.rows)


def test_transfer():
    torch.manual_seed(0)
    a, b, c = Tiny(), Tiny(), Tiny()
    drawn = {k: v.clone() for k, v in b.state_dict().items()}
    assert transfer(b, a.state_dict(), 'scratch') == () and all(torch.equal(v, drawn[k]) for k, v in b.state_dict().items())
    assert transfer(b, a.state_dict()) == () and all(torch.equal(v, a.state_dict()[k]) for k, v in b.state_dict().items())
    frozen = transfer(c, a.state_dict(), 'head')
    assert frozen == (c.conv, c.norm) and not any(p.requires_grad for m in frozen for p in m.parameters()) and c.fc.weight.requires_grad
    assert transfer(c, a.state_dict()) == () and all(p.requires_grad for p in c.parameters())  # an earlier freeze does not bind
    with torch.no_grad(): a.fc.weight.zero_()
    assert b.fc.weight.abs().sum() > 0  # copies, not views
    for wrong in ({}, {**a.state_dict(), 'head.weight': torch.zeros(1)}, {**a.state_dict(), 'fc.bias': torch.zeros(9)}):
        with pytest.raises(ValueError, match='entries do not fit'): transfer(b, wrong)


class Look(nn.Module):
    "The frames of a segment as its 'embedding', then a 1: dividing by the last number undoes the scaling to length 1"
    def forward(self, x): return EncoderOutput(None, F.pad(x[..., 0], (0, 1), value=1.))


def numbered(*lengths):
    "Utterances whose frames are numbers, counted through the whole corpus"
    n = torch.tensor(lengths)
    return Features(torch.arange(int(n.sum()))[:, None].float(), n.cumsum(0) - n, n)


def pieces(features, rows, frames, segments):
    e = embed_all(Look(), features, torch.tensor(rows), frames=frames, segments=segments)
    return (e[..., :-1] / e[..., -1:]).round().long()


@given(st.lists(st.integers(1, 900), min_size=1, max_size=3), st.integers(1, 400), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_segments(lengths, frames, count):
    "At regular intervals from the first frame to the last; a short utterance begins anew; neighbours are never touched"
    f = numbered(*lengths)
    for n, where in zip(lengths, pieces(f, list(range(len(lengths))), frames, count) - f.starts[:, None, None]):
        at = where[:, 0]
        assert where.shape == (count, frames) and 0 <= int(where.min()) and int(where.max()) < n
        assert (where == (at[:, None] + torch.arange(frames)) % n).all()
        spare = max(n - frames, 0)
        assert at.tolist() == ([spare // 2] if count == 1 else [i * spare // (count - 1) for i in range(count)])
        if n > frames and count > 1: assert int(where[-1, -1]) == n - 1 and int(at.diff().max() - at.diff().min()) <= 1


def test_segments_by_hand():
    "A single segment lies in the middle; a corpus streamed from disk and rows in another order give the same"
    f = numbered(7, 3)
    assert pieces(f, [0, 1], 4, 2).tolist() == [[[0, 1, 2, 3], [3, 4, 5, 6]], [[7, 8, 9, 7]] * 2]
    assert pieces(f, [1, 0], 5, 1).tolist() == [[[7, 8, 9, 7, 8]], [[1, 2, 3, 4, 5]]]
    assert pieces(Streamed(f, torch.device('cpu')), [1, 0], 5, 1).tolist() == [[[7, 8, 9, 7, 8]], [[1, 2, 3, 4, 5]]]


def test_nothing_to_cut():
    with pytest.raises(ValueError, match='frames is 0'): pieces(numbered(7, 3), [0], 0, 2)
    with pytest.raises(ValueError, match='utterance 1 has no frames'): numbered(7, 0)


def test_embed_all_leaves_the_network_as_it_was():
    torch.manual_seed(0)
    net = Tiny().train()
    was = {k: v.clone() for k, v in net.state_dict().items()}
    e = embed_all(net, data.features, data.rows[[4, 2]], 12, 4)
    assert net.training and all(torch.equal(v, was[k]) for k, v in net.state_dict().items()) and not e.requires_grad
    assert_close(e, embed_all(net, data.features, data.rows, 12, 4, batch=3)[[4, 2]])
    half = embed_all(net, data.features, data.rows[[4, 2]], 12, 4, precision='bf16')
    assert half.dtype == torch.float32 and (half * e).sum(2).min() > .99


def test_fused():
    g = torch.Generator().manual_seed(0)
    a, b, c = torch.randn(3, 7, 16, generator=g)
    assert_close(fused([a, b, c], normalise=False, rms=None), (a + b + c) / 3)
    assert_close(fused([a, 9 * b, c]), fused([a, b, c]))
    assert_close(fused([a, b]), fused([b, a]))
    assert_close(fused([a, b, c]).square().mean(1), torch.ones(7))
    assert_close(F.normalize(fused([a, b, c]), dim=1), F.normalize(fused([a, b, c], rms=None), dim=1))
    for bad in ([], [a, b[:6]], [a, b[:, :8]], [a[0], b[0]]):
        with pytest.raises(ValueError, match='one E'): fused(bad)


def test_every_network_of_the_family_fits_the_loop():
    "One step of each kind of network that exists, by the contract of pages 22 and 23"
    nets = []
    try: from mkdcls.verification.seo_kim import scaled_resnet; nets.append(scaled_resnet('MLA-SAP-FR-DLN', scale='smoke'))
    except ImportError: pass
    try: from mkdcls.verification.imu_networks import imu_network; nets += [imu_network(n, scale='smoke') for n in ('SE-Res2Net-50', 'ECAPA-TDNN')]
    except ImportError: pass
    if not nets: pytest.skip('pages 22 and 23 are not written yet')
    for net in nets:
        g, n = torch.Generator().manual_seed(0), torch.tensor([60, 40, 90, 70])
        d = SpeakerData(Features(torch.randn(260, net.n_mels, generator=g).half(), n.cumsum(0) - n, n), torch.tensor([0, 0, 1, 1]), torch.arange(4))
        fit_speakers(net, CircleHead(net.embed_dim, 2), d, replace(ADAM, epochs=1, batch=4, crop=50), 0, frozen=tuple(net.frame_level()))
        assert embed_all(net, d.features, d.rows, 50, 2).shape == (4, 2, net.embed_dim)
