"""Writing into a folder what is one's own and nothing else: no name leads out of it, and no file is written over that
this project did not write.

A folder's mark, `written-by-mkdcls.json`, names each file that a command wrote and its SHA-256. A file that stands
there already may be replaced where the mark names it with the bytes that it still has, and is left alone where it holds
what would be written; any other one is somebody else's, or was changed by hand since, and the command stops.
"""
from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

from mkdcls.engine.lists import printable
from mkdcls.engine.store import writable

MARK = "written-by-mkdcls.json"
_DEVICE = re.compile(r"^(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(?:\.|$)", re.I)


def leads_out(name: str) -> str:
    "Why a name from a list is no file inside a folder, on any system; '' where it is one"
    if not name: return "it is empty"
    if "\0" in name: return "it holds a NUL"
    if name[0] in "/\\" or re.match("[A-Za-z]:", name): return "it is absolute"
    if ".." in re.split(r"[/\\]", name): return "it climbs out with .."
    return ""


def not_portable(name: str) -> str:
    """Why a name should not be written to disk: it leads out, or means something else on another system

    '' where it is plain.
    """
    if why := leads_out(name): return why
    if "\\" in name: return "it holds a backslash"
    for part in name.split("/"):
        if part in ("", "."): return "it has an empty part"
        if _DEVICE.match(part): return f"{part!r} is a device on Windows"
        if part[-1] in " .": return "a part ends in a space or a full stop, which Windows drops"
        if any(c in '<>:"|?*' or ord(c) < 32 for c in part): return "it holds a character that Windows does not allow"
        if len(part.encode("utf-8", "surrogatepass")) > 255: return "a part of it is longer than 255 bytes"
    return ""


class Owned:
    "A folder that a command writes into"

    def __init__(self, folder, command: str, empty: bool = True):
        "`empty`: what stands there without a mark of this command is a reason to stop, whatever its names"
        self.folder, self.command = Path(folder), command
        self.mark = self.folder / MARK
        self.files = self._read() if self.mark.exists() or self.mark.is_symlink() else None
        if empty and self.files is None and self.folder.is_dir() and (there := sorted(os.listdir(self.folder))):
            raise ValueError(f"{printable(self.folder)} is not empty (it holds "
                             f"{', '.join(printable(n, 40) for n in there[:3])}) and was not written by {command}: "
                             "choose a new folder, nothing is written over")
        self.files = self.files or {}

    def _read(self) -> dict:
        try:
            if self.mark.is_symlink(): raise ValueError("a link")
            said = json.loads(self.mark.read_text(encoding="utf-8"))
            files = said["files"]
            if said["command"] != self.command: raise ValueError(f"of {said['command']}")
            if not all(isinstance(v, str) for v in files.values()): raise ValueError("not names and sums")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            raise ValueError(f"{printable(self.mark)} is no whole mark of {self.command} ({printable(e, 80)}): "
                             "choose a new folder, nothing is written over") from e
        return files

    def save(self):
        "The mark, for what was written so far"
        writable(self.folder)
        self._put(self.mark,
                  (json.dumps(dict(command=self.command, files=dict(sorted(self.files.items()))), ensure_ascii=False,
                              indent=1) + "\n").encode())

    def write(self, name: str, data: bytes):
        "One file, all or nothing"
        if why := not_portable(name):
            raise ValueError(f"{printable(name, 120)!r} cannot be written into {printable(self.folder)}: {why}")
        path, top = self.folder / name, os.path.realpath(self.folder)
        if not self._inside(path.parent, top):
            raise ValueError(f"{printable(path)} lies behind a link that leads out of {printable(self.folder)}: "
                             "remove the link, or choose a new folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path):
            there = self._sum(path)
            if there == hashlib.sha256(data).hexdigest():
                self.files[name] = there
                return
            if there is None or self.files.get(name) != there:
                raise ValueError(f"{printable(path)} was not written by {self.command}, or was changed since: "
                                 "move it away, or choose a new folder; nothing is written over")
        self._put(path, data)
        self.files[name] = hashlib.sha256(data).hexdigest()

    @staticmethod
    def _inside(path, top) -> bool:
        at = os.path.realpath(path)
        return at == top or at.startswith(top.rstrip(os.sep) + os.sep)

    @staticmethod
    def _sum(path: Path) -> str | None:
        if path.is_symlink() or not path.is_file(): return None
        with open(path, "rb") as f: return hashlib.file_digest(f, "sha256").hexdigest()

    @staticmethod
    def _put(path: Path, data: bytes):
        part = path.with_name(f".mkdcls-{os.getpid()}.part")
        try:
            with open(part, "xb") as f: f.write(data)
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
