"""The two verification sheets: recorded runs to tables with intervals, contrasts and pictures

Rows and claims are page 28's, figures page 27's.
"""
from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from mkdcls.results.figures import COLOURS, STYLE, save_figure
from mkdcls.results.report import as_markdown, as_number, about
from mkdcls.results.speaker_runner import SpeakerRunner, measures
from mkdcls.engine.store import writable, write_table, write_text
from mkdcls.evaluation import MARGIN, MIN_SEEDS, confusion, contrast, holm, prf, status
from mkdcls.labels import CLASSES, TASKS, to_index
from mkdcls.verification.scores import (alignment, bootstrap_trials, det, figure_det_curves, eer, fuse_embeddings,
                                        fuse_scores, over_seeds)
from mkdcls.verification.systems import BEST, COSTS, FUSIONS, printed, speaker_preset_of

DRAWS = 2000  # an uncorrected p can be as small as 1/1000, which survives Holm's correction over twenty contrasts
COIN = 50  # EER of a system that hears nothing, in percent
VETO = -2.  # cosines end at -1, and a wrong phrase costs 4: what lies below this was vetoed
TASK = {"TI": 2, "TD": 1}
# claim, row that is said to be better, row it is held against
CLAIMS = {"seo_kim": [("attention instead of a mean, last layer", "sk-SAP", "sk-GAP"),
                      ("all layers instead of the last, mean", "sk-MLA-GAP", "sk-GAP"),
                      ("all layers instead of the last, attention", "sk-MLA-SAP", "sk-SAP"),
                      ("feature recalibration", "sk-MLA-SAP-FR", "sk-MLA-SAP"),
                      ("deep length normalisation", "sk-MLA-SAP-FR-DLN", "sk-MLA-SAP-FR"),
                      ("the whole proposal against GAP, first line of Table 3", "sk-MLA-SAP-FR-DLN", "sk-GAP"),
                      ("the whole proposal against MLA-GAP, baseline of Table 1", "sk-MLA-SAP-FR-DLN", "sk-MLA-GAP"),
                      *((f"the whole proposal against {e}", "sk-MLA-SAP-FR-DLN", f"sk-{e}")
                        for e in ("TAP", "LDE", "NetVLAD", "GhostVLAD"))],
          "imu_elevoc": [("deeper: SE-ResNet-101 against 34", "ti-SE-ResNet-101", "ti-SE-ResNet-34"),
                         ("Res2Net-50 against SE-ResNet-101", "ti-Res2Net-50", "ti-SE-ResNet-101"),
                         ("Res2Net-50 against ECAPA-TDNN", "ti-Res2Net-50", "ti-ECAPA-TDNN"),
                         ("squeeze-excitation on Res2Net", "ti-SE-Res2Net-50", "ti-Res2Net-50"),
                         ("cardinality on Res2Net", "ti-Res2NeXt-50", "ti-Res2Net-50"),
                         ("Task 1: start from Task 2, train all", f"td-{BEST}", f"td-{BEST}-scratch"),
                         ("Task 1: start from Task 2, train pooling and embedding", f"td-{BEST}-head",
                          f"td-{BEST}-scratch"),
                         ("Task 1: train all, not only pooling and embedding", f"td-{BEST}", f"td-{BEST}-head"),
                         *((f"Task {TASK[role]}: {what}", a, b) for role in ("TD", "TI") for what, a, b in (
                             ("embeddings averaged, not scores", f"{role.lower()}-embeddings",
                              f"{role.lower()}-scores"),
                             ("embeddings turned onto each other before they are averaged (ours)",
                              f"{role.lower()}-aligned", f"{role.lower()}-embeddings"),
                             ("one network that learnt from the average by MSE, against the same alone",
                              f"{role.lower()}-{BEST}-mse", f"{role.lower()}-{BEST}"),
                             ("one network that learnt from the average by cosine, against the same alone",
                              f"{role.lower()}-{BEST}-cos", f"{role.lower()}-{BEST}"),
                             ("distilled by MSE, not cosine", f"{role.lower()}-{BEST}-mse",
                              f"{role.lower()}-{BEST}-cos")))]}


def fused_scores(runner: SpeakerRunner, role: str, how: str, seed: int) -> np.ndarray:
    "Scores of a line of Table 3 that needs no run"
    rows = FUSIONS[role, how]
    if how != "scores":
        e = [runner.embeddings(r, seed) for r in rows]
        turn = [alignment(x["train"], e[0]["train"]) if how == "aligned" else None for x in e]
        together = fuse_embeddings([x["test"] if q is None else x["test"] @ q for x, q in zip(e, turn)])
        return runner.biased(rows[0], seed, runner.trial_scores(rows[0], seed, together))
    return fuse_scores([runner.store.predictions(r, seed, runner.key(r, seed)[1])["score"].to_numpy() for r in rows])


def publish(runner: SpeakerRunner, sheet: str, plan: list[tuple[str, int]], folder: Path):
    "<sheet>-runs.csv and <sheet>-trials.parquet: all that the tables need, from finished runs"
    folder, lines, tables = writable(Path(folder)), [], []
    for row, seed in plan:
        rec, w = runner.record(row, seed), runner.record(row, seed)["provenance"]
        lines.append(dict(row=row, seed=seed, key=rec["key"], corpus=rec["corpus"], preset=rec["preset"],
                          protocol=rec["identity"]["protocol"],
                          data=rec["identity"]["data"], commit=w["commit"], device=w["device"], finished=w["finished"],
                          params=rec["params"],
                          train_s=round(rec["train_s"], 1), total_s=round(rec["total_s"], 1), trials=rec["trials"],
                          **{k: round(v, 5) for k, v in rec["metrics"].items()},
                          code=json.dumps(rec["identity"]["code"]),
                          system=json.dumps(rec["identity"]["system"]), test=json.dumps(rec["identity"]["test"])))
    for role, seed in dict.fromkeys((runner.rows[r].role, s) for r, s in plan):
        rows = [r for r, s in plan if s == seed and runner.rows[r].role == role and runner.rows[r].network != "phrases"]
        i, (_, trials, _) = runner.index(rows[0], seed), runner.lists(rows[0], seed)
        # nobody says who: each model is somebody
        enrolled = np.where(i.enrol_speaker < 0, -1 - i.model, i.enrol_speaker)
        asked = np.where(i.test_speaker < 0, enrolled, i.test_speaker)  # nobody says who: the trial goes with its model
        t = pd.DataFrame(dict(role=role, seed=seed, kind=trials["kind"].astype("category"), target=i.target,
                              enrolled=enrolled.astype(np.int32), asked=asked.astype(np.int32)))
        for r in rows: t[r] = runner.store.predictions(r, seed, runner.key(r, seed)[1])["score"].to_numpy(np.float32)
        for (of, how), needs in FUSIONS.items():
            if of == role and set(needs) <= set(rows):
                t[f"{role.lower()}-{how}"] = fused_scores(runner, role, how, seed).astype(np.float32)
        tables.append(t)
    write_text(folder / f"{sheet}-runs.csv", pd.DataFrame(lines).to_csv(index=False))
    write_table(folder / f"{sheet}-trials.parquet",
                pd.concat(tables, ignore_index=True).astype({"kind": "category", "role": "category"}))


def read(folder: Path, sheet: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    "Runs and trials' scores of a sheet"
    return pd.read_csv(folder / f"{sheet}-runs.csv"), pd.read_parquet(folder / f"{sheet}-trials.parquet")


def replicates(trials: pd.DataFrame, sheet: str) -> dict[str, tuple[list[str], np.ndarray, np.ndarray, np.ndarray]]:
    """role → systems, their figures `[systems, 2]` (mean over seeds), replicates `[draws, systems, 2]`, in how many
    seeds each is not told from a coin `[systems]`"""
    out = {}
    for role, part in trials.groupby("role", observed=True, sort=False):
        rows = [c for c in part.columns[6:] if part[c].notna().all()]
        each, point = [], []
        for seed, t in part.groupby("seed"):
            scores = [t[r].to_numpy(float) for r in rows]
            point.append([list(measures(s, t["target"].to_numpy(), sheet).values()) for s in scores])
            each.append(bootstrap_trials(scores, t["target"].to_numpy(), t["enrolled"].to_numpy(),
                                         t["asked"].to_numpy(), DRAWS, int(seed), **COSTS[sheet]))
        out[role] = (rows, np.mean(point, 0), over_seeds(each),
                     sum(np.percentile(e[..., 0], 97.5, axis=0) >= COIN for e in each))
    return out


def table(folder: Path, sheet: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    "A line for each system beside what the paper prints, and a line for each claim"
    runs, trials = read(folder, sheet)
    first, theirs, found = runs.iloc[0], printed(sheet), replicates(trials, sheet)
    same, n = {k: first[k] for k in ("corpus", "preset", "protocol")}, trials["seed"].nunique()
    params, spent = runs.groupby("row")["params"].first(), runs.groupby("row")["train_s"].mean()
    paper = theirs[theirs["row"] != ""].drop_duplicates("row", keep="first").set_index("row")
    lines, claims, contrasts = [], [], []
    evidence = speaker_preset_of(first["preset"]).evidence
    for role, (rows, point, sims, lost) in found.items():
        low, high = np.percentile(sims, [2.5, 97.5], axis=0)
        for i, row in enumerate(rows):
            three = {f"{name}{tail}": round(v[i, k], digits) for k, name, digits in ((0, "eer", 2), (1, "min_dcf", 4))
                     for tail, v in (("", point), ("_low", low), ("_high", high))}
            lines.append(dict(row=row, role=role, **same, n_seeds=n, **three, paper_eer=paper["eer"].get(row),
                              paper_min_dcf=paper["min_dcf"].get(row), params=params.get(row), train_s=spent.get(row),
                              coin_seeds=int(lost[i])))
        for claim, better, worse in CLAIMS[sheet]:
            if not {better, worse} <= set(rows): continue
            a, b = rows.index(better), rows.index(worse)
            eer_saved, dcf_saved = (contrast(point[[a, b], k], sims[:, [a, b], k], n) for k in (0, 1))
            said, dcf = (paper[k].get(worse, np.nan) - paper[k].get(better, np.nan) for k in ("eer", "min_dcf"))
            claims.append(dict(claim=claim, role=role, better=better, worse=worse, coin=int(max(lost[a], lost[b])),
                               **same, n_seeds=n,
                               eer_gain=round(eer_saved.value, 2), low=round(eer_saved.low, 2),
                               high=round(eer_saved.high, 2),
                               min_dcf_gain=round(dcf_saved.value, 4), min_dcf_low=round(dcf_saved.low, 4),
                               min_dcf_high=round(dcf_saved.high, 4),
                               paper_eer_gain=round(said, 2), paper_min_dcf_gain=round(dcf, 4),
                               p=round(eer_saved.p, 4), status=""))
            contrasts.append((eer_saved, None if pd.isna(said) else said))
    claims = pd.DataFrame(claims)
    # protocol, section 4: all secondary, so corrected over the sheet
    if n >= MIN_SEEDS: claims["p_holm"] = holm(claims["p"].to_numpy()).round(4)
    corrected = claims["p_holm"] if "p_holm" in claims else [None] * len(claims)
    if len(claims):
        claims["status"] = [status(c, said, p=p, evidence=evidence) for (c, said), p in zip(contrasts, corrected)]
    return pd.DataFrame(lines), claims


# the paper's table and task → rows of ours that it has no line for
ALONE = {"seo_kim": {(3, 2): {"sk-MLA-GAP": "MLA-GAP, baseline of Table 1"}},
         "imu_elevoc": {(3, t): {f"{role.lower()}-aligned": "Embedding averaging, spaces turned onto each other first"}
                        for role, t in TASK.items()}}


def in_print(sheet: str) -> pd.DataFrame:
    """The paper's lines, and ours that it has no line for: table, task, system, row (ours, if any), eer in percent
    and min_dcf as printed"""
    t = printed(sheet)
    if sheet == "seo_kim":
        same = [f"sk-{e}" for e in t["encoding"]]
        t = t.assign(task=2, row=t["row"].where(t["row"] != "", same),
                     system=t["model"] + ", " + t["encoding"] + ", " + t["trained_on"])
    more = [dict(table=n, task=k, system=f"{name} (ours)", row=row)
            for (n, k), extra in ALONE[sheet].items() for row, name in extra.items()]
    return (pd.concat([t, pd.DataFrame(more)], ignore_index=True).sort_values(["table", "task"], kind="stable")
            [["table", "task", "system", "row", "eer", "min_dcf"]])


def shown(lines: pd.DataFrame, sheet: str) -> dict[str, str]:
    """The paper's tables, line by line, with ours beside: heading → table

    A printed line that nothing here measures is quoted.
    """
    ours, out = lines.set_index("row"), {}
    cell = lambda r, k, d: f"{r[k]:.{d}f} [{r[k + '_low']:.{d}f}, {r[k + '_high']:.{d}f}]"
    for (n, task), part in in_print(sheet).groupby(["table", "task"], sort=True):
        if not set(part["row"]) & set(ours.index): continue
        rows = []
        for _, t in part.iterrows():
            r = ours.loc[t["row"]] if t["row"] in ours.index else None
            rows.append({"system": t["system"], "row": t["row"] if r is not None else "quoted",
                         "EER %, ours [95 %]": "" if r is None else cell(r, "eer", 1),
                         "EER %, paper": as_number(t["eer"], ".2f"),
                         "minDCF, ours [95 %]": "" if r is None else cell(r, "min_dcf", 2),
                         "minDCF, paper": as_number(t["min_dcf"], ".4f"),
                         "parameters here": "" if r is None or pd.isna(r["params"]) else f"{int(r['params']):,}"})
        out[f"Table {n}" + (f", Task {task}" if sheet == "imu_elevoc" else "")] = as_markdown(pd.DataFrame(rows))
    return out


def asked(trials: pd.DataFrame, sheet: str) -> str:
    "How much was asked of the systems, in words"
    span = lambda counts: " to ".join(f"{v:,}" for v in sorted({min(counts), max(counts)}))
    told = []
    for role, t in trials.groupby("role", observed=True, sort=False):
        seeds = [one for _, one in t.groupby("seed")]
        who = (f"{span([len({*o['enrolled'], *o['asked']}) for o in seeds])} "
               f"{'speakers' if (t['enrolled'] >= 0).all() else 'models, whose speakers are not told,'}")
        told.append((f"Task {TASK[role]}: " if sheet == "imu_elevoc" else "")
                    + f"{who} and {span([len(o) for o in seeds])} trials a seed, "
                    f"{span([o['target'].sum() for o in seeds])} of them to be accepted")
    secret = (" Where speakers are not told, models are resampled, and intervals are too narrow "
              "for speakers with several." if (trials["enrolled"] < 0).any() else "")
    return "; ".join(told) + "." + secret


def describe_runs(runs: pd.DataFrame, trials: pd.DataFrame, sheet: str) -> str:
    "What the numbers are, and of how much"
    real = (" Common Voice's people are divided anew by each seed; most recorded their clips at one sitting, "
            "and part of what is recognised may be that.")
    return f"{about(runs, folds=False)} {asked(trials, sheet)}" + real * (runs["corpus"].iloc[0] == "real")


def phrase_floors(trials: pd.DataFrame) -> pd.DataFrame:
    """Task 1, row by row, mean over seeds: EER; its floor, the share of trials to be accepted that the phrase
    network vetoes; EER of what it does not veto, the right phrase asked for (TC against IC), which is about the
    voice alone"""
    td, out = trials[trials["role"] == "TD"], []
    for row in (c for c in td.columns[6:] if len(td) and td[c].notna().all()):
        for seed, t in td.groupby("seed"):
            s, y = t[row].to_numpy(float), t["target"].to_numpy()
            kept = (s > VETO) & t["kind"].isin(["TC", "IC"]).to_numpy()
            alone = eer(s[kept], y[kept]) if len(set(y[kept])) == 2 else np.nan
            out.append({"system": row, "seed": seed, "EER %": eer(s, y), "floor %": 100 * (s[y] < VETO).mean(),
                        "EER % of the voice alone": alone})
    return (pd.DataFrame(out).groupby("system", sort=False).mean().drop(columns="seed").round(2).reset_index() if out
            else pd.DataFrame())


def shown_heard(voice: pd.DataFrame) -> str:
    "The same as a reader wants it"
    return as_markdown(pd.DataFrame({c: voice[c] if c == "system" else [as_number(v, ".1f") for v in voice[c]]
                                     for c in voice}))


def by_seed(trials: pd.DataFrame) -> str:
    "EER of each system in each seed, as a reader wants it: a mean hides a run that went wrong"
    rows = trials.columns[6:]
    each = {(r, seed): eer(t[r].to_numpy(float), t["target"].to_numpy())
            for (role, seed), t in trials.groupby(["role", "seed"], observed=True, sort=False)
            for r in rows if t[r].notna().all()}
    seeds = sorted(set(trials["seed"]))
    return as_markdown(pd.DataFrame([{"system": r, **{f"seed {k}": f"{each[r, k]:.1f}" for k in seeds}}
                                     for r in rows if (r, seeds[0]) in each]))


def shown_claims(claims: pd.DataFrame) -> str:
    "The claims as a reader wants them"
    return as_markdown(pd.DataFrame([{"said to help": c["claim"] + " †" * bool(c["coin"]),
                                      "EER points saved [95 %]": f"{c['eer_gain']:+z.1f} [{c['low']:+z.1f}, "
                                                                 f"{c['high']:+z.1f}]",
                                      "paper": as_number(c["paper_eer_gain"], "+z.2f"),
                                      "minDCF saved [95 %]": f"{c['min_dcf_gain']:+z.3f} [{c['min_dcf_low']:+z.3f}, "
                                                             f"{c['min_dcf_high']:+z.3f}]",
                                      "paper's": as_number(c["paper_min_dcf_gain"], "+z.4f"),
                                      "status": c["status"]} for _, c in claims.iterrows()])) + (
        "\n\n† In some seed one of the two is not told from a coin: the line speaks of this schedule, "
        "not of the network." if claims["coin"].any() else "")


NOTES = """EER in percent and minDCF at P_target 0.01, {costs}, smaller is better; the paper's figures are of other \
corpora and other trials, so only the direction of
a difference can be compared. Interval: 95 %, paired bootstrap over seeds and speakers. Status as in the protocol, \
with a margin of one point of EER and Holm's
correction over the sheet; most steps of the papers are smaller than that margin, and *no difference* then agrees with \
them. Where the paper prints no figure the
words are *better* and *worse*. Fewer than five seeds decide nothing. A minDCF of 1 is that of refusing everybody: \
near 1 it orders nothing, and the EER is what to read.
A minimum over thresholds is biased downwards on resampled trials, so its intervals reach further down than up. A \
*coin*: the interval of one seed's EER reaches
50 %.{own}"""
SHEET_NOTES = {"seo_kim": " In Table 4 the paper quotes systems on other trunks; ours is the same encoding "
                          "on the one trunk of Table 3.",
               "imu_elevoc": """ `-scratch`, `-head`: SE-Res2Net-50 trained on Task 1 alone, and with everything
but pooling and embedding frozen after Task 2; every other network of Task 1 starts from Task 2 and is trained whole. \
`-mse`, `-cos`: one SE-Res2Net-50 that learnt
from the average of the five (Task 1) or seven (Task 2). The paper's figures on the development set are in \
paper/published/imu_elevoc.csv."""}
FLOOR_NOTE = """A true trial whose phrase the phrase network mishears loses 4 and is lost for every system: no EER can \
lie much below that share, the *floor*.
Of the trials that it does not veto, those with the right phrase (TC against IC) ask for the voice alone."""
def notes(sheet: str) -> str:
    "How the tables are to be read"
    costs = "C_miss {c_miss:g}, C_fa {c_fa:g}".format(**COSTS[sheet]) + (" (the paper does not state them)"
                                                                         if sheet == "seo_kim" else "")
    return NOTES.format(costs=costs, own=SHEET_NOTES[sheet])


def markdown(runs: pd.DataFrame, trials: pd.DataFrame, lines: pd.DataFrame, claims: pd.DataFrame, sheet: str) -> str:
    "<sheet>.md"
    name = {"seo_kim": "Seo & Kim 2020, Tables 3 and 4", "imu_elevoc": "IMU&Elevoc 2021, Tables 1 to 3"}[sheet]
    told = phrase_floors(trials)
    voice = f"## Task 1: the phrase and the voice\n\n{FLOOR_NOTE}\n\n{shown_heard(told)}\n\n" if len(told) else ""
    parts = "\n\n".join(f"## {head}\n\n{part}" for head, part in shown(lines, sheet).items())
    by = f"## EER, seed by seed\n\n{by_seed(trials)}\n\n"
    return (f"# {name}\n\n{describe_runs(runs, trials, sheet)}\n\n{notes(sheet)}\n\n{parts}\n\n{by}{voice}## What is "
            f"said to help\n\n{shown_claims(claims)}\n")


def write(folder: Path, sheet: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    "<sheet>.csv, <sheet>-claims.csv and <sheet>.md from runs and trials"
    lines, claims = table(folder, sheet)
    for name, text in ((f"{sheet}.csv", lines.to_csv(index=False)), (f"{sheet}-claims.csv", claims.to_csv(index=False)),
                       (f"{sheet}.md", markdown(*read(folder, sheet), lines, claims, sheet))):
        write_text(Path(folder) / name, text)
    return lines, claims


def probes(runner: SpeakerRunner, plan: list[tuple[str, int]], folder: Path, sheet: str) -> pd.DataFrame:
    """<sheet>-probes.csv: can gender and age group be read off a speaker embedding? Macro F1 of a linear classifier,
    learnt on the training speakers' plain utterances and asked about other people; chance is a guess by the classes'
    shares, whose macro F1 is one in K"""
    out = []
    for row, seed in plan:
        m = runner.lists(row, seed).manifest
        asked = [t for t in ("gender", "agesup") if t in m and m[t].isin(CLASSES[t]).groupby(m["split"]).any().all()]
        if runner.rows[row].network == "phrases" or not asked: continue
        parts, e = ({p: m[m["split"] == p].reset_index(drop=True) for p in ("train", "test")},
                    runner.embeddings(row, seed))
        x = {"train": e["train"][:len(parts["train"])].numpy(), "test": e["test"].mean(1).numpy()}
        for task in asked:
            known = {p: parts[p][task].isin(CLASSES[task]).to_numpy() for p in parts}
            y = {p: to_index(parts[p][task][known[p]], task).numpy() for p in parts}
            with threadpool_limits(1):  # tiny products: on busy cores two threads wait for each other
                fit = make_pipeline(StandardScaler(),
                                    LogisticRegression(max_iter=2000,
                                                       class_weight="balanced")).fit(x["train"][known["train"]],
                                                                                     y["train"])
            said = fit.predict(x["test"][known["test"]])
            out.append(dict(row=row, seed=seed, task=task,
                            f1=round(float(prf(confusion(y["test"], said, TASKS[task]))[2]), 2),
                            chance=round(100 / TASKS[task], 2), utterances=len(said)))
    table = pd.DataFrame(out, columns=["row", "seed", "task", "f1", "chance", "utterances"])
    write_text(Path(folder) / f"{sheet}-probes.csv", table.to_csv(index=False))
    return table


def figure_eer(lines: pd.DataFrame, folder: Path, sheet: str):
    "EER of each system with its interval, and what the paper prints"
    roles = list(dict.fromkeys(lines["role"]))
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(len(roles), 2, figsize=(7.2, .6 + .24 * len(lines)), layout="constrained",
                                 squeeze=False,
                                 gridspec_kw=dict(height_ratios=[(lines["role"] == r).sum() for r in roles]))
        for (left, right), role in zip(axes, roles):
            part = lines[lines["role"] == role].reset_index(drop=True)
            y = np.arange(len(part))[::-1]
            left.errorbar(part["eer"], y, xerr=[part["eer"] - part["eer_low"], part["eer_high"] - part["eer"]], fmt="o",
                          ms=4, color=COLOURS[0])
            right.plot(part["paper_eer"], y, "s", ms=4, color=COLOURS[1], mfc="none")
            left.set_yticks(y, part["row"].str.split("-", n=1).str[1] + np.where(part["coin_seeds"] > 0, " †", ""))
            right.set_yticks(y, [])
            left.set(xlim=(0, None), title=f"ours{'' if sheet == 'seo_kim' else f', Task {TASK[role]}'}")
            right.set(xlim=(0, None), title="paper")
            for ax in (left, right): ax.set_ylim(-.6, len(part) - .4); ax.grid(axis="x", color="0.9")
        for ax in axes.flat: ax.set_xlabel("EER (%)")
        save_figure(fig, folder, sheet)
    return fig


def figure_det(folder: Path, sheet: str, chosen: dict[str, tuple[str, ...]]):
    "DET curves of some systems, seed 0"
    _, trials = read(folder, sheet)
    trials = trials[trials["seed"] == trials["seed"].min()]
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(1, len(chosen), figsize=(4.6 * len(chosen), 5.6), layout="constrained", squeeze=False)
        for ax, (role, rows) in zip(axes[0], chosen.items()):
            part = trials[trials["role"] == role]
            figure_det_curves(ax, {r.split("-", 1)[1]: det(part[r].to_numpy(float), part["target"].to_numpy())
                                   for r in rows if r in part and part[r].notna().all()}, low=.01)
            if len(chosen) > 1: ax.set_title(f"Task {TASK[role]}")
        save_figure(fig, folder, f"{sheet}-det")
    return fig


def in_words(claims: pd.DataFrame) -> str:
    "What the claims' intervals say, in a paragraph"
    named = lambda part: "; ".join(f"*{c}*" + " †" * bool(coin) for c, coin in zip(part["claim"], part["coin"]))
    up, down = claims[claims["low"] > MARGIN], claims[claims["high"] < -MARGIN]
    rest, n = len(claims) - len(up) - len(down), int(claims["n_seeds"].iloc[0])
    told = [f"With the whole interval, {'these save' if verb == 'save' else 'these cost'} more than {MARGIN:g} "
            f"point of EER: {named(part)}." if len(part)
            else f"No contrast {verb}s more than {MARGIN:g} point of EER with its whole interval."
            for part, verb in ((up, "save"), (down, "cost"))]
    return (f"{' '.join(told)} The other {rest} of {len(claims)} cannot be told apart from that margin. "
            f"This is of {n} seed{'s' * (n > 1)}"
            + ("; with fewer than five the protocol decides nothing." if n < MIN_SEEDS else "."))
