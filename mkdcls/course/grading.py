"""`mkdcls grade FOLDER`: marks for a folder of submissions, from the instructor's keys.

Each notebook is run by `worker`, in a process and a folder of its own and with a time limit. What comes back is plain
data (JSON); it is judged here, with the keys of the lessons' sources and with inputs that no student has seen. What a
submission prints, and what it makes of `check`, does not matter.
"""
from __future__ import annotations

import ast
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from mkdcls.course.checking import KEYS_FILE, Verdict, judge
from mkdcls.course.keys import Key
from mkdcls.course.twins import COURSE, keys_of, read_lesson, sources, tags_of, text_of
from mkdcls.engine.store import PROJECT, write_text

TIME_LIMIT = 300  # that one submission may take
HEAVY = 20_000_000  # bytes: a notebook that weighs more is not opened
SAME_WORDS = .6  # share of five-word sequences from which a text counts as copied
ANSWER_LENGTH = 200  # characters of an answer in the table of answers
SAME_CODE = 160  # characters from which equal code counts as copied
OWN_MAKING = ("function", "text", "rule")  # kinds of exercise that many different answers are right for
SECRET = [COURSE / "source", COURSE / "instructor", PROJECT / "nbs" / "answers", PROJECT / ".git", KEYS_FILE]


def submissions(folder: Path) -> list[Path]:
    "Notebooks below a folder, without links and hidden files"
    found = [p for p in Path(folder).rglob("*.ipynb") if p.is_file() and not p.is_symlink()
             and not any(part.startswith(".") for part in p.relative_to(folder).parts)]
    return sorted(found)


def code_of(path: Path) -> list[tuple[int, str]]:
    "Number and text of the code cells of a notebook"
    if path.stat().st_size > HEAVY: raise ValueError("heavier than 20 MB")
    try: cells = json.loads(path.read_text("utf-8"))["cells"]
    except (ValueError, KeyError, TypeError, RecursionError): raise ValueError("no notebook that can be read") from None
    try: return [(i, "".join(c["source"])) for i, c in enumerate(cells) if c["cell_type"] == "code"]
    except (KeyError, TypeError): raise ValueError("no notebook that can be read") from None


def lesson_of(cells: list[tuple[int, str]]) -> str | None:
    "The number of the lesson that most of the names `answer_4_2` belong to"
    found = Counter(m for _, code in cells for m in re.findall(r"\banswer_(\d)_\w+", code))
    return found.most_common(1)[0][0] if found else None


class Worker:
    "The process that runs submissions; it is started anew if it should end"
    child = None

    def start(self) -> None:
        import matplotlib
        self.home = tempfile.TemporaryDirectory()
        env = {k: os.environ[k] for k in ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH") if k in os.environ}
        env |= dict(PYTHONPATH=str(PROJECT), PYTHONDONTWRITEBYTECODE="1", MPLBACKEND="Agg", OMP_NUM_THREADS="1",
                    IN_TEST="1", HOME=self.home.name, MPLCONFIGDIR=matplotlib.get_cachedir())
        pipe = subprocess.PIPE
        self.child = subprocess.Popen([sys.executable, "-m", "mkdcls.course.worker"], cwd=self.home.name, env=env,
                                      text=True, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)

    def run(self, cells: list[tuple[int, str]], needs: dict[str, dict], seconds: int = TIME_LIMIT) -> dict:
        "Plain answers of a submission, or {'failed': why}"
        if self.child is None or self.child.poll() is not None: self.start()
        job = dict(cells=cells, needs=needs, seconds=seconds, secret=[str(p) for p in SECRET])
        try:
            self.child.stdin.write(json.dumps(job) + "\n")
            self.child.stdin.flush()
            found = json.loads(self.child.stdout.readline())
            if "failed" in found: return {"failed": str(found["failed"])}
            return {"answers": dict(found["answers"]), "stopped": [str(s) for s in found["stopped"]]}
        except (ValueError, KeyError, TypeError, RecursionError, OSError):
            self.close()
            return {"failed": "ended without an answer"}

    def close(self) -> None:
        if self.child is None: return
        self.child.kill()
        self.child.communicate()
        self.child = None
        self.home.cleanup()


# ---- copies

def own_code(cells: list[tuple[int, str]], name: str) -> str:
    "The last statement that makes `answer_4_2`, in a normal form without comments and layout; '' where there is none"
    wanted, found = "answer_" + name.replace(".", "_"), ""
    for _, code in cells:
        try: body = ast.parse(re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", code)).body
        except (SyntaxError, ValueError, RecursionError): continue
        for node in body:
            targets = [getattr(t, "id", "") for t in getattr(node, "targets", [])]
            if getattr(node, "name", "") == wanted or wanted in targets: found = ast.unparse(node)
    return found


def texts_in(data) -> str:
    "All longer texts in plain data"
    if isinstance(data, str): return data if len(data) > 60 else ""
    below = data.values() if isinstance(data, dict) else data if isinstance(data, list) else []
    return " ".join(t for t in map(texts_in, below) if t)


def fives(text: str) -> set[tuple]:
    words = re.findall(r"\w+", text.casefold())
    return {tuple(words[i:i + 5]) for i in range(len(words) - 4)}


def copies(own: dict[str, tuple[str, set]], lesson: tuple[str, set]) -> dict[str, str]:
    """Submission → what its answer to an exercise is a copy of. `own`: its code and the word sequences of its text;
    `lesson`: those of the lesson, worked answers among them"""
    found = {}
    for me, (code, mine) in own.items():
        told = len(mine) > 15 and len(mine & lesson[1]) > SAME_WORDS * len(mine)
        if told or not mine and len(code) > SAME_CODE and code == lesson[0]: found[me] = "the lesson"
        for other, (theirs, words) in own.items():
            if other == me or me in found: continue
            same_text = len(mine) > 15 and len(mine & words) > SAME_WORDS * min(len(mine), len(words) or 1)
            if same_text or not mine and len(code) > SAME_CODE and code == theirs: found[me] = other
    return found


# ---- marks

def grade(
    folder: Path, # holds the notebooks, in any depth
    lesson: str = "", # its number; '' reads it off each notebook
    seconds: int = TIME_LIMIT, # that each submission may take
    say=print,
) -> list[dict]: # for each submission: file, lesson, verdicts by exercise, remarks
    "Run and judge every submission"
    keys = {p.stem.split("_")[0]: keys_of(p) for p in sources()}
    lessons = {p.stem.split("_")[0]: (code_of(p), prose_of(p)) for p in sources()}
    marked, worker = [opened(p, Path(folder), lesson, keys) for p in submissions(Path(folder))], Worker()
    try:
        for one in marked:
            if not one["remarks"]: mark(one, keys[one["lesson"]], worker, seconds)
            say(f"  {one['file']}: " + (f"lesson {one['lesson']}, run" if one["data"] else "; ".join(one["remarks"])))
    finally: worker.close()
    for number, of in keys.items():
        same = [m for m in marked if m["lesson"] == number and m["verdicts"]]
        for name, k in of.items(): strike_copies(same, name, k, *lessons[number])
        strike_twins(same, of, lessons[number][0])
    return marked


def prose_of(path: Path) -> set[tuple]:
    "The word sequences of a lesson, worked answers among them"
    return fives(" ".join(text_of(c) for c in read_lesson(path)["cells"] if "key" not in tags_of(c)))


def opened(path: Path, folder: Path, lesson: str, keys: dict) -> dict:
    "A submission that is not run yet, with a remark if it cannot be"
    one = dict(file=path.relative_to(folder).as_posix(), lesson=lesson, verdicts={}, remarks=[], data={}, cells=[])
    try: one["cells"] = code_of(path)
    except ValueError as e: return one | {"remarks": [str(e)]}
    one["lesson"] = lesson or lesson_of(one["cells"]) or ""
    if one["lesson"] not in keys: one["remarks"] = ["belongs to no lesson: no names answer_…"]
    return one


def mark(one: dict, keys: dict[str, Key], worker: Worker, seconds: int) -> None:
    "Fill in the verdicts of one submission"
    records = {name: k.record(held=True) for name, k in keys.items()}
    needs = {name: {"kind": r["kind"], "packed": packed_cases(keys[name])} for name, r in records.items()}
    found = worker.run(one["cells"], needs, seconds)
    if "failed" in found: one["remarks"].append(found["failed"])
    one["remarks"] += found.get("stopped", [])[:3]
    one["data"] = found.get("answers", {})
    for name, record in records.items():
        try: one["verdicts"][name] = judge(record, one["data"].get(name))
        except Exception as e:  # plain data of a shape that nobody thought of
            one["verdicts"][name] = Verdict(name, False, f"cannot be judged ({type(e).__name__})", 0, record["points"])


def packed_cases(k: Key) -> str:
    "The inputs of a function, and nothing about its answers"
    from mkdcls.course.checking import pack
    return pack({w: v for w, v in k.kind.packed(True).items() if w in ("cases", "given")})


def strike_copies(same: list[dict], name: str, k: Key, worked: list, prose: set) -> None:
    "An answer in one's own words or code that somebody else has too earns nothing until the instructor has looked"
    if k.kind.kind not in OWN_MAKING: return
    own = {m["file"]: (own_code(m["cells"], name), fives(texts_in(m["data"].get(name))))
           for m in same if m["verdicts"][name]}
    found = copies(own, (own_code(worked, name), prose))
    for m in same:
        if m["file"] not in found: continue
        strike(m, name, found[m["file"]])
        m["remarks"].append(f"{name} is the same as {found[m['file']]}")


def strike(one: dict, name: str, other: str) -> None:
    one["verdicts"][name] = Verdict(name, False, f"same as {other}", 0, one["verdicts"][name].of)


def strike_twins(same: list[dict], keys: dict[str, Key], worked: list) -> None:
    """Short answers may agree by chance, all answers of a lesson do not: where two files share every one of them,
    letter for letter, what asks for something of one's own earns nothing"""
    names = [n for n in keys if ".q" not in n]
    whole = {m["file"]: [own_code(m["cells"], n) for n in names] for m in same if any(m["verdicts"][n] for n in names)}
    answers = whole | {"the lesson": [own_code(worked, n) for n in names]}
    for m in same:
        mine = whole.get(m["file"], [])
        other = next((o for o, theirs in answers.items() if o != m["file"] and theirs == mine), None)
        if other is None or sum(map(len, mine)) <= SAME_CODE: continue
        own = [n for n in names if keys[n].kind.kind in OWN_MAKING and m["verdicts"][n]]
        for n in own: strike(m, n, other)
        if own: m["remarks"].append(f"every answer is the same as {other}'s, letter for letter")


def safe(text: str) -> str:
    "No cell of a table begins like a formula"
    return "'" + text if text.startswith(tuple("=+-@\t\r")) else text


def table_of(rows: list[list]) -> str:
    import io
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([[safe(c) if isinstance(c, str) else c for c in r] for r in rows])
    return out.getvalue()


def shown_in_table(one: dict, name: str) -> str:
    "An answer as the table shows it: a text as it is, of a function its code, the rest as plain data; shortened"
    data = one["data"].get(name)
    if data is None: return ""
    outputs = isinstance(data, list) and all(isinstance(d, dict) and {"gives", "raises"} & set(d) for d in data)
    text = own_code(one["cells"], name) if outputs else data if isinstance(data, str) else texts_in(data)
    text = " ".join((text or json.dumps(data, ensure_ascii=False)).split())
    return text if len(text) <= ANSWER_LENGTH else text[:ANSWER_LENGTH - 1] + "…"


def write_grades(marked: list[dict], out: Path) -> Path:
    "One line a submission into `out`, one line an answer beside it; returns the second file"
    names = sorted({n for m in marked for n in m["verdicts"] if ".q" not in n})
    head = ["file", "lesson", "points", "of", "percent", "to read", *names, "remarks"]
    rows, lines = [head], [["file", "exercise", "right", "points", "of", "said", "answer"]]
    for m in marked:
        verdicts = m["verdicts"]
        got, of = sum(v.points for v in verdicts.values()), sum(v.of for v in verdicts.values())
        read = " ".join(n for n, v in verdicts.items() if v.read)
        rows.append([m["file"], m["lesson"], got, of, round(100*got/of) if of else 0, read,
                     *[verdicts[n].points if n in verdicts else "" for n in names], "; ".join(m["remarks"])])
        lines += [[m["file"], n, {True: "yes", False: "no", None: "empty"}[v.right], v.points, v.of, v.said,
                   shown_in_table(m, n)]
                  for n, v in verdicts.items()]
    answers = out.with_name(f"{out.stem}-answers.csv")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, table_of(rows))
    write_text(answers, table_of(lines))
    return answers


def grade_folder(folder: str, lesson: str, seconds: int, out: str) -> int:
    "The command: exit code 0 if every submission ran to its end, otherwise 1"
    if not Path(folder).is_dir(): raise ValueError(f"there is no folder {folder!r}")
    if not sources():
        raise ValueError("no lessons here: marks are given from the project's folder, which holds nbs/course/source")
    if not submissions(Path(folder)): raise ValueError(f"no notebook (.ipynb) below {folder!r}")
    if seconds < 1: raise ValueError("--seconds is at least 1")
    marked = grade(Path(folder), lesson, seconds, say=lambda text: print(text, flush=True))
    answers = write_grades(marked, Path(out))
    for m in marked:
        got, of = (sum(getattr(v, w) for v in m["verdicts"].values()) for w in ("points", "of"))
        print("; ".join([f"  {m['file']}: {got:g} of {of:g} points", *m["remarks"]]))
    print(f"{len(marked)} submissions: {out}, and every answer in {answers}")
    return int(any(not m["data"] for m in marked))
