"""Protocol 2 in the article: sheets that have been run become tables, words and values; sheets that have not say so.

A sheet's tables are paper/results/<corpus>-<preset>/<sheet>.csv and <sheet>-*.csv. The tables that we know are printed
by the columns that matter; any other is printed by what its columns are called, so that a new one needs no change here.
"""
from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pandas as pd

from mkdcls.decisive import ASKED_BLOCKS, CONTROL_SEEDS, DOSES, PRIMARY_SEEDS
from mkdcls.evaluation import ALPHA, MARGIN
from mkdcls.publish.named import (RESULT_FOLDERS, Values, bracketed, count_word, difference_cell, fixed, minus,
                                  record_table, signed)
from mkdcls.results.real_sheet import CLINIC, REAL_REMEDIES, SCRATCH, and_list, row_title, scratch_against_language
from mkdcls.results.remedies_sheet import read as remedy_runs
from mkdcls.results.remedies_sheet import (DECLARED_REMEDIES, OFF, REMEDY_RUNS, remedies_to_run, shortcut_gains,
                                           undisturbed)
from mkdcls.seeds import paired_gains

# sheet of protocol 2 → what the article calls it
SECOND_SHEETS = {"decisive": "the primary contrasts, controls, and dose and response",
                 "regime": "few speakers with many utterances", "real": "real speech", "remedies": "remedies"}
LONGEST_TABLE = 36  # lines of a table of protocol 2 that the article prints; the file beside it has all
RECORDS_ONLY = ("runs", "curves", "ceilings")  # files that hold runs, not results
MIDDLES = ("gain", "difference", "lost", "value", "mean", "score", "f1")
WORDS_OF = ("word", "status", "verdict")
HEADS = {"n_seeds": "seeds", "p_holm": "p, Holm", "status": "word", "paper_gain": "paper",
         "excludes_paper": "paper's excluded",
         "seeds_needed": "seeds needed", "train_utterances": "trained on", "split_by": "split by"}


def head_of(column: str) -> str: return HEADS.get(column, column.replace("_", " "))


def plain_cell(x, digits: int = 1) -> str:
    "A number or a text as a table shows it; empty where there is none"
    if x is None or pd.isna(x): return ""
    if isinstance(x, bool) or str(x) in ("True", "False"): return "yes" if str(x) == "True" else "no"
    return fixed(x, digits) if isinstance(x, float) else minus(str(x))


def sign_cell(x) -> str: return "" if pd.isna(x) else signed(x)


def count_cell(x) -> str: return "" if pd.isna(x) else f"{x:,.0f}"


def holm_cell(p) -> str: return "" if pd.isna(p) else "< 0.001" if p < .001 else f"{p:.3f}"


def interval_cell(r, middle: str = "gain", digits: int = 1) -> str:
    "A difference with its interval, where it has one"
    if pd.isna(r[middle]): return ""
    return signed(r[middle], digits) if pd.isna(r["low"]) else difference_cell(r[middle], r["low"], r["high"], digits)


def value_cell(r) -> str:
    "A value with its interval, where it has one"
    low, high = r.get("value_low"), r.get("value_high")
    return fixed(r["value"]) + ("" if low is None or pd.isna(low) else f" {bracketed(low, high, sign=False)}")


def spread_cell(r, score: str) -> str:
    "A score with its interval"
    return "" if pd.isna(r[score]) else f"{fixed(r[score])} [{fixed(r[f'{score}_low'])}, {fixed(r[f'{score}_high'])}]"


# ---- tables that we know: csv → head and rows

def printed_contrasts(t: pd.DataFrame) -> tuple[list[str], list[list]]:
    """Any csv: what is compared, difference with its interval, seeds, the paper's, p, word; without low and high its
    first columns"""
    middle, word = (next((c for c in names if c in t), None) for names in (MIDDLES, WORDS_OF))
    if middle is None or not {"low", "high"} <= set(t):
        keep = list(t.columns[:7])
        return [head_of(c) for c in keep], [[plain_cell(x, 2) for x in r] for r in t[keep].itertuples(index=False)]
    skip = {middle, "low", "high", word, "corpus", "preset", "protocol", "key", "primary", "asks", "n_seeds"}
    before = [c for c in t.columns[:list(t.columns).index(middle)] if c not in skip]
    what = [c for c in before if t[c].notna().any() and (t[c].nunique(dropna=False) > 1 or len(t) == 1)][:4]
    own = {"p_holm": holm_cell, "n_seeds": count_cell, "seeds_needed": count_cell, "paper": sign_cell,
           "paper_gain": sign_cell}
    more = [c for c in ("n_seeds", "paper", "paper_gain", "excludes_paper", "p_holm", "seeds_needed") if c in t]
    def name(x): return "" if pd.isna(x) else f"{x:g}" if isinstance(x, float) else minus(str(x))
    rows = [[*(name(r[c]) for c in what), interval_cell(r, middle), *(own.get(c, plain_cell)(r[c]) for c in more),
             *([plain_cell(r[word])] if word else [])] for _, r in t.iterrows()]
    head = [*map(head_of, what), f"{head_of(middle)}, 95 % interval", *map(head_of, more), *(["word"] if word else [])]
    return head, rows


WEAK_MARK = " ‡"  # of a block that compares nothing, as in the other tables


def marked_family(path: Path) -> pd.DataFrame:
    """The declared family; `mark` where base closes less than half of the gap between an even draw and the ceiling
    (protocol 2, section 2), as the scores beside it say"""
    t, beside = record_table(path), path.with_name(f"{path.stem}-scores.csv")
    if "block" not in t: return t
    weak = set()
    if beside.exists():
        closed = record_table(beside).set_index("row")["closed"]
        weak = {b for b, r in ASKED_BLOCKS.items() if r["base"] in closed and closed[r["base"]] < 50}
    return t.assign(mark=[WEAK_MARK if b in weak else "" for b in t["block"]])


def family_lines(t: pd.DataFrame):
    head = ["contrast", "paper", "ours, 95 % interval", "spread of seeds", "seeds", "p, Holm", "word",
            "paper's excluded", "seeds needed"]
    return head, [[r["contrast"], signed(r["paper"]), interval_cell(r), fixed(r["sd"], 2), count_cell(r["n_seeds"]),
                   holm_cell(r["p_holm"]), r["word"] + r["mark"], plain_cell(r["excludes_paper"]),
                   count_cell(r["seeds_needed"])]
                  for _, r in t.iterrows()]


K_SAID = {"none": "no K", "untrained": "K untrained", "causes": "K of causes",
          "causes-alone": "K of causes, X asked alone"}  # of the controls


def plain_row(row: str) -> str:
    "A row of protocol 2 in words: Table 1's number, and what K is"
    if row == "subce": return "3, third head, CE"
    number, _, kind = row.partition("-")
    return f"{number}, {K_SAID.get(kind, kind)}" if kind else number


def encoder_of(row: str) -> str:
    resnet = {"2", *ASKED_BLOCKS["ResNet"].values()}
    return "ResNet" if row.partition("-")[0] in resnet else "ECAPA"


def score_lines(t: pd.DataFrame):
    shown = {"agesup_f1": "agesup F1", "ceiling": "ceiling", "true_agesup_f1": "true labels", "closed": "closed, %",
             "as_trained_agesup_f1": "as trained", "mae_years": "MAE, years", "auc_60": "AUC of 60+",
             "conflict_rate": "conflicts, %", "gender_f1": "gender F1"}
    keep = [c for c in shown if c in t]
    return (["row", "encoder", "trained on", "method", "seeds", *(shown[c] for c in keep)],
            [[plain_row(r["row"]), encoder_of(r["row"]), r["role"], "" if pd.isna(r["method"]) else r["method"],
              count_cell(r["n_seeds"]),
              *(plain_cell(float(r[c])) for c in keep)]
             for _, r in t.iterrows()])


def control_lines(t: pd.DataFrame):
    return (["control", "difference, 95 % interval", "seeds", "word", "cosine to K"],
            [[r["contrast"].replace("FCVG", "of clean speech").replace("K causes", "K of the true causes"),
              interval_cell(r), count_cell(r["n_seeds"]), r["word"],
              "" if pd.isna(r["cosine"]) else fixed(r["cosine"], 2)] for _, r in t.iterrows()])


CURVES = {"speakers": "training speakers, times", "labels": "labels moved, share",
          "teacher": "teacher's speakers, times"}


def dose_lines(t: pd.DataFrame):
    return (["dose", "level", "trained on", "row", "against", "F1", "difference, 95 % interval", "seeds"],
            [[CURVES.get(r["curve"], r["curve"]), f"{r['level']:g}", count_cell(r["train_utterances"]), r["row"],
              r["against"], plain_cell(float(r["score"])), interval_cell(r), count_cell(r["n_seeds"])]
             for _, r in t.iterrows()])


def regime_lines(t: pd.DataFrame):
    at = t.set_index(["split_by", "tested", "row"])
    rows = [[by, tested.replace("fresh", "new"), *(interval_cell(at.loc[(by, tested, row)]) for row in ("5", "6"))]
            for by, tested in dict.fromkeys(zip(t["split_by"], t["tested"]))]
    printed = t.dropna(subset="paper").groupby("row")["paper"].first()
    return (["split by", "tested on", "+CH, gain", "+MKD+CH, gain"],
            [*rows, ["not said (the paper)", "", *(signed(printed[row]) for row in ("5", "6"))]])


OTHER_NAMES = {"gender_f1": "gender F1", "auc_60": "AUC of 60+", "true_agesup_f1": "agesup F1, true labels",
               "as_trained_agesup_f1": "agesup F1, both rows as trained", "conflict_rate": "conflicts, %",
               "mae_years": "MAE, years"}


def other_lines(t: pd.DataFrame):
    at = t.set_index(["score", "contrast", "block"])
    rows = [[OTHER_NAMES.get(score, head_of(score)), what,
             *(interval_cell(at.loc[score, what, b], "difference", 2 if score == "mae_years" else 1)
               if (score, what, b) in at.index else "" for b in ASKED_BLOCKS)]
            for score, what in dict.fromkeys(zip(t["score"], t["contrast"]))]
    return ["score", "contrast", *ASKED_BLOCKS], rows


def leak_lines(t: pd.DataFrame):
    return (["split by", "row", "trained on", "method", "own test set", "new speakers", "difference, 95 % interval",
             "seeds"],
            [[r["split_by"], r["row"], r["role"], r["method"], fixed(r["own"]), fixed(r["fresh"]),
              interval_cell(r, "difference"), count_cell(r["n_seeds"])] for _, r in t.iterrows()])


def real_lines(t: pd.DataFrame):
    rows = [[r["folds"], r["title"], spread_cell(r, "auc"), spread_cell(r, "mae"), spread_cell(r, "f1"),
             "" if r["row"] in ("constant", "permuted") else plain_cell(float(r["gender"]))]
            for _, r in t[t["heard"] == "all"].iterrows()]
    return ["folds by", "row", "AUC of 60+, %", "MAE, years", "agesup F1", "gender F1"], rows


def real_contrast_lines(t: pd.DataFrame):
    part = t[t["score"].isin(("auc", "mae")) & t["declared"]]
    return (["folds by", "row", "against", "gain in", "difference, 95 % interval", "p, Holm", "word"],
            [[r["folds"], r["title"], r["against_title"], {"auc": "AUC", "mae": "MAE"}[r["score"]], interval_cell(r),
              holm_cell(r["p_holm"]), r["status"]] for _, r in part.iterrows()])


REMEDY_NAMES = {"none": "no remedy", "balance": "balanced weights", "standardise": "standardisation over lines",
                "replay": "counterfactual replay", "codec": "replay over a made-up telephone",
                "line": "everybody over the telephone", "match": "counterfactual matching", "dro": "group DRO",
                "vrex": "V-REx", "irm": "IRM", "reverse": "gradient reversal", "hsic": "HSIC penalty",
                "retrain": "last layers retrained"}  # as the sheet calls a remedy → as the article does


def remedy_lines(t: pd.DataFrame):
    t = undisturbed(t)
    top, low = t["train_rho"].max(), t["train_rho"].min()
    at = t.set_index(["student", "remedy", "train_rho", "measure"])
    def of(*key): return at.loc[key] if key in at.index else None
    def told(r, differs=True):
        if r is None: return ""
        beside = f" ({interval_cell(r, 'difference')})" if differs and pd.notna(r["difference"]) else ""
        return fixed(r["value"]) + beside
    rows = []
    tied = t[t["train_rho"].notna()]
    for student, remedy in dict.fromkeys(zip(tied["student"], tied["remedy"])):
        lost = of(student, remedy, top, "lost")
        rows.append([student, REMEDY_NAMES.get(remedy, remedy), told(lost),
                     "" if lost is None else plain_cell(lost["word"]),
                     told(of(student, remedy, low, "at_0")), told(of(student, remedy, top, "at_home")),
                     "" if lost is None else count_cell(lost["n_seeds"])])
    return ["student", "remedy", "points lost", "word", f"at ρ = 0, trained at {low:g}",
            f"at ρ = {top:g}, trained there", "seeds"], rows


LINES_OF = {"decisive": family_lines, "decisive-scores": score_lines, "decisive-controls": control_lines,
            "decisive-doses": dose_lines,
            "decisive-others": other_lines, "regime": regime_lines, "regime-leak": leak_lines, "real": real_lines,
            "real-contrasts": real_contrast_lines, "remedies": remedy_lines}
CAPTIONS = {
    "decisive": "The declared family of protocol 2, agesup macro F1 on the stand-in. A word is tested against the "
                "margin of one point (null hypothesis: for better and worse, that the difference is not beyond the "
                "margin; for no difference, that it is); p is that of the word that the mean points to, corrected by "
                "Holm's procedure for the whole family. Seeds needed: seeds with about an even chance to decide the "
                "contrast if mean and spread stayed as they are, at a tenth of the usual level.",
    "decisive-scores": "Scores under protocol 2 in percent, statistics re-estimated in every row, at least 4,000 new "
                       "test speakers; rows are numbered as in the paper's table. Ceiling: the oracle, which knows "
                       "the acoustic causes, against the same labels. Closed: share of the way from an even draw to "
                       "the oracle on true labels. Years are read from five decades where a row has an agesub head "
                       "(+CH, +MKD+CH, third head), otherwise from three groups: MAE can be compared only between "
                       "rows that are read alike. Conflicts: answers that contradict the hierarchy.",
    "decisive-controls": "Controls under protocol 2, agesup macro F1 on the stand-in: what K adds, by what it is made "
                         "of, against the same row without K; and mixup or a third head alone. Rows are those of the "
                         "paper's table. Words are tested against the margin of one point and not corrected. "
                         "Cosine: of the student's features and K in the last epoch of training.",
    "decisive-doses": "Dose and response, agesup macro F1 on the stand-in, ECAPA-TDNN: a row against another at the "
                      "same dose. Rows are those of the paper's table: 3 base, 5 +CH, 6 +MKD+CH.",
    "decisive-others": "The other scores of protocol 2 on the stand-in, differences with 95 % t intervals over seeds: "
                       "exploratory, not corrected. More is better but for conflicts and MAE. Conflicts need both age "
                       "heads in both rows, and years are compared only where both rows are read from the same head; "
                       "the rest is left empty.",
    "regime": "Few speakers with many utterances, agesup macro F1 on the stand-in, ECAPA-TDNN: gains over base with "
              "95 % t intervals over seeds.",
    "regime-leak": "The same corpus: score on the split's own test set, on new speakers, and the difference, paired "
                   "by seed. Row 1 is the teacher.",
    "real": "Real speech, out of fold. A speaker counts once; intervals resample speakers within age group, with the "
            "trained heads as given. Trained rows met the age groups equally often, but for the one whose groups stand "
            "as they come. Years are read from the three age groups in every row.",
    "real-contrasts": "The declared questions on real speech, changed after floors had been seen. Better: the "
                      "interval lies above zero, after Holm's correction over the questions of one division of the "
                      "speakers. A gain in MAE is a number of years less, read from the three age groups in every "
                      "row. The smallest attainable p is set by the "
                      "number of resamples.",
    "remedies": "Points of agesup F1 lost on the stand-in where the tie of line and age is reversed, by remedy, and "
                "what it costs; in brackets the difference to no remedy with a 95 % t interval. Words compare the "
                "loss with that of no remedy, against a margin of one point; the declared remedies, replay and "
                "matching, are corrected by Holm's procedure, the others not."}
WEAK_CAPTION = " ‡ By the protocol this block compares nothing."


def caption_of(path: Path) -> str:
    "A known table's caption; the mark is told where a row carries it"
    told = CAPTIONS.get(path.stem, "")
    if path.stem == "decisive":
        t = marked_family(path)
        if "mark" in t and (t["mark"] != "").any(): told += WEAK_CAPTION
    return told


def printed_second(path: Path) -> tuple[list[str], list[list]]:
    "A csv of protocol 2 as the article prints it"
    t = marked_family(path) if path.stem == "decisive" else record_table(path)
    with contextlib.suppress(KeyError):  # another shape than we know: by what its columns are called
        if path.stem in LINES_OF: return LINES_OF[path.stem](t)
    return printed_contrasts(t)


# ---- which there are, and what they say

def second_files(top: Path, name: str) -> list[Path]:
    "The tables of a sheet of protocol 2 that hold something, without records of runs"
    found = []
    for folder in sorted((Path(top) / "results").glob("*-*")):
        if folder.name.endswith("-smoke") or not folder.is_dir(): continue
        for pattern in (f"{name}.csv", f"{name}-*.csv", f"{name}/*.csv"): found += sorted(folder.glob(pattern))
    return [p for p in found if p.stem not in RECORDS_ONLY and not p.stem.endswith("-runs")
            and p.read_text("utf-8").strip()]


def told_words(t: pd.DataFrame) -> str:
    "How often each word was given, the commonest first"
    word = next((c for c in WORDS_OF if c in t), None)
    if word is None: return ""
    counted = t[word].dropna().astype(str).loc[lambda s: s != ""].value_counts()
    return ", ".join(f"{n} {w}" for w, n in sorted(counted.items(), key=lambda x: (-x[1], x[0])))


FAMILY = {"+MKD+CH − base": "full", "+CH − base": "ch", "+MKD − base": "mkd", "+MKD+CH − +CH": "more"}
BLOCK_NAMES = {"ECAPA-TDNN": "ecapa", "ResNet": "resnet", "call centre": "calls", "mean of the three blocks": "mean"}


def listed(names) -> str: return "; ".join(names)


def signs_told(t: pd.DataFrame) -> str:
    "How many intervals lie on one side of zero, and which; nothing is tested by it"
    sides = {"above": t[t["low"] > 0], "below": t[t["high"] < 0]}
    ends = t[(t["low"] == 0) | (t["high"] == 0)]
    told = [f"{count_word(len(part))} lie{'s' * (len(part) == 1)} {side} zero"
            + f" ({listed(part['contrast'])})" * bool(len(part)) for side, part in sides.items()]
    if len(ends): told.append(f"{count_word(len(ends))} end{'s' * (len(ends) == 1)} at zero to two decimals "
                              f"({listed(ends['contrast'])})")
    return ", ".join(told[:-1]) + ", and " + told[-1]


def alone_told(t: pd.DataFrame) -> str:
    "Contrasts that Holm's correction leaves undecided, with the word that each would have as the only question"
    lost = t[(t["word"] == "undecided") & (t["p"] < ALPHA)]
    if lost.empty: return "Uncorrected, each would have the same word."
    lean = ["better" if g > MARGIN else "worse" if g < -MARGIN else "no difference" for g in lost["gain"]]
    told = listed(f"{c} ({w})" for c, w in zip(lost["contrast"], lean))
    it = "them" if len(lost) > 1 else "it"
    return (f"Uncorrected, {count_word(len(lost))} more would have a word: {told}; Holm's correction for "
            f"{count_word(len(t))} questions leaves {it} undecided.")


def of_closed(v: Values, path: Path):
    "How much of the gap each re-estimated base closes, and what the rule of the protocol makes of the call centre"
    closed = record_table(path).set_index("row")["closed"]
    if not {r["base"] for r in ASKED_BLOCKS.values()} <= set(closed.index): return
    v.put(path, **{f"two__closed__{BLOCK_NAMES[b]}": f"{fixed(closed[r['base']])} %" for b, r in ASKED_BLOCKS.items()},
          two__closed__word="and its block counts" if closed[ASKED_BLOCKS["call centre"]["base"]] >= 50 else
          "and its block is marked as one that compares nothing")
    v.states["two.decisive.closed"] = True


def of_call_centre(v: Values, path: Path):
    "+CH against base at the call centre, which is not of the family"
    if not path.exists(): return
    runs = record_table(path)
    if not {"knobs", "agesup_f1"} <= set(runs): return
    by = runs[runs["knobs"].fillna("{}") == "{}"].pivot(index="seed", columns="row", values="agesup_f1")
    of = ASKED_BLOCKS["call centre"]
    if not {of["ch"], of["base"]} <= set(by) or len(gains := (by[of["ch"]] - by[of["base"]]).dropna()) < 2: return
    c = paired_gains(gains)
    v.put(path, two__ch__calls__span=difference_cell(c.value, c.low, c.high))
    v.states["two.decisive.calls"] = True


def of_family(v: Values, path: Path):
    "The declared family by name, and how many of its intervals exclude the paper's gain"
    t = marked_family(path)
    for _, r in t.iterrows():
        what, block = r["contrast"].split(", ", 1)
        name = f"two__{FAMILY[what]}__{BLOCK_NAMES[block]}"
        v.put(path, **{f"{name}__span": interval_cell(r), f"{name}__word": r["word"] + r["mark"]})
    if len(t) != 3 + 2 * 3 + 1: raise KeyError("the family has ten contrasts")
    v.put(path, two__family__signs=signs_told(t), two__family__alone=alone_told(t))
    if (scores := path.with_name(f"{path.stem}-scores.csv")).exists(): of_closed(v, scores)
    of_call_centre(v, path.parent / "decisive" / "runs.csv")
    v.put(path, two__excluded=count_word(int(t["excludes_paper"].sum())), two__family=count_word(len(t)),
          two__seeds=count_word(int(t["n_seeds"].min())), two__planned=count_word(PRIMARY_SEEDS))
    v.states["two.decisive.partial"] = bool(t["n_seeds"].min() < PRIMARY_SEEDS)
    v.states["two.decisive.weak"] = bool((t["mark"] != "").any())
    primary = t[t["contrast"].str.startswith("+MKD+CH − base, ") & t["block"].ne("all")]
    told = ", ".join(f"{r['word']} ({r['block']})" for _, r in primary.iterrows())
    v.put(path, two__primary=told)


def of_controls(v: Values, path: Path):
    "What K is worth in the row with ECAPA-TDNN and both parts"
    t = record_table(path).set_index("contrast")
    seeds = int(t.loc["K FCVG − none, row 6", "n_seeds"])
    v.put(path, two__k__seeds=count_word(seeds), two__k__planned=count_word(CONTROL_SEEDS))
    v.states["two.controls.partial"] = seeds < CONTROL_SEEDS
    for kind in ("untrained", "FCVG", "causes"):
        r = t.loc[f"K {kind} − none, row 6"]
        v.put(path, **{f"two__k__{kind.lower()}__span": interval_cell(r), f"two__k__{kind.lower()}__word": r["word"]})
    if (alone := "K causes − none, row 6, X asked alone") in t.index:
        v.put(path, two__k__alone__span=interval_cell(t.loc[alone]), two__k__alone__word=t.loc[alone, "word"],
              two__k__alone__seeds=count_word(int(t.loc[alone, "n_seeds"])))
        v.states["two.k.alone"] = True
        if "cosine" in t and t.loc[[alone, "K FCVG − none, row 6"], "cosine"].notna().all():
            v.put(path, two__k__alone__cosine=fixed(t.loc[alone, "cosine"], 2),
                  two__k__fcvg__cosine=fixed(t.loc["K FCVG − none, row 6", "cosine"], 2),
                  two__k__untrained__cosine=fixed(t.loc["K untrained − none, row 6", "cosine"], 2))
            v.states["two.k.cosine"] = True
    if (trained := "K FCVG − untrained, row 6") in t.index:
        v.put(path, two__k__trained__span=interval_cell(t.loc[trained]), two__k__trained__word=t.loc[trained, "word"])
        v.states["two.k.trained"] = True


def of_doses(v: Values, path: Path):
    "The gain of +MKD+CH over base at the ends of each curve; over +CH where the teacher's data vary"
    t = record_table(path)
    for curve, against in (("speakers", "3"), ("labels", "3"), ("teacher", "5")):
        part = t[(t["curve"] == curve) & (t["row"] == "6") & (t["against"] == against)].sort_values("level")
        if part.empty: continue
        v.states[f"two.dose.{curve}"] = True
        for end, r in (("least", part.iloc[0]), ("most", part.iloc[-1])):
            v.put(path, **{f"two__dose__{curve}__{end}": interval_cell(r), f"two__dose__{curve}__{end}__level":
                           f"{100 * r['level']:.0f} %" if curve == "labels" else count_cell(r["train_utterances"])})
        r = part.iloc[-1]
        v.put(path, **{f"two__dose__{curve}__change": difference_cell(r["change"], r["change_low"], r["change_high"])})
    wrong = t[(t["curve"] == "labels") & (t["row"] == "6")].sort_values("level")
    if len(wrong) and "groups_wrong" in t:
        v.put(path, two__dose__labels__wrong=f"{fixed(wrong['groups_wrong'].iloc[0])} to "
                                             f"{fixed(wrong['groups_wrong'].iloc[-1])} %")
        v.states["two.dose.wrong"] = True
    ran = {(c, float(l)) for c, l in zip(t["curve"], t["level"])}
    left = [d for d in DOSES if d.knobs.turned() and (d.curve, float(d.level)) not in ran]
    v.states["two.doses.partial"] = bool(left)
    what = {"speakers": ("training speakers", "×\u00a0{:g}"), "labels": ("share of labels moved", "{:g}"),
            "teacher": ("speakers of the teacher", "×\u00a0{:g}")}
    told = [f"{what[c][0]} {' and '.join(map(what[c][1].format, sorted(part['level'].unique())))}"
            for c, part in t.groupby("curve", sort=False)]
    v.put(path, two__dose__seeds=count_word(int(t["n_seeds"].min())), two__dose__ran="; ".join(told))


def of_leak(v: Values, path: Path):
    "What a split's own test set scores above new speakers: the teacher's row and base, both splits"
    t = record_table(path).set_index(["row", "split_by"])
    for row, name in (("1", "teacher"), ("3", "base"), ("5", "ch"), ("6", "full")):
        for split in ("utterance", "speaker"):
            r, at = t.loc[row, split], f"two__leak__{name}__{split}"
            v.put(path, **{at: interval_cell(r, "difference"), f"{at}__own": fixed(r["own"]),
                           f"{at}__fresh": fixed(r["fresh"])})


# ---- the scores beside agesup F1

def sides_told(t: pd.DataFrame) -> str:
    "Of some intervals, how many lie on a side of zero"
    above, below = int((t["low"] > 0).sum()), int((t["high"] < 0).sum())
    told = [f"{'all' if n == len(t) else count_word(n)} {side} zero"
            for n, side in ((above, "above"), (below, "below")) if n]
    return " and ".join(told) or "none clear of zero"


def of_others(v: Values, path: Path):
    "Gender, AUC of 60+, contradictions and years in each contrast; rows with MKD against base, both as trained"
    t = record_table(path)
    at = t.set_index(["score", "contrast", "block"])
    def spans(score, what, digits=1, blocks=tuple(ASKED_BLOCKS)):
        each = [interval_cell(at.loc[score, what, b], "difference", digits) for b in blocks]
        return ", ".join(each[:-1]) + " and " + each[-1]
    def lie(score, what): return sides_told(t[(t["score"] == score) & (t["contrast"] == what)])
    for name, score in (("gender", "gender_f1"), ("auc", "auc_60")):
        for what, part in (("+MKD+CH − base", "full"), ("+CH − base", "ch"), ("+MKD+CH − +CH", "more")):
            v.put(path, **{f"two__{name}__{part}__spans": spans(score, what),
                           f"two__{name}__{part}__sides": lie(score, what)})
    v.put(path, two__conflict__more__spans=spans("conflict_rate", "+MKD+CH − +CH"),
          two__mae__more__spans=spans("mae_years", "+MKD+CH − +CH", 2))
    mkd = t[(t["score"] == "as_trained_agesup_f1") & t["contrast"].isin(("+MKD − base", "+MKD+CH − base"))]
    some = ("ECAPA-TDNN", "ResNet")
    v.put(path, two__trained__mkd__spans=spans("as_trained_agesup_f1", "+MKD − base", blocks=some),
          two__trained__full__spans=spans("as_trained_agesup_f1", "+MKD+CH − base"),
          two__trained__sides=sides_told(mkd), two__trained__rows=count_word(len(mkd)),
          two__trained__least=signed(mkd["difference"].max()),
          two__trained__most=signed(mkd["difference"].min()))
    v.states["two.others"] = True


def of_regime(v: Values, path: Path):
    "Base and gains by split"
    t = record_table(path).set_index(["split_by", "tested", "row"])
    for by in ("speaker", "utterance"):
        own, fresh = (t.loc[(by, tested, "3"), "score"] for tested in ("the split's own", "fresh speakers"))
        v.put(path, **{f"two__regime__{by}__base": fixed(own), f"two__regime__{by}__fresh": fixed(fresh),
                       f"two__regime__{by}__leak": fixed(own - fresh)})
        for name, row in (("ch", "5"), ("full", "6")):
            v.put(path, **{f"two__regime__{by}__{name}": interval_cell(t.loc[(by, "the split's own", row)]),
                           f"two__regime__{by}__fresh__{name}": interval_cell(t.loc[(by, "fresh speakers", row)])})
    gains = t[t["gain"].notna()]
    new = gains[gains.index.get_level_values("tested") == "fresh speakers"]
    v.put(path, two__regime__seeds=count_word(int(t["n_seeds"].min())), two__regime__gains=count_word(len(gains)),
          two__regime__excluded=count_word(int(gains["excludes_paper"].eq(True).sum())),
          two__regime__beyond=count_word(int((new["low"] > MARGIN).sum())))
    at = path.parent / "regime" / "runs.csv"
    if not at.exists(): raise KeyError("how many speakers there were is not known")
    runs = record_table(at)
    runs = runs[runs["row"].eq("3") & ~runs["knobs"].str.contains("utterance")]
    said = json.loads(runs["knobs"].iloc[0])["per_speaker"]
    people = runs[["train_utterances", "val_utterances", "test_utterances"]].iloc[0] // said
    v.put(at, two__regime__speakers=count_cell(people.sum()),
          two__regime__each=str(said), two__regime__tested=count_cell(people["test_utterances"]))


def of_real_sheet(v: Values, path: Path):
    "AUC and years of language and corpus alone, base and the full method, folds by speaker"
    t = record_table(path)
    t = t[(t["heard"] == "all") & (t["folds"] == "speaker")].set_index("row")
    for name, row in (("both", "language_corpus"), ("base", "base"), ("full", "mkd_ch")):
        v.put(path, **{f"two__real__{name}__auc": spread_cell(t.loc[row], "auc"),
                       f"two__real__{name}__mae": spread_cell(t.loc[row], "mae")})
    every = record_table(path)
    third = every[(every["heard"] == CLINIC) & (every["folds"] == "speaker")].set_index("row")
    if v.states.setdefault("two.real.third", {"base", "constant", *SCRATCH} <= set(third.index)):
        span = lambda t, c: f"{fixed(t.loc[[*SCRATCH], c].min())} to {fixed(t.loc[[*SCRATCH], c].max())}"
        v.put(path, two__real__third__base=spread_cell(third.loc["base"], "auc"),
              two__real__third__scratch=span(third, "auc"), two__real__third__own=span(t, "auc"),
              two__real__third__years=span(third, "mae"),
              two__real__third__constant=fixed(third.loc["constant", "mae"]),
              two__real__third__old=count_cell(third["old"].max()))


def of_real_floors(v: Values, path: Path):
    "Language alone and the linear heads on frozen encoders, for both divisions of the speakers"
    t = record_table(path)
    third = t[t["heard"] == "Saarbrücken"].set_index(["folds", "row"]).loc["speaker", "campplus"]
    v.put(path, two__real__third__auc=spread_cell(third, "auc"),
          two__real__third__speakers=count_cell(third["speakers"]))
    t = t[t["heard"] == "all"].set_index(["folds", "row"])
    for by, at in (("speaker", ""), ("language", "blocked__")):
        for name in ("language", "campplus", "dvector"):
            v.put(path, **{f"two__real__{at}{name}__{score}": spread_cell(t.loc[by, name], score)
                           for score in ("auc", "f1")})
    v.put(path, two__real__speakers=count_cell(t["speakers"].max()), two__real__old=count_cell(t["old"].max()))


def of_real_gains(v: Values, path: Path):
    "By how much CAM++ beats language alone"
    t = record_table(path).set_index(["folds", "row", "against", "score"])
    for by, at in (("speaker", ""), ("language", "blocked__")):
        r = t.loc[by, "campplus", "language", "auc"]
        v.put(path, **{f"two__real__{at}gain": interval_cell(r), f"two__real__{at}word": r["status"]})
    asked = record_table(path).query("declared and row != 'campplus'")
    if asked.empty: return  # no trained row yet
    cell = lambda of, score: and_list([f"{interval_cell(r, digits=1 + (score == 'mae'))} ({r['status']})"
                                       for _, r in of[of["score"] == score].iterrows()])  # by speaker, then by language
    v.put(path, two__real__asked__told=listed(
        f"{a} against {b}, AUC {cell(of, 'auc')}, years {cell(of, 'mae')}"
        for (a, b), of in asked.groupby(["title", "against_title"], sort=False)))
    v.states["two.real.asked"] = True
    of_real_scratch(v, path)
    of_real_remedies(v, path)
    if ("speaker", "base", "base_flat", "auc") in t.index:
        v.put(path, **{f"two__real__flat__{score}": interval_cell(t.loc["speaker", "base", "base_flat", score])
                       for score in ("auc", "f1")})
        v.states["two.real.flat"] = True
    pairs = [("alone_of_campplus", "base"), ("mkd_ch_of_campplus", "base_of_campplus")]
    if not {("speaker", *p, "auc") for p in pairs} <= set(t.index): return
    for name, p in zip(("alone", "beside"), pairs):
        v.put(path, **{f"two__real__{name}": interval_cell(t.loc["speaker", *p, "auc"]),
                       f"two__real__{name}__blocked": interval_cell(t.loc["language", *p, "auc"])})
    v.states["two.real.alone"] = True
    parts = {"ch": ("ch_of_campplus", "base_of_campplus"), "mkd": ("mkd_ch_of_campplus", "ch_of_campplus")}
    if not {("speaker", *p, "auc") for p in parts.values()} <= set(t.index): return
    for name, p in parts.items():
        told = [f"{interval_cell(r)} ({r['status']})" for by in ("speaker", "language")
                for r in (t.loc[by, *p, "auc"],)]
        v.put(path, **{f"two__real__beside__{name}": and_list(told)})
    v.states["two.real.split"] = True


def of_real_scratch(v: Values, path: Path):
    "What is trained from scratch beside language alone, score by score, for both divisions of the speakers"
    t = scratch_against_language(record_table(path.with_name("real.csv")), record_table(path))
    if not len(t): return
    for folds, at in zip(dict.fromkeys(t["folds"]), ("speaker", "blocked")):
        told = [f"{r['four rows from scratch']} against {r['language alone']} in {r['score']} "
                f"({r['of them better']} rows better; the full method {r['word'].replace(' (', ', ').rstrip(')')})"
                for _, r in t[t["folds"] == folds].iterrows()]
        v.put(path, **{f"two__real__scratch__{at}": minus(listed(told))})
    v.states["two.real.scratch"] = True


def of_real_remedies(v: Values, path: Path):
    "Remedies of base on real speech, where they have been run: AUC over base, for both divisions"
    t = record_table(path).query("against == 'base' and score == 'auc'").set_index(["row", "folds"])
    ran = [n for n in REAL_REMEDIES if (f"base_{n}", "speaker") in t.index]
    if not ran: return
    each = lambda n: and_list([f"{interval_cell(t.loc[(f'base_{n}', by)])} ({t.loc[(f'base_{n}', by), 'status']})"
                               for by in ("speaker", "language")])
    v.put(path, two__real__remedies__told=listed(f"{row_title(f'base_{n}')} {each(n)}" for n in ran))
    v.states["two.real.remedies"] = True


def remedy_told(name: str, lost, home) -> str:
    "What one remedy loses, and what it costs where the tie of the training holds"
    return (f"{REMEDY_NAMES.get(name, name)} {value_cell(lost)} "
            f"({interval_cell(home, 'difference')} under the training condition)")


def of_remedies(v: Values, path: Path):
    """Points lost without a remedy and with each that has been run with as many seeds: the declared ones, which need a
    simulator, by name; all of them in one sentence"""
    t = undisturbed(record_table(path))
    for name, student in (("base", "base"), ("full", "+MKD+CH")):
        if not (t["student"] == student).any(): continue
        mine = t[t["student"] == student]
        at = mine[mine["train_rho"] == mine["train_rho"].max()].set_index(["remedy", "measure"])
        if (OFF, "lost") not in at.index: continue
        zero = mine[(mine["train_rho"] == 0) & (mine["measure"] == "at_0")].set_index("remedy")
        seeds = at.loc[OFF, "lost"]["n_seeds"]
        tried = [r for r in dict.fromkeys(at.index.get_level_values("remedy")) if r != OFF
                 and at.loc[r, "lost"]["n_seeds"] == seeds]
        asked = [r for r in DECLARED_REMEDIES if r in tried]
        if not asked: continue
        none = at.loc[OFF]
        each = lambda measure, how, at=at, asked=asked: " and ".join(how(at.loc[r, measure]) for r in asked)
        put = {"none__home": fixed(none.loc["at_home", "value"]), "none__turned": fixed(none.loc["turned", "value"]),
               "none__lost": value_cell(none.loc["lost"]), "asked": " and ".join(REMEDY_NAMES[r] for r in asked),
               "asked__turned": each("turned", lambda r: fixed(r["value"])),
               "asked__home": each("at_home", lambda r: fixed(r["value"])),
               "asked__paid": each("at_home", lambda r: signed(r["difference"])),
               "asked__lost": each("lost", value_cell),
               "asked__untied": each("untied", lambda r: interval_cell(r, "difference")),
               "asked__cost": " and ".join(interval_cell(zero.loc[r], "difference") if r in zero.index else
                                           "not measured" for r in asked),
               "told": "; ".join(remedy_told(r, at.loc[r, "lost"], at.loc[r, "at_home"]) for r in tried),
               "tried": count_word(len(tried)), "seeds": count_word(int(seeds))}
        v.put(path, **{f"two__remedy__{name}__{k}": text for k, text in put.items()})
        v.states[f"two.remedy.{name}"] = True
        v.states[f"two.remedy.{name}.several"] = len(asked) > 1
        if "balance" in tried:
            v.states[f"two.remedy.{name}.balance"] = True
            v.put(path, **{f"two__remedy__{name}__balance__turned": fixed(at.loc["balance", "turned"]["value"]),
                           f"two__remedy__{name}__balance__paid": signed(at.loc["balance", "at_home"]["difference"]),
                           f"two__remedy__{name}__balance__lost": value_cell(at.loc["balance", "lost"])})
        if name == "base": v.put(path, two__remedy__rho=f"{none['train_rho'].iloc[0]:g}",
                                 two__remedy__seeds=count_word(int(seeds)))
    if not v.states.get("two.remedy.base"): raise KeyError("no declared remedy of base has been run with all seeds")
    runs = path.with_name(REMEDY_RUNS)
    if runs.exists() and (told := remedies_to_run(record_table(runs))):
        v.states["two.remedies.partial"] = True
        v.put(runs, two__remedy__sofar=told)
    if runs.exists(): of_shortcut(v, runs)


def of_shortcut(v: Values, path: Path):
    "Base on Table 1's corpus with everybody over the telephone; nothing before that was run with two seeds"
    t = shortcut_gains(remedy_runs(path.parent))
    if not len(t) or "difference" not in t: return
    t = t[t["student"] == "base"].set_index(["remedy", "measure"])
    if ("line", "over_60_on_telephone") not in t.index: return
    get = lambda measure: t.loc[("line", measure)]
    old = get("over_60_on_telephone")
    v.put(path, two__shortcut__old=fixed(old["value"], 0), two__shortcut__seeds=count_word(int(old["n_seeds"])),
          two__shortcut__none=fixed(t.loc[(OFF, "over_60_on_telephone"), "value"], 0),
          two__shortcut__gain=interval_cell(old, "difference"),
          two__shortcut__ltv=interval_cell(get("ltv_agesup"), "difference"),
          two__shortcut__all=interval_cell(get("pooled_agesup"), "difference"))
    if ("line", "under_60_on_telephone") in t.index:
        young = get("under_60_on_telephone")
        v.put(path, two__shortcut__young=fixed(young["value"], 0),
              two__shortcut__young__none=fixed(t.loc[(OFF, "under_60_on_telephone"), "value"], 0),
              two__shortcut__young__gain=interval_cell(young, "difference"))
        v.states["two.shortcut.young"] = True
    if ("codec", "over_60_on_telephone") in t.index:
        v.put(path, two__shortcut__codec=interval_cell(t.loc[("codec", "over_60_on_telephone")], "difference"))
        v.states["two.shortcut.codec"] = True
    v.states["two.shortcut"] = True


TOLD_BY = {"decisive": of_family, "decisive-controls": of_controls, "decisive-doses": of_doses,
           "decisive-others": of_others, "regime": of_regime, "regime-leak": of_leak,
           "real": of_real_sheet, "remedies": of_remedies}
FLOORS_BY = {"real": of_real_floors, "real-contrasts": of_real_gains}  # what may be there without any trained row


def of_second(v: Values):
    "Protocol 2: what has been run is shown, what has not says so"
    floors = []
    for name, what in SECOND_SHEETS.items():
        files, names = second_files(v.top, name), []
        v.states[f"two.{name}"] = bool(files)
        v.put(files[0] if files else "paper/protocol2.md", **{f"two__{name}__what": what})
        for path in files:
            head, rows = printed_second(path)
            if not rows: continue
            key = f"two.{name}.{path.stem}"
            if key in v.tables:
                key += "." + next((k for k, f in RESULT_FOLDERS.items() if f in path.parts), path.parent.name)
            left = max(0, len(rows) - LONGEST_TABLE)
            v.table(path, key, head, rows[:LONGEST_TABLE], more=str(left or ""), caption=caption_of(path))
            names.append(key)
            v.states[key] = False
            with contextlib.suppress(KeyError, IndexError):  # less than the whole sheet: its tables are shown anyhow
                if path.stem in TOLD_BY:
                    part = Values(v.top)
                    TOLD_BY[path.stem](part, path)
                    v.texts |= part.texts
                    v.states |= part.states
                    v.states[key] = True
            with contextlib.suppress(KeyError):
                if path.stem in FLOORS_BY:
                    part = Values(v.top)
                    FLOORS_BY[path.stem](part, path)
                    v.texts |= part.texts
                    v.states |= part.states
                    floors.append(path.stem)
        v.states[f"two.{name}.tables"] = names
        if files and (words := told_words(record_table(files[0]))):
            v.put(files[0], **{f"two__{name}__contrasts": str(len(record_table(files[0]))),
                               f"two__{name}__words": words})
    for figure, table in (("decisive", "decisive.decisive"), ("doses", "decisive.decisive-doses"),
                          ("remedies", "remedies.remedies")):
        v.states[f"figure.{figure}"] = v.states.get(f"two.{table}", False)
    v.states["two.real.floors"] = set(floors) == set(FLOORS_BY)
    v.states["two"] = any(v.states[f"two.{name}"] for name in SECOND_SHEETS)
