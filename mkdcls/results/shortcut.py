"""Does an answer follow the voice, where the elderly were recorded over another line? A question to finished tables

Written for a holder of recordings, who has no second line to replay: it asks the people whose line does not fit their
age, in the folders that `make table1` has left. `python -m mkdcls.results.shortcut mine line` prints it, where `mine`
and `line` are what OUT= named without and with REMEDY=line. Page 16b says how to read it.
"""
from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from mkdcls.evaluation import bootstrap, confusion, prf
from mkdcls.labels import TASKS
from mkdcls.results.report import ANSWERS, RECORDS

POOL, PHONE = "LTV+FCVE", "LTV"  # the block of Table 1, and its part whose people were all recorded over one line
OLD = TASKS["agesup"] - 1  # number of the class 60+
PEOPLE, NO_REMEDY = "people over 60 on LTV", "none"


def old_found(cm: np.ndarray) -> np.ndarray:
    "`[..., 3, 3]` counts → per cent of the people over 60 that are called elderly; NaN without any"
    with np.errstate(invalid="ignore"): return 100 * cm[..., OLD, OLD] / cm[..., OLD, :].sum(-1)


def young_taken(cm: np.ndarray) -> np.ndarray:
    "`[..., 3, 3]` counts → per cent of the people under 60 that are called elderly; NaN without any"
    with np.errstate(invalid="ignore"): return 100 * cm[..., :OLD, OLD].sum(-1) / cm[..., :OLD, :].sum((-2, -1))


def age_f1(cm: np.ndarray) -> np.ndarray:
    "`[..., 3, 3]` counts → macro F1, percent"
    return prf(cm)[..., 2]


# what is asked → the part of the test set, the score
TO_CALLERS = {"over 60 on LTV, called elderly (%)": (PHONE, old_found),
             "under 60 on LTV, called elderly (%)": (PHONE, young_taken),
             "agesup F1, LTV alone": (PHONE, age_f1), "agesup F1, LTV+FCVE": ("", age_f1)}


def answers_of(folder: Path) -> dict[tuple[str, int], pd.DataFrame]:
    "(row, seed) → answers on the test people of LTV+FCVE, with the columns method, remedy and y; from a table1 folder"
    folder = Path(folder)
    if gone := [n for n in (ANSWERS, RECORDS) if not (folder / n).is_file()]:
        raise FileNotFoundError(f"no {gone[0]} in {folder}: give folders that `make table1 OUT=<folder>` has finished")
    runs = pd.read_csv(folder / RECORDS, dtype={"row": str})
    runs, p = runs[runs["dataset"] == POOL], pd.read_parquet(folder / ANSWERS)
    if not len(runs): raise ValueError(f"{folder} has no row that was trained on {POOL}")
    p = p.assign(y=p["true_agesup" if "true_agesup" in p else "y_agesup"].astype(int))
    if not ((p["corpus"] == PHONE) & p["row"].isin(runs["row"])).any():
        raise ValueError(f"{folder} has no test person of {PHONE}: the corpora file must say which recordings play it")
    out = {}
    for r in runs.itertuples():
        remedy = "+".join(n for n, _ in json.loads(r.recipe).get("remedy", [])) or NO_REMEDY
        mine = p[(p["row"] == r.row) & (p["seed"] == r.seed)].sort_values("utterance", ignore_index=True)
        out[r.row, int(r.seed)] = mine.assign(method=r.method, remedy=remedy)
    return out


def counts_by_person(answers: pd.DataFrame, part: str = "") -> np.ndarray:
    "`[people, 3, 3]` counts, rows are ages and columns answers; of one corpus, or of all"
    a = answers[answers["corpus"] == part] if part else answers
    return confusion(a["y"].to_numpy(), a["agesup"].to_numpy(int), OLD + 1, pd.factorize(a["speaker"], sort=True)[0])


def asked_of(folder: Path) -> pd.DataFrame:
    "A line for each row of Table 1's block LTV+FCVE: what it answers to `TO_CALLERS`, mean over seeds"
    lines = []
    for (row, seed), a in answers_of(folder).items():
        old = a[(a["corpus"] == PHONE) & (a["y"] == OLD)]
        lines.append(dict(row=row, method=a["method"].iloc[0], remedy=a["remedy"].iloc[0], seed=seed,
                          **{q: float(score(counts_by_person(a, part).sum(0))) for q, (part, score) in
                             TO_CALLERS.items()}, **{PEOPLE: old["speaker"].nunique()}))
    t = pd.DataFrame(lines).groupby(["row", "method", "remedy"], sort=False)
    return t[[*TO_CALLERS, PEOPLE]].mean().assign(seeds=t.size())


def compared_with(without: Path, remedied: Path, draws: int = 2000) -> pd.DataFrame:
    """What the rows of a folder with a remedy answer, and the change from the same rows without it

    The change is paired by row, seed and person; its 95 % interval resamples test people, and seeds where there are
    several. It is left out where the two folders were not tested on the same utterances.
    """
    a, b, t = answers_of(without), answers_of(remedied), asked_of(remedied)
    for row, method, remedy in t.index:
        pairs = [(a[k], b[k]) for k in b if k[0] == row and k in a]
        who = ["utterance", "speaker", "corpus", "y"]
        if not pairs or not all(p[who].equals(q[who]) for p, q in pairs): continue
        for asked, (part, score) in TO_CALLERS.items():
            cms = [[counts_by_person(x, part) for x in pair] for pair in pairs]
            change = np.mean([score(q.sum(0)) - score(p.sum(0)) for p, q in cms])
            drawn = np.diff(bootstrap(cms, score, draws), axis=1)[:, 0]
            drawn = drawn[np.isfinite(drawn)]
            if not len(drawn): continue
            t.loc[(row, method, remedy), [f"{asked}, change", f"{asked}, low", f"{asked}, high"]] = (
                change, *np.percentile(drawn, (2.5, 97.5)))
    return t


def as_told(t: pd.DataFrame) -> pd.DataFrame:
    "The same as a reader wants to see it, changes in brackets"
    def cell(r, q):
        if f"{q}, change" not in t or pd.isna(r[f"{q}, change"]): return f"{r[q]:.1f}"
        return f"{r[q]:.1f} ({r[f'{q}, change']:+z.1f} [{r[f'{q}, low']:+z.1f}, {r[f'{q}, high']:+z.1f}])"
    shown = {q: [cell(r, q) for _, r in t.iterrows()] for q in TO_CALLERS}
    return pd.DataFrame(shown | {PEOPLE: t[PEOPLE].round().astype(int).tolist(), "seeds": t["seeds"].tolist()}, t.index)


def elderly_on_the_phone(without: Path, *remedied: Path) -> pd.DataFrame:
    "The rows without a remedy, and below them those of each further folder with their change; ready to be read"
    return pd.concat([as_told(asked_of(without)), *(as_told(compared_with(without, f)) for f in remedied)])


if __name__ == "__main__":
    if len(sys.argv) < 2: sys.exit("usage: python -m mkdcls.results.shortcut FOLDER [FOLDER WITH A REMEDY ...]")
    try: print(elderly_on_the_phone(*sys.argv[1:]).to_string())
    except (ValueError, OSError) as why: sys.exit(str(why))
