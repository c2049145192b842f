"""The sheets of protocol 2: what decides (primary rows, controls, doses), and few speakers with many utterances. Tables
and pictures from records; nothing is trained here."""
from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from mkdcls.decisive import (ASKED_ALONE, ASKED_BLOCKS, CONTROL_SEEDS, CONTROLS, DOSE_SEEDS, DOSES, FIRST_SEED,
                             K_KINDS, PRIMARY, PRIMARY_SEEDS, REGIME_ROWS, alone_row, declared, k_row, oracle_answers)
from mkdcls.engine.store import writable, write_table, write_text
from mkdcls.evaluation import ALPHA, MARGIN, confusion, expected_years, ordinal_scores, scorecard
from mkdcls.labels import TASKS
from mkdcls.results.figures import COLOURS, STYLE, save_figure
from mkdcls.results.report import bounds, published, record_line
from mkdcls.runs import Knobs
from mkdcls.seeds import Paired, excludes, family, paired_gains, seeds_needed

MEAN = "+MKD+CH − base, mean of the three blocks"
SCORE = "agesup_f1"  # protocol 2, section 1: re-estimated statistics, observed labels, fresh speakers
SCORE_BY_TESTED = {"the split's own": f"split_{SCORE}", "fresh speakers": SCORE}  # who is tested → the score's column
SHOWN = {SCORE: "agesup macro F1", f"true_{SCORE}": "true labels", f"as_trained_{SCORE}": "as trained",
         f"split_{SCORE}": "split's own test", "agesub_f1": "agesub", "gender_f1": "gender", "mae_years": "MAE, years",
         "auc_60": "AUC of 60+", "conflict_rate": "conflicts"}
CONTRASTS = {"+MKD+CH − base": ("both", "base"), "+CH − base": ("ch", "base"), "+MKD − base": ("mkd", "base"),
             "+MKD+CH − +CH": ("both", "ch")}  # name → which of a block's rows (`ASKED_BLOCKS`) less which
OTHERS = {"gender_f1": ("gender macro F1", "higher"), "auc_60": ("AUC of 60+", "higher"),
          f"true_{SCORE}": ("agesup macro F1, true labels", "higher"),
          f"as_trained_{SCORE}": ("agesup macro F1, both rows as trained", "higher"),
          SCORE: ("agesup macro F1, contrasts outside the family", "higher"),
          "conflict_rate": ("conflicts of agesub and agesup, %", "lower"),
          "mae_years": ("MAE, years", "lower")}  # score → its name, and which is better
CEILINGS = {"ceiling": SCORE, "true_ceiling": f"true_{SCORE}", "mae_ceiling": "mae_years", "auc_ceiling": "auc_60"}
EVEN = 100 / 3  # macro F1 of an even draw among three classes lies at or below it


# ---- records

def compact(runner, row: str, seed: int, key: str) -> pd.DataFrame:
    "The answers of a run as an outsider needs them to score it again: classes, expected age, log-odds of 60+"
    t = runner.store.predictions(row, seed, key)
    logits = t[[f"agesup_logit{i}" for i in range(TASKS["agesup"])]].to_numpy(float)
    out = {"n": np.arange(len(t), dtype=np.uint16)}
    out |= {c: t[c].astype("int8") for task in TASKS for c in (task, f"{task}_as_trained") if c in t}
    out |= dict(years=expected_years(t).astype("float16"),
                older=(logits[:, 2] - np.logaddexp(logits[:, 0], logits[:, 1])).astype("float16"))
    return pd.DataFrame(out).assign(row=row, seed=np.int16(seed), knobs=json.dumps(runner.knobs.turned()))


def labels_asked(runner, row: str, seed: int, key: str) -> pd.DataFrame:
    "The labels of those who were asked, once for each corpus"
    t = runner.store.predictions(row, seed, key)
    keep = [c for c in t if c.startswith(("y_", "true_"))]
    return t[keep].astype("int8").assign(
        n=np.arange(len(t), dtype=np.uint16), corpus=t["corpus"], split=t["split"], role=runner.rows[row].role,
        seed=np.int16(seed), knobs=json.dumps(runner.knobs.turned()))


def ceilings(runner, role: str, seed: int) -> dict:
    "Scores of the oracle on the fresh speakers of a role"
    m = runner.manifest(role, seed)[0]
    t = oracle_answers(m[m["split"] == "fresh"])
    return dict(role=role, seed=seed) | scorecard(t, tuple(TASKS)) | ordinal_scores(t)


# what is published → what its lines belong to, beside seed and knobs: a run or a corpus
BELONGS_TO = {"runs.csv": "row", "curves.csv": "row", "answers.parquet": "row", "asked.parquet": "role",
              "ceilings.csv": "role"}


def _said(name: str, runner, row: str, seed: int, rec) -> pd.DataFrame:
    "What a finished run, or its corpus, adds to a published file; numbers of a csv as they will be written"
    if name == "answers.parquet": return compact(runner, row, seed, rec["key"])
    if name == "asked.parquet": return labels_asked(runner, row, seed, rec["key"])
    of = dict(row=row, seed=seed, knobs=json.dumps(runner.knobs.turned()))
    table = (pd.DataFrame([record_line(runner, row, seed, rec)]) if name == "runs.csv" else
             pd.DataFrame(rec["curves"]).assign(**of).round(5) if name == "curves.csv" else
             pd.DataFrame([ceilings(runner, runner.rows[row].role, seed) | dict(knobs=of["knobs"])]).round(4))
    return pd.read_csv(StringIO(table.to_csv(index=False)), dtype=str, keep_default_na=False)


def _there(path: Path) -> dict[tuple, pd.DataFrame]:
    "What a published file says of each run or corpus, as it was written"
    if not path.is_file(): return {}
    t = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str, keep_default_na=False)
    knobs = t["knobs"].replace("", "{}") if "knobs" in t else pd.Series("{}", index=t.index)
    return dict(list(t.groupby([t[BELONGS_TO[path.name]], t["seed"].astype(int), knobs], sort=False)))


def left_to_run(parts, folder: Path):
    "Of these plans what is not recorded in the folder; a run is there if it has the plan's key"
    there = {at: line["key"].iloc[0] for at, line in _there(Path(folder) / "runs.csv").items()}
    return [(r, [(row, seed) for row, seed in plan
                 if there.get((row, seed, json.dumps(r.knobs.turned()))) != r.key(row, seed)[1]]) for r, plan in parts]


def publish(inside: str, parts, folder: Path, continued: bool = False) -> Path:
    """Every finished run of these plans into <folder>/<inside>.

    `continued`: what is recorded there under the plan's key stays as it is. It may come from another machine, whose
    store is not here.
    """
    folder = writable(Path(folder) / inside)
    before = {name: _there(folder / name) if continued else {} for name in BELONGS_TO}
    new = {id(r): set(plan) for r, plan in (left_to_run(parts, folder) if continued else parts)}
    pieces = {name: {} for name in BELONGS_TO}
    for runner, plan in parts:
        for row, seed in dict.fromkeys(plan):
            kept = (row, seed) not in new[id(runner)]
            rec = None if kept else runner.record(row, seed)
            if rec is None and not kept: continue
            for name, by in BELONGS_TO.items():
                at = (row if by == "row" else runner.rows[row].role, seed, json.dumps(runner.knobs.turned()))
                if kept and at not in before[name]:
                    raise ValueError(f"{folder / name} says nothing of row {row}, seed {seed}, and runs.csv beside it "
                                     "does: take both from where they came, or run without CONTINUE")
                if at not in pieces[name]:
                    pieces[name][at] = before[name][at] if kept else _said(name, runner, row, seed, rec)
    if not pieces["runs.csv"]: raise ValueError("no finished run of this plan: nothing to publish; run it first")
    for name, of in pieces.items():
        table = pd.concat(of.values(), ignore_index=True)
        if name.endswith(".parquet"): write_table(folder / name, table)
        else: write_text(folder / name, table.fillna("").to_csv(index=False))
    return folder


def read(folder: Path) -> pd.DataFrame:
    "Records as they were published; `knobs` is a JSON text, '{}' where none is turned"
    path = Path(folder) / "runs.csv"
    if not path.exists(): raise FileNotFoundError(f"no runs.csv in {folder}: run the sheet first")
    runs = pd.read_csv(path, dtype={"row": str, "protocol": str})
    if "knobs" not in runs: runs["knobs"] = None
    return runs.assign(knobs=runs["knobs"].astype(object).where(runs["knobs"].notna(), "{}"))


def read_ceilings(folder: Path) -> pd.DataFrame:
    "The oracle's scores, a line for each corpus: role, seed and knobs; none for records that were kept without"
    path = Path(folder) / "ceilings.csv"
    tops = (pd.read_csv(path) if path.exists() and path.stat().st_size > 1
            else pd.DataFrame(columns=["role", "seed", SCORE]))
    return tops if "knobs" in tops else tops.assign(knobs="{}")


def fresh_answers(folder: Path) -> pd.DataFrame:
    "What every run answered about the fresh speakers, beside their labels"
    role = read(folder).set_index(["row", "seed", "knobs"])["dataset"]
    said, labels = (pd.read_parquet(Path(folder) / f"{n}.parquet") for n in ("answers", "asked"))
    both = said.join(role.rename("role"), on=["row", "seed", "knobs"]).merge(
        labels, on=["role", "seed", "knobs", "n"], suffixes=("", "_"))
    return both[both["split"] == "fresh"]


def over_speakers(folder: Path, draws: int = 1000) -> pd.DataFrame:
    """`low` and `high` of each row's headline score, 95 %, seeds as they are: fresh speakers resampled within their
    class, so that none is lost (protocol 2, section 2); each of them says one utterance"""
    rng, out, many = np.random.default_rng(0), {}, TASKS["agesup"]
    both = fresh_answers(folder)
    for row, mine in both[both["knobs"] == "{}"].groupby("row", sort=False):
        scores = np.zeros(draws)
        for _, t in mine.groupby("seed"):
            seen = confusion(t["y_agesup"].to_numpy(int), t["agesup"].to_numpy(int), many)
            again = np.stack([rng.multinomial(n.sum(), n / n.sum(), draws) for n in seen], 1)  # [draws, class, answer]
            scores += 100 * (2 * again.diagonal(axis1=1, axis2=2) / (again.sum(1) + again.sum(2))).mean(1)
        out[row] = np.percentile(scores / mine["seed"].nunique(), [2.5, 97.5])
    return pd.DataFrame(out, index=["low", "high"]).T


def recomputed(folder: Path) -> pd.DataFrame:
    "Headline agesup F1 of every run from the answers alone, beside the recorded one"
    runs, both = read(folder), fresh_answers(folder)
    found = both.groupby(["row", "seed", "knobs"]).apply(lambda t: scorecard(t, ("agesup",))[SCORE])
    return runs.join(found.rename("again"), on=["row", "seed", "knobs"])[["row", "seed", "knobs", SCORE, "again"]]


def seeds_run(runs: pd.DataFrame, rows, knobs: str = "{}") -> int:
    "Seeds of which every one of these rows has been run"
    mine = runs[(runs["knobs"] == knobs) & runs["row"].isin(rows)]
    return int((mine.groupby("seed")["row"].nunique() == len(set(rows))).sum())


def still_to_run(runs: pd.DataFrame, named: bool = True) -> str:
    "How much of the plan of protocol 2 these records are; with the doses that are missing, `named`; '' when it is done"
    parts = {"rows of Table 1": (seeds_run(runs, PRIMARY), PRIMARY_SEEDS),
             "controls": (seeds_run(runs, CONTROLS), CONTROL_SEEDS)}
    turned = [d for d in DOSES if d.knobs != Knobs()]
    left = [d for d in turned if seeds_run(runs, d.rows, json.dumps(d.knobs.turned())) < DOSE_SEEDS]
    if not left and all(n >= of for n, of in parts.values()): return ""
    told = ", ".join(f"{n} of {of} seeds of the {what}" for what, (n, of) in parts.items())
    missing = " and ".join(f"{DOSE_WORDS[d.curve]} {d.level:.0%}" if d.curve == "labels" else
                           f"{DOSE_WORDS[d.curve]} × {d.level:g}" for d in left)
    return (f"So far {told} and {len(turned) - len(left)} of {len(turned)} doses have been run"
            + f" (missing: {missing})" * bool(named and left) + ".")


# ---- contrasts

def seed_gains(runs: pd.DataFrame, row: str, base: str, score: str = SCORE, knobs: str = "{}") -> pd.Series:
    "A score of a row less that of another, seed by seed, on the seeds that both have"
    of = lambda r: runs[(runs["row"] == r) & (runs["knobs"] == knobs)].set_index("seed")[score].dropna()
    return (of(row) - of(base)).dropna().sort_index()


def _line(name: str, c: Paired, paper: float | None, p: float | None, word: str, **more) -> dict:
    theirs = {} if paper is None else dict(paper=round(paper, 2), excludes_paper=excludes(c, paper))
    return dict(contrast=name, **more, n_seeds=c.n, gain=round(c.value, 2), low=round(c.low, 2), high=round(c.high, 2),
                sd=round(c.sd, 2), p=round(c.p, 4), p_holm=None if p is None else round(p, 4), word=word, **theirs)


def paper_gain(row: str, base: str, score: str = SCORE) -> float:
    "The paper's, in macro F1"
    t = published()
    return float(t.loc[row, score] - t.loc[base, score])


THREE = tuple(name for name in declared() if name.startswith("+MKD+CH − base"))  # whose mean is the tenth question


def declared_gains(folder: Path) -> dict[str, pd.Series]:
    "Question of the declared family → its gains, seed by seed"
    runs = read(folder)
    found = {name: seed_gains(runs, row, base) for name, (_, row, base) in declared().items()}
    return found | {MEAN: pd.concat([found[n] for n in THREE], axis=1).dropna().mean(axis=1)}


def family_table(folder: Path) -> pd.DataFrame:
    "The declared family, corrected together; seeds that each would need where it is undecided"
    asks = declared()
    contrasts = {name: paired_gains(g) for name, g in declared_gains(folder).items() if len(g) > 1}
    if not contrasts: return pd.DataFrame()
    words, out = family(contrasts), []
    theirs = {name: paper_gain(row, base) for name, (_, row, base) in asks.items()}
    theirs[MEAN] = float(np.mean([theirs[n] for n in THREE]))
    for name, c in contrasts.items():
        needed = None if words[name][1] != "undecided" else seeds_needed(c.value, c.sd, alpha=ALPHA/len(contrasts))
        more = dict(zip(("block", "row", "against"), asks.get(name, ("all", "", ""))))
        out.append(_line(name, c, theirs[name], *words[name], **more) | dict(seeds_needed=needed))
    return pd.DataFrame(out)


def score_table(folder: Path) -> pd.DataFrame:
    "Each row's scores, mean over seeds, the interval of the first over speakers, and the ceilings of its role"
    runs, tops = read(folder), read_ceilings(folder).query("knobs == '{}'")
    mine = runs[runs["knobs"] == "{}"]
    out = mine.groupby("row", sort=False)[[c for c in SHOWN if c in mine]].mean().round(2)
    first = mine.drop_duplicates("row").set_index("row")
    out.insert(0, "method", first["method"].where(first.index.isin(PRIMARY), ""))  # a control has no method of its own
    if "encoder" in first: out.insert(0, "encoder", first["encoder"])
    out.insert(0, "role", first["dataset"])
    out.insert(2, "n_seeds", mine.groupby("row").size())
    if (Path(folder) / "answers.parquet").exists():
        at = out.columns.get_loc(SCORE) + 1
        for i, (end, values) in enumerate(over_speakers(folder).items()): out.insert(at + i, end, values.round(2))
    known = {c: score for c, score in CEILINGS.items() if score in tops}
    beside = mine.merge(tops, left_on=["dataset", "seed"], right_on=["role", "seed"], suffixes=("", "_of_oracle"))
    for c, score in known.items():  # of the row's own seeds: some rows have fewer
        column = f"{score}_of_oracle" if f"{score}_of_oracle" in beside else score
        out[c] = beside.groupby("row")[column].mean().round(2)
    out["closed"] = (100 * (out[f"true_{SCORE}"] - EVEN) / (out["true_ceiling"] - EVEN)).round(1)
    return out.reset_index()


def _difference(c: Paired) -> dict:
    "As a table without words carries it; the pages round it"
    return dict(difference=round(c.value, 4), low=round(c.low, 4), high=round(c.high, 4), sd=round(c.sd, 4),
                interval=side_of_zero(c))


def side_of_zero(c: Paired) -> str:
    "Where an interval lies; no word of the protocol, which tests against a margin and corrects for a family"
    return "above 0" if c.low > 0 else "below 0" if c.high < 0 else "holds 0"


def years_read_from(runs: pd.DataFrame, row: str) -> str:
    "The head whose classes a row's years are read from, as in `evaluation.expected_years`"
    mine = runs[runs["row"] == row]
    return "agesub" if "agesub_f1" in mine and mine["agesub_f1"].notna().any() else "agesup"


def other_table(folder: Path) -> pd.DataFrame:
    """The other scores of protocol 2 in each block's contrasts: exploratory, not corrected.

    Years read from different heads are not comparable, so MAE stands only where both rows have an agesub head or
    neither has one; the conflict rate needs both heads in both rows.
    """
    runs, out = read(folder), []
    for score, (_, better) in OTHERS.items():
        if score not in runs: continue
        for what, (of, than) in CONTRASTS.items():
            for block, rows in ASKED_BLOCKS.items():
                if of not in rows: continue
                row, base = rows[of], rows[than]
                if score == SCORE and (block, row, base) in declared().values(): continue
                if score == "mae_years" and years_read_from(runs, row) != years_read_from(runs, base): continue
                if len(d := seed_gains(runs, row, base, score)) < 2: continue
                c = paired_gains(d)
                paper = round(paper_gain(row, base, score), 2) if score in published() else None
                out.append(dict(score=score, contrast=what, block=block, row=row, against=base, n_seeds=c.n,
                                **_difference(c), better=better, paper=paper))
    return pd.DataFrame(out)


def compares_nothing(folder: Path) -> list[str]:
    "Blocks whose base closes less than half of the gap between chance and its ceiling"
    closed = score_table(folder).set_index("row")["closed"]
    return [b for b, r in ASKED_BLOCKS.items() if r["base"] in closed and closed[r["base"]] < 50]


def nearness_to_k(folder: Path) -> dict[str, pd.Series]:
    """Row → cosine of the student's features and the teacher's, which Eq. 2 raises, in the last epoch of training (the
    student hears mixtures), seed by seed; for the rows that have Eq. 2 with a cosine"""
    if not (path := Path(folder) / "curves.csv").exists(): return {}
    curves, runs = pd.read_csv(path, dtype={"row": str}), read(folder)
    last = curves[curves["knobs"] == "{}"].sort_values("epoch").groupby(["row", "seed"]).tail(1)
    weights = {row: o["dist_weight"] for row, recipe in zip(runs["row"], runs["recipe"])
               if (o := json.loads(recipe)["objective"])["dist"] == "cos"}
    of = lambda row: last[last["row"] == row].set_index("seed")["dist"]
    return {row: 1 - of(row) / w for row, w in weights.items()} if "dist" in last else {}


def on_two_machines(runs: pd.DataFrame, row: str, base: str, seeds, knobs: tuple[str, str] = ("{}", "{}")) -> int:
    "On how many of these seeds the two rows were trained on different devices: rounding differs there, too"
    if "device" not in runs: return 0
    of = [runs[(runs["row"] == r) & (runs["knobs"] == k)].set_index("seed")["device"].reindex(seeds)
          for r, k in zip((row, base), knobs)]
    return int((of[0] != of[1]).sum())


def control_table(folder: Path) -> pd.DataFrame:
    """What K is worth: each kind of K against none, and a trained teacher against one that never was, in the rows 4a, 6
    and 13; mixup alone; a plain third head. Beside it the difference as trained, how near Eq. 2 brings the row to its
    K, and on how many seeds the two rows come from different machines"""
    runs, near, out = read(folder), nearness_to_k(folder), []
    asks = []
    for row in ("4a", "6", "13"):
        asks += [(f"K {kind} − none, row {row}", k_row(row, kind), k_row(row, "none")) for kind in K_KINDS[1:]]
        if (alone := alone_row(row)) in ASKED_ALONE:
            asks.append((f"K causes − none, row {row}, X asked alone", alone, k_row(row, "none")))
        asks.append((f"K FCVG − untrained, row {row}", row, k_row(row, "untrained")))
    asks += [("mixup alone − base", "4a-none", "3"), ("third head, CE alone − base", "subce", "3"),
             ("+CH − third head, CE alone", "5", "subce")]
    for name, row, base in asks:
        if len(g := seed_gains(runs, row, base)) < 2: continue
        c = paired_gains(g)
        word = c.leaning if c.p < ALPHA else "undecided"
        plain = seed_gains(runs, row, base, f"as_trained_{SCORE}") if f"as_trained_{SCORE}" in runs else pd.Series()
        cosine = near[row].reindex(g.index).mean() if row in near else np.nan
        out.append(_line(name, c, None, None, word, row=row, against=base)
                   | dict(as_trained=round(plain.mean(), 2), cosine=round(cosine, 2),
                          two_machines=on_two_machines(runs, row, base, g.index)))
    return pd.DataFrame(out)


def _train(runs: pd.DataFrame, knobs: str, row: str) -> float:
    found = runs[(runs["knobs"] == knobs) & (runs["row"] == row)]["train_utterances"]
    return float(found.mean())


def dose_table(folder: Path) -> pd.DataFrame:
    """Gains at each dose, on the seeds that every level of the curve has, and by how much they have changed since the
    lowest dose, paired by seed; beside them the gain on true labels, the oracle's score, that of the teacher on its own
    corpus, the percentage of wrong age groups (who moves to the next decade may stay in the group), and on how many
    seeds the two rows come from different machines"""
    runs, out, wrong = read(folder), [], wrong_groups(folder)
    top = read_ceilings(folder).query("role == 'LTV+FCVE'")
    curves = {"speakers": (("6", "3"), ("5", "3"), ("6", "5")), "labels": (("6", "3"), ("5", "3")),
              "teacher": (("6", "5"), ("4a", "3"))}
    for curve, pairs in curves.items():
        levels = [(d.level, json.dumps(d.knobs.turned())) for d in DOSES if d.curve == curve]
        usual = {"speakers": None, "labels": .1, "teacher": 1.}[curve]  # the primary rows are a level of each curve
        if usual is not None: levels.append((usual, "{}"))
        least = {}
        for level, knobs in sorted(levels):
            per = {(r, b): _pair(runs, r, b, knobs, curve) for r, b in pairs}
            for (row, base), g in per.items():
                g = g[g.index < FIRST_SEED + DOSE_SEEDS]
                if len(g) < 2: continue
                c = paired_gains(g)
                since = (g - least.setdefault((row, base), g)).dropna()
                moved = {} if least[row, base] is g or len(since) < 2 else {
                    k: round(getattr(paired_gains(since), v), 2)
                    for k, v in (("change", "value"), ("change_low", "low"), ("change_high", "high"))}
                true = _pair(runs, row, base, knobs, curve, f"true_{SCORE}").reindex(g.index).mean()
                n = _train(runs, knobs, "1" if curve == "teacher" else row)
                score = float(_scores(runs, row, knobs)[g.index].mean())  # on the seeds of the gain
                k = float(_scores(runs, "1", knobs).reindex(g.index).mean())
                seen = top[(top["knobs"] == knobs) & (top["seed"].isin(g.index) if "seed" in top else True)]
                out.append(dict(curve=curve, level=level, row=row, against=base, train_utterances=n, n_seeds=c.n,
                                score=round(score, 2), teacher=round(k, 2), ceiling=round(seen[SCORE].mean(), 2),
                                gain=round(c.value, 2), low=round(c.low, 2),
                                high=round(c.high, 2), sd=round(c.sd, 2), true_gain=round(true, 2),
                                groups_wrong=round(wrong.get(knobs, pd.Series()).reindex(g.index).mean(), 1),
                                two_machines=on_two_machines(runs, row, base, g.index,
                                                             (knobs, _beside(curve, knobs)))) | moved)
    levels = pd.Series({c: len({o["level"] for o in out if o["curve"] == c}) for c in curves})
    return pd.DataFrame([o for o in out if levels[o["curve"]] > 1])  # one level is no curve


def _scores(runs, row, knobs, score=SCORE):
    mine = runs[(runs["row"] == row) & (runs["knobs"] == knobs)].set_index("seed")
    return mine[score] if score in mine else pd.Series(np.nan, mine.index)


def _beside(curve: str, knobs: str) -> str:
    "The knobs of what a row is held against: a teacher's dose leaves base and +CH as they are"
    return "{}" if curve == "teacher" else knobs


def _pair(runs, row, base, knobs, curve, score=SCORE):
    return (_scores(runs, row, knobs, score) - _scores(runs, base, _beside(curve, knobs), score)).dropna()


def wrong_groups(folder: Path) -> dict[str, pd.Series]:
    "Knobs → percentage of fresh speakers of LTV+FCVE whose observed age group is not their true one, seed by seed"
    if not (path := Path(folder) / "asked.parquet").exists(): return {}
    t = pd.read_parquet(path)
    if "true_agesup" not in t: return {}
    t = t[(t["role"] == "LTV+FCVE") & (t["split"] == "fresh")].reset_index(drop=True)
    wrong = 100. * (t["y_agesup"] != t["true_agesup"])
    return {knobs: part.groupby(t["seed"]).mean() for knobs, part in wrong.groupby(t["knobs"])}


def regime_table(folder: Path) -> pd.DataFrame:
    """Scores and gains where 180 speakers say 20 utterances each, by the way they are split; row 1 has no contrast.
    Beside the score of fresh speakers stands the oracle's"""
    runs, out = read(folder), []
    tops = read_ceilings(folder).groupby(["knobs", "role"])[SCORE].mean()
    for knobs in sorted(runs["knobs"].unique()):
        by = json.loads(knobs).get("by", "speaker")
        for tested, score in SCORE_BY_TESTED.items():
            for row in REGIME_ROWS:
                mine = runs[(runs["row"] == row) & (runs["knobs"] == knobs)]
                if mine.empty: continue
                line = dict(split_by=by, tested=tested, row=row, role=mine["dataset"].iloc[0],
                            method=mine["method"].iloc[0], n_seeds=len(mine), score=round(mine[score].mean(), 2))
                if score == SCORE: line |= dict(ceiling=round(tops.get((knobs, line["role"]), np.nan), 2))
                if row not in ("1", "3") and len(g := seed_gains(runs, row, "3", score, knobs)) > 1:
                    c = paired_gains(g)
                    line |= dict(gain=round(c.value, 2), low=round(c.low, 2), high=round(c.high, 2),
                                 paper=round(paper_gain(row, "3"), 2), excludes_paper=excludes(c, paper_gain(row, "3")))
                out.append(line)
    return pd.DataFrame(out)


def leak_table(folder: Path) -> pd.DataFrame:
    "What a split's own test set says more than fresh speakers do, paired by seed"
    runs, out = read(folder), []
    for knobs in sorted(runs["knobs"].unique()):
        for row in REGIME_ROWS:
            mine = runs[(runs["row"] == row) & (runs["knobs"] == knobs)]
            own, fresh = (mine[score] for score in SCORE_BY_TESTED.values())
            if not len(d := (own - fresh).dropna()): continue
            line = dict(split_by=json.loads(knobs).get("by", "speaker"), row=row, role=mine["dataset"].iloc[0],
                        method=mine["method"].iloc[0], n_seeds=len(d), own=round(own.mean(), 4),
                        fresh=round(fresh.mean(), 4), difference=round(d.mean(), 4))
            out.append(line | (_difference(paired_gains(d)) if len(d) > 1 else {}))
    return pd.DataFrame(out)


def _spanned(r, digits: int = 1) -> str:
    "A difference, with its interval where it has one"
    told = f"{r['difference']:+z.{digits}f}"
    if "low" not in r or pd.isna(r["low"]): return told
    return f"{told} {bounds(r['low'], r['high'], digits)}"


def leak_text(leak: pd.DataFrame) -> str:
    "What dealing utterances does to base on each corpus, in sentences"
    at, told = leak.set_index(["split_by", "row"]), []
    asked = {"3": "base (row 3)", "1": "the teacher on FCVG (row 1)"}
    for row, who in asked.items():
        if ("utterance", row) not in at.index: continue
        r = at.loc["utterance", row]
        told.append(f"{who} scores {r['own']:.1f} on the split's own test set and {r['fresh']:.1f} on fresh speakers, "
                    f"a difference of {_spanned(r)} points")
    if told: told = [f"Dealt by utterance, so that the voices of the test set are known from training, "
                     f"{'; '.join(told)}."]
    beside = [f"{_spanned(at.loc['speaker', row])} (row {row})" for row in asked if ("speaker", row) in at.index]
    if beside: told.append(f"Dealt by speaker, so that they are not, it is {' and '.join(beside)}.")
    new = leak[leak["split_by"] == "speaker"]
    if "interval" in leak and len(off := new[new["interval"].isin(["above 0", "below 0"])]): told.append(
        f"There {len(off)} of {len(new)} intervals leave{'s' * (len(off) == 1)} out 0: "
        + ", ".join(f"{_spanned(r)} (row {r['row']})" for _, r in off.iterrows()) + ".")
    if ("utterance", "1") in at.index: told.append(
        f"The paper prints {published().loc['1', SCORE]:.1f} for row 1. Its FCVG has about 850 utterances of a "
        "speaker; how large the difference is with so many, these records do not say.")
    return " ".join(told)


def regime_text(table: pd.DataFrame) -> str:
    "What the gains in the table of the regime say, in a sentence; scores are `leak_text`'s"
    if "gain" not in table or not len(gains := table[table["gain"].notna()]): return ""
    out = int(gains["excludes_paper"].sum())
    told = (f"{out} of {len(gains)} intervals of gains leave out the paper's."
            + " So here neither way of dealing makes gains like the paper's." * (out == len(gains)))
    own, fresh = (gains[gains["tested"] == who] for who in SCORE_BY_TESTED)
    if not (len(own) and len(fresh)): return told
    least, most = own.loc[own["gain"].idxmin()], own.loc[own["gain"].idxmax()]
    ends = " to ".join(f"{r['gain']:+z.1f} {bounds(r['low'], r['high'])} (row {r['row']}, dealt by {r['split_by']})"
                       for r in (least, most))
    return (f"{told} On the splits' own test sets the gains go from {ends}; on fresh speakers from "
            f"{fresh['gain'].min():+z.1f} to {fresh['gain'].max():+z.1f}.")


# ---- pictures

def _forest(ax, names, values, low, high):
    y = np.arange(len(names))[::-1]
    ax.axvspan(-MARGIN, MARGIN, color="0.92", lw=0)
    ax.axvline(0, color="0.5", lw=.8)
    ax.errorbar(values, y, xerr=[values - low, high - values], fmt="o", color=COLOURS[0], ms=4, lw=1.4)
    ax.set_yticks(y, names)
    ax.set_xlabel("gain in agesup macro F1 (points), 95 %")


def figure_family(table: pd.DataFrame, folder: Path):
    "The declared contrasts with their intervals, the gain of every seed, the paper's gain (in figures), and the word"
    seeds = declared_gains(Path(folder) / "decisive")
    with mpl.rc_context(STYLE):
        fig, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
        _forest(ax, table["contrast"], table["gain"], table["low"], table["high"])
        rows, beside = np.arange(len(table))[::-1], ax.get_yaxis_transform()  # x from 0 to 1 over the frame
        for y, (_, r) in zip(rows, table.iterrows()):
            of = seeds[r["contrast"]]
            ax.plot(of, np.full(len(of), y - .3), ".", color="0.6", ms=3, lw=0)
            ax.text(1.12, y, f"{r['paper']:+.1f}", transform=beside, va="center", ha="right", fontsize=7,
                    color=COLOURS[3])
            ax.text(1.16, y, r["word"], transform=beside, va="center", fontsize=7)
        for x, head, side in ((1.12, "paper", "right"), (1.16, "word", "left")):
            ax.text(x, len(table) - .3, head, transform=beside, va="bottom", ha=side, fontsize=7, color="0.4")
        save_figure(fig, folder, "decisive")
    return fig


K_TOLD = {"untrained": "never trained", "FCVG": "trained on FCVG", "causes": "the true causes",
          "alone": "the true causes, X asked alone"}
CONTROL_ROWS = {"4a": "+MKD", "6": "+MKD+CH", "13": "+MKD+CH, call centre"}


def by_kind(table: pd.DataFrame) -> pd.DataFrame:
    "The lines of the table of controls that ask for a kind of K, with the kind and the row of Table 1 in columns"
    names = table["contrast"].str.extract(r"^K (\w+) − none, row (\w+)(, X asked alone)?$")
    kinds = names[0].where(names[2].isna(), "alone")
    return table.assign(kind=kinds, of=names[1]).dropna(subset="kind")


def worth_of_k(table: pd.DataFrame) -> str:
    "What each kind of K is worth, in a sentence; empty where one has not been run"
    if not len(table): return ""
    k = by_kind(table)
    worth = {kind: f"{g['gain'].min():+z.1f} to {g['gain'].max():+z.1f}" for kind, g in k.groupby("kind")}
    if not set(K_KINDS[1:]) <= set(worth): return ""
    seeds = {kind: f"{g['n_seeds'].min()} seeds" for kind, g in k.groupby("kind")}
    low, high = (k.loc[k["kind"].isin(("FCVG", "untrained")), end] for end in ("low", "high"))
    widest = (high - low).idxmax()
    none = (f" (widest interval of the two {bounds(low[widest], high[widest])}"
            + "; all hold 0" * bool(((low <= 0) & (high >= 0)).all()) + ")")
    told = (f"K made of the true causes is worth {worth['causes']} points over no K ({seeds['causes']}), "
            f"K trained on FCVG {worth['FCVG']}, K never trained {worth['untrained']}{none}.")
    if "alone" not in worth: return told
    asked = k[k["kind"] == "alone"]
    known = asked["cosine"].dropna() if "cosine" in k else []
    cosines = f"; cosine to its target {known.min():.2f} to {known.max():.2f}" if len(known) else ""
    at = (asked["high"] - asked["low"]).idxmax()
    return (f"{told} A student that Eq. 2 pulls towards the true causes, while its heads never see K: {worth['alone']} "
            f"({seeds['alone']}, widest {bounds(asked.loc[at, 'low'], asked.loc[at, 'high'])}{cosines}).")


def only_causes_help(table: pd.DataFrame) -> bool:
    "Is K of the true causes *better* in every row that was asked with it, and no other K in any?"
    if "word" not in table: return False
    k = by_kind(table)
    better = k["word"] == "better"
    return bool(better.any() and (better == (k["kind"] == "causes")).all())


def controls_text(table: pd.DataFrame) -> str:
    "The same, and what it says about this pipeline"
    if not (told := worth_of_k(table)): return ""
    k = by_kind(table)
    able, alone = ((k.loc[k["kind"] == kind, "word"] == "better").all() for kind in ("causes", "alone"))
    if not able: return f"{told} The true causes do not help in every row, so this pipeline cannot test K everywhere."
    told += " So this pipeline can show a gain where K holds the true causes and the heads can read it beside X in Z."
    if (asked := k["kind"] == "alone").any() and not alone:
        told += " That the student takes the causes over through Eq. 2 is not shown"
        far = "cosine" in k and k.loc[asked, "cosine"].max() < .5
        told += ("; it stayed far from that target, so that these rows do not tell what a student would gain that "
                 "reached it" * bool(far) + ".")
    rows = k[k["kind"] == "FCVG"].groupby("word", sort=False)["of"].agg(list)
    said = {word: f"*{word}* (row{'s' * (len(of) > 1)} {', '.join(of)})" for word, of in rows.items()}
    told += f" K of the paper's kind of teacher, trained on FCVG, is {'; '.join(said.values())}."
    return told + " Where the word is *undecided*, so few seeds may miss a gain." * ("undecided" in said)


def others_in_columns(table: pd.DataFrame) -> pd.DataFrame:
    "A line a score and contrast, a column a block; empty where a score cannot be compared"
    said = [f"{_spanned(r, 2)}, {r['interval']}" for _, r in table.iterrows()]
    names = [f"{OTHERS[s][0]} ({OTHERS[s][1]} is better)" for s in table["score"]]
    wide = table.assign(score=names, said=said).pivot(index=["score", "contrast"], columns="block", values="said")
    order = pd.MultiIndex.from_product([dict.fromkeys(names), CONTRASTS])
    return wide.reindex(columns=list(ASKED_BLOCKS)).loc[[at for at in order if at in wide.index]].reset_index()


def others_text(table: pd.DataFrame) -> str:
    "Gains of the full method, of +CH and of what MKD adds to it, in gender and in the AUC of 60+; '' with one seed"
    told = []
    for score in ("gender_f1", "auc_60"):
        for what in ("+MKD+CH − base", "+CH − base", "+MKD+CH − +CH"):
            mine = table[(table["score"] == score) & (table["contrast"] == what)] if len(table) else table
            if not len(mine): continue
            paper = mine["paper"].map("{:+.1f}".format) if mine["paper"].notna().all() else None
            told.append(f"In {OTHERS[score][0]} {what} is "
                        + ", ".join(f"{_spanned(r, 2)} ({r['block']})" for _, r in mine.iterrows())
                        + (f"; the paper prints {', '.join(paper)}." if paper is not None else "."))
    return " ".join(told)


def figure_controls(table: pd.DataFrame, folder: Path):
    "What the teacher is worth"
    k = by_kind(table)
    with mpl.rc_context(STYLE):
        fig, ax = plt.subplots(figsize=(6.4, 2.8), layout="constrained")
        _forest(ax, [f"{CONTROL_ROWS[r['of']]}: K {K_TOLD[r['kind']]}" for _, r in k.iterrows()], k["gain"], k["low"],
                k["high"])
        ax.set_xlabel("gain over the same row without K, agesup F1 (points), 95 %")
        save_figure(fig, folder, "teacher_worth")
    return fig


DOSE_WORDS = {"speakers": "training speakers", "labels": "share of labels moved", "teacher": "speakers of the teacher"}
DOSE_GAINS = {("6", "3"): "+MKD+CH − base", ("5", "3"): "+CH − base", ("6", "5"): "+MKD+CH − +CH",
              ("4a", "3"): "+MKD − base"}
DOSE_LOOKS = dict(zip(DOSE_GAINS.values(), zip(COLOURS, "soD^")))  # a difference looks alike in all panels
DOSE_ASKED = {"speakers": "3", "labels": "3", "teacher": "5"}  # what +MKD+CH is held against, where a sentence tells it


def doses_shown(table: pd.DataFrame) -> list[str]:
    "Curves that have been run"
    return [c for c in DOSE_WORDS if len(table) and (table["curve"] == c).any()]


def ends_of_doses(table: pd.DataFrame) -> dict[str, list]:
    "Curve → its lines at the least and the greatest dose, +MKD+CH against what is asked of that curve"
    found = {}
    for curve in doses_shown(table):
        mine = table[(table["curve"] == curve) & (table["row"] == "6") & (table["against"] == DOSE_ASKED[curve])]
        found[curve] = [mine.loc[mine["level"].idxmin()], mine.loc[mine["level"].idxmax()]]
    return found


def _doses_of(curve: str, two) -> list[str]:
    return [f"{100 * r['level']:.0f} %" if curve == "labels" else f"{r['train_utterances']:,.0f}" for r in two]


def doses_text(table: pd.DataFrame) -> str:
    """The ends of each curve in a sentence, with the score of what is held against, and the change from end to end,
    paired by seed; empty before one has been run"""
    told = []
    for curve, two in ends_of_doses(table).items():
        at = _doses_of(curve, two)
        span = [f"{r['gain']:+z.1f} {bounds(r['low'], r['high'])}" for r in two]
        beside = [f"{r['score'] - r['gain']:.1f}" for r in two]
        pair = DOSE_GAINS["6", DOSE_ASKED[curve]]
        told.append(f"{pair} is {span[0]} points at {at[0]} and {span[1]} at {at[1]} ({DOSE_WORDS[curve]}; "
                    f"{pair.rpartition(' ')[2]} itself scores {beside[0]} and {beside[1]}), a change of "
                    f"{two[1]['change']:+z.1f} {bounds(two[1]['change_low'], two[1]['change_high'])}")
    return f"{'; '.join(told)} ({int(table['n_seeds'].min())} seeds)." if told else ""


def doses_verdict(table: pd.DataFrame) -> str:
    "Over how many curves the gain of +MKD+CH changes from end to end for sure; '' before one has been run"
    if not (found := ends_of_doses(table)): return ""
    clear = [c for c, (_, r) in found.items() if r["change_low"] > 0 or r["change_high"] < 0]
    seeds = int(table["n_seeds"].min())
    if not clear:
        return f"In no panel ({len(found)}) is a change from end to end clear; {seeds} seeds show only large ones."
    return f"In {len(clear)} of {len(found)} panels the gain changes (intervals without 0; {seeds} seeds)."


def doses_in_short(table: pd.DataFrame) -> str:
    "The first curve's ends and the change between them, and the verdict"
    if not (found := ends_of_doses(table)): return ""
    curve, (least, most) = next(iter(found.items()))
    at = _doses_of(curve, (least, most))
    return (f"{DOSE_GAINS['6', DOSE_ASKED[curve]]} goes from {least['gain']:+z.1f} to {most['gain']:+z.1f} between "
            f"{at[0]} and {at[1]} ({DOSE_WORDS[curve]}), a change of {most['change']:+z.1f} "
            f"{bounds(most['change_low'], most['change_high'])}. {doses_verdict(table)}")


def figure_doses(table: pd.DataFrame, folder: Path):
    "Gain against training speakers, against wrong labels, against what the teacher learnt from"
    with mpl.rc_context(STYLE):
        shown = doses_shown(table)
        fig, axes = plt.subplots(1, len(shown), figsize=(2.8 * max(len(shown), 2), 2.7), layout="constrained",
                                 sharey=True, squeeze=False)
        for ax, curve in zip(axes[0], shown):
            mine = table[table["curve"] == curve]
            ax.axhspan(-MARGIN, MARGIN, color="0.92", lw=0)
            ax.axhline(0, color="0.5", lw=.8)
            pairs, taught = mine.groupby(["row", "against"]), mine["train_utterances"]
            for i, ((row, base), part) in enumerate(pairs):
                aside = i - (len(pairs) - 1) / 2
                x = (part["level"] + .006 * aside if curve == "labels" else
                     part["train_utterances"] * (taught.max() / taught.min())**(.02 * aside))
                colour, mark = DOSE_LOOKS[DOSE_GAINS[row, base]]
                ax.errorbar(x, part["gain"], yerr=[part["gain"] - part["low"], part["high"] - part["gain"]],
                            fmt=f"{mark}-", color=colour, ms=4, lw=1.2, label=DOSE_GAINS[row, base])
            if curve != "labels":
                ax.set_xscale("log")
                k = mine.groupby("train_utterances")["teacher"].mean() if "teacher" in mine else {}
                scored = curve == "teacher" and len(k)
                at = sorted(set(mine["train_utterances"]))
                ax.set_xticks(at, [f"{n:,.0f}" + f"\n(K: {k[n]:.0f})" * bool(scored) for n in at])
                ax.xaxis.set_minor_locator(mpl.ticker.NullLocator())
            ax.tick_params(axis="x", labelsize=7)
            ax.set_xlabel(DOSE_WORDS[curve])
        axes[0, 0].set_ylabel("gain in agesup F1 (points), 95 %")
        found = {label: h for ax in axes.flat for h, label in zip(*ax.get_legend_handles_labels())}
        fig.legend(found.values(), found, loc="outside upper center", ncols=len(found), frameon=False, fontsize=7)
        save_figure(fig, folder, "doses")
    return fig


TESTED_TOLD = dict(zip(SCORE_BY_TESTED, ("the split's own test set", "fresh speakers")))
REGIME_NAMES = {"1": "base on FCVG", "3": "base", "5": "+CH", "6": "+MKD+CH"}


def figure_regime(table: pd.DataFrame, folder: Path):
    "Scores by split and by who is tested; under them, from two seeds on, gains over base, and the paper's"
    told = "gain" in table
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(1 + told, 2, figsize=(6.4, 4.2 if told else 2.6), layout="constrained", squeeze=False,
                                 sharex=True, sharey="row", height_ratios=(3, 2)[:1 + told])
        for (top, *low), (by, part) in zip(axes.T, table.groupby("split_by", sort=False)):
            for i, (tested, t) in enumerate(part.groupby("tested", sort=False)):
                x = np.arange(len(t)) + .4*(i - .5)
                top.bar(x, t["score"], .38, color=COLOURS[i], label=f"tested on {TESTED_TOLD[tested]}")
                for at, v in zip(x, t["score"]): top.text(at, v + 1, f"{v:.0f}", ha="center", fontsize=7)
                for ax in low:
                    ax.vlines(x, t["low"], t["high"], color=COLOURS[i], lw=2.5)
                    ax.plot(x, t["gain"], "o", ms=4, color=COLOURS[i])
            for ax in low:
                ax.axhline(0, color="0.3", lw=.8)
                ax.hlines(t["paper"], x - .6, x + .2, color="0.3", ls=(0, (2, 1)), label="the paper's gain")
            (top, *low)[-1].set_xticks(range(len(t)), [REGIME_NAMES[r] for r in t["row"]], fontsize=7)
            top.set_title(f"dealt by {by}", loc="left")
        axes[0, 0].set(ylabel="agesup macro F1 (%)", ylim=(0, 100))
        if told: axes[1, 0].set_ylabel("gain over base\n(points)")
        handles = [h for ax in axes[:, 0] for h in ax.get_legend_handles_labels()[0]]
        fig.legend(handles=handles, loc="outside upper right", ncols=3, frameon=False, fontsize=7)
        save_figure(fig, folder, "regime")
    return fig


# ---- tables on disk

def write(folder: Path, sheet: str) -> dict[str, pd.DataFrame]:
    "The tables of a sheet, from its records alone"
    folder = Path(folder)
    made = ({"decisive": family_table, "decisive-scores": score_table, "decisive-controls": control_table,
             "decisive-doses": dose_table, "decisive-others": other_table} if sheet == "decisive" else
            {"regime": regime_table, "regime-leak": leak_table})
    tables = {name: make(folder / sheet) for name, make in made.items()}
    for name, table in tables.items(): write_text(folder / f"{name}.csv", table.to_csv(index=False))
    return tables
