"""Interventions with known truth: counterfactual pairs, the confounding knob, the label-noise knob, refuters

The ideas are page 14c.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import takewhile
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from mkdcls.ablations import ablation_rows
from mkdcls.causal import cka, permute_pairs
from mkdcls.counterfactuals import (Response, Interval, render_intervened, mean_interval, movement, network_hears,
                                    oracle_hears, per_speaker, shuffled, teacher_hears)
from mkdcls.engine.codehash import code_hashes
from mkdcls.engine.features import Features
from mkdcls.results.figures import COLOURS, STYLE, save_figure
from mkdcls.intake.features import features_of, placed
from mkdcls.results.runner import Runner
from mkdcls.engine.store import digest, writable, write_text
from mkdcls.evaluation import MIN_SEEDS, bootstrap, confusion, prf
from mkdcls.labels import TASKS
from mkdcls.runs import PROTOCOL, Knobs, preset_of, rows_of
from mkdcls.scm import posterior, truth
from mkdcls.standin import STANDINS, choose_channel

FILE, RUNS = "interventions.csv", "interventions-runs.csv"
ROWS, BOTH = ("3", "4a", "5", "6"), ("bd", "pr")  # the four methods; the two interventions (ablations)
RHO_ROWS = (*ROWS, *BOTH)
ROW_NAMES = {"3": "base", "4a": "+MKD", "5": "+CH", "6": "+MKD+CH", "bd": "back-door",
             "pr": "prototypes",  # both on +MKD+CH
             "oracle": "oracle (voice only)", "chance": "chance"}
MARKS = dict(zip(RHO_ROWS, "os^DPX"))
COLOUR = dict(zip(RHO_ROWS, (COLOURS[7], COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[4], COLOURS[3])))
ASKED_TASKS = ("gender", "agesup")
WORLDS = {"natural": {}, "age 25": dict(age=25), "age 45": dict(age=45), "age 65": dict(age=65),
          "other gender": dict(gender="other"),
          "studio": dict(channel="studio"), "telephone": dict(channel="telephone"), "overlay off": dict(overlay=False),
          "overlay on": dict(overlay=True)}
INTERVENTIONS = {"channel": ("telephone", "studio"), "overlay": ("overlay off", "overlay on"),
                 "age 25 to 65": ("age 25", "age 65"), "age 25 to 45": ("age 25", "age 45"),
                 "age 45 to 65": ("age 45", "age 65"), "gender": ("natural", "other gender")}
DEALT, PAIRED = 199, ("X and K: own pairs", "X and K: dealt anew", "X and K: dealt anew within gender and decade")
IDLE = ("channel", "overlay")  # should move nothing
MEASURES = tuple(f"{m}_{t}" for t in ASKED_TASKS for m in ("tv", "move", "changed")) + ("z", "z_student", "z_teacher")
COLUMNS = ["sheet", "row", "method", "under", "train_rho", "test_rho", "adjacent", "overlay_label", "wrong_labels",
           "scope", "task", "measure", "against",
           "value", "low", "high", "should", "n_seeds", "n_speakers", "corpus", "preset", "protocol"]


@dataclass(frozen=True)
class Size:
    "How much of everything, declared before anything is run"
    utterances: int  # telephone test speakers for counterfactual pairs, a seed
    rhos: tuple = (0., .4, .8)  # trained at
    tested: tuple = tuple(np.round(np.arange(-.8, .81, .2), 1).tolist())  # tested at; costs nothing
    adjacent: tuple = (0., .2, .4)  # shares of labels slipped, beside Table 1's 0.1
    overlay_label: tuple = (0., 1.)  # P(label of the second voice), beside Table 1's 1/3
    draws: int = 2000  # bootstrap replicates, shuffles and coins


SIZES = {"smoke": Size(12, (0., .8), (-.8, 0., .8), (.4,), (), 200), "laptop": Size(200), "gpu": Size(1000)}


class InterventionRunners:
    """The runners of all settings of one preset.

    `trained` and `predictions` may be given for tests; by default they are those of finished runs.
    """

    def __init__(self, preset="smoke", corpus="standin", real="", device="auto", say=lambda text: None,
                 progress=lambda what, done, of: None, size: Size | None = None):
        if corpus != "standin":
            raise ValueError(f"corpus={corpus!r}: interventions need causes that are known, and only the synthetic "
                             "stand-in has them; leave CORPUS=standin")
        if size is None and preset not in SIZES:
            raise ValueError(f"no intervention sheet of preset {preset!r}; choose one of {', '.join(SIZES)}")
        self.preset, self.size = preset_of(preset), size or SIZES[preset]
        rows = ablation_rows(self.preset)
        self._make = partial(Runner, preset, corpus, real, device, rows={r: rows[r] for r in ("1", *RHO_ROWS)}, say=say,
                             progress=progress)
        self._runners, self.progress = {}, progress

    def runner(self, knobs: Knobs = Knobs()) -> Runner:  # noqa: B008 (frozen)
        "The runner of a setting of the knobs, made once"
        if knobs not in self._runners: self._runners[knobs] = self._make(knobs=knobs)
        return self._runners[knobs]

    def noises(self) -> dict[str, list[Knobs]]:
        "The settings of the label-noise sheet, Table 1's own among them, in order of noise"
        ltv = STANDINS["LTV"]
        adjacent = sorted([*((a, Knobs(adjacent=a)) for a in self.size.adjacent), (ltv.label_noise, Knobs())],
                          key=lambda p: p[0])
        overlay = sorted([*((p, Knobs(overlay_label=p)) for p in self.size.overlay_label),
                          (ltv.overlay_label, Knobs())], key=lambda p: p[0])
        return {"adjacent": [k for _, k in adjacent], "overlay": [k for _, k in overlay]}

    def plan(self) -> dict[Knobs, tuple[str, ...]]:
        "Which rows must be trained at which setting"
        plan = {Knobs(): ROWS} | {Knobs(rho=r): RHO_ROWS for r in self.size.rhos}
        return plan | {k: ROWS for ks in self.noises().values() for k in ks}

    def heard_seeds(self, seeds: int) -> int:
        "Seeds whose networks are listened to: those asked for, and beyond them those that Table 1 has recorded anyway"
        more = range(seeds, max(seeds, MIN_SEEDS))
        return seeds + len([*takewhile(lambda s: all(self.runner().record(r, s) is not None for r in ROWS), more)])

    def todo(self, seeds: int) -> pd.DataFrame:
        "A line for each setting: its runs, and how many are there"
        lines = []
        for knobs, rows in self.plan().items():
            n = self.heard_seeds(seeds) if knobs == Knobs() else seeds
            done = sum(self.runner(knobs).record(r, s) is not None for r in rows for s in range(n))
            what = ", ".join(f"{k} = {v:g}" for k, v in (("ρ", knobs.rho), ("adjacent", knobs.adjacent),
                                                         ("overlay label", knobs.overlay_label)) if v is not None)
            lines.append(dict(corpus=what or "as in Table 1", rows=" ".join(rows), runs=len(rows) * n, done=done))
        return pd.DataFrame(lines).set_index("corpus")

    def run(self, seeds: int):
        "Everything that is missing"
        for knobs, rows in self.plan().items(): self.runner(knobs).run_all([(r, s) for s in range(seeds) for r in rows])

    def records(self, seeds: int) -> pd.DataFrame:
        "A line for each finished run of the plan: what it is, what it was made with, its scores"
        lines = []
        for knobs, rows in self.plan().items():
            for seed, row in ((s, r) for s in range(seeds if knobs != Knobs() else self.heard_seeds(seeds))
                              for r in rows):
                if (rec := self.runner(knobs).record(row, seed)) is None: continue
                where = rec["provenance"]
                lines.append(dict(rho=knobs.rho, adjacent=knobs.adjacent, overlay_label=knobs.overlay_label, row=row,
                                  method=ROW_NAMES[row], seed=seed, key=rec["key"],
                                  data=rec["identity"]["data"], corpus="standin", preset=rec["preset"],
                                  protocol=rec["identity"]["protocol"], commit=where["commit"],
                                  device=where["device"], finished=where["finished"], train_s=round(rec["train_s"], 1),
                                  total_s=round(rec["total_s"], 1),
                                  **{k: round(v, 4)
                                     for k, v in rec["metrics"].items() if k.endswith(("agesup_f1", "gender_f1"))}))
        return pd.DataFrame(lines)


def _test(runner: Runner, seed: int, corpus: str | None = "LTV") -> pd.DataFrame:
    "Test rows of the student's corpus, on paper"
    m = runner.manifest(runner.rows["3"].role, seed)[0]
    keep = m["split"] == "test"
    return m[keep & (m["corpus"] == corpus) if corpus else keep].reset_index(drop=True)


def rendered(m: pd.DataFrame, worlds: dict, device: torch.device,
             progress=None) -> tuple[Features, dict[str, torch.Tensor]]:
    """Features of all rows in all worlds, from the cache where they are there, and which rows are which world.

    They are known by what the manifests say and by the code that renders: settings that sound the same share them.
    """
    every = pd.concat([render_intervened(m, **do) for do in worlds.values()], ignore_index=True)
    told = every[sorted(every.columns.difference(["split"]))]
    rows = sha256("|".join(told).encode() + pd.util.hash_pandas_object(told, index=False).to_numpy()
                  .tobytes()).hexdigest()
    f = features_of(every,
                    digest(dict(kind="counterfactual", rows=rows, code=code_hashes("mkdcls.standin", "mkdcls.fbank"))),
                    progress=progress)
    return placed(f, device), {w: torch.arange(i * len(m), (i + 1) * len(m)) for i, w in enumerate(worlds)}


def hear(model, f: Features, at: dict[str, torch.Tensor], kept: dict) -> dict[str, Response]:
    """A model's answers in each world

    A teacher's features of a world are computed once and kept in `kept`, for all rows that have this teacher.
    """
    teacher = (model.teacher
               and sha256(b"".join(v.detach().cpu().numpy().tobytes() for v in model.teacher.state_dict().values()))
               .hexdigest())
    for world, rows in at.items():
        if teacher and (teacher, world) not in kept: kept[teacher, world] = teacher_hears(model, f, rows)
    return {world: network_hears(model, f, rows, ASKED_TASKS, kept.get((teacher, world))) for world, rows in at.items()}


@dataclass(frozen=True)
class Listened:
    "One seed: who was heard in which world, and what everybody made of it"
    m: pd.DataFrame
    heard: dict[str, dict[str, Response]]  # row, or 'oracle' → world → answers


def listen(sheet: InterventionRunners, seeds: int) -> list[Listened]:
    "Each test utterance rendered once in each world and heard once by each row, for all seeds that are recorded"
    runner, out = sheet.runner(), []
    for seed in range(sheet.heard_seeds(seeds)):
        m = _test(runner, seed).iloc[:sheet.size.utterances]
        f, at = rendered(m, WORLDS, runner.device,
                         partial(sheet.progress, f"seed {seed}: speech of {len(WORLDS)} worlds"))
        heard, kept = ({"oracle": {w: oracle_hears(render_intervened(m, **do), ASKED_TASKS)
                                   for w, do in WORLDS.items()}}, {})
        for i, row in enumerate(ROWS):
            heard[row] = hear(runner.trained(row, seed), f, at, kept)
            sheet.progress(f"seed {seed}: rows listen", i + 1, len(ROWS))
        out.append(Listened(m, heard))
    return out


# ---- tables

def _about(sheet: InterventionRunners, n_seeds: int, n_speakers: int) -> dict:
    return dict(n_seeds=n_seeds, n_speakers=n_speakers, corpus="standin", preset=sheet.preset.name, protocol=PROTOCOL)


def _table(lines: list[dict]) -> pd.DataFrame:
    table = pd.DataFrame(lines).reindex(columns=COLUMNS)
    for c in ("sheet", "row", "method", "under", "scope", "task", "measure", "against"):
        table[c] = table[c].astype(object).where(table[c].notna(), "")
    table[["value", "low", "high", "should", "wrong_labels"]] = table[["value", "low", "high", "should",
                                                                       "wrong_labels"]].astype(float).round(5)
    return table


def effects(sheet: InterventionRunners, listened: list[Listened]) -> pd.DataFrame:
    "How far answers and Z move, against how far they should; differences to that and to base, on the same draws"
    rows, seeds = ("oracle", *ROWS), []
    for one in listened:
        cells = []
        for a, b in INTERVENTIONS.values():
            each = [movement(one.heard[r][a], one.heard[r][b], None if r == "oracle" else one.heard[r]["natural"])
                    for r in rows]
            cells.append([[e.get(k, np.full(len(one.m), np.nan)) for k in MEASURES] for e in each])
        # [S, pairs, rows, measures]
        seeds.append(per_speaker(np.moveaxis(np.array(cells, float), 3, 0), one.m["speaker"]))
    idle = np.array([p in IDLE for p in INTERVENTIONS])[:, None]
    def three(v):
        should = np.where(idle, 0., v[:, :, 0])  # nan for Z under do(age), do(gender)
        return np.stack([v, v - should[:, :, None], v - v[:, :, [1]]], 1)
    got, about = (mean_interval([three(v) for v in seeds], sheet.size.draws),
                  _about(sheet, len(listened), sum(map(len, seeds))))
    lines = []
    for i, against in enumerate(("", "should", "base")):
        for p, under in enumerate(INTERVENTIONS):
            for r, row in enumerate(rows):
                for k, measure in enumerate(MEASURES):
                    value, low, high = (v[i, p, r, k] for v in got)
                    if np.isnan(value) or (against and row == "oracle") or (against == "base" and row == "3"): continue
                    should = 0. if under in IDLE else got.value[0, p, 0, k]
                    name, _, task = measure.partition("_") if not measure.startswith("z") else (measure, "", "")
                    lines.append(dict(sheet="effects", row=row, method=ROW_NAMES[row], under=under, task=task,
                                      measure=name, against=against, value=value, low=low, high=high,
                                      should=np.nan if against else should, **about))
    return _table(lines)


def _score(cm: np.ndarray) -> np.ndarray:
    "[..., K, K] → [..., 2]: macro F1 and accuracy, percent"
    return np.stack([prf(cm)[..., 2], 100 * np.trace(cm, axis1=-2, axis2=-1) / np.maximum(cm.sum((-1, -2)), 1e-9)], -1)


SCORES = ("f1", "accuracy")


def _scored(seeds: list[list[np.ndarray]], draws: int) -> tuple[np.ndarray, np.ndarray]:
    "Point [methods, 2] and replicates [draws, methods, 2]"
    return np.mean([[_score(c.sum(0)) for c in methods] for methods in seeds], 0), bootstrap(seeds, _score, draws)


def _cm(y: np.ndarray, guess: np.ndarray, speakers, task: str = "agesup") -> np.ndarray:
    # floats: BLAS multiplies them
    return confusion(y, guess, TASKS[task], np.unique(np.asarray(speakers), return_inverse=True)[1]).astype(float)


def _chance(y: np.ndarray, task: str) -> np.ndarray:
    "Macro F1 and accuracy of answers drawn evenly at random"
    k = TASKS[task]
    share = np.bincount(y, minlength=k) / len(y)
    return np.array([100 * (2 * share / k / (share + 1 / k)).mean(), 100 / k])


def _differences(point, sims, pairs: dict) -> dict:
    "name → (value, low, high) [.., 2] of method i minus method j, paired"
    return {name: (point[i] - point[j], *np.percentile(sims[:, i] - sims[:, j], [2.5, 97.5], axis=0))
            for name, (i, j) in pairs.items()}


def knob_rho(sheet: InterventionRunners, seeds: int) -> pd.DataFrame:
    """Scores on true labels when tested at every ρ, for each ρ in training.

    Every test utterance is rendered over both lines; a ρ in the test only says which of the two is heard.
    """
    size, y, both_lines, cms, n = sheet.size, {}, [], [], 0
    cells = [(r, row) for r in size.rhos for row in RHO_ROWS]
    for seed in range(seeds):
        runner = sheet.runner(Knobs(rho=size.rhos[0]))
        m = _test(runner, seed)
        f, at = rendered(m, {c: WORLDS[c] for c in ("studio", "telephone")}, runner.device,
                         partial(sheet.progress, f"seed {seed}: speech over both lines"))
        y = {t: truth(m, t) for t in ASKED_TASKS}
        studio = {r: choose_channel("by_age", r, m["age"], m["e_channel"]) == "studio" for r in size.tested}
        oracle = {t: posterior(m, t).argmax(1) for t in ASKED_TASKS}
        methods, moves, kept = {("oracle", t): _cm(y[t], oracle[t], m["speaker"], t) for t in ASKED_TASKS}, [], {}
        for i, (rho, row) in enumerate(cells):
            both = hear(sheet.runner(Knobs(rho=rho)).trained(row, seed), f, at, kept)
            sheet.progress(f"seed {seed}: rows listen over both lines", i + 1, len(cells))
            moved = movement(both["telephone"], both["studio"])
            moves.append([moved["tv_agesup"], moved["move_agesup"]])
            for t in ASKED_TASKS:
                a, b = (both[c].p[t].argmax(1) for c in ("studio", "telephone"))
                for r in size.tested: methods[rho, row, r, t] = _cm(y[t], np.where(studio[r], a, b), m["speaker"], t)
        both_lines.append(per_speaker(np.moveaxis(np.array(moves), 2, 0), m["speaker"]))
        cms.append(methods)
        n += m["speaker"].nunique()
    about, lines = _about(sheet, seeds, n), []
    for t in ASKED_TASKS:
        keys = [k for k in cms[0] if k[-1] == t]
        at = {k: i for i, k in enumerate(keys)}
        point, sims = _scored([[c[k] for k in keys] for c in cms], size.draws)
        low, high = np.percentile(sims, [2.5, 97.5], axis=0)
        def add(values, measures=SCORES, t=t, **head):
            for j, measure in enumerate(measures):
                got = dict(zip(("value", "low", "high"), (v[j] for v in values)))
                lines.append(dict(sheet="rho", method=ROW_NAMES[head["row"]], task=t, measure=measure, **got, **head,
                                  **about))
        add((point[0], low[0], high[0]), row="oracle")
        add((_chance(y[t], t),) * 3, row="chance")
        for rho, row in cells:
            for r in size.tested:
                i = at[rho, row, r, t]
                add((point[i], low[i], high[i]), row=row, train_rho=rho, test_rho=r)
                if row != "3":
                    add(_differences(point, sims, {0: (i, at[rho, "3", r, t])})[0], row=row, train_rho=rho, test_rho=r,
                        against="base")
            lo, hi = (at[rho, row, r, t] for r in (size.tested[0], size.tested[-1]))
            add(_differences(point, sims, {0: (hi, lo)})[0], ("fall_f1", "fall_accuracy"), row=row, train_rho=rho,
                should=0.)
            if row == "3": continue
            base = [at[rho, "3", r, t] for r in (size.tested[0], size.tested[-1])]
            fall = lambda v, lo=lo, hi=hi, base=base: (v[..., hi, :]
                                                       - v[..., lo, :]) - (v[..., base[1], :] - v[..., base[0], :])
            add((fall(point), *np.percentile(fall(sims), [2.5, 97.5], axis=0)), ("fall_f1", "fall_accuracy"), row=row,
                train_rho=rho, against="base")
    got = mean_interval(both_lines, size.draws)
    for i, (rho, row) in enumerate(cells):
        for j, measure in enumerate(("tv", "move")):
            lines.append(dict(sheet="rho", row=row, method=ROW_NAMES[row], under="channel", train_rho=rho,
                              task="agesup", measure=measure, should=0.,
                              **dict(zip(("value", "low", "high"), (v[i, j] for v in got))), **about))
    return _table(lines)


def knob_labels(sheet: InterventionRunners, seeds: int) -> pd.DataFrame:
    """Scores on true labels against the share of wrong age groups in training, and what is lost from the smallest share
    to the largest.

    From the answers that the runs have kept. All settings have the same test speakers, so losses are paired.
    """
    lines, ltv = [], STANDINS["LTV"]
    for kind, settings in sheet.noises().items():
        wrong, cms, n, y = np.zeros((len(settings), seeds)), {}, {}, {}
        for seed in range(seeds):
            for k, knobs in enumerate(settings):
                runner = sheet.runner(knobs)
                m = runner.manifest(runner.rows["3"].role, seed)[0]
                train = m.iloc[rows_of(m, "train").numpy()]
                wrong[k, seed] = 100 * (train["agesup"] != train["true_agesup"]).mean()
                tables = {row: runner.store.predictions(row, seed, runner.key(row, seed)[1]) for row in ROWS}
                for scope in ("LTV", "pooled"):
                    parts = [p[p["corpus"] == scope] if scope == "LTV" else p for p in tables.values()]
                    for t in ASKED_TASKS:
                        cms.setdefault((scope, t), {}).setdefault(seed,
                                                                  []).extend(_cm(p[f"true_{t}"].to_numpy(int),
                                                                                 p[t].to_numpy(int), p["speaker"], t)
                                                                             for p in parts)
                        y[scope, t] = parts[0][f"true_{t}"].to_numpy(int)
                    n[scope, seed] = parts[0]["speaker"].nunique()
        share = wrong.mean(1)
        for (scope, t), each in cms.items():
            point, sims = _scored([*each.values()], sheet.size.draws)  # [settings × rows, 2], and so for each draw
            point, sims = (v.reshape(*v.shape[:-2], len(settings), len(ROWS), 2) for v in (point, sims))
            (low, high), chance = np.percentile(sims, [2.5, 97.5], axis=0), _chance(y[scope, t], t)
            about = dict(sheet="label_noise", under=kind, scope=scope,
                         task=t) | _about(sheet, seeds, sum(v for (s, _), v in n.items() if s == scope))
            def add(values, where, row, against="", measures=SCORES, about=about):
                for j, measure in enumerate(measures):
                    value, a, b = (v[j] for v in values)
                    lines.append(about | where | dict(row=row, method=ROW_NAMES[row], measure=measure, against=against,
                                                      value=value, low=a, high=b))
            where = [dict(adjacent=ltv.label_noise if k.adjacent is None else k.adjacent,
                          overlay_label=ltv.overlay_label if k.overlay_label is None else k.overlay_label,
                          wrong_labels=w) for k, w in zip(settings, share)]
            for k in range(len(settings)):
                add((chance,) * 3, where[k], "chance")
                for i, row in enumerate(ROWS):
                    add((point[k, i], low[k, i], high[k, i]), where[k], row)
                    if i: add(_differences(point[k], sims[:, k], {0: (i, 0)})[0], where[k], row, "base")
            few, many = share.argmin(), share.argmax()
            if few == many: continue
            lost, draws = point[few] - point[many], sims[:, few] - sims[:, many]
            for against, v, d in (("", lost, draws), ("base", lost - lost[:1], draws - draws[:, :1])):
                low, high = np.percentile(d, [2.5, 97.5], axis=0)
                for i, row in [*enumerate(ROWS)][bool(against):]:
                    add((v[i], low[i], high[i]), where[many], row, against, ("fall_f1", "fall_accuracy"))
    return _table(lines)


def others(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    "For each row the position of another row of its group; a row alone in its group keeps its own"
    out = np.arange(len(groups))
    for g in np.unique(groups):
        at = rng.permutation(np.flatnonzero(groups == g))
        out[at] = np.roll(at, 1)
    return out


@torch.no_grad()
def _heads(model, x, k, device) -> dict[str, np.ndarray]:
    z = torch.from_numpy(np.concatenate([x, k], 1)).to(device)
    return {t: v.argmax(-1).cpu().numpy() for t, v in model.heads(z)[1].items()}


def permuted_k(sheet: InterventionRunners, seeds: int, times: int = 20) -> pd.DataFrame:
    """Scores when the heads get another utterance's K: of the same gender and age group, or of anybody; for all seeds
    that are recorded.

    And how alike X and K are: linear CKA of an utterance's own pair, and of pairs dealt anew, freely and within gender
    and decade.
    """
    runner, rows, cms, n, seeds = sheet.runner(), ("4a", "6"), {t: [] for t in ASKED_TASKS}, 0, sheet.heard_seeds(seeds)
    kinds, alike = ("own", "same class", "anybody"), {row: [] for row in rows}
    for seed in range(seeds):
        corpus = runner.data(runner.rows["3"].role, seed)
        m = corpus.manifest
        at = np.flatnonzero(((m["split"] == "test") & (m["corpus"] == "LTV")).to_numpy())
        m, y, speakers = m.iloc[at], {t: truth(m.iloc[at], t) for t in ASKED_TASKS}, m.iloc[at]["speaker"]
        groups = {"same class": y["gender"] * 10 + y["agesup"], "anybody": np.zeros(len(m), int)}
        methods = {t: [] for t in ASKED_TASKS}
        for row in rows:
            model = runner.trained(row, seed)
            h = network_hears(model, corpus.features, torch.from_numpy(at), ASKED_TASKS)
            within = (m["gender"].astype(str) + m["agesub"].astype(str)).to_numpy()
            alike[row].append((np.full(DEALT, cka(h.x, h.k)), permute_pairs(h.x, h.k, draws=DEALT, seed=seed),
                               permute_pairs(h.x, h.k, within, DEALT, seed)))
            for kind in kinds:
                rng = np.random.default_rng([seed, kinds.index(kind)])
                some = [_heads(model, h.x, h.k if kind == "own" else h.k[others(groups[kind], rng)], runner.device)
                        for _ in range(1 if kind == "own" else times)]
                for t in ASKED_TASKS: methods[t].append(np.mean([_cm(y[t], s[t], speakers, t) for s in some], 0))
        for t in ASKED_TASKS: cms[t].append(methods[t])
        n += m["speaker"].nunique()
    lines, about = [], _about(sheet, seeds, n)
    for t in ASKED_TASKS:
        point, sims = _scored(cms[t], sheet.size.draws)
        low, high = np.percentile(sims, [2.5, 97.5], axis=0)
        for i, row in enumerate(rows):
            for k, kind in enumerate(kinds):
                at, own = len(kinds) * i + k, len(kinds) * i
                lost = _differences(point, sims, {0: (own, at)})[0]
                for j, measure in enumerate(SCORES):
                    head = dict(sheet="refuters", row=row, method=ROW_NAMES[row], under=f"K: {kind}", task=t,
                                scope="LTV", **about)
                    lines.append(head | dict(measure=measure, value=point[at, j], low=low[at, j], high=high[at, j]))
                    if k:
                        lines.append(head | dict(measure=f"drop_{measure}", value=lost[0][j], low=lost[1][j],
                                                 high=lost[2][j]))
    for row in rows:
        for name, v in zip(PAIRED, np.mean(alike[row], 0)):
            lines.append(dict(sheet="refuters", row=row, method=ROW_NAMES[row], under=name, measure="cka", scope="LTV",
                              **about,
                              **dict(zip(("value", "low", "high"), (v.mean(), *np.percentile(v, [2.5, 97.5]))))))
    return _table(lines)


def refuters(sheet: InterventionRunners, listened: list[Listened]) -> pd.DataFrame:
    "Placebo channel (0 up to rounding), lines named by a coin, ages with shuffled names"
    lines, about = [], _about(sheet, len(listened), sum(one.m["speaker"].nunique() for one in listened))
    ages, draws = ("age 25", "age 45", "age 65"), sheet.size.draws
    group = lambda h: h.p["agesup"] @ np.arange(TASKS["agesup"])
    for row in ("oracle", *ROWS):
        head = dict(sheet="refuters", row=row, method=ROW_NAMES[row], **about)
        placebo = [movement(one.heard[row]["natural"], one.heard[row]["telephone"],
                            None if row == "oracle" else one.heard[row]["natural"]) for one in listened]
        for measure in placebo[0]:
            most = max(np.abs(p[measure]).max() for p in placebo)
            lines.append(head | dict(under="placebo: the channel it has", measure=f"most_{measure}", value=most,
                                     low=most, high=most, should=0.))
        true = mean_interval([per_speaker(group(one.heard[row][ages[-1]]) - group(one.heard[row][ages[0]]),
                                          one.m["speaker"]) for one in listened], draws)
        null = np.mean([shuffled(np.stack([group(one.heard[row][w]) for w in ages], 1), draws, seed)
                        for seed, one in enumerate(listened)], 0)
        right = {w: [(one.heard[row][w].p["agesup"].argmax(1) == truth(one.m, "agesup")) * 100. for one in listened]
                 for w in ("studio", "telephone")}
        gap = mean_interval([per_speaker(a - b, one.m["speaker"])
                             for a, b, one in zip(right["studio"], right["telephone"], listened)], draws)
        coin = np.mean([shuffled(np.stack([right["telephone"][i], right["studio"][i]], 1), draws, i)
                        for i in range(len(listened))], 0)
        spread = lambda v, null=null: Interval(v.mean(), *np.percentile(v, [2.5, 97.5]))
        for under, measure, got, should in (("ages, true names", "move", true, np.nan),
                                            ("ages, shuffled names", "move", spread(null), 0.),
                                            ("line, true names", "accuracy_gap", gap, 0.),
                                            ("line, named by a coin", "accuracy_gap", spread(coin), 0.)):
            lines.append(head | dict(under=under, task="agesup", measure=measure, value=got.value, low=got.low,
                                     high=got.high, should=should))
    return _table(lines)


def write(folder: Path, *tables: pd.DataFrame, records: pd.DataFrame | None = None) -> pd.DataFrame:
    "interventions.csv, and beside it the runs that it was measured on"
    table = pd.concat(tables, ignore_index=True)
    write_text(writable(Path(folder)) / FILE, table.to_csv(index=False))
    if records is not None: write_text(Path(folder) / RUNS, records.to_csv(index=False))
    return table


def read(folder: Path) -> pd.DataFrame:
    "interventions.csv as it was written"
    path = Path(folder) / FILE
    if not path.exists(): raise FileNotFoundError(f"no {FILE} in {folder}: make table SHEET=interventions writes it")
    text = {c: str for c in ("sheet", "row", "method", "under", "scope", "task", "measure", "against", "corpus",
                             "preset", "protocol")}
    table = pd.read_csv(path, dtype=text)
    table[list(text)] = table[list(text)].fillna("")
    return table


# ---- figures

def _pick(table: pd.DataFrame, **where) -> pd.DataFrame:
    for c, v in where.items(): table = table[table[c].isin(v if isinstance(v, tuple) else (v,))]
    return table


def _whiskers(ax, x, y, low, high, **kw):
    ax.hlines(y, low, high, color=kw.get("color"), lw=1.6, zorder=2)
    ax.plot(x, y, kw.pop("marker"), ms=5, zorder=3, ls="none", **kw)


def figure_effects(table: pd.DataFrame, folder: Path | None = None):
    "How far age answers and Z move under four interventions; the dashed line is how far they should"
    data = _pick(table, sheet="effects", against="")
    shown = {"channel": "do(studio), from telephone", "overlay": "do(second voice), from none",
             "age 25 to 65": "do(age 65), from 25", "gender": "do(other gender)"}
    kinds = {"tv": "agesup: total variation", "move": "agesup: signed movement (groups)",
             "z": "Z: distance (1 = another person)"}
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(3, 4, figsize=(9, 5.2), sharey="row", sharex="row", layout="constrained")
        fig.get_layout_engine().set(hspace=.12)
        for j, (measure, label) in enumerate(kinds.items()):
            for ax, (under, title) in zip(axes[j], shown.items()):
                part = _pick(data, under=under)
                if measure == "z":
                    for i, row in enumerate(ROWS):
                        mine = _pick(part, row=row).set_index("measure")
                        for half, step, mark in (("z", -.24, "o"), ("z_student", 0, "^"),
                                                 ("z_teacher", .24,
                                                  "v")) if "z_teacher" in mine.index else (("z", 0, "o"),):
                            p, fill = mine.loc[half], COLOUR[row] if half == "z" else "w"
                            _whiskers(ax, [p.value], [i + step], [p.low], [p.high], marker=mark, color=COLOUR[row],
                                      mfc=fill)
                else:
                    mine = _pick(part, measure=measure, task="agesup")
                    for i, row in enumerate(ROWS):
                        for _, p in _pick(mine, row=row).iterrows():
                            _whiskers(ax, [p.value], [i], [p.low], [p.high], marker=MARKS[row], color=COLOUR[row])
                    for _, p in _pick(mine, row="oracle").iterrows():
                        ax.axvline(p.should, color="k", ls="--", lw=1, zorder=1)
                if measure == "z" and under in IDLE: ax.axvline(0, color="k", ls="--", lw=1, zorder=1)
                if j == 0: ax.set_title(title, loc="left")
                ax.set(yticks=range(len(ROWS)), yticklabels=[ROW_NAMES[r] for r in ROWS], xlabel=label)
                ax.set_ylim(len(ROWS) - .4, -.6)
        keys = [plt.Line2D([], [], color="k", ls="--", lw=1)]
        keys += [plt.Line2D([], [], color="0.3", marker=m, ls="none", mfc=f)
                 for m, f in (("o", "0.3"), ("^", "w"), ("v", "w"))]
        fig.legend(keys, ["how far it should (0, or the oracle's)", "Z", "student's half", "teacher's half"],
                   loc="outside upper right", ncols=4, frameon=False)
        if folder: save_figure(fig, folder, "effects")
    return fig


def figure_rho(table: pd.DataFrame, folder: Path | None = None, measure: str = "f1"):
    """Agesup score against the ρ of the test, a panel for each ρ of training; below, what it is above base

    At the right, what the strongest ρ costs.
    """
    every = _pick(table, sheet="rho", task="agesup", measure=measure)
    data, gains = _pick(every, against=""), _pick(every, against="base")
    rhos, ends = sorted(data["train_rho"].dropna().unique()), sorted(data["test_rho"].dropna().unique())
    score = "macro F1" if measure == "f1" else measure
    with mpl.rc_context(STYLE | {"font.size": 9, "axes.titlesize": 9}):
        fig, axes = plt.subplots(2, len(rhos) + 1, figsize=(2.7 * len(rhos) + 2.6, 5.6), layout="constrained",
                                 squeeze=False, height_ratios=[1.25, 1],
                                 width_ratios=[1.15] * len(rhos) + [.9])
        for (top, low), rho in zip(axes[:, :-1].T, rhos):
            for ax, first in ((top, axes[0, 0]), (low, axes[1, 0])):
                if ax is not first: ax.sharey(first); ax.tick_params(labelleft=False)  # noqa: E702
                ax.axvline(rho, color="0.85", lw=5, zorder=0)
            for name, style in (("oracle", "--"), ("chance", ":")):
                top.axhline(_pick(data, row=name)["value"].iloc[0], color="k", ls=style, lw=1.2, label=ROW_NAMES[name])
            low.axhline(0, color=COLOUR["3"], lw=1.5, zorder=1)
            for ax, lines in ((top, data), (low, gains)):
                for i, row in enumerate(RHO_ROWS):
                    p = _pick(lines[lines["train_rho"] == rho], row=row).sort_values("test_rho")
                    x, faint = p["test_rho"] + (.014 if ax is top else .022) * (i - 2.5), row in BOTH
                    ax.vlines(x, p["low"], p["high"], color=COLOUR[row], lw=.9, alpha=.55)
                    style = dict(ls=(0, (3, 1.2)) if faint else "-", mfc="w" if faint else COLOUR[row])
                    ax.plot(x, p["value"], MARKS[row], color=COLOUR[row], lw=1.5, ms=5 if ax is top else 4,
                            label=ROW_NAMES[row] + " (on +MKD+CH)" * faint, **style)
                ax.set(xticks=[-.8, -.4, 0, .4, .8])
            top.set(title=f"trained at ρ = {rho:g}")
            low.set(xlabel="ρ in the test")
        axes[0, 0].set_ylabel(f"agesup {score}, true labels (%)")
        axes[1, 0].set_ylabel(f"{score} above base (points)")
        span = f"ρ {ends[-1]:g} to {ends[0]:g}".replace("-", "−")
        for ax, against, words in zip(axes[:, -1], ("", "base"), (f"points lost, {span}", "points lost beyond base's")):
            part = _pick(table[table["train_rho"] == rhos[-1]], sheet="rho", task="agesup", measure=f"fall_{measure}",
                         against=against)
            rows = RHO_ROWS[bool(against):]
            for i, row in enumerate(rows):
                for _, p in _pick(part, row=row).iterrows():
                    _whiskers(ax, [p.value], [i], [p.low], [p.high], marker=MARKS[row], color=COLOUR[row],
                              mfc="w" if row in BOTH else COLOUR[row])
            ax.axvline(0, color="k", lw=.8)
            ax.set(yticks=range(len(rows)), yticklabels=[ROW_NAMES[r] for r in rows], xlabel=words)
            ax.set_ylim(len(rows) - .4, -.6)
        axes[0, -1].set_title(f"trained at ρ = {rhos[-1]:g}")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        fig.legend(handles[2:] + handles[:2], labels[2:] + labels[:2], loc="outside upper center", ncols=4,
                   frameon=False)
        if folder: save_figure(fig, folder, "rho")
    return fig


def figure_labels(table: pd.DataFrame, folder: Path | None = None, scope: str = "LTV", measure: str = "f1"):
    "Agesup score on true labels against the share of wrong age groups in training"
    data = _pick(table, sheet="label_noise", task="agesup", measure=measure, against="", scope=scope)
    titles = {"adjacent": "labels slipped to an adjacent decade",
              "overlay": "overlaid speech labelled as the second voice"}
    kinds = [k for k in titles if _pick(data, under=k)["wrong_labels"].nunique() > 1]
    with mpl.rc_context(STYLE | {"font.size": 9, "axes.titlesize": 9}):
        fig, axes = plt.subplots(1, len(kinds), figsize=(3.6 * len(kinds) + .4, 3.2), sharey=True, layout="constrained",
                                 squeeze=False)
        for ax, kind in zip(axes[0], kinds):
            part = _pick(data, under=kind)
            ax.axhline(_pick(part, row="chance")["value"].mean(), color="k", ls=":", lw=1.2, label=ROW_NAMES["chance"])
            wide = part["wrong_labels"].max() - part["wrong_labels"].min()
            for i, row in enumerate(ROWS):
                p = _pick(part, row=row).sort_values("wrong_labels")
                x = p["wrong_labels"] + .012 * wide * (i - 1.5)
                ax.vlines(x, p["low"], p["high"], color=COLOUR[row], lw=1, alpha=.6)
                ax.plot(x, p["value"], MARKS[row] + "-", color=COLOUR[row], lw=1.5, ms=5, label=ROW_NAMES[row])
            ax.set(title=titles[kind], xlabel="wrong age groups in training (%)")
        axes[0, 0].set_ylabel(f"agesup {'macro F1' if measure == 'f1' else measure}, true labels (%)")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        fig.legend(handles[1:] + handles[:1], labels[1:] + labels[:1], loc="outside upper center", ncols=5,
                   frameon=False)
        if folder: save_figure(fig, folder, "label_noise")
    return fig


def figure_refuters(table: pd.DataFrame, folder: Path | None = None):
    "What should be nothing, beside what it refutes"
    data = _pick(table, sheet="refuters")
    panels = ((("ages, true names", "ages, shuffled names"), "move", "movement of the expected age group",
               "do(age), 25 to 65"),
              (("line, true names", "line, named by a coin"), "accuracy_gap", "agesup accuracy gained (points)",
              "do(studio), from telephone"),
              (("K: same class", "K: anybody"), "drop_f1", "agesup macro F1 lost (points)", "K of another utterance"))
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(1, 3, figsize=(9, 2.9), layout="constrained")
        for ax, (names, measure, label, title) in zip(axes, panels):
            part = _pick(data, measure=measure, task="agesup")
            rows = [r for r in ("oracle", *ROWS) if (part["row"] == r).any()]
            ax.axvline(0, color="k", ls="--", lw=1, zorder=1)
            for i, row in enumerate(rows):
                for name, step, fill in zip(names, (-.16, .16), (None, "w")):
                    for _, p in _pick(part, row=row, under=name).iterrows():
                        colour = COLOUR.get(row, "k")
                        _whiskers(ax, [p.value], [i + step], [p.low], [p.high], marker=MARKS.get(row, "*"),
                                  color=colour, mfc=fill or colour)
            ax.set(yticks=range(len(rows)), yticklabels=["oracle" if r == "oracle" else ROW_NAMES[r] for r in rows],
                   xlabel=label, title=title)
            ax.set_ylim(len(rows) - .4, -.6)
            keys = [plt.Line2D([], [], color="0.3", marker="o", ls="none", mfc=f) for f in ("0.3", "w")]
            ax.legend(keys, [n.split(", ")[-1].removeprefix("K: ") for n in names], loc="upper center",
                      bbox_to_anchor=(.5, -.24), ncols=2, frameon=False,
                      fontsize=7, handletextpad=.2)
        if folder: save_figure(fig, folder, "refuters")
    return fig


# ---- words, from the numbers alone

def _cell(p, digits=2) -> str: return f"{p.value:.{digits}f} [{p.low:.{digits}f}, {p.high:.{digits}f}]"


def _list(names) -> str:
    names = list(names)
    return "none" if not names else names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _does(names, several: str, one: str) -> str:
    "A sentence about some rows: 'base and +CH move', 'base moves', 'no row moves'"
    names = list(names)
    return f"{_list(names)} {several}" if len(names) > 1 else f"{names[0] if names else 'no row'} {one}"


def _sentence(*parts: str) -> str:
    "Parts joined by semicolons, with a capital and a full stop"
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _clear(part: pd.DataFrame, side: int = 0) -> list[str]:
    "Methods whose interval leaves out 0, on one side (+1, -1) or on either"
    keep = (part["low"] > 0) & (side >= 0) | (part["high"] < 0) & (side <= 0)
    return list(part.loc[keep, "method"])


def _each(part: pd.DataFrame, digits=2) -> str:
    return "; ".join(f"{p.method} {_cell(p, digits)}" for p in part.itertuples())


def _seeds(table: pd.DataFrame) -> str:
    "What the intervals cannot hold, by the number of seeds"
    n = table["n_seeds"].max()
    return ("With one seed the intervals speak of other speakers, not of other trainings. " if n == 1
            else f"The intervals hold {n} seeds" + (", too few to decide. " if n < MIN_SEEDS else ". "))


def say_effects(table: pd.DataFrame) -> str:
    "What do() shows"
    t, out = _pick(table, sheet="effects", row=ROWS), []
    for under, words in (("channel", "The same telephone call, over a studio line"),
                         ("overlay", "A second voice laid over a call")):
        part = _pick(t, under=under, task="agesup", measure="tv", against="")
        base = _pick(t, under=under, task="agesup", measure="tv", against="base")
        said = _pick(t, under=under, task="agesup", measure="changed", against="base")
        push, z = (_pick(t, under=under, task="agesup", measure="move", against=""),
                   _pick(t, under=under, measure="z", against=""))
        moved = _sentence(_does(_clear(base, -1), "move less than base", "moves less than base"),
                          _does(_clear(base, 1), "move more", "moves more"))
        counted = _sentence(_does(_clear(said, -1), "change fewer answers than base",
                                  "changes fewer answers than base"),
                            _does(_clear(said, 1), "change more", "changes more"))
        leaning = _sentence(_does(_clear(push, 1), "lean towards older", "leans towards older"),
                            _does(_clear(push, -1), "lean towards younger", "leans towards younger"))
        further = ": the recording line moves it further than another person would." if z["value"].min() > 1 else "."
        out.append(f"**{words}.** The age answer should not move. By total variation it moves: {_each(part)}. "
                   f"{moved} {counted} {leaning} "
                   f"Z moves by {_each(z)} of the distance to another person{further}"
                   + " In training the only studio speech is the elderly's, "
                     "so a studio line is a reason to answer *older*." * (under == "channel"))
    part = _pick(t, under="age 25 to 65", task="agesup", measure="move", against="")
    gap = _pick(t, under="age 25 to 65", task="agesup", measure="move", against="should")
    out.append("**The same speaker at 25 and at 65.** The expected age group should move by "
               f"{part['should'].iloc[0]:.2f} groups, as the oracle's does. "
               f"It moves by {_each(part)}. "
               + _sentence(_does(_clear(gap, -1), "move less than the oracle's", "moves less than the oracle's"),
                      _does(_clear(gap, 1), "move more", "moves more")))
    flips = _pick(t, under="gender", task="gender", measure="changed", against="")
    age = _pick(t, under="gender", task="agesup", measure="tv", against="")
    out.append(f"**The other gender.** The gender answer should change in {flips['should'].iloc[0]:.0%} of the pairs; "
               "it changes in "
               + "; ".join(f"{p.method} {p.value:.0%} [{p.low:.0%}, {p.high:.0%}]" for p in flips.itertuples())
               + f". The age answer should move by {age['should'].iloc[0]:.2f}; it moves by {_each(age)}.")
    out.append("*Less* and *more*: the paired difference's 95 % interval leaves out 0; some two dozen such comparisons "
               "stand here, uncorrected.")
    out.append("*What this does not show*: a listener who always gives the same answer moves under no intervention, "
               "so do(channel) must be read beside do(age). "
               "The oracle hears the voice's latents themselves; a recording tells less, so no listener to recordings "
               "can be asked to move as far. Networks differ "
               "in how confident they are; the shares of changed answers (in the table) do not depend on that. "
               "Rows with MKD are scored with re-estimated BatchNorm "
               "statistics and base is not; a part of what sets them apart may be that. " + _seeds(t)
               + "All effects are those of this generator's voices and lines.")
    return "\n\n".join(out)


def say_rho(table: pd.DataFrame) -> str:
    "Does causal buy robustness?"
    t, out = _pick(table, sheet="rho", task="agesup"), []
    ends = t["test_rho"].dropna()
    for rho in sorted(t["train_rho"].dropna().unique()):
        here = t[t["train_rho"] == rho]
        fall, gain = _pick(here, measure="fall_f1", against=""), _pick(here, measure="fall_f1", against="base")
        out.append(f"**Trained at ρ = {rho:g}.** From ρ = {ends.max():g} to ρ = {ends.min():g} in the test the agesup "
                   f"macro F1 falls by {_each(fall, 1)} points. "
                   + _sentence(_does(_clear(gain, -1), "lose less than base", "loses less than base"),
                               _does(_clear(gain, 1), "lose more", "loses more"),
                               _does((m for m in gain["method"] if m not in _clear(gain)),
                                     "cannot be told apart from base", "cannot be told apart from base")))
    out.append("*Less* and *more*: the paired difference's 95 % interval leaves out 0, uncorrected.")
    out.append("*What this does not show*: robustness against another kind of shift than this line. "
               "A flat curve is worth something only at a good height: compare the "
               "scores at the training ρ as well. The oracle hears the voice alone; where ρ in test and training "
               "agree, a listener may rightly use the line and lose "
               "nothing by it. " + _seeds(t))
    return "\n\n".join(out)


def say_labels(table: pd.DataFrame, scope: str = "LTV") -> str:
    "What wrong labels cost"
    t, out = _pick(table, sheet="label_noise", task="agesup", scope=scope), []
    for kind, words in (("adjacent", "Labels slipped to an adjacent decade"),
                        ("overlay", "Overlaid speech labelled as the second voice")):
        part = _pick(t, under=kind, row=ROWS, measure="f1")
        if part["wrong_labels"].nunique() < 2: continue
        few, many = part["wrong_labels"].min(), part["wrong_labels"].max()
        at = lambda w, part=part: _each(_pick(part, against="", wrong_labels=w), 1)
        better = {w: _clear(_pick(part, against="base", wrong_labels=w), 1) for w in (few, many)}
        worse = {w: _clear(_pick(part, against="base", wrong_labels=w), -1) for w in (few, many)}
        lost, beyond = (_pick(t, under=kind, row=ROWS, measure="fall_f1", against=a) for a in ("", "base"))
        out.append(f"**{words}.** With {few:.1f} % of wrong age groups in training: {at(few)}. With {many:.1f} %: "
                   f"{at(many)}. Lost on the way: {_each(lost, 1)} points. "
                   + _sentence(_does(_clear(beyond, -1), "lose less than base", "loses less than base"),
                               _does(_clear(beyond, 1), "lose more", "loses more")) + " "
                   + " ".join(_sentence(f"where {which} labels are wrong, "
                                        f"{_does(better[w], 'score above base', 'scores above base')}",
                                        _does(worse[w], "score below it", "scores below it"))
                              for which, w in (("few", few), ("many", many))))
    out.append("*Less*, *above* and so on: the paired difference's 95 % interval leaves out 0, uncorrected.")
    out.append("*What this does not show*: how people mislabel. Slips to the neighbouring decade and labels of a "
               "second voice are the two kinds this generator has; "
               "both are independent of how a person sounds, which real doubt about an age is not. " + _seeds(t))
    return "\n\n".join(out)


def say_refuters(table: pd.DataFrame) -> str:
    "Did the checks come out as they must?"
    t = _pick(table, sheet="refuters")
    placebo = _pick(t, under="placebo: the channel it has")["value"].max()
    inside = lambda p: _list(p.loc[(p["low"] > 0) | (p["high"] < 0), "method"])
    null, true = _pick(t, under="ages, shuffled names"), _pick(t, under="ages, true names")
    coin, line = _pick(t, under="line, named by a coin"), _pick(t, under="line, true names")
    lost = _pick(t, measure="drop_f1", task="agesup")
    own, dealt = (_pick(t, measure="cka", under=PAIRED[i]).set_index("method") for i in (0, 2))
    alike = "; ".join(f"{m} {own.loc[m, 'value']:.2f}, {_cell(dealt.loc[m])}" for m in own.index)
    return "\n\n".join((
        "**Placebo.** The channel set to what it is, rendered anew: the largest movement of any answer or Z, "
        f"over all rows and utterances, is {placebo:g}; "
        "it must be 0.",
        f"**Shuffled ages.** Effect with true names: {_each(true)}. With shuffled names its 95 "
        "% range must contain 0, and "
        + ("it does for every row." if inside(null) == "none" else f"for {inside(null)} it does not."),
        f"**A coin for a channel.** agesup accuracy gained over a studio line: {_each(line, 1)} points. "
        "Where a coin says for each utterance which of its two "
        f"recordings is called studio, the gain stays within ±{coin[['low', 'high']].abs().max().max():.1f} points "
        "in 95 % of the draws, and "
        + ("that range holds 0 for every row." if inside(coin) == "none"
           else f"that range leaves out 0 for {inside(coin)}."),
        "**K of another utterance.** agesup macro F1 lost: "
        + "; ".join(f"{p.method}, {p.under[3:]}: {_cell(p, 1)}" for p in lost.itertuples())
        + " points. What is lost is what the heads had from the utterance's own K and cannot get from the other. "
          "With anybody's K that includes what it knows of "
        "the class. K of the same class is chosen by the true label, so it brings knowledge that no test has: "
        "a negative loss is no gain to be had.",
        "**Are X and K independent?** Linear CKA of own pairs, then of pairs dealt anew within gender and decade "
        f"(95 % of the deals): {alike}."))


def shown_effects(table: pd.DataFrame, measures: tuple = ("tv", "move", "changed")) -> pd.DataFrame:
    "The effects as a reader wants them: a line for each intervention and measure, a column for each listener"
    t = _pick(table, sheet="effects", against="")
    t = t[t["measure"].isin(measures) | t["measure"].str.startswith("z")]
    order = {(u, k, m): i
             for i, (u, k, m) in enumerate((u, k, m) for u in INTERVENTIONS for k in ("agesup", "gender", "")
                                           for m in (*measures, "z", "z_student", "z_teacher"))}
    cells = {}
    for p in t.itertuples(): cells.setdefault((p.under, p.task, p.measure), {})[p.row] = _cell(p)
    lines = [dict(intervention=u, answer=k or "Z", measure=m, should="0" if u in IDLE else c.get("oracle", "not known"),
                  **{ROW_NAMES[r]: c.get(r, "") for r in ROWS})
             for (u, k, m), c in sorted(cells.items(), key=lambda kv: order[kv[0]])
             if (u, k, m) != ("gender", "gender", "move")]  # half go one way, half the other: about 0
    return pd.DataFrame(lines)


Figure = Callable[[pd.DataFrame, Path], object]
FIGURES: dict[str, Figure] = {"effects": figure_effects, "rho": figure_rho, "label_noise": figure_labels,
                              "refuters": figure_refuters}
