"""The course: keys keep their promises, twins are what their sources say, marks cannot be had by tricks, slides need no network."""
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from chrome import BROWSER, Chrome

from mkdcls.course import checking, grading, slides, twins
from mkdcls.course.checking import as_plain, check, judge, number, plain_answer, word
from mkdcls.course.keys import KEYS, Choice, Function, Key, Number, Options, Rule, Several, Table, Text, key, record_of

SOURCES, PAGES = twins.sources(), twins.worked()
LESSONS = {p.stem.split("_")[0]: p for p in SOURCES}
ALL = {name: k for p in SOURCES for name, k in twins.keys_of(p).items()}
EXERCISES = [n for n in ALL if ".q" not in n]


def made(kind, right, wrong=None, **more) -> Key:
    key("0.1", kind, right=right, wrong=wrong or {}, **more)
    return KEYS.pop("0.1")


# ---- kinds of answers

@pytest.mark.parametrize("text,value", [
    (.36, .36), ("36 %", .36), ("0,36", .36), ("−2", -2), ("9/25", .36), (Fraction(9, 25), .36), (np.float32(.5), .5), (torch.tensor([3]), 3),
    ("1.2 points", 1.2), ("1e-3", .001), ("∞", float("inf")), ("≈ 10", 10), ("~0,5", .5)])
def test_numbers_however_written(text, value): assert number(as_plain(text)) == pytest.approx(value)


@pytest.mark.parametrize("text,value", [("The Studio.", "studio"), (" Yes!", "yes"), (True, "yes"), ("A -> B", "a → b"), ("60+", "60+"), ("-", "-"),
    ("no_difference", "no difference"), ("No-difference", "no difference"), ("20–30", "20-30"), ("20 to 30", "20-30"), ("20 - 30", "20-30")])
def test_words(text, value): assert word(as_plain(text)) == value


def test_numbers_within_tolerance_only():
    k = made(Number(tol=.01), [.36], {"the sign": [-.36], "per cent": [36]}, then="so", other="look")
    for a in (.351, .369, "0.36"): assert k.judge(a) and k.judge(a).said == "so"
    for a in (.345, .375): assert k.judge(a).right is False and k.judge(a).said == "look"
    assert k.judge(-.36).said == "the sign" and k.judge(36).said == "per cent" and k.judge([.36, 1]).said.startswith("The answer should be one number")


def test_words_sets_tables_options():
    assert made(Choice(), ["yes"], {"no": ["no"]}).judge(True)
    k = made(Several(), [{"A", "B"}], {"half": [["a"]]})
    assert k.judge("b, a") and k.judge(("B", "A", "a")) and k.judge(["A"]).said == "half" and not k.judge({"A", "B", "C"})
    t = made(Table(tol=.01), [{"a": 1, "b": [2, "x"]}])
    assert t.judge({"B": (2.004, "X"), "A": 1}) and not t.judge({"a": 1, "b": [2, "y"]}) and not t.judge({"a": 1}) and not t.judge({"a": 1, "b": [2, "x"], "c": 0})
    assert made(Table(), [{"a": [1, 2]}]).judge(pd.DataFrame({"a": [1, 2]}))
    o = made(Options("a", "b"), ["b"], {"no": ["a"]})
    assert o.judge("B)") and o.judge("a").said == "no" and not o.judge("because") and not o.judge(3)


@pytest.mark.parametrize("answer,said", [
    ("b", True), ("(b)", True), ("b.", True), ("b, it is a gain", True), ("b because of it", True), ("B) 40-50", True), ("a", False), ("a) so", False),
    ("a b c", "letter"), ("a, b", "letter"), ("b or a", "letter"), ("b and c", "letter"), ("b, a", "letter"), ("A seed does", "letter"), ("bed", "letter")])
def test_one_letter_is_an_answer_and_two_are_none(answer, said):
    found = made(Options("a", "b"), ["b"], {"no": ["a"]}).judge(answer)
    assert found.right is (said is True) and (said != "letter" or "letter" in found.said), found


@pytest.mark.parametrize("answer", ["cde", "c d e", "c) d) e)", "e/d/c", ["cde"], ["c, d, e"], {"c", "d", "e"}, "c, d and e", dict(c=True, d=True, e=True, a=False)])
def test_letters_however_handed_in(answer): assert made(Several(), [["c", "d", "e"]]).judge(answer)


def test_what_a_table_may_be_written_as():
    "One element in a list of its own, values in one text, names for an order and an order for names; a word is no number in disguise"
    t = made(Table(tol=.01), [{"centre": 2001, "snip": 1998}], {"exchanged": [{"centre": 1998, "snip": 2001}]})
    for a in ((2001, 1998), {"centre": torch.tensor([2001]), "snip": [[1998]]}, "2001, 1998", {"Centre": "≈ 2001", "snip": "~1998"}): assert t.judge(a), a
    assert t.judge((1998, 2001)).said == "exchanged" and "the names centre, snip" in t.judge((1, 2, 3)).said
    t = made(Table(tol=.01), [(.205, "a")], {"other": [(.205, "b")]})
    for a in (dict(x=.205, y="a"), "0.205, a", ["20.5 %", ["A"]], (np.array([.205]), "a")): assert t.judge(a), a
    assert "factor of 100" in t.judge((20.5, "a")).said and t.judge("0.205; b").said == "other"
    for a in ({"x": "≈ ten", "y": "~"}, ("≈ x .205", "a"), ("'0'", 82)): assert t.judge(a).right is False
    assert "write 'none'" in t.judge({"x": None, "y": "a"}).said and made(Table(), [{"a": [1], "b": []}]).judge({"a": [], "b": []}).right is False
    assert made(Table(), [["cf"[0], "f"]]).judge("cf") and made(Table(), [["c", "f"]]).judge("c and f")


def test_what_can_be_gone_through_is_no_function():
    import networkx
    assert sorted(as_plain(networkx.DiGraph([("a", "b")]).edges)) == [["a", "b"]] and "a function" in as_plain(len)["unreadable"]


def double(x): return 2*x


def test_functions_are_judged_by_what_they_give():
    k = made(Function(cases=["(1.,)", "(np.arange(3),)"], held=["(7,)"], tol=.001), [double, lambda x: x + x], {"square": [lambda x: x*x]})
    assert k.judge(double) and k.judge(lambda x: x*x).said == "square" and k.judge(lambda x: None).right is None
    assert "ZeroDivisionError" in k.judge(lambda x: 1/0).said and "no function" in k.judge(2).said
    assert k.judge(lambda x: print(x)).said == "Your answer is a function that returns nothing; print is not return."
    table = lambda x: 2. if isinstance(x, float) else [0, 2, 4]  # knows the printed cases by heart
    assert k.judge(table) and not k.judge(table, held=True)


def three(answer): return True if sum(answer) == 3 else "not three"


def test_rules_and_texts():
    k = made(Rule(three), [[1, 2], (3,)], {"not three": [[1]]}, other="a list")
    assert k.judge({1, 2}) and k.judge("x").said == "a list"
    t = made(Text(least=5, must={"a studio": "studio"}), ["the studio is a common cause of both"], read=False)
    assert t.judge("The studio is a common cause of both.").read and "needs at least" in t.judge("studio").said
    assert "mention a studio" in t.judge("the room is a common cause of both").said and not t.judge("studio " * 50)


@pytest.mark.parametrize("nothing", [None, ..., "", " ... ", [], [...], {"a": ..., "b": (..., "")}])
def test_empty_is_neither_right_nor_wrong(nothing):
    assert made(Table(), [{"a": 1}]).judge(nothing).right is None


def test_half_an_answer_and_another_form():
    t = made(Table(), [{"a": 1, "b": "x"}], {"turned round": [{"a": "x", "b": 1}]}, other="look")
    assert t.judge({"a": 1, "b": ...}).said.startswith("Not finished: something is still `...` (b). Where you mean") and not t.judge({"a": 1, "b": ...})
    assert t.judge([1, "x", 2]).said.endswith("a dict with the names a, b.") and t.judge({"a": 2, "b": "x"}).said == "look"
    assert made(Table(), [[0, 1]]).judge({"x": 0, "y": 1, "z": 2}).said.endswith("a list of 2.")


def least(answer): return max(answer) <= 3 or "too much"


def test_the_form_of_an_entry_is_told():
    t = made(Table(), [{"constant": ["+", "-"], "one": ["-", "-"]}])
    assert t.judge({"constant": "x", "one": "y"}).said.endswith("a dict with the names constant, one, each of them a list of 2.")


def test_no_rule_takes_a_number_that_is_none():
    k = made(Rule(least), [[1, 2]], {"too much": [[4]]})
    for odd in (float("nan"), float("-inf"), "nan", [float("nan")]): assert "NaN" in k.judge([1, odd]).said
    assert not made(Number(), [1]).judge(float("nan"))


def test_a_false_promise_is_refused():
    with pytest.raises(ValueError, match="right answer"): key("0.1", Number(tol=.1), right=["no number"], wrong={})
    with pytest.raises(ValueError, match="wrong answer"): key("0.1", Number(tol=.1), right=[1], wrong={"too near": [1.05]})


def test_no_answer_can_be_read():
    "Neither answers nor hints stand in a record"
    k = made(Table(tol=.01), [{"a": 123.25, "b": "zebra"}], {"a telling hint": [{"a": 1, "b": "zebra"}]}, then="the meaning")
    text = json.dumps(record_of(k), ensure_ascii=False)
    assert not [w for w in ("123", "zebra", "telling", "meaning") if w in text]


# ---- the lessons

def test_there_are_lessons(): assert SOURCES and all(p.stem[1] == "_" for p in SOURCES)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_lessons_are_whole(path):
    nb = twins.read_lesson(path)
    heads = [m for c in nb["cells"] if c["cell_type"] == "markdown" for m in re.findall(r"^## (.+?)\s*$", twins.text_of(c), re.M)]
    for wanted in ("Goals", "Before you start", "Sources", "For the instructor"): assert wanted in heads, wanted
    names = [n for n in ALL if n.split(".")[0] == path.stem[0]]
    assert sum(".q" in n for n in names) == 3 and 4 <= sum(".q" not in n for n in names) <= 7
    texts = {t: "\n".join(twins.text_of(c) for c in nb["cells"] if t in twins.tags_of(c)) for t in ("blank", "solution", "exercise", "instructor")}
    for n in names:
        variable = "answer_" + n.replace(".", "_")
        assert variable in texts["blank"] and variable in texts["solution"] and f"check('{n}'" in texts["blank"], n
        assert n in texts["exercise"], n
    code = "\n".join(twins.text_of(c) for c in nb["cells"] if c["cell_type"] == "code")
    assert "dial(" in code, "no dial"
    assert re.search(r"\d+ points", texts["instructor"]) and "minutes" in texts["instructor"]
    assert len(slides.slides_of(nb)) >= 6


@pytest.mark.parametrize("name", EXERCISES)
def test_exercises_know_right_and_wrong(name):
    "At least three ways of being right and five typical mistakes; each is told its own hint, by the student's file too"
    k = ALL[name]
    assert len(k.right) >= 3 and sum(map(len, k.wrong.values())) >= 5 and k.points > 0 and not k.faults()
    for held in (False, True): assert all(k.judge(a, held) for a in k.right)
    for hint, answers in k.wrong.items(): assert not any(k.judge(a, held=True) for a in answers), hint


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_exercises_of_pages(path):
    "Each exercise that ends a page has its check there, and a key that knows three ways of being right and five mistakes"
    page = next(p for folder in (".", "method", "verification") if (p := path.parents[1] / folder / path.name).exists())
    code = "\n".join(twins.text_of(c) for c in twins.read_lesson(page)["cells"] if c["cell_type"] == "code")
    keys = twins.keys_of(path)
    assert list(keys) == [f"{twins.number_of(path)}.{i}" for i in (1, 2, 3, 4)]
    for name, k in keys.items():
        assert f"check('{name}', ...)" in code, name
        assert len(k.right) >= 3 and sum(map(len, k.wrong.values())) >= 5, name
        for hint, answers in k.wrong.items(): assert not any(k.judge(a, held=True) for a in answers), (name, hint)
        assert all(k.judge(a, held=True) for a in k.right), name


@pytest.mark.parametrize("name", [n for n in ALL if ".q" in n])
def test_entry_questions(name):
    k = ALL[name]
    assert k.points == 0 and isinstance(k.kind, Options) and not k.faults()
    assert {a.strip("() ").lower()[:1] for answers in [k.right, *k.wrong.values()] for a in answers} >= set(k.kind.letters)


def test_course_is_made_from_its_sources():
    "`make course` changes nothing that is committed"
    stale = [p.name for p, text in twins.made(SOURCES, PAGES).items() if "instructor" not in p.parts and (not p.exists() or p.read_text("utf-8") != text)]
    assert not stale, f"{stale}: not what the sources say; `make course`"
    assert twins.made(SOURCES, PAGES[:2]) == twins.made(SOURCES, PAGES[:2])


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_twins(path):
    nb = twins.read_lesson(path)
    student, teacher = twins.student(nb), twins.instructor(nb, twins.keys_of(path))
    assert not any(twins.tags_of(c) & {"solution", "key", "instructor"} or c.get("outputs") for c in student["cells"])
    assert not any(twins.tags_of(c) & {"blank", "key"} for c in teacher["cells"])
    text = json.dumps(student)
    assert "For the instructor" not in text and "typical wrong answer" in json.dumps(teacher)
    for n in (student, teacher): assert len({c["id"] for c in n["cells"]}) == len(n["cells"])


def test_check_speaks(capsys):
    name, k = EXERCISES[0], ALL[EXERCISES[0]]
    assert check(name, k.right[0]) and "✓ right" in capsys.readouterr().out
    hint, wrong = next(iter(k.wrong.items()))
    assert not check(name, wrong[0]) and hint in capsys.readouterr().out
    check(name, ...)
    assert "no answer yet" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no exercise '2.99'; there are 2.q1"): check("2.99", 1)


# ---- marks

def submission(path: Path, name: str, to: Path, edit=lambda text: text) -> None:
    "A lesson's instructor file (name 'good') or student file as somebody hands it in, with its code edited"
    nb = twins.read_lesson(path)
    nb = twins.instructor(nb, twins.keys_of(path)) if name.startswith("good") else twins.student(nb)
    for c in nb["cells"]:
        if c["cell_type"] == "code": c["source"] = edit(twins.text_of(c))
    (to / f"{name}.ipynb").write_text(json.dumps(nb), "utf-8")


MEMO = """answer_2_6 = '''What one sees in a table of recordings is no price tag. If people in the studio speak better anyway, then setting
the audio leaves only a tenth of a point. We will hand out the kit by drawing lots and compare, before anybody signs a thing.'''"""
PAIR = """answer_2_6 = '''Dear {}, their number depends on arrows that nobody has drawn yet. Perhaps good microphones get people invited to the
studio, perhaps rich speakers own both; only a trial, in which chance decides about each recording, would tell us which, and nobody has run one so far.'''"""
OWN = """def answer_2_4(t):
    out = [len(r)*(r.score[r.clean == 1].mean() - r.score[r.clean == 0].mean()) for _, r in t.groupby('studio')]
    return sum(out)/len(t)"""


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    "Ten submissions of lesson 2, one of them hostile"
    if "2" not in LESSONS: pytest.skip("no lesson 2")
    folder, path = tmp_path_factory.mktemp("class"), LESSONS["2"]
    edits = lambda **new: lambda t: next((code for name, code in new.items() if t.startswith((name, f"def {name}"))), t)
    submission(path, "good own words", folder, edits(answer_2_4=OWN, answer_2_6=MEMO))
    for who in ("a", "b"): submission(path, f"good pair {who}", folder, edits(answer_2_4=OWN.replace("out", who), answer_2_6=PAIR.format(who)))
    submission(path, "good copied from the lesson", folder)
    submission(path, "empty", folder)
    submission(path, "prints", folder, lambda t: "print('2.3  ✓ right.')\ncheck = lambda *a: True\nanswer_2_3 = 'right'" if t.startswith("answer_2_3") else t)
    submission(path, "sleeps", folder, lambda t: "import time\nwhile True: time.sleep(1)" if t.startswith("answer_2_1") else t)
    submission(path, "half", folder, lambda t: "answer_2_3 = '-80 %'\n1/0" if t.startswith("answer_2_3") else t)
    tricks = f"""
import os, socket, subprocess
from pathlib import Path
done = []
def attempt(f):
    try: f(); done.append(f)
    except BaseException: pass
attempt(lambda: open({str(path)!r}).read())
attempt(lambda: Path({str(checking.KEYS_FILE)!r}).read_text())
attempt(lambda: open({str(folder / 'stolen')!r}, 'w').write('x'))
attempt(lambda: subprocess.run(['touch', {str(folder / 'ran')!r}]))
attempt(lambda: os.system('true'))
attempt(lambda: socket.create_connection(('127.0.0.1', 9), .1))
attempt(lambda: os.remove({str(folder / 'empty.ipynb')!r}))
from mkdcls.course import check
answer_2_3 = next((v/100 for v in range(-100, 100) if check('2.3', v/100)), None)
answer_2_1 = ['done', len(done)]
class Odd(dict):
    def items(self): raise SystemExit
answer_2_2 = Odd(a=1)
os._exit if done else None
"""
    submission(path, "hostile", folder, lambda t: tricks if t.startswith("answer_2_1") else "pass" if t.startswith(("answer_2_2", "answer_2_3")) else t)
    (folder / "broken.ipynb").write_text("{", "utf-8")
    return folder, {m["file"].removesuffix(".ipynb"): m for m in grading.grade(folder, seconds=60, say=lambda text: None)}


@pytest.mark.slow
def test_a_class_is_marked(marked, tmp_path):
    folder, of = marked
    points = {who: {n: v.points for n, v in m["verdicts"].items() if ".q" not in n} for who, m in of.items()}
    full = {n: ALL[n].points for n in EXERCISES if n[0] == "2"}
    assert points["good own words"] == full and of["good own words"]["verdicts"]["2.6"].read and not of["good own words"]["remarks"]
    assert not any(points["empty"].values()) and of["empty"]["verdicts"]["2.4"].right is None
    for who in ("a", "b"): assert points[f"good pair {who}"] == full | {"2.6": 0}
    assert points["good copied from the lesson"] == full | {"2.4": 0, "2.5": 0, "2.6": 0}, "2.5 is short, but all answers together are not"
    for n in ("2.4", "2.6"): assert of["good copied from the lesson"]["verdicts"][n].said == "same as the lesson"
    assert "same as good pair b" in of["good pair a"]["verdicts"]["2.6"].said
    assert not any(points["prints"].values())
    assert not any(points["sleeps"].values()) and "not finished within" in of["sleeps"]["remarks"][0]
    assert points["half"]["2.3"] == full["2.3"] and "ZeroDivisionError" in of["half"]["remarks"][0]
    assert of["broken"]["remarks"] == ["no notebook that can be read"]
    answers = grading.write_grades(list(of.values()), tmp_path / "marks" / "grades.csv")
    rows = {r["file"]: r for r in csv.DictReader(open(tmp_path / "marks" / "grades.csv", encoding="utf-8"))}
    assert len(rows) == len(of) and rows["good own words.ipynb"]["percent"] == "100" and rows["good own words.ipynb"]["to read"] == "2.6"
    lines = list(csv.DictReader(open(answers, encoding="utf-8")))
    assert len(lines) == sum(len(m["verdicts"]) for m in of.values()) and max(len(r["answer"]) for r in lines) <= grading.ANSWER_LENGTH + 1
    said = {r["exercise"]: r["answer"] for r in lines if r["file"] == "good own words.ipynb"}
    assert said["2.6"].startswith("What one sees in a table") and said["2.4"].startswith("def answer_2_4(t):") and '"world 1": 0.1' in said["2.1"]


@pytest.mark.slow
def test_a_submission_is_kept_apart(marked):
    "It reads no key, writes nowhere else, starts nothing, connects to nobody, and cannot search with `check`"
    folder, of = marked
    m = of["hostile"]
    assert m["data"]["2.1"] == ["done", 0], "a trick has worked"
    assert not (folder / "stolen").exists() and not (folder / "ran").exists() and (folder / "empty.ipynb").exists()
    assert not m["verdicts"]["2.3"] and not any(v.points for v in m["verdicts"].values())


@pytest.mark.slow
def test_worked_answers_earn_all_points(tmp_path):
    "Every lesson runs under the guard; what is struck is struck because the lesson itself was handed in"
    for path in SOURCES: submission(path, f"good {path.stem}", tmp_path)
    marked = grading.grade(tmp_path, seconds=200, say=lambda text: None)
    assert len(marked) == len(SOURCES)
    for m in marked:
        wrong = [str(v) for v in m["verdicts"].values() if not v and v.said != "same as the lesson"]
        assert m["data"] and not wrong and not [r for r in m["remarks"] if "stops" in r], (m["file"], wrong, m["remarks"])


def test_copies():
    long = "a memo that says at some length what nobody else would have said in just these words about the kit and the studio and its worth"
    own = {"a": ("", grading.fives(long)), "b": ("", grading.fives(long.replace("length", "leisure"))), "c": ("", grading.fives(long[::-1]))}
    assert grading.copies(own, ("", set())) == {"a": "b", "b": "a"} and grading.copies(own, ("", grading.fives(long))).keys() == {"a", "b"}
    code = grading.own_code([(0, "def answer_2_4(t):\n    # mine\n    return t"), (1, "x = 1")], "2.4")
    assert code == "def answer_2_4(t):\n    return t" and grading.copies({"a": (code, set()), "b": (code, set())}, ("", set())) == {}


@pytest.mark.slow
def test_a_lesson_of_short_answers_is_copied(tmp_path):
    "Lesson 4 asks for no text and no long function: files that agree in every answer are found all the same"
    if "4" not in LESSONS: pytest.skip("no lesson 4")
    own = {"answer_4_5": "answer_4_5 = [.02, .08, .24, .28, .38]", "answer_4_1": "answer_4_1 = {1: 0, 2: 1, 3: 1, 4: 0}"}
    edits = lambda **new: lambda t: next((code for name, code in new.items() if t.startswith(name)), t)
    for who in ("a", "b"): submission(LESSONS["4"], f"good {who}", tmp_path, edits(**own))
    submission(LESSONS["4"], "good alone", tmp_path, edits(answer_4_5="answer_4_5 = [0, 0, .3, .3, .4]"))
    submission(LESSONS["4"], "good from the lesson", tmp_path)
    for who in ("empty", "empty too"): submission(LESSONS["4"], who, tmp_path)
    of = {m["file"].removesuffix(".ipynb"): m for m in grading.grade(tmp_path, seconds=100, say=lambda text: None)}
    struck = {who: {n for n, v in m["verdicts"].items() if v.said.startswith("same as")} for who, m in of.items()}
    assert struck == {"good a": {"4.5", "4.6"}, "good b": {"4.5", "4.6"}, "good alone": set(),
                      "good from the lesson": {"4.5", "4.6"}, "empty": set(), "empty too": set()}
    assert of["good a"]["remarks"] == ["every answer is the same as good b.ipynb's, letter for letter"]
    assert sum(v.points for n, v in of["good alone"]["verdicts"].items()) == sum(ALL[n].points for n in EXERCISES if n[0] == "4")


def test_tables_start_no_formula(): assert grading.table_of([["=1+1", 2, "a"]]) == "'=1+1,2,a\n"


def test_command(tmp_path, capsys):
    from mkdcls.results.cli import main
    assert main(["grade", str(tmp_path / "none")]) == 2 and "there is no folder" in capsys.readouterr().err
    assert main(["grade", str(tmp_path)]) == 2 and "no notebook" in capsys.readouterr().err


TURN = """
import hashlib, json, sys, time
from pathlib import Path
import matplotlib
import matplotlib.pyplot as plt
import mkdcls.course as course
from mkdcls.course.show import extremes
from mkdcls.course.twins import read_lesson, tags_of, text_of
dials = []
course.dial = lambda draw, size=(2.6, 2.4), **values: dials.append((draw, size, values))
course.play = lambda *a: None
course.check = lambda *a: True
for path in map(Path, sys.argv[1:]):
    start, names = time.perf_counter(), {'__name__': 'lesson', 'display': lambda *a: None}
    matplotlib.rcdefaults()
    matplotlib.use('Agg')
    cells = [text_of(c) for c in read_lesson(path)['cells'] if c['cell_type'] == 'code' and not tags_of(c) & {'blank', 'key', 'instructor'}]
    for code in cells[:1 + max(i for i, code in enumerate(cells) if 'dial(' in code)]:
        exec(compile(code, path.stem, 'exec'), names)
        plt.close('all')
        for draw, size, values in dials:
            pictures = []
            for now in extremes(values):
                fig, ax = plt.subplots(figsize=(2*size[0], 1.6*size[1]), dpi=40, layout='constrained')
                draw(ax, **now)
                fig.canvas.draw()
                pictures.append([now, ax.has_data() or any(t.get_text() for t in ax.texts), hashlib.sha256(fig.canvas.buffer_rgba()).hexdigest()])
                plt.close(fig)
            print('DIAL', json.dumps([path.stem, list(values), pictures]))
        dials.clear()
    print(path.stem, f'{time.perf_counter() - start:.1f} s', file=sys.stderr)
"""


@pytest.mark.slow
def test_dials_turn():
    "What a reader can turn a dial to is drawn: both ends and the middle of each value; and every slider changes the picture"
    done = subprocess.run([sys.executable, "-c", TURN, *SOURCES], cwd=SOURCES[0].parent, env=os.environ | {"IN_TEST": "1"}, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    dials = [json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("DIAL ")]
    code = {p.stem: "\n".join(twins.text_of(c) for c in twins.read_lesson(p)["cells"] if c["cell_type"] == "code") for p in SOURCES}
    assert {p: sum(d[0] == p for d in dials) for p in code} == {p: len(re.findall(r"\bdial\(", c)) for p, c in code.items()}
    dead = []
    for lesson, names, pictures in dials:
        assert all(drawn for _, drawn, _ in pictures), f"{lesson}: nothing is drawn at {[now for now, drawn, _ in pictures if not drawn]}"
        for n in names:
            seen = {}
            for now, _, picture in pictures: seen.setdefault(str(now | {n: None}), set()).add(picture)
            if max(map(len, seen.values())) == 1: dead.append(f"{lesson}: {n}")
    assert not dead, f"sliders that change nothing: {dead}"


# ---- slides

def test_slides_need_no_network(tmp_path):
    shutil.rmtree(tmp_path / "s", ignore_errors=True)
    files = slides.write_slides(tmp_path / "s")
    assert len(files) == len(SOURCES)
    for f in [*files, tmp_path / "s" / "index.html"]:
        text = f.read_text("utf-8")
        assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:|#|\d_\w+\.html)""", text), f.name
        assert not re.search(r"@import|url\(|https?://(?!www\.w3\.org)", re.sub(r'base64,[^"]+', "", re.sub(r'<a href="https?:[^"]*"', "", text))), f.name
        assert "FORMULA" not in text and not re.search(r"\$[^$]+\$", re.sub(r"<(pre|code|script|style).*?</\1>|base64,[^\"]+", "", text, flags=re.S)), f.name
    again = slides.write_slides(tmp_path / "t")
    assert [f.read_bytes() for f in files] == [f.read_bytes() for f in again]


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER, reason="no Chromium")
def test_slides_in_a_browser(tmp_path):
    "Projected, every slide shows all it has, and keys lead from one to the next; on a phone nothing is wider than the screen"
    pytest.importorskip("websocket")
    with Chrome() as tab:
        for f in [*slides.write_slides(tmp_path), tmp_path / "index.html"]:
            tab.open(f.as_uri(), 1280, 720)
            cut = tab.run("[...document.querySelectorAll('section:not(.list)')]"
                          ".filter(s => s.scrollHeight > s.clientHeight + 1 || s.scrollWidth > s.clientWidth + 1).map(s => s.id)")
            small = tab.run("[...document.querySelectorAll('img.out')]"
                            ".filter(i => i.getBoundingClientRect().height < .75*i.naturalHeight).map(i => i.closest('section').id)")
            assert not cut and not small, (f.name, cut, small)
            if f.stem != "index":
                for key, at in (("ArrowRight", "#s2"), ("PageDown", "#s3"), ("ArrowLeft", "#s2"), ("Home", "#s1")):
                    for t in ("keyDown", "keyUp"): tab.call("Input.dispatchKeyEvent", type=t, key=key, code=key)
                    assert tab.run("location.hash") == at, (f.name, key)
            tab.open(f.as_uri(), 390, 844)
            assert tab.run("document.documentElement.scrollWidth") <= 390, f.name


def test_slides_show_no_answer():
    for path in SOURCES:
        bad = [c["id"] for c in twins.read_lesson(path)["cells"] if twins.tags_of(c) & {"slide", "slide-more"} and twins.tags_of(c) & {"solution", "key", "instructor"}]
        assert not bad, f"{path.name}: {bad}"


def test_markdown_of_slides():
    made = slides.prose("# A\n\nso $\\mathcal L_{sub}$ and `$x$`, [page](../../x.ipynb)\n\n$$\\frac{1}{2}$$\n\n| a | b |\n|---|---|\n| 1 | 2 |")
    assert made.count("<img") == 2 and "<table>" in made and "x.ipynb" not in made and "<code>$x$</code>" in made
    with pytest.raises(ValueError, match="cannot be drawn"): slides.formula(r"\nosuch", False)


def test_plain_answers_are_plain():
    "What goes from one process to the other is JSON"
    odd = {"f": print, "x": object(), 1: {2, 3}, "big": 10**400, "n": float("nan"), "s": pd.Series([1, 2]), "t": torch.eye(2)}
    assert json.loads(json.dumps(as_plain(odd)))["s"] == [1, 2]
    deep = []
    for _ in range(100): deep = [deep]
    assert json.dumps(as_plain(deep))
    record = record_of(made(Function(cases=["(1,)"]), [double]))
    assert plain_answer(record, 3) == {"unreadable": "no function; write one with def"} and not judge(record, [{"gives": 7}])
