"""Recorded runs stay valid when code changes its form: the list of equivalent code is true, and a change of numbers is seen."""
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from mkdcls.engine import codehash, equivalence
from mkdcls.engine.codehash import code_hashes, code_now, short, source_hash, source_now

ROOT = Path(__file__).resolve().parents[1]


def test_today_computes_what_the_recorded_code_computes():
    "Both are trained at smoke size, here and now; every weight, answer and feature is the same to the last bit"
    done = subprocess.run([sys.executable, "-m", "mkdcls.engine.equivalence", "--check"], cwd=ROOT, capture_output=True, text=True)
    if "not in this checkout's history" in done.stderr: pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr


def test_the_list_names_every_set_that_an_identity_names():
    kept = json.loads(codehash.EQUIVALENT.read_text("utf-8"))
    assert len(kept["commit"]) == 40
    for name, now in equivalence.names_now(kept["code"]).items(): assert kept["code"][name]["now"] == short(now), f"{name}: `make equivalent`"
    for name in ("mkdcls.training", "mkdcls.standin mkdcls.fbank"): assert code_hashes(*name.split()) == kept["code"][name]["recorded"]


def test_code_that_is_not_listed_stands_for_itself(monkeypatch):
    "A changed digest, a set that is not listed, a function that is not listed"
    monkeypatch.setattr(codehash, "equivalents", lambda: {"mkdcls.fbank": dict(now=short(code_now("mkdcls.fbank")), recorded={"old": "1"})})
    assert code_hashes("mkdcls.fbank") == {"old": "1"} and code_hashes("mkdcls.labels") == code_now("mkdcls.labels")
    assert source_hash(short) == source_now(short)
    monkeypatch.setattr(codehash, "equivalents", lambda: {"mkdcls.fbank": dict(now="another", recorded={"old": "1"})})
    assert code_hashes("mkdcls.fbank") == code_now("mkdcls.fbank")


def test_a_different_bit_is_seen(tmp_path):
    "Two stores with other keys are equal; one weight, one answer or one feature turned is not"
    def store(name, weight=1., answer=1, feature=b"ab", key="k1"):
        run = tmp_path / name / "standin-smoke" / f"row3-seed0-{key}"
        run.mkdir(parents=True)
        save_file({"w": np.array([weight, np.nan], np.float32)}, run / "model.safetensors")
        pd.DataFrame(dict(agesup=[answer])).to_parquet(run / "predictions.parquet")
        (tmp_path / name / "features").mkdir()
        (tmp_path / name / "features" / "values.f16").write_bytes(feature)
        return equivalence.store_content(tmp_path / name)
    first = store("a")
    assert equivalence.compare(first, store("b", key="k2")) == []
    assert equivalence.compare(first, store("c", weight=float(np.nextafter(np.float32(1), np.float32(2))))) == ["standin-smoke/row3-seed0/model.safetensors"]
    assert equivalence.compare(first, store("d", answer=2)) == ["standin-smoke/row3-seed0/predictions.parquet"]
    assert equivalence.compare(first, store("e", feature=b"aB")) == ["features"]


def test_a_commit_that_is_not_there_is_said(tmp_path):
    with pytest.raises(LookupError, match="a whole clone has it"): equivalence.recorded_code("0" * 40, tmp_path)


def test_what_a_module_keeps_while_it_works_is_not_a_replacement(monkeypatch):
    "An open archive, a cache: not code; a table or a function in another's place is"
    from mkdcls import labels
    from mkdcls.engine import archives
    monkeypatch.setitem(archives._open, "somewhere.zip", object())
    assert codehash.unchanged("mkdcls.engine.archives", "mkdcls.labels") == ""
    monkeypatch.setattr(archives, "NESTED", archives.NESTED + 1)
    assert codehash.unchanged("mkdcls.engine.archives") == "mkdcls.engine.archives.NESTED"
    monkeypatch.setattr(labels, "TASKS", {**labels.TASKS, "accent": 3})
    assert codehash.unchanged("mkdcls.labels") == "mkdcls.labels.TASKS"


def test_a_younger_set_has_its_own_commit_and_runs():
    "Its recorded hashes stand for today's code; what proves it trains rows with each remedy"
    kept = json.loads(codehash.EQUIVALENT.read_text("utf-8"))
    assert {n for n, e in kept["code"].items() if "commit" in e} == {*equivalence.YOUNGER}
    for name, text in equivalence.YOUNGER.items():
        assert len(kept["code"][name]["commit"]) == 40 and code_hashes(*name.split()) == kept["code"][name]["recorded"]
        compile(text, name, "exec")
