"""The instructor's side of the checks: what is right, what is wrong, and what to say to whom.

A lesson's source, and the answers to a page's exercises, hold a cell tagged `key` for each exercise, with calls of
`key`. Each call tests itself: every answer of `right` passes, every answer of `wrong` gets its own hint. `record_of`
makes of a key what `check` reads.
"""
from __future__ import annotations

import hashlib
import inspect
import math
from dataclasses import dataclass, field
from fractions import Fraction as Q

import numpy as np
import pandas as pd
import torch

from mkdcls.course.checking import (
    Unclear, Verdict, enciphered, judge, leaf_digest, leaves, pack, plain_answer, snap)

__all__ = ["key", "Number", "Choice", "Options", "Several", "Table", "Function", "Text", "Rule", "np", "pd", "torch",
           "Q", "math"]
KEYS: dict[str, Key] = {}  # of the file that is being read, in its order


@dataclass
class Kind:
    kind = ""
    tol: float = field(default=1e-6, kw_only=True)  # two numbers that differ by at most this are the same

    def packed(self, held: bool) -> dict: return {}


class Number(Kind): kind = "number"
class Table(Kind): kind = "table"
class Choice(Kind): kind = "choice"
class Several(Kind): kind = "several"


@dataclass
class Options(Kind):
    "One of some printed options; `Options('a', 'b', 'c')`"
    kind = "options"
    letters: tuple = ()
    def __init__(self, *letters): self.letters, self.tol = letters, 1.


@dataclass
class Function(Kind):
    "A function, judged by what it gives"
    kind = "function"
    cases: list = field(default_factory=list)  # expressions for tuples of arguments
    held: list = field(default_factory=list)  # the same, in grading only
    given: str = ""  # imports that the cases need
    rule: object = None  # a function of the list of outputs, in place of `right` and `wrong` as keys

    def packed(self, held):
        return {"cases": self.cases + self.held * held, "given": self.given} | source_of(self.rule)


@dataclass
class Rule(Kind):
    "An answer that can be right in many ways"
    kind = "rule"
    rule: object = None  # plain answer → True, a hint, or None for `other`
    uses: tuple = ()  # functions of the same lesson's keys that the rule calls
    def packed(self, held): return source_of(self.rule, *self.uses)


@dataclass
class Text(Kind):
    "Some sentences: length and what must be mentioned are checked, the rest is read by the instructor"
    kind = "text"
    least: int = 40  # words
    must: dict = field(default_factory=dict)  # what is missed → pattern that finds it
    def packed(self, held): return {"least": self.least, "must": self.must}


def source_of(rule, *uses) -> dict:
    if rule is None: return {}
    texts = [inspect.cleandoc("\n" + inspect.getsource(f)) for f in (*uses, rule)]
    return {"rule": "\n".join(texts), "called": rule.__name__}


@dataclass
class Key:
    name: str
    kind: Kind
    right: list
    wrong: dict
    points: float
    then: str
    other: str
    read: bool
    made: dict = field(default_factory=dict, repr=False)  # the records, once they are asked for

    def record(self, held: bool = False) -> dict:
        "What `check` reads of this key; with `held`, what grading reads"
        if held not in self.made: self.made[held] = record_of(self, held)
        return self.made[held]

    def judge(self, answer, held: bool = False) -> Verdict:
        "As `check` does, from this key"
        return judge(self.record(held), plain_answer(self.record(held), answer))

    def faults(self) -> list[str]:
        "What `right` and `wrong` promise and the record does not keep"
        record, bad = self.record(), []
        found = lambda a: judge(record, plain_answer(record, a))
        for a in self.right:
            if not (v := found(a)): bad.append(f"{self.name}: right answer {a!r}: {v}")
        for hint, answers in self.wrong.items():
            for a in answers:
                v = found(a)
                if v or v.said != hint and self.kind.kind != "text":
                    bad.append(f"{self.name}: wrong answer {a!r}, hint {hint!r}: {v}")
        return bad


def key(
    name: str, # of the exercise: '4.2' or '4.q1' of a lesson, '04.2' of a page
    kind: Kind, # Number(), Choice(), ...
    right: list, # the right answer, in several ways of writing it
    wrong: dict, # hint → typical wrong answers that it is for
    points: float = 1, # that the exercise earns
    then: str = "", # what a right answer means, said with "right"
    other: str = "Look at the section above once more.", # to wrong answers that nobody foresaw
    read: bool = False, # the instructor reads what has passed; always so for a Text
) -> None:
    "Declare what is right and wrong in an exercise; raises if the declaration does not keep its own promises"
    if ".q" in name: points = 0  # an entry quiz says who should read up, and earns nothing
    k = Key(name, kind, list(right), {h: list(a) for h, a in wrong.items()}, points, then, other,
            read or isinstance(kind, Text))
    if bad := k.faults(): raise ValueError("\n".join(bad))
    KEYS[name] = k


def record_of(
    k: Key,
    held: bool = False, # with the inputs of functions that are kept for grading
) -> dict: # of what json can write
    "What `check` reads of a key: the same for the same key"
    salt = hashlib.sha256(f"mkdcls course {k.name}".encode()).hexdigest()[:12]
    forms = {}
    if k.kind.kind == "table":
        forms["forms"] = []
        for a in k.right:
            paths = list(leaves(dict(kind="table"), plain_answer(dict(kind="table"), a)))
            if paths not in forms["forms"]: forms["forms"].append(paths)
    packed = pack(k.kind.packed(held) | forms | {"then": k.then, "other": k.other})
    record = dict(name=k.name, kind=k.kind.kind, tol=k.kind.tol, points=k.points, read=k.read, salt=salt, packed=packed,
                  options=[], digests={})
    if k.kind.kind in ("text", "rule") or getattr(k.kind, "rule", None): return record
    seen = {}
    for said, answers in [("+" + k.then, k.right), *(("-" + hint, a) for hint, a in k.wrong.items())]:
        for a in answers:
            try: found = leaves(record, plain_answer(record, a))
            except Unclear: continue  # of another kind, or a function that stops: no key needed
            points = {path: snap(v, k.kind.tol) for path, v in found.items()}
            seen.setdefault(repr(sorted(points.items())), (said, points))
    made = []
    for said, points in seen.values():
        secret = salt + repr(sorted((p, text if at is None else at) for p, (text, at) in points.items()))
        made.append((len(points), enciphered(said, secret), points))
    for i, (n, text, points) in enumerate(sorted(made, key=lambda m: m[:2])):
        record["options"].append([n, text])
        for path, (text, at) in points.items():
            for offset in [0] if at is None else range(-4, 5):
                where = leaf_digest(salt, path, text if at is None else at + offset)
                record["digests"].setdefault(where, []).append([i, offset])
    record["digests"] = dict(sorted(record["digests"].items()))
    return record
