"""What a remedy must know, taken away: wrong labels of the line, none at all, a codec that nobody simulated, a second
cause that nobody named, labels for few

Each condition says which remedies are trained anew under it, whose undisturbed run already is the run of the condition,
and whose undisturbed run is only heard over something else. `DisturbedRunner` trains; nothing here is asked of a row
without a condition. The sheet is `remedies_sheet`.
"""
from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile as sf
import torch

from mkdcls.engine.codehash import code_hashes, source_hash
from mkdcls.engine.features import Corpus, Features
from mkdcls.engine.store import digest, home
from mkdcls.fbank import network_input
from mkdcls.intake.features import BATCH, cached_features, placed, write_features
from mkdcls.remedies import known_of, other_line, small_balanced
from mkdcls.results.runner import Runner
from mkdcls.runs import Knobs
from mkdcls.standin import CODEC_RMS, RATE, STANDINS, apply_codec, choose_channel, generator, reverberate, rirs, stages

OFF = "none"  # a row without a remedy
TIED_ROLE = "LTV+FCVE"  # whose speakers the knob ρ ties to the line


@dataclass(frozen=True)
class Condition:
    "What is taken away, and what must be run to see what that does; remedies by name, all on base, at the highest ρ"
    words: str
    trains: tuple = ()  # trained anew
    same: tuple = ()  # the undisturbed run is the run: nothing that it read is taken away
    listens: tuple = ()  # the undisturbed run, heard over something else
    refuses: bool = False  # remedies that ask for the line cannot be trained at all


CONDITIONS = {
    "wrong_lines": Condition("the line's label is wrong for 20 % of the training speakers",
                             trains=("balance", "dro", "reverse", "retrain"), same=("replay", "match", "codec")),
    "line_unknown": Condition("the line's label is unknown", same=("codec",), refuses=True),
    "other_codec": Condition("the telephone of the test has a codec that was never simulated",
                             listens=(OFF, "replay", "match", "codec")),
    "tied_room": Condition("a second cause, the room, is tied to age with the same ρ; turned round with the line",
                           trains=(OFF, "balance", "replay", "match", "dro", "reverse")),
    "few_balanced": Condition("the line's label is known for 5 % of the training speakers, a balanced set",
                              trains=("balance",), same=("retrain",)),
}
WRONG_SHARE, FEW_SHARE = .2, .05  # shares of the training speakers
ROOM = dict(rt60=.8, drr_db=0.)  # s until the tail is 60 dB down; direct sound over tail, dB
MET = ("AU", "G723_24")  # ADPCM at 24 kbit/s, none of the four codecs of `standin.CODECS`


def disturbed_row(remedy: str, condition: str, student: str = "3") -> str:
    "Name of a row under a condition"
    return f"{student}{remedy}-{condition}"


# ---- what is changed

def with_wrong_lines(m: pd.DataFrame, seed: int, share: float = WRONG_SHARE) -> pd.DataFrame:
    "The manifest as it is told to remedies: the other line for a share of the training speakers"
    who = m.loc[m["split"] == "train", "speaker"].unique()
    rng = np.random.default_rng([seed, zlib.crc32(b"wrong lines")])
    at = m["speaker"].isin(rng.choice(who, round(share*len(who)), replace=False))
    return m.assign(channel=m["channel"].where(~at, other_line(m)["channel"]))


def few_known(r, m: pd.DataFrame, seed: int) -> torch.Tensor:
    """Training rows of a balanced set of a twentieth of the speakers, so often that an epoch is as long as ever; the
    set that the remedy `retrain` draws for itself"""
    train = torch.from_numpy(np.flatnonzero((m["split"] == "train").to_numpy()))
    small = small_balanced(known_of(r, m).cell, train, FEW_SHARE, seed)
    return torch.from_numpy(np.resize(small.numpy(), len(train)))


def in_room(m: pd.DataFrame, rho: float, seed: int) -> np.ndarray:
    "`[n]` bool: who is heard in a reverberant room; tied to age as the studio is, by a chance of its own"
    e = generator(STANDINS["LTV"], seed, "room").standard_normal(len(m))
    return choose_channel("by_age", rho, m["age"], e) == "studio"


def met_codec(wave: np.ndarray) -> np.ndarray:
    "One utterance through a codec that no training simulates"
    sf.write(buffer := io.BytesIO(), wave, RATE, format=MET[0], subtype=MET[1])
    buffer.seek(0)
    return sf.read(buffer, dtype="float32")[0][:len(wave)]


def waves_met(m: pd.DataFrame, codec=met_codec) -> tuple[torch.Tensor, torch.Tensor]:
    """Audio of manifest rows with the columns `room` and `met` (bool): a room before the line, another codec at its end

    The room's tail is laid on the voices as they come over the line: a room and a band-pass may change places. Noise
    and its level stay as they were. Rows with neither are those of `standin.render`.
    """
    s = stages(m)
    room, n = m["room"].to_numpy(bool), s.n_samples
    phone = s.channel == "telephone"
    at = np.flatnonzero(room | (m["met"].to_numpy(bool) & phone))
    if not len(at): return torch.from_numpy(s.wave), torch.from_numpy(n)
    speech, wave = s.speech.copy(), s.wave.copy()
    if len(r := np.flatnonzero(room)):
        rngs = [np.random.default_rng([int(k), 3]) for k in m["noise_seed"].iloc[r]]
        tail = rirs(np.full(len(r), ROOM["rt60"]), rngs, drr_db=ROOM["drr_db"])
        speech[r] = reverberate(speech[r], tail) * (np.arange(speech.shape[1]) < n[r, None])
    x = speech[at] + s.noise[at]
    power = np.maximum(np.einsum("bn,bn->b", x, x, dtype=np.float64) / n[at], 1e-12)
    wave[at] = np.clip(x * (CODEC_RMS / np.sqrt(power))[:, None].astype(np.float32), -1, 1)
    for i in at[phone[at]]:
        row, k = m.iloc[i], n[i]
        wave[i, :k] = codec(wave[i, :k]) if row["met"] else apply_codec(wave[i, :k], row["codec"])
    return torch.from_numpy(wave), torch.from_numpy(n)


def met_chunk(rows: pd.DataFrame, path: Path):
    "Features of a chunk of rows as `waves_met` renders them"
    torch.set_num_threads(1)
    values, lengths = [], []
    for i in range(0, len(rows), BATCH):
        x, n = network_input(*waves_met(rows.iloc[i:i + BATCH]))
        values += [v[:k] for v, k in zip(x, n.tolist())]
        lengths.append(n)
    write_features(values, lengths, path)


def condition_code() -> dict:
    "The code and the numbers that features of a condition depend on, beside the generator's"
    parts = {f.__name__: source_hash(f) for f in (waves_met, in_room, met_codec)}
    return parts | dict(room=ROOM, met=list(MET), code=code_hashes("mkdcls.counterfactuals", "mkdcls.fbank"))


def features_met(m: pd.DataFrame, progress=None, say=lambda text: None) -> Features:
    "Features of manifest rows with the columns `room` and `met`, kept like all features"
    told = m[sorted(m.columns.difference(["split"]))]
    rows = sha256("|".join(told).encode()
                  + pd.util.hash_pandas_object(told, index=False).to_numpy().tobytes()).hexdigest()
    name = digest(dict(kind="met", rows=rows, condition_code=condition_code()))
    return cached_features(home() / "features" / name, m, met_chunk, progress=progress, say=say)


# ---- the runner

class DisturbedRunner(Runner):
    "Rows trained under one condition; its name and the code that makes it are part of a run's identity"

    def __init__(self, *args, condition="", **more):
        if condition not in CONDITIONS:
            raise ValueError(f"condition={condition!r}: choose one of {', '.join(CONDITIONS)}")
        super().__init__(*args, **more)
        self.condition, self._seed = condition, None
        if condition == "tied_room" and self.knobs.rho is None:
            raise ValueError("condition='tied_room': the room is tied as the line is; give Knobs(rho=...)")

    def besides(self) -> dict:
        "With the condition"
        return super().besides() | dict(condition=self.condition)

    def identity(self, row: str, seed: int, parents: dict[str, str]) -> dict:
        "The condition is told beside what every run tells"
        by = dict(wrong_lines=(with_wrong_lines,), few_balanced=(few_known,)).get(self.condition, ())
        more = dict(condition=self.condition) | {f.__name__: source_hash(f) for f in by}
        if by: more |= dict(share=WRONG_SHARE if self.condition == "wrong_lines" else FEW_SHARE)
        return super().identity(row, seed, parents) | dict(disturbed=more)

    def about(self, role: str, seed: int, knobs: Knobs | None = None) -> dict:
        "With the room, where it is tied"
        known = super().about(role, seed, knobs)
        if self.condition != "tied_room" or role != TIED_ROLE: return known
        return known | dict(room_tied=self.knobs.rho, condition_code=condition_code())

    def manifest(self, role: str, seed: int, knobs: Knobs | None = None):
        "Manifest of a role, with the room where it is tied, and what it is known by"
        m = super().manifest(role, seed, knobs)[0]
        if self.condition == "tied_room" and role == TIED_ROLE:
            m = m.assign(room=in_room(m, self.knobs.rho, seed), met=False)
        return m, self.about(role, seed, knobs)

    def _known(self, r, seed):
        "What remedies are told: the wrong line for some speakers, where that is the condition"
        if self.condition != "wrong_lines": return super()._known(r, seed)
        if (asked := (r.role, seed, str(r.remedy), r.tasks)) not in self._told:
            self._told[asked] = known_of(r, with_wrong_lines(self.manifest(r.role, seed)[0], seed))
        return self._told[asked]

    def _met(self, m: pd.DataFrame, fingerprint: str, told: str) -> Corpus:
        return Corpus(m, placed(features_met(m, partial(self.progress, told), self.say), self.device), fingerprint)

    def twins(self, role: str, seed: int, twin: str) -> Corpus:
        "The same utterances over the other line, in the same room"
        if self.condition != "tied_room" or role != TIED_ROLE: return super().twins(role, seed, twin)
        if twin != "other": raise ValueError(f"condition='tied_room': no second hearing of the kind {twin!r} here")
        if (role, seed, twin) not in self._twins:
            m = self.manifest(role, seed)[0]
            self._twins = {(role, seed, twin): self._met(
                other_line(m), f"{self.fingerprint(role, seed)} {twin}", f"seed {seed}: speech in rooms, {twin} line")}
        return self._twins[role, seed, twin]

    def data(self, role: str, seed: int, twin: str = "") -> Corpus:
        "With the room, where it is tied"
        if self.condition != "tied_room" or role != TIED_ROLE: return super().data(role, seed, twin)
        if twin: self.twins(role, seed, twin)
        if (role, seed) not in self._corpora:
            m = self.manifest(role, seed)[0]
            self._corpora = {(role, seed): self._met(m, self.fingerprint(role, seed),
                                                     f"seed {seed}: speech in rooms")}
        return self._corpora[role, seed]

    def training_rows(self, row: str, manifest) -> torch.Tensor:
        "Those whose line is known, again and again, where few are"
        if self.condition != "few_balanced": return super().training_rows(row, manifest)
        return few_known(self.rows[row], manifest, self._seed)

    def make(self, row: str, seed: int, folder: Path, kept: dict):
        "Trains and asks, knowing its seed"
        self._seed = seed
        return super().make(row, seed, folder, kept)
