"""The two verification sheets through the real command line at smoke, what their tables follow from, and a corpus of one's own in Kaldi's form."""
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from numpy.testing import assert_allclose
from safetensors.torch import load_file

from mkdcls.results import verification_sheets as verification
from mkdcls.results.speaker_runner import SpeakerRunner, measures
from mkdcls.verification.scores import fuse_embeddings
from mkdcls.verification.systems import PRESETS

ROOT = Path(__file__).resolve().parents[1]
SHEET = "seo_kim"


def table(runs, out, *more):
    env = os.environ | {"MKDCLS_RUNS": str(runs), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-m", "mkdcls.results.cli", "table", "--preset", "smoke", "--out", str(out), *more], cwd=out.parent, env=env,
                          capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def sheet(tmp_path_factory):
    top = tmp_path_factory.mktemp("sheet")
    done = table(top / "runs", top / "out", "--sheet", SHEET)
    assert done.returncode == 0, done.stderr[-3000:]
    return top


def test_everything_is_there(sheet):
    names = {f.name for f in (sheet / "out").rglob("*") if f.is_file()}
    assert names >= {f"{SHEET}{t}" for t in (".csv", "-claims.csv", "-runs.csv", "-trials.parquet", "-probes.csv", ".md", ".ipynb", ".png", "-det.svg")}
    lines, claims = (pd.read_csv(sheet / "out" / f"{SHEET}{t}.csv") for t in ("", "-claims"))
    assert list(lines["row"]) == list(PRESETS["smoke"].rows(sheet=SHEET)) and set(claims["status"]) == {"plumbing only"}
    assert (lines["eer_low"] <= lines["eer_high"]).all() and lines["paper_eer"].notna().sum() == 5


def test_again_nothing_is_run(sheet):
    before = (sheet / "out" / f"{SHEET}.csv").read_bytes()
    done = table(sheet / "runs", sheet / "again", "--sheet", SHEET)
    assert "0 of 10 runs to do" in done.stdout and (sheet / "again" / f"{SHEET}.csv").read_bytes() == before


def test_tables_follow_from_the_trials(sheet, tmp_path):
    for f in (sheet / "out").glob(f"{SHEET}-*"): (tmp_path / f.name).write_bytes(f.read_bytes())
    verification.write(tmp_path, SHEET)
    for t in (".csv", "-claims.csv", ".md"): assert (tmp_path / f"{SHEET}{t}").read_bytes() == (sheet / "out" / f"{SHEET}{t}").read_bytes()
    runs, trials = verification.read(tmp_path, SHEET)
    for _, r in runs.iterrows():
        found = measures(trials[r["row"]].to_numpy(float), trials["target"].to_numpy(), SHEET)
        assert_allclose([r["eer"], r["min_dcf"]], list(found.values()), atol=2e-5)


def test_scores_follow_from_the_embeddings(sheet, monkeypatch):
    monkeypatch.setenv("MKDCLS_RUNS", str(sheet / "runs"))
    runner = SpeakerRunner("smoke", device="cpu")
    e = runner.embeddings("sk-GAP", 0)["test"]
    kept = runner.store.predictions("sk-GAP", 0, runner.key("sk-GAP", 0)[1])
    assert_allclose(runner.trial_scores("sk-GAP", 0, e), kept["score"], atol=1e-6)
    m, trials, _ = runner.lists("sk-GAP", 0)
    of = dict(zip(m.loc[m["split"] == "test", "utterance"], e))
    for _, t in kept.iloc[:20].iterrows():  # one trial at a time, without an index: an utterance enrols itself
        by_hand = float((of[t["model"]].mean(0) * of[t["utterance"]].mean(0)).sum() / of[t["model"]].mean(0).norm())
        assert abs(by_hand - t["score"]) < 1e-5


def test_task_1_stands_on_task_2_and_on_the_phrases(tmp_path, monkeypatch):
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path))
    two = {("TD", how): ("td-Res2Net-50", "td-ECAPA-TDNN") for how in ("scores", "embeddings", "aligned")}
    monkeypatch.setattr(verification, "FUSIONS", two)
    rows = PRESETS["smoke"].rows()
    rows = {r: rows[r] for r in ("ti-Res2Net-50", "ti-ECAPA-TDNN", "td-phrases", "td-Res2Net-50", "td-ECAPA-TDNN")}
    runner = SpeakerRunner("smoke", device="cpu", rows=rows)
    assert runner.missing([("td-Res2Net-50", 0)]) == [("ti-Res2Net-50", 0), ("td-phrases", 0), ("td-Res2Net-50", 0)]
    for r in rows: runner.run(r, 0)
    said = runner.store.predictions("td-phrases", 0, runner.key("td-phrases", 0)[1]).set_index("utterance")["said"]
    kept, (_, _, enrolled) = runner.store.predictions("td-Res2Net-50", 0, runner.key("td-Res2Net-50", 0)[1]), runner.lists("td-Res2Net-50", 0)
    asked = enrolled.drop_duplicates("model").set_index("model")["phrase"]
    plain = runner.trial_scores("td-Res2Net-50", 0, runner.embeddings("td-Res2Net-50", 0)["test"])
    wrong = said[kept["utterance"]].to_numpy() != asked[kept["model"]].to_numpy()
    assert wrong.any() and not wrong.all()
    assert_allclose(kept["score"] - plain, np.where(wrong, -4., 0.), atol=1e-5)
    both = [runner.embeddings(r, 0)["test"] for r in two["TD", "scores"]]
    assert_allclose(verification.fused_scores(runner, "TD", "embeddings", 0),
                    runner.biased("td-Res2Net-50", 0, runner.trial_scores("td-Res2Net-50", 0, fuse_embeddings(both))), atol=1e-6)
    other = runner.store.predictions("td-ECAPA-TDNN", 0, runner.key("td-ECAPA-TDNN", 0)[1])["score"]
    assert_allclose(verification.fused_scores(runner, "TD", "scores", 0), (kept["score"] + other) / 2, atol=1e-6)
    assert np.isfinite(verification.fused_scores(runner, "TD", "aligned", 0)).all()


def test_lists_of_ones_own(tmp_path):
    "Noise in Kaldi's form: nothing to learn, but all the way to the table; age and sex are not known and nothing asks for them"
    rng, scp, who = np.random.default_rng(0), [], []
    (tmp_path / "data").mkdir()
    for s, u in ((s, u) for s in range(8) for u in range(4)):
        sf.write(tmp_path / "data" / f"s{s}-{u}.wav", .1 * rng.standard_normal(rng.integers(12_000, 20_000)), 8000)
        scp.append(f"s{s}-{u} s{s}-{u}.wav\n")
        who.append(f"s{s}-{u} s{s}\n")
    (tmp_path / "data" / "wav.scp").write_text("".join(scp))
    (tmp_path / "data" / "utt2spk").write_text("".join(who))
    (tmp_path / "lists.toml").write_text('[TI]\nadapter = "kaldi"\nfolder = "data"\n')
    done = table(tmp_path / "runs", tmp_path / "out", "--sheet", SHEET, "--corpus", str(tmp_path / "lists.toml"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "corpora of your own" in (tmp_path / "out" / f"{SHEET}.md").read_text("utf-8")
    assert pd.read_csv(tmp_path / "out" / f"{SHEET}-probes.csv").empty


def noise(folder, names, rng):
    for n in names:
        (file := folder / f"{n}.wav").parent.mkdir(parents=True, exist_ok=True)
        sf.write(file, .1 * rng.standard_normal(rng.integers(12_000, 20_000)), 8000)


def test_a_challenge_that_keeps_its_speakers_secret(tmp_path, monkeypatch):
    "SdSVC's layout, both tasks: nobody says who speaks in enrolment and test, nor what a test utterance says; MUSAN's layout for the augmentation"
    rng = np.random.default_rng(0)
    phrases = [f"{n:02d}" for n in range(1, 11)]
    for task in (1, 2):
        at = tmp_path / f"task{task}"
        train = [f"t{s}-{u}" for s in range(3) for u in range(10)]
        noise(at / "wav", [*(f"train/{n}" for n in train), *(f"enrollment/e{m}{k}" for m in range(4) for k in range(3)), *(f"evaluation/v{n}" for n in range(8))], rng)
        (at / "docs").mkdir()
        said = [f" {phrases[i % 10]}" if task == 1 else "" for i in range(len(train))]
        (at / "docs" / "train_labels.txt").write_text("id speaker\n" + "".join(f"{n} {n.split('-')[0]}{p}\n" for n, p in zip(train, said)))
        first = [f"{p} " if task == 1 else "" for p in phrases]
        (at / "docs" / "model_enrollment.txt").write_text("model\n" + "".join(f"m{m} {first[m]}e{m}0 e{m}1 e{m}2\n" for m in range(4)))
        yes, *no = ("TC", "IC", "IW") if task == 1 else ("tgt", "imp", "imp")
        (at / "docs" / "trials.txt").write_text("model file\n" + "".join(f"m{m} v{n} {yes if n % 4 == m else no[n > 3]}\n" for m in range(4) for n in range(8)))
    noise(tmp_path / "musan", [f"{k}/a/{k}-{i}" for k in ("noise", "music", "speech") for i in range(7)], rng)
    lists = tmp_path / "lists.toml"
    table_of = lambda role, task: f'[{role}]\nadapter = "sdsv"\nfolder = "task{task}"\ntask = {task}\n'
    lists.write_text('musan = "musan"\nvad = true\n' + table_of("TI", 2) + table_of("TD", 1))
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path / "runs"))
    rows = {r: s for r, s in PRESETS["smoke"].rows(str(lists), "imu_elevoc").items() if r in ("ti-Res2Net-50", "ti-SE-Res2Net-50", "td-phrases", "td-Res2Net-50")}
    assert len(rows) == 4
    runner = SpeakerRunner("smoke", str(lists), device="cpu", rows=rows)
    assert runner.treatment["vad"] and len(runner.treatment["noises"]) == 21
    plan = [(r, 0) for r in rows]
    runner.run_all(plan, workers=1)
    told = runner.store.predictions("td-phrases", 0, runner.key("td-phrases", 0)[1])
    known = told[told["phrase"] >= 0]
    assert 0 < len(known) < len(told) and runner.record("td-phrases", 0)["metrics"]["accuracy"] == 100 * (known["phrase"] == known["said"]).mean()
    verification.publish(runner, "imu_elevoc", plan, tmp_path / "out")
    lines, _ = verification.write(tmp_path / "out", "imu_elevoc")
    assert (lines["eer_low"] <= lines["eer_high"]).all() and len(lines) == 3
    _, trials = verification.read(tmp_path / "out", "imu_elevoc")
    assert (trials["enrolled"] < 0).all() and (trials["enrolled"] == trials["asked"]).all() and trials["enrolled"].nunique() == 4
    assert "models are resampled" in (tmp_path / "out" / "imu_elevoc.md").read_text("utf-8")


def test_a_wrong_list_is_told_before_anything_is_heard(tmp_path):
    noise(tmp_path / "data", [f"s{s}-{u}" for s in range(4) for u in range(3)], np.random.default_rng(0))
    names = [f"s{s}-{u}" for s in range(4) for u in range(3)]
    (tmp_path / "data" / "wav.scp").write_text("".join(f"{n} {n}.wav\n" for n in names))
    (tmp_path / "data" / "utt2spk").write_text("".join(f"{n} {n[:2]}\n" for n in names))
    (tmp_path / "lists.toml").write_text('[TI]\nadapter = "kaldi"\nfolder = "data"\n')
    for trials, said in (("s0-0 s0-1 target\ns0-0 s9-9 nontarget\n", "unknown utterance"), ("s0-0 s0-1 target\n", "one class only"), ("s0-0 s0-1\n", "has no key")):
        (tmp_path / "data" / "trials").write_text(trials)
        done = table(tmp_path / "runs", tmp_path / "out", "--sheet", SHEET, "--corpus", str(tmp_path / "lists.toml"))
        assert done.returncode == 2 and said in done.stderr and "lists.toml, [TI]" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not list((tmp_path / "runs").rglob("*.pt")) and not (tmp_path / "runs" / "features").exists()


def test_every_printed_line_is_shown():
    "Each of the papers' lines stands in its own table, with our row where one measures it; nothing of ours is left out"
    for sheet, n in (("seo_kim", {"Table 3": 6, "Table 4": 10}),
                     ("imu_elevoc", {"Table 1, Task 2": 8, "Table 2, Task 1": 9, "Table 3, Task 1": 5, "Table 3, Task 2": 5})):
        rows = [r for r, s in PRESETS["laptop"].rows("standin", sheet).items() if s.network != "phrases"]
        rows += [f"{r}-{how}" for r in ("ti", "td") for how in ("scores", "embeddings", "aligned")] * (sheet == "imu_elevoc")
        lines = pd.DataFrame([dict(row=r, eer=10., eer_low=9., eer_high=11., min_dcf=.5, min_dcf_low=.4, min_dcf_high=.6, params=1.) for r in rows])
        found = verification.shown(lines, sheet)
        assert {k: t.strip().count("\n") - 1 for k, t in found.items()} == n
        assert all(any(f"| {r} |" in t for t in found.values()) for r in rows)
    assert "| SdSVC x-vector baseline | quoted |  | 10.65 |" in found["Table 1, Task 2"]
    assert list(verification.shown(lines[lines["row"].str.startswith("ti")], "imu_elevoc")) == ["Table 1, Task 2", "Table 3, Task 2"]


def test_the_floor_and_the_voice_by_hand():
    "Four true trials, one vetoed: floor 25 %. Of what is left with the right phrase, one of four impostors lies above one of three targets"
    s = [.9, .8, .1, -3.5] + [.2, 0., -.1, -.2] + [-3.9] * 4
    trials = pd.DataFrame(dict(role="TD", seed=0, kind=["TC"] * 4 + ["IC"] * 4 + ["TW"] * 4, target=[True] * 4 + [False] * 8, enrolled=0, asked=0, x=s))
    t = verification.phrase_floors(trials).iloc[0]
    assert_allclose([t["floor %"], t["EER % of the voice alone"]], [25., 100 * measured([.9, .8, .1], [.2, 0., -.1, -.2])])


def measured(targets, impostors):
    "EER by trying thresholds between all scores: where the two rates cross on the line between neighbours"
    at = np.sort([*targets, *impostors, 9.])
    miss, fa = (np.array([f(x) for x in at]) for f in (lambda x: np.mean(np.array(targets) < x), lambda x: np.mean(np.array(impostors) >= x)))
    i = int(np.argmax(miss >= fa))
    w = (fa[i - 1] - miss[i - 1]) / ((fa[i - 1] - miss[i - 1]) + (miss[i] - fa[i]))
    return miss[i - 1] + w * (miss[i] - miss[i - 1])


@pytest.mark.parametrize("more,said", [(("--corpus", "real"), "CORPUS=real needs REAL="), (("--corpus", "nowhere.toml"), "there is no such file"),
                                       (("--seeds", "0"), "at least 1"), (("--preset", "paper"), "for corpora of your own")])
def test_mistakes_are_one_line(tmp_path, more, said):
    done = table(tmp_path / "runs", tmp_path / "out", "--sheet", SHEET, *more)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_killed_and_resumed_is_the_same(tmp_path, monkeypatch):
    "A row that is interrupted in the middle goes on to the same weights"
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path / "a"))
    rows = {"sk-GAP": PRESETS["smoke"].rows()["sk-GAP"]}
    whole = SpeakerRunner("smoke", device="cpu", rows=rows)
    whole.run("sk-GAP", 0)
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path / "b"))
    def stop(what, done, of):
        if "sk-GAP" in what and done == 2: raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): SpeakerRunner("smoke", device="cpu", rows=rows, progress=stop).run("sk-GAP", 0)
    again = SpeakerRunner("smoke", device="cpu", rows=rows)
    again.run("sk-GAP", 0)
    folders = [next((tmp_path / k).rglob("model.safetensors")) for k in "ab"]
    a, b = (load_file(f) for f in folders)
    assert a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())


# ---- what is committed

def committed() -> list[tuple[Path, str]]:
    "Folders of results that git knows, and which of the two sheets they hold"
    git = subprocess.run(["git", "-C", ROOT, "ls-files", "paper/results/*-runs.csv"], capture_output=True, text=True)
    files = [ROOT / f for f in git.stdout.split()] if git.returncode == 0 else (ROOT / "paper" / "results").glob("*/*-runs.csv")
    return sorted((f.parent, f.name.removesuffix("-runs.csv")) for f in files if f.name.removesuffix("-runs.csv") in ("seo_kim", "imu_elevoc"))


@pytest.mark.parametrize("results,name", committed(), ids=lambda v: v if isinstance(v, str) else v.name)
def test_committed_sheets_hold_together(results, name, tmp_path, monkeypatch):
    "Tables follow from the trials; on the stand-in every run is the one that would be made today; no trace of a machine"
    for f in results.glob(f"{name}-*"): (tmp_path / f.name).write_bytes(f.read_bytes())
    verification.write(tmp_path, name)
    for t in (".csv", "-claims.csv", ".md"): assert (tmp_path / f"{name}{t}").read_text("utf-8") == (results / f"{name}{t}").read_text("utf-8"), f"{name}{t}"
    runs, _ = verification.read(results, name)
    corpus, preset = results.name.rsplit("-", 1)
    assert set(runs["preset"]) == {preset}
    assert corpus == "standin" or not runs["commit"].str.endswith("+").any(), "made with files that were not committed"  # the keys below say whether it was code
    assert set(runs["row"]) == set(PRESETS[preset].rows(corpus, name))
    assert "/work/" not in (results / f"{name}.ipynb").read_text("utf-8") and "/tmp/" not in (results / f"{name}.ipynb").read_text("utf-8")
    if corpus != "standin": return
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path / "runs"))
    runner = SpeakerRunner(preset, device="cpu")
    for _, r in runs.iterrows(): assert r["key"] == runner.key(r["row"], r["seed"])[1], f"row {r['row']}, seed {r['seed']} would be another run today"


@pytest.mark.parametrize("draws,decided", [(600, {"opposite", "worse"}), (300, set())])
def test_contrasts_pass_holm_where_the_draws_allow_it(tmp_path, monkeypatch, draws, decided):
    "Five seeds of clear differences: against the paper's sign, or without one; with 300 draws no p is small enough for eleven contrasts"
    rng, n = np.random.default_rng(0), 240
    who = np.arange(n) % 12
    target = np.arange(n) % 4 == 0
    base = dict(role="TI", kind="one", target=target, enrolled=who, asked=np.where(target, who, (who + 1 + np.arange(n) // 12) % 12))
    skill = dict.fromkeys(PRESETS["laptop"].rows("standin", "seo_kim"), 1.) | {"sk-GAP": 4., "sk-NetVLAD": 4.}
    trials = pd.concat([pd.DataFrame({**base, "seed": s, **{r: k * target + rng.standard_normal(n) for r, k in skill.items()}}) for s in range(5)])
    trials = trials[["role", "seed", "kind", "target", "enrolled", "asked", *skill]]
    runs = pd.DataFrame([dict(row=r, seed=0, corpus="standin", preset="laptop", protocol="1", params=1, train_s=1.) for r in skill])
    monkeypatch.setattr(verification, "DRAWS", draws)
    monkeypatch.setattr(verification, "read", lambda folder, sheet: (runs, trials))
    claims = verification.table(tmp_path, "seo_kim")[1].set_index("claim")
    assert set(claims["status"]) - {"undecided", "no difference"} == decided and claims["p_holm"].ge(claims["p"]).all()
    if not decided: return
    assert claims.loc["attention instead of a mean, last layer", "status"] == "opposite" and claims.loc["the whole proposal against NetVLAD", "status"] == "worse"


def test_a_row_that_hears_nothing_in_one_seed_is_marked():
    rng, n = np.random.default_rng(1), 400
    who, target = np.arange(n) % 20, np.arange(n) % 4 == 0
    base = dict(role="TI", kind="one", target=target, enrolled=who, asked=np.where(target, who, (who + 1 + np.arange(n) // 20) % 20))
    noise = lambda: rng.standard_normal(n)
    trials = pd.concat([pd.DataFrame({**base, "seed": s, "a": 2 * target + noise(), "b": 2 * target * (s == 0) + noise()}) for s in range(2)])
    rows, _, _, lost = verification.replicates(trials[["role", "seed", "kind", "target", "enrolled", "asked", "a", "b"]], "seo_kim")["TI"]
    assert (rows, list(lost)) == (["a", "b"], [0, 1])
