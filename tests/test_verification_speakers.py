"""Speakers and trials: rules against brute force, the real corpora's layouts as small trees, bad lists, real development data."""
import zipfile
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from mkdcls.intake.features import waves_of_rows
from mkdcls.verification import speakers
from mkdcls.verification.speakers import (
    ACCEPT, BLOCK, FIXED, FREE, ENROL_SECONDS, Lists, check_trials, divide, enrolments, kaldi, librispeech, musan, real_speakers, sdsv, speaker_stand_in, trial_index,
    trial_list, voxceleb)

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def put(path: Path, seconds: float = 1., rate: int = 16000, channels: int = 1):
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = np.sin(np.arange(int(rate * seconds)) / 9).astype(np.float32) / 2
    sf.write(path, np.stack([wave] * channels, 1), rate)


def write(path: Path, *lines: str):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def toy(people: int, takes: int, phrases: int = 1, seed: int = 0) -> pd.DataFrame:
    "A manifest without acoustics: names, sexes, phrases, durations"
    rows = [(f"s{i}-{p}-{t}", f"s{i}", p if phrases > 1 else -1) for i, p, t in product(range(people), range(phrases), range(takes))]
    m = pd.DataFrame(rows, columns=["utterance", "speaker", "phrase"])
    rng = np.random.default_rng(seed)
    sex = dict(zip(m.speaker.unique(), rng.choice(["female", "male"], people)))
    return m.assign(gender=m.speaker.map(sex), duration=rng.uniform(1, 60, len(m)), split="test")


# ---- rules

@given(st.integers(2, 6), st.integers(1, 6), st.sampled_from([1, 3]), st.integers(1, 4), st.sampled_from(["one", "three", "seconds"]), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_rules_against_brute_force(people, takes, phrases, per_model, rule, seed):
    "Every trial is allowed, none is missing where there are enough, and asking for all gives all"
    m = toy(people, takes, phrases, seed)
    try: e = enrolments(m, rule, seed)
    except ValueError: return
    kinds = FIXED if (e.phrase >= 0).any() else FREE
    owner = e.drop_duplicates("model").set_index("model")
    enrols = e.groupby("model").utterance.agg(set)
    pairs, taken, whose, words = rule == "one", set(e.utterance), owner.speaker.to_dict(), owner.phrase.to_dict()

    def kind(model, r):
        same, right = whose[model] == r.speaker, words[model] == r.phrase
        return ("target" if same else "impostor") if kinds == FREE else ("T" if same else "I") + ("C" if right else "W")

    tests = [r for r in m.itertuples() if pairs or r.utterance not in taken]
    allowed = {k: {(model, r.utterance) for model in owner.index for r in tests if r.utterance not in enrols[model] and kind(model, r) == k} for k in kinds}
    possible = tuple(k for k in kinds if allowed[k])
    if not possible: return
    got = trial_list(m, e, seed, per_model, possible, same_sex=None)
    assert (got.target == got.kind.isin(ACCEPT)).all()
    for k in possible:
        mine = set(map(tuple, got[got.kind == k][["model", "utterance"]].to_numpy()))
        assert mine <= allowed[k]
        if not pairs:
            some, drawn = (Counter(model for model, _ in cells) for cells in (allowed[k], mine))
            for model in owner.index: assert drawn[model] == min(per_model, some[model])
    everything = trial_list(m, e, seed, 10_000, possible, same_sex=None)
    whole = {frozenset(p) if pairs else p for k in possible for p in allowed[k]}
    assert {frozenset(p) if pairs else p for p in map(tuple, everything[["model", "utterance"]].to_numpy())} == whole and len(everything) == len(whole)
    if everything.target.nunique() == 2: check_trials(everything, e, m)


def test_seconds_keeps_its_limits():
    m = toy(30, 9, seed=3)
    e = enrolments(m, "seconds", 5)
    told = e.merge(m, on="utterance").groupby("model").duration.agg(["sum", "size"])
    assert told["sum"].between(*ENROL_SECONDS).all() and (told["size"] <= 4).all()
    assert told["size"].nunique() > 1, "one to several utterances"
    short = m.assign(duration=.9)
    with pytest.raises(ValueError, match="nobody has enough speech"): enrolments(short, "seconds")
    assert (enrolments(m.assign(duration=179.), "seconds").groupby("model").size() == 1).all()
    with pytest.raises(ValueError, match="nobody has enough speech"): enrolments(m.assign(duration=181.), "seconds")


def test_draws_are_even():
    "Over many seeds every admissible utterance is asked about equally often"
    m = toy(4, 6, seed=1)
    e = enrolments(m, "three")
    n = pd.concat([trial_list(m, e, seed, 3, ("impostor",), same_sex=None) for seed in range(150)]).groupby(["model", "utterance"]).size()
    assert len(n) == 4 * 9  # three models' worth of other people's three free utterances each
    assert abs(n - 150 / 3).max() < 5 * np.sqrt(150 / 3 * 2 / 3)


def test_same_sex_shares_round_and_run_short():
    m = toy(40, 4, seed=2)
    e = enrolments(m, "three")
    def share(s, k): return trial_list(m, e, 0, {"impostor": k}, ("impostor",), same_sex=s).merge(m, on="utterance").merge(
        e.drop_duplicates("model").merge(m, on="utterance"), on="model").eval("gender_x == gender_y").groupby(level=0).first().mean()
    assert share(.5, 4) == .5 and share(.25, 4) == .25 and share(1., 4) == 1 and share(0., 4) == 0
    alone = m.assign(gender=np.where(m.speaker == "s0", "female", "male"))
    got = trial_list(alone, enrolments(alone, "three"), per_model=4)
    assert len(got[(got.model == "s0/p-1") & ~got.target]) == 2, "no other woman: her two impostors of the same sex do not exist, and nobody fills in for them"


def test_within_a_language():
    m = toy(12, 4).assign(language=lambda d: np.where(d.speaker.isin(["s0", "s1", "s2"]), "a", "b"))
    e = enrolments(m, "three")
    t = trial_list(m, e, per_model=50, same_sex=None, within="language").merge(m, on="utterance").merge(e.drop_duplicates("model").merge(m, on="utterance"), on="model")
    assert (t.language_x == t.language_y).all() and (t[t.model == "s0/p-1"].kind == "impostor").sum() == 2
    with pytest.raises(ValueError, match="language is not known of every utterance"): trial_list(m.assign(language=""), e, within="language")
    with pytest.raises(ValueError, match="gender is not known"): trial_list(m.drop(columns="gender"), e)


def test_bad_requests():
    m = toy(4, 5)
    e = enrolments(m, "three")
    with pytest.raises(ValueError, match="unknown kinds"): trial_list(m, e, kinds=("foe",))
    with pytest.raises(ValueError, match=r"no trial of kind \['TW'\]"): trial_list(m, e, kinds=("target", "TW"))
    with pytest.raises(ValueError, match="enrols, but is not in the test part"): trial_list(m[m.speaker != "s0"], e)
    with pytest.raises(ValueError, match="no share of the speakers"): divide(m, 1.5)
    with pytest.raises(ValueError, match="1 or more"): speaker_stand_in(0, 3, first=2)
    with pytest.raises(ValueError, match="lacks"): enrolments(m.drop(columns="duration"), "one")


def test_more_models_than_a_block():
    "Models of later blocks get trials of their own speakers, and the size of a block changes nothing"
    m = toy(BLOCK + 40, 4)
    t = trial_list(m, e := enrolments(m, "three"), per_model=2, same_sex=None)
    check_trials(t, e, m)
    try:
        speakers.BLOCK = 7
        small = trial_list(m, e, per_model=2, same_sex=None)
    finally: speakers.BLOCK = BLOCK
    pd.testing.assert_frame_equal(t, small)
    assert t.model.nunique() == BLOCK + 40


# ---- checks

def test_every_fault_is_told_at_once():
    m = toy(4, 5)
    e = enrolments(m, "three")
    t = trial_list(m, e, per_model=2, same_sex=None)
    mixed = e.assign(speaker=e.speaker.where(e.index != 0, "s3"))
    wrong = pd.concat([t, t.head(1).assign(utterance="ghost"), t.head(1).assign(model="ghost"), t.head(1).assign(utterance=e.utterance[1])])
    with pytest.raises(ValueError) as told: check_trials(wrong, mixed, m.assign(split=m.split.where(m.utterance != t.utterance.iloc[0], "train")))
    text = str(told.value)
    told_of = ("unknown utterance, as ['ghost']", "nobody enrolled, as ['ghost']", "several speakers", "another person's voice", "on its own enrolment", "training part")
    assert not [part for part in told_of if part not in text], text
    with pytest.raises(ValueError, match="no column target"): check_trials(t[["model", "utterance"]], e, m)
    assert len(check_trials(t[["model", "utterance"]], e, m, labelled=False))
    with pytest.raises(ValueError, match="1 trials without a label"): check_trials(t.assign(target=t.target.astype(object).where(t.index != 0, None)), e, m)
    with pytest.raises(ValueError, match="one class only, impostor"): check_trials(t[~t.target], e, m)
    with pytest.raises(ValueError, match="list is empty"): check_trials(t[:0], e, m)
    with pytest.raises(ValueError, match=r"columns \['model'\] are missing"): check_trials(t.drop(columns="model"), e, m)
    gone = m[m.utterance != e.utterance[0]]
    with pytest.raises(ValueError, match="1 enrolments with no audio"): check_trials(t, e, gone)
    assert len(check_trials(pd.concat([t, t]), e, m)) == 2 * len(t), "what stands twice counts twice"


def test_labels_follow_the_kind():
    "With phrases a right voice with the wrong words is no target; where words are free it is one"
    m = toy(3, 5, phrases=2)
    e = enrolments(m, "three")
    t = trial_list(m, e, per_model=1, same_sex=None)
    with pytest.raises(ValueError, match="contradicts"): check_trials(t.assign(target=t.target | (t.kind == "TW")), e, m)
    check_trials(trial_list(m, e, per_model=3, kinds=FREE, same_sex=None), e, m)


def test_index_is_the_list():
    m = toy(5, 6, phrases=2)
    e = enrolments(m, "three", 3)
    t = trial_list(m, e, 1, 2, same_sex=None)
    x = trial_index(t, e, m)
    assert (x.models[x.model] == t.model).all() and (m.utterance.to_numpy()[x.test_rows[x.test]] == t.utterance).all() and (x.target == t.target).all()
    assert (x.models[x.enrol_model] == e.model).all() and (m.utterance.to_numpy()[x.enrol_rows] == e.utterance).all()
    names = m.speaker.to_numpy()
    assert ((x.enrol_speaker == x.test_speaker) == (t.model.str.split("/").str[0].to_numpy() == names[x.test_rows[x.test]])).all()
    assert x.enrol_speaker.dtype == x.model.dtype == np.int64


# ---- the stand-in

def test_stand_in_people():
    a = speaker_stand_in(6, 2, seed=4, phrases=True, test=0.)
    b = speaker_stand_in(3, 2, seed=4, phrases=True, first=3, test=0.)
    pd.testing.assert_frame_equal(a.iloc[60:].reset_index(drop=True), b)
    assert a.utterance.is_unique and not a.duration.isna().any() and (a.split == "train").all()
    assert set(a.speaker).isdisjoint(speaker_stand_in(6, 2, seed=5, phrases=True).speaker)
    latents = ["f0_st", "formant_scale", "tilt_db_oct"]
    assert (a.groupby("speaker")[latents].nunique() == 1).all(axis=None), "a voice does not change from phrase to phrase"
    assert a.groupby("speaker").f0_st.first().nunique() == 6
    assert not a.overlaid.any() and (a.gender == a.true_gender).all() and (a.agesub == a.true_agesub).all(), "no second voice, no wrong label"


# ---- adapters

def vox_tree(top: Path):
    for who in ("id90001", "id90002", "id90003"):
        for k in (1, 2): put(top / f"wav/{who}/video-{k}/0000{k}.wav", k)
    put(top / "vox2/dev/aac/id00009/clip/00001.wav")
    write(top / "vox1_meta.csv", "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet", "id90001\tA_B\tf\tX\ttest", "id90002\tC_D\tm\tX\ttest")
    write(top / "vox2_meta.csv", "VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set", "id00009 ,n000009 ,m ,dev ")
    write(top / "list.txt", "1 id90001/video-1/00001.wav id90001/video-2/00002.wav", "0 id90001/video-1/00001.wav id90002/video-1/00001.wav")


def test_voxceleb(tmp_path):
    vox_tree(tmp_path)
    manifest, trials, enrolled = found = voxceleb(tmp_path, tmp_path / "list.txt")
    assert isinstance(found, Lists) and len(manifest) == 7
    assert trials.to_numpy().tolist() == [["id90001/video-1/00001.wav", "id90001/video-2/00002.wav", True, "target"],
                                          ["id90001/video-1/00001.wav", "id90002/video-1/00001.wav", False, "impostor"]]
    assert manifest.groupby("speaker")[["split", "gender"]].first().T.to_dict("list") == {
        "id00009": ["train", "male"], "id90001": ["test", "female"], "id90002": ["test", "male"], "id90003": ["train", ""]}
    check_trials(trials, enrolled, manifest)
    waves, n = waves_of_rows(manifest.iloc[:2])
    assert n.tolist() == [8000, 8000] or n.tolist() == [8000, 16000], "read at 8 kHz, as everything here"
    bare = voxceleb(tmp_path)
    assert bare.trials is None and (bare.manifest.split == "train").all()
    write(tmp_path / "missing.txt", "1 id90001/video-1/00001.wav id90001/video-9/00009.wav", "0 id90001/video-1/00001.wav id90002/video-1/00001.wav")
    lists = voxceleb(tmp_path, "missing.txt")
    with pytest.raises(ValueError, match="1 trials with an unknown utterance"): check_trials(lists.trials, lists.enrolled, lists.manifest)
    write(tmp_path / "odd.txt", "yes id90001/video-1/00001.wav id90001/video-2/00002.wav")
    with pytest.raises(ValueError, match="odd.txt, line 1: label 'yes'"): voxceleb(tmp_path, "odd.txt")


def test_voxceleb_in_an_archive(tmp_path):
    vox_tree(tmp_path / "tree")
    with zipfile.ZipFile(tmp_path / "vox1_test_wav.zip", "w") as z:
        for p in sorted((tmp_path / "tree").rglob("*.*")): z.write(p, p.relative_to(tmp_path / "tree"))
    inside = voxceleb(tmp_path / "vox1_test_wav.zip", tmp_path / "tree/list.txt")
    beside = voxceleb(tmp_path / "tree", "list.txt")
    pd.testing.assert_frame_equal(inside.manifest.drop(columns="path"), beside.manifest.drop(columns="path"))
    assert waves_of_rows(inside.manifest.iloc[:1])[1].item() == waves_of_rows(beside.manifest.iloc[:1])[1].item()
    with pytest.raises(ValueError, match="is there twice"): voxceleb(tmp_path)


def test_voxceleb2_undecoded(tmp_path):
    write(tmp_path / "dev/aac/id00009/clip/00001.m4a", "x")
    with pytest.raises(ValueError, match="decode VoxCeleb2"): voxceleb(tmp_path)
    with pytest.raises(ValueError, match="no audio found"): librispeech(tmp_path)


def test_librispeech_and_musan(tmp_path):
    top = tmp_path / "LibriSpeech"
    for subset, reader in (("train-clean-100", 901), ("train-other-500", 903), ("test-clean", 902)): put(top / f"{subset}/{reader}/7/{reader}-7-0000.flac", 1.5)
    write(top / "SPEAKERS.TXT", ";ID  |SEX| SUBSET  |MINUTES| NAME", "901   | F | train-clean-100  | 25.03 | A B", "902   | M | test-clean | 8.0 | C")
    m, trials, enrolled = librispeech(top)
    assert trials is None and enrolled is None and (m.duration == 1.5).all()
    assert m.set_index("speaker")[["utterance", "gender", "split"]].T.to_dict("list") == {
        "901": ["901-7-0000", "female", "train"], "902": ["902-7-0000", "male", "test"], "903": ["903-7-0000", "", "train"]}
    for n in ("noise/free-sound/noise-free-sound-0000", "music/fma/music-fma-0000", "speech/librivox/speech-librivox-0000"): put(tmp_path / f"musan/{n}.wav", 2)
    write(tmp_path / "musan/music/fma/ANNOTATIONS", "music-fma-0000 jazz N someone")
    noises = musan(tmp_path / "musan")
    assert noises.kind.tolist() == ["music", "noise", "speech"] and noises.source.tolist() == ["fma", "free-sound", "librivox"] and (noises.rate == 16000).all()
    with pytest.raises(ValueError, match="no noise/"): musan(tmp_path / "LibriSpeech")


def sdsv_tree(top: Path, task: int):
    for u in ("train/t1", "train/t2", "enrollment/e1", "enrollment/e2", "enrollment/e3", "evaluation/v1", "evaluation/v2"): put(top / f"wav/{u}.wav")
    phrase = task == 1
    write(top / "docs/train_labels.txt", "train-file-id speaker-id" + " phrase-id" * phrase, "t1 spk_1" + " 10" * phrase, "t2 spk_2" + " 01" * phrase)
    if phrase: write(top / "docs/model_enrollment.txt", "model-id phrase-id enroll-file-id1 enroll-file-id2 enroll-file-id3", "model_1 03 e1 e2 e3")
    else: write(top / "docs/model_enrollment.txt", "model-id enroll-file-id1", "model_1 e1 e2", "model_2 e3")
    write(top / "docs/trials.txt", "model-id evaluation-file-id", "model_1 v1", "model_1 v2")


@pytest.mark.parametrize("task", [1, 2])
def test_sdsv(tmp_path, task):
    sdsv_tree(tmp_path, task)
    m, trials, enrolled = sdsv(tmp_path, task)
    assert m.utterance.tolist() == ["train/t1", "train/t2", "enrollment/e1", "enrollment/e2", "enrollment/e3", "evaluation/v1", "evaluation/v2"]
    assert m.phrase.tolist() == ([9, 0, 2, 2, 2, -1, -1] if task == 1 else [-1] * 7) and m.split.tolist() == ["train"] * 2 + ["test"] * 5
    assert m.speaker.tolist() == ["spk_1", "spk_2"] + [""] * 5
    assert enrolled.groupby("model").size().to_dict() == ({"model_1": 3} if task == 1 else {"model_1": 2, "model_2": 1})
    check_trials(trials, enrolled, m, labelled=False)
    x = trial_index(trials, enrolled, m)
    assert x.target is None and (x.enrol_speaker == -1).all() and len(x.enrol_rows) == (3 if task == 1 else 2)
    with pytest.raises(ValueError, match="without a key can be scored, not judged"): check_trials(trials, enrolled, m)


def test_sdsv_with_a_key_and_its_errors(tmp_path):
    sdsv_tree(tmp_path, 1)
    write(tmp_path / "docs/dev_trials.txt", "model-id evaluation-file-id trial-type", "model_1 v1 TC", "model_1 v2 TW")
    found = sdsv(tmp_path, 1, trials="dev_trials.txt")
    assert found.trials.kind.tolist() == ["TC", "TW"] and found.trials.target.tolist() == [True, False]
    check_trials(found.trials, found.enrolled, found.manifest)
    with pytest.raises(ValueError, match="train_labels.txt, line 2: 3 words; expected 2"): sdsv(tmp_path, 2)
    with pytest.raises(ValueError, match="task 3"): sdsv(tmp_path, 3)
    with pytest.raises(ValueError, match="no docs/nothing.txt"): sdsv(tmp_path, 1, trials="nothing.txt")
    write(tmp_path / "docs/model_enrollment.txt", "model-id phrase-id a b c", "model_1 11 e1 e2 e3")
    with pytest.raises(ValueError, match="phrase '11'; expected 01 to 10"): sdsv(tmp_path, 1)
    write(tmp_path / "docs/model_enrollment.txt", "model-id phrase-id a b c", "model_1 03 e1 e2 e9")
    with pytest.raises(ValueError, match=r"1 files cannot be used, as \[\('enrollment/e9', 'audio missing'\)\]"): sdsv(tmp_path, 1)


def kaldi_tree(top: Path):
    for k in (1, 2, 3): put(top / f"audio/{k}.wav", k)
    write(top / "data/wav.scp", "ann-1 ../audio/1.wav", "ann-2 ../audio/2.wav", "bob-1 ../audio/3.wav")
    write(top / "data/utt2spk", "ann-1 ann", "ann-2 ann", "bob-1 bob")
    write(top / "data/spk2gender", "ann f", "bob m")
    write(top / "data/trials", "ann-1 ann-2 target", "ann-1 bob-1 nontarget")


def test_kaldi(tmp_path):
    kaldi_tree(tmp_path)
    m, trials, enrolled = kaldi(tmp_path / "data")
    check_trials(trials, enrolled, m)
    assert m.duration.tolist() == [1, 2, 3] and m.gender.tolist() == ["female", "female", "male"] and "start_s" not in m
    write(tmp_path / "data/trials", "ann-1 ann-2 target", "ann-1 ann-2 nontarget")
    with pytest.raises(ValueError, match="1 trials whose label contradicts"): check_trials(kaldi(tmp_path / "data").trials, enrolled, m)
    (tmp_path / "data/trials").unlink()
    assert (kaldi(tmp_path / "data").manifest.split == "train").all()
    write(tmp_path / "data/wav.scp", "ann-1 1.wav", "ann-2 2.wav", "bob-1 3.wav")
    assert kaldi(tmp_path / "data", base=tmp_path / "audio").manifest.duration.tolist() == [1, 2, 3]


def test_kaldi_segments(tmp_path):
    kaldi_tree(tmp_path)
    write(tmp_path / "data/wav.scp", "rec ../audio/3.wav")
    write(tmp_path / "data/segments", "ann-1 rec 0.0 0.75", "ann-2 rec 0.75 1.75", "bob-1 rec 2.0 3.0")
    m = kaldi(tmp_path / "data").manifest
    assert m.duration.tolist() == [.75, 1., 1.] and m.start_s.tolist() == [0, .75, 2]
    assert waves_of_rows(m)[1].tolist() == [6000, 8000, 8000]
    write(tmp_path / "data/segments", "ann-1 rec 0.0 0.75", "ann-2 rec 1.75 0.75", "bob-1 other 2.0 3.0")
    with pytest.raises(ValueError, match=r"segments \['bob-1'\]"): kaldi(tmp_path / "data")
    write(tmp_path / "data/segments", "ann-1 rec 0.0 0.75", "ann-2 rec 1.75 0.75", "bob-1 rec 2.0 3.0")
    with pytest.raises(ValueError, match="'ann-2' ends before it begins"): kaldi(tmp_path / "data")


def test_kaldi_enrolled_apart(tmp_path):
    "As in Kaldi's recipes: the models are speakers of a folder of their own"
    kaldi_tree(tmp_path)
    put(tmp_path / "audio/4.wav", 4)
    write(tmp_path / "enroll/wav.scp", "ann-8 ../audio/4.wav", "ann-9 ../audio/1.wav")
    write(tmp_path / "enroll/utt2spk", "ann-8 ann", "ann-9 ann")
    write(tmp_path / "data/trials", "ann ann-2 target", "ann bob-1 nontarget")
    m, trials, enrolled = kaldi(tmp_path / "data", tmp_path / "enroll")
    check_trials(trials, enrolled, m)
    assert m.set_index("utterance").split.to_dict() == {"ann-1": "test", "ann-2": "test", "bob-1": "test", "ann-8": "test", "ann-9": "test"}
    assert enrolled[["model", "speaker", "utterance"]].to_numpy().tolist() == [["ann", "ann", "ann-8"], ["ann", "ann", "ann-9"]]
    x = trial_index(trials, enrolled, m)
    assert x.enrol_speaker.tolist() == [0, 0] and x.test_speaker.tolist() == [0, 1]
    write(tmp_path / "data/utt2spk", "ann-1 ann-1", "ann-2 ann-2", "bob-1 bob-1")
    (tmp_path / "data/spk2gender").unlink()
    hidden = kaldi(tmp_path / "data", tmp_path / "enroll")
    assert hidden.manifest.split.tolist() == ["train", "test", "test", "test", "test"], "asked or enrolled; the utterance that stands in no trial may be learned from"
    check_trials(hidden.trials, hidden.enrolled, hidden.manifest)
    assert (hidden.enrolled.speaker == "").all() and hidden.manifest.speaker.tolist() == ["", "", "", "ann", "ann"]
    with pytest.raises(ValueError, match="'ann', which is no utterance here"): kaldi(tmp_path / "data")
    with pytest.raises(ValueError, match="are in both folders"): kaldi(tmp_path / "data", tmp_path / "data")


@pytest.mark.parametrize("file,lines,told", [
    ("wav.scp", ["ann-1 sox a.wav -t wav - |", "ann-2 ../audio/2.wav", "bob-1 ../audio/3.wav"], r"for \['ann-1'\]; commands are not run"),
    ("wav.scp", ["ann-1 raw.ark:1234", "ann-2 ../audio/2.wav", "bob-1 ../audio/3.wav"], "place in an archive"),
    ("wav.scp", ["ann-1 ../audio/1.wav", "ann-1 ../audio/2.wav", "bob-1 ../audio/3.wav"], "names something twice"),
    ("wav.scp", ["ann-1 ../audio/1.wav", "ann-2 ../audio/2.wav"], r"1 utterances are in utt2spk or in wav.scp only, as \['bob-1'\]"),
    ("wav.scp", ["ann-1 ../audio/1.wav", "ann-2 ../audio/2.wav", "bob-1 ../audio/9.wav"], "'audio missing'"),
    ("utt2spk", ["ann-1 ann", "ann-2 ann"], "only, as .'bob-1'"),
    ("trials", ["ann-1 ann-2 target", "ann-1 nobody"], None),
    ("trials", ["ann-1 ann-2 perhaps"], "line 1: label 'perhaps'"),
    ("trials", ["ann-1"], "trials, line 1: 1 words"),
    ("trials", ["ghost ann-2 target"], "'ghost', which is no utterance here")])
def test_kaldi_refuses(tmp_path, file, lines, told):
    kaldi_tree(tmp_path)
    write(tmp_path / "data" / file, *lines)
    told = told or "line 2: label ''"
    with pytest.raises(ValueError, match=told): kaldi(tmp_path / "data")
    (tmp_path / "data" / file).unlink()
    if file != "trials":
        with pytest.raises(ValueError, match=f"no {file}"): kaldi(tmp_path / "data")


def test_a_command_is_never_run(tmp_path):
    kaldi_tree(tmp_path)
    write(tmp_path / "data/wav.scp", f"ann-1 touch {tmp_path}/ran |", "ann-2 ../audio/2.wav", "bob-1 ../audio/3.wav")
    with pytest.raises(ValueError, match="commands are not run"): kaldi(tmp_path / "data")
    assert not (tmp_path / "ran").exists()


def test_audio_that_cannot_be_used(tmp_path):
    vox_tree(tmp_path)
    (tmp_path / "wav/id90003/video-1/00001.wav").write_bytes(b"")
    put(tmp_path / "wav/id90003/video-2/00002.wav", channels=2)
    with pytest.raises(ValueError, match="2 files cannot be used") as told: voxceleb(tmp_path)
    assert "audio is empty" in str(told.value) and "several channels" in str(told.value)


# ---- real speech

@pytest.fixture(scope="module")
def real():
    if not (DATA / "common_voice").is_dir() or not (DATA / "accent_archive").is_dir(): pytest.skip("no shared/data: real speech is not part of the project")
    from mkdcls.adapters import read_corpus
    from mkdcls.corpora import finish_manifest
    return real_speakers(*(finish_manifest(read_corpus(n, DATA / n), n)[0] for n in ("accent_archive", "common_voice")))


def test_real_speakers(real):
    part = real.groupby(["corpus", "split"]).speaker.nunique().to_dict()
    assert part == {("accent_archive", "train"): 364, ("common_voice", "test"): 191, ("common_voice", "train"): 192}
    assert (real.groupby("speaker").split.nunique() == 1).all() and (real[real.corpus == "common_voice"].groupby("speaker").size() > 1).all()
    e = enrolments(real, "one")
    t = check_trials(trial_list(real, e), e, real)
    assert t.target.sum() == (real[real.split == "test"].groupby("speaker").size().pipe(lambda n: n * (n - 1) // 2)).clip(upper=10**6).sum()
    d = t[~t.target].merge(real, on="utterance").merge(real, left_on="model", right_on="utterance")
    assert (d.language_x == d.language_y).mean() < .02, "what the page says about impostors of another language"
    near = trial_list(real, e, within="language")
    check_trials(near, e, real)
    d = near[~near.target].merge(real, on="utterance").merge(real, left_on="model", right_on="utterance")
    assert (d.language_x == d.language_y).all() and len(d) > 2000
