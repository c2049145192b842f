"""The one pool of worker processes: spawned, deaf to Ctrl-C, gone when the process that began them is, ended by any
exception.

Everything that starts processes starts them here: features, prepared corpora, runs. A worker imports this package and
not the script (or notebook) that began it, so a script needs no `if __name__ == "__main__":` and may come from standard
input; only work that is itself defined in the script has to import it again.
"""
from __future__ import annotations

import ctypes
import multiprocessing.resource_tracker
import multiprocessing.spawn
import os
import pickle
import signal
import sys
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import current_process, get_context, parent_process

ENDED = ("a worker was ended from outside, mostly for want of memory: run the same command with fewer workers; "
         "what was finished is kept")
UNGUARDED = ("a worker was ended: this script starts processes for work that it defines itself, "
             "and each of them runs the script again; put what it does "
             "at its end under `if __name__ == \"__main__\":`, or give workers=1")
NO_FILE = ("this script defines work for other processes itself, and is no file that they could read: "
           "save it as one, or give workers=1")
_mine = {}  # of a worker: what went wrong at its beginning


# ---- in the worker

def leave_with_parent():
    "This process ends when the one that began it does, even where that one was killed"
    def follow():
        parent_process().join()
        os._exit(1)
    threading.Thread(target=follow, daemon=True).start()
    # Linux: at once, even in the midst of an import; elsewhere the thread above
    try: ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    except (AttributeError, OSError, TypeError): pass
    if os.name == "posix" and os.getppid() != parent_process().pid: os._exit(1)


def keep_memory() -> bool:
    """Freed memory stays with this process, for its next arrays. True where the C library can be told so (glibc)

    Training frees and asks for the same large arrays at every step. glibc gives those at the end of its heap, and above
    some size each one, back to the system, which hands the next ones out as pages of zeros: with encoders as small as
    those of preset laptop that is a tenth of a step and more. What is computed is the same. Arrays above 32 MB go back
    as before.
    """
    try: mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError): return False
    trim, pad, mmap = -1, -2, -3  # M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD of malloc.h
    return bool(mallopt(mmap, 32 << 20) and mallopt(trim, 2**31 - 1) and mallopt(pad, 64 << 20))


def _begin(packed: bytes, inherited: tuple):
    "First of all the watch over the parent, then what may take its time: imports, the caller's own beginning"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    leave_with_parent()
    keep_memory()
    try:
        begin, args = pickle.loads(packed)
        if begin is not None: begin(*args, *inherited)
    except Exception as e: _mine["failed"] = e


def _work(work, *args):
    if "failed" in _mine: raise _mine["failed"]
    return work(*args)


def one_thread():
    "A worker that computes on one thread"
    import torch
    torch.set_num_threads(1)


def watched_worker():
    "The beginning of a worker whose pool is not ours: it ends with its parent and computes on one thread"
    leave_with_parent()
    one_thread()


# ---- in the process that begins them

_turn = threading.Lock()


@contextmanager
def _beginning(script: bool):
    """Processes begun here leave Ctrl-C to this one from their first moment

    Without `script` they do not import what this one runs.
    """
    multiprocessing.resource_tracker.ensure_running()  # it would open the gate that is shut below
    real = multiprocessing.spawn.get_preparation_data
    def bare(name):
        return {k: v for k, v in real(name).items() if k not in ("init_main_from_name", "init_main_from_path")}
    with _turn:
        before = signal.pthread_sigmask(signal.SIG_BLOCK,
                                        {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else None
        if not script: multiprocessing.spawn.get_preparation_data = bare
        try: yield
        finally:
            multiprocessing.spawn.get_preparation_data = real
            if before is not None: signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Pool:
    """Worker processes, in a `with` block: whatever exception leaves it ends them at once.

    `begin(*args, *inherited)` is called in each worker before its first job; what it raises is what every job raises.
    Queues are `inherited`.
    """

    def __init__(self, workers: int, begin=None, args: tuple = (), inherited: tuple = ()):
        if getattr(current_process(), "_inheriting", False):  # a worker that runs an unguarded script again
            os._exit(1)  # the first one says why
        packed = pickle.dumps((begin, args))
        self._script, self._known = b"__main__" in packed, None
        self._pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin,
                                         initargs=(packed, inherited))

    def submit(self, work, *args) -> Future:
        "`work(*args)` in a worker, soon"
        if work is not self._known: self._known, self._script = work, self._script or b"__main__" in pickle.dumps(work)
        file = getattr(sys.modules["__main__"], "__file__", None)
        if self._script and file and not os.path.exists(file): raise ValueError(NO_FILE)
        try:
            with _beginning(self._script): return self._pool.submit(_work, work, *args)
        except BrokenProcessPool as e: raise self._ended() from e

    def result(self, future: Future):
        "What a job gave; an error where its worker was ended from outside"
        try: return future.result()
        except BrokenProcessPool as e: raise self._ended() from e

    def _ended(self): return OSError(UNGUARDED if self._script else ENDED)

    def __enter__(self): return self

    def __exit__(self, kind, *_):
        if kind is not None:
            for p in list((self._pool._processes or {}).values()): p.kill()
        self._pool.shutdown(wait=True, cancel_futures=True)


def each(work, jobs: list[tuple], workers: int, begin=None, args: tuple = ()):
    "`work(*job)` of every job, yielded as they are finished; here for one worker, else in processes, a few jobs ahead"
    if workers < 2:
        for job in jobs: yield work(*job)
        return
    left = iter(jobs)
    with Pool(workers, begin, args) as pool:
        running = {pool.submit(work, *job) for _, job in zip(range(workers + 1), left)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done: yield pool.result(future)
            running |= {pool.submit(work, *job) for _, job in zip(done, left)}
