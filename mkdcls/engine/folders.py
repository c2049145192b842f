"""A model is one folder: written whole, sealed with checksums, and compared with them whenever it is opened. No pickle
anywhere.

`SHA256SUMS` has the form that `sha256sum --check SHA256SUMS` reads. Files that it does not name are none of the model's
business: a folder on a hub may hold more.
"""
from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from pathlib import Path

from mkdcls.engine.lists import printable

SUMS = "SHA256SUMS"
_LINE = re.compile(r"^([0-9a-f]{64}) [ *](.+)$")


def sha256(path: Path) -> str:
    "Of a file's bytes, hexadecimal"
    with open(path, "rb") as f: return hashlib.file_digest(f, "sha256").hexdigest()


def seal(folder: Path, names) -> Path:
    "Write the checksums of these files of a folder"
    folder = Path(folder)
    (folder / SUMS).write_text("".join(f"{sha256(folder / n)}  {n}\n" for n in sorted(names)), encoding="utf-8")
    return folder / SUMS


def sealed(folder: Path) -> dict[str, str]:
    "The checksums of a folder, by the name of the file"
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no model at {printable(folder)}: give the folder that `mkdcls export` wrote")
    if not (folder / SUMS).is_file():
        raise FileNotFoundError(f"{printable(folder)} holds no {SUMS}, so it is no exported model: "
                                "give the folder that `mkdcls export` wrote")
    lines = (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    found = [_LINE.match(line) for line in lines]
    if not found or not all(found):
        raise ValueError(f"{printable(folder / SUMS)} is not a list of checksums: copy or export the folder again")
    return {m[2]: m[1] for m in found}


def verify(folder: Path, needed) -> dict[str, str]:
    "The checksums of a folder, each compared with its file; the needed files must be among them"
    folder, sums = Path(folder), sealed(folder)
    for name in [*needed, *(n for n in sums if n not in needed)]:
        if name not in sums:
            raise ValueError(f"{printable(folder / SUMS)} does not name {name}: export the model again")
        if Path(name).name != name:
            raise ValueError(f"{printable(folder / SUMS)} names {printable(name)!r}, which is no file of this folder: "
                             "export the model again")
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{printable(folder)} lacks {name}: copy or export the folder again")
        if sha256(folder / name) != sums[name]:
            raise ValueError(f"{printable(folder / name)} is not what was exported (its SHA-256 is another): "
                             "copy or export the folder again")
    return sums


def read_json(path: Path) -> dict:
    "An object from a JSON file, or one line that says why not"
    try: value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise ValueError(f"{printable(path)} cannot be read as JSON ({printable(e, 120)}): "
                         "export the model again") from e
    if not isinstance(value, dict): raise ValueError(f"{printable(path)} holds no object: export the model again")
    return value


def write_folder(folder: Path, fill, names) -> Path:
    """A new folder, all or nothing: `fill(part)` writes the files `names` into a part beside it, which is sealed and
    renamed.

    A folder that is there already must be empty, or hold such a model: that one is replaced, and nothing else ever is.
    """
    folder = Path(os.path.abspath(Path(folder).expanduser()))
    if folder.exists() and not folder.is_dir(): raise ValueError(f"{printable(folder)} is a file: give a folder")
    there = sorted(p.name for p in folder.iterdir()) if folder.exists() else []
    if strangers := [n for n in there if n not in (*names, SUMS, "model.onnx")]:
        raise ValueError(f"{printable(folder)} holds {printable(strangers[0])}, which is no part of a model: "
                         "give a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    except OSError as e:
        raise OSError(f"cannot write to {printable(folder.parent)} ({e.strerror}): give another folder") from e
    try:
        os.chmod(part, 0o755)
        fill(part)
        seal(part, names)
        for p in part.iterdir(): os.chmod(p, 0o644)
        if folder.exists(): shutil.rmtree(folder)
        os.replace(part, folder)
    finally: shutil.rmtree(part, ignore_errors=True)
    return folder
