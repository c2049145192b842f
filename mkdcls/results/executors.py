"""Where the runs of a plan are made: in processes of this machine, or on the workers of a Dask cluster.

An executor takes jobs (row, seed) and says which are done; `carry_out` gives it each job after those it stands on. What
a job makes goes through the store, never through the executor, so that both leave the same files and a plan begun with
one may be finished with the other.
"""
from __future__ import annotations

import logging
import os
import pickle
import queue
import shutil
import threading
import time
import uuid
from abc import ABC, abstractmethod
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from mkdcls import __version__
from mkdcls.engine.codehash import PACKAGE, code_now, short
from mkdcls.engine.pool import Pool
from mkdcls.engine.store import differences, home, writable, write_text

Job = tuple[str, int]


class Executor(ABC):
    "Makes jobs somewhere; a `with` block, which leaves nothing running behind"

    @abstractmethod
    def free(self) -> bool:
        "Is there room for another job now?"

    @abstractmethod
    def submit(self, job: Job):
        "Begin a job"

    @abstractmethod
    def collect(self) -> tuple[set[Job], set[Job]]:
        "The jobs done since it was last asked, and those that must be submitted again; waits a moment for news"

    def __enter__(self): return self

    @abstractmethod
    def __exit__(self, *why):
        "What is still going on is ended"


def carry_out(runner, todo: list[Job], executor: Executor):
    "Every job of a plan after those it stands on, as many at a time as the executor takes"
    left, going = list(todo), set()
    with executor:
        while left or going:
            for job in [j for j in left if not {(p, j[1]) for p in runner.parents(j[0])} & {*left, *going}]:
                if not executor.free(): break
                left.remove(job)
                if runner.record(*job): continue  # somebody else has made it in the meantime
                executor.submit(job)
                going.add(job)
            done, lost = executor.collect()
            going -= done | lost
            left = [j for j in todo if j in lost or j in left]


_mine = {}  # of a worker: its runner


def _throttled(tell, every: float = .5):
    "Progress is told twice a second at most, and its end always"
    told = [0.]
    def progress(*args):
        if args[1] == args[2] or time.monotonic() - told[0] > every:
            told[0] = time.monotonic()
            tell("progress", args)
    return progress


# ---- processes of this machine

class PoolExecutor(Executor):
    "Worker processes here, each with its runner and its share of the threads"

    def __init__(self, runner, workers: int, threads: int):
        self.runner, self.workers, self.going = runner, workers, {}
        self.news = get_context("spawn").Queue()
        self.pool = Pool(workers, _begin, (*runner.again(), threads, runner.commit), (self.news,))

    def free(self) -> bool:
        "Is a process idle?"
        return len(self.going) < self.workers

    def submit(self, job: Job):
        "Begin a job"
        self.going[self.pool.submit(_one, *job)] = job

    def collect(self) -> tuple[set[Job], set[Job]]:
        "What is done; an error ends all"
        done = set()
        for future in wait(self.going, timeout=.2, return_when=FIRST_COMPLETED)[0]:
            done.add(self.going.pop(future))
            self.pool.result(future)
        self._pass_on()
        return done, set()

    def _pass_on(self):
        while True:
            try: kind, args = self.news.get_nowait()
            except queue.Empty: return
            (self.runner.say if kind == "say" else self.runner.progress)(*args)

    def __exit__(self, *why):
        try: self.pool.__exit__(*why)
        finally: self._pass_on()


def _begin(kind, same, threads, commit, news):
    "A worker: its threads, its runner"
    torch.set_num_threads(threads)
    tell = lambda what, args: news.put((what, args))
    _mine["runner"] = kind(**same, say=lambda text: tell("say", (text,)), progress=_throttled(tell))
    _mine["runner"].commit = commit


def _one(row, seed): _mine["runner"].run(row, seed)


# ---- a Dask cluster

PATIENCE = 15.  # seconds until a file that one machine wrote must be seen by another
ANSWER = 10.  # seconds for a scheduler to answer
LOOK = 1.  # seconds between two looks at which workers there are, and at whether the plan still stands
TRIES = 3  # workers that a job may take with it
SCHEDULER = "MKDCLS_SCHEDULER"  # the environment variable
NOT_HERE = ("SCHEDULER={at}: this needs Dask's package `distributed`, which is not installed here: "
            "pip install -c constraints.txt -e \".[cluster]\"")


class Stopped(Exception):
    "The plan that a worker makes a run for is gone"


@dataclass(frozen=True)
class Sent:
    "What a worker elsewhere is told of a plan"
    plan: str  # of its folder
    home: str  # the folder of all runs, as the driver sees it
    text: str  # in the driver's token
    modules: tuple  # that define the runner
    code: str  # hash of these, and of all that they import
    version: str
    packed: bytes  # class and arguments of the runner
    commit: str
    keys: tuple  # (row, seed, identity, key): data of the same names must be the same data


def scheduler_named(text: str | None = None) -> str:
    "The scheduler that is asked for, here or by the environment; empty: none. One line where Dask is not installed"
    text = os.environ.get(SCHEDULER, "") if text is None else text
    if text:
        try: import distributed  # noqa: F401
        except ImportError: raise ValueError(NOT_HERE.format(at=text)) from None
        if "://" not in text and not Path(text).is_file():
            raise ValueError(f"SCHEDULER={text}: an address such as tcp://host:8786, or the file that "
                             "`dask scheduler --scheduler-file` wrote")
        if "://" not in text: text = str(Path(text).resolve())  # a notebook runs in a folder of its own
    return text


def modules_of(kind: type) -> tuple[str, ...]:
    "The modules of this package that define a kind of runner"
    found = {__name__, *(k.__module__ for k in kind.__mro__)}
    return tuple(sorted(m for m in found if m.split(".")[0] == PACKAGE.name))


class DaskExecutor(Executor):
    """The workers of a Dask cluster, one run at a time in each.

    A worker takes part after it has shown that it has this code, sees the store and has the data; one that cannot is
    named in one line and left out. Workers may join and go at any time; a run whose worker goes is given to another,
    which resumes it. On a GPU, only workers that offer the resource GPU take part.
    """

    def __init__(self, runner, scheduler: str, todo: list[Job], gpu: bool):
        from distributed import Client
        self.runner, self.at, self.gpu = runner, scheduler, gpu
        self.jobs, self.checks, self.idle, self.out, self.tries = {}, {}, [], {}, {}
        self.seen, self.other, self.looked, self.told, self.news = {}, set(), 0., set(), queue.SimpleQueue()
        self._levels = _quiet()  # what went wrong is told in a line of ours
        try:
            self.client = Client(timeout=ANSWER, set_as_default=False,
                                 **({"address": scheduler} if "://" in scheduler else {"scheduler_file": scheduler}))
        except (OSError, ValueError) as e:
            _restore(self._levels)
            raise OSError(f"SCHEDULER={scheduler}: no scheduler answers there ({' '.join(str(e).split())[:200]}): "
                          "start it (`dask scheduler`), or give its address") from e
        kind, same = runner.again("cuda" if gpu else "cpu")
        plan, text = uuid.uuid4().hex, uuid.uuid4().hex
        self.folder = writable(home() / "plans" / plan)
        write_text(self.folder / "driver", text)
        keys = tuple((*job, *runner.key(*job)) for job in todo if job[1] == todo[0][1])
        modules = modules_of(kind)
        self.sent = Sent(plan, str(home()), text, modules, short(code_now(*modules)), __version__,
                         pickle.dumps((kind, same)), runner.commit, keys)
        self.client.subscribe_topic(plan, lambda event: self.news.put(event[1]))

    # ---- which workers take part

    def _say(self, text: str):
        if text not in self.told: self.runner.say(text)
        self.told.add(text)

    def _look(self) -> set[Job]:
        "Workers that joined are asked whether they can; the jobs of those that went are lost"
        if time.monotonic() - self.looked < LOOK: return set()
        self.looked = time.monotonic()
        try: now = self.client.scheduler_info(n_workers=-1)["workers"]
        except (OSError, ValueError, RuntimeError) as e: raise self._gone() from e
        lost = set()
        for address in [a for a in self.seen if a not in now]: lost |= self._went(address)
        for address in [a for a in now if a not in self.seen]:
            self.seen[address] = int(now[address]["nthreads"])
            offers = now[address].get("resources", {}).get("GPU", 0)
            if self.gpu and not offers: self.other.add(address)
            else: self.checks[self._send(address, _ready, self.sent, self.seen[address])] = address
            if offers and not self.gpu: self._say("There are workers with a GPU; DEVICE=cuda would make use of it.")
        if not self.seen: self._say(f"There is no worker yet at {self.at}: waiting for the first.")
        elif len(self.other) == len(self.seen):
            self._say(f"No worker at {self.at} offers a GPU (start one with --resources GPU=1): waiting for the first.")
        elif self.out and len(self.out) + len(self.other) == len(self.seen):
            raise OSError("no worker can make these runs: " + "; ".join(f"{a}: {w}" for a, w in self.out.items())[:900])
        return lost

    def _went(self, address: str) -> set[Job]:
        self.seen.pop(address)
        self.out.pop(address, None)
        self.other.discard(address)
        self.idle = [a for a in self.idle if a != address]
        for future in [f for f, a in self.checks.items() if a == address]:
            self.checks.pop(future)
            future.cancel()
        gone = {f: job for f, (job, a) in self.jobs.items() if a == address}
        for future, job in gone.items():
            self.jobs.pop(future)
            future.cancel()
            self.tries[job] = self.tries.get(job, 0) + 1
            name = f"row {job[0]}, seed {job[1]}"
            if self.tries[job] >= TRIES:
                raise OSError(f"{name}: {TRIES} workers ended while they made it, mostly for want of memory: "
                              "give them more; what was finished is kept")
            self._say(f"worker {address} is gone; another goes on with {name}")
        return set(gone.values())

    def _leave_out(self, address: str, why: str):
        self.out[address] = why
        self.idle = [a for a in self.idle if a != address]
        self._say(f"worker {address} is left out: {why}")

    def _send(self, address: str, work, *args):
        return self.client.submit(work, *args, workers=[address], allow_other_workers=False, pure=False, retries=0,
                                  key=f"{work.__name__.strip('_')}-{uuid.uuid4().hex}",
                                  **({"resources": {"GPU": 1}} if self.gpu else {}))

    def _gone(self) -> OSError:
        return OSError(f"the scheduler at {self.at} no longer answers: what was finished is kept; "
                       "start it again, and the same command goes on")

    def _checked(self, future, address: str):
        try: why = future.result()
        except Exception as e:  # it could not even read the question
            why = f"it cannot take this plan up ({type(e).__name__}: {' '.join(str(e).split())[:200]})"
        if not why and not self._arrived(self.folder / _file_of(address)):
            why = f"what it writes to the folder of runs does not arrive in {home()}"
        if why: self._leave_out(address, why)
        else: self.idle.append(address)

    def _arrived(self, file: Path) -> bool:
        until = time.monotonic() + PATIENCE
        while not (file.is_file() and file.read_text() == self.sent.text):
            if time.monotonic() > until: return False
            time.sleep(.2)
        return True

    # ---- jobs

    def free(self) -> bool:
        "Is a worker that can idle?"
        return bool(self.idle)

    def submit(self, job: Job):
        "Begin a job on an idle worker"
        address = self.idle.pop(0)
        self.jobs[self._send(address, _run, self.sent, self.seen[address], *job)] = job, address

    def collect(self) -> tuple[set[Job], set[Job]]:
        "What is done, and what must be made elsewhere"
        self._pass_on()
        if self.client.status != "running": raise self._gone()
        done, lost = set(), self._look()
        ready = [f for f in (*self.checks, *self.jobs) if f.done()]
        if not ready: time.sleep(.1)
        for future in ready:
            if future in self.checks: self._checked(future, self.checks.pop(future))
            else: (done if self._made(future) else lost).add(self._job(future))
        return done, lost

    def _job(self, future) -> Job: return self.jobs.pop(future)[0]

    def _made(self, future) -> bool:
        "Is it done? If not, another worker shall try; a mistake that every worker would make is raised"
        job, address = self.jobs[future]
        name = f"row {job[0]}, seed {job[1]}"
        if future.status == "finished":
            until = time.monotonic() + PATIENCE
            while not self.runner.record(*job):  # a network's file system may show it late
                if time.monotonic() > until: raise OSError(f"{name} was made by {address}, but does not arrive here")
                time.sleep(.2)
            self.idle.append(address)
            return True
        why = future.exception() if future.status == "error" else None
        if self.client.status != "running": raise self._gone()
        self.tries[job] = self.tries.get(job, 0) + 1
        if why is not None and (not isinstance(why, OSError) or self.tries[job] >= TRIES): raise why
        self.seen.setdefault(address, 1)
        self._leave_out(address, f"{name}: {' '.join(str(why or 'it dropped the run').split())}")
        return False

    def _pass_on(self):
        while True:
            try: kind, args = self.news.get_nowait()
            except queue.Empty: return
            (self.runner.say if kind == "say" else self.runner.progress)(*args)

    def __exit__(self, *_):
        shutil.rmtree(self.folder, ignore_errors=True)  # a worker in the midst of a run sees that, and stops
        try:
            if there := self.client.status == "running":
                for future in (*self.checks, *self.jobs): future.cancel()
            self._pass_on()
            self.client.close(timeout=2)
            if there: _restore(self._levels)
        except (OSError, RuntimeError): pass  # the scheduler is gone: nothing to take leave of


def _quiet() -> dict[str, int]:
    loggers = [n for n in logging.root.manager.loggerDict if n.split(".")[0] == "distributed"]
    levels = {n: logging.getLogger(n).level for n in loggers}
    for n in loggers: logging.getLogger(n).setLevel(logging.CRITICAL + 1)
    return levels


def _restore(levels: dict[str, int]):
    for n, level in levels.items(): logging.getLogger(n).setLevel(level)


# ---- in a worker of a cluster

_turn = threading.Lock()  # a worker makes one run at a time, whatever its threads and however many plans


def _file_of(address: str) -> str: return "".join(c if c.isalnum() else "-" for c in address)


def _folder_of(sent: Sent) -> Path | None:
    "The folder of a plan as this worker sees it: where the driver has it, or where MKDCLS_RUNS says"
    for at in dict.fromkeys((sent.home, os.environ.get("MKDCLS_RUNS") or sent.home)):
        folder = Path(at) / "plans" / sent.plan
        try:
            if (folder / "driver").read_text() == sent.text: return folder
        except OSError: continue
    return None


def _ready(sent: Sent, threads: int) -> str:
    "Why this worker cannot make the runs of a plan; empty where it can"
    from distributed import get_worker
    with _turn:
        torch.set_num_threads(threads)
        until = time.monotonic() + PATIENCE
        while (folder := _folder_of(sent)) is None:
            if time.monotonic() > until:
                return (f"it does not see the runs in {sent.home}: mount that folder there under the same name, "
                        "or set MKDCLS_RUNS there to where it lies")
            time.sleep(.5)
        if (here := short(code_now(*sent.modules))) != sent.code:
            return (f"it has another version of mkdcls ({__version__}, code {here}; "
                    f"wanted {sent.version}, code {sent.code})")
        try: runner = _runner_of(sent, folder)
        except OSError as e: return f"it lacks the data ({' '.join(str(e).split())})"
        except ValueError as e: return ' '.join(str(e).split())
        for row, seed, identity, key in sent.keys:
            try: mine, found = runner.key(row, seed)
            except (OSError, ValueError) as e: return f"it lacks the data ({' '.join(str(e).split())})"
            if found != key: return "its data are others: " + "; ".join(differences(identity, mine)[:2])
            try: runner.as_written(mine)
            except ValueError as e: return str(e)
        try: write_text(folder / _file_of(get_worker().address), sent.text)
        except OSError as e: return str(e)
    return ""


def _runner_of(sent: Sent, folder: Path):
    "This worker's runner of a plan; the last one is kept. Runs go where the plan's folder lies"
    os.environ["MKDCLS_RUNS"] = str(folder.parents[1])
    os.environ.pop(SCHEDULER, None)  # a worker has no cluster of its own: its GPU is here or nowhere
    if sent.plan not in _mine:
        from distributed import get_worker
        worker, looked = get_worker(), [time.monotonic()]
        tell = lambda what, args: worker.log_event(sent.plan, (what, args))
        throttled = _throttled(tell)
        def progress(*args):
            if time.monotonic() - looked[0] > LOOK:
                looked[0] = time.monotonic()
                if not (folder / "driver").exists(): raise Stopped("the plan is gone: this run waits for the next one")
            throttled(*args)
        kind, same = pickle.loads(sent.packed)
        runner = kind(**same, say=lambda text: tell("say", (text,)), progress=progress)
        runner.commit = sent.commit
        _mine.clear()
        _mine[sent.plan] = runner
    return _mine[sent.plan]


def _run(sent: Sent, threads: int, row: str, seed: int):
    "A run, in a worker that is ready"
    with _turn:
        torch.set_num_threads(threads)
        if (folder := _folder_of(sent)) is None: raise OSError(f"it no longer sees the runs in {sent.home}")
        _runner_of(sent, folder).run(row, seed)
