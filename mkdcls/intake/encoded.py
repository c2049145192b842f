"""Features of a public encoder (page 18) for a whole corpus, cached like Fbank: K of any row, and linear probes."""
from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path

import pandas as pd
import torch

from mkdcls.encoders import EncoderOutput
from mkdcls.engine.store import digest, home
from mkdcls.intake.features import cached_features, waves_of_rows, write_features
from mkdcls.pretrained import heard_features, load_public, public_encoder, public_key, weights_bytes

TOGETHER = 16  # utterances that are read at a time


@lru_cache
def encoder_key(name: str) -> str:
    """What K's features depend on beside the corpus

    Where the checksum is recorded, this needs no weights.
    """
    return digest(public_key(name, public_encoder(name).sha256 or weights_bytes(name)[1]))


def why_not(name: str) -> str:
    "Why a public encoder cannot be asked here, in one line; '' where it can"
    try: weights_bytes(name)
    except (OSError, ValueError) as e: return str(e)
    return ""


@lru_cache(maxsize=2)
def _loaded(name: str): return load_public(name)


def encode_chunk(name: str, rows: pd.DataFrame, path: Path):
    "Pooled features and embedding of each utterance, side by side, as one frame"
    torch.set_num_threads(1)
    values = []
    for i in range(0, len(rows), TOGETHER):
        waves, n = waves_of_rows(rows.iloc[i:i + TOGETHER])
        values.append(torch.cat(heard_features(name, _loaded(name), waves, n), 1).half())
    write_features(values, [torch.ones(len(v), dtype=torch.int64) for v in values], path)


def corpus_key(manifest: pd.DataFrame, fingerprint: str) -> str:
    "What is heard, without labels and split: the samples where their checksums are known, else the corpus"
    if "checksum" in manifest and manifest["checksum"].notna().all(): return digest(list(manifest["checksum"]))
    return fingerprint


def heard_by(
    name: str,  # of a public encoder
    manifest: pd.DataFrame,  # of recordings or of the stand-in
    fingerprint: str,  # of the corpus, where its manifest has no checksums
    **kwargs,  # workers, progress, say of `cached_features`
) -> EncoderOutput:  # pooled `[N, P]`, embedding `[N, E]`, float32, rows as in the manifest
    "K of every utterance, from the cache where it is there"
    folder = home() / "features" / f"{name}-{digest([encoder_key(name), corpus_key(manifest, fingerprint)])}"
    kept = cached_features(folder, manifest, partial(encode_chunk, name), **kwargs)
    both, wide = kept.values[kept.starts].float(), public_encoder(name).make().pooled_dim
    return EncoderOutput(both[:, :wide].contiguous(), both[:, wide:].contiguous())
