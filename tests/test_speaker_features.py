"""Cached features of speakers: resumable, in parallel, the same bytes; copies follow the plain rows."""
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from mkdcls.intake import features as prepare, speakers as speaker_features
from mkdcls.intake.speakers import SpeakerRecipe, folder_of
from mkdcls.standin import draw_manifest, render
from mkdcls.verification.frontend import augmented, enhance, front_end, voice_activity

features = speaker_features.speaker_features


@pytest.fixture(autouse=True)
def runs(monkeypatch, tmp_path):
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(prepare, "CHUNK", 2)
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def five():
    m = draw_manifest("FCVG", 5, 1, seed=0)
    return m.assign(duration=[1.4, 1.1, 1.3, 1.0, 1.2])


def of(f, i): return f.values[f.starts[i]:f.starts[i] + f.n_frames[i]]
def same(a, b): return torch.equal(a.values, b.values) and torch.equal(a.starts, b.starts) and torch.equal(a.n_frames, b.n_frames)


@pytest.mark.parametrize("front", ["mel64-sliding", "mel64", "mfcc80"])
def test_rows_are_the_front_ends(five, front):
    f = features(five, "f", front, workers=0)
    for i in range(5):
        x, n = front_end(*render(five.iloc[[i]]), front)
        assert len(f) == 5
        assert_close(of(f, i), x[0, :n[0]], rtol=2e-3, atol=.02)


def test_copies_follow_in_the_order_of_the_manifest(five):
    f, plain = features(five, "f", "mel64", copies=2, workers=0), features(five, "f", "mel64", workers=0)
    assert len(f) == 15
    for i in range(5):
        waves, n = render(five.iloc[[i]])
        assert torch.equal(of(f, i), of(plain, i))
        for k in (1, 2):
            x, frames = front_end(augmented(five.iloc[[i]], waves, n, seed=k - 1), n, "mel64")
            assert_close(of(f, 5 * k + i), x[0, :frames[0]], rtol=0, atol=.02)  # alone as in a batch, but for the rounding of sums


def test_enhanced_then_cut_to_speech(five):
    f = features(five, "f", "mel64", vad=True, enhance=True, workers=0)
    waves, n = render(five.iloc[[3]])
    w = torch.from_numpy(voice_activity(enhance(waves[0, :n[0]].numpy())).copy())[None]
    x, frames = front_end(w, torch.tensor([w.shape[1]]), "mel64")
    assert_close(of(f, 3), x[0, :frames[0]], rtol=2e-3, atol=.02)
    assert f.n_frames.sum() < features(five, "f", "mel64", workers=0).n_frames.sum()


def test_killed_and_resumed(five, monkeypatch):
    whole, real, seen, counts = features(five, "whole", copies=1, workers=0), speaker_features._chunk, [], []
    def dies(recipe, noises, rows, path):
        if path.name == "00001.npz": raise KeyboardInterrupt
        real(recipe, noises, rows, path)
    monkeypatch.setattr(speaker_features, "_chunk", dies)
    with pytest.raises(KeyboardInterrupt): features(five, "f", copies=1, workers=0)
    monkeypatch.setattr(speaker_features, "_chunk", lambda *a: (seen.append(a[-1].name), real(*a)))
    assert same(whole, features(five, "f", copies=1, workers=0, progress=lambda *a: counts.append(a)))
    assert seen == ["00001.npz", "00002.npz"] and counts == [(2, 5), (4, 5), (5, 5)]
    assert same(whole, features(five, "f", copies=1, workers=0)) and len(seen) == 2, "nothing once it is whole"


def test_the_same_bytes_from_two_processes(five):
    assert same(features(five, "0", copies=1, workers=0), features(five, "2", copies=1, workers=2))


def test_a_folder_for_each_recipe(five):
    recipes = [SpeakerRecipe(), SpeakerRecipe("mel64"), SpeakerRecipe("mfcc80"), SpeakerRecipe(vad=True), SpeakerRecipe(enhance=True),
               SpeakerRecipe(copies=1), SpeakerRecipe(copies=1, seed=1)]
    assert len({folder_of(p, r) for r in recipes for p in "ab"}) == 14


def test_refused(five):
    with pytest.raises(ValueError, match="expected one of"): features(five, "f", "mel40")
    for bad in (-1, 1.5, True):
        with pytest.raises(ValueError, match="how many augmented copies"): features(five, "f", copies=bad)
    with pytest.raises(ValueError, match="no rows"): features(five[:0], "f")
    with pytest.raises(ValueError, match="no column"): features(five.drop(columns="duration"), "f")
    with pytest.raises(ValueError, match="stands twice"): features(five.assign(utterance="u"), "f")


def test_digital_silence_stays(five, monkeypatch):
    "An utterance in which nothing is speech keeps its frames"
    monkeypatch.setattr(prepare, "waves_of_rows", lambda rows: (torch.zeros(len(rows), 8000), torch.full((len(rows),), 8000)))
    f = features(five, "f", vad=True, enhance=True, workers=0)
    assert f.n_frames.tolist() == [101] * 5 and np.isfinite(f.values.numpy()).all()
