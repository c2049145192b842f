"""From records to what a reader opens: runs.csv, table1.csv/.md/.tex, gains.csv and figures

Nothing is measured here.
"""
from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from mkdcls.engine.store import PROJECT, differences, plain, writable, write_table, write_text
from mkdcls.evaluation import Contrast, bootstrap, confusion, contrast, holm, prf, scorecard, status
from mkdcls.labels import TASKS
from mkdcls.results.runner import Runner
from mkdcls.runs import labels_of, preset_of, role_manifest, table1_rows
from mkdcls.scm import posterior, truth
from mkdcls.standin import STANDINS

SCORE_COLUMNS = ("p", "r", "f1")
BLOCKS = {"ECAPA-TDNN, LTV+FCVE": ("3", "4a", "4b", "5", "6"), "ResNet, LTV+FCVE": ("7", "8", "9", "10"),
          "ECAPA-TDNN, call centre": ("11", "12", "13")}
ENCODER = {"ecapa": "ECAPA-TDNN", "resnet": "ResNet"}
IDENTITY = ["row", "encoder", "dataset", "method", "kd_loss", "corpus", "preset", "protocol", "n_seeds"]
ANSWERS, RECORDS = "predictions.parquet", "runs.csv"
YOURS = "rows of your own"  # the block of gains that holds them


def published() -> pd.DataFrame:
    "Table 1 as the paper prints it, by row"
    return pd.read_csv(PROJECT / "paper" / "published" / "table1.csv", dtype={"row": str}).set_index("row")


def default_folder(corpus_name: str) -> Path:
    "Where a sheet's results are left"
    return PROJECT / "paper" / "results" / corpus_name


def _lines(table: pd.DataFrame, row: str, seed: int) -> pd.DataFrame:
    return table.assign(row=row, seed=np.int16(seed))


def _named_apart(runner, rows):
    "A row that bears a name of Table 1 must be that row"
    for r, of_preset in runner.preset.scheduled(**runner.schedule).rows(runner.corpus).items():
        if r in rows and (moved := differences(plain(of_preset), plain(runner.rows[r]))):
            raise ValueError(f"row {r} is not Table 1's ({'; '.join(moved[:2])}): give it a name of its own, "
                             f"like(rows[{r!r}], 'mine', ...), and it stands beside it")


def record_line(runner: Runner, row: str, seed: int, rec) -> dict:
    "A finished run as one flat line: identity, provenance and scores"
    r, where = runner.rows[row], rec["provenance"]
    knobs = {"knobs": json.dumps(turned)} if (turned := runner.knobs.turned()) else {}
    head = dict(row=row, seed=seed, **knobs, key=rec["key"], encoder=ENCODER.get(r.family, r.family),
                dataset=r.role, method=r.method, kd_loss=r.objective.dist if r.objective.dist != "none" else "",
                corpus=rec["corpus"], preset=rec["preset"], protocol=rec["identity"]["protocol"],
                data=rec["identity"]["data"], code=json.dumps(rec["identity"]["code"]),
                recipe=json.dumps(rec["identity"]["recipe"]), parents=json.dumps(rec["identity"]["parents"]),
                commit=where["commit"], device=where["device"], python=where["python"],
                versions=json.dumps(where["versions"]), finished=where["finished"], params=rec["params"],
                student_params=rec["student_params"], train_s=round(rec["train_s"], 1),
                total_s=round(rec["total_s"], 1), test_speakers=rec["test_speakers"],
                **{f"{s}_utterances": n for s, n in rec["utterances"].items()})
    if getattr(r, "against", None): head |= {"against": r.against}
    if mine := rec["identity"].get("yours"): head |= {"yours": json.dumps(mine)}
    return head | {k: round(v, 6) for k, v in rec["metrics"].items()}


def publish(parts: list[tuple[Runner, list[tuple[str, int]]]], folder: Path) -> Path:
    "Copy every finished run of these plans into one folder: identity, provenance and scores flat, answers line by line"
    folder = writable(Path(folder))
    flat, answers, curves = [], [], []
    for runner, plan in parts:
        if isinstance(runner, Runner): _named_apart(runner, {row for row, _ in plan})
        for row, seed in plan:
            if (rec := runner.record(row, seed)) is None: continue
            flat.append(line := record_line(runner, row, seed, rec))
            knobs = {"knobs": line["knobs"]} if "knobs" in line else {}
            answers.append(_lines(runner.store.predictions(row, seed, rec["key"]), row, seed).assign(**knobs))
            curves.append(pd.DataFrame(rec["curves"]).assign(row=row, seed=seed, **knobs))
    if not flat: raise ValueError("no finished run of this plan: nothing to publish; run it first")
    lines = pd.concat(answers, ignore_index=True)
    lines["speaker"] = lines["speaker"].map({s: f"s{i:05d}" for i, s in enumerate(sorted(lines["speaker"].unique()))})
    lines["utterance"] = lines["utterance"].map({s: f"u{i:06d}"
                                                 for i, s in enumerate(sorted(lines["utterance"].unique()))})
    for c in lines.columns[lines.columns.str.contains("_logit")]: lines[c] = lines[c].astype("float32").round(3)
    for c in lines.columns:
        if lines[c].dtype == "float64": lines[c] = lines[c].astype("Int8")
    write_table(folder / ANSWERS, lines)
    for name, table in ((RECORDS, pd.DataFrame(flat)), ("curves.csv", pd.concat(curves, ignore_index=True).round(5))):
        write_text(folder / name, table.to_csv(index=False))
    return folder


def read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    "Records and answers as they were published"
    folder = Path(folder)
    for name in (RECORDS, ANSWERS):
        if not (folder / name).exists():
            raise FileNotFoundError(f"no {name} in {folder}: publish the runs first (make table1)")
    runs = pd.read_csv(folder / RECORDS, dtype={"row": str, "kd_loss": str, "protocol": str, "against": str},
                       keep_default_na=True)
    runs["kd_loss"] = runs["kd_loss"].fillna("")
    return runs, pd.read_parquet(folder / ANSWERS)


def rows_of_yours(runs: pd.DataFrame) -> list[str]:
    "Rows that are not Table 1's, in the order in which they were published"
    return [r for r in runs["row"].unique() if r not in table1_rows()]


def tasks_of_yours(runs: pd.DataFrame) -> dict[str, int]:
    "Tasks that are not the paper's → how many classes"
    found = runs["yours"].dropna().unique() if "yours" in runs else []
    return {k.removeprefix("task "): len(v["classes"]) for mine in found for k, v in json.loads(mine).items()
            if k.startswith("task ")}


def _matrices(lines: pd.DataFrame, task: str, many: dict) -> np.ndarray:
    speakers = np.unique(lines["speaker"], return_inverse=True)[1]
    return confusion(lines[f"y_{task}"].to_numpy(int), lines[task].to_numpy(int), many[task], speakers)


def _replicates(runs, lines, rows, task, scope=None, draws=2000):
    "Paired replicates [draws, rows, 3] of P, R, F1 on the seeds that all rows have"
    if scope: lines = lines[lines["corpus"] == scope]
    seeds = sorted(set.intersection(*(set(runs.loc[runs["row"] == r, "seed"]) for r in rows)))
    parts = {key: part for key, part in lines[lines["row"].isin(rows)].groupby(["row", "seed"])}
    if not seeds or any((r, s) not in parts for r in rows for s in seeds): return None, 0
    many = TASKS | tasks_of_yours(runs)
    cms = [[_matrices(parts[r, s], task, many) for r in rows] for s in seeds]
    point = np.mean([[prf(m.sum(0)) for m in per_seed] for per_seed in cms], 0)
    return (point, bootstrap(cms, prf, draws)), len(seeds)


def held_against_each(runs, lines, pairs, task, draws=2000) -> dict[tuple[str, str], tuple[Contrast, np.ndarray]]:
    """`held_against` for many pairs `(base, row)` of rows that share a seed.

    Replicates depend on the seeds and the number of speakers, not on the rows: pairs that share both are counted on one
    drawing of them.
    """
    have = runs.groupby("row")["seed"].agg(frozenset)
    speakers = lines.groupby(["row", "seed"])["speaker"].nunique()
    together = {}
    for base, row in dict.fromkeys(pairs):
        seeds = sorted(have[base] & have[row])
        tested = tuple((seed, speakers[row, seed]) for seed in seeds)
        together.setdefault(tested, []).append((base, row))
    out = {}
    for group in together.values():
        rows = sorted({r for pair in group for r in pair})
        (points, replicates), n = _replicates(runs, lines, rows, task, draws=draws)
        for pair in group:
            two = [rows.index(r) for r in pair]
            out[pair] = contrast(points[two, 2], replicates[:, two, 2], n), points[two, 2]
    return out


def held_against(runs, lines, base, row, task, scope=None, draws=2000) -> tuple[Contrast | None, np.ndarray | None]:
    """Macro F1 of a row less that of another on the same seeds and speakers, and the two scores `[2]`: the other's,
    the row's; None where no seed has both"""
    found, n = _replicates(runs, lines, [base, row], task, scope, draws)
    return (contrast(found[0][:, 2], found[1][..., 2], n), found[0][:, 2]) if found else (None, None)


def scored_on(row) -> tuple[str, ...]:
    "Tasks that a published row is scored on"
    if row["row"] in table1_rows(): return tuple(t for t in TASKS if t != "agesub" or "CH" in row["method"])
    tasks = json.loads(row["recipe"])["tasks"]
    summed = ("agesup",) * ("agesub" in tasks)  # agesub's probabilities are summed where agesup has no head
    return tuple(dict.fromkeys([*(t for t in TASKS if t in (*tasks, *summed)), *tasks]))


def table1(folder: Path) -> pd.DataFrame:
    "Table 1: ours with intervals beside the paper's, from the published records alone"
    runs, lines = read(folder)
    paper, out, own, more = published(), [], rows_of_yours(runs), tasks_of_yours(runs)
    for row in (*table1_rows(), *own):
        mine = runs[runs["row"] == row]
        if mine.empty: continue
        first = mine.iloc[0]
        entry = {k: first[k] for k in IDENTITY if k != "n_seeds"} | {"n_seeds": len(mine)}
        for task in (*TASKS, *more):
            found = _replicates(runs, lines, [row], task)[0] if task in scored_on(first) else None
            for i, part in enumerate(SCORE_COLUMNS):
                entry[f"{task}_{part}"] = round(found[0][0, i], 2) if found else None
                entry[f"{task}_{part}_ci95"] = (json.dumps([round(v, 2) for v in np.percentile(found[1][:, 0, i],
                                                                                               [2.5, 97.5])])
                                                if found else None)
        mean = lambda name, mine=mine: (round(mine[name].mean(), 2)
                                        if name in mine and mine[name].notna().any() else None)
        entry |= {f"as_trained_{t}_f1": mean(f"as_trained_{t}_f1")
                  for t in TASKS} | {f"ltv_{t}_f1": mean(f"LTV_{t}_f1") for t in TASKS}
        entry |= {"conflict_rate": mean("conflict_rate"), "params": int(first["params"]),
                  "train_s": round(mine["train_s"].mean(), 1)}
        entry |= {f"paper_{t}_{p}": None if row in own else paper.loc[row, f"{t}_{p}"]
                  for t in ("gender", "agesup") for p in SCORE_COLUMNS}
        if own: entry |= {"yours": row in own, "against": first.get("against") if row in own else None}
        out.append(entry)
    return pd.DataFrame(out)


def gains(folder: Path) -> pd.DataFrame:
    "Each method against the base of its block: our gain with its interval, the paper's, and the protocol's word for it"
    runs, lines = read(folder)
    paper, out, found = published(), [], []
    evidence = preset_of(runs["preset"].iloc[0]).evidence
    for block, rows in BLOCKS.items():
        have = [r for r in rows if (runs["row"] == r).any()]
        base = rows[0]
        for task in ("agesup", "gender"):
            for scope in (None, "LTV"):
                if scope and not ((lines["row"] == base) & (lines["corpus"] == scope)).any(): continue
                if scope and "call" in block: continue
                for row in have[1:] if base in have else []:
                    c, _ = held_against(runs, lines, base, row, task, scope)
                    if c is None: continue
                    first = runs[runs["row"] == row].iloc[0]
                    theirs = paper.loc[row, f"{task}_f1"] - paper.loc[base, f"{task}_f1"]
                    mean = lambda row, name: runs.loc[runs["row"] == row, name].mean() if name in runs else None
                    plain = mean(row, f"as_trained_{task}_f1"), mean(base, f"{task}_f1")
                    out.append(dict(block=block, row=row, base_row=base, method=first["method"],
                                    kd_loss=first["kd_loss"], task=task, scope=scope or "pooled",
                                    primary=first["method"] == "+MKD+CH" and task == "agesup" and scope is None,
                                    corpus=first["corpus"], preset=first["preset"],
                                    protocol=first["protocol"], n_seeds=c.n, gain=round(c.value, 2),
                                    low=round(c.low, 2), high=round(c.high, 2),
                                    as_trained=None if scope or any(map(pd.isna, plain))
                                    else round(plain[0] - plain[1], 2),
                                    paper_gain=round(theirs, 2), p=round(c.p, 4), status=""))
                    found.append((c, theirs))
    for row, base, task in _own_pairs(runs, lines):
        c, _ = held_against(runs, lines, base, row, task)
        first, mean = runs[runs["row"] == row].iloc[0], runs.groupby("row").mean(numeric_only=True)
        trained = mean[f"as_trained_{task}_f1"].dropna() if f"as_trained_{task}_f1" in mean else {}
        plain = [trained.get(r, mean.loc[r, f"{task}_f1"]) for r in (row, base)]
        out.append(dict(block=YOURS, row=row, base_row=base, method=first["method"], kd_loss=first["kd_loss"],
                        task=task, scope="pooled", primary=False, corpus=first["corpus"], preset=first["preset"],
                        protocol=first["protocol"], n_seeds=c.n, gain=round(c.value, 2), low=round(c.low, 2),
                        high=round(c.high, 2),
                        as_trained=round(plain[0] - plain[1], 2) if row in trained or base in trained else None,
                        paper_gain=None, p=round(c.p, 4), status=""))
        found.append((c, None))
    table = pd.DataFrame(out)
    if len(table):
        for family in (~table["primary"] & (table["block"] != YOURS), table["block"] == YOURS):
            if family.any(): table.loc[family, "p_holm"] = holm(table.loc[family, "p"].to_numpy()).round(4)
        table["status"] = [status(c, theirs, p=p, evidence=evidence) for (c, theirs), p in zip(found, table["p_holm"])]
    return table


def _own_pairs(runs, lines) -> list[tuple[str, str, str]]:
    "What each row of one's own is held against, for every task that both have on a common seed"
    out, seeds = [], runs.groupby("row")["seed"].agg(set)
    have = {(row, task) for row, part in lines.groupby("row") for task in (*TASKS, *tasks_of_yours(runs))
            if task in part and part[task].notna().all()}
    for row in rows_of_yours(runs):
        base = runs.loc[runs["row"] == row].iloc[0].get("against")
        if pd.isna(base) or base not in seeds or not seeds[row] & seeds[base]: continue
        out += [(row, base, task) for task in ("agesup", "gender", *tasks_of_yours(runs))
                if {(row, task), (base, task)} <= have]
    return out


def without_gain(runs: pd.DataFrame, lines: pd.DataFrame) -> list[str]:
    "A line for each row of one's own that has no gain: why"
    compared, lines_of = {row for row, _, _ in _own_pairs(runs, lines)}, []
    seeds = runs.groupby("row")["seed"].agg(set)
    for row in rows_of_yours(runs):
        if row in compared: continue
        base = runs.loc[runs["row"] == row].iloc[0].get("against")
        why = ("it declares no row that it is held against (against=...)" if pd.isna(base)
               else f"row {base}, which it is held against, has no run on the same seeds here"
               if not seeds.get(base, set()) & seeds[row]
               else f"it has no task in common with row {base}")
        lines_of.append(f"Row {row} has no gain: {why}.")
    return lines_of


def about(runs: pd.DataFrame, folds: bool = True) -> str:
    "One sentence on what the numbers are; `folds`: a seed of real speech is one of five folds"
    first, n = runs.iloc[0], runs["seed"].nunique()
    what = {"standin": "synthetic stand-in speech, not the paper's corpora",
            "real": "real human speech (Speech Accent Archive, Common Voice 6.1), not the paper's corpora"}
    which = (f" (fold{'s' * (n > 1)} {', '.join(map(str, sorted(runs['seed'].unique())))} of 5)" if folds
             and first["corpus"] == "real" else "")
    seeds = f"{n} seed{'s' * (n > 1)}{which}"
    spent = runs["total_s"].sum()
    minutes = f"{spent / 60:.0f} min" if spent >= 90 else f"{spent:.0f} s"
    smoke = ("" if preset_of(first["preset"]).evidence
             else " PLUMBING CHECK: these numbers are not evidence of anything.")
    return (f"Measured on {what.get(first['corpus'], 'corpora of your own')}; preset {first['preset']}, {seeds}, "
            f"protocol {first['protocol']}, "
            f"{' and '.join(runs['device'].unique())}, {minutes} summed over rows.{smoke}")


def f1_cell(row, task: str) -> str:
    "F1 of a task with its interval; empty where the row has no such head"
    if pd.isna(row[f"{task}_f1"]): return ""
    low, high = json.loads(row[f"{task}_f1_ci95"])
    return f"{row[f'{task}_f1']:.1f} [{low:.1f}, {high:.1f}]"


def as_number(v, f: str = ".1f") -> str:
    "A number as a table shows it; empty where there is none"
    return "" if v is None or pd.isna(v) else format(v, f)


def one_answer(lines: pd.DataFrame, task: str = "agesup", share: float = .98) -> set[str]:
    "Rows whose answers are one class for at least this share of the test utterances"
    answered = lines[lines[task].notna()] if task in lines else lines[:0]
    return {row for row, part in answered.groupby("row") if part[task].value_counts(normalize=True).iloc[0] >= share}


FLAT = ("† One class is answered for at least 98 % of the test utterances: this is the score of a constant answer, "
        "and compares nothing.\n")
SMALL = ("‡ The base of this block closes less than half of the gap between chance and the oracle on these speakers: "
         "by the protocol, too small to compare anything.\n")


def too_small(folder: Path) -> set[str]:
    """Rows of the blocks whose base closes less than half of the gap (protocol, section 3)

    Only the stand-in knows its gap.
    """
    closed = gap_closed(folder)
    return {row for block in BLOCKS.values() if block[0] in closed.index and closed.loc[block[0], CLOSED] < 50
            for row in block}


def marks(folder: Path) -> dict[tuple[str, str], str]:
    "(row, task) → the marks of its score, where it has any; ‡ is for age alone"
    runs, lines = read(folder)
    flat = {(row, task) for task in ("gender", "agesup", *tasks_of_yours(runs)) for row in one_answer(lines, task)}
    small = {(row, "agesup") for row in too_small(folder)}
    return {at: " " + "†" * (at in flat) + "‡" * (at in small) for at in flat | small}


def footnotes(marked: dict) -> str:
    return "".join(text for mark, text in (("†", FLAT), ("‡", SMALL)) if any(mark in m for m in marked.values()))


def shown(table: pd.DataFrame, marked: dict) -> pd.DataFrame:
    "Table 1 as a reader wants it: F1 with its interval beside the paper's, with the marks of `marks`"
    said = lambda v: pd.notna(v) and bool(v)  # a table read back has NaN where nothing was said
    name = lambda r: (r["method"] + (f" ({r['kd_loss']})" if said(r["kd_loss"]) else "")
                      + (f" (yours, against {r['against']})" if said(r.get("against"))
                         else " (yours)" * said(r.get("yours"))))
    more = [t for c in table if c.endswith("_f1_ci95") and (t := c.removesuffix("_f1_ci95")) not in TASKS]
    cell = lambda r, task: f1_cell(r, task) + marked.get((r["row"], task), "")
    return pd.DataFrame([{"row": r["row"], "encoder": r["encoder"], "data": r["dataset"], "method": name(r),
                          "gender F1 [95 %]": cell(r, "gender"),
                          "paper": as_number(r["paper_gender_f1"], ".2f"),
                          "agesup F1 [95 %]": cell(r, "agesup"), "paper ": as_number(r["paper_agesup_f1"], ".2f"),
                          "agesup as trained": as_number(r["as_trained_agesup_f1"]),
                          "agesup LTV only": as_number(r["ltv_agesup_f1"]), "agesub F1": as_number(r["agesub_f1"]),
                          **{f"{t} F1 [95 %]": cell(r, t) for t in more}, "conflicts %": as_number(r["conflict_rate"]),
                          "parameters": f"{r['params']:,}",
                          "train s": as_number(r["train_s"], ".0f")}
                         for _, r in table.iterrows()])


def as_markdown(table: pd.DataFrame) -> str:
    "A table in markdown, every cell as it stands"
    filled = table.astype(str).astype(object).where(table.notna(), "")  # what is missing stays empty
    cells = [list(map(str, table.columns))] + [["---"] * table.shape[1]] + filled.values.tolist()
    return "\n".join("| " + " | ".join(c.strip() for c in line) + " |" for line in cells) + "\n"


def bounds(low: float, high: float, digits: int = 1) -> str:
    "An interval; an end that rounds to 0 keeps its sign, which says whether the interval holds 0"
    return f"[{low:+.{digits}f}, {high:+.{digits}f}]"


def gain_cell(g, marked: dict) -> str:
    "A gain with its interval; nothing where one of the two rows answers one class to everybody"
    if any("†" in marked.get((r, g["task"]), "") for r in (g["row"], g["base_row"])): return "†"
    return f"{g['gain']:+z.1f} {bounds(g['low'], g['high'])}" + marked.get((g["row"], g["task"]), "")


def shown_gains(table: pd.DataFrame, marked: dict) -> pd.DataFrame:
    "Gains as a reader wants them"
    name = lambda g: (g["method"] + (f" ({g['kd_loss']})" if g["kd_loss"] else "") + (" ◆" if g["primary"] else "")
                      + (f" (yours, against {g['base_row']})" if g["block"] == YOURS else ""))
    task = lambda g: g["task"] + ("" if g["scope"] == "pooled" else f", {g['scope']} only")
    return pd.DataFrame([{"block": g["block"], "row": g["row"], "method": name(g), "task": task(g),
                          "paper": as_number(g["paper_gain"], "+z.2f"),
                          "gain [95 %]": gain_cell(g, marked), "as trained": as_number(g["as_trained"], "+z.1f"),
                          "status": g["status"]} for _, g in table.iterrows()])


NOTES = """Macro F1 in percent; interval: 95 % hierarchical bootstrap over seeds and speakers. Rows trained on x_mixup \
are scored with BatchNorm statistics
re-estimated on x_normal of the training set; "as trained" is the score without that. Labels are scored as observed. \
"LTV only" leaves out the studio corpus
of the elderly, whose sound gives them away. "Conflicts" is the share of test utterances whose two age answers \
contradict each other. "Parameters" counts all
that must be shipped, the teacher inside +MKD rows included; "train s" does not count the teacher's own row. Row 4b is \
the bracketed line of the paper's
table, read as differences to the line above it. The hashes of modules in runs.csv identify the code of a run; a + \
after its commit says that the working
tree differed from it.
"""


OWN_NOTE = """Rows marked (yours) are not the paper's. Their gains are over the row named there, and are corrected \
(Holm) among themselves.
"""


def markdown(folder: Path, table: pd.DataFrame, contrasts: pd.DataFrame) -> str:
    "table1.md"
    (runs, lines), marked = read(folder), marks(folder)
    own = (OWN_NOTE + "".join(f"{line}\n" for line in without_gain(runs, lines))) if rows_of_yours(runs) else ""
    return (f"# Table 1\n\n{about(runs)}\n\n{as_markdown(shown(table, marked))}\n{NOTES}{own}{footnotes(marked)}\n## "
            "Gains over the base of each block\n\n"
            "◆ marks the primary contrast of a block. Words as in protocol 1, section 4; fewer than 5 seeds decide "
            "nothing. \"As trained\": the gain of a row with MKD "
            "without re-estimating its BatchNorm statistics; base never has that done.\n\n"
            f"{as_markdown(shown_gains(contrasts, marked))}")


def latex(folder: Path, table: pd.DataFrame) -> str:
    "table1.tex, for the package booktabs"
    runs, _ = read(folder)
    esc = lambda s: str(s).replace("%", r"\%").replace("_", r"\_").replace("&", r"\&")
    keep = ["row", "encoder", "data", "method", "gender F1 [95 %]", "paper", "agesup F1 [95 %]", "paper ", "agesub F1"]
    body, last = [], None
    for _, r in shown(table, {})[keep].iterrows():
        if last not in (None, (r["encoder"], r["data"])): body.append(r"\midrule")
        last = (r["encoder"], r["data"])
        body.append(" & ".join(esc(v) for v in r) + r" \\")
    return "\n".join([f"% {about(runs)}", r"\begin{tabular}{llllrrrrr}", r"\toprule",
                      " & ".join(esc(k.strip()) for k in keep) + r" \\", r"\midrule",
                      *body, r"\bottomrule", r"\end{tabular}", ""])


def write(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    "All tables of a folder from its records"
    folder = Path(folder)
    table, contrasts = table1(folder), gains(folder)
    for name, text in (("table1.csv", table.to_csv(index=False)), ("gains.csv", contrasts.to_csv(index=False)),
                       ("table1.md", markdown(folder, table, contrasts)), ("table1.tex", latex(folder, table))):
        write_text(folder / name, text)
    return table, contrasts


def check_folder(folder: Path) -> list[str]:
    "What in a folder does not follow from its own records; empty where all agrees"
    folder, wrong = Path(folder), []
    runs, lines = read(folder)
    for _, r in runs.iterrows():
        part = lines[(lines["row"] == r["row"]) & (lines["seed"] == r["seed"])]
        for name, value in scorecard(part.dropna(axis=1, how="all"), scored_on(r), tasks_of_yours(runs)).items():
            if name not in r or not abs(r[name] - value) <= 1e-4:  # a missing number is wrong too
                wrong.append(f"runs.csv row {r['row']} seed {r['seed']}: {name} is {r.get(name)}, "
                             f"the answers give {value:.4f}")
    table, contrasts = table1(folder), gains(folder)
    for name, text in (("table1.csv", table.to_csv(index=False)), ("gains.csv", contrasts.to_csv(index=False)),
                       ("table1.md", markdown(folder, table, contrasts)), ("table1.tex", latex(folder, table))):
        if not (folder / name).exists() or (folder / name).read_text(encoding="utf-8") != text:
            wrong.append(f"{name} is not what the records give; write it again with mkdcls.results.report.write")
    return wrong


def diagnostics(folder: Path) -> pd.DataFrame:
    "agesup F1 of each row: headline, as trained, K silenced, X silenced, against true labels (mean over seeds)"
    runs, _ = read(folder)
    names = {"agesup_f1": "headline", "as_trained_agesup_f1": "as trained", "no_k_agesup_f1": "K zeroed",
             "no_x_agesup_f1": "X zeroed",
             "true_agesup_f1": "true labels", "agesup_f1_weighted": "weighted"}
    order = [r for r in (*table1_rows(), *rows_of_yours(runs)) if (runs["row"] == r).any()]
    have = [n for n in names if n in runs]
    return runs.groupby("row")[have].mean().loc[order].rename(columns=names).round(1)


CLOSED = "share of the gap closed (%)"


def gap_closed(folder: Path) -> pd.DataFrame:
    """How far the bases of the three blocks (rows 3, 7, 11) get from chance to the oracle: agesup macro F1 on true
    labels, mean over seeds

    Stand-in only.
    """
    runs, _ = read(folder)
    preset = preset_of(runs["preset"].iloc[0])
    out = {}
    if "true_agesup_f1" in runs and runs["corpus"].iloc[0] == "standin" and preset.evidence:
        for row in (rows[0] for rows in BLOCKS.values()):
            mine = runs[runs["row"] == row]
            if mine.empty: continue
            chance, ceiling, _ = oracle_bounds(mine["dataset"].iloc[0], preset.name, tuple(mine["seed"]))
            base = mine["true_agesup_f1"].mean()
            out[row] = dict(chance=chance, base=base, oracle=ceiling)
    table = pd.DataFrame.from_dict(out, orient="index", columns=["chance", "base", "oracle"])
    return table.assign(**{CLOSED: 100 * (table["base"] - table["chance"])
                           / (table["oracle"] - table["chance"])}).astype(float).round(1)


@cache
def oracle_bounds(role: str, preset: str, seeds: tuple[int, ...]) -> tuple[float, float, float]:
    """Agesup macro F1 of an even draw and of the oracle of page 01a, which does not hear the room, on true labels, and
    of that oracle on observed ones: test speakers, mean over seeds"""
    found = []
    for seed in seeds:
        manifest = role_manifest(role, preset_of(preset), int(seed))[0]
        test = manifest[manifest["split"] == "test"]
        decades = tuple(sorted({d for name in test["corpus"].unique() for d in STANDINS[name].decades}))
        best = posterior(test, "agesup", decades=decades).argmax(1)
        true, seen = truth(test, "agesup"), labels_of(test)["agesup"].numpy()
        share = np.bincount(true, minlength=3) / len(true)
        found.append((100 * (2 * share / 3 / (share + 1 / 3)).mean(), *(prf(confusion(y, best, 3))[2]
                                                                       for y in (true, seen))))
    return tuple(np.mean(found, 0))
