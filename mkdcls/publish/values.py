"""Every number, word and table of the article and the poster, from the committed records, in one file.

`collect_values` reads the records under paper/, gives each value a name and the file it comes from, and refuses where a
sentence of the article would not follow from it. The same records give the same bytes.
"""
from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from mkdcls.encoders import WIDTHS, encoder, n_params
from mkdcls.engine.needs import settings
from mkdcls.evaluation import MARGIN
from mkdcls.publish.named import (PAPER, PRIMARY_ROWS, RESULT_FOLDERS, Values, bracketed, count_word,
                                  difference_cell, fixed, markdown_table, record_table, signed)
from mkdcls.publish.second import of_second
from mkdcls.results import front
from mkdcls.results.report import oracle_bounds
from mkdcls.runs import PRESETS
from mkdcls.seeds import Paired, paired_gains
from mkdcls.standin import LONGEST, MEDIAN, SHORTEST, STANDINS


def three(texts) -> str:
    "A list of three in a sentence"
    first, second, third = texts
    return f"{first}, {second} and {third}"


# ---- what the paper prints, and the networks

def of_paper(v: Values):
    "The paper's gains, and the sizes of its networks as we build them"
    path = v.path("published", "table1.csv")
    t = record_table(path).set_index("row")
    for name, (row, base, _) in PRIMARY_ROWS.items():
        v.put(path, **{f"paper__{name}__gain": signed(t.loc[row, "agesup_f1"] - t.loc[base, "agesup_f1"]),
                       f"paper__{name}__base": fixed(t.loc[base, "agesup_f1"], 2),
                       f"paper__{name}__full": fixed(t.loc[row, "agesup_f1"], 2)})
    v.put(path, paper__teacher=fixed(t.loc["1", "agesup_f1"], 2), paper__ch__gain=signed(t.loc["5", "agesup_f1"]
          - t.loc["3", "agesup_f1"]), paper__mkd__gain=signed(t.loc["4a", "agesup_f1"] - t.loc["3", "agesup_f1"], 2),
          paper__mkd__resnet=signed(t.loc["8", "agesup_f1"] - t.loc["7", "agesup_f1"], 2),
          paper__gender__gains=three(signed(t.loc[row, "gender_f1"] - t.loc[base, "gender_f1"])
                                     for row, base, _ in PRIMARY_ROWS.values()))
    entry = (PAPER / "article" / "references.bib").read_text("utf-8").split("@inproceedings{baeg2023,", 1)[1]
    v.put("paper/article/references.bib", paper__venue=", ".join(
        re.search(rf"{field} = {{(.*?)}}", entry)[1] for field in ("booktitle", "year")))
    code = "mkdcls/encoders.py"
    size = {k: n_params(encoder(*k)) for k in (("ecapa", "teacher"), ("ecapa", "student"), ("resnet", "teacher"),
                                               ("resnet", "student"), ("ecapa", "student", "paper_literal"))}
    for k, n in size.items(): v.put(code, **{"size__" + "__".join(k): f"{n / 1e6:.2f} million"})
    for family in ("ecapa", "resnet"):
        v.put(code, **{f"size__{family}__ratio": f"{100 * size[family, 'student'] / size[family, 'teacher']:.0f} %"})
    more = size["ecapa", "student", "paper_literal"] / size["ecapa", "teacher"] - 1
    v.asked(code, more > 0, "scale alone makes the student larger")
    v.put(code, size__literal__more=f"{100 * more:.1f} %")


def of_protocol(v: Values):
    "What protocol 1 discloses, out of its own text"
    path = v.path("protocol.md")
    text = path.read_text("utf-8")
    plain = r"\+MKD\+CH scored ([\d.]+ and [\d.]+) as trained, and ([\d.]+ and [\d.]+) with re-estimated"
    first, second = re.search(plain, text).groups()
    alone = re.search(r"two runs of \+CH scored ([\d.]+ and [\d.]+)", text)[1]
    v.put(path, look__trained=first, look__again=second, look__ch=alone.rstrip("."))
    page = v.path("results", "README.md")
    _, told = markdown_table(page.read_text("utf-8"), "How far to trust five seeds")
    right = [int(r[1].strip(" %")) for r in told]
    v.put(page, cover__least=f"{min(right)} %", cover__most=f"{max(right)} %")
    v.put("mkdcls/evaluation.py", margin=count_word(int(MARGIN)), level="95 %")


def paired_cell(c: Paired, digits: int = 1) -> str: return difference_cell(c.value, c.low, c.high, digits)


# ---- what the stand-in can show at all

# block → role of its base, decades of that role
WEAK = " ‡"  # the mark of a block whose base closes less than half of the gap (protocol 1, section 3)


def bounds_of(v: Values, name: str) -> tuple[float, float, float]:
    "Per cent of the gap from chance to the oracle that a block's base closes; oracle and base on observed labels"
    runs = record_table(v.path("results", RESULT_FOLDERS["standin"], "runs.csv"))
    base = runs[runs["row"] == PRIMARY_ROWS[name][1]]
    chance, oracle, observed = oracle_bounds(base["dataset"].iloc[0], runs["preset"].iloc[0],
                                             tuple(sorted(base["seed"])))
    closed = 100 * (base["true_agesup_f1"].mean() - chance) / (oracle - chance)
    return closed, observed, base["agesup_f1"].mean()


def of_bounds(v: Values):
    "How much of the gap each base closes, and how much room the oracle leaves above it"
    path = v.path("results", RESULT_FOLDERS["standin"], "runs.csv")
    closed = {}
    for name in PRIMARY_ROWS:
        closed[name], oracle, base = bounds_of(v, name)
        v.put(path, **{f"gap__{name}__closed": f"{fixed(closed[name])} %", f"oracle__{name}": fixed(oracle, 0),
                       f"room__{name}": fixed(oracle - base)})
    v.asked(path, closed["calls"] < 50 <= min(closed["ecapa"], closed["resnet"]),
            "base closes less than half of the gap on call-centre speech alone")


# ---- Table 1 under protocol 1

def score_cell(row: pd.Series, task: str) -> str:
    "F1 with its interval"
    low, high = json.loads(row[f"{task}_f1_ci95"])
    return f"{fixed(row[f'{task}_f1'])} {bracketed(low, high, sign=False)}"


def of_table1(v: Values, corpus: str):
    "Scores, gains and their words for one corpus"
    folder = v.path("results", RESULT_FOLDERS[corpus])
    table, gains, runs = (record_table(folder / f"{n}.csv") for n in ("table1", "gains", "runs"))
    g = gains.query("task == 'agesup' and scope == 'pooled'").set_index("row")
    t = table.set_index("row")
    rows = []
    for name, r in t.iterrows():
        own = g.loc[name] if name in g.index else None
        weak = WEAK if corpus == "standin" and r["dataset"] == "call centre" else ""  # of_bounds asks that it is so
        rows.append([name, r["encoder"].split("-")[0], r["dataset"],
                     r["method"] + (" (mse)" if r["kd_loss"] == "mse" else ""), fixed(r["paper_gender_f1"]),
                     fixed(r["gender_f1"]), fixed(r["paper_agesup_f1"]), score_cell(r, "agesup") + weak,
                     "" if own is None else signed(own["paper_gain"]),
                     "" if own is None else difference_cell(own["gain"], own["low"], own["high"]) + weak,
                     "" if own is None or np.isnan(own["as_trained"]) else signed(own["as_trained"])])
    v.table(folder / "table1.csv", f"table1.{corpus}",
            ["row", "encoder", "trained on", "method", "paper", "ours", "paper", "ours", "paper", "ours", "as trained"],
            rows)
    at = f"one__{corpus}__"
    for name, (row, base, _) in PRIMARY_ROWS.items():
        c = g.loc[row]
        v.put(folder / "gains.csv", **{f"{at}{name}__span": difference_cell(c["gain"], c["low"], c["high"]),
              f"{at}{name}__gain": signed(c["gain"]), f"{at}{name}__trained": signed(c["as_trained"]),
              f"{at}{name}__word": c["status"], f"{at}{name}__base": fixed(t.loc[base, "agesup_f1"]),
              f"{at}{name}__full": fixed(t.loc[row, "agesup_f1"])})
    first = g[g["primary"]]
    v.asked(folder / "gains.csv", bool((first["high"] < first["paper_gain"]).all()),
            f"every primary interval on {corpus} lies below the paper's gain")
    words = first["status"].value_counts()
    v.put(folder / "gains.csv", **{f"{at}undecided": count_word(int(words.get("undecided", 0))),
          f"{at}same": count_word(int(words.get("same direction", 0))), f"{at}primary": count_word(len(first))})
    minutes, summed = front.minutes_of_all(folder)
    v.put(folder / "runs.csv", **{f"{at}seeds": count_word(runs["seed"].nunique()), f"{at}minutes": str(minutes),
          f"{at}summed": str(summed), f"{at}runs": str(len(runs)),
          f"{at}trained__most": f"{runs['train_utterances'].max():,}",
          f"{at}tested": f"{runs['test_speakers'].max():,}", f"{at}devices": " and ".join(runs["device"].unique()),
          f"{at}finished": str(runs["finished"].max())[:10]})
    v.put(folder / "table1.csv", **{f"{at}lowest": fixed(t["agesup_f1"].min(), 0),
          f"{at}highest": fixed(t["agesup_f1"].max(), 0), f"{at}teacher": fixed(t.loc["1", "agesup_f1"]),
          f"{at}gender__lowest": fixed(t["gender_f1"].min(), 0),
          f"{at}gender__highest": fixed(t["gender_f1"].max(), 0)})
    width = g["high"] - g["low"]
    v.put(folder / "gains.csv", **{f"{at}width__least": fixed(width.min(), 0),
          f"{at}width__most": fixed(width.max(), 0)})
    return t, g, runs


def of_standin(v: Values):
    "What only the stand-in's table shows: BatchNorm, the studio's shortcut, the halves of Z"
    t, g, runs = of_table1(v, "standin")
    folder = v.path("results", RESULT_FOLDERS["standin"])
    mkd = g[g["as_trained"].notna()]
    v.asked(folder / "gains.csv", bool((mkd["as_trained"] < -MARGIN).all()) and not (mkd["high"] < -MARGIN).any(),
            "every row with MKD loses more than the margin as trained, and none is clearly worse re-estimated")
    v.put(folder / "gains.csv", mkd__rows=count_word(len(mkd)), mkd__lost__most=fixed(-mkd["as_trained"].min()),
          mkd__lost__least=fixed(-mkd["as_trained"].max()))
    of_trained(v, runs, folder / "runs.csv", list(mkd.index))
    of_resnet_seeds(v, runs, folder / "runs.csv")
    f1 = runs.groupby("row").mean(numeric_only=True)
    alone = (f1["agesup_f1"] - f1["LTV_agesup_f1"]).dropna()
    # all of FCVE is over sixty, so that its F1 is 2r/(1 + r) for the share r that is recognised
    found = (100 * runs["FCVE_agesup_f1"] / (200 - runs["FCVE_agesup_f1"])).min()
    v.put(folder / "runs.csv", ltv__less=fixed(alone.min()), ltv__most=fixed(alone.max()),
          fcve__least=f"{np.floor(found):.0f} %")
    z = f1[f1["no_k_agesup_f1"].notna()].drop("13")
    v.asked(folder / "runs.csv", bool((z["no_x_agesup_f1"] > z["agesup_f1"] / 2).all()),
            "zeros in X's place leave more than half of the score")
    v.put(folder / "runs.csv", nok__least=fixed(z["no_k_agesup_f1"].min(), 0),
          nok__most=fixed(z["no_k_agesup_f1"].max(), 0))
    seven = runs.loc[runs["row"] == "7", "agesup_f1"]
    v.put(folder / "runs.csv", seven__least=fixed(seven.min(), 0), seven__most=fixed(seven.max(), 0))
    base = t.loc[["3", "4a", "4b", "5", "6", "7", "8", "9", "10"], "params"]
    v.put(folder / "table1.csv", params__least=f"{base.min() / 1e6:.2f}", params__most=f"{base.max() / 1e6:.2f}",
          conflict__ch=f"{fixed(t.loc['5', 'conflict_rate'])} %")
    spent = runs.groupby("row")["train_s"].mean()
    v.put(folder / "runs.csv", seconds__least=fixed(spent.min(), 0), seconds__most=fixed(spent.max(), 0))


BASE_OF = {row: base for base, rows in {"3": ("4a", "4b", "5", "6"), "7": ("8", "9", "10"), "11": ("12", "13")}.items()
           for row in rows}


def of_trained(v: Values, runs: pd.DataFrame, path: Path, rows: list[str]):
    "Rows with MKD before re-estimation against base, each with Student's t over the paired seeds of protocol 1"
    f1, trained = (runs.pivot(index="seed", columns="row", values=c) for c in ("agesup_f1", "as_trained_agesup_f1"))
    gains = {r: paired_gains((trained[r] - f1[BASE_OF[r]]).dropna()) for r in rows}
    clear = [r for r, c in gains.items() if c.high < -MARGIN]
    v.put(path, mkd__below=count_word(sum(c.high < 0 for c in gains.values())), mkd__clear=count_word(len(clear)),
          mkd__spans="; ".join(f"{r} {paired_cell(c)}" for r, c in gains.items()))


def of_resnet_seeds(v: Values, runs: pd.DataFrame, path: Path):
    "How much of the ResNet's gain under protocol 1 is one seed"
    by = runs.pivot(index="seed", columns="row", values="agesup_f1")
    gain = (by["10"] - by["7"]).dropna()
    most = gain.idxmax()
    v.put(path, one__resnet__t=paired_cell(paired_gains(gain)), one__resnet__most=signed(gain[most]),
          one__resnet__base=fixed(by.loc[most, "7"]), one__resnet__without=paired_cell(paired_gains(gain.drop(most))))


def of_real(v: Values):
    "Real speech, the floors that need no listening, and where the recordings come from"
    of_table1(v, "real")
    folder = v.path("results", RESULT_FOLDERS["real"])
    words = record_table(folder / "gains.csv")["status"]
    v.asked(folder / "gains.csv", set(words) == {"undecided"}, "every gain on real speech is undecided")
    chance = ("one.real.ecapa.base", "one.real.resnet.base", "one.real.calls.base")
    page = v.path("results", "README.md")
    head, rows = markdown_table(page.read_text("utf-8"), "What no listening scores")
    floor = {(r[0], r[1]): r for r in rows}
    v.put(page, floor__real=floor["real speech", "LTV+FCVE"][4], floor__standin=floor["stand-in", "LTV+FCVE"][4],
          floor__constant=floor["stand-in", "LTV+FCVE"][3], floor__real__calls=floor["real speech", "call centre"][4])
    v.table(page, "floors", head, rows)
    least = min(float(v.texts[f"floor.real{at}"]["text"]) for at in ("", ".calls"))
    v.asked(page, all(float(v.texts[b]["text"]) < least + 6 for b in chance), "base on real speech is close to chance")
    path = v.path("selection", "real.csv")
    chosen = record_table(path)
    people = chosen.groupby("corpus")["speaker"].nunique()
    v.put(path, **{f"real__{'accent' if 'Accent' in k else 'common'}": f"{n:,}" for k, n in people.items()})
    folds = chosen.assign(language=chosen["file"].str.extract(r"common_voice/([^/]+)/")[0])
    licence = {"Speech Accent Archive": "CC BY-NC-SA 2.0 (by a copy of it)", "Common Voice 6.1": "CC0 1.0"}
    v.table(path, "recordings", ["corpus", "plays", "speakers", "clips", "languages", "licence"],
            [[corpus, role, f"{part['speaker'].nunique():,}", f"{len(part):,}",
              "English, many accents" if part["language"].isna().all() else str(part["language"].nunique()),
              licence[corpus]] for (role, corpus), part in folds.groupby(["role", "corpus"], sort=False)])


# ---- the four stand-ins

def of_corpora(v: Values):
    "The four synthetic corpora as the generator has them, with what preset laptop draws"
    size = PRESETS["laptop"].speakers
    def shares(s):
        groups = {"20-30": 0., "40-50": 0., "60+": 0.}
        for d, w in zip(s.decades, s.weights):
            groups["20-30" if d < 40 else "40-50" if d < 60 else "60+"] += w / sum(s.weights)
        return ", ".join(f"{100 * x:.0f} %" for x in groups.values())
    v.table("mkdcls/standin.py", "corpora",
            ["stands in for", "speakers", "ages", "20-30, 40-50, 60+", "line", "noise, dB", "slips", "second voice"],
            [[s.name, f"{size[s.name]:,}", f"{s.decades[0]}-{s.decades[-1] + 9}", shares(s), s.channel,
              f"{s.snr_mean:g} ± {s.snr_sd:g}" if s.channel == "telephone" else "none", f"{100 * s.label_noise:.0f} %",
              f"{100 * s.p_overlay:.0f} %"] for s in STANDINS.values()])
    v.put("mkdcls/standin.py", corpora__shortest=f"{SHORTEST:g}", corpora__median=f"{MEDIAN:g}",
          corpora__longest=f"{LONGEST:g}")


# ---- ablations, interventions, what is printed

def of_ablations(v: Values):
    "Differences of the ablation sheet, where they rest on as many seeds as the table"
    path = v.path("results", RESULT_FOLDERS["standin"], "ablations.csv")
    a = record_table(path)
    at = a.set_index(["question", "row"])
    def span(question, row):
        c = at.loc[(question, row)]
        return difference_cell(c["gain"], c["low"], c["high"])
    for name, (row, base, _) in PRIMARY_ROWS.items():
        question = {"ecapa": "fair_ecapa", "resnet": "fair_resnet", "calls": "fair_calls"}[name]
        c = at.loc[(question, row)]
        v.put(path, **{f"fair__{name}__span": span(question, row), f"fair__{name}__word": c["status"],
                       f"fair__{name}__gain": signed(c["gain"])})
        printed = record_table(v.path("published", "table1.csv")).set_index("row")["agesup_f1"]
        v.asked(path, c["high"] < printed[row] - printed[base], "the control's interval lies below the paper's gain")
    for name, question, row in (
            ("rebase", "batchnorm", "3r"), ("mix", "mkd", "3mix"), ("kd", "mkd", "kd"), ("mkd", "mkd", "4a"),
            ("random", "teacher", "random"), ("second", "teacher", "second"), ("subce", "ch", "subce"),
            ("asl", "ch", "asl"), ("ch", "ch", "5r"), ("eqfour", "asymmetry", "subasl"),
            ("official", "asymmetry", "official"), ("eqfive", "dependency", "5r"),
            ("literal", "dependency", "dep_literal"), ("shifted", "dependency", "dep_shifted"),
            ("backdoor", "intervention", "bd"),
            ("prototypes", "intervention", "pr"), ("subtosup", "direction", "features")):
        v.put(path, **{f"abl__{name}": span(question, row)})
    literal = at.loc[("dependency", "dep_literal")]
    v.put(path, literal__f1=fixed(literal["agesup_f1"]), literal__against=fixed(literal["against_f1"]),
          literal__conflict=f"{fixed(literal['conflict_rate'], 0)} %",
          corrected__conflict=f"{fixed(at.loc[('dependency', '5r'), 'conflict_rate'])} %",
          without__conflict=f"{fixed(at.loc[('ch', 'subasl'), 'conflict_rate'])} %")
    v.asked(path, at.loc[("dependency", "dep_constant"), "gain"] == 0, "Eq. 5 with constant bases changes nothing")
    firm = a[a["n_seeds"] >= 5]
    v.put(path, abl__lines=str(len(a)), abl__firm=str(len(firm)), abl__questions=count_word(a["question"].nunique()),
          abl__better=count_word(int((firm["low"] > MARGIN).sum())),
          abl__worse=count_word(int((firm["high"] < -MARGIN).sum())))
    v.asked(path, set(firm[firm["low"] > MARGIN]["question"]) == {"fair_calls"},
            "of the ablations with five seeds only the call centre's clears the margin")
    v.asked(path, set(firm[firm["high"] < -MARGIN]["row"]) == {"dep_literal"},
            "of the ablations with five seeds only Eq. 5 as printed is clearly worse")
    spelt = {"batchnorm": "BatchNorm", "mkd": "MKD", "views": "views", "distance": "distance", "teacher": "teacher",
             "data": "data, size", "ch": "CH", "asymmetry": "Eq. 4", "dependency": "Eq. 5", "sum": "agesup head",
             "direction": "direction", "intervention": "intervention", "numbers": "numbers, MKD",
             "numbers_ch": "numbers, CH", "fair_ecapa": "full, ECAPA", "fair_resnet": "full, ResNet",
             "fair_calls": "full, call centre"}
    plain = {"3": "base, as trained", "3r": "base", "7r": "base", "11r": "base", "4a": "+MKD", "5r": "+CH",
             "6": "+MKD+CH", "subce": "agesub head, CE", "subasl": "agesub head, Eq. 4"}
    v.table(path, "ablations", ["part", "what is changed", "against", "seeds", "F1", "difference", "word"],
            [[spelt.get(r["question"], r["question"]), r["what"], plain.get(r["against"], r["against"]), r["n_seeds"],
              fixed(r["agesup_f1"]), difference_cell(r["gain"], r["low"], r["high"]),
              r["status"] + WEAK * (r["question"] == "fair_calls")] for _, r in firm.iterrows()])


def of_interventions(v: Values):
    "Effects of one cause changed; the tie of line and age turned round; K and X dealt out anew"
    path = v.path("results", RESULT_FOLDERS["standin"], "interventions.csv")
    t = record_table(path)
    def one(**where):
        part = t
        for k, w in where.items(): part = part[part[k].isna() if w is None else part[k] == w]
        if len(part) != 1: raise ValueError(f"{v.name_of(path)}: {len(part)} lines are {where}")
        return part.iloc[0]
    rows = {"base": "3", "mkd": "4a", "ch": "5", "full": "6", "backdoor": "bd", "prototypes": "pr"}
    most, least = t["train_rho"].max(), t["test_rho"].min()
    lost = {}
    for name, row in rows.items():
        ends = [one(sheet="rho", row=row, task="agesup", measure="f1", against=None, train_rho=most, test_rho=at)
                for at in (most, least)]
        fall = one(sheet="rho", row=row, task="agesup", measure="fall_f1", against=None, train_rho=most)
        lost[name] = fall["value"]
        span = bracketed(fall["low"], fall["high"], 0, False)
        v.put(path, **{f"rho__{name}__tied": fixed(ends[0]["value"], 0),
                       f"rho__{name}__turned": fixed(ends[1]["value"], 0),
                       f"rho__{name}__lost": f"{fixed(fall['value'], 0)} {span}"})
    v.put(path, rho__most=fixed(most), rho__least=fixed(least), rho__lost__least=fixed(min(lost.values()), 0),
          rho__lost__most=fixed(max(lost.values()), 0), rho__variants=count_word(len(rows)),
          rho__seeds=count_word(n := int(fall["n_seeds"])) + (" seeds" if n > 1 else " seed"))
    for name, row in (("base", "3"), ("mkd", "4a"), ("ch", "5"), ("full", "6")):
        c = one(sheet="effects", row=row, under="channel", task="agesup", measure="move", against=None)
        v.put(path, **{f"drift__{name}": difference_cell(c["value"], c["low"], c["high"], 2)})
    c = one(sheet="effects", row="6", under="channel", task="agesup", measure="move", against="base")
    v.put(path, drift__less=difference_cell(c["value"], c["low"], c["high"], 2),
          effects__seeds=count_word(int(c["n_seeds"])), effects__speakers=f"{int(c['n_speakers']):,}")
    v.asked(path, c["high"] < 0, "+MKD+CH drifts less than base over the studio line")
    for name, row in (("base", "3"), ("mkd", "4a"), ("ch", "5"), ("full", "6")):
        voice = one(sheet="effects", row=row, under="overlay", task="agesup", measure="move", against=None)
        sex = one(sheet="effects", row=row, under="gender", task="agesup", measure="tv", against=None)
        v.put(path, **{f"overlay__{name}": difference_cell(voice["value"], voice["low"], voice["high"], 2),
                       f"sexed__{name}": f"{fixed(sex['value'], 2)} {bracketed(sex['low'], sex['high'], 2, False)}"})
    c = one(sheet="effects", row="6", under="overlay", task="agesup", measure="move", against="base")
    v.asked(path, c["high"] < 0, "a second voice moves +MKD+CH further towards younger than base")
    sex = one(sheet="effects", row="oracle", under="gender", task="agesup", measure="tv", against=None)
    v.put(path, overlay__more=difference_cell(c["value"], c["low"], c["high"], 2),
          sexed__oracle=fixed(sex["value"], 2))
    for name, row in (("mkd", "4a"), ("full", "6")):
        fallen = one(sheet="refuters", row=row, under="K: anybody", task="agesup", measure="drop_f1")
        own = one(sheet="refuters", row=row, under="X and K: own pairs", measure="cka")
        dealt = one(sheet="refuters", row=row, under="X and K: dealt anew within gender and decade", measure="cka")
        v.asked(path, own["value"] > dealt["high"], "X and K are more alike on their own pairs than dealt anew")
        v.put(path, **{f"k__{name}__lost": fixed(fallen["value"]), f"cka__{name}__own": fixed(own["value"], 2),
                       f"cka__{name}__dealt": f"{fixed(dealt['low'], 2)} to {fixed(dealt['high'], 2)}"})
    path = v.path("results", RESULT_FOLDERS["standin"], "sensitivity.csv")
    s = record_table(path)
    v.table(path, "sensitivity", ["spread", "base", "+MKD+CH", "gain", "as trained", "seeds"],
            [[f"× {r['spread']:g}", fixed(r["base_f1"]), fixed(r["f1"]),
              difference_cell(r["gain"], r["low"], r["high"]),
              signed(r["as_trained"]), r["n_seeds"]] for _, r in s.iterrows()])
    v.put(path, sensitivity__least=signed(s["gain"].min()), sensitivity__most=signed(s["gain"].max()),
          sensitivity__seeds=count_word(int(s["n_seeds"].min())))
    v.asked(path, set(s["status"]) == {"undecided"}, "the sensitivity sheet decides nothing")


# ---- the two verification papers, cost, other processors

# sheet → its paper, and the rows that the article prints
SYSTEMS_SHOWN = {"seo_kim": ("Seo & Kim", ("sk-GAP", "sk-MLA-SAP", "sk-MLA-SAP-FR", "sk-MLA-SAP-FR-DLN")),
                 "imu_elevoc": ("IMU&Elevoc", ("ti-SE-ResNet-34", "ti-SE-Res2Net-50", "ti-ECAPA-TDNN", "ti-embeddings",
                                "ti-SE-Res2Net-50-cos", "td-SE-Res2Net-50-scratch", "td-SE-Res2Net-50"))}


def of_verification(v: Values):
    "The two papers on speaker verification: printed and measured"
    rows, lines = [], []
    for name, (paper, wanted) in SYSTEMS_SHOWN.items():
        found = {}
        for corpus, folder in RESULT_FOLDERS.items():
            path = v.path("results", folder, f"{name}.csv")
            found[corpus] = record_table(path).set_index("row")
            v.put(path, **{f"verify__{name}__{corpus}__seeds": count_word(int(found[corpus]["n_seeds"].max()))})
            claims = record_table(v.path("results", folder, f"{name}-claims.csv"))
            lines.append(claims)
        for row in wanted:
            def cell(t, row=row):
                if row not in t.index: return ""
                value, low, high = t.loc[row, ["eer", "eer_low", "eer_high"]]
                return f"{fixed(value)} {bracketed(low, high, sign=False)}"
            cells = [cell(t) for t in found.values()]
            task = {"sk": "", "ti": "Task 2: ", "td": "Task 1: "}[row[:2]]
            label = {"embeddings": "averaged embeddings", "SE-Res2Net-50-cos": "SE-Res2Net-50, taught by their average"}
            rows.append([paper, task + label.get(row[3:], row[3:].replace("-scratch", ", from scratch")),
                         fixed(found["standin"].loc[row, "paper_eer"], 2), *cells])
    v.table(v.path("results", RESULT_FOLDERS["standin"], "seo_kim.csv"), "verification",
            ["paper", "system", "printed", "stand-in", "real speech"], rows)
    every = pd.concat(lines)
    v.asked(v.path("results", RESULT_FOLDERS["standin"], "seo_kim-claims.csv"), set(every["status"]) == {"undecided"},
            "every contrast of the two verification papers is undecided")
    own = every.drop_duplicates("claim")
    also = every[every["corpus"] == "real"]
    v.asked(v.path("results", RESULT_FOLDERS["standin"], "seo_kim-claims.csv"), every["n_seeds"].max() < 5,
            "no contrast of the two verification papers has five seeds")
    v.put(v.path("results", RESULT_FOLDERS["standin"], "seo_kim-claims.csv"), verify__contrasts=str(len(own)),
          verify__ours=count_word(int(own["claim"].str.contains("(ours)", regex=False).sum())),
          verify__also=str(len(also)))
    printed = own[own["paper_eer_gain"] > 0]
    coin = printed["coin"] > 0  # a network of the pair answers at chance in some seed
    v.put(v.path("results", RESULT_FOLDERS["standin"], "seo_kim-claims.csv"), verify__coin=count_word(int(coin.sum())))
    printed = printed[~coin]
    v.put(v.path("results", RESULT_FOLDERS["standin"], "seo_kim-claims.csv"), verify__printed=str(len(printed)),
          verify__against=count_word(int((printed["high"] < 0).sum())),
          verify__with=count_word(int((printed["low"] > 0).sum())))
    page = v.path("results", "README.md")
    _, told = markdown_table(page.read_text("utf-8"), "Every table of the three papers")
    sizes = " ".join(r[5] for r in told)
    base, whole = re.search(r"([\d,]+) parameters \(baseline.*?and ([\d,]+) \(proposal", sizes).groups()
    off, same, built = re.search(r"within ([\d.]+) % of print.*?, (\d+) of (\d+) as printed", sizes).groups()
    v.put(page, verify__base=base, verify__whole=whole, verify__off=f"{off} %", verify__same=count_word(int(same)),
          verify__built=count_word(int(built)))


def of_cost(v: Values):
    "Minutes of every sheet, as recorded"
    rows = []
    folder = v.path("results", RESULT_FOLDERS["standin"])
    inside = {"table1": "runs.csv", "remedies": "remedies-runs.csv", "interventions": "interventions-runs.csv",
              "seo_kim": "seo_kim-runs.csv", "imu_elevoc": "imu_elevoc-runs.csv"}
    for name, title in (("table1", "the paper's Table 1"), ("ablations", "Ablations"),
                        ("interventions", "Interventions"), ("sensitivity", "Sensitivity"),
                        ("seo_kim", "Seo & Kim"), ("imu_elevoc", "IMU&Elevoc"),
                        ("decisive", "Protocol 2: primary contrasts, controls, doses"),
                        ("regime", "Protocol 2: few speakers, many utterances"), ("remedies", "Protocol 2: remedies")):
        path = folder / inside.get(name, f"{name}/runs.csv")
        if "Protocol 2" in title and not (path.exists() and (folder / f"{name}.csv").exists()): continue
        runs = record_table(path)
        if not {"device", "total_s", "seed"} <= set(runs): continue
        title += " (in part)" * bool(front.so_far(name, {"stand-in": folder}))
        runs = front.once_each(runs)
        v.asked(path, bool(runs["device"].str.endswith("threads").all()), "no GPU was used")
        rows.append([title, len(runs), runs["seed"].nunique(), front.minutes(name, folder),
                     f"{runs['total_s'].sum() / 3600:.1f}"])
        v.put(path, **{f"cost__{name}__minutes": str(front.minutes(name, folder))})
    v.table(v.path("results", RESULT_FOLDERS["standin"], "runs.csv"), "cost",
            ["sheet", "runs", "seeds", "minutes for the first seed, two cores", "hours summed over runs"], rows)
    v.put("mkdcls/runs.py", laptop__speakers=f"{max(PRESETS['laptop'].speakers.values()):,}")


def of_settings(v: Values):
    "Sizes and schedules of the presets, a column each"
    names = ("laptop", "gpu", "paper")
    def each(what, text): return [what, *(text(PRESETS[n]) for n in names)]
    def size(*of): return lambda p: f"{n_params(encoder(*of, scale_name=p.scale)) / 1e6:.2f} million"
    def channels(p):
        w = WIDTHS[p.scale]["ecapa"]
        return f"{w['teacher'][0]} and {w['student'][0]}"
    def drops(s): return f"× {s.factor:g} at epoch{'s' * (len(s.drops) > 1)} {', '.join(map(str, s.drops))}"
    rows = [each("ECAPA-TDNN encoder, teacher", size("ecapa", "teacher")),
            each("the same, student", size("ecapa", "student")),
            each("its channels, teacher and student", channels),
            each("ResNet encoder, teacher", size("resnet", "teacher")),
            each("the same, student", size("resnet", "student")),
            each("epochs, ECAPA-TDNN and ResNet", lambda p: f"{p.ecapa.epochs} and {p.resnet.epochs}"),
            each("utterances a step", lambda p: str(p.ecapa.batch)), each("Adam's rate", lambda p: f"{p.ecapa.lr:g}"),
            each("its decay, ECAPA-TDNN", lambda p: drops(p.ecapa)),
            each("its decay, ResNet", lambda p: drops(p.resnet)),
            each("λ and T of Eq. 1", lambda p: f"{p.ecapa.mixup.lam:g} and {p.ecapa.mixup.window}"),
            each("longest crop, frames of 10 ms", lambda p: str(p.ecapa.max_frames or "whole utterances")),
            each("largest gradient norm", lambda p: f"{p.ecapa.clip:g}"),
            each("speakers, FCVG", lambda p: "the corpus" if p.speakers is None else f"{p.speakers['FCVG']:,}"),
            each("speakers, LTV and FCVE", lambda p: "the corpus" if p.speakers is None else
                 f"{p.speakers['LTV']:,} and {p.speakers['FCVE']:,}"),
            each("of these train, validation, test", lambda p: ", ".join(f"{100 * f:g} %" for f in p.fractions))]
    v.table("mkdcls/runs.py", "settings", ["", *names], rows)


def of_rounding(v: Values):
    "The same seed under other arithmetics"
    path = v.path("arithmetic.csv")
    t = record_table(path)
    f1 = t.pivot(index="arithmetic", columns="row", values="agesup_f1")
    for name, rows in (("ecapa", ("3", "6")), ("resnet", ("7", "10"))):
        moved = max((f1[r].max() - f1[r].min()) for r in rows)
        gain = f1[rows[1]] - f1[rows[0]]
        v.put(path, **{f"round__{name}__moved": fixed(moved), f"round__{name}__least": signed(gain.min()),
                       f"round__{name}__most": signed(gain.max()), f"round__{name}__sd": fixed(gain.std())})
    runs = record_table(v.path("results", RESULT_FOLDERS["standin"], "runs.csv"))
    by_seed = runs.pivot(index="seed", columns="row", values="agesup_f1")
    v.asked(path, gain.std() >= (by_seed["10"] - by_seed["7"]).std(),
            "rounding moves the ResNet's gain as much as another seed does")
    v.put(path, round__arithmetics=count_word(len(f1)))
    path = v.path("portable.csv")
    p = record_table(path)
    v.put(path, portable__statements=str(len(p)), portable__arithmetics=count_word(int(p["arithmetics"].min())))


def gender_claim(v: Values) -> list[str]:
    "The line on gender: protocol 2 where its other scores are there, otherwise protocol 1"
    names = {"ECAPA-TDNN": "ECAPA", "ResNet": "ResNet", "call centre": "call centre"}
    path = v.path("results", RESULT_FOLDERS["standin"], "decisive-others.csv")
    t = record_table(path) if path.exists() else None
    if t is not None: t = t[(t["score"] == "gender_f1") & (t["contrast"] == "+MKD+CH − base")]
    if t is not None and len(t) == len(names):
        how, t = "protocol 2, gender F1, base re-estimated too; not corrected", t.rename(columns={"difference": "gain"})
    else:
        how = "Table 1, gender F1, base as trained; not corrected"
        t = record_table(path.with_name("gains.csv")).query("task == 'gender' and scope == 'pooled'")
        t = t[t["row"].isin([r for r, _, _ in PRIMARY_ROWS.values()])].assign(block=list(names))
    told = "; ".join(f"{names[r['block']]} {difference_cell(r['gain'], r['low'], r['high'])}" for _, r in t.iterrows())
    beyond, below = (count_word(int((t["high"] < edge).sum())) for edge in (-MARGIN, 0))
    return [f"+MKD+CH improves gender (Table 1: {v.texts['paper.gender.gains']['text']})", how,
            str(int(t["n_seeds"].min())), told, f"intervals below zero: {below}; beyond the margin: {beyond}"]


def of_claims(v: Values):
    "The table of claims, from the page of all results, which a test holds to the records"
    page = v.path("results", "README.md")
    head, rows = markdown_table(page.read_text("utf-8"), "What the paper claims, and what came out here")
    rows = [[("Not claimed by the paper: " + c if i == 0 and "one may expect" in c else c) for i, c in enumerate(r)]
            for r in rows]
    rows.insert(2, gender_claim(v))
    v.table(page, "claims", head, rows)
    last = [r[head.index("verdict") if "verdict" in head else -1] for r in rows]
    v.put(page, claims__lines=count_word(len(rows)),
          claims__undecided=count_word(sum(w.startswith("undecided") for w in last)))


def collect_values(top: Path = PAPER) -> Values:
    "All values of the article and the poster"
    v = Values(top)
    cfg = settings()
    v.put("settings.ini", version=cfg["version"],
          where=f"at {cfg['git_url']}" if cfg["git_url"] else "in the archive that this PDF came with",
          where__poster=f"at {cfg['git_url']}" if cfg["git_url"] else "in the archive of the project mkdcls")
    for part in (of_paper, of_protocol, of_bounds, of_corpora, of_standin, of_real, of_ablations, of_interventions,
                 of_verification, of_cost, of_settings, of_rounding, of_claims, of_second): part(v)
    return v
