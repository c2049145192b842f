"""Runs on a Dask cluster: separate processes of this machine, a scheduler and two workers of one thread each.

Two kinds of row: those of Table 1 at smoke size, for equality with the pool; and a slow line, of which a test may say
when it has begun, for what happens when something is killed in the midst of it.
"""
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch import nn

from mkdcls.engine.record import Outcome
from mkdcls.engine.store import write_weights
from mkdcls.results import executors
from mkdcls.results.executors import scheduler_named
from mkdcls.results.runner import BaseRunner, Runner, device_of
from mkdcls.training import Settings, train

ROOT = Path(__file__).resolve().parents[1]
try: import distributed
except ImportError: distributed = None
cluster_only = pytest.mark.skipif(distributed is None, reason="Dask's distributed (extra \"cluster\") is not installed")
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Slow:
    "A row: a weight that goes towards those of its parents, plus one, over epochs that take their time"
    parents: tuple = ()
    pause: float = 0.  # seconds of a step
    settings: Settings = field(default_factory=lambda: Settings(epochs=4, lr=.1, drops=()))


ROWS = dict(teacher=Slow(), a=Slow(("teacher",)), b=Slow(("teacher",)), c=Slow(("a", "b")))
HOLD = "hold"  # a file in the store: while it is there, runs wait in the midst of an epoch
PLAN = [(r, s) for s in (0, 1) for r in ROWS]


class SlowLines(BaseRunner):
    preset_of = staticmethod(lambda name: SimpleNamespace(name=name, rows=lambda corpus: ROWS))

    def parents(self, row): return list(self.rows[row].parents)
    def about(self, role, seed): return dict(role=role, text=Path(self.corpus).read_text() if self.corpus != "standin" else "")
    def identity(self, row, seed, parents): return dict(row=row, seed=seed, data=self.fingerprint("line", seed), parents=parents, code={"mkdcls.training": ""})
    def heard(self, row, seed): return (seed,)
    def data(self, seed): return 1. + seed

    def make(self, row, seed, folder, kept):
        with open(folder / "begun", "a") as f: f.write(f"{os.getpid()}\n")
        goal = 1. + seed + sum(float(self.weights(p, seed)["weight"]) for p in self.parents(row))
        line = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(line.weight)
        def loss(b, at):
            time.sleep(self.rows[row].pause)
            while (folder.parents[1] / HOLD).exists(): time.sleep(.02)
            return dict(total=(line.weight - goal).square().sum())
        curves = train(line, torch.optim.SGD(line.parameters(), lr=.1), self.rows[row].settings, seed, lambda epoch: [torch.zeros(1)] * 2, loss, **kept)
        write_weights(folder / "model.safetensors", line)
        return Outcome(curves=curves, metrics=dict(weight=line.weight.item()), params=1, utterances=dict(train=2, test=1)), pd.DataFrame(dict(u=["a"]))


# ---- a cluster of processes

class Cluster:
    "A scheduler and workers as processes of their own; every process begun here is ended at the end"

    def __init__(self, folder):
        self.folder, self.processes, self.workers, self.scheduler, self.port = folder, [], [], None, 0

    def begin(self, *args, **env):
        base = {k: v for k, v in os.environ.items() if not k.startswith("MKDCLS_")}
        base |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
        log = open(self.folder / f"log{len(self.processes)}.txt", "w")
        p = subprocess.Popen([sys.executable, "-m", *args], env=base | env, cwd=self.folder, stdout=log, stderr=log)
        self.processes.append(p)
        return p

    def ready(self, home, workers=2):
        "Alive, with so many workers; `home` is the store of the test"
        self.home = home
        if self.scheduler is None or self.scheduler.poll() is not None: self.start()
        self.workers = [w for w in self.workers if w.poll() is None]
        while len(self.workers) < workers: self.workers.append(self.worker())
        return self

    def start(self):
        "The scheduler; the same port again where there was one"
        file = self.folder / "scheduler.json"
        file.unlink(missing_ok=True)
        self.scheduler = self.begin("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard", "--scheduler-file", str(file))
        until = time.monotonic() + 60
        while not file.exists() or not file.read_text().strip().endswith("}"):
            assert self.scheduler.poll() is None and time.monotonic() < until, "no scheduler"
            time.sleep(.1)
        self.address = json.loads(file.read_text())["address"]
        self.port = int(self.address.rsplit(":", 1)[1])

    def worker(self, *more, **env):
        return self.begin("distributed.cli.dask_worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0",
                          "--host", "127.0.0.1", *more, **env)

    def end(self):
        for p in self.processes:
            if p.poll() is None: p.kill()
        for p in self.processes: p.wait(30)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    c = Cluster(tmp_path_factory.mktemp("cluster"))
    yield c
    c.end()


@pytest.fixture
def begin(cluster, tmp_path, monkeypatch):
    "One cluster serves all tests, each with a store of its own; what a test killed is begun again"
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return lambda **more: cluster.ready(tmp_path / "runs", **more)


def slow(pause): return {name: replace(row, pause=pause) for name, row in ROWS.items()}


def lines(said=None, pause=0., **more):
    return SlowLines("smoke", device="cpu", rows=slow(pause), say=(said if said is not None else []).append, **more)


def files(home):
    "What a store holds of finished runs: tables and weights byte by byte, records but for times and machines"
    out = {}
    for p in sorted(home.glob("*/row*/*")):
        name = str(p.relative_to(home))
        if p.suffix in (".parquet", ".safetensors"): out[name] = p.read_bytes()
        if p.name == "record.json":
            rec = json.loads(p.read_text())
            for curve in rec["curves"]: curve.pop("seconds")
            out[name] = {k: v for k, v in rec.items() if k not in ("provenance", "train_s", "total_s", "sums")}
    return out


def begun(home): return {p.parent.name: p.read_text().split() for p in sorted(home.glob("*/row*/begun"))}


def until(what, seconds=240):
    end = time.monotonic() + seconds
    while not (got := what()):
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(.05)
    return got


DRIVER = """
import sys
from test_cluster import PLAN, lines
said = type("Said", (), {"append": staticmethod(lambda text: print(text, flush=True))})
try: lines(said, float(sys.argv[2])).run_all(PLAN, scheduler=sys.argv[1])
except KeyboardInterrupt: sys.exit(130)
except OSError as e: sys.exit(str(e))
"""


def driver(c, pause):
    "A driver in a process of its own"
    (c.folder / "driver.py").write_text(DRIVER)
    base = os.environ | {"MKDCLS_RUNS": str(c.home), "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    p = subprocess.Popen([sys.executable, str(c.folder / "driver.py"), c.address, str(pause)], env=base, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                         preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    c.processes.append(p)
    return p


@cluster_only
def test_equals_the_pool(begin, tmp_path, monkeypatch):
    "Rows of Table 1, in the pool and on the cluster, from the same features: tables, weights and records are the same to the bit"
    plan, threads = [("6", 0), ("3", 0)], torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path / "pool"))
        Runner("smoke", device="cpu").run_all(plan, workers=2)
    finally: torch.set_num_threads(threads)
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path / "runs"))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "features").symlink_to(tmp_path / "pool" / "features")
    c, told = begin(), []
    got = Runner("smoke", device="cpu", progress=lambda what, done, of: told.append((what, done, of))).run_all(plan, scheduler=c.address)
    assert [r["row"] for r in got] == ["6", "3"]
    here, there = files(tmp_path / "pool"), files(tmp_path / "runs")
    assert here == there and len([n for n in here if n.endswith("safetensors")]) >= 3
    assert {w for w, done, of in told if done == of} >= {f"seed 0: row {r}" for r in "136"}, "progress is shown to its end"
    assert not list((tmp_path / "runs" / "plans").iterdir())


@cluster_only
def test_a_worker_is_killed(begin, tmp_path):
    "In the midst of a run: another worker resumes it, a new one takes part, and nothing is made twice"
    c = begin()
    d = driver(c, .3)
    at = until(lambda: begun(c.home))
    victim = next(p for p in c.workers if str(p.pid) in [pid for pids in at.values() for pid in pids])
    until(lambda: list(c.home.glob("*/*/checkpoint.pt")))
    (c.home / HOLD).touch()  # until the new one is there, however long a busy machine takes to start it
    c.worker()
    log = c.folder / f"log{len(c.processes) - 1}.txt"
    until(lambda: "Registered to" in log.read_text("utf-8"))
    victim.kill()
    (c.home / HOLD).unlink()
    out, _ = d.communicate(timeout=300)
    assert d.returncode == 0 and "is gone; another goes on with row" in out, out
    twice = {n: pids for n, pids in begun(c.home).items() if len(pids) > 1}
    assert lines().missing(PLAN) == [] and 1 <= len(twice) <= 2 and all(len(p) == 2 and str(victim.pid) in p for p in twice.values())
    assert len(begun(c.home)) == len(PLAN) and len({p for pids in begun(c.home).values() for p in pids}) == 3


@cluster_only
def test_the_scheduler_is_killed(begin, tmp_path):
    "The driver says so in one line; the scheduler started again, the same command goes on with what is missing"
    c = begin()
    d = driver(c, .2)
    until(lambda: list(c.home.glob("*/*/record.json")))
    c.scheduler.kill()
    out, _ = d.communicate(timeout=300)
    assert d.returncode == 1 and "no longer answers: what was finished is kept" in out and "Traceback" not in out, out
    kept = {p: p.stat().st_mtime_ns for p in c.home.glob("*/*/record.json")}
    assert 1 <= len(kept) < len(PLAN)
    for w in c.workers: w.kill(); w.wait()
    c.ready(c.home)
    lines().run_all(PLAN, scheduler=c.address)
    assert lines().missing(PLAN) == [] and all(p.stat().st_mtime_ns == t for p, t in kept.items())


@cluster_only
def test_ctrl_c(begin, tmp_path):
    "Finished runs are kept, the workers leave the others within moments and serve the next command"
    c = begin()
    d = driver(c, .5)
    until(lambda: list(c.home.glob("*/*/record.json")))
    before = len(begun(c.home))
    d.send_signal(signal.SIGINT)
    assert d.wait(60) == 130
    time.sleep(2.5)
    left = set(map(str, c.home.glob("*/*/record.json")))
    time.sleep(2)
    assert set(map(str, c.home.glob("*/*/record.json"))) == left and len(left) < len(PLAN) and len(begun(c.home)) <= before + 2
    assert all(p.poll() is None for p in c.workers), "the workers live"


@cluster_only
def test_two_drivers_on_one_store(begin, tmp_path):
    "Every run is made once; both get all records"
    c = begin()
    both = [driver(c, .1), driver(c, .1)]
    for d in both:
        out, _ = d.communicate(timeout=300)
        assert d.returncode == 0, out
    assert lines().missing(PLAN) == [] and all(len(pids) == 1 for pids in begun(c.home).values()) and len(begun(c.home)) == len(PLAN)


@cluster_only
def test_workers_that_cannot(tmp_path, monkeypatch):
    """One line each: without the data, with other data, with another store, with another code, without the package.

    A worker that can makes all runs; where none can, that is the error.
    """
    monkeypatch.setattr(executors, "PATIENCE", 2.)
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path / "runs"))
    c, said = Cluster(tmp_path).ready(tmp_path / "runs", workers=0), []
    try: _workers_that_cannot(c, said, tmp_path)
    finally: c.end()


def _workers_that_cannot(c, said, tmp_path):
    (tmp_path / "data.toml").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "sitecustomize.py").write_text(
        "import os, sys, pathlib\nreal = pathlib.Path.read_text\n"
        "def other(self, *a, **k):\n"
        "    if self.name != 'data.toml': return real(self, *a, **k)\n"
        "    if os.environ['BAD'] == 'lacks': raise FileNotFoundError(f'no {self.name}')\n"
        "    return 'theirs'\n"
        "pathlib.Path.read_text = other\n"
        "if os.environ['BAD'] == 'store':\n"
        "    def unseen(self, *a, **k):\n"
        "        if self.name == 'driver': raise FileNotFoundError\n"
        "        return real(self, *a, **k)\n"
        "    pathlib.Path.read_text = unseen\n"
        "if os.environ['BAD'] == 'code':\n"
        "    def edited(self, *a, **k): return real(self, *a, **k) + ('\\nedited = 1\\n' if self.name == 'training.py' else '')\n"
        "    pathlib.Path.read_text = edited\n")
    path = f"{tmp_path / 'bad'}{os.pathsep}{ROOT}{os.pathsep}{ROOT / 'tests'}"
    for bad in ("lacks", "others", "store", "code"): c.worker("--name", bad, BAD=bad, PYTHONPATH=path)
    c.worker("--name", "package", PYTHONPATH=str(ROOT))
    with pytest.raises(OSError, match="no worker can make these runs") as told: lines(said, corpus=str(tmp_path / "data.toml")).run_all(PLAN, scheduler=c.address)
    c.worker("--name", "good")
    lines(said, corpus=str(tmp_path / "data.toml")).run_all(PLAN, scheduler=c.address)
    for text in ("it lacks the data (no data.toml)", "its data are others: data: ", "it does not see the runs in", "another version of mkdcls (0.",
                 "it cannot take this plan up (ModuleNotFoundError"):
        assert any("is left out" in line and text in line for line in said) and text in str(told.value), (text, said)
    assert all("\n" not in line for line in said)
    assert {pid for pids in begun(c.home).values() for pid in pids} == {str(c.processes[-1].pid)}


class OnGpu(SlowLines):
    "Asks for a GPU, and computes on the CPU"
    def again(self, device="cpu"):
        assert device == "cuda"
        return super().again("cpu")


@cluster_only
def test_gpus_are_resources(begin, tmp_path, monkeypatch):
    "With DEVICE=cuda only workers that offer a GPU take part, and the machine of the command needs none"
    c, said = begin(), []
    gpu = []
    def say(text):  # the worker with a GPU comes when it is missed
        said.append(text)
        if "waiting for the first" in text and "GPU" in text: gpu.append(c.worker("--resources", "GPU=1"))
    monkeypatch.setenv("MKDCLS_SCHEDULER", c.address)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    plan = [(r, 0) for r in ROWS]
    assert len(OnGpu("smoke", device="cuda", say=say).run_all(plan)) == len(plan)
    gpu[0].kill()
    gpu[0].wait()
    assert {pid for pids in begun(c.home).values() for pid in pids} == {str(gpu[0].pid)} and len(said) == 1


# ---- without a cluster

def test_where_dask_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"SCHEDULER=tcp://host:8786: this needs .*`distributed`.*pip install .*\[cluster\]"): scheduler_named("tcp://host:8786")
    assert scheduler_named("") == ""
    monkeypatch.setenv("MKDCLS_SCHEDULER", "tcp://host:1")
    with pytest.raises(ValueError, match="SCHEDULER=tcp://host:1"): scheduler_named()


@cluster_only
def test_a_scheduler_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path))
    with pytest.raises(ValueError, match="an address such as tcp://host:8786"): scheduler_named("host")
    monkeypatch.setattr(executors, "ANSWER", 1.)
    with pytest.raises(OSError, match="SCHEDULER=tcp://127.0.0.1:9: no scheduler answers there"):
        lines().run_all(PLAN, scheduler="tcp://127.0.0.1:9")


def test_names_of_devices(monkeypatch):
    "cuda:1 is the second of several; what is not there is told, unless the GPUs are a cluster's"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(device_of(n)) for n in ("auto", "cpu", "cuda", "cuda:1")] == ["cuda", "cpu", "cuda", "cuda:1"]
    with pytest.raises(ValueError, match="torch finds 2 here, cuda:0 to cuda:1"): device_of("cuda:2")
    for wrong in ("gpu", "cuda:", "cuda:-1", "CUDA", ""):
        with pytest.raises(ValueError, match="choose auto, cpu or cuda"): device_of(wrong)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="torch finds none here"): device_of("cuda")
    assert str(device_of("auto")) == "cpu"
