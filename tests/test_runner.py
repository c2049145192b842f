"A kind of row of one's own: what it must say, and what the runner does for it"
from dataclasses import dataclass, field
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch import nn

from mkdcls.engine.record import Outcome
from mkdcls.engine.store import write_weights
from mkdcls.results.runner import BaseRunner, Runner
from mkdcls.results.speaker_runner import SpeakerRunner
from mkdcls.training import Settings, save_checkpoint, train


@dataclass(frozen=True)
class Line:
    "A row: a weight that goes towards the weights of its parents, plus one"
    parents: tuple = ()
    settings: Settings = field(default_factory=lambda: Settings(epochs=3, lr=.1, drops=()))


LINES = dict(student=Line(("teacher",)), teacher=Line())


class Lines(BaseRunner):
    preset_of = staticmethod(lambda name: SimpleNamespace(name=name, rows=lambda corpus: LINES))
    made = ()

    def parents(self, row): return list(self.rows[row].parents)
    def about(self, role, seed): return dict(role=role, seed=seed)
    def identity(self, row, seed, parents): return dict(row=row, data=self.fingerprint("line", seed), parents=parents, code={"mkdcls.training": ""})
    def heard(self, row, seed): return (seed,)
    def data(self, seed): return 1. + seed

    def make(self, row, seed, folder, kept):
        goal = self.data(*self.heard(row, seed)) + sum(float(self.weights(p, seed)["weight"]) for p in self.parents(row))
        line = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(line.weight)
        curves = train(line, torch.optim.SGD(line.parameters(), lr=.1), s := self.rows[row].settings, seed, lambda epoch: [torch.zeros(1)] * 2,
                       lambda b, at: dict(total=(line.weight - goal).square().sum()), **kept)
        self.made = (*self.made, (row, s.epochs))
        write_weights(folder / "model.safetensors", line)
        return Outcome(curves=curves, metrics=dict(weight=line.weight.item()), params=1, utterances=dict(train=2, test=1)), pd.DataFrame(dict(u=["a"]))


@pytest.fixture
def lines(tmp_path, monkeypatch):
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path))
    return lambda **more: Lines("smoke", device="cpu", **more)


def test_teachers_come_first_and_once(lines):
    "Six steps close 1 - 0.8^6 of a gap: the teacher's is 1, the student's the teacher's weight and 1"
    r, done = lines(), 1 - .8**6
    assert r.missing([("student", 0)]) == [("teacher", 0), ("student", 0)]
    record = r.run("student", 0)
    assert [row for row, _ in r.made] == ["teacher", "student"] and record["metrics"]["weight"] == pytest.approx(done * (1 + done))
    assert record["identity"]["parents"] == {"teacher": r.key("teacher", 0)[1]} and record["key"] == r.key("student", 0)[1]
    assert record["train_s"] == sum(c["seconds"] for c in record["curves"]) <= record["total_s"]
    again = lines()
    assert again.run("student", 0) == record == again.record("student", 0) and again.made == () and again.missing([("student", 0)]) == []


@pytest.mark.parametrize("at", [1, 2, 3, 5])
def test_an_interrupted_row_goes_on(lines, at):
    def kill(what, done, of):
        assert what.startswith("seed 0: row ") and of == 6
        if done == at: raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): lines(progress=kill).run("teacher", 0)
    steps = []
    got = lines(progress=lambda what, done, of: steps.append(done)).run("teacher", 0)
    assert got["metrics"]["weight"] == pytest.approx(1 - .8**6) and steps == list(range(1 + 2 * ((at - 1) // 2), 7)), "from the end of the last whole epoch"


def test_a_bad_checkpoint_is_told_and_left(lines):
    said, r = [], lines()
    folder = r.store.at("teacher", 0, r.key("teacher", 0)[1])
    folder.mkdir()
    save_checkpoint(folder / "checkpoint.pt", dict(key="of another run"))
    assert lines(say=said.append).run("teacher", 0)["metrics"]["weight"] == pytest.approx(1 - .8**6)
    assert len(said) == 1 and "teacher, seed 0 starts anew" in said[0] and not (folder / "checkpoint.pt").exists()


def test_another_process_makes_the_same_runner(lines):
    kind, arguments = lines(rows=dict(teacher=Line())).again()
    other = kind(**arguments)
    assert kind is Lines and other.key("teacher", 0) == lines().key("teacher", 0) and dict(other.rows) == dict(teacher=Line())


def test_both_kinds_of_row_are_run_by_one_runner():
    "None of what finds, locks, resumes and records is written twice; and a kind that says too little is refused"
    ours = {n for n in ("fingerprint", "key", "record", "weights", "finished", "run", "as_written", "missing", "run_all", "again")}
    for kind in (Runner, SpeakerRunner): assert issubclass(kind, BaseRunner) and not ours & set(vars(kind))
    assert not issubclass(SpeakerRunner, Runner)
    class Silent(BaseRunner): pass
    with pytest.raises(TypeError, match="about.*data.*heard.*identity.*make.*parents"): Silent("smoke")
