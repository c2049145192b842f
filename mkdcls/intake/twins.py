"""The utterances of a corpus over another line: replayed where causes are known, over a made-up telephone elsewhere."""
from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from mkdcls.counterfactuals import render_intervened
from mkdcls.engine.codehash import code_hashes
from mkdcls.engine.features import Features
from mkdcls.engine.store import digest, home
from mkdcls.fbank import network_input
from mkdcls.intake.features import BATCH, cached_features, features_of, waves_of_rows, write_features
from mkdcls.remedies import made_up_telephone, other_line


def telephone_chunk(rows: pd.DataFrame, path: Path):
    "Features of a chunk of rows, heard over the made-up telephone"
    torch.set_num_threads(1)
    values, lengths = [], []
    for i in range(0, len(rows), BATCH):
        part = rows.iloc[i:i + BATCH]
        waves, samples = waves_of_rows(part)
        x, n = network_input(made_up_telephone(waves, samples, part["utterance"]), samples)
        values += [v[:k] for v, k in zip(x, n.tolist())]
        lengths.append(n)
    write_features(values, lengths, path)


def over_another_line(manifest: pd.DataFrame, fingerprint: str, twin: str, say=print, progress=None) -> Features:
    """Features of the same rows: over the `other` line (stand-in only), the `telephone` (replayed on the stand-in,
    made up on recordings) or a made-up telephone (`codec`). They are kept like those of the rows themselves"""
    exact = "path" not in manifest and twin != "codec"
    code = code_hashes("mkdcls.counterfactuals", "mkdcls.fbank") if exact else code_hashes("mkdcls.remedies",
                                                                                           "mkdcls.fbank")
    name = digest(dict(kind="twin", of=fingerprint, twin=twin if exact else "made up", code=code))
    if exact:
        over = other_line(manifest) if twin == "other" else render_intervened(manifest, channel=twin)
        return features_of(over, name, progress=progress, say=say)
    return cached_features(home() / "features" / name, manifest, telephone_chunk, progress=progress, say=say)
