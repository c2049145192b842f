"""Where runs live on disk: one folder a run, everything written beside and renamed, nothing overwritten; what is read
back is checked.

A record carries the digests of the files beside it and its own. Records older than these digests are taken as they are,
as far as they make sense.
"""
from __future__ import annotations

import errno
import json
import os
import platform
import re
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from hashlib import blake2b, sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from mkdcls.engine.needs import ROOT
from mkdcls.engine.record import Provenance, Record, fault

try: import fcntl
except ImportError: fcntl = None  # no such locks here: unique names of parts alone keep two processes apart

# installed without a checkout, the project is where one works
PROJECT = ROOT if (ROOT / "settings.ini").exists() else Path.cwd()
VERSIONS = ("mkdcls", "torch", "torchaudio", "numpy", "pandas", "soundfile", "scikit-learn")


def folder_at(text, what: str) -> Path:
    "A folder that a user named, absolute; `~` is his own"
    if "\0" in str(text):
        raise ValueError(f"{what}={str(text)!r} holds a character that no file name may have (NUL): "
                         "give another folder")
    try: return Path(text).expanduser().resolve()
    except (RuntimeError, OSError) as e:
        raise ValueError(f"{what}={str(text)!r} leads to no folder ({e}): give another") from e


def home() -> Path:
    "The folder of all runs and caches: `runs/` of the project, or the environment variable MKDCLS_RUNS"
    return folder_at(os.environ.get("MKDCLS_RUNS") or PROJECT / "runs", "MKDCLS_RUNS")


def plain(value):
    "Dataclasses, tuples and numbers as JSON holds them"
    if is_dataclass(value): value = asdict(value)
    if isinstance(value, dict): return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple): return [plain(v) for v in value]
    if hasattr(value, "item"): return value.item()
    return value


def digest(value) -> str:
    "Sixteen hexadecimal digits for anything JSON can hold"
    return sha256(json.dumps(plain(value), sort_keys=True).encode()).hexdigest()[:16]


def writable(folder: Path) -> Path:
    "The folder, made if need be; a clear error before any work where it cannot be written"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except (OSError, ValueError) as e:
        raise OSError(f"cannot write to {folder} ({getattr(e, 'strerror', None) or e}): "
                      "choose another folder (OUT=..., or MKDCLS_RUNS for runs) "
                      "or mend its permissions") from e
    return folder


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def whole(path: Path):
    "Yields a name to write to, renamed to `path` at the end: all or nothing, and no two processes write the same part"
    path = Path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    except BaseException as e:
        try: part.unlink(missing_ok=True)
        except OSError: pass
        no = getattr(e, "errno", None) or (int(m[1]) if (m := re.search(r"os error (\d+)", str(e))) else None)
        if not isinstance(e, OSError) and no is None: raise
        told = OSError(f"cannot write {path} ({os.strerror(no) if no else e}): "
                       + ("make room" if no in FULL else "mend the disk, the folder or its permissions")
                       + "; what was finished is kept, and the same command goes on")
        told.errno = no
        raise told from e


def write_text(path: Path, text: str):
    "All or nothing"
    with whole(path) as part: part.write_text(text, encoding="utf-8")


def write_table(path: Path, table: pd.DataFrame):
    "A Parquet file, all or nothing"
    with whole(path) as part: table.to_parquet(part, index=False, compression="zstd")


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]):
    "A safetensors file, all or nothing; numbers only"
    if wrong := [n for n, v in tensors.items() if v.is_floating_point() and not v.isfinite().all()]:
        raise FloatingPointError(f"{wrong[0]} is not finite after training, so {Path(path).name} is not written: "
                                 "lower the learning rate, or look for NaN in "
                                 "the features")
    with whole(path) as part: save_file(tensors, part)


def write_weights(path: Path, module: torch.nn.Module):
    "A safetensors file, all or nothing"
    write_tensors(path, {n: v.detach().cpu().contiguous().clone() for n, v in module.state_dict().items()})


def read_weights(path: Path, prefix: str = "") -> dict[str, torch.Tensor]:
    "The tensors whose names begin with `prefix`, without it"
    again = f"delete the folder of that run, {path.parent.name}, and run again"
    if not path.exists():
        raise FileNotFoundError(f"no weights at {path}: "
                                f"{again if path.parent.exists() else 'there is no such run; run it'}")
    try: tensors = load_file(path)
    except Exception as e:
        raise ValueError(f"{path} is not a whole safetensors file ({' '.join(str(e).split())}): {again}") from e
    if wrong := [n for n, v in tensors.items() if v.is_floating_point() and not v.isfinite().all()]:
        raise ValueError(f"{path} holds numbers that are not finite ({wrong[0]}): {again}")
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}


def fill(module: torch.nn.Module, weights: dict[str, torch.Tensor], path: Path):
    "Weights into a network; one line where they are another network's"
    own = module.state_dict()
    wrong = [n for n in {**own, **weights} if n not in own or n not in weights or own[n].shape != weights[n].shape]
    if wrong:
        raise ValueError(f"{path} holds another network ({len(wrong)} tensors do not fit, first {wrong[0]}): "
                         "delete the folder of that run, "
                         f"{path.parent.name}, and run again")
    module.load_state_dict(weights)


# ---- what a file holds, and who works on a folder

HASH_BLOCK = 32 << 20  # bytes hashed at a time; several threads take a block each


def file_digest(path: Path) -> str:
    "Of a file's bytes, as fast as the disk and all cores allow; a digest of digests of blocks"
    def one(i):
        with open(path, "rb", buffering=0) as f:
            f.seek(i * HASH_BLOCK)
            h, left = blake2b(digest_size=16), HASH_BLOCK
            while left and (b := f.read(min(left, 1 << 20))): h.update(b); left -= len(b)
            return h.digest()
    blocks = range(-(-os.path.getsize(path) // HASH_BLOCK))
    if len(blocks) < 2: parts = map(one, blocks)
    else:
        with ThreadPoolExecutor(min(len(blocks), os.cpu_count() or 1, 8)) as pool: parts = list(pool.map(one, blocks))
    return blake2b(b"".join(parts), digest_size=16).hexdigest()


@contextmanager
def lock(file: Path, what: str, say=lambda text: None, every: float = .5):
    """One process at a time; the next waits, and says for whom. The lock goes with its process, however that one ends.

    The file says who holds it, the lock itself is the system's: it cannot outlive its owner, and needs no clock. Where
    a file system knows no locks, there is none; parts have names of their own in any case.
    """
    held = None
    if fcntl is None: yield; return
    told = False
    while held is None:
        fd = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try: same = os.path.samestat(os.fstat(fd), os.stat(file))
            except FileNotFoundError: same = False  # its last owner took it away in the meantime
            if same: held = fd
        except BlockingIOError:
            if not told:
                say(f"{what} is being made by "
                    f"{os.pread(fd, 200, 0).decode(errors='replace').strip() or 'another process'}: waiting for it")
                told = True
        except OSError: break  # no locks on this file system
        finally:
            if held is None: os.close(fd)
        if held is None: time.sleep(every if told else 0)
    if held is not None:
        os.ftruncate(held, 0)
        try: os.pwrite(held, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        except OSError: pass  # a full disk keeps nobody from working
    try: yield
    finally:
        if held is not None:
            try: os.unlink(file)
            except OSError: pass
            os.close(held)


def commit() -> str:
    "The commit of the working tree, with a + where it was changed, results aside; empty outside a checkout"
    try:
        git = lambda *a: subprocess.run(["git", "-C", str(PROJECT), *a], capture_output=True, text=True, check=True,
                                        timeout=20).stdout.strip()
        return (git("rev-parse", "--short=12", "HEAD")
                + ("+" if git("status", "--porcelain", "--untracked-files=no", "--", ":/",
                              ":(top,exclude)paper/results") else ""))
    except (OSError, subprocess.SubprocessError): return ""


def _version(package):
    try: return version(package)
    except PackageNotFoundError: return ""


def processor() -> str:
    "The processor's name"
    try: return next(line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    except (OSError, StopIteration): return platform.processor() or platform.machine()


def provenance(device: torch.device, commit: str) -> Provenance:
    """What a result was made with and on; recorded beside it, no part of its identity

    `commit` is that of the code that was loaded.
    """
    name = (torch.cuda.get_device_name(device) if device.type == "cuda"
            else f"{processor()}, {torch.get_num_threads()} threads")
    return dict(commit=commit, device=name, python=platform.python_version(),
                finished=datetime.now(UTC).isoformat(timespec="seconds"),
                versions={p: _version(p) for p in VERSIONS})


def _again(path: Path) -> str: return f"delete its folder, {path.parent.name}, and run again"


def _sum(record: dict, sums: dict) -> str:
    return digest([record, {k: v for k, v in sums.items() if k != "record.json"}])


def _read_record(path: Path) -> tuple[dict, dict | None]:
    "What a file holds, untouched since it was written, and the digests in it (None: it is older than digests)"
    try: record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e: raise ValueError(f"{path} is not a whole record ({e}): {_again(path)}") from e
    if not isinstance(record, dict):
        raise ValueError(f"{path} is not a whole record (it holds no object): {_again(path)}")
    sums = record.pop("sums", None)
    if sums is not None and (not isinstance(sums, dict) or sums.get("record.json") != _sum(record, sums)):
        raise ValueError(f"{path} was changed after it was written: {_again(path)}")
    return record, sums


class RunStore:
    "Records of finished runs and the working files of unfinished ones, by row, seed and key"

    def __init__(self, name: str):
        self.folder = writable(home() / name)

    def at(self, row: str, seed: int, key: str) -> Path:
        "The folder of a run"
        return self.folder / f"row{row}-seed{seed}-{key}"

    def _record(self, row: str, seed: int, key: str) -> tuple[Record | None, dict]:
        "The record of a finished run, whole and its own, and the digests of the files beside it"
        path = self.at(row, seed, key) / "record.json"
        if not path.exists(): return None, {}
        record, sums = _read_record(path)
        if why := fault(record): raise ValueError(f"{path} is not a whole record ({why}): {_again(path)}")
        for name, asked in dict(row=row, seed=seed, key=key).items():
            if record[name] != asked:
                raise ValueError(f"{path} is the record of another run ({name} {record[name]!r}, "
                                 f"not {asked!r}): {_again(path)}")
        return record, sums or {}

    def record(self, row: str, seed: int, key: str) -> Record | None:
        "The record of a finished run, or None"
        return self._record(row, seed, key)[0]

    def sound(self, row: str, seed: int, key: str, name: str) -> Path:
        "A file of a finished run, compared with the digest in its record"
        path, wanted = self.at(row, seed, key) / name, self._record(row, seed, key)[1].get(name)
        if wanted is None: return path
        if not path.is_file(): raise FileNotFoundError(f"{path} is not beside its record: {_again(path)}")
        if file_digest(path) != wanted:
            raise ValueError(f"{path} is not what the run wrote (its digest is another): {_again(path)}")
        return path

    def predictions(self, row: str, seed: int, key: str) -> pd.DataFrame:
        "A finished run's answers"
        path = self.at(row, seed, key) / "predictions.parquet"
        try: table = pd.read_parquet(path) if path.is_file() else None
        except (OSError, ValueError) as e:
            raise ValueError(f"{path} is not a whole Parquet file ({' '.join(str(e).split())}): {_again(path)}") from e
        if table is None: raise FileNotFoundError(f"{path} is not there, or no file: {_again(path)}")
        self.sound(row, seed, key, path.name)
        numbers = table.select_dtypes("floating")
        if not np.isfinite(numbers.to_numpy()).all():
            raise ValueError(f"{path} holds answers that are no numbers: {_again(path)}")
        return table

    def others(self, row: str, seed: int, key: str) -> list[dict]:
        """Records of the same row and seed under another key, newest first

        Only their identity is looked at, and a damaged one says nothing.
        """
        found = [p for p in self.folder.glob(f"row{row}-seed{seed}-*/record.json") if p.parent.name.rsplit("-", 1)[1]
                 != key]
        records = []
        for p in sorted(found, key=lambda p: -p.stat().st_mtime):
            try: records.append(_read_record(p)[0])
            except ValueError: continue
        return [r for r in records if isinstance(r.get("identity", {}), dict)]

    def finish(self, record: Record, predictions: pd.DataFrame):
        "Predictions first, record last: a run is finished when its record exists"
        record = json.loads(json.dumps(plain(record)))
        if why := fault(record):
            raise ValueError(f"row {record.get('row')}, seed {record.get('seed')} gave no whole record ({why}): "
                             "`make` must fill it, see "
                             "mkdcls.engine.record")
        folder = self.at(record["row"], record["seed"], record["key"])
        write_table(folder / "predictions.parquet", predictions)
        files = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".parquet"))
        sums = {p.name: file_digest(p) for p in files}
        record["sums"] = sums | {"record.json": _sum(record, sums)}
        write_text(folder / "record.json", json.dumps(record, indent=1, sort_keys=True) + "\n")
        for p in (folder / "checkpoint.pt", *folder.glob("*.part")): p.unlink(missing_ok=True)


def differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    "Which parts of an identity changed, as 'path: old → new'"
    out = []
    for k in sorted(set(old) | set(new)):
        a, b = old.get(k), new.get(k)
        if isinstance(a, dict) and isinstance(b, dict): out += differences(a, b, f"{prefix}{k}.")
        elif a != b: out.append(f"{prefix}{k}: {a} → {b}")
    return out
