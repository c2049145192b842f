"""One run of Table 1's rows by all processes that `accelerate launch` started: `mkdcls train` (page 11).

Every process trains; the first one prepares features, asks the trained row, and writes the store. A run that several
processes, several parts or bfloat16 made is another computation: it has a key of its own.
"""
from __future__ import annotations

import shutil
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from mkdcls.engine.codehash import module_hash
from mkdcls.engine.record import Record
from mkdcls.engine.store import lock, writable
from mkdcls.results.accelerated import Team, accelerator_for, fit_shared, launched
from mkdcls.results.runner import Runner, count, seed_of


class _Trained(Exception): "Of a process that has nothing to do after training"


class AcceleratedRunner(Runner):
    """Rows made by a team of processes; each of them has such a runner and calls it with the same arguments.

    `wait` returns when every process has called it; `bf16` trains in bfloat16 whatever the preset says.
    """

    def __init__(self, *args, team: Team, wait=lambda: None, bf16: bool = False, **more):
        self.team, self.wait, self.bf16 = team, wait, bf16
        super().__init__(*args, **more)
        if bf16:
            for name, r in self.rows.items():
                self.rows[name] = replace(r, settings=replace(r.settings, precision="bf16"))

    def identity(self, row: str, seed: int, parents: dict[str, str]) -> dict:
        "That of page 13, and how the run was split"
        same = super().identity(row, seed, parents)
        if self.team.plain: return same  # bfloat16 is in the recipe
        how = dict(processes=self.team.size, accumulation=self.team.accumulation)
        return same | dict(accelerated=how, code=same["code"] | {m: module_hash(m) for m in (fit_shared.__module__,)})

    def check(self, row: str):
        "One line, before anything is made, where a row cannot be split"
        r = self.rows[row]
        for p in self.parents(row): self.check(p)
        self.team.check(r.settings.batch)
        if self.team.plain: return
        if r.remedy: raise ValueError(f"row {row!r} has remedies, which compare the utterances of a batch (page 16): "
                                      "train it by one process, without accumulation")
        if r.context == "backdoor": raise ValueError(f"row {row!r} exchanges K within a batch (page 11a): "
                                                     "train it by one process, without accumulation")

    def run(self, row: str, seed: int) -> Record:
        "The record of a run: found, resumed or made by all processes together"
        seed = seed_of(seed)
        ident, key = self.key(row, seed)
        self.as_written(ident)
        if self._there(row, seed, key): return self.store.record(row, seed, key)
        for needed in self.parents(row): self.run(needed, seed)
        if self.team.first: self._prepared(row, seed)
        self.wait()  # the others read what the first has prepared
        self._prepared(row, seed)
        folder = self.store.at(row, seed, key)
        with (lock(self.store.folder / f"{folder.name}.lock", f"row {row}, seed {seed}", self.say) if self.team.first
              else nullcontext(), tempfile.TemporaryDirectory() as scratch):
            if self._there(row, seed, key): return self.store.record(row, seed, key)
            begun = folder / "checkpoint.pt"
            if begun.exists() and not self.team.first: shutil.copy(begun, scratch)
            self.wait()  # or the first might write over what another still copies
            try: made = self._resumed(row, seed, ident, key, writable(folder) if self.team.first else Path(scratch))
            except _Trained: pass
            else: self.store.finish(*made)
            self.wait()
        return self.store.record(row, seed, key)

    def _prepared(self, row, seed):  # whatever lies in a cache that processes share
        corpus = self.data(*self.heard(row, seed))
        if k := self.borrowed(row): self.teacher_features(k, seed, corpus, self.rows[row].settings.precision)

    def _there(self, row, seed, key) -> bool:  # as the first process sees it: all must do the same
        found = self.team.first and self.store.record(row, seed, key) is not None
        return bool(self.team.add(torch.tensor(float(found), device=self.device)))

    def fit(self, *args, **kept) -> list[dict]:
        "Page 11's `fit` by the team; only the first process comes back with the curves"
        if self.team.plain: return super().fit(*args, **kept)
        curves = fit_shared(*args, team=self.team, **kept)
        if not self.team.first: raise _Trained
        return curves


def train_row(row: str, seed: int = 0, preset: str = "laptop", corpus: str = "standin", real: str = "",
              device: str = "auto", accumulation: int = 1, say=print, progress=lambda what, done, of: None,
              **own) -> Record:
    """Train one row, and what it stands on where that is missing, by the processes that were launched, or by this one.

    A notebook launcher calls this too. `own` is `yours` and `schedule` of `Runner`.
    """
    accumulation = count(accumulation, "ACCUMULATION")
    if not launched() and accumulation == 1:
        runner = Runner(preset, corpus, real, device, say=say, progress=progress, **own)
        return runner.run(row, seed)
    accelerator = accelerator_for(device)
    try:
        if not accelerator.is_main_process: say, progress = (lambda text: None), (lambda what, done, of: None)
        team, at, bf16 = Team.of(accelerator, accumulation), accelerator.device, accelerator.mixed_precision == "bf16"
        with accelerator.main_process_first():  # it prepares a corpus that is not prepared yet
            runner = AcceleratedRunner(preset, corpus, real, f"cuda:{at.index or 0}" if at.type == "cuda" else "cpu",
                                       say=say, progress=progress, team=team, wait=accelerator.wait_for_everyone,
                                       bf16=bf16, **own)
        runner.check(row)
        s = runner.rows[row].settings
        say(f"Row {row}, seed {seed}: {team.size} process(es) on {at.type}, batches of {s.batch} in {accumulation} "
            f"part(s), {s.precision}. " + ("This is the run that table1 makes, under its key." * team.plain * (not bf16)
                                           or "It has a key of its own."))
        return runner.run(row, seed)
    finally: accelerator.end_training()
