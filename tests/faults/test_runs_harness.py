"""The harness itself: what it must catch, it catches."""
import os
import sys
import time

import pytest

from faults.harness import Fault, Outside, Silent, Traceback, summary


@pytest.fixture
def watch(tmp_path): return Fault("harness", tmp_path / "given")


def test_what_is_silent_is_caught(watch):
    with pytest.raises(Silent): watch.refuses(lambda: 3, "x")
    assert watch.outcome == "silent"
    with pytest.raises(Silent): watch.survives(lambda: 3, same_as=4)
    with pytest.raises(Silent): watch.survives(lambda: 3, said="made again", heard=[])


def test_what_lies_outside_is_caught(watch, tmp_path):
    (tmp_path / "given").mkdir()
    watch.survives(lambda: (tmp_path / "given" / "a").write_text("a"))
    for wrong in (lambda: (tmp_path / "b").write_text("b"), lambda: os.mkdir(tmp_path / "c"), lambda: os.replace(tmp_path / "given" / "a", tmp_path / "d")):
        with pytest.raises(Outside): watch.survives(wrong)
    assert watch.outcome == "outside"


def test_insides_are_caught(watch):
    def fails(): raise KeyError("x")
    def long(): raise ValueError("several\nlines of it")
    for call in (fails, long):
        with pytest.raises(Traceback): watch.refuses(call)
    def ours(): raise ValueError("the file x is cut: delete it")
    with pytest.raises(AssertionError, match="does not say"): watch.refuses(ours, "run again")
    assert "delete" in watch.refuses(ours, "file x")


def test_a_hang_is_caught(watch):
    with pytest.raises(AssertionError, match="not over"): watch.survives(lambda: time.sleep(5), limit=.2)
    assert watch.outcome == "hang"


def test_a_traceback_of_a_process_is_caught(watch, tmp_path):
    (tmp_path / "given").mkdir()
    with pytest.raises(Traceback): watch.run(["-c", "1/0"], code=1)
    assert watch.run(["-c", "import sys; print('a line of some length', file=sys.stderr); sys.exit(2)"], "some length").code == 2
    assert sys.executable


def test_counts():
    class Report:
        def __init__(self, *told): self.user_properties = [("fault", list(told))]
    lines = summary([Report("a", "survived"), Report("a", "refused"), Report("b", "hang"), Report("b", None)])
    assert lines[-1] == "faults: 4 kinds: 1 survived, 1 refused well, 0 silent, 0 outside, 0 tracebacks, 1 hangs, 1 not judged" and len(lines) == 3
