"""Records, answers, weights, locks: what is read back is what was written, or one line says otherwise."""
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from faults.harness import ROOT, kinds
from records import record, WHERE
from mkdcls.engine import store
from mkdcls.engine.store import RunStore, fill, folder_at, lock, read_weights, write_table, write_text, write_weights

KEY = "abc"


@pytest.fixture
def kept(tmp_path, monkeypatch):
    "A store with one finished run of row 3"
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path))
    s = RunStore("x")
    s.at("3", 0, KEY).mkdir()
    torch.manual_seed(0)
    write_weights(s.at("3", 0, KEY) / "model.safetensors", nn.Linear(4, 3))
    s.finish(record(), pd.DataFrame(dict(u=["a", "b"], score=[.5, .25])))
    return s


def at(s, name): return s.at("3", 0, KEY) / name


def flip(i): return lambda b: b[:i % len(b)] + bytes([b[i % len(b)] ^ 16]) + b[i % len(b) + 1:]


CUTS = {"empty": lambda b: b"", "one byte": lambda b: b[:1], "half": lambda b: b[:len(b) // 2], "without its last byte": lambda b: b[:-1],
        "text": lambda b: b"no such thing", "zeros": lambda b: bytes(len(b)), "its end twice": lambda b: b + b[-8:],
        **{f"one bit turned at {i}": flip(i) for i in (9, 40, 77, 100, 131, -30, -3)}}


def edited(**changes):
    def turn(b):
        r = json.loads(b)
        r |= changes
        return json.dumps(r).encode()
    return turn


RECORDS = {"of another row": edited(row="5"), "of another seed": edited(seed=1), "of another key": edited(key="abd"), "with another score": edited(metrics=dict(f1=99.)),
           "NaN for a score": edited(metrics=dict(f1=float("nan"))), "a list": lambda b: b"[]", "a number": lambda b: b"3", "null": lambda b: b"null",
           "sums of another kind": edited(sums=[1]), "sums without a mark": edited(sums={}), "not UTF-8": lambda b: b"\xff\xfe" + b}


@kinds("records", {k: v for k, v in CUTS.items() if k != "without its last byte"} | RECORDS)  # which is a line's end
def test_a_damaged_record(fault, kind, kept):
    file = at(kept, "record.json")
    file.write_bytes(kind(file.read_bytes()))
    fault.refuses(lambda: kept.record("3", 0, KEY), "record.json", "delete its folder, row3-seed0-abc, and run again")


def without(*path):
    def change(r):
        for p in path[:-1]: r = r[p]
        del r[path[-1]]
    return change


def put(**more): return lambda r: r.update(more)


FIELDS = {**{f"without {n}": (without(n), f"it has no {n}") for n in ("row", "seed", "key", "identity", "preset", "corpus", "curves", "metrics", "params",
        "utterances", "train_s", "total_s", "provenance")},
          "without a commit": (without("provenance", "commit"), "it has no provenance.commit"),
          "without the rate of an epoch": (without("curves", 1, "lr"), r"it has no curves\[1\].lr"),
          "a row of another kind": (put(row=3), "row is 3, not a text"), "a seed of another kind": (put(seed="0"), "seed is '0', not a whole number"),
          "true for a seed": (put(seed=False), "seed is False"), "a negative seed": (put(seed=-1), "seed is -1, not 0 or more"),
          "text for seconds": (put(train_s="5 s"), "train_s is '5 s', not a number"), "NaN for seconds": (put(total_s=float("nan")), "total_s is nan"),
          "a list of metrics": (put(metrics=[61.5]), "metrics is not an object"), "a text for a metric": (put(metrics=dict(f1="61,5")), "metrics.f1 is '61,5'"),
          "null for curves": (put(curves=None), "curves is not a list"), "a number for an epoch": (put(curves=[3]), r"curves\[0\] is not an object"),
          "an epoch too many": (lambda r: r["curves"].append(r["curves"][-1]), "its curves are not those of epochs 1, 2"),
          "half an utterance": (put(utterances=dict(test=.5)), "utterances.test is 0.5"), "text for a machine": (put(provenance="here"), "provenance is not an object"),
          "half a trial": (put(trials=1.5), "trials is 1.5")}


@kinds("records", FIELDS)
def test_a_record_with_a_missing_or_wrong_field(fault, kind, kept):
    "Older than digests: its fields must tell"
    file, (change, why) = at(kept, "record.json"), kind
    r = json.loads(file.read_text())
    del r["sums"]
    change(r)
    file.write_text(json.dumps(r))
    fault.refuses(lambda: kept.record("3", 0, KEY), "record.json is not a whole record", why, "delete its folder, row3-seed0-abc, and run again")


@kinds("records", FIELDS)
def test_a_record_that_is_not_whole_is_not_written(fault, kind, kept):
    r, (change, why) = json.loads(json.dumps(record(seed=1))), kind
    change(r)
    fault.refuses(lambda: kept.finish(r, pd.DataFrame(dict(u=["a"]))), "gave no whole record", why)
    assert not kept.at("3", 1, KEY).exists()


@kinds("records", {"row": dict(row="5"), "seed": dict(seed=1), "key": dict(key="abd")})
def test_a_record_of_another_run(fault, kind, kept):
    at(kept, "record.json").write_text(json.dumps(record(**kind)))
    fault.refuses(lambda: kept.record("3", 0, KEY), "is the record of another run", f"{next(iter(kind))} ", "run again")


@kinds("records", {"knobs": "knobs", "the student's size": "student_params", "speakers of the test": "test_speakers"})
def test_a_record_from_before_a_field(fault, kind, kept):
    file = at(kept, "record.json")
    file.write_text(json.dumps(want := record(**{kind: None})))
    fault.survives(lambda: kept.record("3", 0, KEY), same_as=want)


@kinds("records")
def test_a_record_with_a_field_of_tomorrow(fault, kept):
    file = at(kept, "record.json")
    file.write_text(json.dumps(want := record(colour="red", provenance=WHERE | dict(room=3))))
    fault.survives(lambda: kept.record("3", 0, KEY), same_as=want)


@kinds("records", CUTS)
def test_a_damaged_record_of_other_settings_stops_nothing(fault, kind, kept):
    file = at(kept, "record.json")
    file.write_bytes(kind(file.read_bytes()))
    fault.survives(lambda: len(kept.others("3", 0, "today")) <= 1, same_as=True)


@kinds("records", {"a folder in its place": "folder", "a link to itself": "loop", "a link to nothing": "gone"})
def test_no_file_for_a_record(fault, kind, kept):
    file = at(kept, "record.json")
    file.unlink()
    if kind == "folder": file.mkdir()
    else: file.symlink_to(file if kind == "loop" else file.with_name("nowhere"))
    if kind == "folder": fault.refuses(lambda: kept.record("3", 0, KEY), "record.json", "run again")
    else: fault.survives(lambda: kept.record("3", 0, KEY))


@kinds("records")
def test_a_record_older_than_digests_is_taken(fault, kept):
    file = at(kept, "record.json")
    r = json.loads(file.read_text())
    want = {k: v for k, v in r.items() if k != "sums"}
    file.write_text(json.dumps(want))
    fault.survives(lambda: kept.record("3", 0, KEY), same_as=want)


@kinds("predictions", CUTS)
def test_damaged_answers(fault, kind, kept):
    file = at(kept, "predictions.parquet")
    file.write_bytes(kind(file.read_bytes()))
    fault.refuses(lambda: kept.predictions("3", 0, KEY), "predictions.parquet", "delete its folder, row3-seed0-abc, and run again")


@kinds("predictions", {"of another row": pd.DataFrame(dict(u=["a", "b"], score=[.1, .2])), "NaN": pd.DataFrame(dict(u=["a", "b"], score=[.5, np.nan])),
                       "infinite": pd.DataFrame(dict(u=["a", "b"], score=[.5, np.inf])), "a line less": pd.DataFrame(dict(u=["a"], score=[.5])),
                       "in another order": pd.DataFrame(dict(u=["b", "a"], score=[.25, .5])), "without a column": pd.DataFrame(dict(u=["a", "b"]))})
def test_other_answers(fault, kind, kept):
    write_table(at(kept, "predictions.parquet"), kind)
    fault.refuses(lambda: kept.predictions("3", 0, KEY), "predictions.parquet", "run again")


@kinds("predictions", {"gone": None, "a folder": "folder"})
def test_no_answers(fault, kind, kept):
    at(kept, "predictions.parquet").unlink()
    if kind: at(kept, "predictions.parquet").mkdir()
    fault.refuses(lambda: kept.predictions("3", 0, KEY), "predictions.parquet", "run again")


@kinds("predictions")
def test_NaN_in_answers_older_than_digests(fault, kept):
    write_table(at(kept, "predictions.parquet"), pd.DataFrame(dict(score=[np.nan])))
    file = at(kept, "record.json")
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "sums"}))
    fault.refuses(lambda: kept.predictions("3", 0, KEY), "no numbers", "run again")


def asked(kept): return read_weights(kept.sound("3", 0, KEY, "model.safetensors"))


@kinds("weights", CUTS)
def test_damaged_weights(fault, kind, kept):
    file = at(kept, "model.safetensors")
    file.write_bytes(kind(file.read_bytes()))
    fault.refuses(lambda: asked(kept), "model.safetensors", "delete .*row3-seed0-abc, and run again")


@kinds("weights", {"of another run": nn.Linear(4, 3), "of another width": nn.Linear(5, 3), "of another network": nn.Sequential(nn.Linear(4, 3))})
def test_other_weights(fault, kind, kept):
    write_weights(at(kept, "model.safetensors"), kind)
    fault.refuses(lambda: asked(kept), "model.safetensors", "run again")


@kinds("weights", {"gone": None, "a folder": "folder"})
def test_no_weights(fault, kind, kept):
    at(kept, "model.safetensors").unlink()
    if kind: at(kept, "model.safetensors").mkdir()
    fault.refuses(lambda: asked(kept), "model.safetensors", "run again")


@kinds("weights", {"NaN": float("nan"), "infinite": float("inf")})
def test_weights_that_are_no_numbers_are_neither_written_nor_read(fault, kind, kept, tmp_path):
    net = nn.Linear(2, 2)
    net.weight.data[0, 0] = kind
    fault.refuses(lambda: write_weights(tmp_path / "a.safetensors", net), "not finite", "lower the learning rate", by=FloatingPointError)
    store.save_file({"w": net.weight.data}, tmp_path / "a.safetensors")
    fault.refuses(lambda: read_weights(tmp_path / "a.safetensors"), "not finite", "run again")


@kinds("weights", {"too wide": nn.Linear(5, 3), "one more": nn.BatchNorm1d(4), "none": nn.Identity()})
def test_weights_of_another_network_are_one_line(fault, kind, tmp_path):
    fault.refuses(lambda: fill(nn.Linear(4, 3), kind.state_dict(), tmp_path / "m.safetensors"), "m.safetensors holds another network", "run again")


# ---- disks and folders

def full(monkeypatch, limit=20):
    import resource
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, old)


def big_text(p): write_text(p / "a.txt", "x" * 9999)
def big_table(p): write_table(p / "a.parquet", pd.DataFrame(dict(x=np.random.default_rng(0).random(9999))))
def big_weights(p): write_weights(p / "a.safetensors", nn.Linear(99, 99))
def big_checkpoint(p):
    from mkdcls.training import save_checkpoint
    save_checkpoint(p / "a.pt", dict(x=torch.zeros(9999)))


WRITERS = {"text": big_text, "table": big_table, "weights": big_weights, "checkpoint": big_checkpoint}


@kinds("store", {f"disk full: {n}": w for n, w in WRITERS.items()})
def test_a_full_disk(fault, kind, tmp_path, monkeypatch):
    (tmp_path / "d").mkdir()
    def call():
        free = full(monkeypatch)
        try: kind(tmp_path / "d")
        finally: free()
    fault.refuses(call, "cannot write", "make room", "the same command goes on")
    assert list((tmp_path / "d").iterdir()) == [], "nothing half written stays"


@kinds("store", {f"folder gone: {n}": w for n, w in WRITERS.items()})
def test_a_folder_that_went(fault, kind, tmp_path): fault.refuses(lambda: kind(tmp_path / "gone"), "cannot write")


@kinds("store", {f"killed before the rename: {n}": w for n, w in WRITERS.items()})
def test_killed_while_writing(fault, kind, tmp_path, monkeypatch):
    kind(tmp_path)
    before = {f: f.read_bytes() for f in tmp_path.iterdir()}
    with monkeypatch.context() as m:
        m.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt): kind(tmp_path)
    fault.survives(lambda: {f: f.read_bytes() for f in tmp_path.iterdir()}, same_as=before)


@kinds("store", {"a NUL": "a\0b", "somebody who is not there": "~nobody-here/x"})
def test_names_of_folders(fault, kind): fault.refuses(lambda: folder_at(kind, "OUT"), "OUT=", "give another")


@kinds("store", {"a file": "file", "below a file": "file/below"})
def test_files_for_folders(fault, kind, tmp_path):
    (tmp_path / "file").write_text("mine")
    fault.refuses(lambda: store.writable(tmp_path / kind), "cannot write to", "choose another folder")
    assert (tmp_path / "file").read_text() == "mine"


@kinds("store", {"in the past": 1e6, "in the future": 4e9})
def test_a_clock_that_was_set(fault, kind, kept):
    for f in kept.at("3", 0, KEY).iterdir(): os.utime(f, (kind, kind))
    fault.survives(lambda: kept.record("3", 0, KEY)["metrics"], same_as=dict(f1=61.5))


HOLDER = ("import sys, time; from pathlib import Path; from mkdcls.engine.store import lock"
          "\nwith lock(Path(sys.argv[1]), 'x'): print('has', flush=True); time.sleep(float(sys.argv[2]))")


@kinds("locks", {"its owner ends": 1.5, "its owner is killed": 60.})
def test_two_processes_at_one_row(fault, kind, tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "l"), str(kind)], stdout=subprocess.PIPE, text=True, env=
            os.environ | dict(PYTHONPATH=str(ROOT))) as p:
        assert p.stdout.readline() == "has\n"
        heard = []
        def say(text):
            heard.append(text)
            if kind == 60: p.kill()
        def call():
            with lock(tmp_path / "l", "row 3, seed 0", say, every=.05): return True
        fault.survives(call, same_as=True, said=f"row 3, seed 0 is being made by process {p.pid} on .*: waiting", heard=heard)
    assert len(heard) == 1 and not (tmp_path / "l").exists()


@kinds("locks", {"left behind": "process 99999999 on nowhere", "empty": "", "nonsense": "\udcff"})
def test_a_lock_file_without_an_owner(fault, kind, tmp_path):
    (tmp_path / "l").write_text(kind, errors="surrogateescape")
    def call():
        with lock(tmp_path / "l", "x", lambda t: pytest.fail(t)): return True
    fault.survives(call, same_as=True)
    assert shutil.which("sh")
