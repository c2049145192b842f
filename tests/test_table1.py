"""Table 1 through the real command line: all of it once at smoke, again, killed, with wrong input; and what is committed belongs to this code.

One module-wide run of `mkdcls table1 --preset smoke` serves most tests here. Run this file alone: `pytest tests/test_table1.py`.
"""
import filecmp
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from mkdcls.results import ablation_sheet as ablations, report
from mkdcls.engine.codehash import code_hashes
from mkdcls.results.sheets import plans
from mkdcls.engine.store import differences
from mkdcls.runs import PRESETS, Knobs, table1_rows
from mkdcls.decisive import decisive_rows
from mkdcls.verification.bridge import identity, sheet_rows

ROOT = Path(__file__).resolve().parents[1]
TASKS, PARTS = ("gender", "agesup", "agesub"), ("p", "r", "f1")
FIGURES = {f"{n}.{e}" for n in ("curves", "gains", "confusion_agesup", "confusion_agesub") for e in ("svg", "png")}
CODE = 'import sys; from mkdcls.results.cli import main; sys.exit(main(sys.argv[1:]))'


def committed() -> list[Path]:
    "Folders of results that git knows; one that is being made does not count yet. Without git, all that hold records"
    git = subprocess.run(["git", "-C", ROOT, "ls-files", "paper/results/*/runs.csv"], capture_output=True, text=True)
    files = [ROOT / f for f in git.stdout.split()] if git.returncode == 0 else (ROOT / "paper" / "results").glob("**/runs.csv")
    return sorted(f.parent for f in files if not any(p.endswith("-smoke") for p in f.parts))


RECORDS = committed()  # of Table 1, and of other sheets in folders inside
COMMITTED = [f for f in RECORDS if (f / "table1.csv").exists()]
name = lambda f: f.relative_to(ROOT / "paper" / "results").as_posix()


def environment(runs) -> dict:
    "One thread, so that the test does not depend on the machine's size; runs where the test wants them; pictures in the page, as a user gets them"
    return {k: v for k, v in os.environ.items() if k != "MPLBACKEND"} | {"MKDCLS_RUNS": str(runs), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def command(*args) -> list: return [sys.executable, "-m", "mkdcls.results.cli", "table1", *map(str, args)]


def table1(runs, out, *args, timeout=900) -> subprocess.CompletedProcess:
    return subprocess.run(command("--preset", "smoke", "--device", "cpu", "--out", out, *args), cwd=ROOT, env=environment(runs), capture_output=True, text=True,
                          timeout=timeout)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "Where the module's run keeps its runs and leaves its results"
    top = tmp_path_factory.mktemp("table1")
    return top / "runs", top / "out"


@pytest.fixture(scope="module")
def done(place):
    "The whole of Table 1, once"
    done = table1(*place)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


@pytest.fixture
def folder(done, place): return place[1]


@pytest.fixture
def table(folder): return pd.read_csv(folder / "table1.csv", dtype={"row": str}).set_index("row", drop=False)


# ---- what is left

def test_everything_the_issue_names_is_there(folder):
    names = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}
    tables = {"runs.csv", "curves.csv", "predictions.parquet", "table1.csv", "table1.md", "table1.tex", "gains.csv", "table1.ipynb"}
    assert names == tables | {f"figures/{n}" for n in FIGURES}
    for n in FIGURES:
        head = (folder / "figures" / n).read_bytes()[:300]
        assert head.startswith(b"\x89PNG") if n.endswith("png") else b"<svg" in head or b"<?xml" in head


def test_columns(table):
    identity = ["row", "encoder", "dataset", "method", "kd_loss", "corpus", "preset", "protocol", "n_seeds"]
    scores = [f"{t}_{p}{c}" for t in TASKS for p in PARTS for c in ("", "_ci95")]
    more = [f"as_trained_{t}_f1" for t in TASKS] + [f"ltv_{t}_f1" for t in TASKS] + ["conflict_rate", "params", "train_s"]
    assert list(table.columns) == identity + scores + more + [f"paper_{t}_{p}" for t in ("gender", "agesup") for p in PARTS]


def test_rows(table):
    assert list(table["row"]) == ["1", "2", "3", "4a", "4b", "5", "6", "7", "8", "9", "10", "11", "12", "13"] == list(table1_rows())
    assert (table[["corpus", "preset", "protocol", "n_seeds"]] == ["standin", "smoke", 1, 1]).all(axis=None)
    assert list(table["method"]) == ["base", "base", "base", "+MKD", "+MKD", "+CH", "+MKD+CH", "base", "+MKD", "+CH", "+MKD+CH", "base", "+CH", "+MKD+CH"]
    assert table["kd_loss"].fillna("").to_dict() == dict.fromkeys(table.index, "") | dict.fromkeys(("4a", "6", "8", "10", "13"), "cos") | {"4b": "mse"}
    assert list(table.index[table["encoder"] == "ResNet"]) == ["2", "7", "8", "9", "10"] and set(table["encoder"]) == {"ResNet", "ECAPA-TDNN"}
    assert table["dataset"].to_dict() == {"1": "FCVG", "2": "FCVG"} | dict.fromkeys(table.index[2:11], "LTV+FCVE") | dict.fromkeys(table.index[11:], "call centre")


def test_cells_are_empty_where_nothing_was_measured(table):
    ch, mkd, ltv = table["method"].str.contains("CH"), table["method"].str.contains("MKD"), table["dataset"] == "LTV+FCVE"
    for name in (f"{t}_{p}{c}" for t in TASKS for p in PARTS for c in ("", "_ci95")):
        assert (table[name].notna() == (ch if name.startswith("agesub") else True)).all(), name
    for t in TASKS:
        has = ch if t == "agesub" else True
        assert (table[f"as_trained_{t}_f1"].notna() == (mkd & has)).all() and (table[f"ltv_{t}_f1"].notna() == (ltv & has)).all()
    assert (table["conflict_rate"].notna() == ch).all() and (table["params"] > 0).all() and (table["train_s"] > 0).all()


def test_scores_are_percent_within_their_intervals(table):
    for name in (f"{t}_{p}" for t in TASKS for p in PARTS):
        some = table[table[name].notna()]
        low, high = zip(*some[f"{name}_ci95"].map(json.loads))
        assert ((0 <= some[name]) & (some[name] <= 100) & (list(low) <= some[name] + .01) & (some[name] <= [h + .01 for h in high])).all(), name
    assert table["conflict_rate"].dropna().between(0, 100).all()


def test_the_teacher_is_counted_where_it_must_be_shipped(table):
    "+MKD rows hold teacher, student and wider heads; a third head costs the same in every row"
    p = table["params"]
    assert p["4a"] == p["4b"] > p["1"] + p["3"] * .8 and p["8"] > p["2"] and p["3"] == p["11"] and p["5"] == p["12"] and p["6"] == p["13"] and p["5"] > p["3"]


def test_the_papers_numbers_are_the_papers(table):
    paper = pd.read_csv(ROOT / "paper" / "published" / "table1.csv", dtype={"row": str}).set_index("row")
    for t in ("gender", "agesup"):
        for p in PARTS: assert (table[f"paper_{t}_{p}"] == paper.loc[table.index, f"{t}_{p}"]).all()
    assert list(paper.loc[["6", "10", "13"], "agesup_f1"]) == [85.09, 87.83, 70.48]


def test_gains(folder, table):
    "Nine methods against their bases; smoke gets no status; the gain is the difference of the table's cells"
    gains = pd.read_csv(folder / "gains.csv", dtype={"row": str, "base_row": str})
    assert set(gains["status"]) == {"plumbing only"}
    pooled = gains[gains["scope"] == "pooled"]
    pairs = {("4a", "3"), ("4b", "3"), ("5", "3"), ("6", "3"), ("8", "7"), ("9", "7"), ("10", "7"), ("12", "11"), ("13", "11")}
    for task in ("agesup", "gender"): assert set(zip(*(pooled.loc[pooled["task"] == task, c] for c in ("row", "base_row")))) == pairs
    for _, g in pooled.iterrows():
        for ours, cell in (("gain", "{}_f1"), ("paper_gain", "paper_{}_f1")):
            name = cell.format(g["task"])
            assert g[ours] == pytest.approx(table.loc[g["row"], name] - table.loc[g["base_row"], name], abs=.011)
        assert g["low"] <= g["gain"] <= g["high"]
    assert sorted(pooled.loc[pooled["primary"], "row"]) == ["10", "13", "6"]


def test_everything_follows_from_the_records(folder): assert report.check_folder(folder) == []


def test_a_reader_of_the_markdown_is_told_what_it_is(folder):
    text = (folder / "table1.md").read_text("utf-8")
    assert "PLUMBING CHECK" in text and "synthetic stand-in speech, not the paper's corpora" in text and text.count("\n| ") > 40
    assert (folder / "table1.tex").read_text("utf-8").count(r"\\") == 15


def test_the_executed_notebook_is_clean(folder, place):
    text = (folder / "table1.ipynb").read_text("utf-8")
    nb = nbformat.reads(text, 4)
    assert not any(o.get("name") == "stderr" or o.output_type == "error" for c in nb.cells for o in c.get("outputs", []))
    for path in (str(place[0]), str(place[1]), str(ROOT), str(Path.home()), sys.prefix, "/tmp/", "/home/"): assert path not in text, path
    assert "Plumbing check" in text and len(text) < 500_000
    assert sum("image/png" in o.get("data", {}) for c in nb.cells for o in c.get("outputs", [])) == 4, "four figures on the page"
    assert not re.search(r"\d+%\|", text), "no progress bars"


def test_the_command_says_what_it_does(done, place):
    assert "14 of 14 runs to do, about " in done.stdout and str(place[1]) in done.stdout and "the same command goes on" in done.stdout
    assert "| 13 | ECAPA-TDNN | call centre | +MKD+CH (cos) |" in done.stdout and "figures/gains.svg" in done.stdout
    assert "Traceback" not in done.stderr and "row 13" in done.stderr, "progress is shown"


# ---- again, and killed

def test_a_second_call_runs_nothing(done, place, tmp_path):
    runs, out = place
    records = {f: f.stat().st_mtime_ns for f in runs.rglob("record.json")}
    again = table1(runs, tmp_path / "again")
    assert again.returncode == 0 and "0 of 14 runs to do: only the tables are written anew" in again.stdout, again.stderr[-2000:]
    assert len(records) == 14 and records == {f: f.stat().st_mtime_ns for f in runs.rglob("record.json")}
    names = ["runs.csv", "curves.csv", "table1.csv", "table1.md", "table1.tex", "gains.csv", *(f"figures/{n}" for n in FIGURES)]
    assert filecmp.cmpfiles(out, tmp_path / "again", names, shallow=False)[0] == names


def untimed(folder) -> pd.DataFrame: return pd.read_csv(folder / "table1.csv").drop(columns="train_s")


def records(runs) -> list: return sorted(f.parent.name for f in runs.glob("*/row*/record.json"))


def stopped(runs, out, how, after) -> str:
    "What the command prints when a signal meets it after so many rows; nothing may go on in the background"
    args = command("--preset", "smoke", "--device", "cpu", "--out", out)
    def heed(): signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell starts what runs in the background with Ctrl-C ignored
    process = subprocess.Popen(args, cwd=ROOT, env=environment(runs), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
                               preexec_fn=heed)
    limit = time.monotonic() + 600
    while len(records(runs)) < after and process.poll() is None and time.monotonic() < limit: time.sleep(.1)
    assert process.poll() is None, process.communicate()[0][-3000:]
    process.send_signal(how)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == (130 if how == signal.SIGINT else -how)
    time.sleep(5)
    kept = records(runs)
    time.sleep(5)
    assert records(runs) == kept, "a run goes on although its command was stopped"
    return text


def test_stopped_killed_and_started_again(done, place, tmp_path):
    "Ctrl-C after two rows, killed outright after five: the same command ends at the same table"
    runs, out = tmp_path / "runs", tmp_path / "out"
    shutil.copytree(place[0] / "features", runs / "features")  # rendering is not what is tested here
    text = stopped(runs, out, signal.SIGINT, after=2)
    assert text.rstrip().endswith("Stopped. What was finished is kept; the same command goes on from there."), text[-3000:]
    kept = len(records(runs))
    assert 2 <= kept < 5 and f"{14 - kept} of 14 runs to do" in stopped(runs, out, signal.SIGKILL, after=5)
    kept = len(records(runs))
    again = table1(runs, out)
    assert again.returncode == 0 and 5 <= kept < 14 and f"{14 - kept} of 14 runs to do" in again.stdout, again.stderr[-3000:]
    pd.testing.assert_frame_equal(untimed(out), untimed(place[1]), check_exact=True)
    assert report.check_folder(out) == []


# ---- wrong input: one line that names the fix, before anything is made

def wrong(*args, runs) -> str:
    "What a mistaken command says, in this process's time"
    done = subprocess.run([sys.executable, "-c", CODE, "table1", *map(str, args)], cwd=ROOT, env=environment(runs), capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr[-2000:]
    return done.stderr.strip()


@pytest.mark.parametrize("args,says", [
    (("--preset", "desktop"), "no preset 'desktop'; choose one of smoke, laptop, gpu, paper"),
    (("--preset", "smoke", "--seeds", "0"), "SEEDS=0: at least 1"),
    (("--preset", "smoke", "--seeds", "-1"), "SEEDS=-1: at least 1"),
    (("--preset", "smoke", "--corpus", "real"), "REAL=<folder"),
    (("--preset", "smoke", "--corpus", "real", "--real", "no/such/folder"), "REAL=<folder with accent_archive/ and common_voice/>; there is no folder 'no/such/folder'"),
    (("--preset", "smoke", "--corpus", "real", "--real", "nbs"), "accent_archive is not there"),
    (("--preset", "smoke", "--corpus", "real", "--real", "nbs", "--seeds", "6"), "five folds"),
    (("--preset", "smoke", "--corpus", "no/such.toml"), "CORPUS=no/such.toml: 'standin', 'real', a corpora file, or a folder"),
    (("--preset", "smoke", "--corpus", "README.md"), "README.md is not TOML"),
    (("--preset", "paper"), "give CORPUS=<corpora file>, or choose smoke, laptop or gpu"),
    (("--preset", "smoke", "--device", "abacus"), "device 'abacus': choose auto, cpu or cuda"),
], ids=lambda v: " ".join(v) if isinstance(v, tuple) else "")
def test_mistakes(tmp_path, args, says):
    text = wrong(*args, "--out", tmp_path / "out", runs=tmp_path / "runs")
    assert text.startswith("mkdcls table1: ") and says in text and len(text.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_seeds_must_be_a_number(tmp_path): assert "invalid int value: 'many'" in wrong("--seeds", "many", runs=tmp_path)


def test_folders_that_cannot_be_written(tmp_path):
    "A file where a folder should be stops even root"
    (tmp_path / "file").write_text("")
    for where in ("file", "file/below"):
        text = wrong("--preset", "smoke", "--out", tmp_path / where, runs=tmp_path / "runs")
        assert f"cannot write to {tmp_path / where}" in text and "choose another folder (OUT=..." in text and len(text.splitlines()) == 1
    text = wrong("--preset", "smoke", "--out", tmp_path / "out", runs=tmp_path / "file")
    assert "MKDCLS_RUNS" in text and len(text.splitlines()) == 1


def test_a_truncated_record_is_named(done, place, tmp_path):
    "Nothing else is lost: with that folder deleted, as the message says, the rest is found again"
    shutil.copytree(place[0], tmp_path / "runs")
    record = next((tmp_path / "runs").glob("*/row13-*/record.json"))
    record.write_bytes(record.read_bytes()[:100])
    text = wrong("--preset", "smoke", "--device", "cpu", "--out", tmp_path / "out", runs=tmp_path / "runs")
    assert str(record) in text and "delete its folder, row13-seed0-" in text and len(text.splitlines()) == 1
    shutil.rmtree(record.parent)
    again = table1(tmp_path / "runs", tmp_path / "out")
    assert again.returncode == 0 and "1 of 14 runs to do" in again.stdout, again.stderr[-2000:]
    pd.testing.assert_frame_equal(untimed(tmp_path / "out"), untimed(place[1]), check_exact=True)


def test_trouble_inside_the_notebook_is_one_line_too(done, place, tmp_path):
    "A teacher's weights cut short: found when row 4a needs them"
    shutil.copytree(place[0], tmp_path / "runs")
    for folder in (tmp_path / "runs").glob("*/row4a-*"): shutil.rmtree(folder)
    weights = next((tmp_path / "runs").glob("*/row1-*/model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:500])
    text = wrong("--preset", "smoke", "--device", "cpu", "--out", tmp_path / "out", runs=tmp_path / "runs")
    last = text.splitlines()[-1]
    assert last.startswith("mkdcls table1: ") and f"{weights} is not what the run wrote" in last and "delete its folder, row1-seed0-" in last


def test_papermill_with_an_unknown_parameter(tmp_path):
    "papermill itself only warns; the notebook's second cell refuses"
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "papermill", "nbs/results/table1.ipynb", tmp_path / "out.ipynb", "-p", "nonsense", "1", "--cwd", "nbs/results"],
                          cwd=ROOT, env=environment(tmp_path / "runs"), capture_output=True, text=True, timeout=300)
    assert done.returncode and "no parameter nonsense in this notebook; it takes preset, seeds, corpus, real, device, out" in done.stderr
    assert not (tmp_path / "runs").exists() and time.monotonic() - started < 120


def test_the_notebooks_own_defaults_are_the_smoke_run():
    nb = nbformat.read(ROOT / "nbs" / "results" / "table1.ipynb", 4)
    tagged = [c for c in nb.cells if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    scope = {}
    exec(tagged[0].source, scope)
    assert {k: v for k, v in scope.items() if not k.startswith("__")} == dict(
        preset="smoke", seeds=1, corpus="standin", real="", device="auto", out="", redraw=False, yours="", epochs=None, lr=None, batch=None, remedy="")


# ---- what is committed

@pytest.mark.parametrize("results", COMMITTED, ids=lambda p: p.name)
def test_committed_results_hold_together(results):
    "Tables follow from records; the folder's name says what is inside; pictures and page are there, without a trace of a machine"
    assert report.check_folder(results) == []
    table = pd.read_csv(results / "table1.csv", dtype={"row": str})
    corpus, preset = results.name.rsplit("-", 1)
    assert set(table["preset"]) == {preset} and set(table["corpus"]) == {corpus} and preset in PRESETS
    assert list(table["row"]) == list(table1_rows()) and table["n_seeds"].nunique() == 1
    assert {f.name for f in (results / "figures").iterdir()} >= FIGURES
    for name in ("table1.ipynb", "runs.csv", "table1.md"):
        text = (results / name).read_text("utf-8")
        assert not re.search(r"/(home|root|tmp|work|Users)/", text), f"{name} holds a path of the machine that made it"


@pytest.mark.parametrize("results", [f for f in RECORDS if f.name == "ablations"], ids=name)
def test_committed_ablations_hold_together(results):
    "The sheet follows from its records, and its scores from its answers; rows of Table 1 in it are Table 1's"
    table = ablations.contrasts(results)
    assert (results.parent / "ablations.csv").read_text("utf-8") == table.to_csv(index=False)
    assert (results.parent / "ablations.md").read_text("utf-8") == ablations.markdown(results, table)
    runs, lines = report.read(results)
    for _, r in runs.iterrows():
        part = lines[(lines["row"] == r["row"]) & (lines["seed"] == r["seed"])].dropna(axis=1, how="all")
        card = report.scorecard(part, tuple(t for t in TASKS if t in part))
        assert all(abs(r[n] - v) <= 1e-4 for n, v in card.items()), (r["row"], r["seed"])
    first = pd.read_csv(results.parent / "runs.csv", dtype={"row": str}).set_index(["row", "seed"])["key"]
    mine = runs.set_index(["row", "seed"])["key"]
    both = mine.index.intersection(first.index)
    assert len(both) >= 6 and (mine[both] == first[both]).all()


def test_redrawn_from_records(tmp_path):
    "Whoever has the records has the page: the same tables and pictures to the byte, nothing trained, nothing rendered"
    kept, out = ROOT / "paper" / "results" / "standin-laptop", tmp_path / "out"
    shutil.copytree(kept, out)
    for file in (out / "sensitivity.csv", out / "sensitivity.ipynb"): file.write_text("")
    done = subprocess.run([sys.executable, "-m", "mkdcls.results.cli", "table", "--sheet", "sensitivity", "--redraw", "--out", out], cwd=ROOT,
                          env=environment(tmp_path / "runs"), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and "18 runs recorded" in done.stdout and "3 seed(s); nothing is trained" in done.stdout, done.stderr[-2000:]
    assert (out / "sensitivity.csv").read_bytes() == (kept / "sensitivity.csv").read_bytes()
    page = (out / "sensitivity.ipynb").read_text("utf-8")
    assert "Drawn from the 18 recorded runs" in page and '"image/png"' in page and str(tmp_path) not in page
    assert not list((tmp_path / "runs").glob("*/*")), "nothing was made"


@pytest.mark.parametrize("sheet,more,says", [("table1", [], "only decisive and regime go on from records"),
                                             ("decisive", ["--redraw"], "leave REDRAW, ROWS and FIRST_SEED out")])
def test_nothing_to_continue(tmp_path, sheet, more, says):
    done = subprocess.run([sys.executable, "-m", "mkdcls.results.cli", "table", "--sheet", sheet, "--continue", *more, "--out", tmp_path / "out"], cwd=ROOT,
                          env=environment(tmp_path / "runs"), capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and says in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("sheet,says", [("interventions", "asks trained networks; only table1, ablations, "), ("table1", "there is no runs.csv in ")])
def test_nothing_to_redraw_from(tmp_path, sheet, says):
    done = subprocess.run([sys.executable, "-m", "mkdcls.results.cli", "table", "--sheet", sheet, "--redraw", "--out", tmp_path / "out"], cwd=ROOT,
                          env=environment(tmp_path / "runs"), capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and says in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("results", RECORDS, ids=name)
def test_committed_results_belong_to_this_code(results):
    """THE GUARD of every committed number: its training code is today's.

    If this fails, a module that training imports was changed after the results were made (other than in words). A change of form that computes
    the same, bit for bit, is admitted by `make equivalent`; after any other, run that table again and commit it, or undo the change.
    """
    runs = pd.read_csv(results / "runs.csv", dtype={"row": str})
    sets = (("mkdcls.training",), ("mkdcls.training", "mkdcls.intervention"), ("mkdcls.verification.seo_kim",), ("mkdcls.verification.imu_networks",))
    now = {m: h for modules in sets for m, h in code_hashes(*modules).items()}
    old = {m for code in runs["code"].unique() for m, h in (json.loads(code) | dict.fromkeys(code_hashes("mkdcls.training").keys() - json.loads(code).keys())).items()
           if now.get(m) != h}
    assert not old, f"{results.name} was made with other code in {sorted(old)}: run it again"


@pytest.mark.parametrize("results", RECORDS, ids=name)
def test_committed_results_are_of_the_settled_preset(results):
    "What the README says a command gives is what it gives: the recipes of the committed rows are those of their preset today"
    runs = pd.read_csv(results / "runs.csv", dtype={"row": str})
    for _, r in runs.iterrows():
        preset, second = PRESETS[r["preset"]], str(r.get("protocol")) == "2"
        rows = decisive_rows(preset.protocol2(), r["corpus"]) if second else sheet_rows(preset, r["corpus"]) | preset.rows(r["corpus"])
        now = identity(rows[r["row"]], 0, "", {})["recipe"]
        assert json.loads(r["recipe"]) == now, f"{results.name} row {r['row']}: {differences(json.loads(r['recipe']), now)}; run it again"


@pytest.mark.parametrize("results", [f for f in COMMITTED if (f / "interventions-runs.csv").exists()], ids=name)
def test_committed_interventions_are_of_these_runs(results, tmp_path, monkeypatch):
    "Every run behind the sheet is the one that would be made today: same recipe, same data, same code"
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path))
    corpus, preset = results.name.rsplit("-", 1)
    runs = pd.read_csv(results / "interventions-runs.csv", dtype={"row": str})
    assert not runs["commit"].str.endswith("+").any(), "made with code that was not committed"
    knobs = lambda r: str(Knobs(**{k: None if pd.isna(r[k]) else r[k] for k in ("rho", "adjacent", "overlay_label")}))
    made = {(knobs(r), r["row"], r["seed"]): r["key"] for _, r in runs.iterrows()}
    asked = plans("interventions", preset, 1, corpus)
    runners = {str(runner.knobs): runner for runner, _ in asked}
    assert {(str(runner.knobs), row, seed) for runner, plan in asked for row, seed in plan} <= set(made)
    for (knobs, row, seed), key in made.items():
        assert key == runners[knobs].key(row, seed)[1], f"{knobs}, row {row}, seed {seed} would be another run today"
