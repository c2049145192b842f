"""Shards of prepared audio: what goes in comes out, without a copy, the same bytes each time; damage is named."""
import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from mkdcls.engine import shards
from mkdcls.engine.shards import Shards, write_shard

ROOT = Path(__file__).resolve().parents[1]


def waves(*lengths, seed=0):
    g = np.random.default_rng(seed)
    return [g.integers(-2**15, 2**15, n, dtype=np.int16) for n in lengths]


@pytest.fixture
def folder(tmp_path):
    write_shard(tmp_path / "00000.arrow", waves(5, 0, 7))
    write_shard(tmp_path / "00001.arrow", waves(9, 1, seed=1))
    return tmp_path


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(-2**15, 2**15 - 1), max_size=30), max_size=8))
def test_what_goes_in_comes_out(tmp_path, lists):
    want = [np.array(l, np.int16) for l in lists]
    write_shard(tmp_path / "a.arrow", want)
    s = Shards(tmp_path)
    assert s.count("a.arrow") == len(want)
    for i, w in enumerate(want):
        got = s.read("a.arrow", i)
        assert got.dtype == np.int16 and np.array_equal(got, w)


def test_bytes_are_those_of_the_waves(folder):
    before = (folder / "00000.arrow").read_bytes()
    write_shard(folder / "00000.arrow", waves(5, 0, 7))
    assert (folder / "00000.arrow").read_bytes() == before
    write_shard(folder / "other.arrow", [np.ascontiguousarray(w[::1]) for w in waves(5, 0, 8)])
    assert (folder / "other.arrow").read_bytes() != before
    fresh = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import numpy as np; from mkdcls.engine.shards import write_shard; g = np.random.default_rng(0); " \
            f"write_shard({str(folder / 'fresh.arrow')!r}, [g.integers(-2**15, 2**15, n, dtype=np.int16) for n in (5, 0, 7)])"
    subprocess.run([sys.executable, "-c", fresh], check=True, timeout=120)
    assert hashlib.sha256((folder / "fresh.arrow").read_bytes()).digest() == hashlib.sha256(before).digest(), "another process writes the same"


def test_reading_copies_nothing(folder):
    "Two reads are one memory, outside Python's and Arrow's heap, and may not be written to; they outlive the shard"
    s, held = Shards(folder), pa.total_allocated_bytes()
    a, b = s.read("00000.arrow", 2), s.read("00000.arrow", 2)
    assert np.shares_memory(a, b) and not a.flags.writeable and not a.flags.owndata and pa.total_allocated_bytes() == held
    assert s.read("00000.arrow", 0).ctypes.data + 2 * 5 == a.ctypes.data, "utterances lie end to end"
    with pytest.raises(ValueError, match="read-only"): a[0] = 1
    want = a.copy()
    del s, b
    assert np.array_equal(a, want)


def test_few_shards_stay_open(folder, monkeypatch):
    monkeypatch.setattr(shards, "OPEN_SHARDS", 3)
    for i in range(10): write_shard(folder / f"{i}.arrow", waves(4, seed=i))
    s = Shards(folder)
    first = s.read("0.arrow", 0)
    for i in range(10): assert np.array_equal(s.read(f"{i}.arrow", 0), waves(4, seed=i)[0])
    assert len(s._open) == 3 and np.array_equal(first, waves(4, seed=0)[0])


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files by /proc")
def test_an_open_shard_is_no_open_file(folder):
    s, before = Shards(folder), len(os.listdir("/proc/self/fd"))
    s.read("00000.arrow", 0), s.read("00001.arrow", 0)
    assert len(os.listdir("/proc/self/fd")) == before


def test_batch(folder):
    "In the order asked for, padded with zeros, scaled by 2^15 exactly"
    x, n = Shards(folder).batch(["00001.arrow", "00000.arrow", "00001.arrow", "00000.arrow"], [0, 2, 1, 1])
    want = [waves(9, 1, seed=1)[0], waves(5, 0, 7)[2], waves(9, 1, seed=1)[1], waves(5, 0, 7)[1]]
    assert x.dtype == torch.float32 and n.dtype == torch.int64 and x.shape == (4, 9) and n.tolist() == [9, 7, 1, 0]
    for row, k, w in zip(x, n, want):
        assert torch.equal(row[:k], torch.from_numpy(w / 2**15).float()) and not row[k:].any()
    assert x.min() >= -1 and x.max() <= 1
    x, n = Shards(folder).batch([], [])
    assert x.shape == (0, 0) and len(n) == 0


def test_full_scale(tmp_path):
    write_shard(tmp_path / "a.arrow", [np.array([-2**15, 2**15 - 1, 0], np.int16)])
    assert Shards(tmp_path).batch(["a.arrow"], np.array([0]))[0].tolist() == [[-1.0, 1 - 2**-15, 0.0]]


def test_each_shard_is_opened_once_a_batch(folder, monkeypatch):
    monkeypatch.setattr(shards, "OPEN_SHARDS", 1)
    opened, real = [], shards._open
    monkeypatch.setattr(shards, "_open", lambda p: (opened.append(p.name), real(p))[1])
    Shards(folder).batch(["00001.arrow", "00000.arrow"] * 3, [0, 1, 1, 0, 0, 2])
    assert opened == ["00000.arrow", "00001.arrow"]


def test_shards_travel_to_another_process_as_a_folder(folder):
    s = Shards(folder)
    s.read("00000.arrow", 0)
    there = pickle.loads(pickle.dumps(s))
    assert not there._open and np.array_equal(there.read("00000.arrow", 2), s.read("00000.arrow", 2))


@pytest.mark.parametrize("keep", [0, 1, 4, 100, -1, -8])
def test_a_truncated_shard_is_named(folder, keep):
    file = folder / "00000.arrow"
    whole = file.read_bytes()
    file.write_bytes(whole[:keep])
    with pytest.raises(ValueError, match="00000.arrow is not a whole shard.*delete it and run the same `mkdcls prepare`"): Shards(folder).read("00000.arrow", 0)


def test_wrong_files_rows_and_waves(folder):
    (folder / "text.arrow").write_text("this is no shard, whatever its name says")
    with pytest.raises(ValueError, match="text.arrow is not a whole shard"): Shards(folder).read("text.arrow", 0)
    table = pa.table({"x": [1]})
    with pa.OSFile(str(folder / "table.arrow"), "wb") as f, pa.ipc.new_file(f, table.schema) as out: out.write_table(table)
    with pytest.raises(ValueError, match="no shard of mkdcls"): Shards(folder).read("table.arrow", 0)
    with pytest.raises(FileNotFoundError, match="no shard .*00009.arrow"): Shards(folder).read("00009.arrow", 0)
    for row in (3, -1):
        with pytest.raises(IndexError, match=f"no row {row}, only 0 to 2"): Shards(folder).read("00000.arrow", row)
    with pytest.raises(ValueError, match="wave 1 is float32"): write_shard(folder / "x.arrow", [*waves(3), np.zeros(3, np.float32)])
    with pytest.raises(ValueError, match=r"of shape \(3, 1\)"): write_shard(folder / "x.arrow", [np.zeros((3, 1), np.int16)])


def test_a_shard_is_whole_or_not_there(folder, monkeypatch):
    "Killed before it is renamed, a shard leaves the old one as it was"
    before = (folder / "00000.arrow").read_bytes()
    monkeypatch.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt): write_shard(folder / "00000.arrow", waves(8))
    assert (folder / "00000.arrow").read_bytes() == before


def test_other_software_reads_a_shard(folder):
    "Plain Arrow, without a word of this project"
    with pa.memory_map(str(folder / "00000.arrow")) as f: table = pa.ipc.open_file(f).read_all()
    assert table.column_names == ["samples"] and [len(r) for r in table["samples"].to_pylist()] == [5, 0, 7]
