"Fbank: parity with the toolkits, padding, devices"
import math
from dataclasses import FrozenInstanceError, replace

import pytest
import torch
from torch.testing import assert_close

from mkdcls.engine.doors import torchaudio as torchaudio_door
from mkdcls.fbank import KALDI, SPEECHBRAIN, FbankSettings, fbank, frame_count, kaldi_settings, mean_norm, mel_filters, speechbrain_settings


def speechlike(n, rate, seed=0):
    "A few moving harmonics in noise, with a silent stretch"
    g = torch.Generator().manual_seed(seed)
    t = torch.arange(n) / rate
    wave = sum(torch.sin(2 * math.pi * k * (150 * t + 40 * t**2)) / k for k in range(1, 12)) / 10 + .02 * torch.randn(n, generator=g)
    return torch.where((t > .3) & (t < .4), torch.zeros(()), wave).float()


@pytest.mark.parametrize('rate,n_mels,n', [(8000, 80, 8000), (8000, 80, 12345), (16000, 80, 16000), (16000, 23, 20001), (11025, 40, 15000)])
@pytest.mark.parametrize('scale', [1, 32768])
def test_equals_kaldi(rate, n_mels, n, scale):
    kaldi = torchaudio_door().compliance.kaldi
    wave = scale * speechlike(n, rate)[None]
    theirs = kaldi.fbank(wave, sample_frequency=rate, num_mel_bins=n_mels, dither=0.)
    s = kaldi_settings(rate, n_mels)
    s = replace(s, frame_ms=1000 * int(rate * .025) / rate, hop_ms=1000 * int(rate * .01) / rate)  # Kaldi truncates where we round
    x, n_frames = fbank(wave, None, s)
    assert n_frames.tolist() == [len(theirs)]
    assert_close(x[0], theirs, rtol=1e-5, atol=2e-3)


@pytest.fixture
def speechbrain_fbank():
    torchaudio_door()
    return pytest.importorskip('speechbrain.lobes.features', reason='SpeechBrain is a peer (extra "peers") and is not installed').Fbank


@pytest.mark.parametrize('rate,n_mels,n_fft', [(16000, 40, 400), (16000, 80, 400), (8000, 80, 512), (8000, 80, 400), (8000, 40, 200)])
def test_equals_speechbrain(speechbrain_fbank, rate, n_mels, n_fft):
    waves = torch.stack([speechlike(2 * rate, rate, s) * a for s, a in ((0, 1), (1, .01), (2, .3))])
    theirs = speechbrain_fbank(sample_rate=rate, n_mels=n_mels, n_fft=n_fft)(waves)
    x, n_frames = fbank(waves, None, speechbrain_settings(rate, n_mels, n_fft))
    assert x.shape == theirs.shape and n_frames.tolist() == [theirs.shape[1]] * 3
    assert_close(x, theirs, rtol=1e-5, atol=1e-2)


def test_equals_speechbrain_at_its_defaults(speechbrain_fbank):
    wave = speechlike(16000, 16000)[None]
    assert_close(fbank(wave, None, speechbrain_settings())[0], speechbrain_fbank()(wave), rtol=1e-5, atol=1e-2)


def test_our_default_is_speechbrain_at_8_khz(speechbrain_fbank):
    wave = speechlike(8000, 8000)[None]
    x, n_frames = fbank(wave)
    assert (FbankSettings(), x.shape, n_frames.tolist()) == (SPEECHBRAIN, (1, 101, 80), [101])
    assert_close(x, speechbrain_fbank(sample_rate=8000, n_mels=80, n_fft=512)(wave), rtol=1e-5, atol=1e-2)


def test_mean_norm_equals_speechbrain():
    torchaudio_door()
    features = pytest.importorskip('speechbrain.processing.features', reason='SpeechBrain is a peer (extra "peers") and is not installed')
    x, n_frames = torch.randn(3, 50, 8), torch.tensor([50, 25, 10])
    theirs = features.InputNormalization(norm_type='sentence', std_norm=False)(x, n_frames / 50)
    ours = mean_norm(x, n_frames)
    for b, n in enumerate(n_frames): assert_close(ours[b, :n], theirs[b, :n], rtol=0, atol=1e-5)


@pytest.mark.parametrize('filters', ['hz', 'mel'])
@pytest.mark.parametrize('f_min', [0., 20.])
def test_every_filter_sees_something(filters, f_min):
    w = mel_filters(FbankSettings(filters=filters, f_min=f_min))
    assert w.shape == (257, 80) and (w.sum(0) > .05).all() and (w >= 0).all() and w.max() <= 1


@pytest.mark.parametrize('n', [200, 279, 280, 281, 7999, 8000, 8001])
@pytest.mark.parametrize('s', [SPEECHBRAIN, KALDI], ids=['centre', 'snip'])
def test_count_is_what_comes_out(n, s):
    x, n_frames = fbank(speechlike(n, 8000)[None], None, s)
    assert x.shape[1] == n_frames[0] == frame_count(n, s)


def test_neither_padding_nor_neighbours_matter():
    a, b = speechlike(5000, 8000, 1), 100 * speechlike(12000, 8000, 2)
    waves = torch.full((2, 12000), float('nan')); waves[0, :5000], waves[1] = a, b
    x, n_frames = fbank(waves, torch.tensor([5000, 12000]))
    assert_close(x[0, :n_frames[0]], fbank(a[None])[0][0], rtol=0, atol=2e-3)
    assert (x[0, n_frames[0]:] == 0).all() and x.isfinite().all()


def test_settings_cannot_be_changed_in_place_and_key_a_cache():
    with pytest.raises(FrozenInstanceError): SPEECHBRAIN.rate = 16000
    assert mel_filters(FbankSettings()) is mel_filters(SPEECHBRAIN)


def test_gradient_flows_to_the_wave():
    wave = speechlike(2000, 8000)[None].requires_grad_()
    fbank(wave)[0].sum().backward()
    assert wave.grad.isfinite().all() and wave.grad.abs().sum() > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device on this machine')
@pytest.mark.parametrize('s', [SPEECHBRAIN, KALDI], ids=['speechbrain', 'kaldi'])
def test_same_on_cuda(s):
    waves, n = torch.stack([speechlike(16000, 8000, i) for i in range(4)]), torch.tensor([16000, 9000, 8000, 400])
    x, f = fbank(waves, n, s)
    y, g = fbank(waves.cuda(), n.cuda(), s)
    assert y.device.type == g.device.type == 'cuda'
    assert_close(y.cpu(), x, rtol=1e-4, atol=2e-2 if s.log == 'dB' else 5e-3)
    with torch.autocast('cuda', dtype=torch.bfloat16): assert_close(fbank(waves.cuda(), n.cuda(), s)[0], y, rtol=0, atol=0)
    assert_close(mean_norm(y, g).cpu(), mean_norm(x, f), rtol=1e-4, atol=2e-2)
