"""Prepared audio: Arrow IPC files of int16 samples, 8 kHz, mapped into memory, so that reading costs what is read and
nothing is unpacked.

A shard is one record batch with one column, `samples` (a list of int16 for each utterance): all samples of a shard lie
end to end, beside one array that says where each utterance begins. One utterance is a slice of it, the next one lies
right behind.

Why Arrow IPC. pyarrow is here already, for Parquet. A tar of WebDataset reads well in order but has no rows: one
utterance costs a pass over its shard. Lhotse brings a library of its own and compressed audio that is decoded at every
reading. Hugging Face `datasets` keeps its tables as Arrow too, and its loader `arrow` opens these files. Arrow's *file*
format, not its stream: it ends in an index and a mark, so that a file cut short is noticed on opening, wherever it was
cut. What this form costs in seconds is measured in nbs/results/benchmark_corpora.ipynb.
"""
from __future__ import annotations

import errno
import os
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

SCHEMA = pa.schema([pa.field("samples", pa.list_(pa.field("item", pa.int16(), nullable=False)), nullable=False)])
OPEN_SHARDS = 64  # shards mapped at a time; some systems let a process hold 256 files


def write_shard(path: Path, waves: list[np.ndarray]):
    "Waves, each int16 `[N]`, as one file, all or nothing; the same waves give the same bytes"
    for i, w in enumerate(waves):
        if w.dtype != np.int16 or w.ndim != 1:
            raise ValueError(f"{Path(path).name}: wave {i} is {w.dtype} of shape {w.shape}; expected int16 [N]")
    ends = np.cumsum([0, *map(len, waves)])
    if ends[-1] >= 2**31:
        raise ValueError(f"{Path(path).name}: {ends[-1]:,} samples; a shard holds fewer than 2^31, "
                         "so put fewer utterances into it")
    samples = np.concatenate(waves) if waves else np.empty(0, np.int16)
    rows = pa.ListArray.from_arrays(pa.array(ends.astype(np.int32)), pa.array(samples), type=SCHEMA.field(0).type)
    part = Path(path).with_name(Path(path).name + ".part")
    with open(part, "wb") as f, pa.ipc.new_file(f, SCHEMA) as out:
        out.write_batch(pa.record_batch([rows], schema=SCHEMA))
    os.replace(part, path)


def _open(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with pa.memory_map(str(path)) as f:
            file = pa.ipc.open_file(f)
            batch = file.get_batch(0)
            if file.schema == SCHEMA: batch.validate(full=True)  # beginnings that lie would lead outside the samples
            if file.num_record_batches != 1: raise ValueError(f"{file.num_record_batches} batches of records")
    except FileNotFoundError as e:
        raise FileNotFoundError(f"no shard {path}: was the folder copied whole? `mkdcls "
                                "validate` lists what is missing") from e
    except (OSError, ValueError, IndexError) as e:
        if getattr(e, "errno", None) in (errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EIO): raise
        raise ValueError(f"{path} is not a whole shard ({e}): delete it and run the same `mkdcls prepare` again; "
                         "only this shard is made anew") from e
    if batch.schema != SCHEMA:
        raise ValueError(f"{path} holds {batch.schema.names}, not {SCHEMA.names} of int16: it is no shard of mkdcls")
    rows = batch.column(0)
    return rows.offsets.to_numpy(), rows.values.to_numpy()


class Shards:
    """The shards of a folder, by file name and row. What it returns stays valid after the shard was let go.

    May be sent to another process: only the folder travels, the files are mapped there.
    """

    def __init__(self, folder):
        self.folder, self._open = Path(folder), OrderedDict()

    def __reduce__(self): return Shards, (self.folder,)

    def _shard(self, shard: str) -> tuple[np.ndarray, np.ndarray]:
        if shard in self._open: self._open.move_to_end(shard)
        else:
            self._open[shard] = _open(self.folder / shard)
            if len(self._open) > OPEN_SHARDS: self._open.popitem(last=False)
        return self._open[shard]

    def count(self, shard: str) -> int:
        "Utterances in a shard"
        return len(self._shard(shard)[0]) - 1

    def read(self,
             shard: str,  # file name, as in the manifest's column `shard`
             row: int,  # its row there, as in the column `row`
             ) -> np.ndarray:  # `[N]` int16, not to be written to: the file itself, as mapped
        "One utterance, without a copy"
        starts, samples = self._shard(shard)
        if not 0 <= row < len(starts) - 1:
            raise IndexError(f"{self.folder / shard} has no row {row}, only 0 to {len(starts) - 2}: "
                             "manifest and audio differ")
        return samples[starts[row]:starts[row + 1]]

    def batch(self,
              shards,  # `[B]` file names
              rows,  # `[B]` rows in them
              ) -> tuple[torch.Tensor, torch.Tensor]:  # `[B, N]` float32 in [-1, 1], zero-padded; lengths `[B]` int64
        "Utterances as `fbank.network_input` takes them, in the order asked for; each shard is opened once"
        at = list(zip(shards, map(int, rows)))
        waves = [None] * len(at)
        for i in sorted(range(len(at)), key=at.__getitem__): waves[i] = self.read(*at[i])
        n = np.array([len(w) for w in waves], np.int64)
        out = np.zeros((len(waves), n.max(initial=0)), np.float32)
        for o, w in zip(out, waves): np.multiply(w, np.float32(2**-15), out=o[: len(w)])
        return torch.from_numpy(out), torch.from_numpy(n)
