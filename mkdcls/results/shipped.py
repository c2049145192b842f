"""How the model that comes with the project answers real voices: `python -m mkdcls.results.shipped <folder>`

It has heard synthetic speech only. The folder is that of `make table SHEET=real REAL=`; the answers of all recordings
there, summed up in a line for each corpus, go to shipped.csv of the results on real speech. None of it is evidence
about the method: a user of `mkdcls predict` wants to know how far an answer may be believed.
"""
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from mkdcls.engine.store import PROJECT, write_text
from mkdcls.intake.features import waves_of_rows
from mkdcls.results.cli import Bars
from mkdcls.results.real_sheet import RealRunner
from mkdcls.use import STANDIN, SpeechClassifier, decided, given, load_model

SHIPPED = PROJECT / "paper" / "results" / "real-laptop" / "shipped.csv"
SHIPPED_TASKS = ("gender", "agesup")
SURE_FROM = .9  # stated probability from which on an answer calls itself sure


def answers_to(
    model: SpeechClassifier,
    manifest: pd.DataFrame,  # of recordings
    progress=lambda done, of: None,
) -> pd.DataFrame:  # a line for each recording: corpus, speaker; of each task the label, `_best`, `_p`, `_given`
    "What the model says to each recording, beside its labels"
    out = []
    for i in range(len(manifest)):
        r = manifest.iloc[i]
        waves, n = waves_of_rows(manifest.iloc[[i]])
        p = {t: v[None] for t, v in model.probabilities(waves[0, :n[0]].numpy()).items()}
        best = decided(p, model.hierarchy)
        said = given(p, best, model.about["unsure"], model.hierarchy)
        line = dict(corpus=r["corpus"], speaker=r["speaker"])
        for t in SHIPPED_TASKS:
            k = int(best[t])
            line |= {t: str(r[t]), f"{t}_best": model.classes[t][k], f"{t}_p": float(p[t][0, k]),
                     f"{t}_given": bool(said[t])}
        out.append(line)
        progress(i + 1, len(manifest))
    return pd.DataFrame(out)


def summed(answers: pd.DataFrame) -> pd.DataFrame:
    """Per cent of the answers that are right, a line for each corpus and task

    `commonest` is what is right if the commonest class is answered always; `mostly` the class that the model answers
    most, `mostly_share` how often; `given` what is not *unsure*; `sure` the answers with a stated probability of at
    least 90 %, and `sure_right` how many of these are right.
    """
    out = []
    for corpus, part in [*answers.groupby("corpus", sort=True), ("all", answers)]:
        for t in SHIPPED_TASKS:
            a = part[~part[t].isin(["", "nan", "None"])]
            right, given, sure = a[t] == a[f"{t}_best"], a[f"{t}_given"], a[f"{t}_p"] >= SURE_FROM
            share = lambda v: round(100 * float(np.mean(v)), 1) if len(v) else np.nan
            out.append(dict(corpus=corpus, task=t, recordings=len(a), speakers=a["speaker"].nunique(),
                            right=share(right), commonest=share(a[t] == a[t].mode().iat[0]),
                            mostly=(most := a[f"{t}_best"].mode().iat[0]), mostly_share=share(a[f"{t}_best"] == most),
                            given=share(given),
                            given_right=share(right[given]), sure=share(sure), sure_right=share(right[sure])))
    return pd.DataFrame(out)


def main(real: str) -> Path:
    "Ask, and write the table"
    bars = Bars()
    try: found = answers_to(load_model(STANDIN), RealRunner("laptop", real=real).all,
                            lambda done, of: bars("recordings", done, of))
    finally: bars.close()
    write_text(SHIPPED, summed(found).to_csv(index=False))
    return SHIPPED


if __name__ == "__main__": print(main(sys.argv[1]))
