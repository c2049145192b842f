"""Runs of a plan: found, resumed or made. What a row is and when a run is the same run is mkdcls.runs (page 13).

`BaseRunner` finds, locks, resumes and records runs of any kind of row; it is handed what differs: how a row is known,
what it hears, how it is made. `Runner` makes the rows of Table 1 and its ablations, `SpeakerRunner`
(mkdcls.results.speaker_runner) those of the two verification sheets.
"""
from __future__ import annotations

import operator
import os
import re
import time
from abc import ABC, abstractmethod
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from mkdcls.engine.codehash import source_hash, unchanged
from mkdcls.engine.features import Corpus
from mkdcls.engine.pool import keep_memory
from mkdcls.engine.record import Outcome, Record
from mkdcls.engine.yours import NOTHING, Yours
from mkdcls.encoders import EncoderOutput
from mkdcls.intake.corpora import prepared_real
from mkdcls.intake.encoded import encoder_key, heard_by
from mkdcls.intake.features import forget, placed, prepare
from mkdcls.intake.twins import over_another_line
from mkdcls.engine.store import (RunStore, commit, differences, digest, fill, folder_at, lock, provenance, read_weights,
                                 writable, write_weights)
from mkdcls.decisive import DRAWN_CAUSES, CausesTeacher, causes_k
from mkdcls.evaluation import ordinal_scores, scorecard
from mkdcls.results.executors import DaskExecutor, PoolExecutor, carry_out, scheduler_named
from mkdcls.labels import TASKS
from mkdcls.model import MultiTaskModel
from mkdcls.pretrained import PUBLIC, HeardBefore
from mkdcls.remedies import finish, fit_remedied, known_of, remedies_of, remodel, twin_of, with_twins
from mkdcls.runs import (PROTOCOL, Knobs, answers, labels_of, like, objective_of, own_labels, preset_of,
                         role_manifest, rows_of, standin_about)
from mkdcls.training import BadCheckpoint, Data, encode_all, fit
from mkdcls.verification.bridge import FAMILIES, build, identity


# the teacher's features of a corpus are kept in memory up to here: at the paper's widths, 645,000 utterances
# (ECAPA-TDNN) or 399,000 (ResNet)
K_BYTES = 8 << 30


KNOWN = {"ecapa", "resnet", *FAMILIES}  # networks of the pages 05, 22 and 23
SEEDS = 100  # more of them are a slip of the finger: the protocol asks for five


def count(value, name: str, most: int | None = None) -> int:
    "A number of things, at least 1"
    try: n = operator.index(value)
    except TypeError: raise ValueError(f"{name}={value!r}: a whole number, at least 1") from None
    if isinstance(value, bool) or n < 1: raise ValueError(f"{name}={value}: at least 1")
    if most is not None and n > most: raise ValueError(f"{name}={n}: at most {most}; five seeds give a status")
    return n


def seed_of(value) -> int:
    "The seed of a run"
    try: n = operator.index(value)
    except TypeError: raise ValueError(f"seed {value!r}: a whole number, 0 or more") from None
    if isinstance(value, bool) or not 0 <= n < 2**31:
        raise ValueError(f"seed {value}: a whole number, 0 or more, below 2^31")
    return n


def device_of(name: str) -> torch.device:
    """The device of a name; auto takes what there is.

    With a scheduler the GPUs are the workers', and this machine needs none.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", name):
        raise ValueError(f"device {name!r}: choose auto, cpu or cuda (cuda:1 for the second of several)")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name.startswith("cuda"):
        if not found and scheduler_named(): return torch.device("cpu")
        if not found: raise ValueError(f"device {name!r}: torch finds none here; "
                                       "choose cpu, or auto to take what there is")
        if int(name[5:] or 0) >= found:
            raise ValueError(f"device {name!r}: torch finds {found} here, cuda:0 to cuda:{found - 1}")
    return torch.device(("cuda" if found else "cpu") if name == "auto" else name)


class Rows(dict):
    "Rows of a plan, by name"
    def __missing__(self, row):
        raise ValueError(f"no row {row!r} in this plan; it has {', '.join(map(str, self))}"
                         + " (names are text: in quotes)" * (str(row) in self))


class BaseRunner(ABC):
    """The runs of one preset on one corpus, whatever kind of row they are of.

    `corpus` is 'standin', 'real' (with the folder `real`) or the path of a file; `rows` (name → row) defaults to those
    of the preset; `knobs` change the stand-in; `say` receives one line for each thing worth knowing, `progress(what,
    done, of)` is called often.

    A kind of row says how its presets are found (`preset_of`) and gives the six methods marked abstract. A row is any
    object with `settings.epochs`.
    """

    preset_of: staticmethod  # name → a size, with `name` and `rows(corpus)`
    yours = NOTHING  # what one's own file registered

    def __init__(self, preset="smoke", corpus="standin", real="", device="auto", rows=None, say=lambda text: None,
                 progress=lambda what, done, of: None,
                 knobs=Knobs()):  # noqa: B008 (frozen)
        # the same file is the same corpus, wherever it is named from
        if corpus not in ("standin", "real"): corpus = str(folder_at(corpus, "CORPUS"))
        if real: real = str(folder_at(real, "REAL"))
        self.preset, self.corpus, self.real, self.say, self.progress, self.knobs = (
            (self.preset_of(preset), corpus, real, say, progress, knobs))
        self.rows = Rows(rows or self.preset.rows(corpus))
        self.device, self.asked = device_of(device), device
        self.name = f"{corpus if corpus in ('standin', 'real') else 'own-' + digest(str(corpus))[:6]}-{preset}"
        self.recorded = (prepared_real(real, lambda what, done, of: self.progress(f"real speech: {what}", done, of))
                         if corpus == "real" and real else None)
        self.commit = commit()  # of the code that is loaded now, whatever is committed while it runs
        self.store, self._corpora, self._prints = RunStore(self.name), {}, {}

    # ---- what a kind of row must say

    @abstractmethod
    def parents(self, row: str) -> list[str]:
        "The rows that a row stands on: its teachers, and the row whose weights it starts from. They are run first"

    @abstractmethod
    def about(self, role: str, seed: int) -> dict:
        "What a role's data are known by, without rendering any of it"

    @abstractmethod
    def identity(self, row: str, seed: int, parents: dict[str, str]) -> dict:
        "What makes a run this run, given the keys of the runs it stands on; its `code` names the modules that made it"

    @abstractmethod
    def heard(self, row: str, seed: int) -> tuple:
        "What `data` is to be asked for before a row can run"

    @abstractmethod
    def data(self, *heard):
        "Features and what is known of them; the last answer stays in memory"

    @abstractmethod
    def make(self, row: str, seed: int, folder: Path, kept: dict) -> tuple[Outcome, pd.DataFrame]:
        """Trains a row and asks it: its part of the record, and its answers line by line. Weights are left in `folder`.

        `kept` (checkpoint, key, progress) goes to the training loop.
        """

    def besides(self) -> dict:
        "What this kind of runner is made with beside the arguments of every runner"
        return {}

    # ---- one run

    def fingerprint(self, role: str, seed: int) -> str:
        "Of a role's data, without rendering any of it"
        if (role, seed) not in self._prints: self._prints[role, seed] = digest(self.about(role, seed))
        return self._prints[role, seed]

    def key(self, row: str, seed: int) -> tuple[dict, str]:
        "Identity and key of a run"
        self.rows[row]  # or an error that names what there is
        seed = seed_of(seed)
        ident = self.identity(row, seed, {p: self.key(p, seed)[1] for p in self.parents(row)})
        return ident, digest(ident)

    def record(self, row: str, seed: int) -> Record | None:
        "The record of a finished run, or None"
        return self.store.record(row, seed, self.key(row, seed)[1])

    def weights(self, row: str, seed: int, name: str = "model.safetensors",
                prefix: str = "") -> dict[str, torch.Tensor]:
        "Tensors of a finished run; one line with the reason where there is none"
        ident, key = self.key(row, seed)
        self.finished(row, seed, ident, key)
        return read_weights(self.store.sound(row, seed, key, name), prefix)

    def finished(self, row: str, seed: int, ident: dict, key: str):
        "An error that tells why there is no such run"
        if self.store.record(row, seed, key) is not None: return
        others = self.store.others(row, seed, key)
        changed = "; ".join(differences(others[0].get("identity", {}), ident)[:3]) if others else ""
        why = f"another run of it is there, from before this changed: {changed}" if others else "it has not been run"
        raise FileNotFoundError(f"row {row}, seed {seed} is not in {self.store.folder} as it stands today ({why}): "
                                "run it first, "
                                f"{type(self).__name__}.run({row!r}, {seed})")

    def run(self, row: str, seed: int) -> Record:
        "The record of a run: found, resumed or made"
        seed = seed_of(seed)
        ident, key = self.key(row, seed)
        self.as_written(ident)
        if record := self.store.record(row, seed, key): return record
        for old in [o for o in self.store.others(row, seed, key) if o.get("knobs", {}) == self.knobs.turned()][:1]:
            self.say(f"row {row}, seed {seed} is run again because "
                     + "; ".join(differences(old.get("identity", {}), ident)[:4]))
        for needed in self.parents(row): self.run(needed, seed)
        self.data(*self.heard(row, seed))
        with lock(self.store.folder / f"row{row}-seed{seed}-{key}.lock", f"row {row}, seed {seed}", self.say):
            if record := self.store.record(row, seed, key): return record
            self.store.finish(*self._resumed(row, seed, ident, key, writable(self.store.at(row, seed, key))))
        return self.store.record(row, seed, key)

    def as_written(self, ident: dict):
        """Refuses to answer for code that its files do not hold: something was replaced in a module, or a file was
        edited after it was imported"""
        if wrong := unchanged(*ident["code"]):
            raise ValueError(f"{wrong} is not what its file defines: something was put in its place, "
                             "or the file was edited after it was imported. A run is known by its "
                             "files, so start Python again; a change of your own goes into the page that defines it, "
                             "or into a file of yours (page 13a)")
        if ident.get("yours"): self.yours.as_written()

    def _resumed(self, row, seed, ident, key, folder):
        checkpoint = folder / "checkpoint.pt"
        try: return self._recorded(row, seed, ident, key, folder, checkpoint)
        except BadCheckpoint as e:
            self.say(f"row {row}, seed {seed} starts anew: {e}")
            checkpoint.unlink()
        return self._recorded(row, seed, ident, key, folder, checkpoint)

    def _recorded(self, row, seed, ident, key, folder, checkpoint) -> tuple[Record, pd.DataFrame]:
        started, epochs = time.perf_counter(), self.rows[row].settings.epochs
        def progress(epoch, step, steps, ledger):
            self.progress(f"seed {seed}: row {row}", (epoch - 1) * steps + step, epochs * steps)
        found, answers = self.make(row, seed, folder, dict(checkpoint=checkpoint, key=key, progress=progress))
        return (Record(**found, row=row, seed=seed, key=key, identity=ident, knobs=self.knobs.turned(),
                       preset=self.preset.name, corpus=Path(self.corpus).name,
                     train_s=sum(c["seconds"] for c in found["curves"]), total_s=time.perf_counter() - started,
                     provenance=provenance(self.device, self.commit)), answers)

    # ---- many runs

    def missing(self, plan: list[tuple[str, int]]) -> list[tuple[str, int]]:
        "What a plan of (row, seed) has to do, with the runs it stands on, in an order in which they can be done"
        todo = {}
        def need(row, seed):
            if (row, seed) in todo or self.record(row, seed): return
            for p in self.parents(row): need(p, seed)
            todo[row, seed] = None
        for row, seed in plan:
            self.rows[row]  # or an error that names what there is
            need(row, seed_of(seed))
        return list(todo)

    def run_all(self, plan: list[tuple[str, int]], workers: int | None = None,
                scheduler: str | None = None) -> list[Record]:
        """The records of a plan of (row, seed), made where they are missing.

        On a CPU, several rows at a time, each with its share of the threads: networks this small leave a second thread
        half idle. At most four, or what MKDCLS_WORKERS says; each needs its own memory (preset laptop: up to 3 GB).
        With a Dask `scheduler` (or MKDCLS_SCHEDULER) its workers make the runs. The features are made here in both
        cases.
        """
        todo = self.missing(plan)
        threads = torch.get_num_threads()
        if workers is None: workers = _workers() or min(threads, 4)
        workers = min(count(workers, "WORKERS"), len(todo)) if self.device.type == "cpu" else 1
        scheduler = scheduler_named(scheduler)
        if todo and (scheduler or workers > 1):
            executor = (partial(DaskExecutor, self, scheduler, todo, self.asked.startswith("cuda")
                                or self.device.type == "cuda") if scheduler
                        else partial(PoolExecutor, self, workers, max(1, threads // workers)))
            for heard in dict.fromkeys(self.heard(*job) for job in todo): self.data(*heard)
            self._corpora = {}
            carry_out(self, todo, executor())
        return [self.run(row, seed) for row, seed in plan]

    def again(self, device: str = "cpu") -> tuple[type, dict]:
        "Class and arguments with which another process makes this runner, `say` and `progress` aside"
        return (type(self), dict(preset=self.preset.name, corpus=self.corpus, real=self.real, device=device,
                                 rows={n: r for n, r in self.rows.items() if n not in self.yours.rows},
                                 knobs=self.knobs, **self.besides()))


class Runner(BaseRunner):
    """Rows of Table 1, its ablations and the bridge to speaker networks: a row is a `Recipe`, a corpora file names
    its corpora"""

    preset_of = staticmethod(preset_of)

    def __init__(self, preset="smoke", corpus="standin", real="", device="auto", rows=None, yours="", schedule=None,
                 protocol=PROTOCOL, **more):
        """`yours` is a file of one's own (page 13a), whose rows come after the others; `schedule` (epochs, lr, batch)
        replaces the preset's. A row that is not the preset's has a name of its own and says what it is held
        `against`"""
        self.yours, self.schedule = Yours(yours), {k: v for k, v in (schedule or {}).items() if v is not None}
        super().__init__(preset, corpus, real, device, rows, **more)
        if protocol not in (PROTOCOL, "2"): raise ValueError(f"protocol={protocol!r}: '1' or '2'")
        if protocol == "2": self.preset = self.preset.protocol2()
        self.rows = Rows(rows or self.preset.scheduled(**self.schedule).rows(corpus))
        for name in sorted({*self.yours.encoders} & {*FAMILIES}):
            raise ValueError(f"register_encoder({name!r}): the package has that name already; choose another")
        for e in self.yours.rows.values(): self._add(e)
        for name, r in self.rows.items():
            if r.row != name:
                raise ValueError(f"the row at {name!r} calls itself {r.row!r}: replace(..., row={name!r})")
        self._k, self._labelled, self._told, self._twins = {}, set(), {}, {}

    def _add(self, e):
        "A row of one's file"
        about = e.about
        if e.name in self.rows:
            raise ValueError(f"register_row({e.name!r}): there is a row of that name; choose another")
        try: base, _ = self.rows[about["like"]], self.rows[about["against"]]
        except ValueError as wrong: raise ValueError(f"register_row({e.name!r}): {wrong}") from None
        self.rows[e.name] = like(base, e.name, about["against"], **about["changes"])

    @property
    def results(self) -> str:
        "Name of the folder for tables; one's own rows and schedules never write over those of the preset"
        return self.name + "-yours" * bool(self.yours.file or self.schedule)

    def besides(self) -> dict:
        "One's file and schedule"
        return dict(yours=self.yours.file, schedule=self.schedule, protocol=self.preset.protocol)

    def parents(self, row: str) -> list[str]:
        "Its teacher where that is a row, and the row it starts from"
        return [p for p in (self.rows[row].teacher, self.rows[row].starts_from)
                if p and p not in (DRAWN_CAUSES, self.borrowed(row))]

    def borrowed(self, row: str) -> str:
        "The public encoder (page 18) that is this row's teacher; '' where a row is, or none"
        teacher = self.rows[row].teacher
        return teacher if teacher in PUBLIC and teacher not in self.rows else ""

    def training_rows(self, row: str, manifest) -> torch.Tensor:
        "Positions of the utterances that an epoch goes through; one that stands there twice is heard twice"
        return rows_of(manifest, "train")

    def manifest(self, role: str, seed: int, knobs: Knobs | None = None):
        "Manifest of a role, and what it is known by"
        return role_manifest(role, self.preset, seed, self.corpus, self.recorded,
                             self.knobs if knobs is None else knobs)

    def about(self, role: str, seed: int, knobs: Knobs | None = None) -> dict:
        "What a role's data are known by, without drawing or rendering any of it"
        if self.corpus != "standin": return self.manifest(role, seed, knobs)[1]
        return standin_about(role, self.preset, seed, self.knobs if knobs is None else knobs)

    def identity(self, row: str, seed: int, parents: dict[str, str]) -> dict:
        "What makes a run this run (page 13)"
        r = self.rows[row]
        if r.family not in KNOWN | {*self.yours.encoders}:
            known = ", ".join(sorted(KNOWN | {*self.yours.encoders}))
            raise ValueError(f"row {row!r}: no encoder {r.family!r}; {known}")
        if k := self.borrowed(row): parents = parents | {k: encoder_key(k)}
        same = identity(r, seed, self.fingerprint(r.role, seed), parents, self.yours, self.preset.protocol)
        if r.teacher == DRAWN_CAUSES: same["causes"] = source_hash(causes_k)
        if r.remedy: self._known(r, seed)  # or one line about what a remedy misses
        for task in self.yours.heads(r).values():  # before anything is trained
            if (task.name, r.role, seed) not in self._labelled:
                own_labels(self.manifest(r.role, seed)[0], task)
                self._labelled.add((task.name, r.role, seed))
        return same

    def heard(self, row: str, seed: int) -> tuple:
        "Its role and the seed; and how a remedy of the row wants each utterance a second time"
        r = self.rows[row]
        return r.role, seed, *([t] if r.remedy and (t := twin_of(r)) else [])

    def _known(self, r, seed):
        "What the remedies of a row must know (page 16)"
        if (asked := (r.role, seed, str(r.remedy), r.tasks)) not in self._told:
            self._told[asked] = known_of(r, self.manifest(r.role, seed)[0])
        return self._told[asked]

    def twins(self, role: str, seed: int, twin: str) -> Corpus:
        "The utterances of a role over another line (page 16); the last ones stay in memory"
        if (role, seed, twin) not in self._twins:
            heard, about = self.manifest(role, seed, self.knobs.heard)
            f = over_another_line(heard, digest(about), twin, self.say,
                                  partial(self.progress, f"seed {seed}: speech of {role}, {twin}"))
            self._twins = {(role, seed, twin): Corpus(heard, placed(f, self.device),
                                                      f"{self.fingerprint(role, seed)} {twin}")}
        return self._twins[role, seed, twin]

    def data(self, role: str, seed: int, twin: str = "") -> Corpus:
        """Manifest and features of a role; the last role stays in memory

        Knobs that turn labels only share their features.
        """
        if twin: self.twins(role, seed, twin)
        if (role, seed) not in self._corpora:
            heard, about = self.manifest(role, seed, self.knobs.heard)
            c = prepare(heard, digest(about), progress=partial(self.progress, f"seed {seed}: speech of {role}"),
                        say=self.say)
            manifest = heard if self.knobs == self.knobs.heard else self.manifest(role, seed)[0]
            self._corpora = {(role, seed): Corpus(manifest, placed(c.features, self.device),
                                                  self.fingerprint(role, seed))}
        return self._corpora[role, seed]

    def forget(self, jobs: list[tuple[str, int]]):
        "Delete the features that these runs heard; they can be made again"
        for role, seed in {self.heard(*job) for job in jobs}:
            forget(digest(self.about(role, seed, self.knobs.heard)))
        self._corpora, self._k = {}, {}

    def encoder_of(self, row: str, seed: int) -> torch.nn.Module:
        "The trained encoder of a finished row, as a teacher"
        net = build(self.rows[row], seed := seed_of(seed), yours=self.yours).student
        fill(net, self.weights(row, seed, prefix="student."), self._file(row, seed, "model.safetensors"))
        return net.to(self.device)

    def _file(self, row, seed, name) -> Path: return self.store.at(row, seed, self.key(row, seed)[1]) / name

    def trained(self, row: str, seed: int) -> MultiTaskModel:
        "The model of a finished row, with the statistics its headline was made with, in test mode"
        r, seed = self.rows[row], seed_of(seed)
        again = r.settings.student_view != "normal" or r.reestimate
        name = "model-reestimated.safetensors" if again else "model.safetensors"
        weights = self.weights(row, seed, name)
        model = build(r, seed, self._blank_teacher(r, seed), self.yours)
        if r.remedy and (known := self._known(r, seed)): model = remodel(model, r, known.lines, seed)
        fill(model, weights, self._file(row, seed, name))
        return model.to(self.device).eval()

    def _blank_teacher(self, r, seed):
        "What K is made by, before it has weights; None without a teacher"
        if r.teacher is None: return None
        if r.teacher == DRAWN_CAUSES: return CausesTeacher(r)
        if k := self.borrowed(r.row): return HeardBefore(k)
        return build(self.rows[r.teacher], seed, yours=self.yours).student

    def teacher_features(self, row: str, seed: int, corpus: Corpus, precision: str):
        """A teacher and its features of a corpus, or None where they take more than K_BYTES. The last pair is kept for
        the block.

        With None it is asked at every step, and hears what the student hears: the same, but for the cut to
        `max_frames`, which preset paper has not.
        """
        at = (row, seed, corpus.fingerprint)
        if at not in self._k and row in PUBLIC and row not in self.rows:
            k = heard_by(row, corpus.manifest, corpus.fingerprint, say=self.say,
                         progress=partial(self.progress, f"{row} listens"))
            self._k = {at: (HeardBefore(row), EncoderOutput(*(v.to(self.device) for v in k)))}
        if at not in self._k:
            teacher = self.encoder_of(row, seed).to(memory_format=torch.channels_last if self.rows[row]
                                                    .settings.channels_last else torch.contiguous_format)
            fits = 4 * len(corpus.features) * (teacher.pooled_dim + teacher.embed_dim) <= K_BYTES
            twins = {a: v for a, v in self._k.items() if a[:2] == at[:2] and a[2].split()[0] == at[2].split()[0]}
            self._k = twins | {at: (teacher, encode_all(teacher, corpus.features, precision=precision)
                                    if fits else None)}
        return self._k[at]

    def _remedied(self, r, seed: int, model: MultiTaskModel, data: Data):
        "Model, data and training of a row with remedies (page 16)"
        known, twin = self._known(r, seed), twin_of(r)
        if known: model = remodel(model, r, known.lines, seed)
        if twin:
            other = self.twins(r.role, seed, twin)
            k = self.teacher_features(r.teacher, seed, other, r.settings.precision)[1] if r.teacher else None
            if twin == "telephone": data = replace(data, features=other.features, k=k)
        def train(model, data, objective, s, seed, **kept):
            both = with_twins(data, other.features, k) if twin in ("other", "codec") else data
            curves = fit_remedied(model, both, objective, s, seed, remedies_of(r), known, **kept)
            finish(model, data, r, known, seed)
            return curves
        return model, data, train

    def fit(self, *args, **kept) -> list[dict]:
        "How a row without remedies is trained: page 11's `fit`"
        return fit(*args, **kept)

    def make(self, row: str, seed: int, folder: Path, kept: dict) -> tuple[Outcome, pd.DataFrame]:
        "Trains and asks"
        keep_memory()
        r = self.rows[row]
        corpus = self.data(*self.heard(row, seed))
        if r.teacher == DRAWN_CAUSES: k = causes_k(corpus.manifest, teacher := CausesTeacher(r))
        else:
            teacher, k = (self.teacher_features(r.teacher, seed, corpus, r.settings.precision) if r.teacher
                          else (None, None))
        own = self.yours.heads(r)
        labels = {t: v.to(self.device) for t, v in labels_of(corpus.manifest, own=own.values()).items()}
        data = Data(corpus.features, labels, self.training_rows(row, corpus.manifest).to(self.device), k)
        model, train = build(r, seed, teacher, self.yours), self.fit
        if r.remedy: model, data, train = self._remedied(r, seed, model, data)
        if r.starts_from:
            fill(model, self.weights(r.starts_from, seed), self._file(r.starts_from, seed, "model.safetensors"))
        renew = (lambda m: m.renew(data)) if r.context == "prototypes" else lambda m: {}
        objective = objective_of(r, self.yours)
        curves = train(model, data, objective, r.settings, seed, each_epoch=renew, **kept) if r.trained else []
        write_weights(folder / "model.safetensors", model)
        table = answers(model, corpus, data, r, yours=self.yours)
        many = {t: len(e.about["classes"]) for t, e in own.items()}
        if r.settings.student_view != "normal" or r.reestimate:
            write_weights(folder / "model-reestimated.safetensors", model)
        split = corpus.manifest["split"].value_counts()
        tasks = tuple(t for t in (*TASKS, *many) if t in table)
        scores, headline = {}, table
        if "split" in table:  # protocol 2: the headline is the fresh speakers', the split's own stand beside it
            headline = table[table["split"] == "fresh"]
            scores = {f"split_{n}": v for n, v in scorecard(table[table["split"] == "test"], tasks, many).items()}
        if self.preset.protocol != PROTOCOL: scores |= ordinal_scores(headline)
        return (Outcome(curves=curves, metrics=scorecard(headline, tasks, many) | scores,
                        params=sum(p.numel() for p in model.parameters()) + getattr(teacher, "n_params", 0),
                      student_params=sum(p.numel() for p in model.student.parameters()),
                        utterances={s: int(split.get(s, 0)) for s in ("train", "val", "test")
                                    + ("fresh",)*("fresh" in split)},
                      test_speakers=int(headline["speaker"].nunique())), table)


def _workers() -> int | None:
    "MKDCLS_WORKERS, if it is set"
    if not (text := os.environ.get("MKDCLS_WORKERS")): return None
    try: return count(int(text), "MKDCLS_WORKERS")
    except ValueError: raise ValueError(f"MKDCLS_WORKERS={text!r}: a whole number, at least 1") from None
