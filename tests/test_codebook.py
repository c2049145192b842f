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
