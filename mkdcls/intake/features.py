"""From a manifest to cached features: in chunks, in parallel, resumable, the same bytes whatever the number of workers.

Chunks are joined into one file, which is mapped into memory, not read: a corpus may be larger than the memory.
"""
from __future__ import annotations

import json
import os
import shutil
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mkdcls.corpora import read_audio
from mkdcls.engine.features import Corpus, Features
from mkdcls.engine.shards import Shards
from mkdcls.engine.store import home, writable, write_table, write_text
from mkdcls.fbank import network_input
from mkdcls.standin import render

CHUNK, BATCH = 192, 48


def _waves(rows: pd.DataFrame):
    "Audio of manifest rows: rendered where the row carries its causes, read where it carries a path (of a shard, if it has a number in one)"
    if "path" not in rows: return render(rows)
    prepared = rows["row"].notna() if "row" in rows else pd.Series(False, index=rows.index)
    shards = Shards("")  # a row's path leads to its shard, and rows of several corpora may meet here
    def read(r, inside):
        if inside: return shards.read(r.path, int(r.row)).astype(np.float32) / 2**15
        return read_audio(r.path, start_s=getattr(r, "start_s", None), end_s=getattr(r, "end_s", None))
    waves = [read(r, inside) for r, inside in zip(rows.itertuples(), prepared)]
    n = torch.tensor([len(w) for w in waves])
    out = torch.zeros(len(waves), int(n.max()))
    for row, w in zip(out, waves): row[: len(w)] = torch.from_numpy(w)
    return out, n


def _keep(values: list, lengths: list, path: Path):
    "A chunk's features, written beside and renamed"
    part = path.with_suffix(".part.npz")
    np.savez(part, values=torch.cat(values).numpy(), n_frames=torch.cat(lengths).numpy())
    os.replace(part, path)


def _chunk(rows: pd.DataFrame, path: Path):
    "One chunk of features, written beside and renamed"
    torch.set_num_threads(1)
    values, lengths = [], []
    for i in range(0, len(rows), BATCH):
        x, n = network_input(*_waves(rows.iloc[i:i + BATCH]))
        values += [v[:k] for v, k in zip(x, n.tolist())]
        lengths.append(n)
    _keep(values, lengths, path)


def features_of(manifest: pd.DataFrame, fingerprint: str, workers: int | None = None, progress=None) -> Features:
    """Fbank of every row, mean-normalised, float16, from the cache where it is there; `values` is mapped from a file.

    Rows are taken by length so that little is padding; a killed call goes on with the chunks that are missing.
    `progress(done, of)` counts utterances.
    """
    return _cached(home() / "features" / fingerprint, manifest, _chunk, workers=workers, progress=progress)


def _cached(folder: Path, manifest: pd.DataFrame, chunk, copies: int = 0, workers: int | None = None, progress=None) -> Features:
    """What `chunk(rows, path)` makes of every row, from the folder where it is there.

    With copies, a chunk holds its rows once plain and then once for each copy; the copies follow all plain rows.
    """
    folder = writable(folder)
    if (folder / "index.npz").exists(): return _open(folder)
    order = np.argsort(manifest["duration"].to_numpy(), kind="stable")
    chunks = [order[i:i + CHUNK] for i in range(0, len(order), CHUNK)]
    files = [folder / f"{i:05d}.npz" for i in range(len(chunks))]
    todo = [i for i, f in enumerate(files) if not f.exists()]
    done = len(manifest) - sum(len(chunks[i]) for i in todo)
    if progress: progress(done, len(manifest))
    jobs = [(manifest.iloc[chunks[i]], files[i]) for i in todo]
    workers = min(os.cpu_count() or 1, 16, len(jobs)) if workers is None else workers
    if workers < 2:
        threads = torch.get_num_threads()
        results = (chunk(*job) for job in jobs)
        try:
            for i, _ in zip(todo, results):
                done += len(chunks[i])
                if progress: progress(done, len(manifest))
        finally: torch.set_num_threads(threads)
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            try:
                for i, future in zip(todo, [pool.submit(partial(chunk, *job)) for job in jobs]):
                    future.result()
                    done += len(chunks[i])
                    if progress: progress(done, len(manifest))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    _join(folder, files, np.concatenate([c + k * len(manifest) for c in chunks for k in range(copies + 1)]) if copies else order)
    return _open(folder)


def _read(f: Path):
    try:
        with np.load(f, allow_pickle=False) as z: return z["values"], z["n_frames"]
    except Exception as e: raise ValueError(f"{f} cannot be read ({type(e).__name__}): delete it and run again, only this chunk is computed anew") from e


def _join(folder: Path, files: list[Path], order: np.ndarray):
    "Chunks, one after another, into `values.f16`; the index is written last, then the chunks go"
    lengths, part = [], folder / "values.part"
    with open(part, "wb") as out:
        for f in files:
            values, n = _read(f)
            values.tofile(out)
            lengths.append(n)
    os.replace(part, folder / "values.f16")
    n = np.concatenate(lengths).astype(np.int64)
    back = np.argsort(order, kind="stable")
    part = folder / "index.part.npz"
    np.savez(part, starts=(n.cumsum() - n)[back], n_frames=n[back], width=values.shape[1])
    os.replace(part, folder / "index.npz")
    for f in files: f.unlink()


def _open(folder: Path) -> Features:
    try:
        with np.load(folder / "index.npz", allow_pickle=False) as z: starts, n_frames, width = z["starts"], z["n_frames"], int(z["width"])
        values = np.memmap(folder / "values.f16", np.float16, "r", shape=(int(n_frames.sum()), width))  # "c" would be refused beyond the machine's memory
    except Exception as e: raise ValueError(f"the features in {folder} are damaged ({type(e).__name__}: {e}): delete this folder and run again") from e
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nobody writes into features
        values = torch.from_numpy(values)
    return Features(values, torch.from_numpy(starts), torch.from_numpy(n_frames))


class Streamed:
    """Features that stay on disk: a batch is gathered there and sent to `device`. For corpora larger than the accelerator's memory.

    Has what training asks of `Features`: `starts`, `n_frames`, `batch`, `len`.
    """

    def __init__(self, kept: Features, device):
        self.kept, self.device, self.starts, self.n_frames = kept, device, kept.starts.to(device), kept.n_frames.to(device)

    def __len__(self) -> int: return len(self.kept)

    def batch(self, index, max_frames=None, u=None):
        x, n = self.kept.batch(index, max_frames, u)
        return x.to(self.device), n.to(self.device)


def placed(features: Features, device: torch.device, share: float = .5) -> Features | Streamed:
    "Where training reads features: mapped from disk on a CPU, on the GPU where they take at most this share of its free memory, else streamed to it"
    if device.type == "cpu": return features
    fits = features.values.nbytes <= share * torch.cuda.mem_get_info(device)[0]
    return features.to(device) if fits else Streamed(features, device)


def prepare(manifest: pd.DataFrame, fingerprint: str, **kwargs) -> Corpus:
    "Manifest and features; the manifest is kept beside the features, for a reader"
    folder = writable(home() / "features" / fingerprint)
    features = features_of(manifest, fingerprint, **kwargs)
    if not (folder / "manifest.parquet").exists():
        write_table(folder / "manifest.parquet", manifest)
        write_text(folder / "about.json", json.dumps(dict(utterances=len(manifest), frames=len(features.values)), indent=1) + "\n")
    return Corpus(manifest, features, fingerprint)


def forget(fingerprint: str):
    "Delete cached features; they can be made again"
    shutil.rmtree(home() / "features" / fingerprint, ignore_errors=True)
