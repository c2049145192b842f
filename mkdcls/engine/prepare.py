"""From a manifest to cached features: in chunks, in parallel, resumable, the same bytes whatever the number of workers."""
from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mkdcls.corpora import read_audio
from mkdcls.engine.features import Corpus, Features
from mkdcls.engine.store import home, writable, write_table, write_text
from mkdcls.fbank import network_input
from mkdcls.standin import render

CHUNK, BATCH = 192, 48


def _waves(rows: pd.DataFrame):
    "Audio of manifest rows: rendered where the row carries its causes, read where it carries a path"
    if "path" not in rows: return render(rows)
    waves = [read_audio(r.path, start_s=getattr(r, "start_s", None), end_s=getattr(r, "end_s", None)) for r in rows.itertuples()]
    n = torch.tensor([len(w) for w in waves])
    out = torch.zeros(len(waves), int(n.max()))
    for row, w in zip(out, waves): row[: len(w)] = torch.from_numpy(w)
    return out, n


def _chunk(rows: pd.DataFrame, path: Path):
    "One chunk of features, written beside and renamed"
    torch.set_num_threads(1)
    values, lengths = [], []
    for i in range(0, len(rows), BATCH):
        x, n = network_input(*_waves(rows.iloc[i:i + BATCH]))
        values += [v[:k] for v, k in zip(x, n.tolist())]
        lengths.append(n)
    part = path.with_suffix(".part.npz")
    np.savez(part, values=torch.cat(values).numpy(), n_frames=torch.cat(lengths).numpy())
    os.replace(part, path)


def features_of(manifest: pd.DataFrame, fingerprint: str, workers: int | None = None, progress=None) -> Features:
    """Fbank of every row, mean-normalised, float16, from the cache where it is there.

    Rows are taken by length so that little is padding; a killed call goes on with the chunks that are missing.
    `progress(done, of)` counts utterances.
    """
    folder = writable(home() / "features" / fingerprint)
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
        results = (_chunk(*job) for job in jobs)
        try:
            for i, _ in zip(todo, results):
                done += len(chunks[i])
                if progress: progress(done, len(manifest))
        finally: torch.set_num_threads(threads)
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            try:
                for i, future in zip(todo, [pool.submit(partial(_chunk, *job)) for job in jobs]):
                    future.result()
                    done += len(chunks[i])
                    if progress: progress(done, len(manifest))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return _assemble(files, order)


def _assemble(files, order) -> Features:
    parts = []
    for f in files:
        try:
            with np.load(f, allow_pickle=False) as z: parts.append((torch.from_numpy(z["values"]), torch.from_numpy(z["n_frames"]).long()))
        except Exception as e: raise ValueError(f"{f} cannot be read ({type(e).__name__}): delete it and run again, only this chunk is computed anew") from e
    n = torch.cat([p[1] for p in parts])
    back = torch.from_numpy(np.argsort(order, kind="stable"))
    return Features(torch.cat([p[0] for p in parts]), (n.cumsum(0) - n)[back], n[back])


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
