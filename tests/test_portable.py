"""Statements about trained networks: what `holds` notes, what counts as too close, and that the committed measurements cover every statement."""
import json
import re
import subprocess
import sys

import pandas as pd
import pytest

from mkdcls.engine import portable
from mkdcls.results import arithmetic
from mkdcls.engine.portable import ARITHMETICS, NOTE_FILE, ROOT, MIN_SPREADS, PORTABLE_CSV, environment, holds, speakers_of_it, summarise, too_close


def test_holds_is_an_assertion(tmp_path, monkeypatch):
    "It passes and fails as the comparison does, refuses two thresholds or none, and notes the value even where the statement fails"
    monkeypatch.setenv(NOTE_FILE, str(tmp_path / "notes"))
    assert holds("a", 2, above=1) == 2 and holds("b", 0, below=1) == 0
    with pytest.raises(AssertionError, match="c: 1 is not above 1"): holds("c", 1, above=1)
    with pytest.raises(AssertionError, match="d: 2 is not below 1"): holds("d", 2, below=1)
    with pytest.raises(AssertionError): holds("e", float("nan"), above=0)
    for wrong in ({}, dict(above=1, below=2)):
        with pytest.raises(ValueError, match="give one threshold"): holds("f", 1, **wrong)
    notes = [json.loads(line) for line in (tmp_path / "notes").read_text().splitlines()]
    assert [(n["what"], n["side"]) for n in notes] == [("a", "above"), ("b", "below"), ("c", "above"), ("d", "below"), ("e", "above")]


def test_distance_by_hand():
    "Values 8, 9, 10 have a standard deviation of 1: 5 is three of them below 8, 5.5 is not; for `below`, 13 is three above 10"
    def table(threshold, side="above", values=(8, 9, 10)):
        return summarise(pd.DataFrame(dict(what="x", value=values, threshold=threshold, side=side, arithmetic=[str(v) for v in range(len(values))])))
    assert table(5)["spreads_away"][0] == MIN_SPREADS == 3 and len(too_close(table(5))) == 0
    assert table(5.5)["spreads_away"][0] == 2.5 and list(too_close(table(5.5))["what"]) == ["x"]
    assert table(13, "below")["spreads_away"][0] == 3 and len(too_close(table(12, "below"))) == 1
    assert len(too_close(table(8.5))) == 1, "a threshold that was crossed"
    assert len(too_close(table(5, values=(8, 8, 8)))) == 0 and len(too_close(table(9, values=(8, 8, 8)))) == 1, "without a spread only the side counts"


def test_arithmetics_differ():
    "The lowered arithmetics reach PyTorch: it reports another capability, and a product of matrices may round otherwise"
    code = "import torch; print(torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())"
    def said(name): return subprocess.run([sys.executable, "-c", code], env=environment(name), capture_output=True, text=True, check=True).stdout.split()
    assert said("ATen default") == ["DEFAULT", "1"] and said("two threads")[1] in ("1", "2")
    with pytest.raises(ValueError, match="choose one of native, ATen default"): environment("AVX")


def test_one_lowered_arithmetic_after_another():
    "Six of them take turns, a minute each; a command runs under the one it asks for, and says which"
    assert len({portable.turn(60. * i) for i in range(6)}) == 6 and "native" not in {portable.turn(60. * i) for i in range(12)}
    code = "import os; print(os.environ['ONEDNN_MAX_CPU_ISA'], 'ATEN_CPU_CAPABILITY' in os.environ)"
    done = subprocess.run([sys.executable, "-m", "mkdcls.engine.portable", "--under", "oneDNN AVX", sys.executable, "-c", code], cwd=ROOT,
                          capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "AVX False" and 'ARITHMETIC="oneDNN AVX"' in done.stdout


@pytest.mark.skipif(not (ROOT / PORTABLE_CSV).exists(), reason=f"{PORTABLE_CSV} is not measured yet: `make portable`")
def test_committed_measurements():
    "Every statement stands clear of rounding, under every arithmetic, and every page that makes one was measured"
    table = pd.read_csv(ROOT / PORTABLE_CSV)
    assert not len(too_close(table)), f"closer than {MIN_SPREADS} spreads: {list(too_close(table)['what'])}"
    assert (table["arithmetics"] >= len(ARITHMETICS) - 1).all() and table["what"].is_unique
    said, patterns = set(), []  # whole statements, and those with a part that is computed: f'page 08a: {kind}, ...'
    for path in speakers_of_it():
        text = path.read_text("utf-8").replace('\\"', '"')
        said |= {m[2] for m in re.finditer(r"""(?<!\w)holds\(\s*(?:\\n",\s*")?\s*(['"])(.*?)\1""", text)}
        patterns += [re.sub(r"\\\{.*?\\\}", ".+", re.escape(m[2]))
                     for m in re.finditer(r"""(?<!\w)holds\(\s*(?:\\n",\s*")?\s*f(['"])(.*?)\1""", text)]
    assert said <= set(table["what"]), f"not measured: {sorted(said - set(table['what']))}: `make portable`"
    spare = [w for w in table["what"] if w not in said and not any(re.fullmatch(p, w) for p in patterns)]
    assert not spare, f"measured, but said nowhere: {sorted(spare)}"
    assert portable.PORTABLE_CSV.parent.name == "paper"


# ---- Table 1 on other processors

def test_committed_arithmetic():
    "Same rows, same keys under every arithmetic; the committed sheet's line is the committed sheet; scores differ, or nothing was lowered"
    table = pd.read_csv(ROOT / arithmetic.ARITHMETIC_CSV, dtype={"row": str})
    assert tuple(table.columns) == arithmetic.COLUMNS
    assert set(table["arithmetic"]) == {arithmetic.COMMITTED, *arithmetic.HEARD} and set(arithmetic.HEARD) <= set(ARITHMETICS)
    assert (table.groupby("arithmetic")["row"].apply(tuple) == arithmetic.ROWS).all()
    assert (table.groupby("row")["key"].nunique() == 1).all(), "the same run, as far as configuration, data and code go"
    for row, g in table.groupby("row"): assert g["agesup_f1"].nunique() == len(g), row
    now = pd.DataFrame(arithmetic.committed())
    pd.testing.assert_frame_equal(table[table["arithmetic"] == arithmetic.COMMITTED].reset_index(drop=True), now, atol=1e-4, check_dtype=False)


def test_a_line_of_a_record():
    record = dict(identity=dict(recipe=dict(family="ecapa", method="base")), metrics=dict(agesup_f1=1., gender_f1=2.), key="k", provenance=dict(device="d"))
    assert list(arithmetic.line("native", "3", record).values()) == ["native", "3", "ecapa", "base", 1., None, 2., "k", "d"]
    assert arithmetic.store_of("oneDNN AVX").name == "onednn-avx"
