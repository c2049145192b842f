"""From a manifest to cached features: in chunks, in parallel, resumable, the same bytes whatever the number of workers.

Chunks are joined into one file, which is mapped into memory, not read: a corpus may be larger than the memory. The
index beside it holds a digest of that file and of itself; both are compared once in each process. What does not agree
is made again, and `say` gets one line about it.
"""
from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mkdcls.engine.features import Corpus, Features
from mkdcls.engine.pool import Pool
from mkdcls.engine.shards import Shards
from mkdcls.engine.store import file_digest, home, lock, whole, writable, write_table, write_text
from mkdcls.fbank import network_input
from mkdcls.standin import render

CHUNK, BATCH = 192, 48


def _samples(shards: Shards, r) -> np.ndarray:
    "An utterance of prepared audio, compared with the checksum that its manifest has of it"
    wave, told = shards.read(r.path, int(r.row)), getattr(r, "checksum", None)
    if isinstance(told, str) and told and hashlib.sha256(wave).hexdigest() != told:
        raise ValueError(f"{r.path}, row {int(r.row)} ({r.utterance}): its samples differ from the checksum in the "
                         "manifest; delete this shard and run the same "
                         "`mkdcls prepare` again, only this shard is made anew")
    return wave


def waves_of_rows(rows: pd.DataFrame):
    """Audio of manifest rows: rendered where the row carries its causes, read where it carries a path (of a shard,
    if it has a number in one)"""
    if "path" not in rows: return render(rows)
    from mkdcls.corpora import read_audio  # and with it the schema of manifests, which nobody who renders needs
    prepared = rows["row"].notna() if "row" in rows else pd.Series(False, index=rows.index)
    shards = Shards("")  # a row's path leads to its shard, and rows of several corpora may meet here
    def read(r, inside):
        if inside: return _samples(shards, r).astype(np.float32) / 2**15
        return read_audio(r.path, start_s=getattr(r, "start_s", None), end_s=getattr(r, "end_s", None))
    waves = [read(r, inside) for r, inside in zip(rows.itertuples(), prepared)]
    n = torch.tensor([len(w) for w in waves])
    out = torch.zeros(len(waves), int(n.max()))
    for row, w in zip(out, waves): row[: len(w)] = torch.from_numpy(w)
    return out, n


def write_features(values: list, lengths: list, path: Path):
    "A chunk's features, written beside and renamed"
    with whole(path) as part, open(part, "wb") as f:
        np.savez(f, values=torch.cat(values).numpy(), n_frames=torch.cat(lengths).numpy())


def feature_chunk(rows: pd.DataFrame, path: Path):
    "One chunk of features, written beside and renamed"
    torch.set_num_threads(1)
    values, lengths = [], []
    for i in range(0, len(rows), BATCH):
        x, n = network_input(*waves_of_rows(rows.iloc[i:i + BATCH]))
        values += [v[:k] for v, k in zip(x, n.tolist())]
        lengths.append(n)
    write_features(values, lengths, path)


def features_of(manifest: pd.DataFrame, fingerprint: str, workers: int | None = None, progress=None,
                say=print) -> Features:
    """Fbank of every row, mean-normalised, float16, from the cache where it is there; `values` is mapped from a file.

    Rows are taken by length so that little is padding; a killed call goes on with the chunks that are missing.
    `progress(done, of)` counts utterances, `say(text)` is told what is made again and why.
    """
    return cached_features(home() / "features" / fingerprint, manifest, feature_chunk, workers=workers,
                           progress=progress, say=say)


def cached_features(folder: Path, manifest: pd.DataFrame, chunk, copies: int = 0, workers: int | None = None,
                    progress=None,
            say=print) -> Features:
    """What `chunk(rows, path)` makes of every row, from the folder where it is there and sound.

    With copies, a chunk holds its rows once plain and then once for each copy; the copies follow all plain rows.
    """
    folder, rows = writable(folder), None if manifest is None else len(manifest) * (copies + 1)
    if (found := _sound(folder, rows, say)) is not None: return found
    if not rows: raise ValueError(f"no utterances to make the features in {folder} of: give a manifest with rows")
    with lock(folder / "lock", f"{folder.name} (features)", say):
        if (found := _sound(folder, rows, say)) is not None: return found
        order = np.argsort(manifest["duration"].to_numpy(), kind="stable")
        chunks = [order[i:i + CHUNK] for i in range(0, len(order), CHUNK)]
        files = [folder / f"{i:05d}.npz" for i in range(len(chunks))]
        todo = [i for i, f in enumerate(files) if not _has(f, len(chunks[i]) * (copies + 1), say)]
        done = len(manifest) - sum(len(chunks[i]) for i in todo)
        if progress: progress(done, len(manifest))
        _make([(manifest.iloc[chunks[i]], files[i]) for i in todo], chunk, done, len(manifest), workers,
              progress or (lambda done, of: None))
        _join(folder, files, np.concatenate([c + k * len(manifest) for c in chunks for k in range(copies + 1)])
              if copies else order)
        for part in folder.glob("*.part"): part.unlink(missing_ok=True)
        return _open(folder)


def _make(jobs: list, chunk, done: int, of: int, workers: int | None, progress):
    "The chunks that are missing: here, or in worker processes"
    if workers is not None and (isinstance(workers, bool) or workers < 0):
        raise ValueError(f"workers is {workers}: 0 or 1 for none beside this process, or how many")
    workers = min(os.cpu_count() or 1, 16, len(jobs)) if workers is None else workers
    if workers < 2:
        threads = torch.get_num_threads()
        try:
            for job in jobs:
                chunk(*job)
                progress(done := done + len(job[0]), of)
        finally: torch.set_num_threads(threads)
        return
    with Pool(workers) as pool:
        for job, future in zip(jobs, [pool.submit(chunk, *job) for job in jobs]):
            pool.result(future)
            progress(done := done + len(job[0]), of)


def _has(f: Path, rows: int, say) -> bool:
    "Is this chunk there, whole, and of so many rows?"
    if not f.exists(): return False
    try:
        values, n = _read(f)
        if len(n) != rows or len(values) != n.sum(): raise ValueError(f"{f} holds other rows")
        return True
    except ValueError as e: say(f"{e}: this chunk is made again")
    if f.is_dir(): raise ValueError(f"{f} is a folder: remove it and run again")
    f.unlink()
    return False


def _read(f: Path):
    try:
        with np.load(f, allow_pickle=False) as z: return z["values"], z["n_frames"]
    except Exception as e: raise ValueError(f"{f} cannot be read ({type(e).__name__})") from e


def _join(folder: Path, files: list[Path], order: np.ndarray):
    "Chunks, one after another, into `values.f16`; the index is written last, then the chunks go"
    lengths = []
    with whole(folder / "values.f16") as part, open(part, "wb") as out:
        for f in files:
            values, n = _read(f)
            out.write(np.ascontiguousarray(values))
            lengths.append(n)
    n = np.concatenate(lengths).astype(np.int64)
    back = np.argsort(order, kind="stable")
    _index(folder, (n.cumsum() - n)[back], n[back], values.shape[1])
    for f in files: f.unlink()


def _mark(starts, n_frames, width: int, values: str) -> str:
    h = hashlib.blake2b(values.encode(), digest_size=16)
    for a in (starts, n_frames, np.int64(width)): h.update(np.ascontiguousarray(a, "<i8"))
    return h.hexdigest()


def _index(folder: Path, starts, n_frames, width: int):
    "Where each utterance lies in `values.f16`, with the digests of that file and of this index"
    values = file_digest(folder / "values.f16")
    with whole(folder / "index.npz") as part, open(part, "wb") as f:
        np.savez(f, starts=starts, n_frames=n_frames, width=width, values=values,
                 mark=_mark(starts, n_frames, width, values))


_checked = {}  # folder → what its two files looked like when they were compared with their digests


def _sound(folder: Path, rows: int, say) -> Features | None:
    "Cached features that agree with their digests; None where there are none, or where they are to be made again"
    if not (folder / "index.npz").exists(): return None
    try: return _open(folder, rows, say)
    except ValueError as e: say(f"{e}: they are made again")
    for name in ("index.npz", "values.f16"):
        if (folder / name).is_dir(): raise ValueError(f"{folder / name} is a folder: remove it and run again")
        (folder / name).unlink(missing_ok=True)
    return None


def _open(folder: Path, rows: int | None = None, say=print) -> Features:
    try:
        with np.load(folder / "index.npz", allow_pickle=False) as z:
            starts, n_frames, width = z["starts"], z["n_frames"], int(z["width"])
            told = None if set(z.files) == {"starts", "n_frames", "width"} else (str(z["values"]), str(z["mark"]))
        if rows is not None and len(n_frames) != rows:
            raise ValueError(f"{len(n_frames)} utterances, {rows} were asked for")
        if (starts.dtype != np.int64 or n_frames.dtype != np.int64 or not len(starts) == len(n_frames) > 0
            or n_frames.min() < 1):
            raise ValueError("the index is not one of features")
        by = np.argsort(starts, kind="stable")
        if not np.array_equal(starts[by], n_frames[by].cumsum() - n_frames[by]):
            raise ValueError("the index leads outside the file")
        file = folder / "values.f16"
        if file.stat().st_size != 2 * width * n_frames.sum():
            raise ValueError("the file has another length than its index says")
        now = tuple((s.st_mtime_ns, s.st_size, s.st_ino)
                    for s in (os.stat(folder / n) for n in ("values.f16", "index.npz")))
        # "c" would be refused beyond the machine's memory
        values = np.memmap(file, np.float16, "r", shape=(int(n_frames.sum()), width))
        if _checked.get(folder) != now: now = _compare(folder, starts, n_frames, width, told, values, now, say)
        _checked[folder] = now
    except Exception as e: raise ValueError(f"the features in {folder} are damaged ({type(e).__name__}: {e})") from e
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nobody writes into features
        values = torch.from_numpy(values)
    return Features(values, torch.from_numpy(starts), torch.from_numpy(n_frames))


def _compare(folder: Path, starts, n_frames, width: int, told, values, now, say):
    "The digests; features older than digests are looked through once and get theirs"
    if told is not None:
        if told[1] != _mark(starts, n_frames, width, told[0]): raise ValueError("the index is not what was written")
        if told[0] != file_digest(folder / "values.f16"): raise ValueError("values.f16 is not what was written")
        return now
    for i in range(0, len(values), 1 << 18):
        if not np.isfinite(values[i:i + (1 << 18)]).all():
            raise ValueError("values.f16 holds numbers that are not finite")
    say(f"the features in {folder} are older than digests: taken as they are, and their digest is kept from now on")
    try: _index(folder, starts, n_frames, width)
    except OSError: return now  # a folder that is only read
    return tuple((s.st_mtime_ns, s.st_size, s.st_ino)
                 for s in (os.stat(folder / n) for n in ("values.f16", "index.npz")))


class Streamed:
    """Features that stay on disk: a batch is gathered there and sent to `device`. For corpora larger than the
    accelerator's memory.

    Has what training asks of `Features`: `starts`, `n_frames`, `batch`, `len`.
    """

    def __init__(self, kept: Features, device):
        self.kept, self.device, self.starts, self.n_frames = (kept, device, kept.starts.to(device),
                                                              kept.n_frames.to(device))

    def __len__(self) -> int: return len(self.kept)

    def batch(self, index, max_frames=None, u=None):
        x, n = self.kept.batch(index, max_frames, u)
        return x.to(self.device), n.to(self.device)


def placed(features: Features, device: torch.device, share: float = .5) -> Features | Streamed:
    """Where training reads features: mapped from disk on a CPU, on the GPU where they take at most this share of
    its free memory, else streamed to it"""
    if device.type == "cpu": return features
    fits = features.values.nbytes <= share * torch.cuda.mem_get_info(device)[0]
    return features.to(device) if fits else Streamed(features, device)


def prepare(manifest: pd.DataFrame, fingerprint: str, **kwargs) -> Corpus:
    "Manifest and features; the manifest is kept beside the features, for a reader"
    folder = home() / "features" / fingerprint
    features = features_of(manifest, fingerprint, **kwargs)
    if not (folder / "manifest.parquet").exists():
        write_table(folder / "manifest.parquet", manifest)
        write_text(folder / "about.json",
                   json.dumps(dict(utterances=len(manifest), frames=len(features.values)), indent=1) + "\n")
    return Corpus(manifest, features, fingerprint)


def forget(fingerprint: str):
    "Delete cached features; they can be made again"
    shutil.rmtree(home() / "features" / fingerprint, ignore_errors=True)
