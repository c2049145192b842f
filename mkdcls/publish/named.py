"""Named values: every number, word and table of the article with the file that it comes from, and how they are written.
"""
from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from mkdcls.engine.store import PROJECT
from mkdcls.results.report import bounds

PAPER = PROJECT / "paper"
# name in the values → folder of committed results
RESULT_FOLDERS = {"standin": "standin-laptop", "real": "real-laptop"}
# block → row of +MKD+CH, its base, that base with BatchNorm statistics re-estimated
PRIMARY_ROWS = {"ecapa": ("6", "3", "3r"), "resnet": ("10", "7", "7r"), "calls": ("13", "11", "11r")}
NUMBER_WORDS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
                "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty")


def count_word(n: int) -> str:
    "A small number as a word"
    return NUMBER_WORDS[n] if 0 <= n < len(NUMBER_WORDS) else f"{n:,}"


def minus(text: str) -> str:
    "The same with a minus sign where a hyphen stands before a number"
    return re.sub(r"(?<![\w.])-(?=\d)", "−", text)


def signed(v: float, digits: int = 1) -> str: return minus(f"{v:+z.{digits}f}")


def fixed(v: float, digits: int = 1) -> str: return minus(f"{v:z.{digits}f}")


def bracketed(low: float, high: float, digits: int = 1, sign: bool = True) -> str:
    "An end that rounds to 0 keeps its sign where ends are signed: it says whether the interval holds 0"
    return minus(bounds(low, high, digits)) if sign else f"[{fixed(low, digits)}, {fixed(high, digits)}]"


def difference_cell(v: float, low: float, high: float, digits: int = 1) -> str:
    "A difference with its interval, every number signed"
    return f"{signed(v, digits)} {bracketed(low, high, digits)}"


class Values:
    "Named texts and tables, each with the file it comes from"

    def __init__(self, top: Path = PAPER):
        self.top, self.texts, self.tables, self.states = Path(top), {}, {}, {}

    def path(self, *parts: str) -> Path: return self.top.joinpath(*parts)

    def name_of(self, path: Path | str) -> str:
        path = Path(path)
        return (path.relative_to(self.top.parent) if path.is_absolute() else path).as_posix()

    def put(self, source, **texts: str):
        "Texts by name, `__` for a dot; a name is given once"
        for name, text in texts.items():
            name = name.replace("__", ".")
            if name in self.texts: raise ValueError(f"the value {name} is given twice")
            if not isinstance(text, str) or not text: raise ValueError(f"the value {name} is no text: {text!r}")
            self.texts[name] = {"text": text, "of": self.name_of(source)}

    def table(self, source, name: str, head: list[str], rows: list[list], **more):
        rows = [["" if c is None or (isinstance(c, float) and np.isnan(c)) else str(c) for c in r] for r in rows]
        if any(len(r) != len(head) for r in rows): raise ValueError(f"table {name}: a row is not as long as the head")
        self.tables[name] = {"head": head, "of": self.name_of(source), "rows": rows, **more}

    def asked(self, source, true: bool, sentence: str):
        "A sentence of the article that has no number in it; an error where the records say otherwise"
        if not true:
            raise ValueError(f"{self.name_of(source)}: the article says that {sentence}, and this no longer follows; "
                             "change the sentence in paper/article and its check in mkdcls/publish/values.py")

    def as_json(self) -> str:
        data = {"states": self.states, "tables": self.tables, "values": self.texts}
        return json.dumps(data, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def record_table(path: Path) -> pd.DataFrame:
    "A committed csv; rows of Table 1 keep their names"
    return pd.read_csv(path, dtype={"row": str, "base_row": str, "against": str}, low_memory=False)


def markdown_table(text: str, heading: str, which: int = 0) -> tuple[list[str], list[list[str]]]:
    "A table below a heading of a generated page: its head and its rows, without links and stars"
    if f"\n## {heading}\n" not in text: raise ValueError(f"there is no section {heading!r}")
    part = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    blocks = [b for b in re.split(r"\n\s*\n", part) if b.lstrip().startswith("|")]
    lines = [re.split(r"(?<!\\)\|", l.strip())[1:-1] for l in blocks[which].strip().splitlines()]
    plain = [[minus(re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", c.strip()).replace("*", "").replace("\\|", "|")
                    .replace("`", "")) for c in l] for l in lines]
    return plain[0], plain[2:]
