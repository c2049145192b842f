"""The faults that a folder, a corpus, a disk or a second process can bring, and how each of them must end.

A *kind* is one way in which something goes wrong. It must end in one of two ways:

- **survived**: what is asked for comes out as if nothing had happened (or is made again, with one line that says so);
- **refused well**: an exception of ours, or a command that ends with another code than 0, in one line that says what, where and what to do.

Everything else is a failure: *silent* (a fault is not noticed, the result is another one), *outside* (something is written, changed or removed outside
the folders that were given), *traceback* (a command shows its insides), *hang* (it does not end).

How to write kinds:

    from faults.harness import kinds

    @kinds("checkpoints", {"cut in half": lambda b: b[:len(b) // 2], "empty": lambda b: b""})
    def test_a_damaged_checkpoint(fault, kind, tmp_path):          # `kind` is the value of the dictionary, its name is the test's id
        file.write_bytes(kind(file.read_bytes()))
        fault.survives(lambda: train(file), same_as=whole, said="is made again")    # or:
        fault.refuses(lambda: load(file), "checkpoint", "delete it")

    @kinds("commands", {"no such sheet": ["table", "--sheet", "x"]})
    def test_a_command(fault, kind): fault.command(kind, "choose one of", code=2)

`@kinds("family")` alone, without a dictionary, makes the test itself one kind. Fixtures and `monkeypatch` work as everywhere. `fault.run(argv)` starts a
process of its own; `fault.command(argv)` calls the command line in this process, which costs no import of torch. Files may be written in the test's
`tmp_path` and in what `fault.allow(folder)` adds. pytest prints the counts of each family at its end.
"""
from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 30  # seconds that a kind may take
BAD = ("silent", "outside", "traceback", "hang")
PLURAL = {"survived": "survived", "refused": "refused well", "silent": "silent", "outside": "outside", "traceback": "tracebacks", "hang": "hangs"}


class Silent(AssertionError): "A fault that nobody noticed"
class Outside(AssertionError): "Something was written where nothing may be"
class Traceback(AssertionError): "A command showed a traceback, or more than it has to say"
class Hang(BaseException): "It did not end in time"


class Ended(NamedTuple):
    "How a command ended"
    code: int
    out: str
    err: str


def kinds(family: str, cases: dict | None = None):
    "Marks a test as kinds of a family: one for each entry of `cases` (name → what the test takes as `kind`), or the test itself"
    def mark(test):
        if cases is not None: test = pytest.mark.parametrize("kind", list(cases.values()), ids=list(cases))(test)
        return pytest.mark.faults(family)(test)
    return mark


# ---- what is written where

_WRITES = {"os.mkdir": (0,), "os.remove": (0,), "os.rmdir": (0,), "os.rename": (0, 1), "os.link": (1,), "os.symlink": (1,), "os.truncate": (0,)}
_watch = threading.local()


def _hook(event, args):
    seen = getattr(_watch, "seen", None)
    if seen is None: return
    if event == "open":
        path, mode, flags = (*args, None, None)[:3]
        if isinstance(path, int) or path is None: return
        if not (any(c in mode for c in "wax+") if isinstance(mode, str) else (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)): return
        seen.append(path)
    elif event in _WRITES: seen += [args[i] for i in _WRITES[event]]


_hooked = []


def _paths(seen):
    for p in seen:
        if isinstance(p, int): continue
        try: yield Path(os.path.realpath(os.fsdecode(p)))
        except (ValueError, TypeError): pass  # a name with a NUL names no file


def snapshot(*folders: Path) -> dict[str, tuple]:
    "Size and time of change of every file below, history and compiled Python aside"
    found = {}
    for top in folders:
        for at, dirs, files in os.walk(top):
            dirs[:] = [d for d in dirs if d not in (".git", "__pycache__", ".venv", ".pytest_cache", ".ruff_cache", ".hypothesis", ".ipynb_checkpoints")]
            for f in files:
                try: s = os.lstat(p := os.path.join(at, f))
                except OSError: continue
                found[p] = s.st_size, s.st_mtime_ns
    return found


# ---- how a kind ended

def one_line(text: str, says=()) -> str:
    "The last line of what was said, after progress; with every word of `says` in it"
    if "Traceback (most recent call last)" in text: raise Traceback(text[-1500:])
    lines = [l for l in re.split(r"[\r\n]+", text) if l.strip()]
    if not lines: raise Silent("nothing was said")
    for word in says:
        if not re.search(word, lines[-1]): raise AssertionError(f"the line does not say {word!r}: {lines[-1]}")
    return lines[-1]


class Fault:
    "What a kind does, watched; made by the fixture `fault`"

    def __init__(self, family: str, folder: Path):
        self.family, self.folder, self.outcome, self.allowed = family, Path(folder), None, [Path(folder)]

    def allow(self, *folders):
        "May be written to besides the test's own folder"
        self.allowed += map(Path, folders)

    def _ends(self, outcome: str):
        if self.outcome != "refused": self.outcome = outcome

    @contextmanager
    def watched(self, limit: float = LIMIT):
        "A time limit, and an eye on what Python opens for writing, makes, renames and removes"
        if not _hooked: _hooked.append(sys.addaudithook(_hook) or True)
        def late(*_): raise Hang(f"not over after {limit} s")
        main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGALRM, late) if main else None
        if main: signal.setitimer(signal.ITIMER_REAL, limit)
        _watch.seen = []
        try: yield
        except Hang as e:
            self.outcome = "hang"
            raise AssertionError(str(e)) from None
        finally:
            if main: signal.setitimer(signal.ITIMER_REAL, 0); signal.signal(signal.SIGALRM, before)
            seen, _watch.seen = _watch.seen, None
            self._inside(_paths(seen))

    def _inside(self, paths):
        passing = (Path("/dev"), Path("/proc"))
        home, scratch = [Path(os.path.realpath(a)) for a in self.allowed], Path(os.path.realpath(tempfile.gettempdir()))
        bad = []
        for p in paths:
            if any(p == a or a in p.parents for a in (*home, *passing)) or {"__pycache__", ".cache", ".config"} & {*p.parts}: continue
            if scratch in p.parents and re.match(r"tmp|torch|pymp|matplotlib|ipython", p.relative_to(scratch).parts[0]): continue  # of libraries
            bad.append(str(p))
        if bad:
            self.outcome = "outside"
            raise Outside(f"written outside {home[0]}: {', '.join(sorted(set(bad))[:5])}")

    def refuses(self, call, *says: str, by=(ValueError, OSError), limit: float = LIMIT) -> str:
        "An exception of ours, one line that says every word of `says` (regular expressions)"
        with self.watched(limit):
            try: result = call()
            except by as e: text = str(e)
            except Hang: raise
            except BaseException as e:
                self.outcome = "traceback"
                raise Traceback(f"{type(e).__name__} is none of ours: {e}") from e
            else:
                self.outcome = "silent"
                raise Silent(f"nothing was refused; it gave {str(result)[:200]}")
        try: self._said(text, says)
        except AssertionError: self.outcome = self.outcome or "traceback"; raise
        self._ends("refused")
        return text

    def _said(self, text, says):
        if "\n" in text.strip(): raise Traceback(f"more than one line:\n{text}")
        if len(text) < 15: raise Traceback(f"says too little: {text!r}")
        for word in says:
            if not re.search(word, text): raise AssertionError(f"the line does not say {word!r}: {text}")

    def survives(self, call, same_as=None, equal=None, said: str | None = None, heard: list | None = None, limit: float = LIMIT):
        "What `call` gives, equal to `same_as` (by `equal(a, b)`, else ==); `heard` is a list in which a line with `said` in it must stand"
        with self.watched(limit): result = call()
        if same_as is not None and not (equal or (lambda a, b: a == b))(result, same_as):
            self.outcome = "silent"
            raise Silent("ended as if nothing had happened, with another result")
        if said is not None and not any(re.search(said, line) for line in heard or ()):
            self.outcome = "silent"
            raise Silent(f"nobody said {said!r}: {heard}")
        self._ends("survived")
        return result

    def command(self, argv: list[str], *says: str, code: int = 2, limit: float = LIMIT) -> Ended:
        "The command line `mkdcls argv`, in this process: its exit code, one line on stderr that says every word; code 0 is a fault survived"
        from mkdcls.results.cli import main
        out, err = io.StringIO(), io.StringIO()
        before = dict(os.environ)
        try:
            with self.watched(limit), redirect_stdout(out), redirect_stderr(err):
                try: got = main([str(a) for a in argv])
                except SystemExit as e: got = e.code if isinstance(e.code, int) else 1
                except Hang: raise
                except BaseException as e:
                    self.outcome = "traceback"
                    raise Traceback(f"{type(e).__name__} left the command: {e}") from e
        finally: os.environ.clear(); os.environ.update(before)
        return self._ended(Ended(got, out.getvalue(), err.getvalue()), says, code)

    def run(self, argv: list[str], *says: str, code: int | None = 2, limit: float = 120, stdin: str | None = None, cwd=None, env: dict | None = None,
            python: bool = True) -> Ended:
        "A process of its own: `python argv` in the test's folder; the project's files may not change"
        before, project = snapshot(ROOT), dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
        with subprocess.Popen([sys.executable, *map(str, argv)] if python else [str(a) for a in argv], cwd=cwd or self.folder, env=project | (env or {}),
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True) as p:
            try: out, err = p.communicate(stdin or "", timeout=limit)
            except subprocess.TimeoutExpired:
                os.killpg(p.pid, signal.SIGKILL)
                self.outcome = "hang"
                raise AssertionError(f"not over after {limit} s: {argv}") from None
        self._unchanged(before)
        return self._ended(Ended(p.returncode, out, err), says, code)

    def _unchanged(self, before: dict):
        after = snapshot(ROOT)
        self._inside(Path(p) for p in {*before, *after} if before.get(p) != after.get(p))

    def _ended(self, done: Ended, says, code) -> Ended:
        if code is not None and done.code != code:
            self.outcome = "silent" if done.code == 0 else self.outcome
            raise AssertionError(f"exit code {done.code}, wanted {code}:\n{done.out[-500:]}\n{done.err[-1500:]}")
        try: one_line(done.err if done.code else done.out + done.err, says)
        except Traceback: self.outcome = "traceback"; raise
        self._ends("refused" if done.code else "survived")
        return done


# ---- counts, at the end of a session

def summary(reports) -> list[str]:
    "Lines with the counts of each family and of all, from the reports of a session"
    counts: dict[str, dict[str, int]] = {}
    for r in reports:
        told = dict(r.user_properties).get("fault")
        if told is None: continue
        family, outcome = told
        row = counts.setdefault(family, dict.fromkeys(PLURAL, 0))
        if outcome in row: row[outcome] += 1
        else: row["other"] = row.get("other", 0) + 1
    if not counts: return []
    def line(name, c):
        return f"{name}: {sum(c.values())} kinds: " + ", ".join(f"{c[k]} {w}" for k, w in PLURAL.items()) + f", {c.get('other')} not judged" * bool(c.get("other"))
    total = {k: sum(c.get(k, 0) for c in counts.values()) for k in (*PLURAL, "other")}
    return [*(line(f"  {f}", counts[f]) for f in sorted(counts)), line("faults", total)]
