"The engine: what is written is whole, what is damaged says so, what is cached is what would be computed, and tables follow from records"
import ast
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from records import record
from torch import nn

from mkdcls.corpora import read_audio
from mkdcls.engine import codehash, store
from mkdcls.intake import features as prepare
from mkdcls.results import report, runner
from mkdcls.results.cli import check_parameters, relative, strip
from mkdcls.engine.codehash import code_hashes, module_hash
from mkdcls.engine.features import Features
from mkdcls.engine.store import RunStore, differences, digest, read_weights, write_table, write_text, write_weights
from mkdcls.evaluation import scorecard
from mkdcls.fbank import fbank, mean_norm
from mkdcls.labels import PARENT, TASKS
from mkdcls.runs import PRESETS, Knobs, role_manifest, table1_rows
from mkdcls.standin import draw_manifest, render

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def runs(tmp_path, monkeypatch):
    "A folder of runs of our own"
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


# ---- store: identities

@dataclass(frozen=True)
class Point: x: int; y: tuple


def test_digest_is_of_the_value_not_of_its_clothes():
    want = sha256(b'{"x": 1, "y": [2.5, "a"]}').hexdigest()[:16]
    for same in (Point(1, (2.5, "a")), {"y": (2.5, "a"), "x": 1}, {"x": np.int64(1), "y": [np.float64(2.5), "a"]}, {"x": torch.tensor(1), "y": [2.5, "a"]}):
        assert digest(same) == want
    assert digest({1: "a"}) == digest({"1": "a"}), "keys as JSON writes them"
    assert len({digest(v) for v in ({"x": 1}, {"x": 2}, {"x": 1.5}, {"x": "1"}, {"x": None}, {"X": 1}, {"x": [1]}, {"x": {"x": 1}})}) == 8


def test_differences_name_the_path():
    old = {"recipe": {"lr": 1e-3, "drops": [2, 6]}, "seed": 0, "parents": {"1": "a"}}
    new = {"recipe": {"lr": 3e-4, "drops": [2, 6]}, "seed": 0, "parents": {}, "protocol": "2"}
    assert differences(old, new) == ["parents.1: a → None", "protocol: None → 2", "recipe.lr: 0.001 → 0.0003"]
    assert differences(old, old) == []


# ---- store: whole or not at all

def test_failed_text_leaves_the_old_file(tmp_path):
    write_text(file := tmp_path / "a.txt", "old ◆")
    with pytest.raises(UnicodeEncodeError): write_text(file, "new \ud800")
    assert file.read_text(encoding="utf-8") == "old ◆"
    write_text(file, "new")
    assert file.read_text(encoding="utf-8") == "new" and [f.name for f in tmp_path.iterdir()] == ["a.txt"]


def test_failed_table_leaves_the_old_file(tmp_path):
    write_table(file := tmp_path / "a.parquet", good := pd.DataFrame({"x": [1, 2]}))
    with pytest.raises(Exception, match="x"): write_table(file, pd.DataFrame({"x": [1, "two", object()]}))
    assert pd.read_parquet(file).equals(good)


def test_failed_weights_leave_the_old_file(tmp_path, monkeypatch):
    torch.manual_seed(0)
    write_weights(file := tmp_path / "a.safetensors", net := nn.Linear(2, 3))
    def half(tensors, path): Path(path).write_bytes(b"half"); raise OSError("disk full")
    monkeypatch.setattr(store, "save_file", half)
    with pytest.raises(OSError, match="disk full"): write_weights(file, nn.Linear(2, 3))
    kept = read_weights(file)
    assert set(kept) == {"weight", "bias"} and all(torch.equal(kept[n], p) for n, p in net.state_dict().items())


def test_unwritable_folder_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="cannot write to .*file.*choose another folder.*OUT=.*MKDCLS_RUNS"): store.writable(folder)
    assert store.writable(tmp_path / "new" / "deep") == tmp_path / "new" / "deep" and not list((tmp_path / "new" / "deep").iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere; the test above uses a file in a folder's place")
def test_folder_without_permission_says_what_to_do(tmp_path):
    (shut := tmp_path / "shut").mkdir(mode=0o500)
    with pytest.raises(OSError, match="mend its permissions"): store.writable(shut)


def test_runs_live_where_the_environment_says(runs, monkeypatch, tmp_path):
    assert store.home() == runs and RunStore("a-b").folder == runs / "a-b"
    monkeypatch.setenv("MKDCLS_RUNS", "")
    assert store.home() == ROOT / "runs"


# ---- store: weights and records

def test_weights_by_prefix(tmp_path):
    torch.manual_seed(0)
    net = nn.ModuleDict({"student": nn.BatchNorm1d(2), "students": nn.Linear(1, 1), "teacher": nn.ModuleDict({"student": nn.Linear(2, 2)})})
    write_weights(file := tmp_path / "m.safetensors", net)
    part = read_weights(file, "student.")
    assert set(part) == set(net["student"].state_dict()) and torch.equal(part["weight"], net["student"].weight)
    assert part["num_batches_tracked"].dtype == torch.int64 and len(read_weights(file)) == len(net.state_dict())


def test_views_and_memory_formats_are_written(tmp_path):
    "safetensors refuses shared and strided memory; what is written is a copy"
    net = nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
    net.register_buffer("seen", net.weight[:1])
    write_weights(file := tmp_path / "m.safetensors", net)
    assert all(torch.equal(read_weights(file)[n], p) for n, p in net.state_dict().items())


def test_damaged_weights_say_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights at .*gone.*run again"): read_weights(tmp_path / "gone.safetensors")
    write_weights(file := tmp_path / "m.safetensors", nn.Linear(20, 20))
    for size in (0, 5, 300, file.stat().st_size - 1):
        (cut := tmp_path / "cut.safetensors").write_bytes(file.read_bytes()[:size])
        with pytest.raises(ValueError, match="cut.safetensors is not a whole safetensors file.*delete the folder of that run.*run again"): read_weights(cut)


@pytest.fixture
def finished(runs):
    "A store with one finished run"
    s = RunStore("standin-smoke")
    s.at("3", 0, "abc").mkdir()
    (s.at("3", 0, "abc") / "checkpoint.pt").write_text("")
    s.finish(record(metrics={"f1": np.float64(.5)}, identity={"drops": (2, 6)}), pd.DataFrame({"u": ["a", "b"]}))
    return s


def test_a_finished_run_is_found(finished):
    assert finished.record("3", 0, "abc") == record(metrics={"f1": .5}, identity={"drops": [2, 6]})
    assert finished.predictions("3", 0, "abc")["u"].tolist() == ["a", "b"]
    assert finished.record("3", 0, "abd") is None and finished.record("3", 1, "abc") is None and finished.record("4a", 0, "abc") is None
    assert {f.name for f in finished.at("3", 0, "abc").iterdir()} == {"record.json", "predictions.parquet"}, "no checkpoint, nothing half written"


def test_no_record_without_its_answers(finished):
    finished.at("5", 0, "k").mkdir()
    with pytest.raises(Exception, match="u"): finished.finish(record("5", 0, "k"), pd.DataFrame({"u": [1, "two", object()]}))
    assert finished.record("5", 0, "k") is None


def test_truncated_record_says_so(finished):
    file = finished.at("3", 0, "abc") / "record.json"
    for size in (0, 10, file.stat().st_size - 3):
        file.write_bytes(file.read_bytes()[:size])
        with pytest.raises(ValueError, match="record.json is not a whole record.*delete its folder, row3-seed0-abc, and run again"): finished.record("3", 0, "abc")
        assert finished.others("3", 0, "another") == [], "it is only told of"


def test_truncated_answers_say_so(finished):
    file = finished.at("3", 0, "abc") / "predictions.parquet"
    for size in (0, 10, file.stat().st_size - 3):
        file.write_bytes(file.read_bytes()[:size])
        with pytest.raises(ValueError, match="predictions.parquet is not a whole Parquet file.*row3-seed0-abc, and run again"): finished.predictions("3", 0, "abc")


def test_other_records_newest_first(finished):
    for i, key in enumerate(("old", "new")):
        finished.at("3", 0, key).mkdir()
        finished.finish(record("3", 0, key), pd.DataFrame({"u": ["a"]}))
        os.utime(finished.at("3", 0, key) / "record.json", (2e9 + i, 2e9 + i))
    finished.at("3", 1, "elsewhere").mkdir(); finished.finish(record("3", 1, "elsewhere"), pd.DataFrame({"u": ["a"]}))
    assert [r["key"] for r in finished.others("3", 0, "abc")] == ["new", "old"]


def test_provenance():
    got = store.provenance(torch.device("cpu"), "abc")
    assert set(got) == {"commit", "device", "python", "finished", "versions"} and set(got["versions"]) == set(store.VERSIONS)
    assert got["commit"] == "abc" and re.fullmatch(r"([0-9a-f]{12}\+?)?", store.commit()) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", got["finished"])
    assert got["versions"]["torch"] == torch.__version__ and "threads" in got["device"]


# ---- codehash

@pytest.fixture
def package(tmp_path, monkeypatch):
    "A package of three modules and a subpackage, read by codehash in place of mkdcls"
    top = tmp_path / "mini"
    (top / "sub").mkdir(parents=True)
    files = {"__init__.py": "", "sub/__init__.py": "",
             "a.py": '"""About a"""\nimport torch\nfrom .b import f\nfrom mini.sub import deep\n\ndef g(x):\n    "Doc"\n    return f(x) + 2 # two\n',
             "b.py": "def f(x):\n    from .sub.deep import h\n    return h(x)\n", "c.py": "import mini.a as a\nX = 1\n",
             "sub/deep.py": "from ..d import K\ndef h(x): return x*K\n", "d.py": "K = 3\n", "alone.py": "import os, json\nfrom torch import nn\n"}
    for name, text in files.items(): (top / name).write_text(text)
    monkeypatch.setattr(codehash, "PACKAGE", top)
    def clear(): codehash.module_hash.cache_clear(); codehash.imports.cache_clear()
    def edit(name, old, new):
        text = (top / name).read_text()
        assert old in text
        (top / name).write_text(text.replace(old, new))
        clear()
    clear()
    yield edit
    clear()


def test_wording_does_not_change_a_hash(package):
    before = code_hashes("mini.a")
    for old, new in (('"""About a"""', '"""All about\na, at length"""'), ('"Doc"', '"What g does"'), ("# two", "# why two"), ("\n\n", "\n\n\n__all__ = ['g']\n"),
                     ("f(x) + 2", "( f(x)+2 )"), ('    "What g does"\n', "")):
        package("a.py", old, new)
        assert code_hashes("mini.a") == before, new


@pytest.mark.parametrize("name,old,new", [("a.py", "+ 2", "+ 3"), ("a.py", "+ 2", "- 2"), ("a.py", "def g(x)", "def g(x, y=0)"), ("b.py", "return h(x)", "return x"),
                                          ("d.py", "K = 3", "K = 3."), ("sub/deep.py", "x*K", "K*x"), ("a.py", "return", "'now a statement'; x = 1; return")])
def test_code_changes_its_own_hash_only(package, name, old, new):
    before = code_hashes("mini.a")
    package(name, old, new)
    after = code_hashes("mini.a")
    module = "mini." + name.removesuffix(".py").replace("/", ".")
    assert {m for m in before if before[m] != after[m]} == {module} and set(after) >= {module}


def test_imports_are_followed(package):
    "Relative and absolute, inside functions, up from a subpackage; nothing from outside"
    assert codehash.imports("mini.a") == ("mini.b", "mini.sub", "mini.sub.deep") and codehash.imports("mini.sub.deep") == ("mini.d",)
    assert set(code_hashes("mini.c")) == {"mini." + m for m in ("a", "b", "c", "d", "sub", "sub.deep")}
    assert set(code_hashes("mini.alone")) == {"mini.alone"} and set(code_hashes("mini.d", "mini.alone")) == {"mini.alone", "mini.d"}


def test_what_a_run_depends_on():
    got = {m.removeprefix("mkdcls.") for m in code_hashes("mkdcls.training")}
    assert got == {"asymmetric", "dependency", "distillation", "encoders", "engine.features", "labels", "mixup", "model", "objective", "training"}
    speaks = {m.removeprefix("mkdcls.") for m in role_manifest("FCVG", PRESETS["smoke"], 0)[1]["code"]}
    assert speaks == {"standin", "scm", "voice", "fbank", "labels"}, "and not where and how features are kept"
    assert all(re.fullmatch("[0-9a-f]{12}", h) for h in code_hashes("mkdcls.training").values())


def test_hashes_are_the_same_in_a_fresh_interpreter():
    code = "from mkdcls.engine.codehash import module_hash as h; print(h('mkdcls.objective'), h('mkdcls.engine.store'))"
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"}
    out = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert out == [module_hash("mkdcls.objective"), module_hash("mkdcls.engine.store")]


def test_hashes_do_not_depend_on_the_python_version():
    "Newer interpreters add empty fields to the tree (3.12: type_params) and print it otherwise (3.13); the hash must not notice"
    tree = ast.parse("def f(x): return x\nclass A: pass")
    plain = codehash.dump(tree)
    for node in tree.body: node._fields = (*(n for n in node._fields if n != "type_params"), "type_params"); node.type_params = []
    assert codehash.dump(tree) == plain and "type_params" not in plain
    assert codehash.dump(ast.parse("f(a, *b, k=1, **c)[::2]")) == (
        "Module(body=[Expr(value=Subscript(value=Call(func=Name(id='f', ctx=Load()), args=[Name(id='a', ctx=Load()), Starred(value=Name(id='b', ctx=Load()), "
        "ctx=Load())], keywords=[keyword(arg='k', value=Constant(value=1)), keyword(value=Name(id='c', ctx=Load()))]), slice=Slice(step=Constant(value=2)), "
        "ctx=Load()))], type_ignores=[])")


# ---- doors

FAKE = {"plain": ("", True), "no CUDA": ("raise OSError('libcudart is not here')", False)}

@pytest.mark.parametrize("kind", FAKE)
def test_the_door_opens_with_and_without_the_extension(tmp_path, kind):
    "A stand-in torchaudio whose compiled part loads, or raises OSError as a CUDA wheel does beside a CPU torch"
    body, whole = FAKE[kind]
    (tmp_path / "torchaudio" / "_extension").mkdir(parents=True)
    (tmp_path / "torchaudio" / "__init__.py").write_text("from . import helper\nfrom . import _extension\nuseful = _extension._IS_TORCHAUDIO_EXT_AVAILABLE\n")
    (tmp_path / "torchaudio" / "helper.py").write_text("x = 1\n")
    (tmp_path / "torchaudio" / "_extension" / "__init__.py").write_text(f"{body}\n_IS_TORCHAUDIO_EXT_AVAILABLE = True\n")
    code = "from mkdcls.engine.doors import torchaudio; t = torchaudio(); print(t.useful, t is torchaudio(), t.helper.x)"
    env = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.split() == [str(whole), "True", "1"], done.stderr


def test_the_real_door():
    from mkdcls.engine.doors import torchaudio
    assert torchaudio().functional.melscale_fbanks(10, 0., 4000., 4, 8000).shape == (10, 4)


# ---- features in memory

def invented(lengths, seed=0, width=3):
    g = torch.Generator().manual_seed(seed)
    n = torch.tensor(lengths)
    return Features(torch.randn(int(n.sum()), width, generator=g).half(), n.cumsum(0) - n, n)


def naive(f, index, max_frames=None, u=None):
    cuts = []
    for j, i in enumerate(index.tolist()):
        rows = f.values[int(f.starts[i]):int(f.starts[i]) + int(f.n_frames[i])].float()
        if max_frames is not None and len(rows) > max_frames:
            first = 0 if u is None else int(float(u[j]) * (len(rows) - max_frames + 1))
            rows = rows[first:first + max_frames]
        cuts.append(rows)
    return nn.utils.rnn.pad_sequence(cuts, batch_first=True), torch.tensor([len(c) for c in cuts])


@pytest.mark.parametrize("max_frames", [None, 1, 5, 9, 100])
def test_batch_equals_a_loop(max_frames):
    f = invented([9, 1, 5, 12, 7])
    g = torch.Generator().manual_seed(1)
    for index in (torch.tensor([4]), torch.tensor([3, 0, 1]), torch.tensor([2, 2, 4, 0]), torch.randint(5, (20,), generator=g)):
        for u in (None, torch.zeros(len(index)), torch.full((len(index),), 1 - 2**-24), torch.rand(len(index), generator=g)):
            (x, n), (want, lengths) = f.batch(index, max_frames, u), naive(f, index, max_frames, u)
            assert torch.equal(x, want) and torch.equal(n, lengths) and x.dtype == torch.float32 and n.dtype == torch.int64


def test_a_cut_may_start_anywhere_it_fits():
    "Every start from the first frame to the last possible one, and no other"
    f = invented([6])
    first = {int((f.values.float() == f.batch(torch.tensor([0]), 4, torch.tensor([u]))[0][0, 0]).all(1).nonzero()) for u in torch.linspace(0, 1, 61)[:-1]}
    assert first == {0, 1, 2}


def test_join_keeps_rows():
    a, b, c = invented([4, 2], 1), invented([3], 2), invented([1, 5, 2], 3)
    both = Features.join([a, b, c])
    alone = [f.batch(torch.tensor([i]))[0][0] for f in (a, b, c) for i in range(len(f))]
    assert len(both) == 6 and all(torch.equal(both.batch(torch.tensor([i]))[0][0], x) for i, x in enumerate(alone))
    one = Features.join([a])
    assert all(torch.equal(getattr(one, n), getattr(a, n)) for n in ("values", "starts", "n_frames"))


def test_features_refuse_nonsense():
    f = invented([4, 2])
    with pytest.raises(ValueError, match="utterance 1 has no frames"): Features(f.values, f.starts, torch.tensor([4, 0]))
    with pytest.raises(ValueError, match="2 starts, 1 lengths"): Features(f.values, f.starts, f.n_frames[:1])


# ---- from a manifest to features

@pytest.fixture(scope="module")
def six(): return draw_manifest("FCVG", 6)


@pytest.fixture(scope="module")
def direct(six):
    "Each utterance by itself, without a cache"
    out = []
    for i in range(len(six)):
        x, n = fbank(*render(six.iloc[[i]]))
        out.append(mean_norm(x, n).half()[0, :int(n[0])].float())
    return out


@pytest.fixture
def small_chunks(monkeypatch): monkeypatch.setattr(prepare, "CHUNK", 2)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def chunks(runs, six, small_chunks, monkeypatch):
    "A corpus whose chunks are all there, killed before they were joined"
    def killed(*args): raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(prepare, "_join", killed)
        with pytest.raises(KeyboardInterrupt): prepare.features_of(six, "f", workers=0)
    return runs / "features" / "f"


def rows_of(f): return [f.batch(torch.tensor([i]))[0][0] for i in range(len(f))]


def same(f, g): return all(torch.equal(getattr(f, n), getattr(g, n)) for n in ("values", "starts", "n_frames"))


def test_features_are_those_of_each_row(runs, six, direct, small_chunks):
    "In the manifest's order, although chunks are taken by length; and again from the cache, in another order of rows too"
    f = prepare.features_of(six, "f", workers=0)
    assert not six["duration"].is_monotonic_increasing
    assert {p.name for p in (runs / "features" / "f").iterdir()} == {"values.f16", "index.npz"}, "no chunk is kept twice"
    assert (runs / "features" / "f" / "values.f16").stat().st_size == 2 * f.values.numel()
    for got, want in zip(rows_of(f), direct): torch.testing.assert_close(got, want, rtol=2e-3, atol=.03)
    assert f.values.dtype == torch.float16 and f.values.shape[1] == 80


def test_any_number_of_workers_gives_the_same(runs, six, small_chunks, threads):
    torch.set_num_threads(2)
    alone = prepare.features_of(six, "0", workers=0)
    assert same(alone, prepare.features_of(six, "1", workers=1)) and same(alone, prepare.features_of(six, "2", workers=2))
    assert torch.get_num_threads() == 2


def test_a_missing_chunk_alone_is_computed_again(chunks, six, monkeypatch):
    whole, seen, counts = prepare.features_of(six, "whole", workers=0), [], []
    real = prepare.feature_chunk
    monkeypatch.setattr(prepare, "feature_chunk", lambda rows, path: (seen.append(path.name), real(rows, path)))
    (chunks / "00001.npz").unlink()
    assert same(whole, prepare.features_of(six, "f", workers=0, progress=lambda *a: counts.append(a)))
    assert seen == ["00001.npz"] and counts == [(4, 6), (6, 6)]
    assert same(whole, prepare.features_of(six, "f", workers=0)) and seen == ["00001.npz"], "and nothing once it is whole"


def test_features_are_mapped_not_read(runs, six, small_chunks):
    "A batch is a copy: writing into it changes neither features nor file; a file that was cut is named"
    f, file = prepare.features_of(six, "f", workers=0), runs / "features" / "f" / "values.f16"
    before = file.read_bytes()
    f.batch(torch.tensor([0, 1]))[0].fill_(7)
    assert file.read_bytes() == before and same(f, prepare.features_of(six, "f", workers=0))
    del f
    for size in (len(before) - 2, 0):
        file.write_bytes(before[:size])
        prepare.features_of(six, "f", workers=0, say=(said := []).append)
        assert file.read_bytes() == before and len(said) == 1 and re.search("features in .*f are damaged.*made again", said[0])


def test_streamed_features_are_the_same(runs, six, small_chunks):
    "What a corpus larger than the GPU's memory is read with gives the batches that memory gives"
    f = prepare.features_of(six, "f", workers=0)
    s, index, u = prepare.Streamed(f, torch.device("cpu")), torch.tensor([4, 0, 5]), torch.tensor([.2, .9, .5])
    assert len(s) == 6 and torch.equal(s.n_frames, f.n_frames) and torch.equal(s.starts, f.starts)
    for a, b in zip(s.batch(index, 50, u), f.batch(index, 50, u)): assert torch.equal(a, b)
    assert prepare.placed(f, torch.device("cpu")) is f


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
def test_features_go_where_they_fit(runs, six, small_chunks):
    f = prepare.features_of(six, "f", workers=0)
    there, streamed = prepare.placed(f, torch.device("cuda")), prepare.placed(f, torch.device("cuda"), share=0)
    assert there.values.is_cuda and isinstance(streamed, prepare.Streamed) and streamed.starts.is_cuda
    for a, b in zip(there.batch(torch.tensor([3, 1])), streamed.batch(torch.tensor([3, 1]).cuda())): assert torch.equal(a, b) and b.is_cuda


def test_killed_between_chunks(runs, six, small_chunks, monkeypatch):
    whole, real, seen = prepare.features_of(six, "f", workers=0), prepare.feature_chunk, []
    def dies(rows, path):
        if path.name == "00002.npz": raise KeyboardInterrupt
        real(rows, path)
    monkeypatch.setattr(prepare, "feature_chunk", dies)
    with pytest.raises(KeyboardInterrupt): prepare.features_of(six, "g", workers=0)
    monkeypatch.setattr(prepare, "feature_chunk", lambda rows, path: (seen.append(path.name), real(rows, path)))
    assert same(whole, prepare.features_of(six, "g", workers=0)) and seen == ["00002.npz"]


def test_truncated_chunk_says_so(chunks, six):
    whole = prepare.features_of(six, "whole", workers=0)
    file = chunks / "00001.npz"
    for size in (file.stat().st_size // 2, 0):
        file.write_bytes(file.read_bytes()[:size])
        assert not prepare._has(file, 2, (said := []).append) and re.search("00001.npz cannot be read.*this chunk is made again", said[0])
        file.write_bytes(b"")
    assert same(whole, prepare.features_of(six, "f", workers=0))


class Trap:
    "Unpickling it makes a folder"
    def __init__(self, path): self.path = path
    def __reduce__(self): return os.mkdir, (str(self.path),)


def test_chunks_and_index_hold_no_pickle(chunks, six, tmp_path):
    "Both are read without unpickling: code put into one is not run"
    trap = np.array([Trap(tmp_path / "run")], dtype=object)
    np.savez(chunks / "00000.npz", values=trap, n_frames=np.array([1]))
    prepare.features_of(six, "f", workers=0, say=(said := []).append)
    np.savez(chunks / "index.npz", starts=trap, n_frames=trap, width=80)
    prepare.features_of(six, "f", workers=0, say=said.append)
    assert "cannot be read" in said[0] and "damaged" in said[1]
    assert not (tmp_path / "run").exists()


def test_prepare_keeps_the_manifest_beside(runs, six, small_chunks):
    c = prepare.prepare(six, "f", workers=0)
    kept = pd.read_parquet(runs / "features" / "f" / "manifest.parquet")
    assert kept["utterance"].tolist() == six["utterance"].tolist() and c.fingerprint == "f" and c.manifest is six
    assert json.loads((runs / "features" / "f" / "about.json").read_text()) == {"utterances": 6, "frames": len(c.features.values)}
    prepare.forget("f")
    assert not (runs / "features" / "f").exists()
    prepare.forget("f")


def test_unwritable_runs_say_so_before_any_work(tmp_path, monkeypatch, six):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path / "file"))
    with pytest.raises(OSError, match="cannot write to .*MKDCLS_RUNS"): prepare.features_of(six, "f", workers=0)
    with pytest.raises(OSError, match="cannot write to .*MKDCLS_RUNS"): RunStore("a")


@pytest.fixture
def recordings(tmp_path):
    "Noise of three lengths and two rates in files, one of them used in two segments"
    rng, rows = np.random.default_rng(0), []
    for i, (seconds, rate) in enumerate(((1.5, 8000), (1.1, 16000), (2.0, 8000))):
        sf.write(path := tmp_path / f"{i}.wav", .1 * rng.standard_normal(round(seconds * rate)), rate, subtype="FLOAT")
        spans = ((None, None),) if i < 2 else ((0., .8), (.8, 2.))
        rows += [dict(utterance=f"{i}-{j}", path=str(path), start_s=a, end_s=b, duration=(b or seconds) - (a or 0)) for j, (a, b) in enumerate(spans)]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("segments", [True, False])
def test_recordings(runs, recordings, segments, monkeypatch):
    monkeypatch.setattr(prepare, "CHUNK", 3)
    rows = recordings if segments else recordings.iloc[:3].drop(columns=["start_s", "end_s"])
    f = prepare.features_of(rows, f"r{segments}", workers=0)
    for i, r in enumerate(rows.itertuples()):
        wave = torch.from_numpy(read_audio(r.path, start_s=getattr(r, "start_s", None), end_s=getattr(r, "end_s", None)))[None]
        x, n = fbank(wave, torch.tensor([wave.shape[1]]))
        torch.testing.assert_close(rows_of(f)[i], mean_norm(x, n).half()[0].float(), rtol=2e-3, atol=.03)


def test_a_recording_that_is_gone_is_named(runs, recordings):
    Path(recordings["path"][1]).unlink()
    with pytest.raises(FileNotFoundError, match="1.wav"): prepare.features_of(recordings, "r", workers=0)
    with pytest.raises(FileNotFoundError, match="1.wav"): prepare.features_of(recordings, "r", workers=2)


# ---- from records to tables

class Invented:
    "A runner with records of its own making: a row answers right as often as its method suggests"
    preset, knobs, right = "laptop", Knobs(), {"base": .6, "+MKD": .6, "+CH": .75, "+MKD+CH": .9}

    def __init__(self, rows=None, seeds=5, speakers=60):
        all_rows = table1_rows()
        self.rows = {r: all_rows[r] for r in rows or all_rows}
        self.tables = {(r, s): self.answers(self.rows[r], s, speakers) for r in self.rows for s in range(seeds)}
        self.store = SimpleNamespace(predictions=lambda row, seed, key: self.tables[row, seed])

    def plan(self, seeds): return [(self, [(r, s) for s in range(seeds) for r in self.rows])]

    def answers(self, r, seed, speakers):
        data, mine = np.random.default_rng([seed, len(r.role)]), np.random.default_rng([seed, int.from_bytes(r.row.encode(), "big")])
        sub = data.integers(5, size=speakers)
        y = dict(gender=data.integers(2, size=speakers), agesup=np.array(PARENT)[sub], agesub=sub)
        name = [f"secret-name-{seed}-{i}" for i in range(speakers)]
        out = dict(utterance=[f"{n}-u" for n in name], speaker=name, corpus=np.where(sub == 4, "FCVE", "LTV") if r.role == "LTV+FCVE" else r.role)
        out |= {f"y_{t}": v.astype(np.int8) for t, v in y.items()}
        for t in r.tasks:
            guess = np.where(mine.random(speakers) < self.right[r.method], y[t], mine.integers(TASKS[t], size=speakers))
            out |= {t: guess.astype(np.int8)} | {f"{t}_logit{i}": mine.standard_normal(speakers).astype(np.float32) for i in range(TASKS[t])}
            if "MKD" in r.method: out[f"{t}_as_trained"] = mine.integers(TASKS[t], size=speakers).astype(np.int8)
        return pd.DataFrame(out)

    def record(self, row, seed):
        if (row, seed) not in self.tables: return None
        r, table = self.rows[row], self.tables[row, seed]
        where = dict(commit="c0ffee000000", device="a machine, 2 threads", python="3.11.7", finished="2026-01-01T00:00:00+00:00", versions={"torch": "2"})
        curves = [dict(epoch=e, lr=1e-3, seconds=1., total=3. / e, gender=1. / e, agesup=2. / e) for e in (1, 2)]
        return dict(key=f"{row}{seed}", corpus="standin", preset=self.preset, identity=dict(protocol="1", data="d", code={}, recipe={}, parents={}), provenance=where,
                    params=1234567, student_params=1234, train_s=10.04, total_s=12., test_speakers=len(table), utterances=dict(train=1, val=1, test=len(table)),
                    metrics=scorecard(table, r.tasks), curves=curves)


@pytest.fixture(scope="module")
def invention(): return Invented()


@pytest.fixture(scope="module")
def published(invention, tmp_path_factory):
    folder = report.publish(invention.plan(5), tmp_path_factory.mktemp("published"))
    return folder, *report.write(folder)


@pytest.fixture
def spoilt(published, tmp_path): return Path(shutil.copytree(published[0], tmp_path / "spoilt"))


def test_table_holds_means_over_seeds(published, invention):
    _, table, _ = published
    assert list(table["row"]) == list(table1_rows())
    for _, r in table.iterrows():
        cards = [scorecard(invention.tables[r["row"], s], invention.rows[r["row"]].tasks) for s in range(5)]
        for task in TASKS:
            for part in "p", "r", "f1":
                name = f"{task}_{part}"
                if task not in invention.rows[r["row"]].tasks: assert pd.isna(r[name]) and pd.isna(r[f"{name}_ci95"]); continue
                low, high = json.loads(r[f"{name}_ci95"])
                assert r[name] == pytest.approx(np.mean([c[name] for c in cards]), abs=.006) and low <= r[name] <= high and high - low > 1
            assert ("MKD" in r["method"] and task in invention.rows[r["row"]].tasks) == pd.notna(r[f"as_trained_{task}_f1"])
        assert r["n_seeds"] == 5 and r["params"] == 1234567 and r["train_s"] == 10.
        assert ("CH" in r["method"]) == pd.notna(r["conflict_rate"])
        assert (r["dataset"] == "LTV+FCVE") == pd.notna(r["ltv_agesup_f1"])


def test_gains_and_their_words(published, invention):
    "Large gains are seen and signed as the paper's; the primary contrasts are three; nothing is decided on four seeds"
    folder, table, gains = published
    f1 = table.set_index("row")["agesup_f1"]
    pooled = gains[(gains["task"] == "agesup") & (gains["scope"] == "pooled")].set_index("row")
    for row, g in pooled.iterrows():
        assert g["gain"] == pytest.approx(f1[row] - f1[g["base_row"]], abs=.011) and g["low"] <= g["gain"] <= g["high"]
        assert g["paper_gain"] == pytest.approx(report.published().loc[row, "agesup_f1"] - report.published().loc[g["base_row"], "agesup_f1"], abs=.006)
    assert (pooled.loc[["6", "10", "13"], "status"] == "same direction").all() and not pooled["status"].isin(["plumbing only", "not run"]).any()
    assert sorted(gains.loc[gains["primary"], "row"]) == ["10", "13", "6"] and gains.loc[gains["primary"], "p_holm"].isna().all()
    assert (gains.loc[~gains["primary"], "p_holm"] >= gains.loc[~gains["primary"], "p"]).all()
    assert set(gains.loc[gains["scope"] == "LTV", "base_row"]) == {"3", "7"}


def test_four_seeds_decide_nothing(invention, tmp_path):
    folder = report.publish(invention.plan(4), tmp_path)
    assert set(report.gains(folder)["status"]) == {"undecided"} and set(report.table1(folder)["n_seeds"]) == {4}


def test_smoke_never_gets_a_status(tmp_path, invention, monkeypatch):
    monkeypatch.setattr(invention, "preset", "smoke", raising=False)
    folder = report.publish(invention.plan(5), tmp_path)
    assert set(report.gains(folder)["status"]) == {"plumbing only"}
    table, contrasts = report.write(folder)
    assert "PLUMBING CHECK" in (folder / "table1.md").read_text("utf-8") and "PLUMBING CHECK" in (folder / "table1.tex").read_text("utf-8")
    from mkdcls.results import figures
    for preset, said in (("smoke", True), ("laptop", False)):
        fig = figures.figure_gains(folder, contrasts.assign(preset=preset))
        assert bool(fig.get_supxlabel().startswith("Plumbing check")) == said


def test_a_sheet_with_some_rows(tmp_path):
    "Rows that were not run are absent; a method without its base gives no gain; figures can still be drawn"
    from mkdcls.results import figures
    folder = report.publish(Invented(("1", "3", "4a", "4b", "8"), seeds=1, speakers=20).plan(1), tmp_path)
    table, contrasts = report.write(folder)
    assert list(table["row"]) == ["1", "3", "4a", "4b", "8"] and set(contrasts["row"]) == {"4a", "4b"} and report.check_folder(folder) == []
    assert "1 seed" in figures.save_figures(folder, contrasts)
    empty = report.publish(Invented(("1", "2"), seeds=1, speakers=20).plan(1), tmp_path / "teachers")
    assert report.write(empty)[1].empty and report.check_folder(empty) == []
    figures.save_figures(empty, report.gains(empty))


def test_a_block_whose_base_closes_too_little_is_marked(published, monkeypatch):
    "Half of the gap decides, block by block; the marks reach the table, the gains and the footnote, and no other block"
    folder, table, contrasts = published
    closed = pd.DataFrame({report.CLOSED: [50., 49.9]}, index=["3", "7"])
    monkeypatch.setattr(report, "gap_closed", lambda folder: closed)
    marked = report.marks(folder)
    assert marked == dict.fromkeys([(r, "agesup") for r in ("7", "8", "9", "10")], " ‡") and report.footnotes(marked) == report.SMALL
    cells = report.shown(table, marked).set_index("row")["agesup F1 [95 %]"]
    assert [r for r in cells.index if "‡" in cells[r]] == ["7", "8", "9", "10"]
    gains = report.shown_gains(contrasts, marked)
    hit = gains["gain [95 %]"].str.contains("‡")
    assert gains["row"][hit].unique().tolist() == ["8", "9", "10"] and not (hit & gains["task"].str.startswith("gender")).any()
    assert "‡" in report.markdown(folder, table, contrasts)


def test_gains_over_constant_answers_are_not_shown(published):
    contrasts = published[2]
    for task, other in (("agesup", "gender"), ("gender", "agesup")):
        g = contrasts[(contrasts["task"] == task) & (contrasts["row"] == "4a")].iloc[0]
        assert report.gain_cell(g, {("4a", task): " †"}) == report.gain_cell(g, {("3", task): " †‡"}) == "†"
        assert "†" not in report.gain_cell(g, {("5", task): " †", ("4a", other): " †"})


def test_as_trained_gains_stand_beside(published):
    "By hand from the records: the mean over seeds of a row as trained, less that of its base"
    folder, _, contrasts = published
    runs = report.read(folder)[0]
    mean = lambda row, name: runs.loc[runs["row"] == row, name].mean()
    for _, g in contrasts[contrasts["scope"] == "pooled"].iterrows():
        if "MKD" not in g["method"]: assert pd.isna(g["as_trained"])
        else: assert abs(g["as_trained"] - (mean(g["row"], f"as_trained_{g['task']}_f1") - mean(g["base_row"], f"{g['task']}_f1"))) < .006


def test_secondary_gains_need_holm(published, monkeypatch):
    "A secondary gain beyond the margin stays undecided where its corrected p is 0.05 or more; the primary one asks nothing of it"
    monkeypatch.setattr(report, "holm", lambda p: np.full(len(p), .05))
    words = report.gains(published[0]).groupby("primary")["status"].agg(set)
    assert not words[False] & {"same direction", "opposite"} and "same direction" in words[True]


def test_nobody_is_named(published):
    folder, *_ = published
    lines = pd.read_parquet(folder / report.ANSWERS)
    assert lines["speaker"].str.fullmatch(r"s\d{5}").all() and lines["utterance"].str.fullmatch(r"u\d{6}").all()
    assert not any(b"secret-name" in f.read_bytes() for f in folder.rglob("*") if f.is_file())
    assert (lines.groupby(["row", "seed"])["speaker"].nunique() == 60).all()


def test_what_is_published_holds_together(published): assert report.check_folder(published[0]) == []


def edit_runs(folder, change):
    table = pd.read_csv(folder / report.RECORDS, dtype={"row": str})
    change(table)
    table.to_csv(folder / report.RECORDS, index=False)


def edit_lines(folder, column, at):
    table = pd.read_parquet(folder / report.ANSWERS)
    table.loc[at, column] = 1 - table.loc[at, column]
    table.to_parquet(folder / report.ANSWERS, index=False)


SPOIL = {
    "a score": (lambda f: edit_runs(f, lambda t: t.__setitem__("agesup_f1", t["agesup_f1"] + .01)), "runs.csv row 1 seed 0: agesup_f1"),
    "a score left out": (lambda f: edit_runs(f, lambda t: t.__setitem__("gender_r", np.nan)), "runs.csv row 1 seed 0: gender_r"),
    "a column left out": (lambda f: edit_runs(f, lambda t: t.pop("gender_f1")), "runs.csv row 1 seed 0: gender_f1"),
    "an answer": (lambda f: edit_lines(f, "gender", 0), "runs.csv row 1 seed 0: gender_"),
    "a label": (lambda f: edit_lines(f, "y_gender", 0), "runs.csv row 1 seed 0: gender_"),
    "a cell of the table": (lambda f: (f / "table1.csv").write_text((f / "table1.csv").read_text().replace("1234567", "1234568", 1)), "table1.csv is not"),
    "a word": (lambda f: (f / "gains.csv").write_text((f / "gains.csv").read_text().replace("undecided", "same direction")), "gains.csv is not"),
    "the markdown": (lambda f: (f / "table1.md").write_text((f / "table1.md").read_text().replace("protocol 1", "protocol 2")), "table1.md is not"),
    "the LaTeX": (lambda f: (f / "table1.tex").unlink(), "table1.tex is not"),
}

@pytest.mark.parametrize("what", SPOIL)
def test_what_does_not_follow_from_the_records_is_found(spoilt, what):
    spoil, found = SPOIL[what]
    spoil(spoilt)
    wrong = report.check_folder(spoilt)
    assert wrong and wrong[0].startswith(found), wrong


def test_nothing_to_publish_is_an_error(invention, tmp_path):
    with pytest.raises(ValueError, match="nothing to publish; run it first"): report.publish(Invented(("1",), seeds=0).plan(1), tmp_path)
    with pytest.raises(FileNotFoundError, match="no runs.csv in .*publish the runs first"): report.table1(tmp_path / "nowhere")


def test_latex_and_markdown_hold_the_table(published):
    folder, table, contrasts = published
    tex = (folder / "table1.tex").read_text("utf-8").splitlines()
    body = [l for l in tex if l.endswith(r"\\")]
    assert len(body) == 15 and all(l.count(" & ") == 8 for l in body) and not any(re.search(r"(?<!\\)[%&_#](?! )", l) for l in body)
    assert tex.count(r"\midrule") == 5
    md = (folder / "table1.md").read_text("utf-8")
    for _, r in table.iterrows(): assert re.search(rf"^\| {r['row']} \| {r['encoder']} .*\| {r['agesup_f1']:.1f} \[", md, re.M)
    assert md.count("◆ |") == 3 and "5 seeds" in md and "synthetic stand-in speech" in md and "nan" not in md.lower().split("measured")[1].split("##")[0]


# ---- figures

def test_figures_are_the_same_bytes_each_time(tmp_path):
    import matplotlib.pyplot as plt
    from mkdcls.results import figures
    plt.close("all")
    folder = report.publish(Invented(("1", "3", "4b", "6"), seeds=2, speakers=30).plan(2), tmp_path / "sheet")
    contrasts = report.gains(folder)
    first, second = (shutil.copytree(folder, tmp_path / n) for n in "ab")
    captions = {figures.save_figures(f, contrasts) for f in (first, second)}
    names = {f"{n}.{e}" for n in ("curves", "gains", "confusion_agesup", "confusion_agesub") for e in ("svg", "png")}
    assert {f.name for f in (first / "figures").iterdir()} == names and len(captions) == 1
    for n in names:
        a, b = ((f / "figures" / n).read_bytes() for f in (first, second))
        assert a == b and len(a) > 3000 and b"<dc:date>" not in a and b"Software" not in a
    assert not plt.get_fignums(), "figures are closed"


# ---- the command line's small parts

def test_unknown_parameters_are_named():
    check_parameters({"preset": 1, "In": 1, "_x": 1, "get_ipython": 1, "check_parameters": 1}, ("preset", "seeds"))
    with pytest.raises(ValueError, match="no parameter nonsense, speed in this notebook; it takes preset, seeds"):
        check_parameters({"speed": 1, "preset": 1, "nonsense": 1}, ("preset", "seeds"))


def test_relative_paths(tmp_path):
    assert relative(ROOT / "paper" / "x.csv") == "paper/x.csv" and relative(tmp_path / "x.csv") == "x.csv"


def test_strip_leaves_no_trace_of_the_machine(tmp_path):
    import nbformat.v4 as v4
    import nbformat
    HOME = "/home" + "/me"  # in two parts: no file of the project may hold such a path
    given = f'corpus = "{HOME}/own.toml"\nreal = "{HOME}/data"\nout = "/tmp/x"\npreset = "smoke"'
    cell = v4.new_code_cell(given, metadata={"tags": ["injected-parameters"], "papermill": {"t": 1}})
    loud = v4.new_code_cell("f()", execution_count=3, outputs=[v4.new_output("stream", name=n, text=t) for n, t in (("stderr", HOME + "/bar"), ("stdout", "7"))])
    nb = v4.new_notebook(cells=[cell, loud], metadata={"kernelspec": {"name": "python3", "display_name": "p"}, "papermill": {"output_path": HOME}})
    nbformat.write(nb, file := tmp_path / "a.ipynb")
    strip(file)
    text = file.read_text("utf-8")
    got = nbformat.read(file, 4)
    assert "/home" not in text and "/tmp" not in text and "papermill" not in text and 'corpus = \\"own.toml\\"' in text
    assert [o["name"] for o in got.cells[1].outputs] == ["stdout"] and got.cells[0].metadata == {"tags": ["injected-parameters"]}


def test_links_of_a_copy_lead_where_the_page_leads(tmp_path):
    "In prose and in what cells show, when the copy lies in the project; nothing is changed outside"
    import nbformat.v4 as v4
    import nbformat
    text = "[a](../method/05.ipynb#x), [b](https://example.org)"
    nb = v4.new_notebook(cells=[v4.new_markdown_cell(text), v4.new_code_cell("f()", outputs=[v4.new_output("display_data", {"text/markdown": text})])])
    nbformat.write(nb, file := tmp_path / "a.ipynb")
    for folder, want in ((tmp_path, text), (ROOT / "paper" / "results" / "x", "[a](../../../nbs/method/05.ipynb#x), [b](https://example.org)")):
        strip(file, ROOT / "nbs" / "results", folder)
        got = nbformat.read(file, 4).cells
        assert got[0].source == want == got[1].outputs[0].data["text/markdown"]


# ---- a teacher whose features do not fit

def test_a_teacher_that_is_asked_at_every_step_gives_the_same(tmp_path, monkeypatch):
    "Where nothing is cut, kept teacher features and a teacher asked anew train the same row, up to rounding"
    rows = {r: replace(x, settings=replace(x.settings, epochs=1, drops=(), batch=64, max_frames=None)) for r, x in PRESETS["smoke"].rows().items() if r in ("1", "4a")}
    curves = {}
    for limit in (runner.K_BYTES, 0):
        monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path / str(limit)))
        monkeypatch.setattr(runner, "K_BYTES", limit)
        one = runner.Runner("smoke", device="cpu", rows=rows)
        curves[limit] = one.run("4a", 0)["curves"][0]
        assert (next(iter(one._k.values()))[1] is None) == (limit == 0)
    kept, asked = curves.values()  # one step: the losses before anything was learnt
    assert all(abs(kept[t] - asked[t]) < 1e-4 for t in ("total", "gender", "agesup", "dist"))
