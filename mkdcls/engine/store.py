"""Where runs live on disk: one folder a run, everything written beside and renamed, nothing overwritten."""
from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[2] if (Path(__file__).resolve().parents[2] / "settings.ini").exists() else Path.cwd()
VERSIONS = ("mkdcls", "torch", "torchaudio", "numpy", "pandas", "soundfile", "scikit-learn")


def home() -> Path:
    "The folder of all runs and caches: `runs/` of the project, or the environment variable MKDCLS_RUNS"
    return Path(os.environ.get("MKDCLS_RUNS") or ROOT / "runs").resolve()


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
    except OSError as e:
        raise OSError(f"cannot write to {folder} ({e.strerror}): choose another folder (OUT=..., or MKDCLS_RUNS for runs) or mend its permissions") from e
    return folder


def write_text(path: Path, text: str):
    "All or nothing"
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def write_table(path: Path, table: pd.DataFrame):
    "A Parquet file, all or nothing"
    part = path.with_name(path.name + ".part")
    table.to_parquet(part, index=False, compression="zstd")
    os.replace(part, path)


def write_weights(path: Path, module: torch.nn.Module):
    "A safetensors file, all or nothing"
    part = path.with_name(path.name + ".part")
    save_file({n: v.detach().cpu().contiguous().clone() for n, v in module.state_dict().items()}, part)
    os.replace(part, path)


def read_weights(path: Path, prefix: str = "") -> dict[str, torch.Tensor]:
    "The tensors whose names begin with `prefix`, without it"
    if not path.exists(): raise FileNotFoundError(f"no weights at {path}: the run they come from was deleted; run it again")
    try: tensors = load_file(path)
    except Exception as e: raise ValueError(f"{path} is not a whole safetensors file ({e}): delete the folder of that run, {path.parent.name}, and run again") from e
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}


def commit() -> str:
    "The commit of the working tree, with a + where it was changed, results aside; empty outside a checkout"
    try:
        git = lambda *a: subprocess.run(["git", "-C", str(ROOT), *a], capture_output=True, text=True, check=True, timeout=20).stdout.strip()
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)paper/results") else "")
    except (OSError, subprocess.SubprocessError): return ""


def _version(package):
    try: return version(package)
    except PackageNotFoundError: return ""


def processor() -> str:
    "The processor's name"
    try: return next(line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    except (OSError, StopIteration): return platform.processor() or platform.machine()


def provenance(device: torch.device, commit: str) -> dict:
    "What a result was made with and on; recorded beside it, no part of its identity. `commit` is that of the code that was loaded"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{processor()}, {torch.get_num_threads()} threads"
    return dict(commit=commit, device=name, python=platform.python_version(), finished=datetime.now(UTC).isoformat(timespec="seconds"),
                versions={p: _version(p) for p in VERSIONS})


def _read_record(path: Path) -> dict:
    try: return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as e: raise ValueError(f"{path} is not a whole record ({e}): delete its folder, {path.parent.name}, and run again") from e


class RunStore:
    "Records of finished runs and the working files of unfinished ones, by row, seed and key"

    def __init__(self, name: str):
        self.folder = writable(home() / name)

    def at(self, row: str, seed: int, key: str) -> Path:
        "The folder of a run"
        return self.folder / f"row{row}-seed{seed}-{key}"

    def record(self, row: str, seed: int, key: str) -> dict | None:
        "The record of a finished run, or None"
        path = self.at(row, seed, key) / "record.json"
        if not path.exists(): return None
        return _read_record(path)

    def predictions(self, row: str, seed: int, key: str) -> pd.DataFrame:
        "A finished run's answers"
        path = self.at(row, seed, key) / "predictions.parquet"
        try: return pd.read_parquet(path)
        except (OSError, ValueError) as e: raise ValueError(f"{path} is not a whole Parquet file ({e}): delete its folder, {path.parent.name}, and run again") from e

    def others(self, row: str, seed: int, key: str) -> list[dict]:
        "Records of the same row and seed under another key, newest first"
        found = [p for p in self.folder.glob(f"row{row}-seed{seed}-*/record.json") if p.parent.name.rsplit("-", 1)[1] != key]
        return [_read_record(p) for p in sorted(found, key=lambda p: -p.stat().st_mtime)]

    def finish(self, row: str, seed: int, key: str, record: dict, predictions: pd.DataFrame):
        "Predictions first, record last: a run is finished when its record exists"
        folder = self.at(row, seed, key)
        write_table(folder / "predictions.parquet", predictions)
        write_text(folder / "record.json", json.dumps(plain(record), indent=1, sort_keys=True) + "\n")
        (folder / "checkpoint.pt").unlink(missing_ok=True)


def differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    "Which parts of an identity changed, as 'path: old → new'"
    out = []
    for k in sorted(set(old) | set(new)):
        a, b = old.get(k), new.get(k)
        if isinstance(a, dict) and isinstance(b, dict): out += differences(a, b, f"{prefix}{k}.")
        elif a != b: out.append(f"{prefix}{k}: {a} → {b}")
    return out
