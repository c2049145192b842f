"""Remedies against a tie of age and line: trained at several ρ, tested from one end to the other by replay; what each
must know, taken away; and the paper's own shortcut, elderly speech from a studio

What a remedy is, is page 16. `python -m mkdcls.results.remedies_sheet choose` fixes the strengths (protocol 2, section
6); `make table SHEET=remedies` runs the rest. Everything that the page shows is made from remedies-runs.csv.
"""
from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from mkdcls.counterfactuals import movement, network_hears, render_intervened
from mkdcls.decisive import FIRST_SEED
from mkdcls.engine.store import PROJECT, digest, home, plain, whole, writable, write_text
from mkdcls.evaluation import confusion, prf
from mkdcls.labels import TASKS
from mkdcls.remedies import REMEDIES, known_of
from mkdcls.results.disturbed import (CONDITIONS, OFF, TIED_ROLE, DisturbedRunner, disturbed_row, features_met,
                                      in_room)
from mkdcls.results.figures import COLOURS, STYLE, save_figure
from mkdcls.results.intervention_sheet import hear, rendered
from mkdcls.results.runner import Runner
from mkdcls.runs import Knobs, like, preset_of
from mkdcls.scm import posterior, truth
from mkdcls.seeds import family, paired_gains, verdict
from mkdcls.standin import STANDINS, choose_channel, draw_manifest

REMEDY_RUNS, REMEDIES_TABLE, CHOSEN_IN = "remedies-runs.csv", "remedies.csv", Path("paper", "selection", "remedies.csv")
CHOOSING = tuple(range(90, 95))  # seeds that choose (protocol 2)
STUDENTS = {"3": "base", "6": "+MKD+CH"}
NAMED = ("balance", "replay", "match", "dro", "reverse")  # remedies 1, 3, 4, 5, 7: all seeds; the others one
SCREENED = tuple(n for n in REMEDIES if n not in NAMED)
DECLARED_REMEDIES = ("replay", "match")  # the declared family
REMEDY_SEEDS = 5
STRANGERS = 10_000  # added to the seed of test people
COST_MARGIN = 2.  # points at ρ = 0 (protocol 2, section 6)
REMEDY_MEASURES = ("lost", "at_0", "turned", "at_home", "untied", "right_lost", "moved", "tv", "train_s", "step_ms")
TOLD_ALONE = ("right_lost", "moved", "tv", "train_s", "step_ms")  # measures whose difference is not put to a test
ASKED, BOTH_LINES = ("agesup", "gender"), ("studio", "telephone")
REFERENCE = "reference"  # an undisturbed run on a seed that the main grid does not give this remedy
SHORTCUT = ("line", "codec")  # remedies tried on Table 1's own corpus, where studio sound means elderly


@dataclass(frozen=True)
class Extent:
    "How much is measured, declared before anything is run"
    speakers: int  # fresh test speakers a seed, none of them in the split (protocol 2, section 1)
    rhos: tuple = (0., .4, .8)  # trained at
    tested: tuple = (-.8, -.6, -.4, -.2, 0., .2, .4, .6, .8)  # tested at; costs nothing
    disturbed: int = 3  # seeds of the conditions, the first ones


EXTENTS = {"smoke": Extent(24, (0., .8), (-.8, 0., .8)), "laptop": Extent(4000), "gpu": Extent(4000)}


def strengths(file: Path | None = None) -> dict[str, float]:
    "The chosen strength of each remedy; its default where the choice has not been made"
    file = PROJECT / CHOSEN_IN if file is None else Path(file)
    kept = pd.read_csv(file) if file.exists() else None
    return {n: m.strength if kept is None or not (kept["remedy"] == n).any() else remedy_best(kept, n)
            for n, m in REMEDIES.items()}


def strengths_shown(file: Path | None = None) -> pd.DataFrame:
    "A line for each remedy: its strength, and whether it was chosen by a score, is a default, or leaves no choice"
    file = PROJECT / CHOSEN_IN if file is None else Path(file)
    scored = set(pd.read_csv(file)["remedy"]) if file.exists() else set()
    how = lambda n: ("chosen" if n in scored else "nothing to choose" if len(REMEDIES[n].tried) < 2 else
                     "default, not chosen yet")
    return pd.DataFrame({n: dict(strength=s, how=how(n)) for n, s in strengths(file).items()}).T.rename_axis("remedy")


def remedy_best(scores: pd.DataFrame, remedy: str) -> float:
    "The strength with the best mean score; of equal ones the weakest"
    means = scores[scores["remedy"] == remedy].groupby("strength")["score"].mean()
    return float(means.idxmax())


def remedy_rows(preset, corpus: str = "standin", chosen: dict | None = None, tried: bool = False) -> dict:
    """Row → recipe: the teacher, both students without a remedy, and with each; all re-estimated (protocol 2)

    With `tried`, base with every strength that the choice is made from.
    """
    table, chosen = preset.rows(corpus), strengths() if chosen is None else chosen
    rows = {"1": table["1"]}
    for b in STUDENTS:
        plainly = like(table[b], f"{b}{OFF}", reestimate=True)
        rows |= {plainly.row: plainly}
        if tried and b != "3": continue
        for n, m in REMEDIES.items():
            for s in m.tried if tried else (chosen[n],):
                name = f"{b}{n}{s:g}" if tried else f"{b}{n}"
                rows[name] = like(plainly, name, remedy=((n, s),))
    return rows


class RemedyRunners:
    "The runners of all settings of one preset, and which rows each has to do"

    def __init__(self, preset="smoke", device="auto", say=lambda text: None, progress=lambda what, done, of: None,
                 extent: Extent | None = None, tried: bool = False):
        if extent is None and preset not in EXTENTS:
            raise ValueError(f"no remedies sheet of preset {preset!r}; choose one of {', '.join(EXTENTS)}")
        self.preset, self.extent, self.progress = preset_of(preset), extent or EXTENTS[preset], progress
        self.rows = remedy_rows(self.preset, tried=tried)
        self._make = partial(Runner, preset, device=device, rows=self.rows, say=say, progress=progress)
        self._make_disturbed = partial(DisturbedRunner, preset, device=device, say=say, progress=progress)
        self._runners = {}

    def runner(self, knobs: Knobs = Knobs()) -> Runner:  # noqa: B008 (frozen)
        "The runner of a setting of the knobs, made once"
        if knobs not in self._runners: self._runners[knobs] = self._make(knobs=knobs)
        return self._runners[knobs]

    @property
    def tied(self) -> Knobs:
        "The world in which conditions are tried"
        return Knobs(rho=max(self.extent.rhos))

    def disturbed(self, condition: str) -> DisturbedRunner:
        "The runner of a condition, made once: its rows are base's"
        if condition not in self._runners:
            rows = {(n := disturbed_row(m, condition)): like(self.rows[f"3{m}"], n)
                    for m in CONDITIONS[condition].trains}
            self._runners[condition] = self._make_disturbed(condition=condition, knobs=self.tied, rows=rows or None)
        return self._runners[condition]

    def refused(self, knobs: Knobs, row: str, seed: int) -> str:
        "Why a row cannot be trained on a corpus; empty where it can. In preset smoke some pairs have nobody"
        r = self.rows[row]
        try:
            if r.remedy: known_of(r, self.runner(knobs).manifest(r.role, seed)[0])
        except ValueError as why: return str(why)
        return ""

    def wanted(self, seeds: int) -> list[tuple[Knobs, str, int]]:
        "Every (corpus, row, seed): named rows with all seeds, screened ones with the first"
        out = []
        for rho in self.extent.rhos:
            for i in range(seeds):
                names = (OFF, *NAMED, *(SCREENED if i == 0 else ()))
                out += [(Knobs(rho=rho), b + n, FIRST_SEED + i) for b in STUDENTS for n in names]
        return out + [(Knobs(), b + n, FIRST_SEED + i) for i in range(seeds) for b in STUDENTS
                      for n in (OFF, *SHORTCUT)]

    def seeds_disturbed(self, seeds: int) -> range:
        "Seeds of the conditions"
        return range(FIRST_SEED, FIRST_SEED + min(seeds, self.extent.disturbed))

    def references(self, seeds: int) -> list[tuple[str, int]]:
        "Undisturbed (row, seed) that the conditions compare with, where the main grid does not have them"
        asked = {n for c in CONDITIONS.values() for n in (*c.trains, *c.same, *c.listens)}
        return [(f"3{n}", s) for n in REMEDIES if n in asked and n in SCREENED
                for s in self.seeds_disturbed(seeds)[1:]]

    def wanted_disturbed(self, seeds: int) -> dict[str, list[tuple[str, int]]]:
        "Condition → (row, seed), those that can be trained"
        out = {}
        for name, c in CONDITIONS.items():
            jobs = [(disturbed_row(n, name), s) for s in self.seeds_disturbed(seeds) for n in c.trains]
            if jobs: out[name] = [j for j in jobs if not self.refused_disturbed(name, *j)]
        return out

    def refused_disturbed(self, condition: str, row: str, seed: int) -> str:
        "Why a row cannot be trained under a condition; empty where it can"
        try: self.disturbed(condition).key(row, seed)
        except ValueError as why: return str(why)
        return ""

    def plan(self, seeds: int) -> list[tuple[Runner, list[tuple[str, int]]]]:
        "Runners and what each has to do"
        jobs = {}
        for knobs, row, seed in [*self.wanted(seeds), *((self.tied, *j) for j in self.references(seeds))]:
            if not self.refused(knobs, row, seed): jobs.setdefault(knobs, []).append((row, seed))
        return [*((self.runner(k), j) for k, j in jobs.items()),
                *((self.disturbed(c), j) for c, j in self.wanted_disturbed(seeds).items())]

    def todo(self, seeds: int) -> pd.DataFrame:
        "A line for each corpus: its runs, how many are there, which rows cannot be trained on it"
        lines = []
        for knobs in dict.fromkeys(k for k, _, _ in self.wanted(seeds)):
            jobs = [(r, s) for k, r, s in self.wanted(seeds) if k == knobs]
            not_here = sorted({r for r, s in jobs if self.refused(knobs, r, s)})
            jobs = [j for j in jobs if not self.refused(knobs, *j)]
            lines.append(dict(corpus="as in Table 1" if knobs.rho is None else f"ρ = {knobs.rho:g}", runs=len(jobs),
                              done=sum(self.runner(knobs).record(*j) is not None for j in jobs),
                              refused=", ".join(not_here)))
        for name, jobs in self.wanted_disturbed(seeds).items():
            runner, many = self.disturbed(name), len(CONDITIONS[name].trains) * len(self.seeds_disturbed(seeds))
            not_here = sorted({r for s in self.seeds_disturbed(seeds) for r in runner.rows} - {r for r, _ in jobs}) \
                if len(jobs) < many else []
            lines.append(dict(corpus=f"ρ = {self.tied.rho:g}, {name}", runs=len(jobs),
                              done=sum(runner.record(*j) is not None for j in jobs), refused=", ".join(not_here)))
        if more := [j for j in self.references(seeds) if not self.refused(self.tied, *j)]:
            lines.append(dict(corpus=f"ρ = {self.tied.rho:g}, {REFERENCE}", runs=len(more), refused="",
                              done=sum(self.runner(self.tied).record(*j) is not None for j in more)))
        return pd.DataFrame(lines).set_index("corpus")

    def run(self, seeds: int):
        "Everything that is missing"
        for runner, jobs in self.plan(seeds): runner.run_all(jobs)


# ---- listening

def strangers(seed: int, n: int) -> pd.DataFrame:
    "Test people of a seed that no split holds, on paper"
    return draw_manifest(STANDINS["LTV"], n, seed=seed + STRANGERS)


def robust_f1(y: np.ndarray, guess: np.ndarray, task: str) -> float:
    "Macro F1, percent"
    return float(prf(confusion(y, guess, TASKS[task]))[2])


def heard_over_lines(runner: Runner, row: str, seed: int, m: pd.DataFrame, worlds: tuple, kept: dict,
                     progress=None) -> dict:
    "World → answers [n] for each task, and how far age answers move between the first and the last; kept on disk"
    key = runner.key(row, seed)[1]
    rows = digest(dict(run=key, who=[str(u) for u in m["utterance"]], worlds=worlds, tasks=ASKED))
    file = writable(home() / "remedies") / f"{rows}.npz"
    if not file.exists():
        f, at = rendered(m, {w: dict(channel=w) for w in worlds}, runner.device, progress)
        got = hear(runner.trained(row, seed), f, at, kept)
        found = {f"{w}_{t}": got[w].p[t].argmax(1).astype(np.int8) for w in worlds for t in ASKED}
        found["tv"] = movement(got[worlds[-1]], got[worlds[0]])["tv_agesup"].astype(np.float32)
        with whole(file) as part, open(part, "wb") as out: np.savez(out, **found)
    with np.load(file, allow_pickle=False) as z: return dict(z)


def right_share(y: np.ndarray, guess: np.ndarray) -> float:
    "Right answers, percent"
    return 100 * float((np.asarray(y) == np.asarray(guess)).mean())


def scores_by_rho(runner: Runner, row: str, seed: int, m: pd.DataFrame, tested: tuple, kept: dict,
                  progress=None) -> dict:
    """Macro F1 on true labels at each ρ of the test; for the age group the right answers there, too (`agesup_right@ρ`,
    percent), how many answers move with the line (`moved`, percent), and the mean total variation between the two lines

    Every person is rendered over both lines; ρ only says which of the two is heard. A row with the remedy `line` hears
    everybody over the telephone.
    """
    deaf = "line" in dict(runner.rows[row].remedy)
    got = heard_over_lines(runner, row, seed, m, BOTH_LINES[1:] if deaf else BOTH_LINES, kept, progress)
    out = {"tv": float(got["tv"].mean())}
    for t in ASKED:
        a, b = (got[f"{w}_{t}"] for w in (("telephone",) * 2 if deaf else BOTH_LINES))
        if t == "agesup": out["moved"] = 100 * float((a != b).mean())
        for rho in tested:
            studio = choose_channel("by_age", rho, m["age"], m["e_channel"]) == "studio"
            out[f"{t}@{rho:g}"] = robust_f1(truth(m, t), np.where(studio, a, b), t)
            if t == "agesup": out[f"{t}_right@{rho:g}"] = right_share(truth(m, t), np.where(studio, a, b))
    return out


def steps_of(rec) -> int:
    "Optimiser steps of a finished run: each training utterance once an epoch; a last batch of one joins its neighbour"
    s, n = rec["identity"]["recipe"]["settings"], rec["utterances"]["train"]
    return s["epochs"] * (-(-n // s["batch"]) - (n % s["batch"] == 1 < n))


def provenance_of(rec) -> dict:
    "What a run was made with, as a line of the records tells it"
    where = rec["provenance"]
    return dict(train_s=round(rec["train_s"], 1), total_s=round(rec["total_s"], 1), steps=steps_of(rec), key=rec["key"],
                data=rec["identity"]["data"], code=json.dumps(rec["identity"]["code"]),
                recipe=json.dumps(plain(rec["identity"]["recipe"])), corpus="standin", preset=rec["preset"],
                protocol="2", commit=where["commit"], device=where["device"], finished=where["finished"])


def remedy_records(sheet: RemedyRunners, seeds: int) -> pd.DataFrame:
    """A line for each finished run of the plan: what it is, what it was made with, its scores; the oracle's beside it,
    and then what came out under each condition"""
    lines, plan = [], sheet.wanted(seeds)
    for seed in dict.fromkeys(s for _, _, s in plan):
        m, kept = strangers(seed, sheet.extent.speakers), {}
        jobs = [(k, r) for k, r, s in plan if s == seed and not sheet.refused(k, r, s)]
        for i, (knobs, row) in enumerate(jobs):
            runner = sheet.runner(knobs)
            if (rec := runner.record(row, seed)) is None: continue
            head = dict(row=row, seed=seed, student=STUDENTS[row[0]], remedy=row[1:],
                        strength=dict(sheet.rows[row].remedy).get(row[1:]), train_rho=knobs.rho)
            if knobs.rho is None: head |= shortcut_scores(runner, row, seed)
            else:
                head |= scores_by_rho(runner, row, seed, m, sheet.extent.tested, kept,
                                      partial(sheet.progress, f"seed {seed}: speech over both lines"))
            sheet.progress(f"seed {seed}: rows listen", i + 1, len(jobs))
            lines.append(head | provenance_of(rec))
        oracle = {t: posterior(m, t).argmax(1) for t in ASKED}
        lines.append(dict(row="oracle", seed=seed, student="oracle", remedy="", corpus="standin",
                          preset=sheet.preset.name, protocol="2",
                          **{f"{t}@{r:g}": robust_f1(truth(m, t), oracle[t], t) for t in ASKED
                             for r in sheet.extent.tested}))
        if seed in sheet.seeds_disturbed(seeds): lines += condition_records(sheet, seeds, seed, m, kept)
    lines += refusals(sheet)
    return pd.DataFrame(lines).assign(condition=lambda t: t.get("condition", pd.Series("", t.index)).fillna(""))


# ---- what must be known

def answers_met(runner: Runner, row: str, seed: int, worlds: dict[str, pd.DataFrame], progress=None) -> dict:
    "World → age answers [n] on speech as `disturbed.waves_met` renders it; kept on disk, as those over the lines are"
    who = [str(u) for u in next(iter(worlds.values()))["utterance"]]
    file = writable(home() / "remedies") / (digest(dict(run=runner.key(row, seed)[1], who=who, met=list(worlds),
                                                        tasks=ASKED)) + ".npz")
    if not file.exists():
        f = features_met(pd.concat(worlds.values(), ignore_index=True), progress)
        at = {w: torch.arange(i * len(who), (i + 1) * len(who)) for i, w in enumerate(worlds)}
        got = hear(runner.trained(row, seed), f, at, {})
        with whole(file) as part, open(part, "wb") as out:
            np.savez(out, **{f"{w}_{t}": got[w].p[t].argmax(1).astype(np.int8) for w in worlds for t in ASKED})
    with np.load(file, allow_pickle=False) as z: return dict(z)


def scores_met(m: pd.DataFrame, tested: tuple, answer) -> dict:
    "Macro F1 at each ρ of the test; `answer(task, ρ)` gives what was said there"
    return {f"{t}@{rho:g}": robust_f1(truth(m, t), answer(t, rho), t) for t in ASKED for rho in tested}


def scores_in_rooms(runner: Runner, row: str, seed: int, m: pd.DataFrame, tested: tuple, progress=None) -> dict:
    """Both ties at the same ρ, and beside them the line's alone turned (`agesup_line@ρ`, the room tied as in training)

    Every person is rendered over both lines, in a room and in none.
    """
    over = {w: render_intervened(m, channel=w) for w in BOTH_LINES}
    worlds = {f"{w}{r}": over[w].assign(room=bool(r), met=False) for w in BOTH_LINES for r in (0, 1)}
    got = answers_met(runner, row, seed, worlds, progress)
    room = lambda rho: in_room(m, rho, seed + STRANGERS)
    def answer(t, rho, in_a_room):
        studio = choose_channel("by_age", rho, m["age"], m["e_channel"]) == "studio"
        return np.select([studio & in_a_room, studio, in_a_room], [got[f"studio1_{t}"], got[f"studio0_{t}"],
                                                                   got[f"telephone1_{t}"]], got[f"telephone0_{t}"])
    tied = room(runner.knobs.rho)
    alone = {f"agesup_line@{rho:g}": robust_f1(truth(m, "agesup"), answer("agesup", rho, tied), "agesup")
             for rho in tested}
    return scores_met(m, tested, lambda t, rho: answer(t, rho, room(rho))) | alone


def scores_over_met(runner: Runner, row: str, seed: int, m: pd.DataFrame, tested: tuple, kept: dict,
                    progress=None) -> dict:
    "As the main grid, but the telephone has a codec that was never simulated"
    usual = heard_over_lines(runner, row, seed, m, BOTH_LINES, kept, progress)
    world = render_intervened(m, channel="telephone").assign(room=False, met=True)
    met = answers_met(runner, row, seed, {"met": world}, progress)
    return scores_met(m, tested, lambda t, rho: np.where(
        choose_channel("by_age", rho, m["age"], m["e_channel"]) == "studio", usual[f"studio_{t}"], met[f"met_{t}"]))


def condition_records(sheet: RemedyRunners, seeds: int, seed: int, m: pd.DataFrame, kept: dict) -> list[dict]:
    "One seed: a line for each run under a condition, and for each undisturbed run that only serves for comparison"
    lines, tested, usual = [], sheet.extent.tested, sheet.runner(sheet.tied)
    told = partial(sheet.progress, f"seed {seed}: speech under conditions")
    def line(runner, row, remedy, condition, scores):
        if (rec := runner.record(row, seed)) is None: return
        lines.append(dict(row=row, seed=seed, student=STUDENTS["3"], remedy=remedy, train_rho=sheet.tied.rho,
                          condition=condition, strength=dict(runner.rows[row].remedy).get(remedy))
                     | scores(runner, row, seed, m, tested) | provenance_of(rec))
    over_lines = lambda *a: scores_by_rho(*a, kept, told)
    for row, s in sheet.references(seeds):
        if s == seed and not sheet.refused(sheet.tied, row, s): line(usual, row, row[1:], REFERENCE, over_lines)
    for name, jobs in sheet.wanted_disturbed(seeds).items():
        scores = partial(scores_in_rooms, progress=told) if name == "tied_room" else over_lines
        for row, s in jobs:
            if s == seed: line(sheet.disturbed(name), row, row[1:].removesuffix(f"-{name}"), name, scores)
    for name, c in CONDITIONS.items():
        for n in c.listens:
            if not sheet.refused(sheet.tied, f"3{n}", seed):
                line(usual, f"3{n}", n, name, lambda *a: scores_over_met(*a, kept, told))
    return lines


def refusals(sheet: RemedyRunners) -> list[dict]:
    "A line for each remedy that a condition refuses, with what it says; nothing is trained"
    m, out = sheet.runner(sheet.tied).manifest(TIED_ROLE, FIRST_SEED)[0].drop(columns="channel"), []
    for name in (n for n, c in CONDITIONS.items() if c.refuses):
        for n in REMEDIES:
            r = sheet.rows[f"3{n}"]
            try: known_of(r, m)
            except ValueError as why:
                out.append(dict(row=f"3{n}", seed=FIRST_SEED, student=STUDENTS["3"], remedy=n, condition=name,
                                refused=str(why).partition("; ")[0], corpus="standin", preset=sheet.preset.name,
                                protocol="2"))
    return out


# ---- the paper's own shortcut

def studio_told(z: np.ndarray, studio: np.ndarray) -> float:
    "How well a linear probe tells the studio from the telephone, AUC in percent, mean of five folds; 50 is nothing"
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=.1, max_iter=500))
    return 100 * cross_val_score(probe, z, studio, cv=5, scoring="roc_auc").mean()


def shortcut_scores(runner: Runner, row: str, seed: int) -> dict:
    """On Table 1's corpus: agesup on LTV alone, the shares of speakers over 60 and under 60 on the telephone that are
    called elderly, and how well the studio is still told inside X and, with a teacher, inside Z = [X ; K] (a linear
    probe among people over 60, each heard as the row was tested: a row with `line` over the telephone)"""
    p = runner.store.predictions(row, seed, runner.key(row, seed)[1])
    phone = p[p["corpus"] == "LTV"]
    old = phone["true_agesup"] == TASKS["agesup"] - 1
    elderly = lambda who: 100 * float((who["agesup"] == TASKS["agesup"] - 1).mean()) if len(who) else np.nan
    role, s, *twin = runner.heard(row, seed)
    m = (c := runner.data(role, s)).manifest
    heard = runner.twins(role, s, *twin).features if twin == ["telephone"] else c.features  # as the row was tested
    at = np.flatnonzero(((m["split"] == "test") & (truth(m, "agesup") == TASKS["agesup"] - 1)).to_numpy())
    studio = (m["channel"].iloc[at] == "studio").to_numpy()
    in_x = in_z = np.nan
    if min(studio.sum(), (~studio).sum()) >= 5:
        said = network_hears(runner.trained(row, seed), heard, torch.from_numpy(at), ("agesup",))
        in_x = studio_told(said.x, studio)
        if said.k is not None: in_z = studio_told(said.z, studio)
    return dict(ltv_agesup=robust_f1(phone["true_agesup"].to_numpy(int), phone["agesup"].to_numpy(int), "agesup"),
                pooled_agesup=robust_f1(p["true_agesup"].to_numpy(int), p["agesup"].to_numpy(int), "agesup"),
                over_60_on_telephone=elderly(phone[old]), under_60_on_telephone=elderly(phone[~old]),
                studio_auc_in_x=in_x, studio_auc_in_z=in_z)


# ---- records → tables

def remedies_to_run(runs: pd.DataFrame, extent: Extent = EXTENTS["laptop"], seeds: int = REMEDY_SEEDS) -> str:
    "How much of the plan these records are, in a sentence; empty once all of it has been run"
    r, grid = runs[runs["student"].isin(STUDENTS.values())], len(STUDENTS) * len(extent.rhos)
    if "refused" in r: r = r[r["refused"].isna()]
    of, tied = conditions_of(r), r["train_rho"].notna()
    named = r["remedy"].isin((OFF, *NAMED))
    heard_only = [n for n, c in CONDITIONS.items() if not c.trains]
    parts = {"runs with named remedies and with none": (((of == "") & tied & named).sum(),
                                                        grid * seeds * (1 + len(NAMED))),
             "with screened remedies": (((of == "") & tied & ~named).sum(), grid * len(SCREENED)),
             "under conditions that train anew": ((~of.isin(("", REFERENCE, *heard_only))).sum(),
                                                  extent.disturbed * sum(len(c.trains) for c in CONDITIONS.values())),
             "on Table 1's own corpus": (((of == "") & ~tied).sum(), len(STUDENTS) * seeds * (1 + len(SHORTCUT)))}
    if all(n >= want for n, want in parts.values()): return ""
    told = [f"{n} of {want} {what}" for what, (n, want) in parts.items()]
    return f"So far trained: {', '.join(told[:-1])} and {told[-1]}."


def plan_minutes(runs: pd.DataFrame, extent: Extent = EXTENTS["laptop"], seeds: int = REMEDY_SEEDS) -> str:
    "What the whole plan takes, from the seconds of the runs that are recorded, in a sentence; '' without any"
    if "total_s" not in runs: return ""
    if not len(made := runs.dropna(subset=["total_s", "key"]).drop_duplicates("key")): return ""
    n = len(STUDENTS) * (len(extent.rhos) * (seeds * (1 + len(NAMED)) + len(SCREENED)) + seeds * (1 + len(SHORTCUT)))
    n += extent.disturbed * sum(len(c.trains) for c in CONDITIONS.values())
    each = made["total_s"].mean()
    return (f"A recorded run took {each:.0f} s on average, with other work beside it on the machine; all {n} runs of "
            f"the plan are about {n * each / 60:.0f} minutes of one process.")


def write(folder: Path, runs: pd.DataFrame | None = None) -> pd.DataFrame:
    "remedies.csv from remedies-runs.csv; with `runs`, these are written first"
    if runs is not None: write_text(writable(Path(folder)) / REMEDY_RUNS, runs.to_csv(index=False))
    table = remedy_contrasts(read(folder))
    write_text(Path(folder) / REMEDIES_TABLE, table.to_csv(index=False))
    return table


def read(folder: Path) -> pd.DataFrame:
    "The records as they were written"
    path = Path(folder) / REMEDY_RUNS
    if not path.exists(): raise FileNotFoundError(f"no {REMEDY_RUNS} in {folder}: make table SHEET=remedies writes it")
    runs = pd.read_csv(path, dtype={"row": str, "student": str, "remedy": str})
    return runs.assign(remedy=runs["remedy"].fillna(""), condition=conditions_of(runs))


def conditions_of(lines: pd.DataFrame) -> pd.Series:
    "The condition of each line; '' where none is, and in records from before there were any"
    if "condition" not in lines: return pd.Series("", lines.index)
    return lines["condition"].astype(object).where(lines["condition"].notna(), "")


def undisturbed(lines: pd.DataFrame) -> pd.DataFrame:
    "The main grid alone"
    return lines[conditions_of(lines) == ""]


def tested_at(runs: pd.DataFrame, task: str = "agesup") -> list[float]:
    "The ρ of the tests, in order"
    return sorted(float(c.split("@")[1]) for c in runs if c.startswith(f"{task}@"))


def lost_by_seed(runs: pd.DataFrame, task: str = "agesup") -> pd.DataFrame:
    """A line for each run of the ρ experiment: points lost from the highest ρ of the test to the lowest, scores at 0,
    at the lowest ρ (the tie turned round) and in the world trained in

    Beside them, NaN in records from before they were kept: right answers lost between the same two ends
    (`right_lost`), answers that move with the line (`moved`), both percent, and milliseconds a step of training.
    """
    r, rhos = runs[runs["train_rho"].notna()], tested_at(runs, task)
    r = r.assign(condition=conditions_of(r))
    at = lambda rho: r[f"{task}@{rho:g}"]
    kept = lambda column: r[column] if column in r else pd.Series(np.nan, r.index)
    right = lambda rho: kept(f"{task}_right@{rho:g}")
    home_world = [line[f"{task}@{min(rhos, key=lambda x: abs(x - line['train_rho'])):g}"] for _, line in r.iterrows()]
    return r[["student", "remedy", "train_rho", "condition", "seed", "train_s", "tv"]].assign(
        lost=at(rhos[-1]) - at(rhos[0]), at_0=at(0.), turned=at(rhos[0]), at_home=home_world,
        right_lost=right(rhos[-1]) - right(rhos[0]), moved=kept("moved"), step_ms=1000 * r["train_s"] / kept("steps"))


def remedy_pairs(each: pd.DataFrame, measure: str, student: str, remedy: str, rho: float) -> np.ndarray:
    "Remedy minus no remedy, seed by seed"
    part = each[(each["student"] == student) & (each["train_rho"] == rho)].pivot(index="seed", columns="remedy",
                                                                                values=measure)
    if remedy not in part or OFF not in part: return np.array([])
    return (part[remedy] - part[OFF]).dropna().to_numpy()


def remedy_contrasts(runs: pd.DataFrame) -> pd.DataFrame:
    """A line for each student, remedy, ρ of training and measure: its mean with Student's interval over seeds
    (`value_low`, `value_high`), and its difference to no remedy with interval and protocol 2's word where there are two
    seeds or more

    The measure `untied` holds the score at ρ = 0 of a training at the highest ρ against that of the same student
    without a remedy where nothing was tied in training: what a remedy leaves to be gained. The declared family are the
    points lost by `replay` and `match`, trained at the highest ρ, for each student. Lines with a condition follow:
    there the difference is to the same remedy undisturbed, and none of them is declared.
    """
    each, lines, primary = undisturbed(lost_by_seed(runs)), [], {}
    top = each["train_rho"].max()
    free = each[(each["train_rho"] == 0) & (each["remedy"] == OFF)].set_index(["student", "seed"])["at_0"]
    for (student, remedy, rho), g in each.groupby(["student", "remedy", "train_rho"], sort=False):
        for measure in REMEDY_MEASURES:
            if measure == "untied" and not (rho == top > 0 and student in free.index): continue
            values = g.set_index("seed")["at_0" if measure == "untied" else measure].dropna()
            if not len(values): continue
            line = dict(student=student, remedy=remedy, train_rho=rho, measure=measure, value=values.mean(),
                        n_seeds=len(values))
            if len(values) > 1:
                c = paired_gains(values)
                line |= dict(value_low=c.low, value_high=c.high)
            gains = ((values - free[student]).dropna().to_numpy() if measure == "untied" else
                     remedy_pairs(each, measure, student, remedy, rho) if remedy != OFF else np.array([]))
            if len(gains): line["difference"] = gains.mean()
            if len(gains) > 1 and measure not in TOLD_ALONE:
                c = paired_gains(gains, COST_MARGIN) if measure != "lost" else paired_gains(-gains)
                low, high = (c.low, c.high) if measure != "lost" else (-c.high, -c.low)
                line |= dict(low=low, high=high, p=c.p, word=verdict(c))
                if measure == "lost" and rho == top and remedy in DECLARED_REMEDIES: primary[student, remedy] = c
            lines.append(line)
    table = pd.DataFrame(lines + condition_contrasts(runs)).reindex(
        columns=["student", "remedy", "train_rho", "condition", "measure", "value", "value_low", "value_high",
                 "difference", "low", "high", "p", "word", "n_seeds", "declared"])
    table["condition"] = conditions_of(table)
    table["declared"] = False
    table["word"] = table["word"].astype(object).where(table["word"].notna(), "")
    for (student, remedy), (p, word) in (family(primary) if primary else {}).items():
        at = ((table["student"] == student) & (table["remedy"] == remedy) & (table["train_rho"] == top)
              & (table["measure"] == "lost") & (table["condition"] == ""))
        table.loc[at, ["p", "word", "declared"]] = p, word, True
    number = ["value", "value_low", "value_high", "difference", "low", "high", "p"]
    table[number] = table[number].astype(float).round(4)
    return table


def compared(runs: pd.DataFrame, condition: str, remedy: str, measure: str, usual_alone: bool = False) -> pd.DataFrame:
    """Seed → a measure of a remedy under a condition and `usual`, undisturbed, on the seeds that have both (with
    `usual_alone` the latter), of those that any condition has; base, highest ρ"""
    each = lost_by_seed(runs)
    tried = each.loc[~each["condition"].isin(("", REFERENCE)), "seed"].unique()
    if len(tried): each = each[each["seed"].isin(tried)]
    each = each[(each["student"] == STUDENTS["3"]) & (each["train_rho"] == each["train_rho"].max())
                & (each["remedy"] == remedy)].set_index("seed")
    usual = each[each["condition"].isin(("", REFERENCE))][measure]
    if usual_alone or remedy in CONDITIONS[condition].same:
        return pd.DataFrame(dict(under=usual, usual=usual)).dropna()
    return pd.DataFrame(dict(under=each[each["condition"] == condition][measure], usual=usual)).dropna()


def condition_contrasts(runs: pd.DataFrame) -> list[dict]:
    "Lines of the table that have a condition: base, highest ρ; a remedy's own run in other circumstances, seed by seed"
    if not (conditions_of(runs) != "").any(): return []
    out, rho = [], runs["train_rho"].max()
    for name, c in CONDITIONS.items():
        for remedy in (*c.trains, *c.listens, *c.same):
            for measure in ("lost", "at_0", "at_home"):
                both = compared(runs, name, remedy, measure)
                if not len(both): continue
                line = dict(student=STUDENTS["3"], remedy=remedy, train_rho=rho, condition=name, measure=measure,
                            value=both["under"].mean(), n_seeds=len(both))
                if remedy in c.same: line |= dict(difference=0., word="the same run")
                else: line |= dict(difference=(d := (both["under"] - both["usual"]).to_numpy()).mean())
                if remedy not in c.same and len(d) > 1:
                    sign = -1 if measure == "lost" else 1
                    got = paired_gains(sign * d, *([] if measure == "lost" else [COST_MARGIN]))
                    low, high = sorted((sign * got.low, sign * got.high))
                    line |= dict(low=low, high=high, p=got.p, word=verdict(got))
                out.append(line)
    refused = runs[runs["refused"].notna()] if "refused" in runs else runs[:0]
    return out + [dict(student=r.student, remedy=r.remedy, train_rho=rho, condition=r.condition, measure="lost",
                       word="refused") for r in refused.itertuples()]


def _interval(low, high) -> str: return f" [{low:+z.1f}, {high:+z.1f}]" if pd.notna(low) else ""


def shown_with_interval(p) -> str:
    "Value, difference, interval and word of a line of the table; points lost have an interval of their own, too"
    if pd.isna(p.value): return p.word
    own = f"{p.value:z.1f}" + (_interval(p.value_low, p.value_high) if p.measure == "lost" else "")
    if pd.isna(p.difference): return own
    if p.word == "the same run": return f"{own} (the same run)"
    return f"{own} ({p.difference:+z.1f}{_interval(p.low, p.high)}{', ' + p.word if p.word else ''})"


def needs_shown(table: pd.DataFrame) -> pd.DataFrame:
    "A line for each condition and remedy: points lost and score at ρ = 0, and how far they moved from undisturbed"
    out, part = [], table[conditions_of(table) != ""]
    for (name, remedy), g in part.groupby(["condition", "remedy"], sort=False):
        of = {p.measure: p for p in g.itertuples()}
        out.append({"condition": CONDITIONS[name].words, "remedy": remedy,
                    "points lost": shown_with_interval(of["lost"]),
                    "at ρ = 0": shown_with_interval(of["at_0"]) if "at_0" in of else "",
                    "seeds": "" if pd.isna(of["lost"].n_seeds) else int(of["lost"].n_seeds)})
    order = {c.words: i for i, c in enumerate(CONDITIONS.values())}
    out.sort(key=lambda r: order[r["condition"]])
    columns = ["condition", "remedy", "points lost", "at ρ = 0", "seeds"]
    return pd.DataFrame(out, columns=columns).set_index(["condition", "remedy"])


def rooms_table(runs: pd.DataFrame) -> pd.DataFrame:
    "Where the room is tied, too: points lost when both ties are turned round, and when the line's alone is"
    part, rhos = runs[conditions_of(runs) == "tied_room"], tested_at(runs)
    if not len(part): return pd.DataFrame()
    lost = lambda task: part[f"{task}@{rhos[-1]:g}"] - part[f"{task}@{rhos[0]:g}"]
    return part.assign(both=lost("agesup"), line=lost("agesup_line")).groupby("remedy", sort=False)[
        ["both", "line"]].mean().round(1).rename(columns=dict(both="lost, both turned", line="lost, line alone"))


def refusals_table(runs: pd.DataFrame) -> pd.DataFrame:
    "What is said where a condition refuses a remedy, and by which remedies"
    if "refused" not in runs: return pd.DataFrame()
    part = runs[runs["refused"].notna()]
    says = part["refused"].str.partition(": ")[2]
    return part.groupby(says, sort=False)["remedy"].agg(", ".join).to_frame("refused").rename_axis("what is said")


def seeds_tried(runs: pd.DataFrame) -> str:
    "The seeds that conditions were tried on, in words"
    each = lost_by_seed(runs)
    tried = sorted(each.loc[~each["condition"].isin(("", REFERENCE)), "seed"].unique())
    return f"seeds {tried[0]} to {tried[-1]}" if len(tried) > 1 else f"seed {tried[0]}" if tried else "no seed yet"


def usual_lost(runs: pd.DataFrame) -> float:
    "Points that base loses undisturbed and without a remedy, on the seeds that conditions were tried on"
    return float(compared(runs, "other_codec", OFF, "lost", usual_alone=True)["usual"].mean())


def say_needs(table: pd.DataFrame, runs: pd.DataFrame) -> str:
    "What came out under the conditions, from the numbers alone"
    lines = []
    for name, c in CONDITIONS.items():
        mine = table[(table["measure"] == "lost") & (conditions_of(table) == name)]
        held = mine[mine["value"].notna() & (mine["remedy"] != OFF)]
        if not len(mine): continue
        moved = lambda r: r.word if r.word == "the same run" else f"{r.difference:+z.0f}"
        told = ", ".join(f"*{r.remedy}* {r.value:.0f} ({moved(r)})" for r in held.itertuples())
        off = mine[(mine["remedy"] == OFF) & mine["value"].notna()]
        without = (f"without a remedy {off['value'].iloc[0]:.0f} ({off['difference'].iloc[0]:+z.0f})" if len(off) else
                   f"without a remedy and undisturbed, on the same seeds, {usual_lost(runs):.0f}")
        refused = ", ".join(f"*{n}*" for n in mine[mine["word"] == "refused"]["remedy"])
        lines.append(f"- {c.words[0].upper()}{c.words[1:]}." + f" Points lost: {told}; {without}." * bool(told)
                     + f" Refused: {refused}." * bool(refused))
    if lines: lines.append(f"\nIn brackets: moved from the same runs undisturbed, on {seeds_tried(runs)}.")
    return "\n".join(lines)


def untied(p) -> str: return f"{p.difference:+z.1f}{_interval(p.low, p.high)}{', ' + p.word if p.word else ''}"


def remedies_shown(table: pd.DataFrame, student: str) -> pd.DataFrame:
    "What a reader wants to see of one student: a line for each remedy"
    table = undisturbed(table)
    part, rhos = table[table["student"] == student], sorted(table["train_rho"].unique())
    top, out = rhos[-1], {}
    for remedy in dict.fromkeys(part["remedy"]):
        of = {(p.measure, p.train_rho): p for p in part[part["remedy"] == remedy].itertuples()}
        get = lambda m, r, of=of: shown_with_interval(of[m, r]) if (m, r) in of else "not trained"
        plain = lambda m, r, of=of: f"{of[m, r].value:.1f}" if (m, r) in of else ""
        out[remedy] = {f"points lost, trained at {top:g}": get("lost", top),
                       **{f"points lost, trained at {r:g}": plain("lost", r) for r in rhos[1:-1]},
                       f"at ρ = {-top:g}, trained at {top:g}": plain("turned", top),
                       f"at ρ = {top:g}, trained at {top:g}": get("at_home", top),
                       f"at ρ = 0, trained at {top:g}": plain("at_0", top),
                       "gap to an untied training, at ρ = 0":
                       untied(of["untied", top]) if ("untied", top) in of else "",
                       f"at ρ = 0, trained at {rhos[0]:g}": get("at_0", rhos[0]),
                       "training, s": f"{of['train_s', top].value:.0f}" if ("train_s", top) in of else "",
                       "a step, ms": f"{of['step_ms', top].value:.0f}" if ("step_ms", top) in of else "",
                       "seeds": f"{of['lost', top].n_seeds:.0f}" if ("lost", top) in of else "0"}
    return pd.DataFrame(out).T.rename_axis("remedy")


SHORTCUT_ASKED = {"ltv_agesup": "agesup F1, LTV alone", "pooled_agesup": "agesup F1, all",
                  "over_60_on_telephone": "over 60 on the telephone, called elderly (%)",
                  "under_60_on_telephone": "under 60 on the telephone, called elderly (%)",
                  "studio_auc_in_x": "studio told inside X (AUC, %)",
                  "studio_auc_in_z": "studio told inside Z, X and K joined (AUC, %)"}


def shortcut_gains(runs: pd.DataFrame) -> pd.DataFrame:
    """Table 1's corpus with and without the remedy: mean over seeds, and the paired difference to no remedy with its t
    interval, exploratory; empty before it has been run"""
    if "ltv_agesup" not in runs: return pd.DataFrame()
    part, lines = undisturbed(runs[runs["train_rho"].isna() & runs["ltv_agesup"].notna()]), []
    for (student, remedy), mine in part.groupby(["student", "remedy"], sort=False):
        none = part[(part["student"] == student) & (part["remedy"] == OFF)].set_index("seed")
        for measure in (m for m in SHORTCUT_ASKED if m in mine):
            score = mine.set_index("seed")[measure].dropna()
            if not len(score): continue  # Z of a row without a teacher is X
            line = dict(student=student, remedy=remedy, measure=measure, value=score.mean(), n_seeds=len(score))
            if remedy != OFF and len(d := (score - none[measure]).dropna()) > 1:
                c = paired_gains(d)
                line |= dict(difference=c.value, low=c.low, high=c.high)
            lines.append(line)
    return pd.DataFrame(lines)


def shortcut_table(runs: pd.DataFrame) -> pd.DataFrame:
    "The same as a reader wants to see it; what no run was asked is left out"
    t = shortcut_gains(runs)
    if not len(t): return t
    told = lambda r: f"{r.value:.1f}" + ("" if pd.isna(getattr(r, "difference", np.nan)) else
                                         f" ({r.difference:+.1f} [{r.low:+.1f}, {r.high:+.1f}])")
    return t.assign(told=[told(r) for r in t.itertuples()]).pivot(
        index=["student", "remedy"], columns="measure", values="told").loc[
        list(dict.fromkeys(zip(t["student"], t["remedy"]))), [m for m in SHORTCUT_ASKED if (t["measure"] == m).any()]
        ].rename(columns=SHORTCUT_ASKED).rename_axis(columns=None).fillna("")


def shortcut_in_short(folder: Path) -> str:
    "What hearing everybody over the telephone does to base on Table 1's corpus, in a sentence; '' before it was run"
    t = shortcut_gains(read(folder)) if (Path(folder) / REMEDY_RUNS).exists() else pd.DataFrame()
    t = t.set_index(["student", "remedy", "measure"])["value"] if len(t) else pd.Series(dtype=float)
    asked = [("base", r, "over_60_on_telephone") for r in ("line", OFF)]
    if not set(asked) <= set(t.index): return ""
    over, none = (t[a] for a in asked)
    younger = [t.get(("base", r, "under_60_on_telephone"), np.nan) for r in ("line", OFF)]
    beside = "" if np.isnan(younger).any() else \
        f" (and takes {younger[0]:.0f} % of those under sixty for elderly, instead of {younger[1]:.0f} %)"
    return (f"On LTV+FCVE, where studio sound means elderly, base recognises {over:.0f} % of the people over sixty on "
            f"the telephone, instead of {none:.0f} %{beside}, if everybody is heard over the telephone")


def say_shortcut(runs: pd.DataFrame) -> str:
    "What each remedy does to people over sixty on the telephone, and what it costs, in sentences"
    t, told = shortcut_gains(runs), []
    if not len(t) or "difference" not in t: return ""
    at = t.set_index(["student", "remedy", "measure"])
    for student, remedy in dict.fromkeys((s, r) for s, r, _ in at.index if r != OFF):
        get = lambda m, student=student, remedy=remedy: at.loc[(student, remedy, m)]
        old, none = get("over_60_on_telephone"), at.loc[(student, OFF, "over_60_on_telephone"), "value"]
        if pd.isna(old["difference"]): continue
        young = ""
        if (student, remedy, "under_60_on_telephone") in at.index:
            y = get("under_60_on_telephone")
            young = (f" of those under sixty {y['value']:.0f} % instead of {y['value'] - y['difference']:.0f} "
                     f"({y['difference']:+.1f} [{y['low']:+.1f}, {y['high']:+.1f}]);")
        told.append(f"- **{student}**, *{remedy}*: of the people over sixty on the telephone {old['value']:.0f} % are "
                    f"called elderly instead of {none:.0f} ({old['difference']:+.1f} [{old['low']:+.1f}, "
                    f"{old['high']:+.1f}]);{young} agesup changes by {get('ltv_agesup')['difference']:+.1f} on LTV "
                    f"alone and by {get('pooled_agesup')['difference']:+.1f} on all ({old['n_seeds']:.0f} seeds).")
    return "\n".join(told)


@dataclass(frozen=True)
class Least:
    """No remedy and the declared one that moves a student least where the tie is turned round, of those with as many
    seeds; trained at the highest ρ. Lines of the table by measure"""
    none: pd.DataFrame
    best: pd.DataFrame
    zero: pd.Series | None  # the remedy's score at ρ = 0 where nothing was tied in training; None where it was not run
    name: str  # of the remedy
    tried: int  # remedies that have been run with as many seeds

    def ends(self, which: pd.DataFrame) -> tuple[float, float]:
        "Scores in the world trained in and where its tie is turned round"
        return which.loc["at_home", "value"], which.loc["turned", "value"]


def least_lost(table: pd.DataFrame, student: str) -> Least:
    "The declared remedy that moves a student least between the tie it was trained with and the tie turned round"
    t = undisturbed(table)
    t = t[t["student"] == student].set_index("measure")
    top = t[t["train_rho"] == t["train_rho"].max()]
    lost = top.loc[["lost"]].set_index("remedy")
    there = lost[lost["n_seeds"] == lost.loc[OFF, "n_seeds"]].drop(OFF)
    asked = there.loc[there.index.isin(DECLARED_REMEDIES)]  # the declared family, where it has been run
    best = (asked if len(asked) else there)["value"].abs().idxmin()
    zero = t[(t.index == "at_0") & (t["train_rho"] == 0) & (t["remedy"] == best)]
    return Least(top[top["remedy"] == OFF], top[top["remedy"] == best], zero.iloc[0] if len(zero) else None, best,
                 len(there))


LEAST_MOVED = 8.  # points; a remedy that moves by less is named by the page (no threshold of the protocol)


def prices(table: pd.DataFrame, student: str) -> pd.DataFrame:
    """What each remedy costs a student at ρ = 0, in points of F1, beside the points that it loses: a line for each
    remedy that has been trained at the highest ρ

    `where_free`: how far below no remedy where nothing was tied in training. `where_tied`: how far a training in the
    tied world stays below the same student without a remedy that never saw a tie. NaN where one of the two is missing.
    """
    t = undisturbed(table)
    t = t[t["student"] == student]
    at = lambda measure, rho: t[(t["measure"] == measure) & (t["train_rho"] == rho)].set_index("remedy")
    lost, tied = at("lost", top := table["train_rho"].max()), at("untied", top)
    return pd.DataFrame(dict(lost=lost["value"], seeds=lost["n_seeds"].astype(int), where_tied=-tied["difference"],
                             where_free=-at("at_0", 0.)["difference"])).reindex(lost.index)


def told_price(p: pd.Series) -> str:
    "The two prices of a remedy in short, those that have been measured"
    found = {"untied": p["where_free"], "tied": p["where_tied"]}
    return ", ".join(f"{v:z.1f} {words}" for words, v in found.items() if pd.notna(v)) or "not measured"


def told_between(table: pd.DataFrame, student: str, rho: float) -> str:
    "Points lost over the same test by a student that was trained with a weaker tie, in a sentence; '' before it was"
    of = table[(table["student"] == student) & (table["train_rho"] == rho) & (table["measure"] == "lost")]
    of = of.set_index("remedy")["value"]
    if not len(of): return ""
    told = "; ".join(f"with *{n}* {v:z.1f}" for n, v in of.items() if n != OFF)
    none = f"{of[OFF]:z.1f} without a remedy" if OFF in of else "not yet run without a remedy"
    return f"Trained at ρ = {rho:g}, points lost over the same test: {none}{'; ' * bool(told)}{told}."


def seeds_told(n) -> str: return f"{n:.0f} seed{'s' * bool(n > 1)}"


def say_remedies(table: pd.DataFrame) -> str:
    "What came out, from the numbers alone"
    table, lines = undisturbed(table), []
    top = table["train_rho"].max()
    for student in dict.fromkeys(table["student"]):
        mine = table[(table["student"] == student) & (table["train_rho"] == top)]
        mine, price = mine.set_index(["remedy", "measure"])["value"], prices(table, student)
        if OFF not in price.index:
            lines.append(f"- **{student}**, trained at ρ = {top:g}: not yet run without a remedy.")
            continue
        ends = lambda n, mine=mine: f"{mine[n, 'at_home']:.1f} to {mine[n, 'turned']:.1f}"
        names, seeds = [n for n in price.index if n != OFF], price.loc[OFF, "seeds"]
        few = lambda n, price=price, seeds=seeds: (
            f" ({seeds_told(k)})" if (k := price.loc[n, "seeds"]) != seeds else "")
        told = "; ".join(f"with *{n}*{few(n)} from {ends(n)}" for n in names)
        lines.append(f"- **{student}**, trained at ρ = {top:g}, {seeds_told(seeds)}: without a remedy it "
                     f"goes from {ends(OFF)} when the tie is turned round{'; ' * bool(told)}{told}.")
        weaker = [told_between(table, student, rho) for rho in sorted(set(table["train_rho"]) - {top, 0.})]
        lines += [f"  {t}" for t in weaker if t]
        if not names: continue
        flat = price.loc[[n for n in names if abs(price.loc[n, "lost"]) < LEAST_MOVED]]
        cheap = flat[(flat["where_free"] < COST_MARGIN) & (flat["where_tied"] < COST_MARGIN)]
        costs = "; ".join(f"*{n}* {told_price(price.loc[n])}" for n in names)
        lines.append(f"  Price at ρ = 0, below no remedy where nothing is tied in training (*untied*) and, trained in "
                     f"the tied world, below {student} that never saw a tie (*tied*): {costs}. Moved by less than "
                     f"{LEAST_MOVED:g} points (a threshold of this page): {', '.join(flat.index) or 'none'}; of these "
                     f"less than {COST_MARGIN:g} points below by both prices: {', '.join(cheap.index) or 'none'}.")
    return "\n".join(lines)


def bound_by_run(runs: pd.DataFrame) -> pd.DataFrame:
    """A line for each undisturbed run whose records hold right answers: per cent of right answers lost from the highest
    ρ of the test to the lowest, and per cent of answers that move with the line alone, which the loss cannot exceed
    (page 16, *A bound*)"""
    each = undisturbed(lost_by_seed(runs)).dropna(subset=["right_lost", "moved"])
    each = each.sort_values("train_rho", kind="stable")
    return each[["student", "remedy", "train_rho", "seed", "right_lost", "moved"]].reset_index(drop=True)


# ---- figure

def figure_remedies(runs: pd.DataFrame, folder: Path | None = None):
    "Agesup score against the ρ of the test, a row a student, a column a ρ of training; points lost beside"
    runs = undisturbed(runs)
    rhos, tested = sorted(runs["train_rho"].dropna().unique()), tested_at(runs)
    students = [s for s in STUDENTS.values() if (runs["student"] == s).any()]
    names = [n for n in (OFF, *REMEDIES) if (runs["remedy"] == n).any()]
    colour = {n: "k" if n == OFF else COLOURS[i % len(COLOURS)] for i, n in enumerate(names)}
    mark = dict(zip(names, "osD^vP*Xhd<>p"))
    each, oracle = lost_by_seed(runs), runs[runs["row"] == "oracle"]
    with mpl.rc_context(STYLE | {"font.size": 9, "axes.titlesize": 9}):
        fig, axes = plt.subplots(len(students), len(rhos) + 1, figsize=(2.7 * len(rhos) + 2.9, 3.1 * len(students)),
                                 layout="constrained", squeeze=False, sharey=False)
        for line, student in zip(axes, students):
            for ax, rho in zip(line, rhos):
                ax.axvline(rho, color="0.88", lw=5, zorder=0)
                ax.axhline(oracle[[f"agesup@{r:g}" for r in tested]].to_numpy().mean(), color="k", ls="--", lw=1)
                for n in names:
                    part = runs[(runs["student"] == student) & (runs["remedy"] == n) & (runs["train_rho"] == rho)]
                    if not len(part): continue
                    strong = n == OFF or n in NAMED
                    ax.plot(tested, part[[f"agesup@{r:g}" for r in tested]].mean(), color=colour[n], marker=mark[n],
                            ms=4 if strong else 3, lw=1.6 if strong else .9, ls="-" if strong else ":",
                            label=n + ("" if strong else " (one seed)"))
                if not len(ax.get_lines()[2:]): ax.text(0, 50, "not run", ha="center", color="0.5")
                ax.set(title=f"{student}, trained at ρ = {rho:g}", xlabel="ρ in the test", xticks=[-.8, 0, .8],
                       ylim=(15, 90))
            line[0].set_ylabel("agesup macro F1, true labels (%)")
            ax, at = line[-1], each[(each["student"] == student) & (each["train_rho"] == rhos[-1])]
            there = [n for n in names if (at["remedy"] == n).any()]
            for i, n in enumerate(there):
                v = at.loc[at["remedy"] == n, "lost"]
                ax.plot(v, [i] * len(v), ".", color="0.65", zorder=1)
                ax.plot(v.mean(), i, mark[n], color=colour[n], ms=6, zorder=2)
            ax.axvline(0, color="k", lw=.8)
            ax.set(yticks=range(len(there)), yticklabels=there, xlabel="points lost, ρ 0.8 to −0.8",
                   title=f"trained at ρ = {rhos[-1]:g}")
            ax.set_ylim(len(there) - .4, -.6)
        found = {label: h for ax in axes[:, :-1].flat for h, label in zip(*ax.get_legend_handles_labels())}
        found = {label: found[label] for n in names for label in found if label.split(" (")[0] == n}
        fig.legend(found.values(), found, loc="outside upper center", ncols=len(rhos) + 2, frameon=False)
        if folder: save_figure(fig, folder, "remedies")
    return fig


def figure_needs(runs: pd.DataFrame, folder: Path | None = None):
    """Points lost by base with a remedy, undisturbed (open) and under each condition (filled); a panel a condition.

    None before a condition has been run.
    """
    if not set(conditions_of(runs)) - {"", REFERENCE, "line_unknown"}: return None
    shown = {name: [n for n in dict.fromkeys((*c.trains, *c.listens, *c.same)) if len(compared(runs, name, n, "lost"))]
             for name, c in CONDITIONS.items()}
    shown = {name: remedies for name, remedies in shown.items() if remedies}
    base = usual_lost(runs)
    with mpl.rc_context(STYLE | {"font.size": 9, "axes.titlesize": 9}):
        fig, axes = plt.subplots(len(shown), 1, figsize=(7.4, 1.1 + sum(.5 + .2 * len(v) for v in shown.values())),
                                 sharex=True, layout="constrained", squeeze=False,
                                 height_ratios=[1 + len(v) for v in shown.values()])
        for ax, (name, remedies) in zip(axes[:, 0], shown.items()):
            ax.axvline(0, color="k", lw=.8)
            ax.axvline(base, color="0.6", lw=1, ls="--")
            for i, n in enumerate(remedies):
                both, same = compared(runs, name, n, "lost"), n in CONDITIONS[name].same
                a, b = both["usual"].mean(), both["under"].mean()
                ax.plot([a, b], [i, i], color=COLOURS[0], lw=1.5, zorder=1)
                if not same: ax.plot(both["under"], [i] * len(both), ".", color="0.65", zorder=1)
                ax.plot(b, i, "D" if same else "o", color=COLOURS[1] if same else COLOURS[0], zorder=3)
                ax.plot(a, i, "o", mfc="w", mec="k", ms=5 if same else 6, zorder=2 + 2 * same)
            ax.set(yticks=range(len(remedies)), yticklabels=remedies)
            ax.set_title(CONDITIONS[name].words, loc="left")
            ax.set_ylim(len(remedies) - .4, -.6)
        axes[-1, 0].set_xlabel("points of agesup macro F1 lost, from the tie trained in to the tie turned round")
        keys = [ax.plot([], [], *a, **k)[0] for a, k in ((("o",), dict(mfc="w", mec="k")), (("o",), dict(
            color=COLOURS[0])), (("D",), dict(color=COLOURS[1])), (("--",), dict(color="0.6", lw=1)))]
        fig.legend(keys, ["undisturbed", "under the condition", "the same run", "no remedy, undisturbed"], ncols=4,
                   loc="outside upper center", frameon=False)
        if folder: save_figure(fig, folder, "remedies_needs")
    return fig


# ---- the choice of strengths

def validated(runner: Runner, row: str, seed: int, kept: dict) -> float:
    "Agesup macro F1 of the validation speakers, each heard over both lines, so that the tie earns nothing"
    m = runner.manifest(runner.rows[row].role, seed)[0]
    m = m[m["split"] == "val"].reset_index(drop=True)
    deaf = "line" in dict(runner.rows[row].remedy)
    worlds = BOTH_LINES[1:] if deaf else BOTH_LINES
    got, y = heard_over_lines(runner, row, seed, m, worlds, kept), truth(m, "agesup")
    return robust_f1(np.concatenate([y] * len(worlds)), np.concatenate([got[f"{w}_agesup"] for w in worlds]), "agesup")


def tried_scores(preset: str, say, progress=lambda what, done, of: None, rho: float = .4,
                 seeds: tuple = CHOOSING) -> Iterator[dict]:
    "A line for each run of the choice: remedy, strength, seed, score"
    sheet = RemedyRunners(preset, say=say, progress=progress, tried=True)
    runner = sheet.runner(Knobs(rho=rho))
    tuned = [r for r in sheet.rows.values() if r.row == f"3{OFF}"
             or r.remedy and len(REMEDIES[r.remedy[0][0]].tried) > 1]
    jobs = [(r.row, s) for s in seeds for r in tuned if not sheet.refused(Knobs(rho=rho), r.row, s)]
    runner.run_all(jobs)
    kept = {}
    for row, seed in jobs:
        (name, strength), = sheet.rows[row].remedy or ((OFF, np.nan),)
        yield dict(remedy=name, strength=strength, seed=seed, score=round(validated(runner, row, seed, kept), 4),
                   rho=rho, preset=preset, row=row, key=runner.key(row, seed)[1])


def choose_strengths(args: list[str] | None = None):
    "python -m mkdcls.results.remedies_sheet choose"
    p = argparse.ArgumentParser(prog="remedies_sheet", description="Choose the strengths of remedies on base, ρ = 0.4")
    p.add_argument("what", choices=["choose"])
    p.add_argument("--preset", default="laptop")
    p.add_argument("--out", default="", help=f"default {CHOSEN_IN}; other presets than laptop write beside the runs")
    a = p.parse_args(args)
    out = Path(a.out) if a.out else (PROJECT / CHOSEN_IN if a.preset == "laptop" else
                                     writable(home()) / f"remedies-{a.preset}.csv")
    def told(what, done, of):
        if done == of: print(what, flush=True)
    scores = pd.DataFrame(tried_scores(a.preset, print, told))
    write_text(out, scores.to_csv(index=False))
    print(scores.groupby(["remedy", "strength"], dropna=False)["score"].agg(["mean", "std", "count"]).round(2))
    print("chosen: " + ", ".join(f"{n} {remedy_best(scores, n):g}" for n in scores["remedy"].unique() if n != OFF)
          + f"\nwritten: {out.name}")


if __name__ == "__main__": choose_strengths()
