"A row, a loss, a task, an encoder and an ablation of one's own: run, recorded, tabulated; what their keys hold; what is refused"
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from mkdcls.engine.codehash import code_hashes
from mkdcls.engine.yours import TAKEN, register_loss, register_task
from mkdcls.labels import TASKS
from mkdcls.results import report
from mkdcls.results.runner import KNOWN, Runner
from mkdcls.runs import LATER, PRESETS, identity, like, table1_rows

MINE = '''
import torch
from torch import nn
from mkdcls.encoders import EncoderOutput
from mkdcls.engine.yours import register_encoder, register_loss, register_row, register_task

SHARP = 2.
def surprise(logits, y): return -logits.log_softmax(-1).gather(1, y[:, None])[:, 0]

@register_loss("sharp")
def sharp(logits, y): return surprise(logits, y)**SHARP

@register_encoder("bands")
class Bands(nn.Module):
    def __init__(self, size, scale):
        super().__init__()
        self.pooled_dim, self.embed_dim = 80, 8
        self.fc = nn.Linear(80, 8)
    def forward(self, x, n_frames):
        return EncoderOutput(x.mean(1), self.fc(x.mean(1)))

register_task("codec", ("A-law", "G.721", "mu-law", "GSM 6.10"), loss="sharp")
register_row("focal", like="5", gamma_pos=2., margin=.99)
register_row("heavy", like="3", losses=dict(agesup="sharp"))
register_row("fourth", like="3", tasks=("gender", "agesup", "codec"))
register_row("bands", like="3", family="bands")
register_row("apart", like="bands", tasks=("agesup",))
'''
ROWS = ("focal", "heavy", "fourth", "bands", "apart")
HEAD = "from mkdcls.engine.yours import register_encoder, register_loss, register_row, register_task\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "A folder for runs and the file; threads as for a test"
    with pytest.MonkeyPatch.context() as m:
        folder = tmp_path_factory.mktemp("yours")
        m.setenv("MKDCLS_RUNS", str(folder / "runs"))
        (folder / "mine.py").write_text(MINE)
        yield folder


@pytest.fixture(scope="module")
def done(place):
    "The five rows and what they are held against, published"
    runner = Runner("smoke", device="cpu", yours=place / "mine.py")
    jobs = [(r, 0) for r in ("3", "5", *ROWS)]
    runner.run_all(jobs, workers=1)
    return runner, report.publish([(runner, jobs)], place / "out"), *report.write(place / "out")


def runner_of(place, text, name="other.py", **more):
    (place / name).write_text(text)
    return Runner("smoke", device="cpu", yours=place / name, **more)


def test_names_that_are_taken_are_the_packages():
    assert set(TAKEN["task"]) == set(TASKS) and set(TAKEN["encoder"]) <= KNOWN


def test_every_row_of_ones_own_is_in_the_table(done):
    _, folder, table, gains = done
    own = table[table["yours"]].set_index("row")
    assert list(own.index) == list(ROWS) and own["against"].to_dict() == dict(focal="5", heavy="3", fourth="3", bands="3", apart="bands")
    assert own["codec_f1"].notna().to_dict() == {r: r == "fourth" for r in ROWS} and own["paper_agesup_f1"].isna().all()
    mine = gains[gains["block"] == report.YOURS]
    assert set(mine["row"]) == set(ROWS) and set(mine.loc[mine["row"] == "apart", "task"]) == {"agesup"} and not mine["primary"].any()
    f1 = table.set_index("row")["agesup_f1"]
    for _, g in mine[mine["task"] == "agesup"].iterrows(): assert g["gain"] == pytest.approx(f1[g["row"]] - f1[g["base_row"]], abs=.011)
    text = (folder / "table1.md").read_text()
    assert all(f"| {r} |" in text for r in ROWS) and "(yours, against bands)" in text and "has no gain" not in text
    assert "against nan" not in text and not [l for l in text.splitlines() if l.startswith("| 3 |") and "yours" in l], "the paper's rows are not marked"
    assert report.check_folder(folder) == []


def test_a_row_without_gain_says_why(done):
    runner, folder, *_ = done
    runs, lines = report.read(folder)
    assert report.without_gain(runs.assign(against=None), lines)[0] == "Row focal has no gain: it declares no row that it is held against (against=...)."
    assert "row 5, which it is held against, has no run" in report.without_gain(runs[runs["row"] != "5"], lines[lines["row"] != "5"])[0]


def test_the_papers_contrasts_are_not_touched(done, place):
    "Gains of Table 1's rows are the same with and without rows of one's own beside them"
    runner, folder, _, gains = done
    alone = report.publish([(runner, [("3", 0), ("5", 0)])], place / "alone")
    want = report.write(alone)[1]
    pd.testing.assert_frame_equal(gains[gains["block"] != report.YOURS].reset_index(drop=True)[list(want)], want, check_dtype=False)
    assert "yours" not in pd.read_csv(alone / "table1.csv") and "yours" not in (alone / "table1.md").read_text()


def test_records_come_back_and_hold_what_was_used(done, place):
    runner, *_ = done
    again = Runner("smoke", device="cpu", yours=place / "mine.py")
    assert again.missing([(r, 0) for r in ROWS]) == []
    used = {r: set(again.record(r, 0)["identity"].get("yours", {})) for r in ROWS}
    assert used == dict(focal=set(), heavy={"loss sharp"}, fourth={"task codec", "loss sharp"}, bands={"encoder bands"}, apart={"encoder bands"})
    model = again.trained("fourth", 0)
    assert model.tasks == ("gender", "agesup", "codec") and model.heads["codec"].score.out_features == 4
    assert again.trained("apart", 0).tasks == ("agesup",)


def keys(runner): return {r: runner.key(r, 0)[1] for r in runner.rows}


@pytest.mark.parametrize("old,new,renewed", [
    ("SHARP = 2.", "SHARP = 3.", {"heavy", "fourth"}), ("return -logits", "return 2*-logits", {"heavy", "fourth"}),
    ("def sharp(logits, y):", "def sharp(logits, y):  # a word\n   ", set()), ("x.mean(1), self", "x.amax(1), self", {"bands", "apart"}),
    ('"A-law", "G.721"', '"G.721", "A-law"', {"fourth"}), ("gamma_pos=2.", "gamma_pos=3.", {"focal"}), ("import torch\n", "import torch\nUNUSED = 1\n", set())])
def test_only_rows_that_use_it_are_renewed(done, place, old, new, renewed):
    assert MINE.count(old) >= 1
    before, after = keys(done[0]), keys(runner_of(place, MINE.replace(old, new, 1)))
    assert {r for r in before if before[r] != after[r]} == renewed


def test_rows_of_table_1_keep_their_keys():
    "No new field stands in the identity of a row that does not use it"
    for r in table1_rows().values():
        ident = identity(r, 0, "f", {})
        assert "yours" not in ident and not {"against", "losses", *LATER} & set(ident["recipe"])
        assert identity(like(r, r.row, "9"), 0, "f", {}) == ident
    assert "mkdcls.engine.yours" not in code_hashes("mkdcls.training")


def test_what_is_patched_is_refused(place):
    runner = runner_of(place, MINE)
    runner.yours.losses["sharp"].made.__globals__["SHARP"] = 9.
    with pytest.raises(ValueError, match="SHARP is not what other.py defines"): runner.run("heavy", 0)
    runner = runner_of(place, MINE)
    object.__setattr__(runner.yours.losses["sharp"], "made", lambda logits, y: logits[:, 0])
    with pytest.raises(ValueError, match="is not what other.py defines"): runner.run("heavy", 0)
    runner = runner_of(place, MINE)
    (place / "other.py").write_text(MINE.replace("SHARP = 2.", "SHARP = 4."))
    with pytest.raises(ValueError, match="edited after it was read"): runner.run("heavy", 0)


def test_a_class_added_by_hand_is_refused(place, monkeypatch):
    monkeypatch.setitem(TASKS, "accent", 3)
    with pytest.raises(ValueError, match="labels.TASKS is not what its file defines.*a file of yours"): runner_of(place, MINE).run("focal", 0)


@pytest.mark.parametrize("text,says", [
    ("register_task('gender', ('a', 'b'))", "has that name already"), ("register_task('total', ('a', 'b'))", "has that name already"),
    ("register_task('accent', 'abc')", "two or more names"), ("register_task('a_b', ('a', 'b'))", "letters and digits"),
    ("register_task('accent', ('a', 'b'), loss='none')", "no loss 'none'"), ("register_loss('x', lambda l, y: y)", "not a lambda"),
    ("def f(l, y): return y\ndef g(l, y): return -y\nregister_loss('x', f)\nregister_loss('x', g)", "registered twice, with another source"),
    ("def f(size, scale): return 1\nregister_encoder('TAP', f)", "has that name already"), ("print('x')", "line 2: a file of yours holds imports"),
    ("x = 1\nx = 2", "line 3: x is defined twice"), ("from torch import *", "one by one"), ("import helpers", "lies beside it"), ("def f(:", "line 2: invalid syntax"),
    ("register_row('3', like='5')", "there is a row of that name"), ("register_row('x', like='99')", "no row '99' in this plan"),
    ("register_row('x', like='5', gamma=2.)", "no field gamma")])
def test_a_wrong_file_is_one_line(place, text, says):
    (place / "helpers.py").write_text("")
    with pytest.raises(ValueError, match=says) as e: runner_of(place, HEAD + text)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("text,row,says", [
    ("register_task('accent', ('a', 'b'))\nregister_row('x', like='3', tasks=('accent',))", "x", "reads the column 'accent', which this corpus lacks"),
    ("register_task('codec', ('A-law', 'G.721'))\nregister_row('x', like='3', tasks=('codec',))", "x", "outside its classes"),
    ("register_row('x', like='3', tasks=('accent',))", "x", "no task 'accent'; register_task"),
    ("register_row('x', like='3', losses=dict(agesup='sharp'))", "x", "no loss 'sharp'"),
    ("register_row('x', like='3', losses=dict(agesub='ce'))", "x", "which it has not"), ("register_row('x', like='3', family='mine')", "x", "no encoder 'mine'")])
def test_a_wrong_row_is_one_line_before_anything_is_trained(place, text, row, says):
    with pytest.raises(ValueError, match=says) as e: runner_of(place, HEAD + text).key(row, 0)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("old,new,says", [
    ("80, 8\n", "81, 8\n", r"says pooled_dim=81, embed_dim=8 and gave \[\[2, 80\], \[2, 8\]\]"), ("80, 8\n", "80, None\n", "has no embed_dim"),
    ("return EncoderOutput(x.mean(1), self.fc(x.mean(1)))", "return self.fc(x.mean(1))", "no EncoderOutput"), ("nn.Linear(80, 8)", "nn.Linear(64, 8)", "cannot read x")])
def test_an_encoder_that_breaks_its_word(place, old, new, says):
    with pytest.raises(ValueError, match=says): runner_of(place, MINE.replace(old, new)).yours.encoder("bands", "student", "smoke")


def test_a_loss_that_is_averaged(place):
    loss = runner_of(place, MINE.replace("**SHARP", ".mean()")).yours.loss("sharp")
    with pytest.raises(ValueError, match=r"loss 'sharp' gave \[\] for 2 utterances; give one value each"): loss(torch.zeros(2, 3), torch.tensor([0, 1]))


def test_outside_a_file_nothing_is_registered():
    for register in (lambda: register_loss("x", len), lambda: register_task("x", ("a", "b"))):
        with pytest.raises(ValueError, match="worker processes and keys know files, not cells"): register()


def test_a_changed_row_does_not_pass_for_table_1s(done):
    runner, folder, *_ = done
    rows = PRESETS["smoke"].rows()
    disguised = Runner("smoke", device="cpu", rows=rows | {"5": like(rows["5"], "5", lr=1e-5)})
    with pytest.raises(ValueError, match=r"row 5 is not Table 1's .*give it a name of its own"): report.publish([(disguised, [("5", 0)])], folder / "x")
    with pytest.raises(ValueError, match="calls itself '5'"): Runner("smoke", rows=rows | {"mine": rows["5"]})


SCRIPT = '''
from mkdcls.results.runner import Runner
runner = Runner("smoke", device="cpu", yours="mine.py", say=print)
print(sorted((r["row"], r["key"]) for r in runner.run_all([("heavy", 1), ("apart", 1)], workers=2)))
'''


@pytest.mark.slow
def test_workers_find_it_and_a_script_needs_no_guard(place):
    "Two processes, begun by a script without `if __name__`, that read the file by its path"
    (place / "script.py").write_text(SCRIPT)
    run = subprocess.run([sys.executable, "script.py"], cwd=place, capture_output=True, text=True, timeout=300, env=env(place))
    assert run.returncode == 0, run.stderr[-2000:]
    runner = Runner("smoke", device="cpu", yours=place / "mine.py")
    assert run.stdout.strip().splitlines()[-1] == str(sorted((r, runner.key(r, 1)[1]) for r in ("heavy", "apart")))
    assert runner.missing([("heavy", 1), ("apart", 1)]) == []


def env(place):
    import os
    return os.environ | dict(MKDCLS_RUNS=str(place / "runs"), PYTHONPATH=str(Path(__file__).resolve().parents[1]), OMP_NUM_THREADS="1")


GUARDLESS = '''
from mkdcls.results.runner import Runner
class Mine(Runner): pass
Mine("smoke", device="cpu").run_all([("3", 2), ("5", 2)], workers=2)
'''


@pytest.mark.slow
def test_a_runner_of_the_scripts_own_without_a_guard_is_one_clear_line(place):
    (place / "guardless.py").write_text(GUARDLESS)
    run = subprocess.run([sys.executable, "guardless.py"], cwd=place, capture_output=True, text=True, timeout=300, env=env(place))
    assert run.returncode and "put what it does at its end under `if __name__ == \"__main__\":`" in run.stderr
    assert "RuntimeError" not in run.stderr  # Python's own page of advice
