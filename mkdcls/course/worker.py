"""Submissions, each in a process of its own: run its cells, hand back plain answers, and no more.

`grading` starts this once, without its environment and without keys. It loads the libraries that lessons import, then
reads a job a line, forks a child for it in a fresh folder, and ends the child when its time is over. An audit hook
refuses connections, other programs, writing outside that folder, and reading of keys and answers. Python cannot
imprison a program that wants to get out: for a class that you do not trust, run `mkdcls grade` in a container.
Whatever happens here, marks are given in the other process, from plain data.
"""
from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
import tempfile
import time
from pathlib import Path

REFUSED = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.startfile",
           "pty.", "ftplib.", "smtplib.", "urllib.Request", "webbrowser.", "ctypes.", "os.kill")
CHANGING = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link", "os.symlink",
            "os.truncate", "os.utime", "shutil.")


def guard(folder: Path, secret: list[Path]) -> None:
    "Refuse, from now on, what an answer does not need"
    inside = os.path.realpath(folder) + os.sep
    hidden = [os.path.realpath(s) for s in secret]
    refuse, changing, real, fspath = REFUSED, CHANGING, os.path.realpath, os.fspath
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def place(path) -> str | None:
        if isinstance(path, int) or path is None: return None
        path = fspath(path)
        return real(path.decode(errors="replace") if isinstance(path, bytes) else path)

    def hook(event, args):
        if event == "open":
            at, mode, flags = place(args[0]), args[1], args[2]
            if at is None or at == os.devnull: return
            if any(at == h or at.startswith(h + os.sep) for h in hidden):
                raise PermissionError("while marking, keys and answers cannot be read")
            changes = any(c in mode for c in "wax+") if isinstance(mode, str) else bool((flags or 0) & writes)
            if changes and not at.startswith(inside):
                raise PermissionError("while marking, files are written in one folder only")
        elif event.startswith(changing):
            if any(isinstance(a, str | bytes | os.PathLike) and not place(a).startswith(inside) for a in args):
                raise PermissionError(f"{event} is refused while marking")
        elif event.startswith(refuse):
            raise PermissionError(f"{event} is refused while marking")
    sys.addaudithook(hook)


def limit(seconds: int) -> None:
    "Processor time, size of files, memory: where the system can"
    try: import resource
    except ImportError: return
    for what, most in ((resource.RLIMIT_CPU, 2*seconds), (resource.RLIMIT_FSIZE, 50 << 20),
                       (resource.RLIMIT_AS, 16 << 30), (resource.RLIMIT_CORE, 0)):
        try: resource.setrlimit(what, (most, most))
        except (ValueError, OSError): pass


def quieten() -> None:
    """`check` says nothing here, so that an answer cannot be searched for with it (whatever it is asked, it says yes);
    dials and players do nothing"""
    import mkdcls.course as course
    from mkdcls.course import checking, show

    def check(name, answer): return checking.Verdict(str(name), True, "not told while marking")
    def nothing(*args, **kwargs): pass
    course.check = checking.check = check
    for name in ("dial", "play"): setattr(course, name, nothing); setattr(show, name, nothing)


def answer(job: dict) -> dict:
    "Run the cells of a submission, then look at its answers"
    import matplotlib.pyplot as plt
    from mkdcls.course.checking import plain_answer
    names, stopped, found = {"__name__": "__main__"}, [], {}
    for i, code in job["cells"]:
        code = re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", code)
        try: exec(compile(code, f"<cell {i}>", "exec"), names)
        except BaseException as e: stopped.append(f"cell {i} stops with {type(e).__name__}: {str(e)[:120]}")
        plt.close("all")
    for name, need in job["needs"].items():
        try: found[name] = plain_answer(need, names.get("answer_" + name.replace(".", "_")))
        except BaseException as e: found[name] = {"unreadable": f"something that stops with {type(e).__name__}"}
    return {"answers": found, "stopped": stopped}


def in_child(job: dict, folder: str, pipe: int) -> None:
    "Never returns"
    try:
        os.setsid()
        os.chdir(folder)
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2): os.dup2(quiet, stream)
        limit(job["seconds"])
        guard(Path(folder), [Path(s) for s in job["secret"]])
        text = json.dumps(answer(job)).encode()
        while text: text = text[os.write(pipe, text):]
    finally: os._exit(0)


def heard_from(pipe: int, until: float) -> bytes | None:
    "All that comes through a pipe; None when the time is over"
    heard = b""
    while (left := until - time.monotonic()) > 0:
        if not select.select([pipe], [], [], left)[0]: break
        if not (part := os.read(pipe, 1 << 16)): return heard
        heard += part
        if len(heard) > 20_000_000: return b""
    return None


def run_job(job: dict) -> dict:
    "A submission's plain answers, or {'failed': why}"
    with tempfile.TemporaryDirectory() as folder:
        mine, theirs = os.pipe()
        child = os.fork()
        if not child: in_child(job, folder, theirs)
        os.close(theirs)
        heard = heard_from(mine, time.monotonic() + job["seconds"])
        os.close(mine)
        for kill, who in ((os.killpg, child), (os.kill, child)):  # the child, and whatever it may have started
            try: kill(who, signal.SIGKILL)
            except (ProcessLookupError, PermissionError): pass
        os.waitpid(child, 0)
    if heard is None: return {"failed": f"not finished within {job['seconds']} s"}
    try: return json.loads(heard)
    except (ValueError, RecursionError): return {"failed": "ended without an answer"}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")  # the caller's: nothing else may write there
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    import IPython.display, matplotlib.pyplot, networkx, numpy, pandas, seaborn, torch  # noqa: F401
    import scipy.signal, scipy.stats, sklearn.metrics  # noqa: F401
    quieten()
    torch.set_num_threads(1)
    for line in sys.stdin:
        answers.write(json.dumps(run_job(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__": main()
