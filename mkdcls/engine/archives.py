"""A corpus as it was downloaded: a folder, or one archive; zips, tars and their pieces in it are folders too. Nothing
is ever unpacked to disk.

A Location is a path that may go through archives as through folders: `/data/download.tar/TS_D01.zip/a.wav`. Pieces
named `X.zip.part0`, `X.zip.part1073741824`, … as AI-Hub's downloader leaves them (the number is the byte at which a
piece begins) are read where they lie, as `X.zip`. On disk the pieces are passed over where X.zip itself is there.
Archives may lie in each other three deep.

Names are NFC to the outside, whatever the disk or the archive spells; zip names without the UTF-8 flag are read as
UTF-8, else as CP949. `__MACOSX/`, `.DS_Store` and `._*` are not part of a corpus and are passed over. Folders that are
links inside the corpus are not followed: what they lead to is listed at its own place.

Zips and plain tars are read at random, and so is an archive in them that is not compressed once more; one that is, is
held in memory, up to 1 GiB. A .tar.gz, .tar.bz2 or .tar.xz can only be read forwards: members in `Tree.order` cost one
pass in all, a step backwards begins anew.

zipfile and tarfile of the standard library read the directories; members are taken by offset, since zipfile's own
reading is slower, keeps some 600 bytes an entry, and leaves decompression unbounded.
"""
from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import stat
import struct
import tarfile
import threading
import zipfile
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from functools import lru_cache
from unicodedata import normalize

from mkdcls.engine.lists import printable

MISSING = "audio missing"
OUTSIDE, BOMB, UNREADABLE, TWINS = ("path outside the corpus", "decompression bomb", "archive unreadable",
                                    "names differ in case or Unicode form")
NESTED = 3  # archives in each other
LARGE, RATIO = 64 << 20, 200  # a bomb is larger than the one and shrinks to less than one part in the other
HELD_BYTES = 1 << 30  # bytes of an archive that has to be held in memory
TAR_HEADER = 1 << 20  # bytes; no header of a tar is longer
MEMBERS = 5_000_000  # files of one archive; the largest corpus here has a third of it in all its archives
DIRECTORY = 1 << 29  # bytes of a zip's directory
# archives a process keeps open, bytes they may take together, about what one entry takes
OPEN_ARCHIVES, BUDGET, ENTRY = 64, 1 << 30, 300

_KINDS = r"\.(?:zip|tar|tgz|tar\.gz|tar\.bz2|tar\.xz)"
_ARCHIVE = re.compile(rf"^(.+{_KINDS})(?:\.part(\d+))?$", re.I | re.S)
_THROUGH = re.compile(rf"{_KINDS}(?=/)", re.I)
_ODD = re.compile(r"(?:^|/)(?:\.{0,2}(?:/|$)|__MACOSX/|\._|\.DS_Store$)|^[A-Za-z]:|[\\\0]")
_LONE = re.compile("[\ud800-\udfff]")  # bytes of a name on disk that are not UTF-8
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError, struct.error,
           OverflowError, NotImplementedError, UnicodeError)
# what the standard library lets through of headers that lie
_ODDITIES = (ValueError, LookupError, TypeError, ArithmeticError, RecursionError, MemoryError)
_UNPACK = {zipfile.ZIP_DEFLATED: lambda: zlib.decompressobj(-15), zipfile.ZIP_BZIP2: bz2.BZ2Decompressor}
_STREAMS = {b"\x1f\x8b": lambda f: gzip.GzipFile(fileobj=f, mode="rb"), b"BZh": bz2.BZ2File,
            b"\xfd7zXZ\0": lzma.LZMAFile}
_AGAIN = "download it again, or leave it out"
_MEANT = "if it is meant to be so, unpack it by hand"
_SEVERAL = "there are several of this name, in different Unicode forms: the first is read"


def _brief(e) -> str:
    return ("headers lie in each other without end" if isinstance(e, RecursionError) else printable(e, 200)
            or type(e).__name__)


class _Refused(ValueError):
    """An archive or a member that is not read: where, which reason of the list, and what to do

    The message begins with the reason.
    """

    def __init__(self, where: str, reason: str, detail: str):
        super().__init__(f"{reason}: {where}: {detail}")
        self.reason, self.detail = reason, detail


# ---- names

def _nfc(name: str) -> str: return name if name.isascii() else normalize("NFC", name)
def _fold(name: str) -> str: return _nfc(_nfc(name).casefold())


def printable_name(name: str) -> str:
    "A name as disk or tar give it, as it is told: NFC; bytes that are not UTF-8 are read as CP949"
    if name.isascii(): return name
    try: name.encode()
    except UnicodeEncodeError:
        raw = name.encode("utf-8", "surrogateescape")
        try: name = raw.decode("cp949")
        except UnicodeDecodeError: name = raw.decode("utf-8", "backslashreplace")
    return normalize("NFC", name)


def _unflagged(names: list[str]) -> dict[str, str]:
    """What names of one zip mean that it does not mark as UTF-8, and that zipfile therefore took for CP437.

    Some pairs of CP949 syllables are also valid two-byte UTF-8 (회화 reads as ȸȭ): where the zip holds any name in
    CP949, only UTF-8 with characters of three bytes, as Korean has, counts as UTF-8.
    """
    raw, utf8 = {}, {}
    for name in names:
        try: raw[name] = name.encode("cp437")
        # newer versions of zipfile have read a Unicode name from the entry's extra field
        except UnicodeEncodeError: continue
        try: utf8[name] = raw[name].decode()
        except UnicodeDecodeError: pass
    if len(utf8) < len(raw): utf8 = {k: v for k, v in utf8.items() if max(v) >= "\u0800"}
    out = {}
    for name, b in raw.items():
        try: out[name] = utf8[name] if name in utf8 else b.decode("cp949")
        except UnicodeDecodeError: pass
    return out


def _inside(name: str) -> str | None:
    "A member's name without empty and `.` parts; '' where it is passed over, None where it points outside"
    parts = [p for p in name.replace("\\", "/").split("/") if p not in ("", ".")]
    if name[:1] in ("/", "\\") or ".." in parts or "\0" in name or re.match("[A-Za-z]:", name): return None
    if not parts or "__MACOSX" in parts[:-1] or parts[-1] == ".DS_Store" or parts[-1].startswith("._"): return ""
    return "/".join(parts)


def _joined(pieces: list[tuple[int | None, int, object]]) -> tuple[list, str]:
    """What lies under one archive's name, as (number after .part or None, bytes, where): what to read in turn, and
    what is wrong with it or ''"""
    whole = [p for p in pieces if p[0] is None]
    if whole: return [whole[0][2]], ""
    pieces = sorted(pieces, key=lambda p: p[0])
    numbers, places, at = [p[0] for p in pieces], [p[2] for p in pieces], 0
    if numbers in (list(range(len(pieces))), list(range(1, len(pieces) + 1))): return places, ""
    for number, size, _ in pieces:
        if number != at:
            return (places, f"{at} bytes come before the piece .part{number}, so a piece is missing or cut short: "
                            "download the pieces again")
        at += size
    return places, ""


# ---- bytes

class _Source:
    "Bytes of several segments one after the other, each (path or bytes, offset, length); one file is open at a time"

    def __init__(self, segments: list[tuple[str | bytes, int, int]]):
        self.segments = [s for s in segments if s[2]]
        self.starts, self.length = [], 0
        for _, _, n in self.segments:
            self.starts.append(self.length)
            self.length += n
        self.held = sum(n for store, _, n in self.segments if isinstance(store, bytes))
        self.lock, self.path, self.file = threading.Lock(), None, None

    def __del__(self):
        if self.file: self.file.close()

    def part(self, offset: int, n: int) -> list[tuple[str | bytes, int, int]]:
        "The segments of `n` bytes from `offset`, fewer at the end"
        out, i = [], max(bisect_right(self.starts, offset) - 1, 0)
        while n > 0 and i < len(self.segments):
            store, begin, length = self.segments[i]
            skip = offset - self.starts[i]
            take = min(n, length - skip)
            if take > 0: out.append((store, begin + skip, take))
            offset, n, i = offset + max(take, 0), n - max(take, 0), i + 1
        return out

    def at(self, offset: int, n: int) -> bytes:
        "`n` bytes from `offset`, fewer at the end"
        return b"".join([store[begin:begin + k] if isinstance(store, bytes) else self._disk(store, begin, k)
                         for store, begin, k in self.part(offset, n)])

    def _disk(self, path, offset, n):
        with self.lock:
            if path != self.path:
                if self.file: self.file.close()
                self.path, self.file = None, None
                self.file = open(path, "rb")
                self.path = path
            self.file.seek(offset)
            return self.file.read(n)


class _View(io.RawIOBase):
    "A source as a file"

    def __init__(self, source: _Source): self.source, self.place = source, 0
    def readable(self): return True
    def seekable(self): return True
    def tell(self): return self.place

    def seek(self, offset, whence=0):
        self.place = max(0, offset + (0, self.place, self.source.length)[whence])
        return self.place

    def readinto(self, buffer):
        data = self.source.at(self.place, len(buffer))
        buffer[:len(data)] = data
        self.place += len(data)
        return len(data)


class _Headers:
    """What tarfile reads a tar's headers through: one that claims to be longer than any header is refused before it
    is read"""

    def __init__(self, stream): self.stream, self.seek, self.tell, self.reached = stream, stream.seek, stream.tell, 0

    def read(self, n):
        if not 0 <= n <= TAR_HEADER: raise tarfile.ReadError(f"a header claims {n} bytes")
        data = self.stream.read(n)
        if data: self.reached = self.tell()
        return data


# ---- archives

class _Archive:
    "The directory of one archive, and its members' bytes"

    def __init__(self, where: str, segments: list, parent: _Archive | None = None, stamp: list | None = None):
        self.where, self.parent, self.stamp, self.source = where, parent, stamp, _Source(segments)
        self.depth = parent.depth + 1 if parent else 1
        self.rows: dict[str, int] = {}  # files that are no archives
        self.archives: dict[str, list[tuple[int | None, int, int]]] = {}  # name → (number after .part, bytes, row)
        self.refused: dict[str, tuple[str, str]] = {}
        self.faults: list[tuple[str, str, str]] = []
        self.offsets, self.packed, self.sizes, self.methods, self.sums = (array("q"), array("q"), array("q"),
                                                                          array("H"), array("L"))
        self.stream, self.lock = None, threading.Lock()
        if not self.source.length: raise self.trouble(f"it is empty: {_AGAIN}")
        try:
            head = self.source.at(0, 512)
            opener = next((f for magic, f in _STREAMS.items() if head.startswith(magic)), None)
            self.zipped = (head[:4] in (b"PK\3\4", b"PK\5\6") or where.lower().endswith(".zip") and not opener
                           and head[257:262] != b"ustar")
            if self.zipped: self._zip()
            else: self._tar(opener)
        except _Refused: raise
        except (*_BROKEN, *_ODDITIES) as e: raise self.trouble(f"{_brief(e)}: {_AGAIN}") from e
        self.weight = self.source.held + ENTRY * len(self.sizes)

    def trouble(self, detail, name=""):
        return _Refused(f"{self.where}/{name}" if name else self.where, UNREADABLE, detail)

    def _note(self, name, reason, detail):
        self.faults.append((name, reason, detail))
        self.refused[name] = reason, detail

    def _take(self, name, offset, packed, size, method=0, check=0):
        "One file into the directory"
        if _ODD.search(name):
            plain = _inside(name)
            if plain is None:
                return self._note(name.replace("\0", "\\0"), OUTSIDE,
                                  "its name leads out of its archive: it is not read; pack it anew under a plain name")
            if not plain: return
            name = plain
        if len(self.sizes) >= MEMBERS:
            raise _Refused(self.where, BOMB, f"it holds more than {MEMBERS} files: it is not read; {_MEANT}")
        if size > LARGE and size > RATIO * packed:
            return self._note(name, BOMB, f"{packed} bytes that claim to become {size}: it is not read; {_MEANT}")
        row = len(self.sizes)
        for column, value in zip((self.offsets, self.packed, self.sizes, self.methods, self.sums),
                                 (offset, packed, size, method, check)): column.append(value)
        m = _ARCHIVE.match(name)
        pieces, number = (self.archives.setdefault(m[1], []), m[2] and int(m[2])) if m else ((), None)
        if name in self.rows or number in [p[0] for p in pieces]:
            self.faults.append((name, TWINS, "its archive holds it more than once, perhaps in several Unicode forms: "
                                             "the first is read"))
        elif m: pieces.append((number, size, row))
        else: self.rows[name] = row

    def _directory(self):
        "A zip's directory that is larger than any is refused before it is read; so is one that says it lies elsewhere"
        tail = self.source.at(max(self.source.length - (1 << 16) - 98, 0), (1 << 16) + 98)
        at = tail.rfind(b"PK\5\6")
        if at < 0 or len(tail) < at + 22: return
        size, big = struct.unpack_from("<I", tail, at + 12)[0], tail.rfind(b"PK\6\6", 0, at)
        if size == 0xffffffff and big >= 0 and len(tail) >= big + 56: size = struct.unpack_from("<Q", tail, big + 40)[0]
        if size > DIRECTORY and size <= self.source.length:
            raise _Refused(self.where, BOMB, f"its directory alone has {size} bytes: it is not read; {_MEANT}")

    def _zip(self):
        self._directory()
        with zipfile.ZipFile(io.BufferedReader(_View(self.source), 1 << 18)) as z:
            entries = [e for e in z.infolist() if not e.filename.endswith(("/", "\\"))]
        for e in (min(entries, key=lambda e: e.header_offset),
                  max(entries, key=lambda e: e.header_offset)) if entries else ():
            if e.header_offset < 0 or self.source.at(e.header_offset, 4) != b"PK\3\4":
                raise zipfile.BadZipFile("its directory does not fit its contents, "
                                         "so bytes are missing or were changed")
        meant = _unflagged([e.filename for e in entries if not e.flag_bits & 0x800 and not e.filename.isascii()])
        locked, foreign = [], []
        for e in entries:
            name = e.filename if "\0" not in e.orig_filename else e.orig_filename
            name = _nfc(name if e.flag_bits & 0x800 else meant.get(name, name))
            kind = stat.S_IFMT(e.external_attr >> 16) if e.create_system == 3 else 0
            if kind not in (0, stat.S_IFREG):
                self._note(name, OUTSIDE, "it is a link or a device, not a file: pack the file itself")
            elif e.flag_bits & 0x1: locked.append(name)
            elif e.compress_type and e.compress_type not in _UNPACK: foreign.append(name)
            else: self._take(name, e.header_offset, e.compress_size, e.file_size, e.compress_type, e.CRC)
        for names, what in ((locked, "encrypted: ask its owner for one without a password"),
                            (foreign, "compressed in a way that is not read here: "
                                      "pack the archive anew with the method Deflate")):
            if names:
                self.faults.append(("", UNREADABLE,
                                    f"{len(names)} of {len(entries)} files, first {names[0]}, are {what}"))
                self.refused.update(dict.fromkeys(names, (UNREADABLE, f"it is {what}")))

    def _tar(self, opener):
        stream = io.BufferedReader(_View(self.source), 1 << 16)
        if opener: stream = self.stream = opener(stream)
        limit = max(LARGE, RATIO * self.source.length) if opener else self.source.length
        last, wrong, place, headers = None, None, -1, _Headers(stream)
        try:
            with tarfile.open(fileobj=headers, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
                while member := tar.next():
                    tar.members.clear()  # tarfile would keep them all, at more than a kilobyte each
                    if last: self._member(last)
                    last = None
                    if member.size < 0 or tar.offset <= place: raise tarfile.ReadError("its headers lead backwards")
                    if opener and member.offset_data + member.size > limit:
                        return self._note("", BOMB, f"{self.source.length} bytes that become more than {limit}: "
                                                    f"the rest is not read; {_MEANT}")
                    if member.offset_data + member.size > limit:
                        raise tarfile.ReadError(f"it ends within {printable_name(member.name)}")
                    last, place = member, tar.offset
                stream.seek(tar.offset)
                if stream.read(512).strip(b"\0"):
                    raise tarfile.ReadError(f"byte {tar.offset} should begin a file's header, and does not")
        except (*_BROKEN, *_ODDITIES) as e: wrong = e
        if last and (not wrong or headers.reached >= last.offset_data + last.size): self._member(last)
        if not wrong: return
        if not self.rows and not self.archives: raise wrong
        self._note("", UNREADABLE, f"{_brief(wrong)}: what comes before is read; download the archive again")

    def _member(self, m):
        name = printable_name(m.name)
        if m.isdir(): return
        if m.issparse():
            self._note(name, UNREADABLE,
                       "it is stored as a sparse file, which is not read here: pack the archive anew without --sparse")
        elif m.isreg(): self._take(name, m.offset_data, m.size, m.size)
        elif _inside(name) != "":
            what = f"a link to {printable_name(m.linkname)}" if m.issym() or m.islnk() else "a device"
            self._note(name, OUTSIDE, f"it is {what}, not a file: pack the file itself")

    def row(self, name: str) -> int | None:
        "Where a file stands in the directory; ValueError where it is there but refused"
        name = _nfc(name)
        if name in self.rows: return self.rows[name]
        for refused in (name, ""):
            if refused in self.refused: raise _Refused(f"{self.where}/{name}", *self.refused[refused])

    def read(self, name: str) -> bytes:
        row = self.row(name)
        if row is None:
            raise FileNotFoundError(f"{self.where} holds no file {name}: compare with `names` of Tree({self.where!r})")
        return self.member(row, name)

    def member(self, row: int, name: str) -> bytes:
        "The bytes of one row, never more than it declares"
        if self.sizes[row] > HELD_BYTES:
            raise _Refused(f"{self.where}/{name}", BOMB,
                           f"{self.sizes[row]} bytes would have to be held in memory: unpack the archive by hand")
        try:
            return self._bytes(self.offsets[row], self.packed[row], self.sizes[row], self.methods[row], self.sums[row],
                               name)
        except (*_BROKEN, MemoryError) as e: raise self.trouble(f"{_brief(e)}: {_AGAIN}", name) from e

    def _bytes(self, offset, packed, size, method, check, name):
        if self.stream:
            with self.lock:
                self.stream.seek(offset)
                data = self.stream.read(size)
        else:
            data = self.source.at(self._start(offset), packed)
            if len(data) < packed: raise self.trouble(f"{len(data)} of {packed} bytes are there: {_AGAIN}", name)
            if method: data = _UNPACK[method]().decompress(data, size + 1)
        if len(data) > size:
            raise _Refused(f"{self.where}/{name}", BOMB,
                           f"it becomes more than the {size} bytes that it declares: {_AGAIN}")
        if len(data) < size: raise self.trouble(f"it gives {len(data)} of {size} bytes: {_AGAIN}", name)
        if self.zipped and zlib.crc32(data) != check:
            raise self.trouble(f"its checksum is not what the archive says: {_AGAIN}", name)
        return data

    def _start(self, offset):
        if not self.zipped: return offset
        header = self.source.at(offset, 30)
        if len(header) < 30 or header[:4] != b"PK\3\4":
            raise zipfile.BadZipFile(f"no file begins at byte {offset}, where the directory says so")
        return offset + 30 + sum(struct.unpack_from("<HH", header, 26))

    def within(self, name: str) -> list[tuple[str | bytes, int, int]]:
        "The segments of an archive in this one: of this one's own bytes where these are not compressed, else of memory"
        rows, wrong = _joined(self.archives[name])
        if wrong: raise self.trouble(wrong, name)
        if self.stream or any(self.methods[r] for r in rows):
            if (total := sum(self.sizes[r] for r in rows)) > HELD_BYTES:
                raise _Refused(f"{self.where}/{name}", BOMB,
                               f"{total} bytes of an archive would have to be held in memory: "
                               "unpack the outer one by hand")
            return [(data, 0, len(data)) for data in (self.member(r, name) for r in rows)]
        try: return [s for r in rows for s in self.source.part(self._start(self.offsets[r]), self.packed[r])]
        except _BROKEN as e: raise self.trouble(f"{e}: {_AGAIN}", name) from e


# ---- Locations

_lock, _open, _left = threading.RLock(), OrderedDict(), []


def _forget():
    """What a forked process does first: it shares file positions and locks with its parent

    Nothing is closed: a thread of the parent may hold it.
    """
    global _lock, _open
    _left.append(_open)
    _lock, _open = threading.RLock(), OrderedDict()


if hasattr(os, "register_at_fork"): os.register_at_fork(after_in_child=_forget)


@lru_cache(maxsize=8)
def _spellings(folder: str, changed: int) -> dict[str, list[str]]:
    "Names in a folder on disk by what they are shown as, ASCII left out; `changed` is its time of change"
    out = {}
    for name in sorted(os.listdir(folder)):
        if not name.isascii(): out.setdefault(printable_name(name), []).append(name)
    return out


def _spelled(path: str):
    "The paths on disk that read as this one: itself first, then those in another Unicode form"
    if os.path.lexists(path): yield path
    folder, name = os.path.split(path)
    if path.isascii() or folder == path: return
    for f in _spelled(folder or "."):
        if not os.path.isdir(f): continue
        for n in ([name] if name.isascii() else _spellings(f, os.stat(f).st_mtime_ns).get(printable_name(name), ())):
            if (p := os.path.join(f, n)) != path and os.path.lexists(p): yield p


def _on_disk(path: str) -> str:
    "An ordinary file, as the disk spells it"
    for p in _spelled(path):
        if os.path.isfile(p): return p
    what = "is a folder" if os.path.isdir(path) else "is not there"
    raise FileNotFoundError(f"{path} {what}, and a file was expected: was it moved or renamed since it was "
                            "listed? List the corpus again")


def _parts(where: str) -> list[tuple[int | None, int, str]]:
    """The file or the pieces that an archive on disk consists of, as (number after .part, bytes, path)

    None where there is no archive.
    """
    for p in _spelled(where): return [(None, os.path.getsize(p), p)] if os.path.isfile(p) else []
    folder, name = os.path.split(where)
    out = []
    for f in _spelled(folder or "."):
        if not os.path.isdir(f): continue
        with os.scandir(f) as entries:
            for e in entries:
                m = _ARCHIVE.match(printable_name(e.name))
                if m and m[2] and m[1] == printable_name(name) and e.is_file():
                    out.append((int(m[2]), e.stat().st_size, e.path))
    return out


def _stamp(segments) -> list[tuple] | None:
    "What changes with the files of an archive on disk; None where one is gone"
    try: return [(i.st_ino, i.st_size, i.st_mtime_ns) for i in (os.stat(path) for path, _, _ in segments)]
    except OSError: return None


def _archive(where: str, parent: _Archive | None = None, name: str = "") -> _Archive | None:
    """The archive at `where`, which is `name` in `parent` or lies on disk; None where that is no archive

    Opened once, and again when it has changed.
    """
    with _lock:
        found = _open.get(where)
        if found and found.parent is parent and (parent or _stamp(found.source.segments) == found.stamp):
            _open.move_to_end(where)
            return found
        if parent:
            if name not in parent.archives: return None
            if parent.depth == NESTED:
                raise _Refused(where, UNREADABLE, f"it lies in {NESTED} archives, and that is as deep as is read: "
                                                  "unpack the outermost by hand")
            found = _Archive(where, parent.within(name), parent)
        else:
            parts = _parts(where)
            if not parts: return None
            segments, wrong = _joined([(number, size, (path, 0, size)) for number, size, path in parts])
            if wrong: raise _Refused(where, UNREADABLE, wrong)
            found = _Archive(where, segments, stamp=_stamp([s for s in segments if s[2]]))
        _open[where] = found
        _open.move_to_end(where)
        while len(_open) > NESTED and (len(_open) > OPEN_ARCHIVES or sum(a.weight for a in _open.values()) > BUDGET):
            _open.popitem(last=False)
        return found


def _within(path) -> tuple[_Archive | None, str]:
    "The innermost archive that a Location goes through, None for an ordinary file, and the name in it"
    path = os.fspath(path)
    archive, start = None, 0
    for m in _THROUGH.finditer(path):
        if inner := _archive(path[:m.end()], archive, _nfc(path[start:m.end()])): archive, start = inner, m.end() + 1
    return archive, path[start:]


def read_bytes(path) -> bytes:
    """The bytes of any Location; FileNotFoundError where it is missing, ValueError (beginning with the reason)
    where its archive is damaged or unsafe"""
    archive, name = _within(path)
    if archive: return archive.read(name)
    with open(_on_disk(name), "rb") as f: return f.read()


def open_audio_source(path) -> str | io.BytesIO:
    """What `soundfile.SoundFile` takes for a Location: the path of an ordinary file, else its bytes

    Errors as of `read_bytes`.
    """
    archive, name = _within(path)
    return io.BytesIO(archive.read(name)) if archive else _on_disk(name)


def exists(path) -> bool:
    "Is there a file at this Location that can be read?"
    try:
        archive, name = _within(path)
        return archive.row(name) is not None if archive else bool(_on_disk(name))
    except (FileNotFoundError, _Refused): return False


class Tree:
    """A corpus as downloaded: a folder, or one archive.

    `names`: every file, sorted, POSIX, NFC, relative to the root. `faults`: (name, reason, detail) met while listing;
    what they name is not in `names`, except where names differ in case only: both are there. Of files whose names are
    equal in NFC the first is kept: first in the archive, on disk by code points.
    """

    def __init__(self, root):
        self.root = os.path.abspath(os.fspath(root))
        self.names: list[str] = []
        self.faults: list[tuple[str, str, str]] = []
        self._owners, self._sizes, self._folders, self._respelled = array("l"), array("q"), [], {}
        m = _ARCHIVE.match(self.root)
        disk = next(_spelled(self.root), None)
        if disk and os.path.isdir(disk): self._walk(disk)
        elif m and m[2]:
            raise ValueError(f"{self.root} is a piece of an archive: give {m[1]}, as which all its pieces are read, "
                             "or the folder that they lie in")
        elif disk and not m:
            raise ValueError(f"{self.root} is neither a folder nor named as an archive is: give one, a .zip, .tar, "
                             ".tgz, .tar.gz, .tar.bz2 or .tar.xz")
        elif m and (archive := _archive(self.root)): self._list(archive, "")
        else:
            raise FileNotFoundError(f"{self.root} is not there: give the folder or the archive that "
                                    "the corpus was downloaded to")
        self._index()

    def _owner(self, prefix, where):
        self._folders.append((len(prefix), where))
        return len(self._folders) - 1

    def _walk(self, top):
        "Everything in a folder on disk"
        real = os.path.realpath(top)
        todo = [("", top.rstrip("/") + "/", top)]
        while todo:
            prefix, where, folder = todo.pop()
            try:
                with os.scandir(folder) as it: entries = sorted(it, key=lambda e: e.name)
            except OSError as e:
                self.faults.append((prefix[:-1], UNREADABLE,
                                    f"the folder cannot be listed ({e.strerror}): mend its permissions"))
                continue
            owner, folders, archives, outside = self._owner(prefix, where), [], {}, set()
            for e in entries:
                shown = printable_name(e.name)
                if shown.startswith("._") or shown in ("__MACOSX", ".DS_Store"): continue
                name, spelled, m = prefix + shown, shown if _LONE.search(e.name) else e.name, _ARCHIVE.match(shown)
                if e.is_symlink():
                    target = os.path.realpath(e.path)
                    if os.path.commonpath([real, target]) != real:
                        self.faults.append((name, OUTSIDE,
                                            f"it is a link to {printable_name(target)}: put the file itself here"))
                        if m: outside.add(m[1])
                        continue
                    if not os.path.exists(e.path):
                        self.faults.append((name, MISSING,
                                            f"it is a link to {printable_name(target)}, where nothing is"))
                    if not os.path.isfile(e.path): continue
                elif e.is_dir(follow_symlinks=False):
                    folders.append((name + "/", f"{where}{spelled}/", e.path))
                    continue
                elif not e.is_file(follow_symlinks=False):
                    self.faults.append((name, OUTSIDE, "it is neither a file nor a folder: remove it"))
                    continue
                if m:
                    place = where + _ARCHIVE.match(spelled)[1]
                    if archives.setdefault(m[1], place) != place: self.faults.append((name, TWINS, _SEVERAL))
                else:
                    self.names.append(name)
                    self._owners.append(owner)
                    self._sizes.append(-1)  # asked of the disk when it is wanted
                    if spelled != shown: self._respelled[name] = where + spelled
            todo += reversed(folders)
            for name, place in archives.items():
                if name not in outside: self._enter(prefix + name, place)

    def _enter(self, name, where, parent=None, inner=""):
        try: archive = _archive(where, parent, inner)
        except _Refused as e: self.faults.append((name, e.reason, e.detail))
        else:
            if archive: self._list(archive, name + "/")

    def _list(self, archive, prefix):
        "Everything in an archive"
        owner = self._owner(prefix, archive.where + "/")
        self.names += [prefix + n for n in archive.rows]
        self._owners.extend([owner] * len(archive.rows))
        self._sizes.extend([archive.sizes[r] for r in archive.rows.values()])
        self.faults += [((prefix + n).rstrip("/") or os.path.basename(self.root), reason, detail)
                        for n, reason, detail in archive.faults]
        for n in archive.archives: self._enter(prefix + n, f"{archive.where}/{n}", archive, n)

    def _index(self):
        "Sort, and note names that only case or Unicode form tell apart"
        found, self.names = self.names, []
        order = sorted(range(len(found)), key=found.__getitem__)
        self._order = array("l")
        for i in order:
            if self.names and found[i] == self.names[-1]:
                self.faults.append((found[i], TWINS, _SEVERAL))
                continue
            self.names.append(found[i])
            self._order.append(i)
        self._owners, self._sizes = (array("l", [self._owners[i] for i in self._order]),
                                     array("q", [self._sizes[i] for i in self._order]))
        self._folded: dict[str, int | list[int]] = {}
        for i, name in enumerate(self.names):
            key = _fold(name)
            if key == name: key = name
            first = self._folded.setdefault(key, i)
            if first == i: continue
            same = first if isinstance(first, list) else [first]
            self._folded[key] = [*same, i]
            self.faults.append((name, TWINS, f"it differs from {self.names[same[0]]} in case only: both are read, "
                                             "each under its exact name"))

    def _at(self, name):
        i = bisect_left(self.names, name)
        if i == len(self.names) or self.names[i] != name:
            raise FileNotFoundError(f"{self.root} holds no file {name}: `find` tells which one a label means")
        return i

    def find(self, name: str) -> str | None:
        """The file that a label means: of exactly this name, else the only one equal after NFC and case folding,
        else None"""
        hit = self._folded.get(_fold(name))
        if hit is None or isinstance(hit, int): return None if hit is None else self.names[hit]
        return next((self.names[i] for i in hit if self.names[i] == _nfc(name)), None)

    def under(self, folder: str, suffixes=()) -> list[str]:
        "The files under a folder ('' for all) that end in one of the suffixes, whatever their case"
        folder, suffixes = (_nfc(folder).rstrip("/"),
                            tuple(s.lower() for s in ((suffixes,) if isinstance(suffixes, str) else suffixes)))
        first, end = (bisect_left(self.names, folder + c) for c in "/0") if folder else (0, len(self.names))
        return [n for n in self.names[first:end] if not suffixes or n.lower().endswith(suffixes)]

    def path(self, name: str) -> str:
        "The Location of a file"
        cut, where = self._folders[self._owners[self._at(name)]]
        return self._respelled.get(name) or where + name[cut:]

    def size(self, name: str) -> int:
        "Bytes of a file, as its archive declares them"
        size = self._sizes[self._at(name)]
        return size if size >= 0 else os.path.getsize(_on_disk(self.path(name)))

    def read(self, name: str) -> bytes:
        "The bytes of a file; errors as of `read_bytes`"
        return read_bytes(self.path(name))

    def order(self, name: str) -> int:
        "Its rank in the order that reads fastest: one archive after the other, members as they lie in it"
        return self._order[self._at(name)]
