"""Which recordings does somebody mean? Files, folders, archives, lists and the standard input, in the order in
which they were named."""
from __future__ import annotations

import math
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from mkdcls.engine import lists
from mkdcls.engine.archives import Tree

SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".au", ".snd", ".w64", ".rf64",
            ".caf")
ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
LISTS = (".csv", ".parquet", ".txt", ".lst", ".m3u")
PLACE_COLUMNS = ("path", "start_s", "end_s", "channel")  # of a list with columns
MOST = 1 << 30  # bytes of the standard input
FAULTS_TOLD = 10  # of a folder or an archive, told one by one


class Recording(NamedTuple):
    "One recording, or a part of one"
    name: str  # as it is shown
    path: str  # where it lies; may go through archives
    start_s: float = math.nan  # beginning, s; NaN: the file's
    end_s: float = math.nan  # end, s; NaN: the file's
    channel: int | None = None  # counted from 1; None: the only one


def _number(text, what: str, line: int) -> float:
    if str(text).strip().lower() in ("", "nan", "none", "<na>"): return math.nan
    try: return float(str(text).replace(",", "."))
    except ValueError: raise ValueError(f"row {line}: {what} is {lists.printable(text, 40)!r}, no number") from None


def _of_list(file: Path) -> list[Recording]:
    "A table with a column `path`, or a plain list with a path in each line; paths count from the list's folder"
    base = file.parent
    if file.suffix.lower() == ".parquet": table = lists.read_parquet(file)
    elif file.suffix.lower() == ".csv": table = lists.read_list(lists.bytes_of(file), [("path",)])[0]
    else:
        lines = lists.decoded(lists.bytes_of(file))[0].splitlines()
        return [Recording(lists.printable(n), str(base / n)) for n in (line.strip() for line in lines) if n
                and not n.startswith("#")]
    if "path" not in table: raise ValueError(f"it has no column path; it has {lists.few(table.columns)}")
    rows = []
    for i, r in enumerate(table[[c for c in PLACE_COLUMNS if c in table]].to_dict("records"), 2):
        start, end, channel = (_number(r.get(c, ""), c, i) for c in PLACE_COLUMNS[1:])
        part = ("" if math.isnan(start) and math.isnan(end)
                else f"#{'' if math.isnan(start) else f'{start:g}'}-{'' if math.isnan(end) else f'{end:g}'}")
        rows.append(Recording(lists.printable(r["path"]) + part, str(base / str(r["path"])), start, end,
                              None if math.isnan(channel) else int(channel)))
    return rows


def _spooled(stream, stack: ExitStack) -> str:
    "The standard input as a file, for as long as the stack is open"
    f = stack.enter_context(tempfile.NamedTemporaryFile(prefix="mkdcls-", suffix=".audio"))
    if len(data := stream.read(MOST + 1)) > MOST:
        raise ValueError(f"the standard input has more than {MOST:,} bytes: give a file")
    f.write(data)
    f.flush()
    return f.name


def gather(sources, stack: ExitStack, stdin=None, say=lambda text: None) -> list[Recording]:
    """The recordings behind some names: `-` is the standard input, a folder or an archive all audio in it, a list what
    it lists, anything else itself.

    What is no audio by its name is passed over in a folder, and `say` is told how much; a file that is named is always
    tried.
    """
    out = []
    for source in [sources] if isinstance(sources, str | os.PathLike) else sources:
        if isinstance(source, Recording): out.append(source); continue
        name = os.fspath(source)
        low, path = name.lower(), Path(name).expanduser()
        if name == "-": out.append(Recording("standard input", _spooled(stdin or sys.stdin.buffer, stack)))
        elif path.is_dir() or (low.endswith(ARCHIVES) and path.is_file()):
            tree = Tree(path)
            found = tree.under("", SUFFIXES)
            if others := len(tree.names) - len(found):
                say(f"{lists.printable(name)}: {others:,} files whose names are not those of audio are passed over")
            for at, reason, detail in tree.faults[:FAULTS_TOLD]:
                say(f"{lists.printable(at)}: {reason}: {lists.printable(detail)}")
            if (more := len(tree.faults) - FAULTS_TOLD) > 0: say(f"{lists.printable(name)}: {more:,} more like these")
            if not found:
                raise ValueError(f"{lists.printable(name)} holds no audio: "
                                 f"names of audio end in {', '.join(SUFFIXES[:5])}, …")
            out += [Recording(lists.printable(f"{name.rstrip('/')}/{n}"), tree.path(n)) for n in found]
        elif low.endswith(LISTS):
            if not path.is_file(): raise FileNotFoundError(f"no list {lists.printable(name)}")
            try: out += _of_list(path)
            except ValueError as e:
                raise ValueError(f"{lists.printable(name)} cannot be read as a list of recordings: {e}") from e
        else: out.append(Recording(lists.printable(name), str(path)))
    if not out: raise ValueError("no recordings: name files, folders, lists, or - for the standard input")
    return out
