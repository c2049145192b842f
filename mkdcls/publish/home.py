"""The three pictures of the site's first page, drawn from the committed records as they stand, and small enough to be
part of the page."""
from __future__ import annotations

import csv
import html
from pathlib import Path

from mkdcls.decisive import ASKED_BLOCKS, PRIMARY_SEEDS
from mkdcls.evaluation import MARGIN
from mkdcls.results import front, report
from mkdcls.results.decisive_sheet import compares_nothing, doses_text, worth_of_k
from mkdcls.results.real_sheet import worth_in_words

# told apart by the colour-blind, and by their marks
PRINTED_GREY, OURS_BLUE, REAL_ORANGE = "#8a93a3", "#0173b2", "#de8f05"
WIDE, TALL = 360, 232

# below the table of protocol 1, whose numbers stand in the article's values
FIRST_PROTOCOL = (
    "The numbers are gains in points of macro F1 on three age groups, full method against the same student "
    "without it, with 95 % intervals from five seeds. *Undecided* means that the interval reaches across the "
    "margin of one point that the [protocol](paper/protocol.md) fixed after one first look at scores and before "
    "the rows were compared.\n\n"
    "‡ By that protocol a base must close half of the gap from chance to an oracle that knows the voice. The base "
    "of the call centre closes {{of gap.calls.closed}}: by its own rule this contrast compares nothing, though "
    "its interval clears the margin.\n\n"
    "The table re-estimates BatchNorm statistics in rows trained on mixed speech, and scores base as trained. On "
    "the stand-in, with base re-estimated too, the three gains are {{of fair.ecapa.span}}, {{of "
    "fair.resnet.span}} and {{of fair.calls.span}} ‡; with every row as trained they are {{of "
    "one.standin.ecapa.trained}}, {{of one.standin.resnet.trained}} and {{of one.standin.calls.trained}} ‡. [The "
    "ten-minute page](nbs/index.ipynb) says what else to mind before you rely on this table."
)


def lines_of(root: Path, name: str) -> list[dict]:
    "Lines of a table of the results"
    with open(root / "paper/results" / name, encoding="utf-8") as f: return list(csv.DictReader(f))


class Drawing:
    "A little SVG: numbers between `low` and `high` lie between x = `left` and the right edge"

    def __init__(self, said: str, low: float, high: float, left: int):
        self.said, self.low, self.high, self.left, self.parts = said, low, high, left, []

    def x(self, v: float) -> float:
        return round(self.left + (v - self.low) / (self.high - self.low) * (WIDE - 12 - self.left), 1)

    def line(self, x1, y1, x2, y2, colour="currentColor", width=1., more=""):
        self.parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}" '
                          f'stroke-width="{width}"{more}/>')

    def text(self, x, y, words, anchor="start", more=""):
        self.parts.append(f'<text x="{x}" y="{y}" text-anchor="{anchor}"{more}>{html.escape(words)}</text>')

    def mark(self, x, y, colour, round_=True):
        self.parts.append(f'<circle cx="{x}" cy="{y}" r="4.2" fill="{colour}"/>' if round_ else
                          f'<rect x="{x - 3.8:.1f}" y="{y - 3.8:.1f}" width="7.6" height="7.6" fill="{colour}"/>')

    def interval(self, y, value, low, high, colour, round_=True):
        self.line(self.x(low), y, self.x(high), y, colour, 2)
        self.mark(self.x(value), y, colour, round_)

    def scale(self, at, bottom, words):
        for v in at:
            self.line(self.x(v), 8, self.x(v), bottom, more=' opacity=".18"' if v else ' opacity=".7"')
            self.text(self.x(v), bottom + 14, f"{v:+g}".replace("-", "−") if v else "0", "middle")
        self.text((self.left + WIDE - 12) / 2, bottom + 29, words, "middle")

    def __str__(self):
        return (f'<svg viewBox="0 0 {WIDE} {TALL}" role="img" aria-label="{html.escape(self.said)}">'
                + "".join(self.parts) + "</svg>")


def spanned(r: dict) -> str: return f"{float(r['gain']):+.1f} [{float(r['low']):+.1f}, {float(r['high']):+.1f}]"


def newest(root: Path):
    "The declared family of protocol 2, once the first page shows it; None before"
    return front.second_protocol({"stand-in": root / "paper/results/standin-laptop"})


def primary_gains(root: Path) -> dict[str, list[dict]]:
    "The primary contrasts on either kind of speech, on the stand-in by the protocol that the first page shows"
    kept = {who: [r for r in lines_of(root, f"{folder}/gains.csv") if r["primary"] == "True" and r["task"] == "agesup"
                  and r["scope"] == "pooled"]
            for who, folder in (("stand-in", "standin-laptop"), ("real speech", "real-laptop"))}
    if (t := newest(root)) is not None:
        t = t[t.index.str.startswith("+MKD+CH − base")].set_index("row")
        kept["stand-in"] = [r | {k: str(t.loc[r["row"], k]) for k in ("gain", "low", "high")} for r in kept["stand-in"]]
    return kept


def weak_blocks(root: Path) -> set[str]:
    "Rows of +MKD+CH whose block compares nothing on the stand-in, by the same protocol"
    folder = root / "paper/results/standin-laptop"
    if newest(root) is None: return report.too_small(folder)
    return {ASKED_BLOCKS[b]["both"] for b in compares_nothing(folder / "decisive")}


def marked(root: Path, r: dict) -> str:
    "The block of a primary contrast, with a mark where it compares nothing"
    return r["block"] + " ‡" * (r["row"] in weak_blocks(root))


def told_counts(root: Path) -> str:
    "What the numbers of the first table are, and what to mind, by the protocol that it shows"
    if (t := newest(root)) is None: return FIRST_PROTOCOL
    plain = front.as_trained(root / "paper/results/standin-laptop/decisive")
    told = ("The numbers are gains in points of macro F1 on three age groups, full method against the same student "
            "without it, with 95 % intervals. They come from "
            f"{t['n_seeds'].min()} of the {PRIMARY_SEEDS} seeds that [protocol 2](paper/protocol2.md) plans (Student's "
            "t; BatchNorm statistics of all networks re-estimated on unmixed speech); the picture below adds real "
            "speech, five folds under [protocol 1](paper/protocol.md), which scores base as trained. The last column "
            "judges: a gain is called *better* or *worse* if it is more than one point with 95 % confidence, *no "
            "difference* if it is less than one point either way, and otherwise *undecided*; ten such questions were "
            "asked at once, and are corrected for that. "
            + f"As training leaves the networks, without re-estimation, the three gains are {plain}. " * bool(plain)
            + "[The ten-minute page](nbs/index.ipynb) says what else to mind "
            "before you rely on this table.")
    weak = [r for r in primary_gains(root)["stand-in"] if r["row"] in weak_blocks(root)]
    return told + "".join(f"\n\n‡ The base of {r['block']} closes less than half of the gap from chance to an oracle "
                          "that knows the voice: by the protocol's rule this contrast compares nothing." for r in weak)


def counted_seeds(root: Path) -> str:
    "Seeds of the pictures at the left and the right"
    t = newest(root)
    if t is None: return "*By how much* and *Which part helps*: five seeds, 95 % intervals over speakers and seeds."
    return (f"*By how much*: {t['n_seeds'].min()} seeds on the stand-in, five folds of real speech. *Which part "
            "helps*: five other seeds, of protocol 1.")


def told_gains(root: Path) -> str:
    "How many of our intervals reach the paper's gain"
    every = [r for rows in primary_gains(root).values() for r in rows]
    below = sum(float(r["high"]) < float(r["paper_gain"]) for r in every)
    best = max(every, key=lambda r: float(r["gain"]))
    weak = " ‡" * (best["corpus"] == "standin" and best["row"] in weak_blocks(root))
    least = min(float(r["paper_gain"]) for r in every)
    sex = front.gender_in_short(root / "paper/results/standin-laptop") if newest(root) is not None else ""
    return (f"The paper's gains are {least:.1f} points and more; ours are {float(best['gain']):.1f}{weak} at most, "
            f"and {'all' if below == len(every) else below} of our {len(every)} intervals end below the paper's gain."
            + f" {sex}" * bool(sex))


def when_it_helps(root: Path) -> str:
    "What a teacher is worth that knows more, and what more speakers bring; nothing before either has been run"
    folder = root / "paper/results/standin-laptop"
    controls, doses, family = (front.table_at(folder / f"decisive{name}.csv") for name in ("-controls", "-doses", ""))
    told = " ".join(t for t in (doses_text(doses), worth_of_k(controls)) if t)
    lows = [*doses.loc[doses["row"] == "6", "low"]] if len(doses) else []
    if lows and len(family): lows += [*family.loc[family["contrast"].str.startswith("+MKD+CH − base"), "low"]]
    nowhere = lows and max(lows) <= MARGIN
    public = worth_in_words(root / "paper/results/real-laptop")
    return told and ("**When does the method help?** "
                     + "Under protocol 2 we found no condition so far in which it gains more than a point for sure. "
                     * bool(nowhere)
                     + f"{told} (The teacher's features K stand in Z beside the student's; FCVG is clean speech, on "
                     "which the paper's kind of teacher learns.) [The "
                     "sheet](paper/results/standin-laptop/decisive.ipynb)"
                     + f" {public} ([real speech](paper/results/real-laptop/real.ipynb))." * bool(public))


def by_how_much(root: Path) -> str:
    "Gains of the full method over base: the paper's, the stand-in's, real speech's"
    kept = primary_gains(root)
    said = "; ".join(f"{a['block']}: paper {float(a['paper_gain']):+.1f}, stand-in {spanned(a)}, "
                     f"real speech {spanned(b)}" for a, b in zip(*kept.values()))
    d = Drawing(f"Gain of the full method over base in points of macro F1. {said}", -7, 17, 12)
    for v, words, colour, round_ in ((3, "paper", PRINTED_GREY, False), (125, "stand-in", OURS_BLUE, True),
                                     (232, "real speech", REAL_ORANGE, True)):
        d.mark(v + 12, 14, colour, round_)
        d.text(v + 21, 18, words)
    d.parts.append('<g transform="translate(0 22)">')
    d.scale((-5, 0, 5, 10, 15), 176, "points over base")
    for i, (a, b) in enumerate(zip(*kept.values())):
        y = 24 + 56 * i
        d.text(12, y - 3, marked(root, a), more=' font-weight="600" class="halo"')
        d.mark(d.x(float(a["paper_gain"])), y + 9, PRINTED_GREY, False)
        for r, colour, at in ((a, OURS_BLUE, y + 9), (b, REAL_ORANGE, y + 24)):
            d.interval(at, *(float(r[k]) for k in ("gain", "low", "high")), colour)
    d.parts.append("</g>")
    return str(d)


def when(root: Path) -> str:
    "Score against the ρ of the test, trained with and without the tie"
    every = [r for r in lines_of(root, "standin-laptop/interventions.csv") if r["sheet"] == "rho"
             and r["measure"] == "f1" and r["task"] == "agesup" and not r["against"]]
    def curve(row, rho):
        return sorted((float(r["test_rho"]), float(r["value"])) for r in every
                      if r["row"] == row and r["train_rho"] and abs(float(r["train_rho"]) - rho) < .01)
    dashed = ' stroke-dasharray="5 3"'
    lines = [("base", "3", 0., PRINTED_GREY, ""), ("full", "6", 0., OURS_BLUE, ""),
             ("base", "3", .8, PRINTED_GREY, dashed), ("full", "6", .8, OURS_BLUE, dashed)]
    ends = {(w, rho): curve(row, rho) for w, row, rho, *_ in lines}
    said = "; ".join(f"{w} trained at ρ = {rho:g}: from {c[0][1]:.0f} at ρ = {c[0][0]:g} to {c[-1][1]:.0f} "
                     f"at {c[-1][0]:g}" for (w, rho), c in ends.items())
    d = Drawing(f"Macro F1 on three age groups against the ρ of the test. {said}", -.85, .85, 34)
    def y(v): return round(190 - (v - 20) / 65 * 180, 1)
    for v in (20, 40, 60, 80):
        d.line(34, y(v), WIDE - 12, y(v), more=' opacity=".18"')
        d.text(28, y(v) + 4, f"{v}", "end")
    for v in (-.8, -.4, 0, .4, .8): d.text(d.x(v), 206, f"{v:g}".replace("-", "−"), "middle")
    d.text((34 + WIDE) / 2, 222, "ρ in the test", "middle")
    for words, _, rho, colour, more in lines:
        points = " ".join(f"{d.x(a)},{y(b)}" for a, b in ends[words, rho])
        d.parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.4"{more}/>')
    d.text(28, 14, "macro F1", more=' class="halo"')
    d.text(d.x(-.78), y(77), "trained at ρ = 0", more=' class="halo"')
    d.text(d.x(-.30), y(29), "trained at 0.8 (dashed)", more=' class="halo"')
    for x, words, colour in ((140, "base", PRINTED_GREY), (200, "full method", OURS_BLUE)):
        d.line(x, 10, x + 16, 10, colour, 3)
        d.text(x + 21, 14, words)
    return str(d)


def parts_of(root: Path) -> list[dict]:
    "Ablations against the re-estimated base that have five seeds, best first"
    kept = {r["row"]: r for r in lines_of(root, "standin-laptop/ablations.csv")
            if r["against"] == "3r" and r["n_seeds"] == "5"}
    return sorted(kept.values(), key=lambda r: -float(r["gain"]))


def which_part(root: Path) -> str:
    "What parts of the method gain over base"
    kept = parts_of(root)
    said = "; ".join(f"{r['what']} {spanned(r)}" for r in kept)
    d = Drawing(f"Gain over base, statistics re-estimated. {said}", -2.2, 3.8, 168)
    d.scale((-2, 0, 2), 190, "points over base")
    for i, r in enumerate(kept):
        y = round(18 + i * 166 / max(1, len(kept) - 1), 1)
        d.text(160, y + 4, r["what"], "end")
        d.interval(y, *(float(r[k]) for k in ("gain", "low", "high")), OURS_BLUE)
    return str(d)


def told_part(root: Path) -> str:
    "How many of these gains clear the margin, and the largest, in words"
    kept = parts_of(root)
    clear, best = sum(float(r["low"]) > 1 for r in kept), kept[0]
    return (f"Of the {len(kept)} changes to the base with ECAPA-TDNN that have five seeds, {clear or 'none'} clears "
            f"the margin of one point. The largest gain is that of *{best['what']}*, {spanned(best)}: {best['status']}"
            f", and as the best of {len(kept)} it looks larger than it is.")
