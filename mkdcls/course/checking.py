"""`check('4.2', answer)`: is an answer right, and if not, which mistake does it betray?

A check goes in two steps. `plain_answer` turns what a student wrote into numbers, words, lists and dicts; it is the
only step that runs the student's code. `judge` compares these plain data with a record of `keys.json`. Grading makes
the first step in a process of its own and the second one here.

A record holds no readable answer. Each number is put on a grid finer than its tolerance, and the grid points that
count as right, or as a foreseen mistake, are stored as salted digests; what is then said is enciphered with the answer
that it belongs to. That keeps a student from reading answers by accident. It is no protection against trying all
answers, and rules and the inputs of functions are only packed. Marks therefore come from `mkdcls grade`, which uses
the instructor's file and other inputs.
"""
from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import zlib
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

KEYS_FILE = Path(__file__).with_name("keys.json")  # written by `make course`
MOST_LEAVES = 5_000  # numbers and words in one answer: more is refused
YES = {"yes": "yes", "y": "yes", "true": "yes", "no": "no", "n": "no", "false": "no"}


@dataclass
class Verdict:
    "What `check` found"
    name: str  # of the exercise, e.g. '4.2'
    right: bool | None  # None: not answered yet
    said: str  # the hint of a wrong answer, or what a right one means
    points: float = 0  # that this answer earns
    of: float = 1  # that the exercise can earn
    read: bool = False  # a text: whether it is good is for the instructor to say

    def __bool__(self): return bool(self.right)

    def __str__(self):
        mark = {True: "✓ right.", False: "✗ not yet.", None: "· no answer yet."}[self.right]
        return f"{self.name}  {mark} {self.said}".rstrip()

    def __repr__(self): return str(self)

    def _ipython_display_(self): "Nothing: `check` has printed it"


class Unclear(ValueError):
    "An answer of another kind than the exercise asks for; the message tells the student"


# ---- what a student wrote, as plain data

def as_plain(x, depth: int = 0):
    "Numbers, words, lists and dicts of anything that a student may answer with; None where there is nothing"
    if x is None or x is ...: return None
    if isinstance(x, str | bool): return x
    if isinstance(x, int): return x if abs(x) < 10**15 else float("inf")
    if isinstance(x, float | Fraction): return float(x)
    if depth > 8: return {"unreadable": "something nested very deeply"}
    if hasattr(x, "detach"): return as_plain(x.detach().cpu().tolist(), depth + 1)  # a tensor
    if hasattr(x, "columns") and hasattr(x, "iloc"):  # a DataFrame
        return {str(c): as_plain(x[c], depth + 1) for c in x.columns}
    if hasattr(x, "index") and hasattr(x, "iloc"):  # a Series
        values = [as_plain(v, depth + 1) for v in x.tolist()]
        numbered = list(x.index) == list(range(len(x)))
        return values if numbered else {_name(k): v for k, v in zip(x.index, values)}
    if hasattr(x, "tolist"): return as_plain(x.tolist(), depth + 1)  # numpy, and its numbers
    if hasattr(x, "_asdict"): return as_plain(x._asdict(), depth + 1)
    if isinstance(x, dict): return {_name(k): as_plain(v, depth + 1) for k, v in x.items()}
    if isinstance(x, set | frozenset): return sorted((as_plain(v, depth + 1) for v in x), key=str)
    try: return [as_plain(v, depth + 1) for v, _ in zip(x, range(MOST_LEAVES + 1))]
    except TypeError: pass
    return {"unreadable": "a function; call it, or hand in what it gives" if callable(x) else f"a {type(x).__name__}"}


def _name(k) -> str: return " ".join(map(str, k)) if isinstance(k, tuple) else str(k)


def plain_answer(record: dict, answer):
    "The plain data of an answer; of a function, what it gives for each case. Runs the student's code"
    if record["kind"] != "function": return as_plain(answer)
    if answer is None or answer is ...: return None
    if not callable(answer): return {"unreadable": "no function; write one with def"}
    packed, names, outputs = unpack(record["packed"]), {}, []
    exec(CASE_NAMES + packed["given"], names)
    for case in packed["cases"]:
        try: outputs.append({"gives": as_plain(answer(*eval(case, names)))})
        except Exception as e: outputs.append({"raises": f"{type(e).__name__}: {e}"[:300]})
    if any(o.get("gives", 0) is not None for o in outputs): return outputs
    return None if is_stub(answer) else {"unreadable": "a function that returns nothing; print is not return"}


def is_stub(f) -> bool:
    "Is it `def answer_2_4(table): ...`, as the blank has it?"
    code = getattr(f, "__code__", None)
    return code is not None and not code.co_names and code.co_nlocals == code.co_argcount


CASE_NAMES = """import math
import numpy as np, pandas as pd, torch
from fractions import Fraction as Q
"""


# ---- normal forms

def number(x) -> float:
    "A number, however written: 0.36, Fraction(9, 25), '36 %', '≈ 0,36', '9/25', an array of one element"
    if isinstance(x, list) and len(x) == 1: return number(x[0])
    if isinstance(x, bool) or isinstance(x, list | dict): raise Unclear(_kind_hint(x, "one number"))
    if isinstance(x, int | float): return float(x)
    text = x.strip().lstrip("≈~=").replace("−", "-").replace(",", ".").replace(" ", "")
    if text.casefold() in ("inf", "+inf", "infinity", "∞"): return math.inf
    m = re.fullmatch(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)(?:/(\d+))?(%?)[a-zA-Z°]*", text, re.I)
    if not m: raise Unclear(f"One number is asked for; {x[:40]!r} is none.")
    return float(m[1]) / float(m[2] or 1) / (100 if m[3] else 1)


def word(x) -> str:
    "A word or a short phrase without case, punctuation and articles; yes, true and True are one word"
    if isinstance(x, list) and len(x) == 1: return word(x[0])
    if isinstance(x, list | dict): raise Unclear(_kind_hint(x, "one word"))
    if isinstance(x, bool): return "yes" if x else "no"
    if isinstance(x, int | float): return f"{x:g}"
    text = x.casefold().replace("−", "-").replace("->", "→").replace("<-", "←")
    text = re.sub(r"(?<=\d)\s*(?:[-–—]|to)\s*(?=\d)", "-", text)  # '20 to 30', '20–30'
    text = re.sub(r"_|(?<=[^\W\d_])-(?=[^\W\d_])", " ", text)  # 'no_difference', 'no-difference'
    text = re.sub(r"[^\w+\-→←()]+", " ", text)
    text = re.sub(r"^(the|a|an) (?=\w)", "", text.strip().strip("()").strip())
    return YES.get(text, text)


def _kind_hint(x, wanted: str) -> str:
    found = ("a table or dict" if isinstance(x, dict) else "a list" if isinstance(x, list)
             else "true or false" if isinstance(x, bool) else "something else")
    if isinstance(x, dict) and "unreadable" in x: found = x["unreadable"]
    return f"The answer should be {wanted}; yours is {found}."


def flat(x, path: str = "") -> dict:
    "Nested data → path: number or word"
    if isinstance(x, dict):
        if set(x) == {"unreadable"}: raise Unclear(f"Your answer holds {x['unreadable']}.")
        return {k: v for name, below in x.items() for k, v in flat(below, f"{path}/{word(name)}").items()}
    if isinstance(x, list): return {k: v for i, below in enumerate(x) for k, v in flat(below, f"{path}/{i}").items()}
    if x is None: return {path: "none"}
    if isinstance(x, bool): return {path: word(x)}
    if isinstance(x, int | float): return {path: float(x)}
    try: return {path: number(x)}
    except Unclear: return {path: word(x)}


def leaves(record: dict, data) -> dict:
    "Plain data → the numbers and words that are compared"
    kind = record["kind"]
    if kind == "number": return {"": number(data)}
    if kind == "choice": return {"": word(data)}
    if kind == "options":
        return {"": one_letter(str(data).strip().casefold())}
    if kind == "several":
        parts = re.split(r"[,;]| and ", data) if isinstance(data, str) else data
        if isinstance(parts, dict): parts = [k for k, v in parts.items() if v]
        if not isinstance(parts, list): parts = [parts]
        return {"": " | ".join(sorted({word(p) for p in parts} - {""}))}
    if kind == "function":
        found = {}
        if isinstance(data, dict) and set(data) == {"unreadable"}:
            raise Unclear(f"Your answer is {data['unreadable']}.")
        for i, out in enumerate(data):
            if not isinstance(out, dict) or not {"gives", "raises"} & set(out):
                raise Unclear("Your function could not be called.")
            if "raises" in out: raise Unclear(f"Your function stops with {out['raises']}")
            found |= flat(_numbers(out["gives"]), str(i))
        data = found
    else: data = flat(data)
    if len(data) > MOST_LEAVES:
        raise Unclear(f"Your answer holds {len(data):,} numbers; that is more than anybody asked for.")
    return data


def _numbers(x):
    "True and 1 are the same from a function"
    if isinstance(x, bool): return int(x)
    if isinstance(x, list): return [_numbers(v) for v in x]
    return {k: _numbers(v) for k, v in x.items()} if isinstance(x, dict) and set(x) != {"unreadable"} else x


def one_letter(text: str) -> str:
    "'b', '(b)', 'b) because …'; 'a or c' is no answer, and 'a seed …' does not begin with the letter of an option"
    m = re.fullmatch(r"\W*([a-h])(\s*[).,:;].*|\s*)", text, re.S) or re.fullmatch(r"\W*([b-h])(\s.*)", text, re.S)
    if not m: raise Unclear("Answer with the letter of one option, as in 'a'.")
    if re.search(r"\b(?:[b-h]|a(?=\W*$|\s*[),.;]|\s+(?:or|and)\b))\b", m[2]): raise Unclear("One letter, please.")
    return m[1]


def readings(record: dict, forms: list, data):
    """What an answer may have meant, the likeliest first: as it stands; without lists around single elements; letters
    or values in one text; names in place of an order, or the other way round"""
    yield data
    if record["kind"] == "several" and isinstance(data, str | list):
        text = re.sub(r"[\s).,;/]|\band\b", "", " ".join(map(str, data)) if isinstance(data, list) else data).casefold()
        if re.fullmatch("[a-h]{2,}", text) and len({*text}) == len(text): yield list(text)
    if record["kind"] != "table" or not forms: return
    names = [p[1:] for p in forms[0]]
    if any("/" in n for n in names): return
    if isinstance(data, str):
        parts = re.split(r"\s*[,;/]\s+|\s*;\s*|\s+and\s+", data.strip())
        if len(parts) != len(names) and len(data.strip()) == len(names): parts = list(data.strip())
        if len(parts) == len(names) > 1: data = parts
    for _ in range(2):
        if isinstance(data, dict): data = {k: _single(v) for k, v in data.items()}
        if isinstance(data, list): data = [_single(v) for v in data]
        if not isinstance(data, list | dict) or len(data) != len(names): return
        yield data
        values = list(data.values()) if isinstance(data, dict) else data
        data = values if all(map(str.isdigit, names)) else dict(zip(names, values))


def _single(x): return _single(x[0]) if isinstance(x, list) and len(x) == 1 else x


# ---- digests and ciphers

def snap(v, tol: float):
    "The grid point of a number, as text; a word stays as it is, behind a mark that no grid point has"
    if isinstance(v, str): return f"'{v}", None
    if not math.isfinite(v): return str(v), None
    return "", round(4 * v / tol)


def leaf_digest(salt: str, path: str, point) -> str:
    text = f"{salt}\n{path}\n{point}".encode()
    return base64.b85encode(hashlib.pbkdf2_hmac("sha256", text, salt.encode(), 300)[:9]).decode()


def cipher(text: bytes, secret: str) -> bytes:
    "Its own inverse"
    stream = b"".join(hashlib.sha256(f"{secret}\n{i}".encode()).digest() for i in range(len(text) // 32 + 1))
    return bytes(a ^ b for a, b in zip(text, stream))


def pack(data) -> str: return base64.b85encode(zlib.compress(json.dumps(data, ensure_ascii=False).encode(), 9)).decode()
def unpack(text: str): return json.loads(zlib.decompress(base64.b85decode(text)))


def enciphered(text: str, secret: str) -> str: return base64.b85encode(cipher(text.encode(), secret)).decode()
def deciphered(text: str, secret: str) -> str: return cipher(base64.b85decode(text), secret).decode()


# ---- the verdict

def empty(data) -> bool:
    "Nothing in it but ... and blanks"
    if isinstance(data, str): return data.strip() in ("", "...")
    if isinstance(data, dict): return all(v != [] and empty(v) for v in data.values())  # [] is said: 'none of them'
    return all(map(empty, data)) if isinstance(data, list) else data is None


def gaps(data, deep: bool = True) -> bool:
    "Is something in it still `...`?"
    if not isinstance(data, list | dict): return data is None or data == "..."
    below = data.values() if isinstance(data, dict) else data
    return any(gaps(v) for v in below if deep or not isinstance(v, list | dict))


def infinite(data) -> bool:
    "Is a number in it infinite, or no number (NaN)?"
    if isinstance(data, list | dict): return any(map(infinite, data.values() if isinstance(data, dict) else data))
    if isinstance(data, str): return data.strip().casefold().lstrip("+-−") in ("nan", "inf", "infinity", "∞")
    return isinstance(data, float) and not math.isfinite(data)


def form_hint(paths: list[str], found: list[str]) -> str:
    "What a table that is judged entry by entry should look like"
    names, own = (list(dict.fromkeys(p.split("/")[1] for p in part if "/" in p)) for part in (paths, found))
    listed = all(n.isdigit() for n in names)
    wanted = f"a list of {len(names)}" if listed else f"a dict with the names {', '.join(names)}"
    if sorted(names) == sorted(own): wanted += f", each of them a list of {len(paths) / len(names):g}"
    return f"Your answer has another form than the one that is asked for: {wanted}."


def judge(record: dict, data) -> Verdict:
    "Compare plain data with a record; runs nothing of the student's"
    def verdict(right, said=""):
        return Verdict(record["name"], right, said, record["points"] if right else 0, record["points"],
                       bool(record["read"] and right))
    if empty(data): return verdict(None)
    packed = unpack(record["packed"])
    deep = record["kind"] != "rule"  # a table within an open answer may hold None
    if record["kind"] not in ("function", "text") and gaps(data, deep):
        left = [k for k, v in data.items() if gaps([v], deep)] if isinstance(data, dict) else []
        named = f" ({', '.join(left)})" * bool(left)
        if named and record["kind"] == "table": named += ". Where you mean that there is nothing, write 'none'"
        return verdict(False, f"Not finished: something is still `...`{named}.")
    try:
        if record["kind"] == "text": return verdict(*text_verdict(packed, data))
        if packed.get("rule"):
            if record["kind"] == "function": leaves(record, data); data = [out["gives"] for out in data]
            elif isinstance(data, dict) and set(data) == {"unreadable"}: raise Unclear(_kind_hint(data, "plain data"))
            if infinite(data): raise Unclear("A number in your answer is infinite, or is no number (NaN).")
            try: said = rule_of(packed)(data)
            except Exception: said = None  # an answer of a form that the rule did not expect
            return verdict(said is True, packed["then"] if said is True else said or packed["other"])
        found = leaves(record, data)
    except Unclear as e:
        if record["kind"] == "text" or packed.get("rule"): return verdict(False, str(e))
        found, why = None, str(e)
    forms = packed.get("forms", [])  # of the right answers to a table
    if said := first_hit(record, readings(record, forms, data)): return verdict(said[0] == "+", said[1:])
    if found is None: return verdict(False, why)
    if forms and sorted(found) not in map(sorted, forms): return verdict(False, form_hint(forms[0], list(found)))
    for factor in (.01, 100):
        scaled = {path: v * factor if isinstance(v, float) else v for path, v in found.items()}
        if scaled != found and (said := hit(record, scaled)) and said[0] == "+": return verdict(False, PER_CENT)
    return verdict(False, packed["other"])


PER_CENT = "Right but for a factor of 100: a share is 0.25 or '25 %'; where per cent are asked for it is 25."


def first_hit(record: dict, meant) -> str:
    "What is said to the first reading that the record knows; nothing if it knows none"
    for data in meant:
        try: found = leaves(record, data)
        except Unclear: continue
        if said := hit(record, found): return said
    return ""


def hit(record: dict, found: dict) -> str:
    "What the record says to these numbers and words, behind '+' if they are right; nothing if it does not know them"
    hits = {}
    for path, v in found.items():
        text, at = snap(v, record["tol"])
        for option, offset in record["digests"].get(leaf_digest(record["salt"], path, text if at is None else at), []):
            hits.setdefault(option, []).append((path, text if at is None else at - offset))
    whole = [o for o, points in hits.items() if len(points) == len(found) == record["options"][o][0]]
    said = [deciphered(record["options"][o][1], record["salt"] + repr(sorted(hits[o]))) for o in whole]
    return min(said, default="")  # '+' before '-': right comes first


def rule_of(packed: dict):
    "The function that a rule's text defines"
    names = {}
    exec(packed["rule"], names)
    return names[packed["called"]]


def text_verdict(packed: dict, data) -> tuple[bool, str]:
    if not isinstance(data, str): raise Unclear(_kind_hint(data, "a text in quotes"))
    words = re.findall(r"[^\W\d_]{2,}", data.casefold())
    if len(words) < packed["least"]:
        return False, f"Your text has {len(words)} words; it needs at least {packed['least']}."
    if len(set(words)) < .35 * min(len(words), 120):
        return False, "Your text says the same words again and again."
    missing = [what for what, pattern in packed["must"].items() if not re.search(pattern, data, re.I)]
    if missing: return False, f"Your text does not yet mention {', '.join(missing)}."
    return True, packed["then"]


@cache
def records() -> dict: return json.loads(KEYS_FILE.read_text("utf-8"))


def check(
    name: str, # of the exercise: '4.2' or '4.q1' of a lesson, '04.2' of a page
    answer, # in any form that the exercise may be answered in; ... where there is none yet
) -> Verdict: # true if the answer is right
    "Say whether an answer is right; a wrong one gets the hint of the mistake that it betrays"
    if name not in records():
        near = [n for n in records() if n.split(".")[0] == str(name).split(".")[0]]
        raise ValueError(f"no exercise {name!r}; there are {', '.join(near or records())}")
    found = judge(records()[name], plain_answer(records()[name], answer))
    print(found)
    return found
