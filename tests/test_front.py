"""The front page: another machine's numbers appear when they are there, floors and intervals are what they are called, reading times are counted."""
import json

import pandas as pd
import pytest

from mkdcls.results import front


def test_another_machine_is_told_when_it_was_measured(tmp_path):
    path = tmp_path / "arithmetic.csv"
    assert front.other_machine(path) == "", "left out while there is nothing"
    lines = [(a, r, e, "base", f, None, 95.) for r, e, fs in (("3", "ECAPA-TDNN", (66., 66.)), ("7", "ResNet", (54., 58.5))) for a, f in zip(("native", "lowest"), fs)]
    pd.DataFrame(lines, columns=front.ARITHMETIC_COLUMNS).to_csv(path, index=False)
    told = front.other_machine(path)
    assert told.startswith("## The same seed on another machine") and "under 2 arithmetics" in told
    assert "ECAPA-TDNN rows by up to 0.0 points; ResNet rows by up to 4.5 points" in told
    assert "| 7 | ResNet | base | 54.0 to 58.5 |  | 95.0 |" in told and "| 3 | ECAPA-TDNN | base | 66.0 |  | 95.0 |" in told
    path.write_text("row\n3\n")
    with pytest.raises(ValueError, match="has no column arithmetic"): front.other_machine(path)


def test_intervals_of_five_seeds_are_not_what_they_promise():
    assert .80 < front.coverage(1, 0, sheets=600) < .88 and front.coverage(0, 1, sheets=600) > .97


def test_floors_differ_between_corpora():
    found = front.results()
    floors = {who: front.floors(f, 20).set_index("tested on").loc["LTV+FCVE"] for who, f in found.items()}
    assert abs(floors["stand-in"]["an even draw"] - 33) < 1 and floors["real speech"]["an even draw"] < 28
    assert 28 < floors["real speech"]["one answer for all"] < 29 and 31 <= floors["real speech"]["base's answers permuted"] <= 33


def test_reading_time(tmp_path):
    cells = [dict(cell_type="markdown", source=["w " * 360]), dict(cell_type="code", source=["x = 1\n"] * 24),
             dict(cell_type="code", source=["#| hide\n"] + ["y\n"] * 99)]
    (tmp_path / "a.ipynb").write_text(json.dumps(dict(cells=cells)))
    assert front.reading_minutes(tmp_path / "a.ipynb") == 4
