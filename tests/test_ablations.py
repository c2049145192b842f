"""The ablation sheet: many rows at a time equal one by one, kills and Ctrl-C leave nothing behind, contrasts have a known answer, wrong names are told."""
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from mkdcls.ablations import QUESTIONS, ablation_rows
from mkdcls.results import ablation_sheet as ablations, report, sheets
from mkdcls.results.runner import Runner
from mkdcls.evaluation import Contrast, scorecard, status
from mkdcls.labels import PARENT, TASKS
from mkdcls.runs import PRESETS, Knobs

ROOT = Path(__file__).resolve().parents[1]
AGAINST = {q.against for q in QUESTIONS}
FEW = [("3r", 0), ("kd", 0), ("sumce", 0)]


def test_in_parallel_equals_one_by_one(tmp_path, monkeypatch):
    told = {}
    for where, workers in (("one", 1), ("two", 2)):
        monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path / where))
        heard = []
        runner = Runner("smoke", device="cpu", rows=ablation_rows(PRESETS["smoke"]), progress=lambda what, done, of, heard=heard: heard.append(what))
        assert runner.missing(FEW) == [("3", 0), ("3r", 0), ("1", 0), ("kd", 0), ("sumce", 0)]
        told[where] = {r["row"]: r["metrics"] for r in runner.run_all(FEW, workers)}
        assert runner.missing(FEW) == [] and any("row kd" in w for w in heard)
    assert told["one"] == told["two"]
    with pytest.raises(ValueError, match="no row 'nonsense'"): runner.missing([("nonsense", 0)])


SCRIPT = """
import sys
from mkdcls.ablations import ablation_rows
from mkdcls.results.runner import Runner
from mkdcls.runs import PRESETS
if __name__ == "__main__":
    r = Runner("smoke", device="cpu", rows=ablation_rows(PRESETS["smoke"]))
    r.run_all([(row, s) for s in (0, 1, 2) for row in r.rows], 2)
"""


def children(pid): return [int(p) for p in subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()]


def alive(pid):
    try: return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError: return False


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_stopped_leaves_no_workers(tmp_path, how):
    "Finished rows are kept; no worker outlives its parent"
    (tmp_path / "go.py").write_text(SCRIPT)
    env = os.environ | {"MKDCLS_RUNS": str(tmp_path / "runs"), "OMP_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)}
    heeds = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    with subprocess.Popen([sys.executable, str(tmp_path / "go.py")], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=heeds) as main:
        until = time.monotonic() + 800
        done = lambda: list((tmp_path / "runs").glob("*/*/record.json"))
        while len(done()) < 2 and time.monotonic() < until and main.poll() is None: time.sleep(.2)
        workers = children(main.pid)
        assert main.poll() is None and len(workers) >= 2, "it ended before it could be stopped"
        main.send_signal(how)
        main.wait(60)
    until = time.monotonic() + 30
    while any(map(alive, workers)) and time.monotonic() < until: time.sleep(.2)
    assert not any(map(alive, workers)) and len(done()) >= 2


class Invented:
    "A runner with records of its own making: row `good` is right more often, `twin` as often as what it is held against"
    preset, corpus, knobs = PRESETS["laptop"], "standin", Knobs()

    def __init__(self, right, seeds, speakers=150):
        self.rows = {r: x for r, x in ablation_rows(PRESETS["laptop"]).items() if r in right}
        self.tables = {(r, s): self.answers(r, s, right[r], speakers) for r in self.rows for s in range(seeds.get(r, 1))}
        self.store = SimpleNamespace(predictions=lambda row, seed, key: self.tables[row, seed])

    def answers(self, row, seed, right, speakers):
        data, mine = np.random.default_rng(seed), np.random.default_rng([seed, int.from_bytes(row.encode(), "big") % 2**32])
        y = {"agesub": data.integers(5, size=speakers)}
        y |= {"agesup": np.array(PARENT)[y["agesub"]], "gender": data.integers(2, size=speakers)}
        name = [f"{seed}-{i}" for i in range(speakers)]
        out = dict(utterance=name, speaker=name, corpus="LTV") | {f"y_{t}": v.astype(np.int8) for t, v in y.items()}
        for t in TASKS: out[t] = np.where(mine.random(speakers) < right, y[t], (y[t] + 1) % TASKS[t]).astype(np.int8)
        return pd.DataFrame(out)

    def record(self, row, seed):
        if (row, seed) not in self.tables: return None
        where = dict(commit="c0ffee000000", device="a machine", python="3.11.7", finished="2026-01-01T00:00:00+00:00", versions={})
        return dict(key=f"{row}{seed}", corpus="standin", preset="laptop", identity=dict(protocol="1", data="d", code={}, recipe={}, parents={}), provenance=where,
                    params=1, student_params=1, train_s=1., total_s=1., test_speakers=150, utterances=dict(train=1, val=1, test=150),
                    metrics=scorecard(self.tables[row, seed], tuple(TASKS)), curves=[])


@pytest.fixture(scope="module")
def sheet(tmp_path_factory):
    right = {"3r": .6, "4a": .95, "kd": .6, "3": .6, "4b": .6}
    runner = Invented(right, dict.fromkeys(("3r", "4a"), 5))
    folder = tmp_path_factory.mktemp("sheet")
    report.publish([(runner, [(r, s) for s in range(5) for r in right])], folder / "ablations")
    return folder, ablations.write(folder)


def test_contrasts(sheet):
    "Five seeds decide, one does not; a gain is that of the records; fresh seeds leave out the one that chose"
    folder, table = sheet
    runs = pd.read_csv(folder / "ablations" / "runs.csv", dtype={"row": str}).set_index(["row", "seed"])["agesup_f1"]
    mkd = table[(table["question"] == "mkd") & (table["row"] == "4a")].iloc[0]
    assert mkd["gain"] == pytest.approx(runs["4a"].mean() - runs["3r"].mean(), abs=.006) and mkd["status"] == "better" and mkd["low"] > 1
    assert mkd["fresh_gain"] == pytest.approx(runs["4a"][1:].mean() - runs["3r"][1:].mean(), abs=.006)
    kd = table[(table["question"] == "mkd") & (table["row"] == "kd")].iloc[0]
    assert kd["n_seeds"] == 1 and kd["status"] == "undecided" and pd.isna(kd["fresh_gain"])
    assert re.search(r"\*\+MKD\*[^.]* (is|are) better than \*base", ablations.paragraph(next(q for q in QUESTIONS if q.name == "mkd"), table))
    assert "Not run." in ablations.paragraph(next(q for q in QUESTIONS if q.name == "intervention"), table)
    assert (folder / "ablations.md").read_text().count("\n| ") >= len(table)


def test_two_by_two(sheet):
    "Clean or mixed speech heard, statistics as trained or re-estimated: the same seeds in a line, and no line without both scores"
    folder, _ = sheet
    runs = pd.read_csv(folder / "ablations" / "runs.csv", dtype={"row": str}).set_index(["row", "seed"])["agesup_f1"]
    found = ablations.two_by_two(folder / "ablations")
    assert list(found["trained"]) == ["base, hears x_normal"] and found["seeds"][0] == 1
    assert list(found.loc[0, ["as trained", "re-estimated"]]) == [round(runs["3", 0], 1), round(runs["3r", 0], 1)]


def test_verdicts():
    v = lambda low, high, n, **more: status(Contrast((low + high) / 2, low, high, .001, n), **more)
    assert [v(*a) for a in ((2., 5., 5), (-5., -2., 5), (-.5, .5, 5), (-2., 2., 5), (2., 5., 4))] == ["better", "worse", "no difference", "undecided", "undecided"]
    assert v(2., 5., 5, evidence=False) == "plumbing only"


def test_many_clear_effects_survive_holm(tmp_path):
    "A correction that no number of clear effects can pass would make the sheet mute"
    runner = Invented({r: .97 if r not in AGAINST else .6 for r in ablation_rows(PRESETS["laptop"])},
                      dict.fromkeys(ablation_rows(PRESETS["laptop"]), 5), speakers=60)
    report.publish([(runner, [(r, s) for s in range(5) for r in runner.rows])], tmp_path / "ablations")
    table = ablations.contrasts(tmp_path / "ablations")
    assert (table.loc[~table["row"].isin(list(AGAINST)), "status"] == "better").all()


def test_forest_same_bytes(sheet):
    folder, table = sheet
    ablations.figure_ablations(table, folder / "a")
    ablations.figure_ablations(table, folder / "b")
    plt.close("all")
    for end in ("svg", "png"): assert (folder / "a" / "figures" / f"ablations.{end}").read_bytes() == (folder / "b" / "figures" / f"ablations.{end}").read_bytes()


def test_plans_and_wrong_names(tmp_path, monkeypatch):
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path))
    (runner, plan), = sheets.plans("ablations", "smoke", 5)
    assert plan == [(r, 0) for r in runner.rows], "before the screening nothing can be chosen"
    with pytest.raises(ValueError, match="choose one of table1, ablations"): sheets.plans("table2", "smoke", 1)
    with pytest.raises(ValueError, match="only the stand-in knows"): sheets.plans("sensitivity", "smoke", 1, "real")
    done = subprocess.run([sys.executable, "-m", "mkdcls.results.cli", "table", "--sheet", "ablation", "--preset", "smoke"], cwd=ROOT, capture_output=True, text=True,
                          env=os.environ | {"MKDCLS_RUNS": str(tmp_path)})
    assert done.returncode == 2 and "SHEET=ablation: choose one of" in done.stderr and len(done.stderr.strip().splitlines()) == 1
