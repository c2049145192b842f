"""Use of a trained model: folders, calibration, hierarchy, recordings, command lines, programs (page 17)."""
import io
import json
import math
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import soxr
import torch
from torch.testing import assert_close

from mkdcls import use
from mkdcls.encoders import encoder
from mkdcls.engine.folders import SUMS, seal, verify, write_folder
from mkdcls.engine.recordings import gather
from mkdcls.fbank import KALDI, FbankSettings, network_input
from mkdcls.model import MultiTaskModel
from mkdcls.results.cli import main
from mkdcls.runs import PRESETS, role_manifest
from mkdcls.standin import render
from mkdcls.use import (FILES, STANDIN, SpeechClassifier, WaveToAnswers, WaveToPicture, best_pair, calibrate, calibration_error, chain, decided, fit_temperature,
                        given, read_in, judged, level_range, load_model, network, nll, picture, pieces, predict_uploaded, probabilities, reliability, threshold, to_onnx,
                        to_program)

ROOT = Path(__file__).resolve().parents[1]
PARENTS = (0, 0, 1, 1, 2)


@pytest.fixture(scope="module")
def voices():
    "Two test speakers of the stand-in, 4.6 and 2.1 s"
    manifest, _ = role_manifest("LTV+FCVE", PRESETS["laptop"], 0)
    waves, n = render(manifest[manifest.split == "test"].iloc[[0, 24]])
    return [w[:k].numpy() for w, k in zip(waves, n)]


@pytest.fixture(scope="module")
def model(): return load_model()


@pytest.fixture
def calls(tmp_path, voices):
    "A folder of recordings"
    for i, v in enumerate(voices): sf.write(tmp_path / f"{i}.wav", v, 8000)
    return tmp_path


# ---- numbers by hand

def test_temperature_by_hand():
    "Three of four right at a logit of 2: the best temperature makes the model say 0.75"
    z, y = torch.tensor([[2., 0.]]).repeat(4, 1), torch.tensor([0, 0, 0, 1])
    assert fit_temperature(z, y) == pytest.approx(2 / math.log(3), abs=1e-9)
    assert nll(z, y) == pytest.approx(.6269, abs=1e-4) and nll(z, y, 2 / math.log(3)) == pytest.approx(.5623, abs=1e-4)
    assert fit_temperature(z, 0 * y) == .01 and fit_temperature(-z, 0 * y) == 100  # always right, always wrong
    with pytest.raises(ValueError, match="no utterances"): fit_temperature(z[:0], y[:0])


@pytest.mark.parametrize("seed", range(5))
def test_temperature_is_the_least_loss(seed):
    g = torch.Generator().manual_seed(seed)
    z, y = 3 * torch.randn(60, 4, generator=g), torch.randint(4, (60,), generator=g)
    z[range(60), y] += 2
    T = fit_temperature(z, y)
    assert all(nll(z, y, T) <= nll(z, y, T * f) + 1e-12 for f in (.5, .9, .99, 1.01, 1.1, 2))
    assert fit_temperature(2 * z, y) == pytest.approx(2 * T)  # louder logits, hotter
    p = (z.double() / T).softmax(1)
    assert_close((p * z).sum(1).mean(), z.double().gather(1, y[:, None]).mean(), atol=1e-6, rtol=0)


def test_reliability_by_hand():
    t = reliability(torch.tensor([.9] * 5 + [.6] * 5 + [1.]), torch.tensor([1, 1, 1, 1, 0, 1, 1, 1, 0, 0, 1]).bool())
    assert list(t.utterances) == [5, 5, 1] and t.right.tolist() == pytest.approx([.6, .8, 1])
    assert calibration_error(t) == pytest.approx(.5 / 11, abs=1e-6)


def test_chain_by_hand():
    sup, sub = torch.tensor([[.5, .3, .2]]), torch.tensor([[.1, .3, .3, .1, .2]])
    joint = chain(sup, sub, PARENTS)
    assert_close(joint, torch.tensor([[.125, .375, .225, .075, .2]]))
    zero = chain(sup, torch.tensor([[0., 0., .5, .5, 0.]]), PARENTS)  # a group that the decade head rules out
    assert zero.isfinite().all()


def test_pair_by_hand():
    group, decade = best_pair(torch.tensor([[.4, .25, .35]]), torch.tensor([[.2, .2, .15, .1, .35]]), PARENTS)
    assert (int(group), int(decade)) == (2, 4)
    group, decade = best_pair(torch.tensor([[.5, .15, .35]]), torch.tensor([[.3, .2, .1, .05, .35]]), PARENTS)
    assert (int(group), int(decade)) == (0, 0)


def test_threshold_by_hand():
    p, right = torch.tensor([.9, .8, .7, .6, .5, .4]), torch.tensor([1, 1, 0, 1, 0, 0]).bool()
    assert threshold(p, right, .75, least=1) == pytest.approx(.55)
    assert threshold(p.flip(0), right.flip(0), .75, least=1) == pytest.approx(.55)
    assert threshold(p, right, .5, least=1) == 0 and threshold(p, ~right, .9, least=1) == 1 and threshold(p, right, .75) == 1


def test_no_decade_without_its_group():
    h, p = dict(fine="agesub", coarse="agesup", parents=list(PARENTS)), dict(agesup=torch.tensor([[.5, .3, .2]]), agesub=torch.tensor([[.45, .05, .2, .1, .2]]))
    best = decided(p, h)
    for tau, said in ((.6, (False, False)), (.4, (True, True))):
        found = given(p, best, dict(agesup=tau, agesub=.4), h)
        assert (bool(found["agesup"]), bool(found["agesub"])) == said
    assert bool(given(p, best, dict(agesup=.6, agesub=.4), None)["agesub"])  # without a hierarchy each stands for itself


def test_answers_agree():
    "No decade outside its group, none whose group is withheld; group probabilities are those of the group head"
    g = torch.Generator().manual_seed(1)
    h = dict(fine="agesub", coarse="agesup", parents=list(PARENTS))
    z = dict(gender=torch.randn(300, 2, generator=g), agesup=torch.randn(300, 3, generator=g), agesub=torch.randn(300, 5, generator=g))
    y = dict(gender=torch.randint(2, (300,), generator=g), agesub=torch.randint(5, (300,), generator=g))
    y["agesup"] = torch.tensor(PARENTS)[y["agesub"]]
    for t in z: z[t][range(300), y[t]] += 1.5
    found = calibrate(z, y, h, .8)
    p = probabilities(z, found["temperatures"], h)
    best, above = decided(p, h), torch.tensor(PARENTS)
    assert torch.equal(above[best["agesub"]], best["agesup"])
    assert_close(p["agesub"] @ torch.nn.functional.one_hot(above).float(), p["agesup"])
    said = given(p, best, found["unsure"], h)
    assert not (said["agesub"] & ~said["agesup"]).any() and said["agesub"].any() and not said["agesup"].all()
    tasks = judged(p, y, h, found["unsure"])
    for t in tasks: assert tasks[t]["right"] >= .8 and tasks[t]["right"] == found["tasks"][t]["right"]
    alone = probabilities(dict(agesub=z["agesub"]), dict(agesub=1.), h)  # no head for groups
    assert_close(alone["agesup"][:, 0], z["agesub"].softmax(1)[:, :2].sum(1))
    free = decided(probabilities(z, found["temperatures"], None), None)
    assert torch.equal(free["agesub"], z["agesub"].argmax(1))


# ---- folders

def test_standin_comes_with_the_package(model):
    assert sum(p.stat().st_size for p in STANDIN.iterdir()) < 3e6 and {p.name for p in STANDIN.iterdir()} == {*FILES, SUMS}
    assert model.about["trained"]["corpus"] == "standin" and model.about["calibration"]["speakers"] == 144
    card = (STANDIN / "README.md").read_text("utf-8")
    assert "synthetic speech" in card and "It is not meant for decisions about people" in card and "{" not in card.replace("{\n", "")
    done = subprocess.run(["sha256sum", "--check", SUMS], cwd=STANDIN, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_round_trip(tmp_path, model, voices):
    "Saved and loaded, through the hub's methods too: the same numbers to the bit; what the code hashes say is no condition"
    place = model.save(tmp_path / "m")
    for again in (load_model(place), SpeechClassifier.from_pretrained(place)):
        assert again.about == model.about and again.training == model.training and again.network.tasks == model.network.tasks
        for t, p in model.probabilities(voices[0]).items(): assert torch.equal(again.probabilities(voices[0])[t], p)
    model.save_pretrained(tmp_path / "hub")
    assert verify(tmp_path / "hub", FILES) == verify(place, FILES)
    changed = json.loads((place / "config.json").read_text())
    changed["code"] = {"mkdcls.model": "another"}
    (place / "config.json").write_text(json.dumps(changed))
    seal(place, FILES)
    assert torch.equal(load_model(place).probabilities(voices[0])["gender"], model.probabilities(voices[0])["gender"])


@pytest.mark.parametrize("name", FILES)
def test_wrong_checksum(tmp_path, model, name):
    place = model.save(tmp_path / "m")
    data = bytearray((place / name).read_bytes())
    data[len(data) // 2] ^= 1
    (place / name).write_bytes(bytes(data))
    with pytest.raises(ValueError, match=f"{name} is not what was exported"): load_model(place)
    (place / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"lacks {name}"): load_model(place)


def test_not_a_model(tmp_path, model):
    with pytest.raises(FileNotFoundError, match="no model at"): load_model(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match="no exported model"): load_model(tmp_path)
    (tmp_path / SUMS).write_text("nothing of the kind\n")
    with pytest.raises(ValueError, match="not a list of checksums"): load_model(tmp_path)
    (tmp_path / SUMS).write_text(f"{'0' * 64}  ../config.json\n")
    with pytest.raises(ValueError, match="does not name config.json"): load_model(tmp_path)


@pytest.mark.parametrize("change, told", [
    (dict(format=0), "is of format 0, and mkdcls .* reads format 1: export the model again, or use mkdcls 0.1.0"),
    (dict(format=2), "is of format 2, .* install a newer mkdcls"), (dict(format=None), "is of format None"), (dict(classes=None), "describes no network"),
    (dict(network={}), "describes no network")])
def test_other_versions(tmp_path, model, change, told):
    place = model.save(tmp_path / "m")
    about = json.loads((place / "config.json").read_text()) | change
    (place / "config.json").write_text(json.dumps(about))
    seal(place, FILES)
    with pytest.raises(ValueError, match=told): load_model(place)


def test_config_and_weights_disagree(tmp_path, model):
    place = model.save(tmp_path / "m")
    about = json.loads((place / "config.json").read_text())
    about["network"]["student"]["settings"]["embed"] = 128
    (place / "config.json").write_text(json.dumps(about))
    seal(place, FILES)
    with pytest.raises(ValueError, match="another network than model.safetensors holds"): load_model(place)
    del about["temperatures"]
    (place / "config.json").write_text(json.dumps(about))
    seal(place, FILES)
    with pytest.raises(ValueError, match="lacks temperatures"): load_model(place)


def test_save_is_whole_or_nothing(tmp_path, model):
    place = model.save(tmp_path / "m")
    before = (place / SUMS).read_text()
    def breaks(part): (part / "config.json").write_text("{}"); raise OSError("the disk is full")
    with pytest.raises(OSError, match="disk is full"): write_folder(place, breaks, FILES)
    assert (place / SUMS).read_text() == before and [p.name for p in tmp_path.iterdir()] == ["m"]
    (place / "diary.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds diary.txt, which is no part of a model"): model.save(place)
    with pytest.raises(ValueError, match="is a file"): model.save(place / "diary.txt")


def test_half_precision_that_is_not_enough(tmp_path):
    from dataclasses import asdict
    m = other(small(), dict(gender=["f", "m"]), asdict(FbankSettings()))
    m.about["stored"] = "float16"
    m.network.student.fc.weight.data.fill_(1e6)
    with pytest.raises(ValueError, match="student.fc.weight holds numbers that are not finite as float16"): m.save(tmp_path / "m")
    assert not list(tmp_path.iterdir())


def other(student, classes, front_end, teacher=None, hierarchy=None, heads=None, **switches) -> SpeechClassifier:
    "A model of another kind, untrained"
    about = dict(
        format=1, name="other", mkdcls="0.1.0", stored="float32", classes=classes, hierarchy=hierarchy, front_end=front_end, seconds=[1., 20.],
        network=dict(heads=heads or list(classes), z="embedding", sub_to_sup="losses", context="none", student=student, teacher=teacher) | switches,
        temperatures=dict.fromkeys(classes, 1.), unsure=dict.fromkeys(classes, 0.), calibration=None, trained={}, parameters=0, weights="drawn")
    torch.manual_seed(0)
    return SpeechClassifier(network(about), about)


def small(family="ecapa", size="student", n_mels=80):
    from mkdcls.encoders import ENCODERS
    e = ENCODERS["smoke", family, size, "half_params"]
    return {"class": "EcapaTdnn" if family == "ecapa" else "ResNet", "settings": json.loads(json.dumps(e | dict(n_mels=n_mels)))}


def test_other_labels_and_front_end(tmp_path):
    "Class lists, rate, bands and encoder are the folder's; this package's own tables are not asked"
    from dataclasses import asdict
    front = asdict(FbankSettings(rate=16000, n_fft=512, n_mels=40))
    m = other(small("resnet", n_mels=40), dict(accent=["north", "south", "east", "west"], gender=["a", "b", "c"]), front)
    place = m.save(tmp_path / "m")
    m = load_model(place)
    sf.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, .1, 32000) * np.linspace(0, 1, 32000), 16000)
    sf.write(tmp_path / "b.wav", np.random.default_rng(0).normal(0, .1, 32000) * np.linspace(0, 1, 32000), 8000)
    found = m.predict([tmp_path / "a.wav", tmp_path / "b.wav"], every=True)
    assert found.accent[0] in ("north", "south", "east", "west") and found.gender[0] in "abc"
    assert found.reason[1].startswith("rate below 16 kHz") and "gender=c" in found
    assert "not been calibrated" in (place / "README.md").read_text("utf-8")


@pytest.mark.parametrize("switches", [dict(context="backdoor"), dict(context="prototypes"), dict(sub_to_sup="reversed"), dict(sub_to_sup="features"), dict(z="pooled"),
                                      dict(z="student")])
def test_other_kinds(tmp_path, switches, voices):
    from dataclasses import asdict
    from mkdcls.labels import CLASSES
    h = dict(fine="agesub", coarse="agesup", parents=list(PARENTS))
    m = other(small(), {t: list(c) for t, c in CLASSES.items()}, asdict(FbankSettings()), teacher=small(size="teacher"), hierarchy=h, **switches)
    again = load_model(m.save(tmp_path / "m"))
    for t, p in m.probabilities(voices[1]).items(): assert torch.equal(again.probabilities(voices[1])[t], p)
    if "context" in switches:
        with pytest.raises(ValueError, match="forward pass of its own"): WaveToAnswers(m)
    else:
        got = WaveToAnswers(m).eval()(torch.from_numpy(voices[1])[None])
        for t, v in zip(m.classes, got): assert_close(v[0], m.probabilities(voices[1])[t], atol=1e-3, rtol=0)


def test_groups_without_a_head():
    "A model with decades only tells groups, too: added up"
    from dataclasses import asdict
    from mkdcls.labels import CLASSES
    h = dict(fine="agesub", coarse="agesup", parents=list(PARENTS))
    m = other(small(), {t: list(c) for t, c in CLASSES.items()}, asdict(FbankSettings()), hierarchy=h, heads=["gender", "agesub"])
    p = m.probabilities(np.random.default_rng(0).normal(0, .1, 16000).astype("f4"))
    assert set(p) == {"gender", "agesup", "agesub"} and float(p["agesup"].sum()) == pytest.approx(1, abs=1e-5)


def test_own_encoder(tmp_path):
    from dataclasses import asdict
    class Mean(torch.nn.Module):
        def __init__(self, embed):
            super().__init__()
            self.embed_dim = self.pooled_dim = embed
            self.fc = torch.nn.Linear(80, embed)
        def forward(self, x, n_frames=None):
            from mkdcls.encoders import EncoderOutput
            v = self.fc(x.mean(1))
            return EncoderOutput(v, v)
    with pytest.raises(ValueError, match="no encoder 'Mean'; .* Enter an encoder of your own"):
        other({"class": "Mean", "settings": dict(embed=4)}, dict(gender=["f", "m"]), asdict(FbankSettings()))
    use.KNOWN_ENCODERS["Mean"] = Mean
    try: assert load_model(other({"class": "Mean", "settings": dict(embed=4)}, dict(gender=["f", "m"]), asdict(FbankSettings())).save(tmp_path / "m"))
    finally: del use.KNOWN_ENCODERS["Mean"]


# ---- the hub

def test_push_to_hub(model, monkeypatch):
    mixin = pytest.importorskip("huggingface_hub.hub_mixin")
    seen = {}
    class Api:
        def __init__(self, **_): pass
        def create_repo(self, repo_id, **_): return type("Repo", (), dict(repo_id=repo_id))
        def upload_folder(self, folder_path, **k):
            seen.update(verify(folder_path, FILES), repo=k["repo_id"])
            return "done"
    monkeypatch.setattr(mixin, "HfApi", Api)
    assert model.push_to_hub("someone/standin") == "done" and seen["repo"] == "someone/standin" and "model.safetensors" in seen


def test_without_hub(tmp_path, model):
    "Folders need no huggingface_hub; what does need it says so"
    place = model.save(tmp_path / "m")
    code = ("import sys; sys.modules['huggingface_hub'] = None\nfrom mkdcls.use import SpeechClassifier\n"
            f"m = SpeechClassifier.from_pretrained({str(place)!r}); m.save_pretrained({str(tmp_path / 'n')!r})\n"
            "for f in (lambda: m.push_to_hub('a/b'), lambda: SpeechClassifier.from_pretrained('a/b')):\n"
            "    try: f()\n    except ImportError as e: print(e)\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | dict(PYTHONPATH=str(ROOT)))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("-e '.[use]'") == 2 and verify(tmp_path / "n", FILES)


# ---- recordings

@pytest.mark.parametrize("suffix, rate", [("wav", 8000), ("wav", 44100), ("flac", 16000), ("ogg", 48000), ("mp3", 16000), ("aiff", 22050)])
def test_formats_and_rates(tmp_path, model, voices, suffix, rate):
    sf.write(tmp_path / f"a.{suffix}", soxr.resample(voices[0], 8000, rate) if rate > 8000 else voices[0], rate)
    sf.write(tmp_path / "plain.wav", voices[0], 8000)
    found = model.predict([tmp_path / f"a.{suffix}", tmp_path / "plain.wav"], every=True)
    assert (found.reason == "").all() and abs(found["gender=male"].diff()[1]) < .05 and abs(found.seconds.diff()[1]) < .1


def test_picture_is_that_of_training(voices):
    w = torch.from_numpy(voices[0])[None]
    assert torch.equal(picture(w, FbankSettings()), network_input(w, torch.tensor([w.shape[1]]))[0].float())


@pytest.fixture
def odd(tmp_path, voices):
    "What is not one voice of 1 to 20 s: file → how its line begins"
    rng, t = np.random.default_rng(0), np.arange(24000) / 8000
    tops = np.clip(9 * voices[0] / np.abs(voices[0]).max(), -1, 1)
    write = lambda name, w, rate=8000, **k: sf.write(tmp_path / name, w, rate, **k)
    write("silence.wav", np.zeros(16000)); write("low.wav", rng.normal(0, .1, 1000), 200); write("choir.wav", rng.normal(0, .1, (16000, 64)))
    write("tone.wav", .3 * np.sin(2 * np.pi * 440 * t)); write("hiss.wav", rng.normal(0, .1, 24000)); write("short.wav", voices[0][:4000])
    write("two.wav", np.c_[voices[0], 0 * voices[0]]); write("tops.wav", tops); write("nan.wav", np.r_[voices[0], np.nan], subtype="FLOAT")
    (tmp_path / "letter.wav").write_text("Dear Sir or Madam")
    (tmp_path / "empty.wav").write_bytes(b"")
    with sf.SoundFile(tmp_path / "night.wav", "w", 8000, 1) as f:
        for _ in range(180): f.write(rng.normal(0, .1, 480_000).astype("f4"))  # three hours
    whole = io.BytesIO()
    sf.write(whole, voices[0], 8000, format="WAV")
    (tmp_path / "cut.wav").write_bytes(whole.getvalue()[:9000])
    return tmp_path, {
        "silence": "digital silence", "low": "rate below 8 kHz (200 Hz)", "choir": "several channels (64 channels)", "tone": "no speech (its level moves by 0.0 dB only)",
        "hiss": "no speech", "short": "shorter than 1 s (0.5 s)", "two": "several channels (2 channels)", "tops": "clipped", "nan": "NaN or infinity",
        "letter": "not audio", "empty": "audio is empty", "night": "longer than 600 s (10800 s)", "cut": "audio is truncated", "gone": "audio missing"}


def test_one_line_each(odd, capsys):
    folder, wanted = odd
    for name, begins in wanted.items():
        h = read_in(folder / f"{name}.wav")
        assert h.wave is None and h.reason.startswith(begins) and "\n" not in h.reason and ": " in h.reason, (name, h.reason)
    assert main(["predict", str(folder)]) == 2
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if not line.startswith("mkdcls predict: ")]
    assert out == "" and len(lines) == len(wanted) - 1  # what is gone is not in the folder


def test_channels(tmp_path, voices):
    sf.write(tmp_path / "two.wav", np.c_[voices[0], voices[0][::-1]], 8000)
    sf.write(tmp_path / "same.wav", np.c_[voices[0], voices[0]], 8000)
    sf.write(tmp_path / "mono.wav", voices[0], 8000)
    mono = read_in(tmp_path / "mono.wav").wave
    assert np.array_equal(read_in(tmp_path / "same.wav").wave, mono) and read_in(tmp_path / "same.wav").note == "2 equal channels"
    assert np.array_equal(read_in(tmp_path / "two.wav", channel=1).wave, mono) and read_in(tmp_path / "two.wav", channel=1).note == "channel 1 of 2"
    assert np.array_equal(read_in(tmp_path / "two.wav", channel=2).wave, mono[::-1]) and read_in(tmp_path / "two.wav", channel=3).reason.startswith("several channels")


def test_pieces(model, voices, tmp_path):
    assert pieces(np.zeros(160_000)).shape == (1, 160_000) and pieces(np.zeros(160_001)).shape == (2, 80_000) and pieces(np.zeros(400_000)).shape == (3, 133_333)
    long = np.tile(voices[0], 10)
    parts = pieces(long)
    each = [model.probabilities(w.numpy()) for w in parts]
    for t, p in model.probabilities(long).items(): assert_close(p, torch.stack([e[t] for e in each]).mean(0), atol=1e-5, rtol=0)
    sf.write(tmp_path / "long.wav", long, 8000)
    found = model.predict(tmp_path / "long.wav")
    assert found.pieces[0] == len(parts) == 3 and found.note[0] == "mean of 3 pieces"


def test_level_range():
    assert level_range(np.r_[np.full(4000, .01), np.full(4000, .1)]) == pytest.approx(20, abs=1e-3)


def test_sources(calls, model):
    "Files, folders, archives, lists with and without columns, the standard input; in the order in which they are named"
    (calls / "notes.txt").write_text("# two calls\n1.wav\n\n0.wav\n")
    (calls / "list.csv").write_text("path,start_s,end_s,channel\n0.wav,1,2.5,\n0.wav,,,1\n")
    pd.DataFrame(dict(path=["1.wav"], start_s=[.5], end_s=[None])).to_parquet(calls / "list.parquet")
    with zipfile.ZipFile(calls / "all.zip", "w") as z: z.write(calls / "0.wav", "in/0.wav"); z.writestr("readme.md", "x")
    told = []
    found = model.predict([calls / "notes.txt", calls / "list.csv", calls / "list.parquet", calls / "all.zip", "-"], stdin=io.BytesIO((calls / "1.wav").read_bytes()),
                          say=told.append)
    assert list(found.file) == ["1.wav", "0.wav", "0.wav#1-2.5", "0.wav", "1.wav#0.5-", f"{calls}/all.zip/in/0.wav", "standard input"]
    assert (found.reason == "").all() and found.seconds[2] == 1.5 and len(told) == 1 and "1 files" in told[0]
    assert found.gender_p[1] == found.gender_p[3] == found.gender_p[5] and found.gender_p[0] == found.gender_p[6]


@pytest.mark.parametrize("text, told", [("file\na.wav\n", "no column path"), ("path,start_s\na.wav,soon\n", "row 2: start_s is 'soon', no number")])
def test_bad_lists(tmp_path, text, told):
    from contextlib import ExitStack
    (tmp_path / "l.csv").write_text(text)
    with ExitStack() as stack, pytest.raises(ValueError, match=told): gather([tmp_path / "l.csv"], stack)
    with ExitStack() as stack, pytest.raises(FileNotFoundError, match="no list"): gather([tmp_path / "gone.csv"], stack)
    with ExitStack() as stack, pytest.raises(ValueError, match="no recordings"): gather([], stack)
    (tmp_path / "sub").mkdir()
    with ExitStack() as stack, pytest.raises(ValueError, match="holds no audio"): gather([tmp_path / "sub"], stack)


def test_damaged_archive_is_told(calls, model):
    (calls / "broken.zip").write_bytes(b"PK\3\4 and no more")
    told = []
    found = model.predict(calls, say=told.append)
    assert len(found) == 2 and (found.reason == "").all() and len(told) == 1 and told[0].startswith("broken.zip: archive unreadable: ")


def test_neighbours_do_not_matter(calls, model):
    both, one = model.predict(calls, every=True), model.predict(calls / "1.wav", every=True)
    numbers = [c for c in both if "=" in c]
    assert (both[numbers].iloc[1] == one[numbers].iloc[0]).all()


def test_uploaded(calls, model):
    found = predict_uploaded(model, [dict(name="../../x\n.wav", content=memoryview((calls / "0.wav").read_bytes())), dict(name="b.wav", content=b"no")])
    assert list(found.file) == ["../../x\\n.wav", "b.wav"] and found.reason[0] == "" and found.reason[1].startswith("not audio")


def test_widget(calls, model):
    widgets = pytest.importorskip("ipywidgets")
    box = use.upload_widget(model)
    assert isinstance(box.children[0], widgets.FileUpload)


# ---- command lines

def test_predict_table(calls, capsys):
    assert main(["predict", str(calls / "0.wav"), str(calls / "1.wav")]) == 0
    out, err = capsys.readouterr()
    head, *lines = out.splitlines()
    assert head.split() == ["recording", "seconds", "gender", "age", "group", "decade"] and len(lines) == 2 and "male" in lines[0]
    assert "synthetic speech only" in err


def test_predict_csv_and_json(calls, capsys, tmp_path):
    (calls / "x.wav").write_text("no audio")
    assert main(["predict", str(calls), "--format", "csv"]) == 1
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert list(table["gender"].notna()) == [True, True, False] and table["reason"][2].startswith("not audio")
    sums = table[[c for c in table if c.startswith("agesub=")]].sum(axis=1)
    assert sums[:2].tolist() == pytest.approx([1, 1], abs=1e-3)
    assert main(["predict", str(calls), "--format", "json", "--out", str(tmp_path / "a.json")]) == 1
    assert capsys.readouterr().out == ""
    rows = json.loads((tmp_path / "a.json").read_text())
    assert [r["gender"] for r in rows] == [*table["gender"][:2], None] and rows[0]["agesub=20s"] == pytest.approx(table["agesub=20s"][0], abs=1e-3)


@pytest.mark.parametrize("args, told", [
    (["predict", "a.wav", "--model", "nowhere"], "no model at nowhere"), (["predict", "gone/list.csv"], "no list"),
    (["export", "nothing", "--out", "x"], "no folder of a finished run"), (["export", "6/0", "--out", "x"], "no finished run of row 6, seed 0"),
    (["export", "6/0", "--out", "x", "--right", "0"], "a share above 0")])
def test_mistakes_are_one_line(args, told, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path / "runs"))
    assert main(args) == 2
    err = [line for line in capsys.readouterr().err.strip().splitlines() if "synthetic speech only" not in line]
    assert len(err) == 1 and told in err[0] and err[0].startswith(f"mkdcls {args[0]}: ")


@pytest.mark.slow
def test_real_command_line(calls):
    "In a process of its own, somewhere else, with no store of runs; a table of what comes through a pipe"
    env = os.environ | dict(PYTHONPATH=str(ROOT), MKDCLS_RUNS=str(calls / "nowhere"))
    run = lambda *args, **k: subprocess.run([sys.executable, "-m", "mkdcls.results.cli", "predict", *args], cwd=calls, env=env, capture_output=True, timeout=120, **k)
    done = run("-", "--format", "json", input=(calls / "0.wav").read_bytes())
    assert done.returncode == 0 and json.loads(done.stdout)[0]["file"] == "standard input", done.stderr
    assert not (calls / "nowhere").exists()
    assert run(".").returncode == 0 and run("gone.wav").returncode == 2


@pytest.mark.slow
def test_export_of_a_run(tmp_path, monkeypatch, capsys):
    "A run at preset smoke, exported: the headline weights, without its store and corpus afterwards"
    from safetensors.torch import load_file
    from mkdcls.results.runner import Runner
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path / "runs"))
    runner = Runner("smoke")
    runner.run("6", 0)
    runner.run("7", 0)
    assert main(["export", "6/0", "--preset", "smoke", "--out", str(tmp_path / "six")]) == 0
    capsys.readouterr()
    run = next((tmp_path / "runs" / "standin-smoke").glob("row6-seed0-*"))
    kept, trained = load_file(tmp_path / "six" / "model.safetensors"), load_file(run / "model.safetensors")
    headline = load_file(run / "model-reestimated.safetensors")
    assert all(torch.equal(v, headline[n]) for n, v in kept.items()) and not all(torch.equal(v, trained[n]) for n, v in kept.items())
    assert set(headline) - set(kept) == {"adapter.weight"}
    m = load_model(tmp_path / "six")
    assert m.about["calibration"]["speakers"] == 6 and m.about["trained"]["row"] == "6" and m.training["metrics"]
    assert (m.about["network"]["student"]["class"], m.about["network"]["teacher"]["class"]) == ("EcapaTdnn",) * 2
    half = tmp_path / "half"
    assert main(["export", str(next((tmp_path / "runs" / "standin-smoke").glob("row7-seed0-*"))), "--half", "--name", "small", "--out", str(half)]) == 0
    shutil.rmtree(tmp_path / "runs")
    small = load_model(half)
    assert small.about["name"] == "small" and small.about["stored"] == "float16" and small.about["network"]["student"]["settings"]["masked"] is True
    kinds = {n: v.dtype for n, v in load_file(half / "model.safetensors").items()}
    assert kinds["student.fc.weight"] == torch.float16 and kinds["student.norm.running_var"] == torch.float32
    assert next(small.network.parameters()).dtype == torch.float32
    wave = np.random.default_rng(0).normal(0, .1, 16000).astype("f4")
    assert float(small.probabilities(wave)["agesup"].sum()) == pytest.approx(1, abs=1e-5)
    assert main(["export", "6/0", "--preset", "smoke", "--out", str(tmp_path / "again")]) == 2


def test_export_without_corpus(tmp_path):
    "A run on somebody's own corpus, exported where the corpus is not: told, and not calibrated"
    from mkdcls.results.export import validation_speakers
    told = []
    record = dict(corpus="mine.toml", preset="smoke", seed=0, identity=dict(recipe=dict(role="LTV+FCVE"), data="x"))
    assert validation_speakers(record, say=told.append) is None and "--corpus" in told[0]
    assert validation_speakers(record | dict(corpus="real"), say=told.append) is None and "--real" in told[1]


@pytest.mark.slow
def test_calibration_on_an_own_corpus(tmp_path, monkeypatch, model):
    "The validation speakers of a corpora file are heard again; a file with other recordings is refused"
    from mkdcls.engine.store import digest
    from mkdcls.results.export import calibration, validation_speakers
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path / "runs"))
    manifest, _ = role_manifest("LTV+FCVE", PRESETS["laptop"], 0)
    rows = manifest[(manifest.corpus == "LTV") & (manifest.split == "test")].iloc[:24]
    for i, (w, n) in enumerate(zip(*render(rows))): sf.write(tmp_path / f"{i}.wav", w[:n].numpy(), 8000)
    rows = pd.DataFrame(dict(path=[f"{i}.wav" for i in range(24)], speaker_id=[f"s{i}" for i in range(24)], gender=rows.gender.to_numpy(), age=rows.age.to_numpy()))
    rows.assign(split=np.resize(["train", "val", "test"], 24)).to_csv(tmp_path / "list.csv", index=False)
    (tmp_path / "mine.toml").write_text('[roles]\nFCVG = "list.csv"\nLTV = "list.csv"\n"call centre" = "list.csv"\n')
    _, about = role_manifest("LTV+FCVE", PRESETS["smoke"], 0, str(tmp_path / "mine.toml"))
    record = dict(corpus="mine.toml", preset="smoke", seed=0, identity=dict(recipe=dict(role="LTV+FCVE"), data=digest(about)))
    held = validation_speakers(record, str(tmp_path / "mine.toml"))
    found = calibration(model.network, model.about, held, .75)
    assert len(held) == 8 == found["calibration"]["utterances"] and set(found["temperatures"]) == set(model.classes)
    assert not list((tmp_path / "runs" / "features").iterdir())  # the cache of these eight is not kept
    record["identity"]["data"] = "another"
    with pytest.raises(ValueError, match="are not those of the run"): validation_speakers(record, str(tmp_path / "mine.toml"))


# ---- programs

@pytest.mark.parametrize("settings", [FbankSettings(), KALDI, FbankSettings(rate=16000, n_fft=512, n_mels=40, window="hann", f_min=20.), FbankSettings(top_db=None)],
                         ids=["speechbrain", "kaldi", "16 kHz", "no top"])
def test_front_end_is_a_convolution(settings):
    w = torch.from_numpy(np.random.default_rng(0).normal(0, .1, (2, settings.rate + 123)).astype("f4"))
    w[1, len(w[1]) // 2:] = 0  # far below the loudest cell
    assert_close(WaveToPicture(settings)(w), picture(w, settings), atol=.07, rtol=0)  # half precision has steps of 0.06 there


@pytest.mark.slow
@pytest.mark.parametrize("without_k", [False, True])
def test_program(model, voices, without_k, tmp_path):
    "torch.export, 1 to 20 s; then ONNX, where it is installed"
    lengths = (1, 1.37, 3.001, 7.77, 20)
    waves = [np.resize(voices[0], round(8000 * s)).astype("f4") for s in lengths]
    net, program = WaveToAnswers(model, without_k).eval(), to_program(model, without_k)
    for w in waves:
        with torch.no_grad(): here, there = net(torch.from_numpy(w)[None]), program.module()(torch.from_numpy(w)[None])
        for a, b in zip(here, there): assert_close(a, b, atol=1e-5, rtol=0)
        with torch.no_grad(): out = model.network(picture(torch.from_numpy(w)[None], model.front_end), None, variant="no_k" if without_k else "full")
        wanted = probabilities(out.logits, model.about["temperatures"], model.hierarchy)
        for t, a in zip(model.classes, here): assert_close(a, wanted[t], atol=1e-3, rtol=0)
    with pytest.raises(Exception): program.module()(torch.zeros(1, 4000))  # noqa: B017 (torch's own)
    runtime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed: pip install 'mkdcls[export]'")
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed: pip install 'mkdcls[export]'")
    session = runtime.InferenceSession(str(to_onnx(model, tmp_path / "m.onnx", without_k)))
    assert [o.name for o in session.get_outputs()] == list(model.classes) and [i.name for i in session.get_inputs()] == ["wave"]
    about = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
    assert about["classes"] == model.classes and about["rate"] == 8000 and about["without_k"] is without_k
    for w in waves:
        for t, v in zip(model.classes, session.run(None, {"wave": w[None]})):
            with torch.no_grad(): wanted = dict(zip(model.classes, net(torch.from_numpy(w)[None])))[t]
            assert_close(torch.from_numpy(v), wanted, atol=1e-4, rtol=0)


def test_onnx_says_what_it_needs(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ValueError, match="-e '.\\[export\\]'"): to_onnx(model, tmp_path / "m.onnx")


def test_nothing_to_leave_out():
    from dataclasses import asdict
    m = other(small(), dict(gender=["f", "m"]), asdict(FbankSettings()))
    with pytest.raises(ValueError, match="no K in its Z"): WaveToAnswers(m, without_k=True)


def test_network_is_that_of_page_09(model):
    "The same names as MultiTaskModel's, but for the adapter of Eq. 2"
    torch.manual_seed(0)
    teacher, student = encoder("ecapa", "teacher", scale_name="laptop"), encoder("ecapa", "student", scale_name="laptop")
    names = set(MultiTaskModel(student, ("gender", "agesup", "agesub"), teacher).state_dict())
    assert names - set(model.network.state_dict()) == {"adapter.weight"} and not set(model.network.state_dict()) - names


def test_hundred_times_real_time(model, voices):
    "One thread, seconds of the processor: hearing and answering ten seconds takes less than a tenth of one"
    wave, threads = np.resize(voices[0], 80_000), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model.probabilities(wave)
        spent = []
        for _ in range(5):
            began = time.process_time()
            model.probabilities(wave)
            spent.append(time.process_time() - began)
    finally: torch.set_num_threads(threads)
    assert min(spent) < .1, f"{min(spent):.3f} s for ten seconds of speech"


# ---- the model of the project and real voices

def test_what_real_voices_get_is_counted_by_hand():
    from mkdcls.results.shipped import summed
    lines = [("A", "s1", "male", "male", .95, True, "20-30", "60+", .95, True), ("A", "s1", "male", "female", .6, True, "20-30", "60+", .8, True),
             ("A", "s2", "female", "female", .92, True, "60+", "60+", .5, False), ("A", "s3", "male", "male", .7, True, "nan", "60+", .9, True)]
    names = ["corpus", "speaker"] + [f"{t}{e}" for t in ("gender", "agesup") for e in ("", "_best", "_p", "_given")]
    t = summed(pd.DataFrame(lines, columns=names)).set_index(["corpus", "task"])
    g, a = t.loc["all", "gender"], t.loc["A", "agesup"]
    assert (g["recordings"], g["speakers"], g["right"], g["commonest"], g["sure"], g["sure_right"]) == (4, 3, 75., 75., 50., 100.)
    assert (a["recordings"], a["right"], a["commonest"], a["mostly"], a["mostly_share"]) == (3, 33.3, 66.7, "60+", 100.), "no label, no count"
    assert (a["given"], a["given_right"], a["sure"], a["sure_right"]) == (66.7, 0., 33.3, 0.)


def test_the_card_says_what_was_measured_on_real_voices():
    t = pd.read_csv(ROOT / "paper/results/real-laptop/shipped.csv").query("corpus == 'all'").set_index("task")
    said = " ".join((STANDIN / "README.md").read_text("utf-8").split())
    for text in (f"{t['recordings']['agesup']:,} recordings of {t['speakers']['agesup']:,} people", f"the gender in {t['right']['gender']:.0f} %",
                 f"the commonest: {t['commonest']['gender']:.0f} %", f"the age group in {t['right']['agesup']:.0f} % ({t['commonest']['agesup']:.0f} %)",
                 f"for an age group, {t['sure_right']['agesup']:.0f} % were right"): assert text in said, text
