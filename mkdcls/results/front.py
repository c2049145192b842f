"""What the front page and the page of all results say: every number in them comes from the committed records or
from the notebooks themselves."""
from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from mkdcls.decisive import ASKED_BLOCKS, PRIMARY_SEEDS
from mkdcls.engine.store import PROJECT
from mkdcls.evaluation import MARGIN, confusion, prf
from mkdcls.remedies import REMEDIES
from mkdcls.results import report
from mkdcls.results.decisive_sheet import (DOSE_WORDS, compares_nothing, doses_shown, doses_in_short, only_causes_help,
                                           others_in_columns, read, seed_gains, still_to_run, worth_of_k)
from mkdcls.results.real_sheet import worth_in_words
from mkdcls.results.remedies_sheet import REMEDIES_TABLE, REMEDY_RUNS, least_lost, remedies_to_run
from mkdcls.results.sheets import SHEETS, sheet_of
from mkdcls.runs import PRESETS

RESULTS = PROJECT / "paper" / "results"
EXECUTED_REAL = "../paper/results/real-laptop/real.ipynb"
EXECUTED = "../paper/results/standin-laptop"  # executed pages, as the notebooks of the front link to them
LABELS = {"standin-laptop": "stand-in", "real-laptop": "real speech"}
# the same seed under several arithmetics; columns as in ARITHMETIC_COLUMNS
ARITHMETIC = PROJECT / "paper" / "arithmetic.csv"
ARITHMETIC_COLUMNS = ["arithmetic", "row", "encoder", "method", "agesup_f1", "agesup_f1_as_trained", "gender_f1"]
CORES = 2  # of the machine that minutes are told for
WORDS_A_MINUTE, LINES_A_MINUTE = 180, 12  # reading speed assumed for prose and for code that is followed line by line
BLOCK_ROWS = [r for block, rows in report.BLOCKS.items() if "LTV" in block for r in rows]
FLOORS = ("LTV+FCVE", "3"), ("call centre", "11")  # test sets, and the base row whose answers are permuted


def results(top: Path = RESULTS) -> dict[str, Path]:
    "Name of a corpus → folder of its committed results"
    return {label: top / name for name, label in LABELS.items() if (top / name / "runs.csv").exists()}


def _read(path: Path) -> pd.DataFrame: return pd.read_csv(path, dtype={"row": str, "base_row": str})


def table_at(path: Path) -> pd.DataFrame:
    "A table of the records; empty where it is not there or nothing is in it yet"
    if not path.exists() or not path.read_text("utf-8").strip(): return pd.DataFrame()
    return pd.read_csv(path, dtype={"row": str, "against": str})


def span(gain: float, low: float, high: float) -> str: return f"{gain:+z.1f} {report.bounds(low, high)}"


# ---- Table 1

def read_gains(folder: Path) -> pd.DataFrame:
    "Agesup gains on the pooled test set, by row"
    return _read(folder / "gains.csv").query("task == 'agesup' and scope == 'pooled'").set_index("row")


def primary(found: dict[str, Path]) -> pd.DataFrame:
    "The protocol's primary contrasts: the paper's gain, ours on each corpus, and the verdict in words"
    lines, every = {}, {who: read_gains(f) for who, f in found.items()}
    small = {who: report.too_small(f) for who, f in found.items()}
    for who, g in every.items():
        for row, c in g[g["primary"]].iterrows():
            line = lines.setdefault(row, {"+MKD+CH against base": c["block"], "paper": f"{c['paper_gain']:+.1f}"})
            mark = " ‡" * (row in small[who])
            line[who] = span(c["gain"], c["low"], c["high"]) + mark
            line.setdefault("verdict", []).append((who, c["status"] + mark))
    for line in lines.values():
        told = line.pop("verdict")
        words = dict.fromkeys(w for _, w in told)
        line["verdict"] = (next(iter(words)) + ("" if len(told) == 1 else " on both") if len(words) == 1
                           else "; ".join(f"{who}: {w}" for who, w in told))
    return pd.DataFrame(list(lines.values())).fillna("")


def second_protocol(found: dict[str, Path]) -> pd.DataFrame | None:
    "The declared family of protocol 2 on the stand-in, once half of its planned seeds have been run"
    if "stand-in" not in found or not len(t := table_at(found["stand-in"] / "decisive.csv")): return None
    t = t.set_index("contrast")
    return t if 2 * t["n_seeds"].min() >= PRIMARY_SEEDS else None


def first_table(found: dict[str, Path]) -> pd.DataFrame:
    "The primary contrasts by the newest protocol that has been run: the paper's gain, ours, and what it says"
    first, t = primary(found), second_protocol(found)
    if t is None: return first
    t, lines = t[t.index.str.startswith("+MKD+CH − base")], []
    blocks, weak = read_gains(found["stand-in"])["block"], compares_nothing(found["stand-in"] / "decisive")
    small = {ASKED_BLOCKS[b]["both"] for b in weak}
    for name, c in t.iterrows():
        block = blocks.get(c["row"], name.partition(", ")[2])
        excluded = "; excludes the paper's gain" if c["excludes_paper"] else ""
        mark = " ‡" * (c["row"] in small)
        lines.append({"+MKD+CH against base": block, "paper": f"{c['paper']:+.1f}",
                      f"stand-in, {t['n_seeds'].min()} seeds": span(c["gain"], c["low"], c["high"]) + mark,
                      "word (margin: one point)": told_word(c) + mark + excluded})
    return pd.DataFrame(lines)


def told_word(c: pd.Series) -> str:
    "The word of a contrast of protocol 2; where it is undecided, the seeds that have about an even chance to decide it"
    if pd.isna(c["seeds_needed"]): return c["word"]
    leans = "no difference" if abs(c["gain"]) <= MARGIN else "better" if c["gain"] > 0 else "worse"
    return f"undecided (even odds of *{leans}* with {c['seeds_needed']:.0f} seeds)"


def declared_family(found: dict[str, Path]) -> str:
    "The ten questions of protocol 2 beside the paper's gains, and how much of the plan they rest on"
    if "stand-in" not in found or not len(t := table_at(found["stand-in"] / "decisive.csv")): return "Not run yet."
    line = lambda c, name, gain, word, out: {
        "question": name, "paper": f"{c['paper']:+.1f}", "stand-in": span(gain, c["low"], c["high"]),
        "seeds": f"{c['n_seeds']:.0f}", "word": word, "excludes the paper's gain": "yes" if out else "no"}
    lines = [line(c, c["contrast"], c["gain"], told_word(c), c["excludes_paper"]) for _, c in t.iterrows()]
    if len(more := table_at(found["stand-in"] / "decisive-others.csv")):
        lines += [line(c, f"{c['contrast']}, {c['block']}", c["difference"], "not of the ten",
                       not c["low"] <= c["paper"] <= c["high"])
                  for _, c in more[more["score"] == "agesup_f1"].iterrows()]
    table = report.as_markdown(pd.DataFrame(lines))
    missing = still_to_run(read(found["stand-in"] / "decisive"))
    if missing: missing += " The plan does not change with what comes out" + (
        ", and nothing corrects for looking early. " if t["n_seeds"].min() < PRIMARY_SEEDS else ". ")
    return f"{table}\n\n{missing}Spreads, controls and doses: [its sheet]({EXECUTED}/decisive.ipynb)."


def other_scores(found: dict[str, Path]) -> str:
    "Gender and the AUC of 60+ under protocol 2, beside the paper's gains; nothing before two seeds have been run"
    if "stand-in" not in found or not len(t := table_at(found["stand-in"] / "decisive-others.csv")): return ""
    t = t[t["score"].isin(("gender_f1", "auc_60"))]
    table = report.as_markdown(others_in_columns(t).astype(object).fillna(""))
    theirs = t[(t["score"] == "gender_f1") & (t["contrast"] == "+MKD+CH − base")]["paper"]
    return ("The paper's table has a second task, gender, and the protocol a second reading of age, the AUC of 60+: "
            "how often is a speaker over sixty ranked above a younger one? These lines are exploratory and not "
            f"corrected; [the sheet]({EXECUTED}/decisive.ipynb) has the other scores. In gender the paper prints "
            f"{', '.join(f'{v:+.1f}' for v in theirs)} for +MKD+CH − base.\n\n{table}")


def table1_beside(who: str, folder: Path) -> pd.DataFrame:
    "Table 1 beside the paper's: F1 with its interval, and the gain in agesup over the base of the block"
    marks, gain = report.marks(folder), read_gains(folder)
    out = []
    for _, r in _read(folder / "table1.csv").iterrows():
        line = {"row": r["row"], "encoder": r["encoder"], "data": r["dataset"],
                "method": r["method"] + (f" ({r['kd_loss']})" if isinstance(r["kd_loss"], str) else "")}
        for task in ("gender", "agesup"):
            line |= {f"{task} F1, paper": f"{r[f'paper_{task}_f1']:.2f}",
                     f"{task} F1, {who}": report.f1_cell(r, task) + marks.get((r["row"], task), "")}
        g = gain.loc[r["row"]] if r["row"] in gain.index else None
        ours = "" if g is None else report.gain_cell(dict(g) | {"row": r["row"]}, marks)
        if g is not None and ours != "†" and pd.notna(g["as_trained"]): ours += f"; as trained {g['as_trained']:+z.1f}"
        out.append(line | {"agesup gain, paper": "" if g is None else f"{g['paper_gain']:+z.2f}",
                           f"agesup gain, {who}": ours})
    return pd.DataFrame(out)


def shown_table1(who: str, folder: Path) -> str:
    "The same as markdown, with its marks and what it was measured on"
    foot = report.footnotes(report.marks(folder)).strip()
    here = f"../paper/results/{folder.name}"
    cores, rows = minutes_of_all(folder)
    about = (f"{report.about(report.read(folder)[0])} Runs of one thread go two at a time: "
             f"on two cores the {rows} minutes come to {cores}. More in [table1.md]({here}/table1.md), "
             f"precision and recall in [table1.csv]({here}/table1.csv), "
             f"pictures and the halves of Z in the executed [notebook]({here}/table1.ipynb).")
    return "\n\n".join(p for p in (report.as_markdown(table1_beside(who, folder)).strip(), foot, about) if p)


# ---- what no learning scores

def floors(folder: Path, draws: int = 200) -> pd.DataFrame:
    """Agesup macro F1 of three ways to answer without listening, mean over seeds: an even draw, one class for
    everybody, base's own answers dealt out anew"""
    lines, rng, out = report.read(folder)[1], np.random.default_rng(0), []
    score = lambda y, said: prf(confusion(y, said, 3))[2]
    for where, row in FLOORS:
        each = []
        for _, part in lines[lines["row"] == row].groupby("seed"):
            y, said = part["y_agesup"].to_numpy(int), part["agesup"].to_numpy(int)
            even = np.mean([score(y, rng.integers(0, 3, len(y))) for _ in range(draws)])
            one = max(score(y, np.full(len(y), k)) for k in range(3))
            each.append((even, one, np.mean([score(y, rng.permutation(said)) for _ in range(draws)])))
        out.append(dict(zip(("tested on", "an even draw", "one answer for all", "base's answers permuted"),
                            (where, *np.mean(each, 0).round(1)))))
    return pd.DataFrame(out)


def shown_floors(found: dict[str, Path]) -> str:
    "The same for every corpus"
    return report.as_markdown(pd.concat([floors(f).assign(corpus=who) for who, f in found.items()])[
        ["corpus", "tested on", "an even draw", "one answer for all", "base's answers permuted"]])


def coverage(
    between: float,  # standard deviation of a row's gain from seed to seed, in points
    within: float,  # that of the noise of the speakers who happen to be in one seed's test set, in points
    seeds: int = 5, sheets: int = 2000, draws: int = 400,
) -> float:  # share of simulated sheets whose interval holds the true gain; 0.95 is what the interval promises
    "How often a 95 % interval from a bootstrap over seeds and speakers is right, simulated: the true gain is 0"
    rng = np.random.default_rng(0)
    seen = rng.normal(0, np.hypot(between, within), (sheets, 1, seeds))
    again = np.take_along_axis(np.broadcast_to(seen, (sheets, draws, seeds)),
                               rng.integers(0, seeds, (sheets, draws, seeds)), 2)
    means = (again + rng.normal(0, within, again.shape)).mean(-1)
    low, high = np.percentile(means, [2.5, 97.5], axis=1)
    return float(((low <= 0) & (0 <= high)).mean())


# ---- sentences of the front page

def as_trained(folder: Path) -> str:
    "The three gains under protocol 2 as training left the networks, in the order of the blocks; '' if not recorded"
    runs, score = read(folder), "as_trained_agesup_f1"
    if score not in runs: return ""
    gains = [seed_gains(runs, b["both"], b["base"], score).mean() for b in ASKED_BLOCKS.values()]
    return ", ".join(f"{g:+z.1f}" for g in gains)


def how_to_read(found: dict[str, Path]) -> str:
    "What the words and intervals of the first table mean"
    if (t := second_protocol(found)) is None:
        return ("Gains are points of macro F1 with a 95 % interval, bootstrapped over speakers and seeds. *Same "
                "direction* means that the interval lies beyond the margin of one point that [the "
                "protocol](../paper/protocol.md) declares, on the paper's side; *undecided* means that the interval "
                "reaches across it. Before you rely on it:")
    early = " (until all are run, words are a preview)" * int(t["n_seeds"].min() < PRIMARY_SEEDS)
    before = read_gains(found["stand-in"])
    before = ", ".join(f"{v:+z.1f}" for v in before.loc[before["primary"], "gain"])
    plain = as_trained(found["stand-in"] / "decisive")
    asked = t[t.index.str.startswith("+MKD+CH − base")]
    below = bool(plain) and all(v[0] == "-" for v in plain.split(", "))
    turned = ": the opposite direction" * bool(below and (asked["low"] > 0).all())
    n = t["n_seeds"].min()
    run = f"{n} of " * int(n < PRIMARY_SEEDS)
    return ("Gains are points of macro F1 with a 95 % interval: Student's t over "
            f"{run}the {PRIMARY_SEEDS} seeds of [protocol 2](../paper/protocol2.md){early}, each "
            "on 4,000 speakers or more. Both rows are scored with BatchNorm statistics re-estimated on unmixed speech"
            f"{f'; as trained, the gains are {plain}' if plain else ''}{turned}. "
            "*Better* and *worse* lie beyond a margin of "
            "one point, *no difference* inside it, for ten contrasts at once. "
            "[Protocol 1](../paper/protocol.md) (five other seeds, base as "
            f"trained): {before}. Before you rely on it:")


def cautions(found: dict[str, Path]) -> str:
    "What has to be known before the primary contrasts are read"
    out = []
    if "stand-in" in found and second_protocol(found) is None:
        g = read_gains(found["stand-in"])
        low, high = sorted(100 * coverage(b, w) for b, w in ((1, 0), (0, 1)))
        plain = ", ".join(f"{v:+z.1f}" for v in g.loc[g["primary"], "as_trained"])
        out += [f"An interval bootstrapped from five seeds is right in {low:.0f} to {high:.0f} % of simulated cases, "
                "not in 95 ([why](../paper/results/README.md#how-far-to-trust-five-seeds)).",
                "Rows trained on mixed speech are scored after their BatchNorm statistics were re-estimated on unmixed "
                "speech ([11_training](method/11_training.ipynb)). "
                f"*As trained*, without that step, the three gains on the stand-in are {plain}; over a base that is "
                f"re-estimated too they are {_over_fair_base(found['stand-in'])}. We made this "
                "score the headline after a first look at scores, as the protocol "
                "discloses. The base of this table is scored as trained."]
        closed = report.gap_closed(found["stand-in"])[report.CLOSED]
        for row in (r for r in closed.index if closed[r] < 50):
            out.append(f"‡ In this block base closes {closed[row]:.1f} % of the gap between chance and an oracle "
                       "(which knows the voice's causes); the protocol asks for half, so by its own rule the contrast "
                       "compares nothing.")
    if second_protocol(found) is not None and (nothing := compares_nothing(found["stand-in"] / "decisive")):
        out.append(f"‡ {' and '.join(nothing)}: base closes less than half of the gap between an even draw and an "
                   "oracle, so that by the protocol's rule the contrast compares nothing.")
    if "real speech" in found:
        t, f = _read(found["real speech"] / "table1.csv")["agesup_f1"], floors(found["real speech"])
        ours = f["base's answers permuted"]
        out.append(f"From scratch on little real speech, protocol 1's rows score {t.min():.0f} to "
                   f"{t.max():.0f} in agesup F1 on new speakers; base's own answers, shuffled, "
                   f"{ours.min():.0f}.")
        if told := worth_in_words(found["real speech"]): out.append(f"{told} ([measured]({EXECUTED_REAL})).")
    if "stand-in" in found: out += [short] if (short := regime_in_short(found["stand-in"])) else []
    out += [short] if (short := machines_in_short()) else []
    return "\n".join(f"- {line}" for line in out)


def remarks(found: dict[str, Path]) -> str:
    "What the two tables show, from their records; a sentence that does not follow is an error"
    out = []
    if "stand-in" in found:
        folder = found["stand-in"]
        runs, lines = report.read(folder)
        f1, g = runs.groupby("row").mean(numeric_only=True), read_gains(folder)
        mkd = g[g["as_trained"].notna()]
        clears = list(mkd.index[mkd["low"] > MARGIN])
        assert (mkd["as_trained"] < -MARGIN).all() and (mkd["high"] > -MARGIN).all() and len(clears) == 1
        out.append("**BatchNorm decides whether MKD loses.** Rows with MKD train on mixed inputs, "
                   "so their BatchNorm statistics are re-estimated on clean ones before "
                   "scoring (page 11); base is scored as trained in this table, and re-estimated in the second line of "
                   "the claims below. On the stand-in, "
                   f"*as trained*, all {len(mkd)} rows with MKD lose more than a point against base; re-estimated, "
                   "none is clearly worse "
                   f"and one, row {clears[0]}, clears the margin.")
        alone = (f1["agesup_f1"] - f1["LTV_agesup_f1"]).dropna()
        least = runs["FCVE_agesup_f1"].min()
        share = 100 * least / (200 - least)  # everybody there is over 60: precision is 1, so that F = 2R / (1 + R)
        out.append("**The stand-in's elderly give themselves away** by their studio sound: "
                   f"at least {np.floor(share):.0f} % "
                   f"of FCVE is recognised, "
                   f"and scores on LTV alone are {alone.min():.1f} to {alone.max():.1f} points lower.")
        z = f1[f1["no_k_agesup_f1"].notna()].drop("13")
        one = max(floors(folder, 1)["one answer for all"].iloc[:1])
        assert (z["no_x_agesup_f1"] > z["agesup_f1"] / 2).all()
        lost = _read(folder / "interventions.csv").query("under == 'K: anybody' and measure == "
                                                         "'drop_f1' and task == 'agesup'").set_index("row")["value"]
        out.append("**How much Z owes to the teacher depends on how one asks.** On LTV+FCVE, "
                   "zeros in K's place leave an agesup F1 of "
                   f"{z['no_k_agesup_f1'].min():.0f} to "
                   f"{z['no_k_agesup_f1'].max():.0f}, where one constant answer would score {one:.0f}; "
                   "zeros in X's place leave more than half of the score. "
                   "Zeros are a harsh way of silencing (page 06): with another person's K, "
                   f"+MKD loses {lost['4a']:.1f} and +MKD+CH {lost['6']:.1f} points on telephone "
                   "speech ([interventions](../paper/results/standin-laptop/interventions.ipynb)).")
        seven = runs.loc[runs["row"] == "7", "agesup_f1"]
        out.append(f"**One seed is not firm.** Row 7 of the stand-in ranges from {seven.min():.0f} to "
                   f"{seven.max():.0f} over {len(seven)} seeds.")
    if "real speech" in found:
        folder = found["real speech"]
        runs, lines = report.read(folder)
        t, g = _read(folder / "table1.csv").set_index("row"), read_gains(folder)
        noisy = lines[(lines["corpus"] != "Speech Accent Archive") & (lines["y_agesup"] == 2)]
        old, met = noisy[noisy["row"] == "3"], noisy[noisy["row"].isin(BLOCK_ROWS)]
        most, width = (met["agesup"] == 2).groupby(met["row"]).mean().max(), g["high"] - g["low"]
        assert set(g["status"]) == {"undecided"}
        few = lines[(lines["row"] == "11") & (lines["y_agesup"] == 2)].groupby("seed")["speaker"].nunique()
        out.append("**From real speech of this size our networks learn hardly anything about the age of further "
                   "speakers of these corpora.** All rows lie "
                   "between "
                   f"{t['agesup_f1'].min():.0f} and "
                   f"{t['agesup_f1'].max():.0f}; the next section "
                   f"has what answering without listening scores. Of the {len(old)} utterances of people over 60 in "
                   "the five folds no row on LTV+FCVE "
                   f"recognises more than "
                   f"{100 * most:.0f} %. The gains have intervals of {width.min():.0f} to {width.max():.0f} points, "
                   "and all are undecided. At the call centre a fold has "
                   f"{few.min()} to {few.max()} speakers over 60; a resample without them is averaged over two "
                   "classes, which is why the intervals of "
                   f"rows 11 to 13 reach so "
                   "far up. The number of epochs on real speech was settled after fold 0 had been seen (protocol, "
                   "section 6).")
    return "\n".join(f"- {line}" for line in out)


# ---- how long it takes

def _two_cores(runs: pd.DataFrame) -> float:
    """Minutes that these runs take on two cores: a run's recorded time, halved where it had one thread, since two
    such runs go side by side"""
    threads = runs["device"].str.extract(r"(\d+) threads$")[0].astype(float).fillna(CORES).clip(upper=CORES)
    return float((runs["total_s"] * threads).sum() / CORES / 60)


def once_each(runs: pd.DataFrame) -> pd.DataFrame:
    "Lines of records without those that were not trained (an oracle, a refusal) and without a run's second line"
    return runs[runs["key"].notna()].drop_duplicates("key") if "key" in runs else runs


def minutes(name: str, folder: Path) -> int | None:
    "Recorded minutes of a sheet's first seed on two cores; seeds after it may have fewer rows"
    s = sheet_of(name)
    if not s.runs or not (folder / s.runs).exists(): return None
    runs = once_each(_read(folder / s.runs))
    return max(1, round(_two_cores(runs[runs["seed"] == runs["seed"].min()])))


def minutes_of_all(folder: Path) -> tuple[int, int]:
    """Recorded minutes of all seeds of Table 1: on two cores, and summed over rows (rows with one thread ran two at
    a time)"""
    runs = _read(folder / "runs.csv")
    return round(_two_cores(runs)), round(runs["total_s"].sum() / 60)


def reading_minutes(path: Path) -> int:
    "Minutes to read a notebook: its words at 180 a minute, its lines of code at 12; hidden cells do not count"
    words = lines = 0
    for cell in json.loads(Path(path).read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown": words += len(source.split())
        elif not re.match(r"#\|\s*hide\s*$", source, re.M):
            lines += sum(bool(l.strip()) and not l.startswith("#|") for l in source.splitlines())
    return max(1, round(words / WORDS_A_MINUTE + lines / LINES_A_MINUTE))


def hours(names: list[Path]) -> int:
    "Hours to read several pages"
    return round(sum(map(reading_minutes, names)) / 60)


def larger(found: dict[str, Path]) -> str:
    "What takes longer than one seed"
    five = {who: f"{minutes_of_all(f)[0]} minutes on two cores" for who, f in found.items()}
    lines = [("the stand-in's Table 1 with all five seeds", "`make table1 SEEDS=5`",
              five.get("stand-in", "not recorded")),
             ("the best and worst rows of each ablation, with four more seeds", "`make table SHEET=ablations SEEDS=5`",
              "the screening first"),
             ("the paper's network sizes", "`make table1 PRESET=gpu SEEDS=5`", "a large GPU; not run yet"),
             ("the columns of real speech", "`make table1 CORPUS=real REAL=<folder> SEEDS=5`",
              "the recordings listed in [real.csv](../paper/selection/real.csv), which `mkdcls select` picks "
              "from the public downloads; "
              + five.get("real speech", "not recorded")),
             ("both verification sheets on real speech", "`make table SHEET=seo_kim CORPUS=real REAL=<folder>`",
              "the same recordings; IMU&Elevoc's Task 1 cannot be run there, for want of fixed phrases"),
             ("Table 1 or the verification sheets on a corpus of your own", "[own_data](own_data.ipynb)",
              "your recordings")]
    return report.as_markdown(pd.DataFrame([{"to get": g, "command": c, "needs": n} for g, c, n in lines]))


# ---- pages

TOUR = "00_tour"
FOLDERS = ("method", "verification")


def pages(folder: str) -> list[Path]: return sorted((PROJECT / "nbs" / folder).glob("[0-9]*.ipynb"))


def page_path(name: str) -> Path:
    "A page by its name"
    return next(p for folder in FOLDERS for p in pages(folder) if p.stem == name)


def title(path: Path) -> str:
    "A page's heading"
    return next(m[1] for c in json.loads(path.read_text("utf-8"))["cells"] if c["cell_type"] == "markdown"
                and (m := re.match(r"# (.+)", "".join(c["source"]))))


def link(path: Path) -> str: return f"[{path.stem}]({path.relative_to(PROJECT / 'nbs').as_posix()})"


def contents() -> str:
    "All pages in reading order, with what they are about and the minutes they take to read"
    lines = []
    for folder in FOLDERS:
        for p in pages(folder):
            lines.append({"page": link(p), "about": title(p), "minutes to read": reading_minutes(p)})
    return report.as_markdown(pd.DataFrame(lines))


def so_far(name: str, found: dict[str, Path]) -> str:
    "Words behind the minutes of a sheet whose first seed has been run in part"
    path = found["stand-in"] / REMEDY_RUNS if "stand-in" in found else None
    if name != "remedies" or path is None or not path.exists() or not remedies_to_run(_read(path)): return ""
    return " for the part that has been run"


def sheets(found: dict[str, Path]) -> str:
    "Every results sheet: what it asks, its executed pages, the command, its recorded minutes"
    lines = []
    for s in SHEETS.values():
        done = ", ".join(f"[{who}](../paper/results/{f.name}/{s.name}.ipynb)"
                         for who, f in found.items() if (f / f"{s.name}.ipynb").exists())
        first = next((m for f in found.values() if (m := minutes(s.name, f))), None)
        how = "make table1" if s.name == "table1" else f"make table SHEET={s.name}"
        spent = "not recorded" if first is None else str(first) + so_far(s.name, found) * bool(first)
        lines.append({"sheet": s.title, "asks": s.asks, "results": done or "not run", "command": f"`{how}`",
                      "minutes, one seed": spent,
                      "defined on": ", ".join(link(page_path(p)) for p in s.pages)})
    return report.as_markdown(pd.DataFrame(lines))


def commands(found: dict[str, Path]) -> str:
    """Five commands and their minutes: estimated for smoke as the command itself would, recorded for the others,
    reading time for the tour"""
    def spent(name):
        m = next((m for f in found.values() if (m := minutes(name, f))), None)
        return "not recorded" if m is None else f"{m}"
    p, n = PRESETS["smoke"], len(PRESETS["smoke"].rows())
    tour = PROJECT / "nbs" / f"{TOUR}.ipynb"
    lines = [("make lab", "opens the tour: see and hear the method work", f"{reading_minutes(tour)} to read"),
             ("make table1 PRESET=smoke",
              f"all {n} rows of Table 1, tiny: a check, evidence of nothing", f"about "
              f"{-(-(p.seconds[0] + n * p.seconds[1]) // 60)}"),
             ("make table1 OUT=mine", "Table 1 on synthetic speech, one seed", spent("table1")),
             ("make table SHEET=ablations OUT=mine", "which part makes a difference, one seed",
              spent("ablations")),
             ("make table SHEET=seo_kim OUT=mine", "the first of the two earlier papers, one seed", spent("seo_kim"))]
    return report.as_markdown(pd.DataFrame([{"command": f"`{c}`", "what you get": w, "minutes": m}
                                            for c, w, m in lines]))


METHOD = ("03_fbank", "12_evaluation")  # first and last page of the method proper
HOUR = ("07_asymmetric_loss", "10_objective")  # one idea of the paper, and the sum that it enters


def where_to_go() -> str:
    "What to read in five minutes, an hour, a day, and with data of one's own; times are counted from the pages"
    method = [p for p in pages("method") if METHOD[0] <= p.stem <= METHOD[1]]
    hour = [reading_minutes(page_path(p)) for p in HOUR]
    if sum(hour) > 60:
        raise ValueError(f"{' and '.join(HOUR)} take {sum(hour)} minutes to read: choose pages that fit an hour")
    lines = [("ten minutes", f"this page, then the first pictures of [the tour]({TOUR}.ipynb); "
                             "[words and symbols](glossary.ipynb)"),
             ("an hour", f"one idea, {link(page_path(HOUR[0]))} (Eq. 4, {hour[0]} minutes), and the sum it enters, "
              f"{link(page_path(HOUR[1]))} (Eq. 3, {hour[1]} minutes)"),
             ("a day", f"the method, {link(page_path(METHOD[0]))} to {link(page_path(METHOD[1]))}, "
                       f"{hours(method)} hours; the exercises have [answers](answers/)"),
             ("more", f"all {sum(len(pages(f)) for f in FOLDERS)} pages, "
                      f"{hours([p for f in FOLDERS for p in pages(f)])} hours: speech with known causes "
                      f"(01a to 01c), corpora (02 to 02c), causes (13c to 16: {link(page_path('13c_arrows'))}), "
                      "the two earlier papers "
                      "([20](verification/20_speakers.ipynb) to 29)"),
             ("a class", "[the course](course/README.md): eight lessons with checks"),
             ("no notebook at hand", "`make site` builds all pages as a site in `_docs`; the article is "
              "[mkdcls.pdf](../paper/mkdcls.pdf)"),
             ("a recording", "`.venv/bin/mkdcls predict a.wav` asks a model of synthetic speech, which takes nearly "
              "every real voice for over 60; "
              f"{link(page_path('17_use'))}"),
             ("an idea of your own", f"{link(page_path('13a_yours'))}: row, loss, task, encoder in one file"),
             ("a corpus of your own", "[own_data](own_data.ipynb): recordings with age and gender, or speaker corpora")]
    return report.as_markdown(pd.DataFrame([{"you have": h, "go to": w} for h, w in lines]))


EQUATIONS = (("1", "mixes the student's input", "04_mixup", "mixup"),
             ("2", "distillation", "06_distillation", "distillation_loss"),
             ("3", "the sum of all losses", "10_objective", "terms"),
             ("4", "the loss of the age heads", "07_asymmetric_loss", "asymmetric_loss"),
             # number, what it is, page, function that computes it
             ("5", "the hierarchy of ages", "08_dependency_loss", "dependency_loss"))


def module_of(path: Path) -> str:
    "The module that a page exports, as a path from the project's root"
    return f"mkdcls/{re.search(r'#[|] default_exp ([a-z0-9_.]+)', path.read_text('utf-8'))[1].replace('.', '/')}.py"


def equations() -> str:
    "Where each equation of the paper is explained and computed, and where its table is made"
    lines = [{"of the paper": f"Eq. {n}, {what}", "page": link(page_path(p)),
              "code": f"[{(m := module_of(page_path(p)))}](../{m}), `{f}`"} for n, what, p, f in EQUATIONS]
    lines.append({"of the paper": "Table 1", "page": "[table1](results/table1.ipynb)",
                  "code": "[mkdcls/results/](../mkdcls/results/)"})
    return report.as_markdown(pd.DataFrame(lines))


# ---- the same seed on another machine

def _pairs(table: pd.DataFrame, each: str) -> dict[tuple[str, str], pd.Series]:
    """Gain of +MKD+CH over base in agesup F1, one value for each of `each` (an arithmetic or a seed), for the
    blocks whose two rows are there"""
    f1 = table.pivot(index=each, columns="row", values="agesup_f1")
    return {(more, base): (f1[more] - f1[base]).dropna()
            for more, base in (("6", "3"), ("10", "7")) if {more, base} <= set(f1)}


def decides(found: dict) -> str:
    "What protocol 2 adds on the first page: how much of it has been run, and its pictures; nothing before that"
    folder = found.get("stand-in")
    if folder is None or not len(family := table_at(folder / "decisive.csv")): return ""
    told = still_to_run(read(folder / "decisive"), named=False)
    worth, doses = worth_of_k(table_at(folder / "decisive-controls.csv")), table_at(folder / "decisive-doses.csv")
    out = f"{int(family['excludes_paper'].sum())} of {len(family)} intervals of gains leave out the paper's"
    if above := int((family["low"] > family["paper"]).sum()): out += f" ({above} lie{'s' * (above == 1)} above it)"
    settled = family[family["word"] != "undecided"]
    asked = settled["contrast"].str.partition(", ")
    for word, of in asked.groupby(settled["word"]):
        out += f"; *{word}*: " + " and ".join(f"{', '.join(part[0])} ({block})" for block, part in of.groupby(2))
    out += "."
    points = "\n".join(f"- {t}" for t in (out, gender_in_short(folder), worth, doses_in_short(doses)) if t)
    told = f"[Protocol 2]({EXECUTED}/decisive.ipynb)" + (f": {told[0].lower()}{told[1:]}" if told else ":")
    return "\n\n".join(p for p in (f"{told}\n\n{points}", remedies_in_short(found)) if p)


def pictures(found: dict) -> str:
    "When the method helps, and what the teacher is worth; nothing before protocol 2 has been run"
    if (folder := found.get("stand-in")) is None: return ""
    doses, controls = (table_at(folder / f"decisive-{name}.csv") for name in ("doses", "controls"))
    varied = ", ".join(DOSE_WORDS[c] for c in doses_shown(doses))
    drawn = [f"![{alt}](../paper/results/{folder.name}/figures/{name}.svg)" for name, alt in
             (("doses", f"Gains against {varied}"),
              ("teacher_worth", "Each kind of K against none"))
             if (folder / "figures" / f"{name}.svg").exists()]
    seeds = sorted({int(n) for t in (doses, controls) if len(t) for n in t["n_seeds"]})
    counted = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1])))) if seeds else ""
    told = (f"*Above: when it helps. Below: what K is worth. {counted} seeds, 95 % intervals. Grey: the "
            "margin of one point. (K: …): the teacher's own score on FCVG, clean speech."
            + " Only true causes that the heads can read in Z gain more than the margin." * only_causes_help(controls)
            + "*") * bool(drawn and seeds)
    return "\n\n".join([*drawn, *[told] * bool(told)])


def gender_in_short(folder: Path) -> str:
    "What the full method does to the paper's other task, in a sentence; nothing before it has been run"
    if not len(t := table_at(folder / "decisive-others.csv")): return ""
    t = t.query("score == 'gender_f1' and contrast == '+MKD+CH − base'")
    ends = lambda c: f"{t[c].min():+z.1f} to {t[c].max():+z.1f}"
    below = " (all intervals below 0)" * bool((t["interval"] == "below 0").all())
    return f"Gender: +MKD+CH − base is {ends('difference')}{below}, the paper's {ends('paper')}."


def remedies_in_short(found: dict) -> str:
    "What would have helped where the line is tied to age, in one sentence; nothing before it has been run"
    if "stand-in" not in found or not (path := found["stand-in"] / REMEDIES_TABLE).exists(): return ""
    found = least_lost(pd.read_csv(path), "base")
    a, b, c, d = (*found.ends(found.none), *found.ends(found.best))
    tied = found.none["train_rho"].iloc[0]
    return (f"Of {len(REMEDIES)} [remedies](method/16b_remedies_in_speech.ipynb) against listening to the telephone "
            f"line {found.tried} {'has' if found.tried == 1 else 'have'} been tried: trained where it tells the age "
            f"(ρ = {tied:g}), base falls from {a:.0f} to {b:.0f} points when that is turned round; with *{found.name}* "
            f"it scores {c:.0f}, and {d:.0f} turned round ({found.none['n_seeds'].iloc[0]:.0f} seeds, "
            f"[measured]({EXECUTED}/remedies.ipynb))."
            + " It is exact in a simulator only."
            * (found.name in ("replay", "match")))


def _over_fair_base(folder: Path) -> str:
    "Gains of +MKD+CH over re-estimated bases, in the order of the blocks"
    t = _read(folder / "ablations.csv").set_index("question")["gain"]
    return ", ".join(f"{t[f'fair_{b}']:+z.1f}" for b in ("ecapa", "resnet", "calls"))


def regime_in_short(folder: Path) -> str:
    "What dealing utterances instead of speakers does, in one sentence; nothing before it has been run"
    if not (path := Path(folder) / "regime.csv").exists(): return ""
    t = pd.read_csv(path, dtype={"row": str})
    base = t.set_index(["row", "split_by", "tested"])["score"]
    left_out = "excludes_paper" in t and t["excludes_paper"].dropna().astype(bool).all()
    who = ("the split's own", "fresh speakers")
    both = lambda row, by: " and ".join(f"{base[row, by, tested]:.0f}" for tested in who)
    return ("Few speakers, 20 utterances each (in the paper's FCVG about 850): if utterances are dealt, base "
            f"scores {both('3', 'utterance')} on the split's own test set and on new speakers (on FCVG "
            f"{both('1', 'utterance')}); if speakers are dealt, {both('3', 'speaker')} ({both('1', 'speaker')}) "
            f"([measured]({EXECUTED}/regime.ipynb))."
            + " Gains like the paper's come of neither." * bool(left_out))


def machines_in_short(path: Path = ARITHMETIC) -> str:
    "One sentence of `other_machine` for the first page; nothing where that was not measured"
    if not Path(path).exists(): return ""
    t, moved = pd.read_csv(path, dtype={"row": str}), {}
    for (encoder, _), part in t.groupby(["encoder", "row"], sort=False):
        widths = [part[c].max() - part[c].min() for c in ("agesup_f1", "agesup_f1_as_trained")]
        moved[encoder] = max(moved.get(encoder, 0.), *(w for w in widths if pd.notna(w)))
    told = " and ".join(f"{v:.1f} ({report.ENCODER.get(e, e)})" for e, v in moved.items())
    return (f"The same seed may differ by up to {told} points on another machine: compare means over seeds "
            "([measured](../paper/results/README.md#the-same-seed-on-another-machine)).")


def other_machine(path: Path = ARITHMETIC, sheet: Path = RESULTS / "standin-laptop" / "runs.csv") -> str:
    "A section on how far scores move when only the processor's rounding changes; nothing where that was not measured"
    if not Path(path).exists(): return ""
    t = pd.read_csv(path, dtype={"row": str})
    if lost := [c for c in ARITHMETIC_COLUMNS if c not in t]:
        raise ValueError(f"{Path(path).name} has no column {', '.join(lost)}; wanted are "
                         f"{', '.join(ARITHMETIC_COLUMNS)}")
    t["encoder"] = t["encoder"].replace(report.ENCODER)
    lines, moved = [], {}
    for (row, encoder, method), part in t.groupby(["row", "encoder", "method"], sort=False):
        reach = {c: (part[c].min(), part[c].max()) for c in ARITHMETIC_COLUMNS[4:]}
        widths = [hi - lo for lo, hi in (reach["agesup_f1"], reach["agesup_f1_as_trained"]) if pd.notna(lo)]
        moved[encoder] = max(moved.get(encoder, 0.), *widths)
        cell = lambda lo, hi: "" if pd.isna(lo) else f"{lo:.1f} to {hi:.1f}" if round(hi - lo, 1) else f"{lo:.1f}"
        lines.append({"row": row, "encoder": encoder, "method": method, "agesup F1": cell(*reach["agesup_f1"]),
                      "as trained": cell(*reach["agesup_f1_as_trained"]),
                      "gender F1": cell(*reach["gender_f1"])})
    told = "; ".join(f"{e} rows by up to {v:.1f} points" for e, v in moved.items())
    here, seeds = _pairs(t, "arithmetic"), _pairs(_read(sheet), "seed")
    assert ("10", "7") not in here or here["10", "7"].std() > .8 * seeds["10", "7"].std(), (
        "rounding moves a ResNet's seed less than another seed does: say so")
    gain = "".join(f" The gain of row {more} over row {base} goes from {g.min():+z.1f} to {g.max():+z.1f}, "
                   f"a standard deviation of {g.std():.1f}, where the "
                   f"{len(seeds[more, base])} committed seeds have {seeds[more, base].std():.1f}."
                   for (more, base), g in here.items())
    if ("10", "7") in here:
        again = _read(sheet.parent / "ablations" / "runs.csv").query("row == '7r' and seed == 0").iloc[0]
        more = again["agesup_f1"] - again["as_trained_agesup_f1"]
        ours, other = here["10", "7"].max(), seeds["10", "7"].max()
        assert abs(ours - other) < .01 and more > 1, "the committed seed 0 is not the extreme of both lists: say so"
        gain += (" On this one seed, then, rounding moves the ResNet's gain at least as much as another seed does. The "
                 "committed seed 0 is the extreme of both lists; its base "
                 f"gains {more:.1f} points by re-estimation (ablations).")
    n = t["arithmetic"].nunique() - 1
    return ("## The same seed on another machine\n\nThe order in which a convolution rounds its sums differs between "
            "processors, and training amplifies the difference. "
            f"Rows {', '.join(dict.fromkeys(t['row']))} of Table 1 "
            "were trained with the same seed on two machines, the one of the committed sheet "
            "(two threads) and another "
            f"(one thread) under {n} arithmetic{'s' * (n > 1)} (settings that make one processor round its sums as "
            "another would). Their agesup F1, as "
            f"headline or as trained, moves: {told}.{gain} So only means over several seeds may be compared. "
            "We know of no setting that makes two processors "
            f"round alike; deterministic algorithms fix the result on one machine only. "
            f"`make portable SHEET=table1` repeats the measurement.\n\n{report.as_markdown(pd.DataFrame(lines))}")
