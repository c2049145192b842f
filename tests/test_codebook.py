"Published answers say what their columns are: every column, and nothing that is not there"
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from mkdcls.results import codebook
from mkdcls.results.decisive_sheet import read

RESULTS = Path(__file__).resolve().parents[1] / "paper" / "results"
REAL, DECISIVE = RESULTS / "real-laptop" / "real", RESULTS / "standin-laptop" / "decisive"


def columns_of(path: Path) -> list[str]: return list(pd.read_parquet(path).columns)


@pytest.mark.skipif(not (REAL / "answers.parquet").is_file(), reason="the sheet real is not committed yet")
def test_real_answers_have_their_codebook(tmp_path):
    for f in ("floors", "answers"): assert set(columns_of(REAL / f"{f}.parquet")) == set(codebook.real_columns())
    shutil.copytree(REAL, tmp_path / "real")
    codebook.write_real(tmp_path)
    assert (tmp_path / "real" / "README.md").read_text("utf-8") == (REAL / "README.md").read_text("utf-8"), "python -m mkdcls.results.codebook"


def test_what_the_codebook_says_of_real_answers_is_so():
    t = pd.read_parquet(REAL / "answers.parquet")
    assert set(t["fold"]) == set(range(5)) and set(t["folds"]) == {"speaker", "language"}
    there = t[(t["row"] == "base") & (t["folds"] == "speaker")]
    assert (there.groupby("utterance")["fold"].nunique() == there.groupby("utterance")["corpus"].first().eq("Saarbrücken")*4 + 1).all()
    assert t["utterance"].str.fullmatch("[0-9a-f]{12}").all() and (t[["p0", "p1", "p2"]].sum(axis=1) - 1).abs().max() < 1e-3
    assert set(t.loc[t["corpus"] == "Common Voice", "years"]) <= {25, 35, 45, 55, 67}
    assert t.groupby("row")["age_of_decades"].apply(lambda a: a.isna().all() or a.notna().all()).all()


def test_decisive_answers_have_their_codebook():
    said, asked = codebook.decisive_columns()
    assert set(columns_of(DECISIVE / "answers.parquet")) == set(said) and set(columns_of(DECISIVE / "asked.parquet")) == set(asked)
    assert (DECISIVE / "README.md").read_text("utf-8") == codebook.decisive_codebook(), "python -m mkdcls.results.codebook"


def test_the_example_of_the_codebook_gives_the_recorded_score(monkeypatch):
    monkeypatch.chdir(DECISIVE)
    known = {}
    exec((DECISIVE / "README.md").read_text("utf-8").split("```python")[1].split("```")[0], known)
    runs = read(DECISIVE)
    assert known["score"] == pytest.approx(runs.query("row == '6' and seed == 100 and knobs == '{}'")["agesup_f1"].item(), abs=1e-4)


def test_columns_of_runs_and_curves_are_there():
    runs, tops, curves = (pd.read_csv(DECISIVE / f"{n}.csv", nrows=2) for n in ("runs", "ceilings", "curves"))
    for name in codebook.decisive_scores():
        for part in name.split(", "):
            assert any(c.startswith(part.rstrip("…")) for c in runs), part
    assert {"role", "agesup_f1", "auc_60"} <= set(tops)
    told = {part for name in codebook.decisive_curves() for part in name.split(", ")}
    assert told | {"row", "seed", "knobs", "epoch"} == set(curves)


def test_what_the_codebook_says_of_decisive_answers_is_so():
    said, asked = (pd.read_parquet(DECISIVE / f"{n}.parquet") for n in ("answers", "asked"))
    key = ["role", "seed", "knobs", "n"]
    assert not asked.duplicated(key).any() and not said.duplicated(["row", "seed", "knobs", "n"]).any()
    ends = asked.groupby(["role", "seed", "knobs", "split"])["n"].agg(["min", "max"]).unstack("split")
    assert (ends["max"]["test"] < ends["min"]["fresh"]).all() and set(asked["split"]) == {"test", "fresh"}
    plain = pd.read_csv(DECISIVE / "runs.csv", dtype={"row": str})["knobs"]
    assert plain.isna().any() and "{}" not in set(plain.dropna()) and "{}" in set(said["knobs"]) & set(asked["knobs"])
    assert set(read(DECISIVE)["dataset"]) == set(asked["role"]) and set(said["row"]) == set(read(DECISIVE)["row"])
    assert not re.search("np\\.|float", codebook.decisive_codebook())
