"""Lists as people send them: which encoding, which separator, which line ends; and text shown or written so that
nothing in it runs.

A table is read where its form is unambiguous, and what had to be guessed is told in one note. Order of encodings: a
byte order mark decides; else UTF-8, where every byte fits; else UTF-16, where one of its two orders gives a first line
of plain ASCII; else CP949, what Excel in Korea writes, where every byte fits and most of what is not ASCII is among the
2,350 syllables of KS X 1001. Nothing is decoded loosely: a byte that does not fit is an error.
"""
from __future__ import annotations

import codecs
import csv
import difflib
import io
import os
import re
import unicodedata
from pathlib import Path

import pandas as pd

LARGEST = 2 << 30  # bytes of a list; 3.3 million rows take about a quarter of it
FIRST_LINE = 1 << 16  # characters of a first line
ROWS_HELD = 1 << 16  # rows that are held as lists at a time
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
         (codecs.BOM_UTF16_LE, "utf-16-le"),
         (codecs.BOM_UTF16_BE, "utf-16-be"))


# ---- text that is shown, cells that are written

_UNSEEN = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
                     "\ud800-\udfff\U000e0000-\U000e007f]")
_RUNS = re.compile("^[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def _escape(m) -> str:
    n = ord(m[0])
    return {9: "\\t", 10: "\\n", 13: "\\r"}.get(n) or (f"\\x{n:02x}" if n < 256 else f"\\u{n:04x}" if n < 65536
                                                       else f"\\U{n:08x}")


def printable(text, most: int | None = None) -> str:
    """Text of strangers as one line: what a terminal obeys, what turns the direction of writing or is not seen at
    all is escaped; cut to `most` characters"""
    text = _UNSEEN.sub(_escape, str(text))
    return text if most is None or len(text) <= most else text[:most - 2] + " …"


def cell(text) -> str:
    """Text for a cell of a CSV file: shown as above

    With an apostrophe before what a spreadsheet would take for a formula.
    """
    text = str(text)
    return ("'" if _RUNS.match(text) else "") + printable(text)


def few(names, most: int = 6) -> str:
    "Some names of many, for a message"
    names = [printable(n, 60) for n in names]
    return str(names[:most])[:-1] + (f", ... {len(names) - most:,} more]" if len(names) > most else "]")


def meant(name, known) -> str:
    "`; did you mean 'seed'?`, where one of the known names is near"
    folded = {k.casefold(): k for k in known}
    near = difflib.get_close_matches(str(name).strip().casefold()[:100], list(folded), 1)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""


# ---- bytes into text

def _odd(text: str) -> bool:
    "Does it hold what no text holds: controls, private or unassigned characters?"
    return any(unicodedata.category(c) in ("Cc", "Cs", "Co", "Cn") for c in set(text) - {"\t", "\n", "\r"})


def _sixteen(data: bytes) -> str:
    "The order of bytes in which data without a mark reads as UTF-16 with a first line in ASCII, else ''"
    found = []
    for name in ("utf-16-le", "utf-16-be"):
        try: text = data.decode(name)
        except UnicodeDecodeError: continue
        first = re.match("[^\r\n]*", text)[0]
        if first.strip() and first.isascii() and not _odd(text): found.append(name)
    return found[0] if len(found) == 1 else ""


def _korean(text: str) -> bool:
    "Most of what is not ASCII is among the syllables of KS X 1001, as in Korean text"
    beyond = [c for c in text if not c.isascii()]
    def known(c):
        try: return "가" <= c <= "힣" and len(c.encode("euc_kr")) == 2
        except UnicodeEncodeError: return False
    ok = {c: known(c) for c in set(beyond)}
    return sum(ok[c] for c in beyond) * 2 > len(beyond) and not _odd(text)


def decoded(data: bytes) -> tuple[str, str]:
    "Text, and the encoding where it is another than UTF-8, else ''; a ValueError says what does not fit"
    for mark, name in _BOMS:
        if data.startswith(mark):
            try: return data[len(mark):].decode(name), "" if name == "utf-8" else name[:6].upper()
            except UnicodeDecodeError as e:
                raise ValueError(f"its byte order mark says {name}, but byte {e.start + len(mark)} does not fit: "
                                 "it is damaged or cut off") from e
    try:
        text = data.decode()
        if "\0" not in text: return text, ""
    except UnicodeDecodeError as e: text, wrong = None, e
    if b"\0" in data:
        if name := _sixteen(data): return data.decode(name), "UTF-16"
        at = data.index(b"\0")
        raise ValueError(f"it holds {data.count(0)} NUL bytes, the first in line {data[:at].count(10) + 1}: "
                         "it is damaged, or no text")
    try:
        if _korean(text := data.decode("cp949")): return text, "CP949"
    except UnicodeDecodeError: pass
    raise ValueError(f"byte {wrong.start}, in line {data[:wrong.start].count(10) + 1}, fits neither UTF-8 nor Korean "
                     "CP949: save it as 'CSV UTF-8'")


# ---- text into a table

def _cells(line: str, sep: str) -> list[str]:
    try: return [c.strip().lstrip("\ufeff") for c in next(csv.reader([line], delimiter=sep))]
    except (csv.Error, StopIteration): return []


def _separator(first: str, need: list[tuple]) -> str:
    "Commas, unless another one alone gives the columns that are needed"
    def gives(sep): return any(set(n) <= set(_cells(first, sep)) for n in need)
    others = [s for s in SEPARATORS if gives(s)]
    return others[0] if len(others) == 1 and not gives(",") else ","


def _rows(reader, columns: list[str], need: set, whole: bool, notes: dict):
    "Rows of as many cells as there are columns; `whole`: the text ends in a line's end"
    k, last = len(columns), max((columns.index(n) for n in need), default=-1)
    for row in reader:
        n = len(row)
        if n != k:
            if not n: continue
            if n > k:
                if any(row[k:]):
                    raise ValueError(f"line {reader.line_num} has {n:,} cells, and the header {k:,}: "
                                     "put a cell that holds the separator between quotation marks")
                notes["cells without a name at the ends of lines"] = None
                row = row[:k]
            else:
                if n <= last or not whole and reader.line_num == notes["lines"]:
                    raise ValueError(f"line {reader.line_num} has {n:,} cells, and the header {k:,}: "
                                     "was the file cut off?")
                row += [""] * (k - n)
        if not any(row):
            notes["empty rows passed over"] = notes.get("empty rows passed over", 0) + 1
            continue
        yield row


def read_text(
    text: str,
    need=((),),  # names of columns, or several tuples of them, one of which must be there: tell the separator
    sep: str = "",  # '' finds it
    quoted: bool = True,  # may cells stand between quotation marks?
    strict: bool = True,  # columns without a name must be empty, and no cell holds a line's end
) -> tuple[pd.DataFrame, str]:  # cells as text; what had to be guessed, '' for nothing
    "A table; a ValueError says which line is wrong"
    need, notes = [tuple(n) for n in (need if need and isinstance(need[0], tuple) else (need,))], {}
    if not text.strip(): raise ValueError("it is empty: write the names of the columns into its first line")
    if "\n" not in text and "\r" in text: text, notes["lines that end in CR alone"] = text.replace("\r", "\n"), None
    text = text.lstrip("\r\n")
    if told := re.match(r'"?sep=(.)"?[,;\t]*\r?\n', text): sep, text = told[1], text[told.end():]  # as Excel marks it
    first = text[:FIRST_LINE].split("\n", 1)[0].rstrip("\r")
    if len(first) >= FIRST_LINE:
        raise ValueError(f"its first line has more than {FIRST_LINE:,} characters: names of columns belong there")
    if not sep and (sep := _separator(first, need)) != ",": notes[f"{SEPARATORS[sep]} between cells"] = None
    how = dict(delimiter=sep, strict=True) if quoted else dict(delimiter=sep, quoting=csv.QUOTE_NONE)
    reader = csv.reader(io.StringIO(text, newline=""), **how)
    notes["lines"] = text.count("\n") + 1
    parts, block, shift = [], [], told is not None
    try:
        columns = [c.strip().lstrip("\ufeff") for c in next(reader)]
        if twice := sorted({c for c in columns if c and columns.count(c) > 1} if len(columns) < 2000 else ()):
            if strict or set(twice) & {c for n in need for c in n}:
                raise ValueError(f"the column {twice[0]!r} stands in its header twice: delete or rename one")
        wanted = next((set(n) for n in need if set(n) <= set(columns)), set())
        if strict or not quoted: names = columns
        else: names = [c or f"\0{i}" for i, c in enumerate(columns)]
        for row in _rows(reader, names, wanted, text.endswith(("\n", "\r")), notes):
            block.append(row)
            if len(block) == ROWS_HELD: parts, block = [*parts, _block(block, names, strict and quoted)], []
    except csv.Error as e:
        what = ("a quotation mark is opened and not closed" if "unexpected end" in str(e)
                else "a cell of more than 131,072 characters" if "limit" in str(e) else str(e))
        raise ValueError(f"line {reader.line_num + shift}: {what}") from e
    parts.append(_block(block, names, strict and quoted))
    del notes["lines"]
    d = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
    keep = [i for i, c in enumerate(columns) if c]
    if len(keep) < len(columns):
        for i in set(range(len(columns))) - set(keep):
            if strict and (d.iloc[:, i] != "").any():
                raise ValueError(f"column {i + 1} has no name and is not empty: give it one")
        if strict: notes["cells without a name at the ends of lines"] = None
        d = d.iloc[:, keep]
    return d, ", ".join(f"{v} {k}" if v else k for k, v in notes.items())


def _block(rows: list[list[str]], columns: list[str], strict: bool) -> pd.DataFrame:
    d = pd.DataFrame(rows, columns=pd.Index(columns, dtype=object),
                     dtype=object) if rows else pd.DataFrame({i: [] for i in range(len(columns))}, dtype=object)
    d.columns = columns
    if strict:
        for i, c in enumerate(columns):
            if bad := next((v for v in d.iloc[:, i] if "\n" in v or "\r" in v), None):
                raise ValueError(f"a cell of column {c!r} goes over several lines, {printable(bad, 40)!r}: "
                                 "a quotation mark is opened and not closed")
    return d.astype(str)


def read_list(data: bytes, need=((),), **how) -> tuple[pd.DataFrame, str]:
    "A table from bytes: `decoded` and `read_text`; the note tells of both"
    text, encoding = decoded(data)
    d, note = read_text(text, need, **how)
    return d, ", ".join(filter(None, [encoding, note]))


def bytes_of(path) -> bytes:
    "A list's bytes, none too many"
    path = Path(path)
    if not path.is_file(): raise FileNotFoundError(f"{printable(path)} is no ordinary file: give a list")
    if (size := os.path.getsize(path)) > LARGEST:
        raise ValueError(f"{printable(path.name)} has {size:,} bytes, and a list at most {LARGEST:,}: "
                         "is it one? Divide it")
    return path.read_bytes()


def read_parquet(path) -> pd.DataFrame:
    """A table from Parquet, its cells plain: text, numbers, booleans, dates; bytes are read as UTF-8

    A ValueError says which column is wrong.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    path = Path(path)
    where = printable(path.name)
    try:
        schema = pq.read_schema(path)
        nested = [f.name for f in schema if pa.types.is_nested(f.type)]
        if not nested: d = pd.read_parquet(path)
    except (OSError, ValueError, KeyError, NotImplementedError) as e:
        if isinstance(e, FileNotFoundError | PermissionError): raise
        raise ValueError(f"{where} is not a whole Parquet file ({printable(str(e).split('. ')[0], 120)}): "
                         "write or copy it again") from e
    if nested:
        raise ValueError(f"{where}: column {nested[0]!r} holds lists or structures, not one value a cell: "
                         "write it as text or numbers")
    if len(set(d.columns)) < len(d.columns): raise ValueError(f"{where} has a column twice: delete or rename one")
    for f in schema:
        if f.name in d and (pa.types.is_binary(f.type) or pa.types.is_large_binary(f.type)
                            or pa.types.is_fixed_size_binary(f.type)):
            try: d[f.name] = d[f.name].map(lambda v: v.decode() if isinstance(v, bytes) else v)
            except UnicodeDecodeError as e:
                raise ValueError(f"{where}: column {f.name!r} holds bytes that are not UTF-8: write it as text") from e
    return d


def as_text(column: pd.Series) -> pd.Series:
    "Cells as text: '' for what is missing, 7 for 7.0"
    def word(v):
        if v is None or v is pd.NA or v is pd.NaT or v != v: return ""
        return str(int(v)) if isinstance(v, float) and v.is_integer() else str(v)
    plain = column.astype(object)
    return plain.map({v: word(v) for v in plain.unique()}).where(plain.notna(), "").astype(str)
