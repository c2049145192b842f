"""The speakers' front end against independent implementations, on properties and on bad input."""
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from mkdcls.engine.doors import torchaudio
from mkdcls.engine.features import Features
from mkdcls.intake.features import Streamed
from mkdcls.fbank import fbank
from mkdcls.standin import draw_manifest, render
from mkdcls.verification import frontend
from mkdcls.verification.frontend import (
    SNRS,
    augmented,
    background,
    cut,
    draws,
    enhance,
    front_end,
    instance_norm,
    melbank,
    mfcc,
    sliding_norm,
    spec_augment_to_mean,
    speech_frames,
    voice_activity,
)


@pytest.fixture(scope="module")
def spoken():
    "Rows, waves, samples, log-Mel and frames of four sentences"
    m = draw_manifest("FCVG", 4, 1, seed=2)
    waves, n = render(m)
    return m, waves, n, *fbank(waves, n, melbank())


# ---- parity

def test_sliding_norm_is_torchaudios(spoken):
    "Its own loop over frames, with the variance, centred: Kaldi's tool"
    *_, x, n = spoken
    cmn = torchaudio().functional.sliding_window_cmn
    for i in range(len(x)):
        one = x[i, :n[i]].double()
        assert_close(sliding_norm(one, eps=0), cmn(one, cmn_window=300, center=True, norm_vars=True), rtol=0, atol=1e-6)


def test_mfcc_is_torchaudios(spoken):
    dct = torchaudio().functional.create_dct(40, 64, "ortho")
    assert_close(mfcc(spoken[3], 40), spoken[3] @ dct, rtol=0, atol=1e-4)


def test_melbank_is_torchaudios_but_for_its_triangles(spoken):
    "The same frames: power spectra summed over all bands differ by the triangles' edges only"
    _, waves, n, x, frames = spoken
    s = melbank()
    t = torchaudio().transforms.MelSpectrogram(8000, 512, 200, 80, n_mels=64, window_fn=torch.hamming_window, center=True, pad_mode="constant")
    emphasised = waves[:1] - .97 * torch.cat([waves[:1, :1], waves[:1, :-1]], 1)
    other = (t(emphasised).mT + s.floor).log()[0]
    k = min(int(frames[0]), len(other))
    assert torch.corrcoef(torch.stack([x[0, 2:k - 2].flatten(), other[2:k - 2].flatten()]))[0, 1] > .99


# ---- properties

@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(1, 60), st.integers(1, 50), st.integers(0, 99))
def test_sliding_norm_by_definition(T, window, seed):
    x = torch.randn(T, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.double) + 50
    want = []
    for t in range(T):
        a = max(0, min(t - window // 2, T - window))
        w = x[a:a + window]
        want.append((x[t] - w.mean(0)) / (w.var(0, correction=0) + 1e-5).sqrt())
    assert_close(sliding_norm(x, window=window), torch.stack(want), rtol=0, atol=1e-7)
    padded = torch.cat([x, torch.full((7, 3), 1e6)])
    both = sliding_norm(torch.stack([padded, padded]), torch.tensor([T, T]), window)
    assert_close(both[1, :T], torch.stack(want), rtol=0, atol=1e-7)
    assert both[:, T:].eq(0).all()


def test_norms_in_half_precision_and_under_autocast(spoken):
    *_, x, n = spoken
    want = instance_norm(x, n)
    assert_close(instance_norm(x.half(), n).float(), want, rtol=0, atol=.02)
    with torch.autocast("cpu", torch.bfloat16): got = instance_norm(x, n)
    assert got.dtype == torch.float32 and torch.equal(got, want)


def test_cut_from_disk_and_from_memory(spoken):
    *_, x, n = spoken
    values = torch.cat([v[:k] for v, k in zip(x, n.tolist())]).half()
    f = Features(values, n.cumsum(0) - n, n)
    index, u = torch.tensor([3, 0, 2, 0]), torch.tensor([.1, .99, .5, 0])
    got = cut(f, index, 200, u)
    assert got.shape == (4, 200, 64) and torch.equal(got, cut(Streamed(f, torch.device("cpu")), index, 200, u))
    assert torch.equal(cut(f, index[:1], 300), x[3, torch.arange(300) % n[3]].half().float()[None]), "tiled"
    for bad in (0, True, 2.5, None):
        with pytest.raises(ValueError, match="whole number"): cut(f, index, bad)
    with pytest.raises(ValueError, match="int64"): cut(f, index.float(), 200)


def test_spec_augment_hides_at_most_what_it_may(spoken):
    x = torch.randn(200, 100, 64)
    hidden = spec_augment_to_mean(x, torch.Generator().manual_seed(1)) != x
    frames, bands = hidden.all(2).sum(1), hidden.all(1).sum(1)
    assert 30 < frames.max() <= 40 and 20 < bands.max() <= 30
    n = torch.full((200,), 60)
    assert spec_augment_to_mean(x, torch.Generator().manual_seed(1), n)[:, 60:].eq(0).all()


# ---- waves

def test_voice_activity_and_enhance_at_16_khz():
    "Noise bursts with silence between: only sound is kept, whatever the rate"
    rng, r = np.random.default_rng(0), 16000
    sound = (.1 * np.sin(2 * np.pi * 150 * np.arange(r) / r) * (1 + np.sin(2 * np.pi * 4 * np.arange(r) / r)) + .01 * rng.standard_normal(r)).astype(np.float32)
    w = np.concatenate([np.zeros(r, np.float32), sound, np.zeros(r, np.float32)])
    assert len(enhance(w, r)) == len(w) and enhance(w, r).dtype == np.float32
    d = speech_frames(w, r)
    assert not d[:30].any() and len(d) == 100 and len(voice_activity(w, r)) in (len(w), d.sum() * 480)


def test_detector_has_no_memory_between_utterances(spoken):
    w = spoken[1][0, :spoken[2][0]].numpy()
    first = voice_activity(w)
    voice_activity(np.random.default_rng(0).standard_normal(8000).astype(np.float32))
    assert np.array_equal(first, voice_activity(w))


def test_bad_waves():
    with pytest.raises(ValueError, match="finite mono"): voice_activity(np.array([np.nan] * 4000, np.float32))
    with pytest.raises(ValueError, match="one mono utterance"): enhance(np.zeros((2, 4000)))
    assert not enhance(np.zeros(4000, np.float32)).any() and len(enhance(np.ones(50))) == 50


def test_a_library_that_is_missing(monkeypatch):
    def gone(name): raise ImportError(name)
    monkeypatch.setattr(frontend.importlib, "import_module", gone)
    with pytest.raises(ImportError, match="pip install webrtcvad-wheels"): voice_activity(np.zeros(4000, np.float32))


# ---- a list of noises

@pytest.fixture
def noises(tmp_path):
    "Ten short files in MUSAN's three kinds, listed as `speakers.musan` lists them"
    rows = []
    for i in range(10):
        kind, seconds = ("noise", "music", *["speech"] * 8)[i], .5 + .3 * i
        path = tmp_path / f"{kind}-{i}.wav"
        sf.write(path, .1 * np.random.default_rng(i).standard_normal(round(16000 * seconds)), 16000)
        rows.append((path.name, kind, path.name, str(path), 16000, seconds))
    return pd.DataFrame(rows, columns=["name", "kind", "source", "path", "rate", "duration"])


def test_noises_from_files(noises, spoken):
    "Short files are repeated, long ones cut; the level is the recipe's; each utterance's noise is its own"
    m, waves, n, *_ = spoken
    m = pd.concat([m] * 4, ignore_index=True).assign(utterance=[f"u{i}" for i in range(16)])
    waves, n = waves.repeat(4, 1), n.repeat(4)
    got, kinds = augmented(m, waves, n, noises=noises), draws(m["utterance"])[1]
    assert set(kinds) == {"reverb", "noise", "music", "babble"}
    for i in np.flatnonzero(kinds != "reverb"):
        level = 10 * torch.log10(waves[i].square().sum() / (got[i] - waves[i]).square().sum())
        assert min(abs(float(level) - s) for s in SNRS[kinds[i]]) < 1e-2
        assert got[i, n[i]:].eq(0).all()
    assert torch.equal(got[5:6], augmented(m[5:6], waves[5:6], n[5:6], noises=noises))
    assert not torch.equal(got, augmented(m, waves, n)), "not the stand-in's"


def test_noises_that_lack_a_kind(noises):
    with pytest.raises(ValueError, match="no music among"): background("music", [np.random.default_rng(0)], np.array([100]), noises[noises["kind"] != "music"])


def test_front_ends_at_16_khz():
    x, n = front_end(.1 * torch.randn(2, 16000), torch.tensor([16000, 9000]), "mel64", rate=16000)
    assert x.shape == (2, 101, 64) and x.dtype == torch.float16 and n.tolist() == [101, 57]


def test_a_silent_stretch_of_noise_adds_nothing(tmp_path):
    sf.write(tmp_path / "n.wav", np.zeros(16000), 8000)
    listed = pd.DataFrame([("noise", str(tmp_path / "n.wav"), 2.)], columns=["kind", "path", "duration"])
    assert not background("noise", [np.random.default_rng(0)], np.array([8000]), listed).any()
    with pytest.raises(FileNotFoundError): background("noise", [np.random.default_rng(0)], np.array([8000]), listed.assign(path="gone.wav"))
