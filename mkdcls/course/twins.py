"""`make course`: from the source of each lesson the student's file, the instructor's file, and the keys of `check`.

The exercises that end a page have their keys in the page's answers, and are not marked. Nothing is run but the cells
tagged `key`, so that the same sources give the same bytes everywhere.
"""
from __future__ import annotations

import hashlib
import json
import linecache
import re
import sys
from functools import partial
from pathlib import Path

from mkdcls.course.checking import KEYS_FILE
from mkdcls.course.keys import KEYS, Key
from mkdcls.engine.store import PROJECT, write_text

COURSE = PROJECT / "nbs" / "course"
WORKED = PROJECT / "nbs" / "answers"  # to the exercises of the pages
TAGS = {"exercise", "blank", "solution", "key", "instructor", "slide", "slide-more", "slide-code"}  # of its own cells
FOR_STUDENT = ("> This file is made by `make course` for you to write in: replace each `...` by your answer and run "
               "the cell; `check` says whether it is right, and if not, what to think about. Keep the names "
               "`answer_…`: your file is marked by them. Save a copy under your own name to hand it in.")
FOR_INSTRUCTOR = ("> Instructor's file, made by `make course`: worked answers, and what to say to wrong ones. "
                  "Do not hand it out.")


def sources() -> list[Path]:
    "The sources of the lessons, in their order"
    return sorted((COURSE / "source").glob("[0-9]_*.ipynb"))


def worked() -> list[Path]:
    "The answers to the exercises of the pages, in the pages' order"
    return sorted(WORKED.glob("*.ipynb"))


def number_of(path: Path) -> str:
    "What comes before the dot in the names of a file's exercises: '4' of a lesson, '04' of a page, 'tour' of the tour"
    return path.stem.split("_")[path.stem.endswith("_tour")]


def read_lesson(path: Path) -> dict: return json.loads(path.read_text("utf-8"))
def text_of(cell: dict) -> str: return "".join(cell["source"])
def tags_of(cell: dict) -> set[str]: return set(cell["metadata"].get("tags", []))


def keys_of(path: Path) -> dict[str, Key]:
    "Run the cells tagged `key` of a lesson's source or a page's answers, and nothing else: exercise → key"
    KEYS.clear()
    names = {"__name__": "lesson_keys"}
    for cell in read_lesson(path)["cells"]:
        if "key" not in tags_of(cell): continue
        code, where = text_of(cell), f"<{path.stem}, {cell['id']}>"
        linecache.cache[where] = (len(code), None, code.splitlines(True), where)  # so that a rule's text can be read
        exec(compile(code, where, "exec"), names)
    number = number_of(path)
    found, odd = dict(KEYS), [k for k in KEYS if k.split(".")[0] != number]
    if odd: raise ValueError(f"{path.name}: keys of other files: {odd}")
    return found


def shown_answer(answer) -> str:
    "A wrong answer as the instructor's table prints it"
    if callable(answer):
        return "a function" if answer.__name__ == "<lambda>" else f"a function such as `{answer.__name__}`"
    text = " ".join(str(answer).split())
    return f"`{text if len(text) < 60 else text[:57] + '…'}`".replace("|", "\\|")


def hint_table(k: Key) -> str:
    "What to expect in an exercise, in markdown"
    lines = [f"**{k.name}**, {k.points:g} point{'s' * (k.points != 1)}."
             + f" When right: {k.then}" * bool(k.then), "", "| typical wrong answer | it is told |", "|---|---|"]
    for hint, answers in k.wrong.items():
        lines.append(f"| {', '.join(dict.fromkeys(map(shown_answer, answers)))} | {hint} |".replace("\n", " "))
    return "\n".join([*lines, f"| anything else | {k.other} |"])


def new_cell(kind: str, text: str, *tags: str) -> dict:
    "A cell whose id comes from its text"
    ident = hashlib.sha256(text.encode()).hexdigest()[:8]
    cell = {"cell_type": kind, "id": ident, "metadata": {"tags": list(tags)} if tags else {},
            "source": text.splitlines(True)}
    return cell if kind == "markdown" else cell | {"execution_count": None, "outputs": []}


def without_outputs(cell: dict) -> dict:
    return cell | {"execution_count": None, "outputs": []} if cell["cell_type"] == "code" else cell


def student(nb: dict) -> dict:
    "The lesson without answers, keys and the instructor's part; nothing is run yet"
    cells = [without_outputs(c) for c in nb["cells"] if not tags_of(c) & {"solution", "key", "instructor"}]
    return nb | {"cells": [cells[0], new_cell("markdown", FOR_STUDENT), *cells[1:]]}


def instructor(nb: dict, keys: dict[str, Key]) -> dict:
    "The lesson with worked answers in place of blanks, and a table of hints in place of each key"
    cells = []
    for c in nb["cells"]:
        if "blank" in tags_of(c): continue
        if "key" in tags_of(c):
            names = re.findall(r"^key\(\s*['\"]([^'\"]+)", text_of(c), re.M)
            if not names: continue  # the functions of a long key
            c = new_cell("markdown", "\n\n".join(hint_table(keys[n]) for n in names), "instructor")
        cells.append(c)
    return nb | {"cells": [cells[0], new_cell("markdown", FOR_INSTRUCTOR), *cells[1:]]}


def written(nb: dict) -> str: return json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def made(lessons: list[Path], pages: list[Path]) -> dict[Path, str]:
    "File → text of everything that `make course` writes, of sources of lessons and answers of pages"
    files, records = {}, {}
    for path in lessons:
        nb, keys = read_lesson(path), keys_of(path)
        records |= {name: k.record() for name, k in keys.items()}
        files[COURSE / "student" / path.name] = written(student(nb))
        files[COURSE / "instructor" / path.name] = written(instructor(nb, keys))
    for path in pages: records |= {name: k.record() for name, k in keys_of(path).items()}
    short = partial(json.dumps, ensure_ascii=False, separators=(",", ":"))
    files[KEYS_FILE] = "{\n" + ",\n".join(f"{short(name)}:{short(r)}" for name, r in records.items()) + "\n}\n"
    return files


def main() -> int:
    "Write the files of all lessons and the keys of all exercises"
    for path, text in made(sources(), worked()).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text("utf-8") != text:
            write_text(path, text)
            print(f"  {path.relative_to(PROJECT)}")
    return 0


if __name__ == "__main__": sys.exit(main())
