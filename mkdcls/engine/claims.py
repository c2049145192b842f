"""What the paper claims, how each claim was tested here, what came out, and the word for it. Made from committed results; nothing is typed in."""
from __future__ import annotations

from pathlib import Path

import pandas as pd

from mkdcls.engine.report import preset_of
from mkdcls.evaluation import MIN_SEEDS

NOT_RUN = ("not run yet", "not run")


def _csv(folder: Path, name: str) -> pd.DataFrame | None:
    path = Path(folder) / name
    return pd.read_csv(path, dtype={"row": str, "base_row": str, "against": str}, keep_default_na=True) if path.exists() else None


def _span(r, digits=1) -> str: return f"{r['value']:+.{digits}f} [{r['low']:+.{digits}f}, {r['high']:+.{digits}f}]"


def _gain(gains, row: str) -> tuple[str, str]:
    "A row's agesup gain over the base of its block, from gains.csv"
    if gains is None: return NOT_RUN
    found = gains[(gains["row"] == row) & (gains["task"] == "agesup") & (gains["scope"] == "pooled")]
    if found.empty: return NOT_RUN
    g = found.iloc[0]
    return f"{g['gain']:+.1f} [{g['low']:+.1f}, {g['high']:+.1f}]" + (f", as trained {g['as_trained']:+.1f}" if pd.notna(g["as_trained"]) else ""), g["status"]


def _contrast(sheet, question: str, row: str) -> tuple[str, str]:
    "A row of the ablation sheet against what its question holds it against"
    if sheet is None: return NOT_RUN
    found = sheet[(sheet["question"] == question) & (sheet["row"] == row)]
    if found.empty: return NOT_RUN
    c = found.iloc[0]
    return f"{c['what']} {c['gain']:+.1f} [{c['low']:+.1f}, {c['high']:+.1f}]", c["status"]


def _several(*parts: tuple[str, str]) -> tuple[str, str]:
    results = "; ".join(dict.fromkeys(r for r, _ in parts))
    words = list(dict.fromkeys(s for _, s in parts))
    return results, words[0] if len(words) == 1 else ", ".join(s for _, s in parts)


def _named(name: str, found: tuple[str, str]) -> tuple[str, str]: return (f"{name} {found[0]}" if found != NOT_RUN else found[0]), found[1]


def _measured(known, few: str = "undecided", **where) -> tuple[pd.Series | None, str]:
    "A line of interventions.csv, and 'undecided' where too few seeds stand behind it"
    if known is None: return None, ""
    part = known
    for k, v in where.items(): part = part[part[k].isna() if v is None else part[k] == v]
    if part.empty: return None, ""
    return part.iloc[0], few if part.iloc[0]["n_seeds"] < MIN_SEEDS else ""


def _moved(known) -> tuple[str, str]:
    "do(channel): answers and Z should stay where they are"
    told, word = [], ""
    for row, name in (("3", "base"), ("6", "+MKD+CH")):
        r, few = _measured(known, sheet="effects", row=row, under="channel", task="agesup", measure="tv", against=None)
        if r is None: return NOT_RUN
        told.append(f"{name} {100 * r['value']:.0f} [{100 * r['low']:.0f}, {100 * r['high']:.0f}]")
        word = few or ("does not hold" if r["low"] > .01 else "holds")
    return f"agesup probabilities move by {' and '.join(told)} points; they should not move", word


def _knob(known, **where) -> tuple[str, str]:
    "+MKD+CH against base at the far end of a knob"
    r, few = _measured(known, row="6", task="agesup", measure="f1", against="base", **where)
    if r is None: return NOT_RUN
    return _span(r), few or ("better" if r["low"] > 1 else "worse" if r["high"] < -1 else "undecided")


def claims(folder: Path) -> pd.DataFrame:
    "One line a claim, from the results of one corpus and preset"
    gains, sheet, known = (_csv(folder, f"{n}.csv") for n in ("gains", "ablations", "interventions"))
    runs = _csv(folder, "table1.csv")
    if runs is not None and not preset_of(runs["preset"].iloc[0]).evidence: raise ValueError(f"{folder}: results of preset smoke are no evidence for or against a claim")
    fewer = None if sheet is None else {r: sheet.loc[sheet["row"] == r, "conflict_rate"].iloc[0] for r in ("5r", "dep_constant") if (sheet["row"] == r).any()}
    rho = None if known is None else known.loc[known["sheet"] == "rho", "train_rho"].max()
    noise = None if known is None else known.loc[(known["sheet"] == "label_noise") & (known["under"] == "adjacent"), "adjacent"].max()
    lines = [
        ("+MKD+CH improves agesup on every corpus (Table 1)", "Table 1, primary contrasts: rows 6, 10, 13 against base",
         _several(_named("ECAPA", _gain(gains, "6")), _named("ResNet", _gain(gains, "10")), _named("call centre", _gain(gains, "13")))),
        ("MKD lets a small student keep much of what the teacher can (section 5)", "Table 1, rows 4a, 8 against base",
         _several(_named("ECAPA", _gain(gains, "4a")), _named("ResNet", _gain(gains, "8")))),
        ("CH brings the larger gain (section 5)", "Table 1, rows 5, 9, 12 against base", _several(_named("ECAPA", _gain(gains, "5")), _named("ResNet", _gain(gains, "9")),
                                                                            _named("call centre", _gain(gains, "12")))),
        ("The student gains by the teacher's knowledge (section 2.2)", "a teacher that was never trained in its place", _contrast(sheet, "teacher", "random")),
        ("Mixup makes it robust to wrong labels (section 1)", "+MKD+CH against base at the largest share of slipped labels",
         _knob(known, sheet="label_noise", under="adjacent", adjacent=noise, scope="LTV") if known is not None else NOT_RUN),
        ("Y_agesub informs H_agesup (Figure 4)", "Eq. 5 on and off; the arrow turned round",
         _several(_contrast(sheet, "dependency", "5r"), _contrast(sheet, "direction", "reversed"))),
        ("The dependency loss punishes conflicts (Eq. 5)", "share of contradicting answers with and without it",
         (f"{fewer['5r']:.1f} % with, {fewer['dep_constant']:.1f} % without" if fewer and len(fewer) == 2 else "not run yet",
          "fewer conflicts" if fewer and len(fewer) == 2 and fewer["5r"] < fewer["dep_constant"] else "not fewer" if fewer and len(fewer) == 2 else "not run")),
        ("Eq. 5 as printed", "pages 08, 08a: its sign", ("lowest where the answers contradict each other", "does not hold as printed")),
        ("The asymmetric loss suits mislabelled age groups (section 3.2)", "against CE, the same heads", _contrast(sheet, "asymmetry", "subasl")),
        ("X and K are independent (section 3.2)", "page 14: both hear the same utterance", ("dependent, beyond sex and decade", "does not hold")),
        ("P(Y \\| do(X)) is used instead of P(Y \\| X) (section 3.2)", "page 14: no sum over k is taken; with one (11a):",
         _several(_contrast(sheet, "intervention", "bd"), _contrast(sheet, "intervention", "pr"))),
        ("Z is causal, mechanisms are invariant (section 3.2)", "do(channel) on synthetic speech", _moved(known)),
        ("Causal learning buys robustness (section 1)", f"line tied to age in training (ρ = {rho:g}), turned round at test" if rho is not None else "the knob ρ",
         _knob(known, sheet="rho", train_rho=rho, test_rho=known.loc[known["sheet"] == "rho", "test_rho"].min()) if known is not None else NOT_RUN)]
    return pd.DataFrame([dict(claim=c, tested=t, result=r, status=s) for c, t, (r, s) in lines])
