"""Cached features of speakers' utterances for one front end: enhanced, cut to speech, augmented, whatever the recipe
asks; resumable and in parallel.

The features lie on disk as those of `mkdcls.intake.features`: one file, mapped into memory. A folder's name is a digest
of the manifest's fingerprint, the recipe and the code that decides the numbers, so that a changed front end is computed
anew and an old one is never read by mistake.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mkdcls.intake import features as prepare
from mkdcls.engine.codehash import code_hashes
from mkdcls.engine.features import Features
from mkdcls.engine.store import digest, home
from mkdcls.verification.frontend import FRONTS, augmented, front_end, voice_activity
from mkdcls.verification.frontend import enhance as gate


@dataclass(frozen=True)
class SpeakerRecipe:
    "What is done to every wave, in this order: enhanced, cut to speech, augmented in the copies, made into features"
    front: str = "mel64-sliding"
    enhance: bool = False
    vad: bool = False
    copies: int = 0
    seed: int = 0  # of the first copy; the next has the next seed

    def __post_init__(self):
        if self.front not in FRONTS:
            raise ValueError(f"speaker_features: front {self.front!r} is unknown; expected one of {FRONTS}")
        if isinstance(self.copies, bool) or not isinstance(self.copies, int) or self.copies < 0:
            raise ValueError(f"speaker_features: copies is {self.copies!r}; give 0 for none, "
                             "or how many augmented copies of each row")


def _clean(waves: Tensor, n: Tensor, recipe: SpeakerRecipe) -> tuple[Tensor, Tensor]:
    "Enhanced and cut to speech, one utterance at a time: both libraries take one wave"
    if not (recipe.enhance or recipe.vad): return waves, n
    kept = [w[:k] for w, k in zip(waves.numpy(), n.tolist())]
    if recipe.enhance: kept = [gate(w) for w in kept]
    if recipe.vad: kept = [voice_activity(w) for w in kept]
    n = torch.tensor([len(w) for w in kept])
    out = torch.zeros(len(kept), int(n.max()))
    for row, w in zip(out, kept): row[: len(w)] = torch.from_numpy(np.ascontiguousarray(w, np.float32))
    return out, n


def _chunk(recipe: SpeakerRecipe, noises: pd.DataFrame | None, rows: pd.DataFrame, path: Path):
    "One chunk: its rows plain, then each copy of them; a wave is rendered or read once for all"
    torch.set_num_threads(1)
    values, lengths = [[] for _ in range(recipe.copies + 1)], [[] for _ in range(recipe.copies + 1)]
    for i in range(0, len(rows), prepare.BATCH):
        part = rows.iloc[i:i + prepare.BATCH]
        waves, n = _clean(*prepare.waves_of_rows(part), recipe)
        for k in range(recipe.copies + 1):
            x, frames = front_end(augmented(part, waves, n, recipe.seed + k - 1, noises) if k else waves, n,
                                  recipe.front)
            values[k] += [v[:f] for v, f in zip(x, frames.tolist())]
            lengths[k].append(frames)
    prepare.write_features(sum(values, []), sum(lengths, []), path)


def folder_of(fingerprint: str, recipe: SpeakerRecipe, noises: pd.DataFrame | None = None) -> Path:
    "Where the features of a manifest under a recipe are kept"
    listed = None if noises is None else digest(noises[["kind", "path", "duration"]].to_dict("list"))
    return (home() / "features"
            / digest(dict(speakers=fingerprint, recipe=recipe, noises=listed,
                          code=code_hashes("mkdcls.verification.frontend"))))


def speaker_features(manifest: pd.DataFrame,  # `utterance`, `duration` and what rendering or reading needs
                     fingerprint: str,  # of the manifest and of what renders or reads it
                     front: str = "mel64-sliding",  # of `FRONTS`
                     copies: int = 0,  # augmented copies of each row, after all plain rows
                     vad: bool = False,  # pauses cut out
                     enhance: bool = False,  # spectral gating, before that
                     noises: pd.DataFrame | None = None,  # `speakers.musan(folder)`; None: the stand-in's own
                     seed: int = 0,  # of the first copy
                     workers: int | None = None,  # processes; None: as many as there are cores
                     progress=None,  # `progress(done, of)` counts utterances of the manifest
                     say=print,  # `say(text)` is told what is made again and why
                     ) -> Features:  # N·(1 + copies) rows: row i plain, row k·N + i its k-th copy
    """Features of every utterance, from the cache where it is there

    A killed call goes on with the chunks that are missing.
    """
    recipe = SpeakerRecipe(front, enhance, vad, copies, seed)
    if not len(manifest):
        raise ValueError("speaker_features: the manifest has no rows; filter less, or draw some speakers")
    if missing := [c for c in ("utterance", "duration") if c not in manifest]:
        raise ValueError(f"speaker_features: the manifest has no column {missing}")
    if manifest["utterance"].duplicated().any():
        raise ValueError("speaker_features: "
                         f"utterance {manifest['utterance'][manifest['utterance'].duplicated()].iloc[0]!r} stands "
                         "twice; names choose the noise")
    chunk = partial(_chunk, recipe, noises if copies else None)
    return prepare.cached_features(folder_of(fingerprint, recipe, noises if copies else None), manifest, chunk, copies,
                                   workers,
                           progress, say)
