"""The ablation sheet: contrasts of recorded runs, question by question, as a table, a page and a forest plot."""
from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from mkdcls.results.figures import COLOURS, STYLE, save_figure
from mkdcls.results.report import as_markdown, as_number, about, held_against_each, read
from mkdcls.engine.store import write_text
from mkdcls.evaluation import MARGIN, MIN_SEEDS, holm, status
from mkdcls.runs import preset_of
from mkdcls.verification.bridge import ALL_QUESTIONS, ALL_IN_WORDS


def contrasts(folder: Path) -> pd.DataFrame:
    """Each row of each question against what it is held against: agesup macro F1, gain with its interval

    Holm over distinct pairs with enough seeds.
    """
    runs, lines = read(folder)
    evidence, out, found = preset_of(runs["preset"].iloc[0]).evidence, [], []
    have = set(runs["row"])
    seeds = runs.groupby("row")["seed"].agg(set)
    pairs = [(q.against, row) for q in ALL_QUESTIONS for row in q.rows if {row, q.against} <= have]
    # a p of 2,000 draws is never small enough for a sheet of fifty
    many = [all((runs["row"] == r).sum() >= MIN_SEEDS for r in pair) for pair in pairs]
    held = {k: v for draws, wanted in ((2000, False), (10_000, True))
            for k, v in held_against_each(runs, lines, [p for p, m in zip(pairs, many) if m == wanted], "agesup", draws)
            .items()}
    for q in ALL_QUESTIONS:
        for row, label in q.rows.items():
            if (q.against, row) not in held: continue
            c, f1s = held[q.against, row]
            found.append(c)
            # whatever is subtracted is of the same seeds
            same = runs[runs["seed"].isin(seeds[row] & seeds[q.against])].groupby("row").mean(numeric_only=True)
            fresh = [runs.loc[(runs["row"] == r) & runs["seed"].between(1, c.n - 1), "agesup_f1"].mean()
                     for r in (row, q.against)]
            at = lambda r, name, f1=same: f1.loc[r, name] if name in f1 and pd.notna(f1.loc[r, name]) else None
            plain = [at(r, "as_trained_agesup_f1") if at(r, "as_trained_agesup_f1") is not None else at(r, "agesup_f1")
                     for r in (row, q.against)]
            out.append(dict(question=q.name, asks=q.asks, row=row, what=label, against=q.against,
                            corpus=runs["corpus"].iloc[0], preset=runs["preset"].iloc[0],
                            protocol=runs["protocol"].iloc[0], n_seeds=c.n, agesup_f1=round(f1s[1], 2),
                            against_f1=round(f1s[0], 2),
                            gain=round(c.value, 4), low=round(c.low, 4), high=round(c.high, 4),
                            fresh_gain=round(fresh[0] - fresh[1], 2) if c.n > 1 else None,
                            as_trained=round(plain[0] - plain[1], 2),
                            true_gain=round(at(row, "true_agesup_f1") - at(q.against, "true_agesup_f1"), 2)
                            if at(row, "true_agesup_f1") is not None else None,
                            agesub_f1=_round(at(row, "agesub_f1")), gender_f1=_round(at(row, "gender_f1")),
                            conflict_rate=_round(at(row, "conflict_rate")),
                            params=int(runs.loc[runs["row"] == row, "params"].iloc[0]), p=round(c.p, 4), status=""))
    table = pd.DataFrame(out)
    # a pair asked about twice is one test; one seed is none
    ready = table[table["n_seeds"] >= MIN_SEEDS].drop_duplicates(["row", "against"])
    corrected = dict(zip(zip(ready["row"], ready["against"]), holm(ready["p"].to_numpy()).round(4)))
    table["p_holm"] = [corrected.get(pair) for pair in zip(table["row"], table["against"])]
    table["status"] = [status(c, p=p, evidence=evidence) for c, p in zip(found, table["p_holm"])]
    # the seed that chose a row must not decide about it
    fresh = table["status"].map({"better": 1, "worse": -1}) * table["fresh_gain"].astype(float)
    table.loc[table["status"].isin(("better", "worse")) & ~(fresh > MARGIN), "status"] = "undecided"
    return table


def _round(v): return None if v is None else round(v, 2)


def paragraph(q, table: pd.DataFrame) -> str:
    "What a question's numbers show, and what they do not; made from the numbers"
    part = table[table["question"] == q.name]
    if part.empty: return f"**{q.asks}** Not run."
    ranked = part[part["n_seeds"] == part["n_seeds"].max()]  # gains of different seeds have no order
    best, worst = ranked.loc[ranked["gain"].idxmax()], ranked.loc[ranked["gain"].idxmin()]
    one = lambda g: f"*{g['what']}*, {g['gain']:+z.1f} [{g['low']:+z.1f}, {g['high']:+z.1f}]"
    to = f"*{ALL_IN_WORDS[q.against]}*"
    seeds = f" with {ranked['n_seeds'].max()} seeds" if len(ranked) < len(part) else ""
    ends = (f"Against {to}, the largest gain of the {len(ranked)} rows{seeds} is that of {one(best)}; "
            f"the smallest is that of {one(worst)}." if len(ranked) > 1
            else f"Against {to} there is one row{seeds}: {one(best)}.")
    if seeds:
        ends += (f" The other {len(part) - len(ranked)} {'have' if len(part) - len(ranked) > 1 else 'has'} fewer seeds "
                 "and can be read in the table only.")
    few = part["n_seeds"].max() < MIN_SEEDS
    told = []
    for word, verb in (("better", "better than"), ("worse", "worse than"), ("no difference", "not different from")):
        names = [f"*{n}*" for n in part.loc[part["status"] == word, "what"]]
        if names:
            told.append(f"By the protocol's words, {' and '.join(names)} {'are' if len(names) > 1 else 'is'} "
                        f"{verb} {to}.")
    rest = (part["status"] == "undecided").sum()
    which = ("It" if len(part) == 1 else "Both" if rest == len(part) == 2 else "All" if rest == len(part)
             else f"{rest} of the {len(part)}")
    if rest:
        told.append(f"{which} {'stays' if rest == 1 else 'stay'} undecided"
                    + (", since fewer than five seeds decide nothing." if few else "."))
    return " ".join([f"**{q.asks}** {ends}", *told])


def shown(table: pd.DataFrame) -> pd.DataFrame:
    "The sheet as a reader wants it"
    return pd.DataFrame([{"question": t["asks"] if i == 0 or t["question"] != table.iloc[i - 1]["question"] else "",
                          "row": t["row"], "what": t["what"],
                          "against": ALL_IN_WORDS[t["against"]], "agesup F1": as_number(t["agesup_f1"]),
                          "that of the other, same seeds": as_number(t["against_f1"]),
                          "gain [95 %]": f"{t['gain']:+z.1f} [{t['low']:+z.1f}, {t['high']:+z.1f}]",
                          "new seeds alone": as_number(t["fresh_gain"], "+z.1f"),
                          "gain as trained": as_number(t["as_trained"], "+z.1f"),
                          "agesub F1": as_number(t["agesub_f1"]), "conflicts %": as_number(t["conflict_rate"]),
                          "seeds": t["n_seeds"], "status": t["status"]} for i, (_, t) in enumerate(table.iterrows())])


NOTES = """Agesup macro F1 on the pooled test set, points; all rows but plain base with BatchNorm statistics \
re-estimated on
unmixed training input; "gain as trained" is the same difference without that step. Whatever is subtracted is of the
same seeds, and so are the scores beside it. Interval: 95 %, paired bootstrap over seeds and speakers. All rows were
screened with seed 0; best and worst of each question, Table 1's rows, and those that the claims on the page of all
results read have more seeds (the questions of page 29 have one), and "new seeds alone" leaves out the seed that chose
them. Words: *better*, *worse*, *no difference* as the protocol's statuses with a margin of one point; *better* and
*worse* must also survive Holm's correction over all pairs with five seeds, and hold on the new seeds alone. Fewer
than five seeds decide nothing. With one seed, part of a gain may be bad luck of the baseline on that seed; that is
why the table shows both F1 scores of the same seeds. Intervals are of 10,000 draws, Table 1's of 2,000; their ends
may differ by a tenth.
"""


def two_by_two(folder: Path) -> pd.DataFrame:
    """Agesup F1 with the BatchNorm statistics of training and with re-estimated ones, of a row trained on unmixed
    and of one trained on mixed input"""
    runs, _ = read(folder)
    at = lambda row, name, seeds: runs[(runs["row"] == row) & runs["seed"].isin(seeds)][name].mean()
    out = []
    for what, plain, again, column in (("base, hears x_normal", "3", "3r", "agesup_f1"),
                                       ("+MKD, hears x_mixup", "4a", "4a", "as_trained_agesup_f1"),
                                       ("+CH, hears x_normal", "5", "5r", "agesup_f1"),
                                       ("+MKD+CH, hears x_mixup", "6", "6", "as_trained_agesup_f1")):
        seeds = set(runs.loc[runs["row"] == plain, "seed"]) & set(runs.loc[runs["row"] == again, "seed"])
        if not seeds or column not in runs: continue
        out.append({"trained": what, "as trained": round(at(plain, column, seeds), 1),
                    "re-estimated": round(at(again, "agesup_f1", seeds), 1),
                    "seeds": len(seeds)})
    return pd.DataFrame(out)


def markdown(folder: Path, table: pd.DataFrame) -> str:
    "ablations.md"
    runs = read(folder)[0]
    body = "\n\n".join(paragraph(q, table) for q in ALL_QUESTIONS)
    both = ("Agesup F1 by what the student hears and by whose statistics it is scored "
            f"with:\n\n{as_markdown(two_by_two(folder))}")
    return f"# Ablations\n\n{about(runs)}\n\n{NOTES}\n{body}\n\n{both}\n\n{as_markdown(shown(table))}"


def figure_ablations(table: pd.DataFrame, folder: Path):
    "One line a row, a group a question: gain with its interval; filled where five seeds stand behind it"
    gap, y, at = 1.5, 0., []
    for i in range(len(table)):
        if i and table["question"].iloc[i] != table["question"].iloc[i - 1]: y += gap
        at.append(y := y + 1)
    at, half = np.array(at), len(table) // 2
    ends = np.abs(table[["low", "high"]].to_numpy())
    reach = 1.1 * max(4., np.quantile(ends, .95))  # one row that falls through the floor must not flatten all others
    cut = next((i for i in range(half, len(table)) if table["question"].iloc[i] != table["question"].iloc[i - 1]),
               len(table))
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(1, 2,
                                 figsize=(9.6, .17 * max(at[min(cut, len(at)) - 1], at[-1] - at[min(cut, len(at) - 1)])
                                          + 1.3), layout="constrained", sharex=True)
        for ax, rows in zip(axes, (slice(0, cut), slice(cut, None))):
            part, where = table.iloc[rows], at[rows]
            ax.axvspan(-MARGIN, MARGIN, color="0.92", lw=0)
            ax.axvline(0, color="0.5", lw=.8)
            for many, colour, face, name in ((False, "0.55", "white", "one seed (screening)"),
                                             (True, COLOURS[0], COLOURS[0], "five seeds")):
                m = (part["n_seeds"] >= MIN_SEEDS).to_numpy() == many
                ax.hlines(where[m], part["low"][m].clip(-reach, reach), part["high"][m].clip(-reach, reach),
                          color=colour, lw=1.6)
                for side, mark in ((-1, "<"), (1, ">")):  # a caret where the interval goes on beyond the picture
                    on = (m & (side * part["high" if side > 0 else "low"] > reach)
                          .to_numpy() & (part["gain"].abs() < reach).to_numpy())
                    if on.any():
                        ax.plot(np.full(on.sum(), side * reach * .97), where[on], ls="none", marker=mark, color=colour,
                                ms=5)
                ax.plot(part["gain"][m].where(part["gain"][m].abs() < reach), where[m], "o" if many else "s",
                        color=colour, mfc=face, ms=4, label=name)
            for gain, y in zip(part["gain"], where):
                out = np.sign(gain) * reach
                if abs(gain) < reach: continue
                ax.annotate(f"{gain:+.0f}", (out * .97, y), (out * .72, y), fontsize=7, va="center", ha="center",
                            arrowprops=dict(arrowstyle="-|>", lw=.8))
            ax.set(yticks=list(where), yticklabels=list(part["what"]), xlabel="gain in agesup macro F1 (points)",
                   xlim=(-reach, reach))
            ax.tick_params(axis="y", length=0, labelsize=7)
            for _, group in part.assign(at=where).groupby("question", sort=False):
                title = f"{group['asks'].iloc[0]}  (against {ALL_IN_WORDS[group['against'].iloc[0]]})"
                ax.annotate(title, (-.5, group["at"].min() - .95), xycoords=("axes fraction", "data"), fontsize=7.5,
                            weight="bold", va="center", annotation_clip=False)
            ax.spines["left"].set_visible(False)
            ax.invert_yaxis()
            if len(where): ax.set_ylim(where[-1] + .8, where[0] - 1.7)
        handles = {n: h for ax in axes for h, n in zip(*ax.get_legend_handles_labels())}
        handles[f"the protocol's margin, ±{MARGIN:g} point"] = mpl.patches.Patch(color="0.92")
        fig.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=3, frameon=False)
        save_figure(fig, folder, "ablations")
    return fig


def write(folder: Path) -> pd.DataFrame:
    "ablations.csv and ablations.md from the records in <folder>/ablations"
    folder = Path(folder)
    table = contrasts(folder / "ablations")
    write_text(folder / "ablations.csv", table.to_csv(index=False))
    write_text(folder / "ablations.md", markdown(folder / "ablations", table))
    return table
