# ruff: noqa: E501 (tables of kinds: one a line)
"""Lists, Parquet and TOML as people send them, and what a spreadsheet or a terminal would make of what we write."""
import codecs
import re
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from faults.harness import kinds
from mkdcls.corpora import SPLITS, open_manifest, corpora_file, open_prepared, own_rows, own_template
from mkdcls.engine import lists
from mkdcls.labels import AGESUB, GENDERS, agesup_of
from mkdcls.validation import report_text

ROWS = [("a.wav", "김철수", "남", "34"), ("b.wav", "이영희", "여", "51")]
HEAD = ("path", "speaker_id", "gender", "age")


def csv(sep=",", end="\n", tail="", rows=ROWS, head=HEAD): return "".join(sep.join(r) + tail + end for r in [head, *rows])


TEXT = csv()
READ = {
    "UTF-8": (TEXT.encode(), ""), "UTF-8 with a mark": (TEXT.encode("utf-8-sig"), ""), "CP949": (TEXT.encode("cp949"), "CP949"),
    "UTF-16 with a mark": (TEXT.encode("utf-16"), "UTF-16"), "UTF-16 BE with a mark": (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), "UTF-16"),
    "UTF-16 LE without a mark": (TEXT.encode("utf-16-le"), "UTF-16"), "UTF-16 BE without a mark": (TEXT.encode("utf-16-be"), "UTF-16"),
    "UTF-32 with a mark": (TEXT.encode("utf-32"), "UTF-32"), "CRLF": (csv(end="\r\n").encode(), ""), "CR alone": (csv(end="\r").encode(), "CR alone"),
    "semicolons": (csv(";").encode(), "semicolons"), "tabs": (csv("\t").encode(), "tabs"), "bars": (csv("|").encode(), "vertical bars"),
    "semicolons in CP949": (csv(";").encode("cp949"), "CP949, semicolons"), "UTF-16 with tabs, Excel's Unicode text": (csv("\t").encode("utf-16"), "UTF-16, tabs"),
    "sep= of Excel": (b"sep=;\r\n" + csv(";", "\r\n").encode(), ""), "a comma too many in each line": (csv(tail=",").encode(), "without a name"),
    "a comma too many below the header": ((",".join(HEAD) + "\n" + "".join(",".join(r) + ",\n" for r in ROWS)).encode(), "without a name"),
    "empty rows at the end": ((TEXT + ",,,\n" * 5).encode(), "5 empty rows"), "blank lines": (TEXT.replace("\n", "\n\n").encode(), ""),
    "spaces around names": (TEXT.replace("speaker_id", " speaker_id ").encode(), ""), "quoted cells": (csv(rows=[(f'"{a}"', *b) for a, *b in ROWS]).encode(), ""),
    "no end of the last line": (TEXT.rstrip().encode(), "")}


@kinds("lists read", READ)
def test_a_list_is_read(fault, kind, tmp_path):
    data, note = kind
    (tmp_path / "l.csv").write_bytes(data)
    rows = fault.survives(lambda: own_rows(tmp_path / "l.csv"))
    assert [tuple(r) for r in rows[["utterance", "speaker", "gender", "age"]].values.tolist()] == ROWS
    assert note in rows.attrs.get("note", "") and bool(note) == bool(rows.attrs)


BAD = {
    "empty": (b"", "empty"), "only a mark": (codecs.BOM_UTF8, "empty"), "blank": (b"\n\n  \n", "empty"), "NUL": (TEXT.encode().replace(b"34", b"3\0"), "NUL.*line 2"),
    "zeros": (bytes(500), "NUL"), "Latin-1": ("path,speaker_id,gender,age\né.wav,ß,F,30\n".encode("latin-1"), "line 2.*CP949"),
    "UTF-16 cut": (TEXT.encode("utf-16")[:-1], "cut off"), "a mark that lies": (codecs.BOM_UTF16_LE + b"\x00\xd8", "does not fit"),
    "random bytes": (np.random.default_rng(0).bytes(400), "line"), "open quote": (TEXT.replace("a.wav", '"a.wav').encode(), "quotation mark"),
    "open quote closed later": (TEXT.replace("a.wav", '"a.wav').replace("b.wav", 'b.wav"').encode(), "line|quotation"),
    "text after a quote": (TEXT.replace("a.wav", '"a"b').encode(), "line 2"), "more cells than columns": (TEXT.replace("34", "34,1,2").encode(), "line 2 has 6 cells"),
    "fewer cells": (TEXT.replace(",남,34", "").encode(), "line 2 has 2 cells.*cut off"), "cut in the last line": (TEXT.encode()[:-7], "cut off"),
    "column twice": (TEXT.replace("gender", "age").encode(), "twice"), "no header": (csv(head=ROWS[0]).encode(), "missing"),
    "a million columns": (b"," * 1_000_000, "characters|columns|empty"), "many names": (",".join(f"c{i}" for i in range(1000)).encode(), "missing"),
    "a line of 100 MB": (b"x" * 100_000_000, "first line"), "a cell of a megabyte": (TEXT.replace("a.wav", "a" * 1_000_000).encode(), "line 2.*131,072"),
    "wrong separator": (csv("~").encode(), "missing"), "unknown column": (TEXT.replace("age\n", "age,agess\n").replace("34\n", "34,1\n").replace("51\n", "51,1\n").encode(), "agess.*did you mean 'age"),
    "split with a hole": (csv(head=(*HEAD, "split"), rows=[(*ROWS[0], "train"), (*ROWS[1], "")]).encode(), "split"),
    "a nameless column with cells": ((",".join(HEAD) + ",\n" + ",".join(ROWS[0]) + ",x\n").encode(), "no name"),
    "HTML": (b"<html><body>404</body></html>", "missing"), "an escape in the header": (b"\x1b[2Jpath,b\n1,2\n", r"\\x1b")}


@kinds("lists refused", BAD)
def test_a_list_is_refused(fault, kind, tmp_path):
    (tmp_path / "l.csv").write_bytes(kind[0])
    assert "\x1b" not in fault.refuses(lambda: own_rows(tmp_path / "l.csv"), kind[1])


PLACES = {"..": "../a.wav", "deep ..": "x/../../a.wav", "absolute": "/etc/passwd", "drive": "C:\\a.wav", "drive with slashes": "c:/a.wav", "share": "\\\\server\\a.wav",
          ".. with backslashes": "..\\a.wav", "another root": "/srv/a.wav", "the folder above": "..", "the folder": "."}


@kinds("paths in lists", PLACES)
def test_no_path_leaves_the_lists_folder(fault, kind, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "l.csv").write_text(csv(rows=[(kind, "s", "F", "30"), ROWS[1]]))
    rows = fault.survives(lambda: own_rows(tmp_path / "in" / "l.csv"))
    assert rows["fault"].tolist() == ["path outside the corpus", ""] and all(str(tmp_path / "in") in p for p in rows["path"])


SPANS = {"word": ("x", "2"), "endless": ("inf", ""), "huge": ("1e300", ""), "NaN as text": ("zero", ""), "decimal comma among commas": ('"1,5"', "2"), "word at the end": ("0", "end")}


@kinds("paths in lists", SPANS)
def test_seconds_that_are_none(fault, kind, tmp_path):
    (tmp_path / "l.csv").write_text(csv(head=(*HEAD, "start_s", "end_s"), rows=[(*ROWS[0], *kind)]))
    assert fault.survives(lambda: own_rows(tmp_path / "l.csv"))["fault"].tolist() == ["segment outside the audio"]


@kinds("lists read")
def test_decimal_commas_among_semicolons(fault, tmp_path):
    (tmp_path / "l.csv").write_text(csv(";", head=(*HEAD, "start_s", "end_s"), rows=[(*ROWS[0], "1,5", "2,25")]))
    assert fault.survives(lambda: own_rows(tmp_path / "l.csv"))[["start_s", "end_s"]].values.tolist() == [[1.5, 2.25]]


@kinds("lists read")
def test_backslashes_as_folders(fault, tmp_path):
    (tmp_path / "l.csv").write_text(csv(rows=[("x\\a.wav", "s", "F", "30")]))
    assert fault.survives(lambda: own_rows(tmp_path / "l.csv"))["path"].tolist() == [str(tmp_path / "x" / "a.wav")]


# ---- Parquet

D = dict(path=["a.wav", "b.wav"], speaker_id=["s", "t"], gender=["F", "M"], age=["30", "40"])
PARQUET = {"null in speaker": D | dict(speaker_id=["s", None]), "null in path": D | dict(path=[None, "b.wav"]), "null in gender": D | dict(gender=[None, "M"]), "null in age": D | dict(age=[None, "40"]),
           "numbers as speakers": D | dict(speaker_id=[1, 2]), "floats with a hole as speakers": D | dict(speaker_id=[1., None]), "bytes as speakers": D | dict(speaker_id=[b"s", "가".encode()]),
           "numbers as paths": D | dict(path=[1, 2]), "booleans as gender": D | dict(gender=[True, False]), "ages as floats": D | dict(age=[30., np.nan])}


@kinds("Parquet", PARQUET)
def test_cells_of_parquet(fault, kind, tmp_path):
    pq.write_table(pa.table(kind), tmp_path / "l.parquet")
    rows = fault.survives(lambda: own_rows(tmp_path / "l.parquet"))
    assert len(rows) == 2 and all(isinstance(v, str) and v not in ("nan", "None") and not v.startswith("b'") for c in ("utterance", "speaker", "path", "gender") for v in rows[c])


PARQUET_BAD = {"empty": (b"", "not a whole Parquet"), "text": (TEXT.encode(), "not a whole Parquet"), "cut": (None, "not a whole Parquet"), "mark alone": (b"PAR1PAR1", "not a whole Parquet"),
               "lists as speakers": (D | dict(speaker_id=[["s"], ["t"]]), "speaker_id.*lists"), "structures as paths": (D | dict(path=[{"a": 1}, {"a": 2}]), "path.*lists"),
               "bytes that are no text": (D | dict(speaker_id=[b"\xff\xfe", b"s"]), "speaker_id.*UTF-8"), "a column missing": ({k: v for k, v in D.items() if k != "age"}, "missing"),
               "nothing in it": ({}, "missing")}


@kinds("Parquet", PARQUET_BAD)
def test_parquet_that_is_none(fault, kind, tmp_path):
    what, says = kind
    p = tmp_path / "l.parquet"
    if isinstance(what, dict): pq.write_table(pa.table(what), p)
    else:
        pq.write_table(pa.table(D), p)
        p.write_bytes(p.read_bytes()[:-20] if what is None else what)
    fault.refuses(lambda: own_rows(p), says)


def people(n=30):
    d = pd.DataFrame({"utterance": [f"u{i}" for i in range(n)], "speaker": [f"s{i // 2}" for i in range(n)], "gender": [GENDERS[i // 2 % 2] for i in range(n)], "age": np.nan,
                      "agesub": [AGESUB[i // 2 % 5] for i in range(n)], "corpus": "c", "duration": 2., "path": "a.wav"})
    return d.assign(agesup=d["agesub"].map(agesup_of), split=[SPLITS[i // 2 % 3] for i in range(n)])


@kinds("Parquet", {"climbing": "../../x.arrow", "absolute": "/etc/passwd", "folder": "x/00000.arrow", "backslash": "..\\x", "null": None, "number": 3})
def test_a_shards_name_that_leads_out(fault, kind, tmp_path):
    people().assign(shard=pd.Series([kind] * 30, dtype=object), row=0).to_parquet(tmp_path / "manifest.parquet")
    fault.refuses(lambda: open_prepared(tmp_path), "names the shard")


@kinds("lists refused", {"duration": ("duration", "long"), "start": ("start_s", "x"), "row": ("row", "one"), "rate": ("rate", "8k"), "age": ("age", "old")})
def test_a_manifest_with_words_for_numbers(fault, kind, tmp_path):
    people().assign(**{kind[0]: kind[1]}).to_csv(tmp_path / "m.csv", index=False)
    fault.refuses(lambda: open_manifest(tmp_path / "m.csv"), f"{kind[0]} is '{kind[1]}'.*expected a number")


# ---- TOML

GOOD = '[roles]\nFCVG = "a.parquet"\nLTV = "a.parquet"\n"call centre" = "a.parquet"\n[split]\nfractions = [0.6, 0.2, 0.2]\nseed = 1\n'


def toml(folder, data):
    people().drop(columns="split").to_parquet(folder / "a.parquet")
    (folder / "r.toml").write_bytes(data if isinstance(data, bytes) else data.encode())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {r: m["split"].tolist() for r, m in corpora_file(folder / "r.toml").items()}


@kinds("TOML", {"UTF-8 with a mark": GOOD.encode("utf-8-sig"), "UTF-16": GOOD.encode("utf-16"), "UTF-16 without a mark": GOOD.encode("utf-16-le"), "CRLF": GOOD.replace("\n", "\r\n").encode(),
                "CP949 in a comment": (GOOD + "# 한국어 말소리\n").encode("cp949")})
def test_a_corpora_file_is_read(fault, kind, tmp_path):
    (tmp_path / "b").mkdir()
    fault.survives(lambda: toml(tmp_path, kind), same_as=toml(tmp_path / "b", GOOD))


TOML_BAD = {
    "split is a number": ("split = 3\n" + GOOD.split("[split]")[0], "split = 3 should be a table"), "roles is a number": ("roles = 3\n", "roles = 3 should be a table"),
    "roles is a list": ("roles = []\n", "should be a table"), "fractions as words": (GOOD.replace("[0.6, 0.2, 0.2]", '"80-10-10"'), "fractions"),
    "fractions of words": (GOOD.replace("[0.6, 0.2, 0.2]", '["a", "b", "c"]'), "fractions"), "two fractions": (GOOD.replace("[0.6, 0.2, 0.2]", "[0.5, 0.5]"), "fractions"),
    "fractions that are none": (GOOD.replace("[0.6, 0.2, 0.2]", "[nan, 0.5, 0.5]"), "fractions"), "endless fractions": (GOOD.replace("[0.6, 0.2, 0.2]", "[inf, 0.5, 0.5]"), "fractions"),
    "negative fractions": (GOOD.replace("[0.6, 0.2, 0.2]", "[-0.2, 0.6, 0.6]"), "fractions"), "fractions beyond 1": (GOOD.replace("[0.6, 0.2, 0.2]", "[0.8, 0.2, 0.2]"), "sum to 1"),
    "booleans as fractions": (GOOD.replace("[0.6, 0.2, 0.2]", "[true, false, false]"), "fractions"),
    "seed is a word": (GOOD.replace("seed = 1", 'seed = "x"'), "seed = 'x'.*whole number"), "seed is negative": (GOOD.replace("seed = 1", "seed = -1"), "seed = -1"),
    "seed is huge": (GOOD.replace("seed = 1", f"seed = {10**30}"), "seed"), "seed of 5,000 digits": (GOOD.replace("seed = 1", "seed = 1" + "0" * 5000), "not TOML|seed"),
    "seed is a share": (GOOD.replace("seed = 1", "seed = 1.5"), "seed = 1.5"), "seed is true": (GOOD.replace("seed = 1", "seed = true"), "seed = True"), "seed is a list": (GOOD.replace("seed = 1", "seed = [1]"), "seed"),
    "seed is a date": (GOOD.replace("seed = 1", "seed = 2020-01-01"), "seed"), "10,000 levels": ("a = " + "[" * 10_000 + "]" * 10_000, "nested too deep"),
    "10,000 tables": ("a = " + "{a = " * 10_000 + "1" + "}" * 10_000, "nested too deep|not TOML"), "a key twice": (GOOD + "seed = 2\n", "not TOML"), "a table twice": (GOOD + "[split]\n", "not TOML"),
    "unknown key": (GOOD.replace("seed", "sede"), "sede.*did you mean 'seed'"), "unknown table": (GOOD.replace("[split]", "[spilt]"), "spilt.*did you mean 'split'"),
    "unknown role": (GOOD.replace("LTV", "LVT"), "LVT.*did you mean 'LTV'"), "role is a number": (GOOD.replace('LTV = "a.parquet"', "LTV = 3"), "should name a path"),
    "role is a list of numbers": (GOOD.replace('LTV = "a.parquet"', "LTV = [1]"), "should name a path"), "role is empty": (GOOD.replace('LTV = "a.parquet"', 'LTV = ""'), "empty"),
    "empty": ("", "nothing for"), "no TOML": ("<html>", "not TOML"), "NUL": (GOOD.encode() + b"\0", "NUL"), "bytes": (b"\xff\xfe\xfd", "cut off|does not fit"), "cut": (GOOD[:20], "not TOML"),
    "2 MB": ("#" * 2_000_000, "megabyte"), "a folder above": (GOOD.replace('LTV = "a.parquet"', 'LTV = "../a.parquet"'), "leads out"), "absolute": (GOOD.replace('LTV = "a.parquet"', 'LTV = "/etc/x.csv"'), "leads out"),
    "drive": (GOOD.replace('LTV = "a.parquet"', "LTV = 'C:\\a.parquet'"), "leads out"), "NUL in a path": (GOOD.replace('LTV = "a.parquet"', 'LTV = "a\\u0000.parquet"'), "leads out|NUL"),
    "missing file": (GOOD.replace('LTV = "a.parquet"', 'LTV = "gone.csv"'), "no list"), "file of another kind": (GOOD.replace('LTV = "a.parquet"', 'LTV = "r.toml"'), "expected .csv")}


@kinds("TOML", TOML_BAD)
def test_a_corpora_file_is_refused(fault, kind, tmp_path): fault.refuses(lambda: toml(tmp_path, kind[0]), kind[1])


# ---- what we write

RUNS = {"equals": "=cmd|' /C calc'!A0", "plus": "+1+1", "minus": "-2+3", "at": "@SUM(1)", "tab": "\t=1", "CR": "\r=1", "full width": "\uff1d1", "newline": "\n=1"}


@kinds("injection", RUNS)
def test_a_cell_that_a_spreadsheet_would_run(fault, kind):
    assert fault.survives(lambda: lists.cell(kind)).startswith("'") and "\n" not in lists.cell(kind) and "\r" not in lists.cell(kind)


SEEN = {"colour": "\x1b[31m", "title": "\x1b]0;x\x07", "C1": "\x9b2J", "right to left": "\u202egpj.wav", "isolate": "\u2066a\u2069", "zero width": "a\u200bb", "backspace": "a\x08b", "NUL": "a\0b",
        "line separator": "a\u2028b", "tag": "\U000e0041"}
HTML = {"script": "<script>alert(1)</script>", "picture": "![x](http://a/b.png)", "link": "[x](javascript:1)", "entity": "&lt;b&gt;", "backtick": "a`<b>`c", "bar": "a|b", "several backticks": "``a```"}


@kinds("injection", SEEN | HTML)
def test_a_report_shows_what_it_is_told(fault, kind):
    left = pd.DataFrame([(kind, kind, "not audio", kind)], columns=["utterance", "path", "reason", "detail"], dtype=object)
    text = fault.survives(lambda: report_text(kind, 1, left[:0], left, left[:0]))
    assert not lists._UNSEEN.search(text.replace("\n", "")) and "\x1b" not in text
    outside = re.sub(r"(`+) ?(?:(?!\1).)*? ?\1(?!`)", "", text)
    assert "<script" not in outside and not re.search(r"(?<!\\)\[x\]", outside)


@kinds("lists refused", {"another suffix": "mine.txt", "no suffix": "mine"})
def test_a_template_of_another_name(fault, kind, tmp_path): fault.refuses(lambda: own_template(tmp_path / kind), "end in .csv")


@kinds("lost", {"a file": lambda p: p.write_text("mine"), "a folder": lambda p: p.mkdir(), "a link to nowhere": lambda p: p.symlink_to(p.parent / "elsewhere" / "x")})
def test_a_template_never_writes_over(fault, kind, tmp_path):
    kind(tmp_path / "mine.csv")
    fault.command(["template", tmp_path / "mine.csv"], "exists")
    assert not (tmp_path / "elsewhere").exists()
