"A question to finished tables: who is called elderly among those who were recorded like the young. By hand"
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mkdcls.results import shortcut

ROOT = Path(__file__).resolve().parents[1]
AGES = [0, 1, 2, 2, 2]  # four callers, the third and the fourth over sixty, and one of FCVE


def folder(path, said, remedy=(), row="3", truth=True, corpus="LTV", dataset="LTV+FCVE", utterances="abcde"):
    "A finished table1 with one row and two seeds that answer alike"
    path.mkdir()
    one = pd.DataFrame(dict(utterance=list(utterances), speaker=list("ABCDE"), corpus=[corpus]*4 + ["FCVE"], agesup=said, row=row))
    one = one.assign(y_agesup=[0, 0, 2, 2, 2], true_agesup=AGES) if truth else one.assign(y_agesup=AGES)
    pd.concat([one.assign(seed=s) for s in (0, 1)]).to_parquet(path / shortcut.ANSWERS)
    recipe = json.dumps({"remedy": remedy} if remedy else {})
    pd.DataFrame([dict(row=row, seed=s, dataset=dataset, method="base", recipe=recipe) for s in (0, 1)]).to_csv(path / shortcut.RECORDS)
    return path


@pytest.mark.parametrize("truth", [True, False])
def test_answers_by_hand(tmp_path, truth):
    "One of two old callers is called elderly, and one of two young ones; true labels go before those that were written down"
    t = shortcut.asked_of(folder(tmp_path / "mine", [0, 2, 2, 1, 2], truth=truth))
    assert list(t.index) == [("3", "base", "none")] and t[shortcut.PEOPLE].iloc[0] == 2 and t["seeds"].iloc[0] == 2
    ltv = 100*(1 + 0 + .5)/3  # young: all right; middle: none; old: one of two found, one of two called old is old
    all_ = 100*(1 + 0 + 2/3)/3
    assert t[list(shortcut.TO_CALLERS)].iloc[0].tolist() == pytest.approx([50, 50, ltv, all_])


def test_change_by_hand(tmp_path):
    mine, line = folder(tmp_path / "mine", [0, 2, 2, 1, 2]), folder(tmp_path / "line", [0, 1, 2, 2, 2], remedy=[["line", 1.]])
    t = shortcut.compared_with(mine, line)
    assert list(t.index) == [("3", "base", "line")]
    asked = list(shortcut.TO_CALLERS)
    assert [t[f"{q}, change"].iloc[0] for q in asked] == pytest.approx([50, -50, 50, 100*(3 - 5/3)/3])
    q = asked[0]
    assert t[f"{q}, low"].iloc[0] == 0 and t[f"{q}, high"].iloc[0] == 100, "of two people resampled: none, one or both were found anew"
    told = shortcut.elderly_on_the_phone(mine, line)
    assert list(told.index) == [("3", "base", "none"), ("3", "base", "line")]
    assert told.iloc[0, 0] == "50.0" and told.iloc[1, 0] == "100.0 (+50.0 [+0.0, +100.0])"


def test_other_people_are_not_paired(tmp_path):
    mine = folder(tmp_path / "mine", [0, 2, 2, 1, 2])
    for n, other in dict(others=dict(utterances="abcdf"), row=dict(row="5")).items():
        t = shortcut.compared_with(mine, folder(tmp_path / n, AGES, remedy=[["line", 1.]], **other))
        assert not [c for c in t if c.endswith("change")]
    assert shortcut.as_told(t).iloc[0, 0] == "100.0"


def test_nobody_old_on_the_telephone(tmp_path):
    t = shortcut.as_told(shortcut.compared_with(*[p := folder(tmp_path / "mine", [0, 1, 1, 1, 2])]*2))
    assert t.iloc[0, 0] == "0.0 (+0.0 [+0.0, +0.0])"
    young = pd.read_parquet(p / shortcut.ANSWERS).assign(true_agesup=0)
    young.to_parquet(p / shortcut.ANSWERS)
    t = shortcut.asked_of(p)
    assert np.isnan(t.iloc[0, 0]) and t[shortcut.PEOPLE].iloc[0] == 0
    assert shortcut.elderly_on_the_phone(p, p).iloc[1, 0] == "nan", "a change of nothing is nothing"


def test_what_is_not_there_is_said(tmp_path):
    for bad, words in ((tmp_path, "no predictions.parquet in .*make table1 OUT="),
                       (folder(tmp_path / "a", AGES, dataset="call centre"), "no row that was trained on LTV.FCVE"),
                       (folder(tmp_path / "b", AGES, corpus="mine"), "no test person of LTV: the corpora file must say")):
        with pytest.raises((ValueError, OSError), match=words): shortcut.asked_of(bad)
    for args, said in (((), "usage: python -m mkdcls.results.shortcut FOLDER"), ((tmp_path / "none",), "no predictions.parquet in")):
        done = subprocess.run([sys.executable, "-m", "mkdcls.results.shortcut", *map(str, args)], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr


def test_the_command_reads_committed_records():
    kept = ROOT / "paper" / "results" / "standin-laptop"
    done = subprocess.run([sys.executable, "-m", "mkdcls.results.shortcut", str(kept)], cwd=ROOT, capture_output=True, text=True)
    assert not done.returncode and "over 60 on LTV, called elderly (%)" in done.stdout and "+MKD+CH" in done.stdout
    t = shortcut.asked_of(kept)
    assert t["seeds"].eq(5).all() and t.iloc[:, 0].between(30, 80).all() and {"3", "6", "10"} <= set(t.reset_index()["row"])
