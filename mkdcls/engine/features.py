"""Fbank features of a whole corpus in one array, and padded batches gathered from it without a loop over utterances."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """Utterances laid end to end.

    `values` `[sum of frames, F]` (float16 on disk and in memory: mean-normalised dB values lie within ±100, where
    float16 is exact to 0.06 dB), `starts` and `n_frames` `[N]` int64. All on one device.
    """
    values: Tensor
    starts: Tensor
    n_frames: Tensor

    def __post_init__(self):
        if len(self.starts) != len(self.n_frames):
            raise ValueError(f"{len(self.starts)} starts, {len(self.n_frames)} lengths: they must agree")
        if len(self.n_frames) and int(self.n_frames.min()) < 1:
            raise ValueError(f"utterance {int(self.n_frames.argmin())} has no frames: drop it before caching")
        if len(self.starts) and (int(self.starts.min()) < 0 or int((self.starts + self.n_frames).max())
                                 > len(self.values)):
            raise ValueError(f"the index of {len(self.starts)} utterances leads outside the {len(self.values)} "
                             "frames that are there")

    def __len__(self) -> int: return len(self.n_frames)

    def to(self, device) -> Features:
        "The same features on another device; on a GPU a batch is then gathered there, with no transfer per step"
        return Features(self.values.to(device), self.starts.to(device), self.n_frames.to(device))

    @staticmethod
    def join(parts: list[Features]) -> Features:
        "Several corpora as one; rows keep their order"
        offsets = torch.tensor([0] + [len(p.values) for p in parts[:-1]]).cumsum(0)
        return Features(torch.cat([p.values for p in parts]), torch.cat([p.starts + o for p, o in zip(parts, offsets)]),
                        torch.cat([p.n_frames for p in parts]))

    def batch(self,
              index: Tensor,  # `[B]` int64, rows
              max_frames: int | None = None,  # longer utterances are cut to this many frames
              u: Tensor | None = None,  # `[B]` in [0, 1): where the cut starts; None cuts from the first frame
              ) -> tuple[Tensor, Tensor]:  # x `[B, T, F]` float32, zero-padded; n_frames `[B]` int64
        "A padded batch"
        index = index.to(self.starts.device)
        start, n = self.starts[index], self.n_frames[index]
        if max_frames is not None:
            spare = (n - max_frames).clamp(min=0)
            if u is not None: start = start + (u.to(start.device) * (spare + 1)).long()
            n = n.clamp(max=max_frames)
        t = torch.arange(int(n.max()), device=n.device)
        inside = t < n[:, None]
        x = self.values[(start[:, None] + t).clamp(max=len(self.values) - 1)].float()
        return x * inside[..., None], n


@dataclass(frozen=True)
class Corpus:
    """A manifest (a DataFrame, one row an utterance), the features of its rows in the same order, and what
    identifies both"""
    manifest: object
    features: Features
    fingerprint: str
