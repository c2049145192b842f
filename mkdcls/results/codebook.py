"""What the columns of published answers mean: a README.md beside the Parquet files, for whoever opens them alone.

`python -m mkdcls.results.codebook` writes both; the pages of the two sheets write their own.
"""
from __future__ import annotations

from pathlib import Path

import pandas as pd

from mkdcls.engine.store import PROJECT, write_text
from mkdcls.evaluation import MIDPOINTS
from mkdcls.labels import AGESUB, AGESUP, GENDERS
from mkdcls.results.real_sheet import GROUP, MIDDLE, N_FOLDS, PERMUTED, TOLD, row_title

numbered = lambda names: ", ".join(f"{i} {n}" for i, n in enumerate(names))
in_years = lambda numbers: ", ".join(f"{n:g}" for n in numbers)


def real_columns() -> dict[str, str]:
    "Column of `floors.parquet` and `answers.parquet` → what it is"
    last = N_FOLDS - 1
    return {
        "folds": f"how the {N_FOLDS} folds were made: `speaker` ({TOLD['speaker']}) or `language` "
                 f"({TOLD['language']}); every row was asked under both",
        "fold": f"0 to {last}: the fold that was the test part. Speakers of Saarbrücken are in no fold; each of the "
                f"{N_FOLDS} networks answers about them, and `fold` says which",
        "row": "name of the row, as in the table above",
        "utterance": "the recording: the first 12 hexadecimal digits of a hash of its name",
        "speaker": "the speaker, hashed in the same way; several people may share one name in Common Voice",
        "corpus": "Common Voice, Speech Accent Archive (both in the folds) or Saarbrücken (never trained on)",
        "y": f"the age group that was told: {numbered(AGESUP)}",
        "years": "the age that was told, in years; in Common Voice the middle of the decade "
                 f"({in_years(MIDDLE.values())})",
        **{f"p{i}": f"the row's probability of the group {g}; groups were made equally frequent in training (not for "
                    "`base_flat`)" for i, g in enumerate(AGESUP)},
        "age": f"expected age in years: the groups stand for {in_years(GROUP)}, and their shares in the training part "
               "are put back into p0 to p2; MAE is computed from this",
        "age_of_decades": "the same from the decades (agesub), where the row has a head for them; else empty",
        "male_y": "whether the gender that was told is male",
        "male": "the row's probability of male; 0.5 where it was not asked about gender"}


def decisive_columns() -> tuple[dict[str, str], dict[str, str]]:
    "The same for `answers.parquet` and `asked.parquet` of protocol 2 on the stand-in"
    guess = {"gender": GENDERS, "agesup": AGESUP, "agesub": AGESUB}
    where = {"seed": "the seed of the run: of the corpus, of the order and of the first weights",
             "knobs": "what was turned away from the usual (doses), as a JSON text. **`{}` where nothing was turned; "
                      "in `runs.csv` the same is an empty cell**"}
    n = ("position among the recordings of this role and seed: the split's own test set first, then fresh speakers; "
         "the key between the two files")
    said = {"n": n,
            **{t: f"the answer with re-estimated BatchNorm statistics (the headline): {numbered(names)}"
                  + "; empty for rows without this head" * (t == "agesub") for t, names in guess.items()},
            **{f"{t}_as_trained": "the same with the BatchNorm statistics of training" for t in guess},
            "years": "expected age in years, half precision: from the decades where there is a head for them "
                     f"(midpoints {in_years(MIDPOINTS['agesub'])}), else from the groups "
                     f"({in_years(MIDPOINTS['agesup'])})",
            "older": "log-odds of 60+, half precision; the AUC ranks by it",
            "row": "row of Table 1, or a control beside it: `-none` has neither K nor distillation, `-untrained` the K "
                   "of a teacher that was never trained, `-causes` a K made of the true acoustic causes, "
                   "`-causes-alone` the same in training only (the heads see X alone); `subce` is base with a head for "
                   "decades", **where}
    asked = {**{f"y_{t}": f"observed label: {numbered(names)}" for t, names in guess.items()},
             **{f"true_{t}": "label before the simulated labelling errors" for t in guess},
             "n": n, "corpus": "FCVG, LTV, FCVE or call centre, all of the stand-in",
             "split": "`test`: the split's own test set; `fresh`: speakers drawn beside the split, on which the "
                      "headline is scored",
             "role": "which test set: FCVG, LTV+FCVE or call centre. `runs.csv` has it for each row as `dataset`",
             **where}
    return said, asked


EXAMPLE = """import pandas as pd
from sklearn.metrics import f1_score

runs = pd.read_csv("runs.csv", dtype={"row": str}).fillna({"knobs": "{}"})
role = runs.rename(columns={"dataset": "role"})[["row", "seed", "knobs", "role"]]
said = pd.read_parquet("answers.parquet").merge(role, on=["row", "seed", "knobs"])
both = said.merge(pd.read_parquet("asked.parquet"), on=["role", "seed", "knobs", "n"], suffixes=("", "_asked"))
mine = both[(both["split"] == "fresh") & (both["row"] == "6") & (both["seed"] == 100) & (both["knobs"] == "{}")]
score = 100 * f1_score(mine["y_agesup"], mine["agesup"], average="macro")"""


def decisive_scores() -> dict[str, str]:
    "Columns of the tables of runs and of the oracle that are not plain by their name"
    return {
        "key": "what makes this run this run: a digest of recipe, seed, data, code and what it stands on",
        "dataset": "the role whose corpus the row is trained and tested on",
        "agesup_f1": "macro F1 in percent on fresh speakers, observed labels, re-estimated statistics: the headline. "
                     "`_p` and `_r` are precision and recall, `_weighted` weighs classes by their size; the same for "
                     "`gender` and `agesub`",
        "true_…": "against the labels before the simulated errors",
        "as_trained_…": "with the BatchNorm statistics of training",
        "split_…": "on the split's own test set",
        "no_k_…, no_x_…": "with that part of Z set to zero",
        "LTV_…, FCVE_…": "on the recordings of that corpus alone",
        "conflict_rate": "percent of answers whose decade does not lie in their age group",
        "mae_years, auc_60": "mean absolute error of the expected age; AUC of 60+, in percent",
        "train_s, total_s": "seconds of training, and with teacher's features and test; of a busy machine"}


def decisive_curves() -> dict[str, str]:
    "Columns of the curves of training"
    return {"total": "the loss of Eq. 3, mean over the steps of the epoch",
            "gender, agesup, agesub": "the losses of the heads, as they enter the total",
            "dep": "the dependency loss (Eq. 5), as it enters the total",
            "dist": "λ (1 − cosine of the student's features and K) (Eq. 2), λ = 1/4: a cosine of 0.8 stands as 0.05",
            "lr, seconds": "learning rate and time of the epoch"}


def column_table(columns: dict[str, str]) -> str:
    "Columns and what they are, as Markdown"
    return "\n".join(["| column | what it is |", "| --- | --- |",
                      *(f"| `{c}` | {told} |" for c, told in columns.items())])


def real_codebook(rows: list[str]) -> str:
    "README.md of the folder `real`; `rows` are those that were answered"
    titles = {r: row_title(r) for r in rows if r not in PERMUTED}
    if set(PERMUTED) & set(rows): titles["permuted_0 … permuted_9"] = row_title("permuted")
    named = "\n".join(["| row | what it is |", "| --- | --- |", *(f"| `{r}` | {t} |" for r, t in titles.items())])
    return "\n\n".join([
        "# Real speech, answer by answer",
        "Records of the sheet [real](../real.ipynb), for whoever wants to count anew.",
        "- `floors.parquet`: rows without a network of ours; `answers.parquet`: rows that were trained. Both have the "
        "same columns: one line for each row, division into folds, fold and recording of the test part.\n"
        "- `real-runs.csv`: what each of these runs is known by (code, data, machine, time). `about.json`: the same "
        "for the floors.",
        "Scores in [real.csv](../real.csv) count a speaker once: average `p0` to `p2` and `age` over a speaker's lines "
        "(for Saarbrücken over the folds as well), then score. `mkdcls.results.real_sheet` does it: `read_answers`, "
        "`by_speaker`, `real_score`.",
        "## Rows", named, "## Columns", column_table(real_columns())]) + "\n"


def decisive_codebook() -> str:
    "README.md of the folder `decisive`"
    said, asked = decisive_columns()
    return "\n\n".join([
        "# What decides, answer by answer",
        "Records of the sheet [decisive](../decisive.ipynb): protocol 2 on the stand-in.",
        "- `answers.parquet`: what each run answered, one line for each recording; `asked.parquet`: the labels of "
        "these recordings, once for all runs that were asked about them.\n"
        "- `runs.csv`: scores of each run and what it is known by; `curves.csv`: losses over training; `ceilings.csv`: "
        "scores of the oracle.",
        "To score anew, take `role` of an answer from the column `dataset` of `runs.csv` (by row, seed and knobs; fill "
        "its empty `knobs` with `{}` first), join the labels by role, seed, knobs and n, and keep `split == 'fresh'`. "
        "`recomputed` in `mkdcls.results.decisive_sheet` does exactly that.",
        f"```python\n{EXAMPLE}\n```",
        "is the column `agesup_f1` of row 6, seed 100, in `runs.csv`.",
        "## Columns of `answers.parquet`", column_table(said),
        "## Columns of `asked.parquet`", column_table(asked),
        "## Columns of `runs.csv` and `ceilings.csv`",
        "Recipe, code, data, device and versions of a run stand beside its scores. `ceilings.csv` has the same scores "
        "of the oracle, by role, seed and knobs.", column_table(decisive_scores()),
        "## Columns of `curves.csv`", "One line for each epoch of a run.", column_table(decisive_curves())]) + "\n"


def write_real(folder: Path):
    "README.md beside the answers of the sheet real"
    at = Path(folder) / "real"
    rows = [r for f in ("floors.parquet", "answers.parquet") if (at / f).is_file()
            for r in pd.read_parquet(at / f, columns=["row"])["row"].unique()]
    write_text(at / "README.md", real_codebook(rows))


def write_decisive(folder: Path):
    "README.md beside the answers of the sheet decisive"
    write_text(Path(folder) / "decisive" / "README.md", decisive_codebook())


if __name__ == "__main__":
    kept = PROJECT / "paper" / "results"
    write_real(kept / "real-laptop")
    write_decisive(kept / "standin-laptop")
