"""Runs on a Dask cluster: separate processes of this machine, a scheduler and two workers of one thread each.

Two kinds of row: those of Table 1 at smoke size, for equality with the pool; and a slow line, of which a test may say
when it has begun, for what happens when something is killed in the midst of it.
"""
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
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
    settings: Settings = field(default_factory=lambda: Settings(epochs=4, lr=.1, drops=()))


ROWS = dict(teacher=Slow(), a=Slow(("teacher",)), b=Slow(("teacher",)), c=Slow(("a", "b")))
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
            time.sleep(float(os.environ.get("SLOW", 0)))
            return dict(total=(line.weight - goal).square().sum())
        curves = train(line, torch.optim.SGD(line.parameters(), lr=.1), self.rows[row].settings, seed, lambda epoch: [torch.zeros(1)] * 2, loss, **kept)
        write_weights(folder / "model.safetensors", line)
        return Outcome(curves=curves, metrics=dict(weight=line.weight.item()), params=1, utterances=dict(train=2, test=1)), pd.DataFrame(dict(u=["a"]))


# ---- a cluster of processes

class Cluster:
    "A scheduler and workers as processes of their own; every process begun here is ended at the end"

    def __init__(self, folder, home, slow=.05):
        self.folder, self.home, self.slow, self.processes, self.port = folder, home, slow, [], 0
        self.start()

    def begin(self, *args, **env):
        base = {k: v for k, v in os.environ.items() if k != "MKDCLS_SCHEDULER"}
        base |= {"MKDCLS_RUNS": str(self.home), "SLOW": str(self.slow), "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
        log = open(self.folder / f"log{len(self.processes)}.txt", "w")
        p = subprocess.Popen([sys.executable, "-m", *args], env=base | env, cwd=self.folder, stdout=log, stderr=log)
        self.processes.append(p)
        return p

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
        return self.begin("distributed.cli.dask_worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0", "--host", "127.0.0.1", *more, **env)

    def end(self):
        for p in self.processes:
            if p.poll() is None: p.kill()
        for p in self.processes: p.wait(30)


@pytest.fixture
def begin(tmp_path, monkeypatch):
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    begun = []
    def cluster(workers=2, **more):
        begun.append(c := Cluster(tmp_path, tmp_path / "runs", **more))
        for _ in range(workers): c.worker()
        return c
    yield cluster
    for c in begun: c.end()


def lines(said=None, **more): return SlowLines("smoke", device="cpu", say=(said if said is not None else []).append, **more)


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


def until(what, seconds=60):
    end = time.monotonic() + seconds
    while not (got := what()):
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(.05)
    return got


DRIVER = """
import sys
from test_cluster import PLAN, lines
lines(sys.stdout, real="") if False else None
said = type("Said", (), {"append": staticmethod(lambda text: print(text, flush=True))})
try: lines(said).run_all(PLAN, scheduler=sys.argv[1])
except KeyboardInterrupt: sys.exit(130)
except OSError as e: sys.exit(str(e))
"""


def driver(c):
    "A driver in a process of its own"
    (c.folder / "driver.py").write_text(DRIVER)
    base = os.environ | {"MKDCLS_RUNS": str(c.home), "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    p = subprocess.Popen([sys.executable, str(c.folder / "driver.py"), c.address], env=base, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
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
