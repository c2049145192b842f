"""The sheet `real` (protocol 2, section 5): does distillation help on real speech, is a public encoder a better K, and
does either say more of age than the language of a clip does?

Common Voice and the Accent Archive are one corpus here, for the student; the Accent Archive alone is the corpus of the
teacher that is trained from scratch, without the speakers of the test fold. The Saarbrücken sentences are heard at the
end by every fold's network and are never trained on. Two divisions into five folds: by speaker, and by language, where
no language of the test fold was heard in training (in the Accent Archive: no first language).

Rows without a network of ours (a constant, language, corpus, linear heads) are computed here and kept answer by answer,
as the trained rows are, so that every table can be made again from the folder alone.
"""
from __future__ import annotations

import json
import os
import time
from functools import lru_cache
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from mkdcls.corpora import check_manifest, content_hash, open_prepared, speaker_folds
from mkdcls.engine.codehash import module_hash, source_hash
from mkdcls.engine.store import digest, home, provenance, writable, write_table, write_text
from mkdcls.evaluation import holm, p_value
from mkdcls.intake.corpora import CODE, prepare_corpus
from mkdcls.intake.encoded import encoder_key, heard_by, why_not
from mkdcls.intake.features import prepare
from mkdcls.labels import AGESUB, AGESUP, CLASSES, PARENT, TASKS
from mkdcls.pretrained import PUBLIC, fetch_weights, load_public, public_encoder
from mkdcls.remedies import REMEDIES, known_of
from mkdcls.results.figures import COLOURS, STYLE, save_figure
from mkdcls.results.remedies_sheet import strengths
from mkdcls.results.runner import Runner
from mkdcls.runs import Knobs, Preset, like, preset_of, recipe, recordings

N_FOLDS = 5
BY = {"speaker": 100, "language": 110}  # how folds are made → seed of its first fold; protocol 2 begins at 100
TOLD = {"speaker": "folds by speaker", "language": "folds blocked by language"}
CLINIC = "Saarbrücken"
MIDDLE = {"20s": 25., "30s": 35., "40s": 45., "50s": 55., "60s+": 67.}  # years; of an open class, a judgement
GROUP = np.array([30., 50., 67.])  # years: the middle of each age group
K_DEFAULT = "campplus"  # protocol 2, section 7: the better linear head of the two; not chosen on these folds
RESAMPLES = 1000

# first languages of the Accent Archive that are languages of Common Voice, and its codes; others stand for themselves
FIRST_LANGUAGES = {"english": "en", "arabic": "ar", "dutch": "nl", "cantonese": "zh", "mandarin": "zh", "czech": "cs",
         "catalan": "ca", "dari": "fa", "farsi": "fa", "french": "fr", "german": "de", "bavarian": "de",
         "spanish": "es", "italian": "it", "polish": "pl", "portuguese": "pt", "russian": "ru", "turkish": "tr",
         "japanese": "ja",
         "hindi": "hi", "tamil": "ta", "thai": "th", "vietnamese": "vi", "swedish": "sv", "romanian": "ro",
         "hungarian": "hu", "greek": "el", "finnish": "fi", "estonian": "et", "latvian": "lv", "lithuanian": "lt",
         "basque": "eu", "welsh": "cy", "georgian": "ka", "mongolian": "mn", "maltese": "mt", "punjabi": "pa",
         "slovenian": "sl", "tatar": "tt", "kabyle": "kab", "indonesian": "id", "frisian": "fy", "irish": "ga"}


# ---- corpora and folds

def first_languages(real: Path) -> dict[str, str]:
    "Speaker of the Accent Archive → language block of the first language"
    for name, who, column in (("manifest.csv", "speaker_id", "first_language"),
                              ("speakers_all.csv", "speakerid", "native_language")):
        if not (file := Path(real) / "accent_archive" / name).is_file(): continue
        d = pd.read_csv(file, dtype=str, keep_default_na=False)
        if column not in d: continue
        code = lambda s: FIRST_LANGUAGES.get(s.strip().lower(), s.strip().lower() or "unknown")
        ids = d[who].map(lambda s: s if s.startswith("saa_") else f"saa_{s}")
        return {f"Speech Accent Archive/{s}": code(l) for s, l in zip(ids, d[column])}
    raise ValueError(f"{Path(real).name}/accent_archive tells no first languages (first_language of manifest.csv or "
                     "native_language of speakers_all.csv): folds cannot be blocked by language")


def block_folds(blocks: pd.Series, speakers: pd.Series, k: int = N_FOLDS) -> pd.Series:
    "Whole blocks into k folds: the largest first, each to the fold with the fewest speakers so far"
    size = speakers.groupby(blocks).nunique()
    total, fold = [0] * k, {}
    for block in sorted(size.index, key=lambda b: (-size[b], content_hash("block", b))):
        fold[block] = j = min(range(k), key=lambda j: total[j])
        total[j] += int(size[block])
    return blocks.map(fold)


def few_speakers(m: pd.DataFrame, share: int = 16) -> pd.DataFrame:
    "A few speakers, for the smoke preset: every sixteenth, and every second of the oldest"
    number = m["speaker"].map({s: int(content_hash("few", s)[:8], 16) for s in m["speaker"].unique()})
    return m[number % share == 0].pipe(lambda a: pd.concat([a, m[(m["agesup"] == "60+") & (number % 2 == 0)
                                                                 & (number % share > 0)]])).sort_index()


def joined(saa: pd.DataFrame, cv: pd.DataFrame, outside: pd.DataFrame | None, first: dict) -> pd.DataFrame:
    """One manifest of all that is heard; `block` is the language block, `by_speaker` and `by_language` the fold, -1
    outside

    Of a speaker whom Common Voice has in several languages the commonest is kept, so that no fold shares a language or
    a speaker with another.
    """
    m = pd.concat([cv, saa], ignore_index=True)
    m["block"] = m["language"].astype(str).str.partition("-")[0]
    at = m["corpus"] == "Speech Accent Archive"
    m.loc[at, "block"] = m.loc[at, "speaker"].map(first).fillna("unknown")
    main = m.groupby("speaker")["block"].agg(lambda b: b.value_counts(sort=True).sort_index(kind="stable").idxmax())
    m = m[m["block"] == m["speaker"].map(main)].reset_index(drop=True)
    m["by_speaker"] = speaker_folds(m, N_FOLDS, 0).to_numpy()
    m["by_language"] = block_folds(m["block"], m["speaker"]).to_numpy()
    if outside is not None:
        m = pd.concat([m, outside.assign(block="de", by_speaker=-1, by_language=-1)], ignore_index=True)
    m["years"] = m["age"].where(m["age"].notna(), m["agesub"].astype(str).map(MIDDLE))
    return m


def prepared_outside(real: Path, progress=lambda what, done, of: None) -> pd.DataFrame | None:
    "Manifest of the Saarbrücken sentences, which lie in the Accent Archive's cut form; None where they are not there"
    folder = Path(real) / "saarbruecken"
    if not (folder / "manifest.csv").is_file(): return None
    at = home() / "prepared" / digest([os.path.abspath(folder), {m: module_hash(m) for m in CODE}])
    m = open_prepared(prepare_corpus("accent_archive", folder, writable(at), progress=progress, say=lambda text: None))
    mine = lambda s: CLINIC + s.removeprefix("Speech Accent Archive")
    return m.assign(corpus=CLINIC, language="de", speaker=m["speaker"].map(mine), utterance=m["utterance"].map(mine))


def fold_of(seed: int) -> tuple[str, int]:
    "How its folds are made, and which fold is the test part"
    for by, first in BY.items():
        if first <= seed < first + N_FOLDS: return by, seed - first
    raise ValueError(f"seed {seed}: this sheet has {BY['speaker']} to {BY['speaker'] + N_FOLDS - 1} (folds by speaker) "
                     f"and {BY['language']} to {BY['language'] + N_FOLDS - 1} (blocked by language)")


def balanced(m: pd.DataFrame) -> torch.Tensor:
    """Positions of the training utterances, those of the rarer age groups as often as the commonest group's

    Which are heard once more than others is fixed by a hash of their names.
    """
    train = np.flatnonzero((m["split"] == "train").to_numpy())
    group = m["agesup"].astype(str).to_numpy()[train]
    most, out = max((group == g).sum() for g in AGESUP), []
    for g in AGESUP:
        rows = train[group == g]
        if not len(rows): continue
        rows = rows[np.argsort([content_hash("balanced", u) for u in m["utterance"].iloc[rows]])]
        out.append(np.resize(rows, most))
    return torch.from_numpy(np.sort(np.concatenate(out)))


# ---- trained rows

TRAINED = {"teacher": "teacher, from scratch", "base_flat": "base, groups as they come", "base": "base", "mkd": "+MKD",
        "ch": "+CH", "mkd_ch": "+MKD+CH",
        "base_balance": "base, language and corpus balanced over ages",
        "base_codec": "base, heard over a made-up telephone by a coin",
        "base_reverse": "base, X does not tell language and corpus"}
WITH_K = {"base": "base, K beside X", "mkd": "+MKD", "ch": "+CH, K beside X", "mkd_ch": "+MKD+CH",
          "alone": "+MKD+CH, student alone"}
UNBALANCED = ("base_flat",)
# remedies 1, 3 (recordings know only a made-up telephone) and 7 of page 16; asked for by MKDCLS_REMEDIES
REAL_REMEDIES = ("balance", "codec", "reverse")
FEWEST = 5  # speakers of each age group that a language of a corpus needs in training to be told apart
# of the balanced training part, 2.2 times as long as the plain one: about as many steps as rows of protocol 1 made on
# real speech (page 13)
EPOCHS = {"laptop": 4}


def row_title(row: str) -> str:
    "A row as a table names it"
    if row in TRAINED: return TRAINED[row] + (", K from scratch" if "mkd" in row else "")
    method, _, k = row.partition("_of_")
    return f"{WITH_K[method]}, K of {PUBLIC[k].title}" if k in PUBLIC and method in WITH_K else UNTRAINED[row]


def real_rows(preset: Preset, k: str = "", remedies: tuple = ()) -> dict:
    """The trained rows; `k` is a public encoder, '' leaves its rows out; with `remedies` base is trained with each, too

    Strengths are those chosen on the stand-in (protocol 2, section 6), never on real speech.
    """
    settings = preset.scheduled(epochs=EPOCHS.get(preset.name)).ecapa
    make = lambda name, method, teacher=None, size="student", role="LTV+FCVE": recipe(
        name, "ecapa", size, role, method, settings, scale=preset.scale, teacher=teacher, reestimate=True)
    twice = dict(epochs=2 * settings.epochs, drops=tuple(2 * d - 1 for d in settings.drops))  # as many steps, roughly
    rows = [make("teacher", "base", size="teacher", role="FCVG"),
            like(make("base_flat", "base"), "base_flat", **twice), make("base", "base"),
            make("mkd", "+MKD", "teacher"), make("ch", "+CH"), make("mkd_ch", "+MKD+CH", "teacher")]
    if k:
        rows += [*(like(make(f"{name}_of_{k}", method), f"{name}_of_{k}", teacher=k)
                   for name, method in (("base", "base"), ("ch", "+CH"))),
                 make(f"mkd_of_{k}", "+MKD", k), make(f"mkd_ch_of_{k}", "+MKD+CH", k)]
        rows.append(like(rows[-1], f"alone_of_{k}", z="student"))
    base, chosen = next(r for r in rows if r.row == "base"), strengths() if remedies else {}
    rows += [like(base, f"base_{n}", remedy=((n, chosen[n]),)) for n in remedies]
    return {r.row: r for r in rows}


def asked_remedies() -> tuple:
    "The remedies of MKDCLS_REMEDIES (names, commas between them), none by default; others are refused by name"
    asked = tuple(n.strip() for n in os.environ.get("MKDCLS_REMEDIES", "").split(",") if n.strip())
    if wrong := [n for n in asked if n not in REAL_REMEDIES]:
        raise ValueError(f"MKDCLS_REMEDIES={','.join(wrong)}: on real speech choose from {', '.join(REAL_REMEDIES)}")
    return asked


def nuisance_of(m: pd.DataFrame, block: pd.Series) -> pd.Series:
    """What stands for the line of each recording: its corpus and its language

    Languages with fewer than `FEWEST` training speakers in any age group are one, in each corpus: a remedy that weighs
    age groups over lines needs all pairs.
    """
    cell = m["corpus"].astype(str) + ", " + block.astype(str)
    train = (m["split"] == "train").to_numpy()
    people = m[train].groupby([cell[train], m["agesup"][train].astype(str)])["speaker"].nunique().unstack(fill_value=0)
    enough = people.reindex(columns=list(AGESUP), fill_value=0).min(axis=1) >= FEWEST
    return cell.where(cell.map(enough).fillna(False).astype(bool), m["corpus"].astype(str) + ", other languages")


@lru_cache
def not_to_be_had(name: str, folder: str) -> str:
    """Why a public encoder that was asked for by name cannot play K, in one line; '' where it can

    Its weights are fetched if need be, into `folder`. Asked once a process: a page plans twice.
    """
    try:
        public_encoder(name)
        fetch_weights(name, folder)
        load_public(name, folder)
    except (OSError, ValueError, RuntimeError, KeyError) as e:  # the last two: a file of another network
        return (str(e).strip().splitlines() or [type(e).__name__])[0]
    return ""


def asked_k(say=print) -> tuple[str, str]:
    """The public encoder that plays K: TEACHER's, fetched if need be, or the default where its weights lie here; and
    why there is none, '' where there is one"""
    name = os.environ.get("MKDCLS_TEACHER", "")
    why = not_to_be_had(name, os.environ.get("MKDCLS_ENCODERS", "")) if name else why_not(K_DEFAULT)
    if not why: return name or K_DEFAULT, ""
    told = (f"TEACHER={name}: the rows with this public encoder as K are left out: {why}" if name else
            f"The rows with a public encoder as K are left out: {why}")
    say(told)
    return "", told


def recorded_k(say=print) -> tuple[str, str]:
    """The public encoder whose recorded rows are drawn where there are no recordings: nothing is fetched for that, and
    an unknown name is told and does not count"""
    name = os.environ.get("MKDCLS_TEACHER") or K_DEFAULT
    try: return public_encoder(name).name, ""
    except ValueError as e: told = f"TEACHER={name}: {e}; the rows that are recorded are drawn"
    say(told)
    return K_DEFAULT, told


WANTED = ("SHEET=real is of real speech: CORPUS=real REAL=<folder with accent_archive/ and common_voice/, "
          "maybe saarbruecken/>")


class RealRunner(Runner):
    "Rows on the joined corpus; the seed says which fold of which division is the test part"

    def __init__(self, preset="smoke", corpus="real", real="", device="auto", rows=None, **more):
        if corpus != "real": raise ValueError(WANTED)
        super().__init__(preset, corpus, real, device, rows or real_rows(preset_of(preset)),
                         **more | dict(protocol="2"))
        self._all, self.left_out = None, ""  # why there is no public encoder as K, as the sheet tells it

    @property
    def all(self) -> pd.DataFrame:
        "Everything that is heard, with the folds of both divisions"
        if not self.real: raise ValueError(WANTED)
        if self._all is None:
            outside = prepared_outside(self.real, self.progress)
            parts = [*self.recorded, outside]
            if not self.preset.evidence: parts = [p if p is None else few_speakers(p) for p in parts]
            self._all = joined(*parts, first_languages(self.real))
        return self._all

    def manifest(self, role: str, seed: int, knobs: Knobs | None = None):
        "The student's corpus, or the teacher's part of it; Saarbrücken stands in the student's test part"
        by, fold = fold_of(seed)
        m = self.all if role == "LTV+FCVE" else self.all[self.all["corpus"] == "Speech Accent Archive"]
        at = m[f"by_{by}"].replace(-1, fold)
        m = m.assign(fold=at, split=np.where(at == fold, "test", "train"))
        m = check_manifest(m.drop(columns=["block", "by_speaker", "by_language", "years"]).reset_index(drop=True))
        return m, recordings(m, ordered=False)

    def identity(self, row: str, seed: int, parents: dict[str, str]) -> dict:
        "Balanced rows say so, and those that are told language and corpus"
        same = super().identity(row, seed, parents)
        if any(REMEDIES[n].line for n, _ in self.rows[row].remedy): same |= {"nuisance": source_hash(nuisance_of)}
        return same if row in UNBALANCED else same | {"balanced": source_hash(balanced)}

    def _known(self, r, seed):
        "Remedies are told language and corpus as the line"
        if (asked := (r.role, seed, str(r.remedy), r.tasks)) not in self._told:
            m = self.manifest(r.role, seed)[0]
            block = m["utterance"].map(self.all.set_index("utterance")["block"])
            self._told[asked] = known_of(r, m.assign(channel=nuisance_of(m, block)))
        return self._told[asked]

    def training_rows(self, row: str, manifest) -> torch.Tensor:
        "Every age group as often as the commonest, but for the row that shows what that does"
        return super().training_rows(row, manifest) if row in UNBALANCED else balanced(manifest)


def real_plan(w):
    "What the sheet asks of `Wanted` w: every trained row on so many folds of each division"
    say = w.callbacks.get("say", lambda text: None)
    k, why = asked_k(say) if w.real else recorded_k(say)
    rows = real_rows(preset_of(w.preset), k, asked_remedies())
    runner = RealRunner(w.preset, w.corpus, w.real, w.device, rows, **w.callbacks)
    runner.left_out = why
    folds = range(min(w.seeds, N_FOLDS))
    return [(runner, [(row, first + f) for f in folds for first in BY.values() for row in runner.rows])]


# ---- rows without a network of ours

UNTRAINED = {"constant": "the training fold's shares, for everybody", "language": "language of the clip alone",
          "corpus": "corpus alone", "language_corpus": "language and corpus",
          "permuted": "CAM++, linear head, labels permuted", "fbank": "Fbank deviations and changes, linear head",
          **{name: f"{e.title}, linear head" for name, e in PUBLIC.items()}}
# C of the linear heads, and how much a small cell is believed; chosen on the training part alone
STRENGTHS, WEIGHTS = (1e-4, 1e-3, 1e-2, 1e-1), (.01, .03, .1, .3, 1.)
PERMUTED = [f"permuted_{i}" for i in range(10)]  # one shuffling of labels is itself a matter of chance


def real_best(options, answer, y: np.ndarray, speakers: np.ndarray, seed: int):
    """The option with the smallest loss in four folds of these speakers, classes weighing alike

    `answer(option, a, b)` gives the posteriors of rows `b` when `a` is the training part.
    """
    from sklearn.model_selection import GroupKFold
    def loss(option):
        wrong = []
        for a, b in GroupKFold(4, shuffle=True, random_state=seed).split(y, y, speakers):
            p = np.clip(answer(option, a, b)[np.arange(len(b)), y[b]], 1e-6, 1)
            weight = 1 / np.bincount(y[b], minlength=y.max() + 1)[y[b]]
            wrong.append(-(np.log(p) * weight).sum() / weight.sum())
        return np.mean(wrong)
    return min(options, key=loss)


def counted(cells: np.ndarray, y: np.ndarray, train: np.ndarray, classes: int, weight: float) -> np.ndarray:
    """P(class | cell) over the training part, classes made equally frequent

    To each cell `weight` of an average cell's mass is added, spread evenly: a cell never seen says nothing.
    """
    names, at = np.unique(cells, return_inverse=True)
    counts = np.zeros((len(names), classes))
    np.add.at(counts, (at[train], y[train]), 1.)
    counts = counts / np.maximum(counts.sum(0), 1)
    share = counts + weight * counts.sum() / counts.size
    return (share / share.sum(1, keepdims=True))[at]


def counted_tasks(cells: np.ndarray, y: dict, speakers: np.ndarray, train: np.ndarray, seed: int) -> dict:
    "Task → posteriors `[N, classes]` by cell; how much a small cell is believed is chosen on agesup"
    c, sup = cells[train], y["agesup"][train]
    weight = real_best(WEIGHTS, lambda w, a, b: counted(c, sup, a, TASKS["agesup"], w)[b], sup, speakers[train], seed)
    return {t: counted(cells, v, train, TASKS[t], weight) for t, v in y.items()}


def fitted(x: np.ndarray, y: np.ndarray, train: np.ndarray, classes: int, strength: float) -> np.ndarray:
    "Posteriors `[N, classes]` of a logistic regression on the training part, classes equally weighted"
    from sklearn.linear_model import LogisticRegression
    head = LogisticRegression(C=strength, class_weight="balanced", max_iter=300).fit(x[train], y[train])
    out = np.zeros((len(x), classes))
    out[:, head.classes_] = head.predict_proba(x)
    return out


def standard(x: np.ndarray, train: np.ndarray) -> np.ndarray:
    "Features less the training part's mean, over its standard deviation"
    return (x - x[train].mean(0)) / np.maximum(x[train].std(0), 1e-6)


def strength_of(x: np.ndarray, y: dict, speakers: np.ndarray, train: np.ndarray, seed: int) -> float:
    "How much a linear head is held back; chosen on agesup, in the training part"
    x, sup = standard(x, train)[train], y["agesup"][train]
    return real_best(STRENGTHS, lambda c, a, b: fitted(x, sup, a, TASKS["agesup"], c)[b], sup, speakers[train], seed)


def linear_heads(x: np.ndarray, y: dict, train: np.ndarray, strength: float) -> dict:
    "Task → posteriors `[N, classes]`"
    x = standard(x, train)
    return {t: fitted(x, v, train, TASKS[t], strength) for t, v in y.items()}


def fbank_statistics(runner: RealRunner, m: pd.DataFrame) -> np.ndarray:
    """`[N, 160]`: standard deviation over time of each band, and its mean absolute change from frame to frame; the
    means are taken off before anything hears them"""
    plain = runner.manifest("LTV+FCVE", BY["speaker"])[0]
    corpus = prepare(plain, runner.fingerprint("LTV+FCVE", BY["speaker"]), say=runner.say)
    out = []
    for i in range(len(m)):
        x, _ = corpus.features.batch(torch.tensor([i]))
        out.append(torch.cat([x[0].std(0), x[0].diff(dim=0).abs().mean(0)]).numpy())
    return np.stack(out)


def moved_labels(speakers: np.ndarray, train: np.ndarray, seed: int) -> np.ndarray:
    "Whose labels each utterance is given: those of another training speaker, all utterances of a speaker the same"
    names = np.unique(speakers[train])
    moved = dict(zip(names, np.random.default_rng(seed).permutation(names)))
    one = dict(zip(speakers, range(len(speakers))))
    return np.array([one[moved.get(s, s)] for s in speakers])


def floor_answers(runner: RealRunner, folds: int = N_FOLDS) -> pd.DataFrame:
    "Answers of every row that needs no training of ours, on so many folds of both divisions"
    m, out = runner.all, []
    y = {t: pd.Categorical(m[t].astype(str), categories=CLASSES[t]).codes.astype(int) for t in TASKS}
    speakers, inside = m["speaker"].to_numpy(), (m["by_speaker"] >= 0).to_numpy()
    cells = {"constant": np.zeros(len(m), int), "language": m["language"].astype(str).to_numpy(),
             "corpus": m["corpus"].to_numpy(), "language_corpus": (m["language"].astype(str) + m["corpus"]).to_numpy()}
    heard = {"fbank": fbank_statistics(runner, m)}
    for name in PUBLIC:
        if why := why_not(name): runner.say(f"Row {name} is left out: {why}")
        else: heard[name] = heard_by(name, m, "", say=runner.say, progress=lambda done, of, n=name: runner.progress(
            f"{n} listens", done, of)).embedding.numpy()
    for by, first in BY.items():
        for f in range(folds):
            fold = m[f"by_{by}"].to_numpy()
            train, test = np.flatnonzero(inside & (fold != f)), np.flatnonzero((fold == f) | ~inside)
            def told(row, posteriors, test=test, train=train, by=by, f=f):
                out.append(answer_lines(m, test, train, by, f, row, posteriors))
            for row, c in cells.items(): told(row, counted_tasks(c, y, speakers, train, f))
            for row, x in heard.items():
                strength = strength_of(x, y, speakers, train, f)
                told(row, linear_heads(x, y, train, strength))
                for i, shuffled in enumerate(PERMUTED if row == K_DEFAULT else ()):
                    given = moved_labels(speakers, train, 100 * first + 10 * f + i)
                    told(shuffled, linear_heads(x, {"agesup": y["agesup"][given]}, train, strength))
            runner.progress("floors and linear heads", list(BY).index(by) * folds + f + 1, 2 * folds)
    return pd.concat(out, ignore_index=True)


# ---- answers, the same for every row

@lru_cache
def _short(name: str) -> str: return content_hash(name)[:12]


def answer_lines(m: pd.DataFrame, test: np.ndarray, train: np.ndarray, by: str, fold: int, row: str,
                 posteriors: dict) -> pd.DataFrame:
    """A line for each test utterance: posteriors of the age groups and of gender, and the expected age in years

    Age groups were made equally frequent in training; for years their shares in the training part are put back.
    """
    t, shares = m.iloc[test], m["agesup"].astype(str).iloc[train].value_counts(normalize=True).reindex(AGESUP).fillna(0)
    p = np.asarray(posteriors["agesup"])[test]
    back = p * shares.to_numpy() if row not in UNBALANCED else p
    age = back @ GROUP / np.maximum(back.sum(1), 1e-12)
    if "agesub" in posteriors:
        q, decades = np.asarray(posteriors["agesub"])[test], np.array([MIDDLE[d] for d in AGESUB])
        inside = m["agesub"].astype(str).iloc[train].value_counts(normalize=True).reindex(AGESUB).fillna(0).to_numpy()
        each = np.array([inside[np.array(PARENT) == g].sum() for g in PARENT])
        q = q * shares.to_numpy()[list(PARENT)] * (inside / np.maximum(each, 1e-12) if row in UNTRAINED else 1.)
        decade = q @ decades / np.maximum(q.sum(1), 1e-12)
    else: decade = np.full(len(t), np.nan)
    small = lambda v: np.asarray(v, np.float32).round(4)
    return pd.DataFrame(dict(folds=by, fold=np.int8(fold), row=row, utterance=t["utterance"].map(_short).to_numpy(),
                             speaker=t["speaker"].map(_short).to_numpy(), corpus=t["corpus"].to_numpy(),
                             y=pd.Categorical(t["agesup"].astype(str), categories=AGESUP).codes.astype(np.int8),
                             years=small(t["years"]), p0=small(p[:, 0]), p1=small(p[:, 1]), p2=small(p[:, 2]),
                             age=small(age).round(2), age_of_decades=small(decade).round(2),
                             male_y=(t["gender"].astype(str) == "male").to_numpy(),
                             male=small(np.asarray(posteriors["gender"])[test][:, 1] if "gender" in posteriors
                                        else np.full(len(t), .5))))


def trained_answers(runner: RealRunner, jobs) -> pd.DataFrame:
    "The same lines of every finished run"
    m, out = runner.all, []
    at = pd.Series(np.arange(len(m)), index=m["utterance"])
    softmax = lambda v: np.exp(v - v.max(1, keepdims=True)) / np.exp(v - v.max(1, keepdims=True)).sum(1, keepdims=True)
    for row, seed in jobs:
        if (rec := runner.record(row, seed)) is None: continue
        by, fold = fold_of(seed)
        lines = runner.store.predictions(row, seed, rec["key"])
        where = at[lines["utterance"]].to_numpy()
        posteriors = {}
        for task, k in TASKS.items():
            if f"{task}_logit0" not in lines: continue
            posteriors[task] = np.zeros((len(m), k))
            posteriors[task][where] = softmax(lines[[f"{task}_logit{i}" for i in range(k)]].to_numpy(float))
        train = np.flatnonzero((~m[f"by_{by}"].isin((fold, -1))).to_numpy())
        if runner.rows[row].role == "FCVG": train = train[(m["corpus"].iloc[train] == "Speech Accent Archive")]
        out.append(answer_lines(m, where, train, by, fold, row, posteriors))
    return pd.concat(out, ignore_index=True) if out else pd.DataFrame()


def run_lines(runner: RealRunner, jobs, kept: pd.DataFrame, about: dict) -> pd.DataFrame:
    "What each finished run is known by, floors and linear heads first"
    made, floors = about["made"], kept[["row", "folds", "fold"]].drop_duplicates()
    out = [dict(row=row, seed=BY[by] + fold, folds=by, fold=fold, key=digest(about), corpus="real",
                preset=about["preset"], protocol="2", teacher="", data=about["data"],
                **{k: made[k] for k in ("commit", "device", "python", "finished")},
                total_s=round(made["seconds"] / len(floors), 1))
           for row, by, fold in floors.itertuples(index=False)]
    for row, seed in jobs:
        if (rec := runner.record(row, seed)) is None: continue
        by, fold = fold_of(seed)
        ident, where = rec["identity"], rec["provenance"]
        out.append(dict(row=row, seed=seed, folds=by, fold=fold, key=rec["key"], corpus=rec["corpus"],
                        preset=rec["preset"], protocol=ident["protocol"], teacher=runner.rows[row].teacher or "",
                        data=ident["data"], code=json.dumps(ident["code"]), recipe=json.dumps(ident["recipe"]),
                        parents=json.dumps(ident["parents"]), commit=where["commit"], device=where["device"],
                        python=where["python"], versions=json.dumps(where["versions"]), finished=where["finished"],
                        params=rec["params"], student_params=rec["student_params"], train_s=round(rec["train_s"], 1),
                        total_s=round(rec["total_s"], 1),
                        **{f"{s}_utterances": n for s, n in rec["utterances"].items()}))
    return pd.DataFrame(out)


# what the floors hang on
COMPUTED = (joined, block_folds, real_best, counted, counted_tasks, fitted, standard, strength_of, linear_heads,
            moved_labels, fbank_statistics, floor_answers, answer_lines)


def publish(parts, folder: Path) -> Path:
    "Answers of floors and of every finished run, and what the runs are known by, into <folder>/real"
    (runner, jobs), = parts
    at = writable(Path(folder) / "real")
    folds = 1 + max((seed - BY[fold_of(seed)[0]] for _, seed in jobs), default=N_FOLDS - 1)
    kept = at / "about.json"
    about = dict(preset=runner.preset.name, folds=folds, data=digest(list(runner.all["utterance"])),
                 encoders={n: encoder_key(n) for n in PUBLIC if not why_not(n)},
                 code={f.__name__: source_hash(f) for f in COMPUTED})
    was = json.loads(kept.read_text("utf-8")) if kept.is_file() and (at / "floors.parquet").is_file() else {}
    told = dict(left_out=runner.left_out) if runner.left_out else {}
    if {k: v for k, v in was.items() if k not in ("made", "left_out")} != about:
        began = time.perf_counter()
        write_table(at / "floors.parquet", floor_answers(runner, folds))
        was = about | dict(made=provenance(torch.device("cpu"), runner.commit) | dict(
            seconds=round(time.perf_counter() - began, 1)))
    was = {k: v for k, v in was.items() if k != "left_out"} | told
    write_text(kept, json.dumps(was, indent=1) + "\n")
    lines = run_lines(runner, jobs, pd.read_parquet(at / "floors.parquet"),
                      {k: v for k, v in was.items() if k != "left_out"})
    write_text(at / "real-runs.csv", lines.to_csv(index=False))
    answers = trained_answers(runner, jobs)
    if len(answers): write_table(at / "answers.parquet", answers)
    else: (at / "answers.parquet").unlink(missing_ok=True)
    return Path(folder)


def left_out(folder: Path) -> str:
    "What the sheet goes without, as its page tells it; '' where nothing was asked for in vain"
    about = json.loads((Path(folder) / "real" / "about.json").read_text("utf-8"))
    return f"**Left out.** {about['left_out']}" if about.get("left_out") else ""


def read_answers(folder: Path) -> pd.DataFrame:
    "Every answer that was published"
    at = Path(folder) / "real"
    if not (at / "floors.parquet").is_file(): raise FileNotFoundError(f"no floors.parquet in {at}: publish first")
    parts = [pd.read_parquet(at / f) for f in ("floors.parquet", "answers.parquet") if (at / f).is_file()]
    return pd.concat(parts, ignore_index=True)


# ---- scores: a speaker counts once

def by_speaker(lines: pd.DataFrame) -> pd.DataFrame:
    """One line a speaker: posteriors and ages averaged over utterances, and over folds where several heard them

    A label is that of most utterances; several people may share one name in Common Voice.
    """
    mean = lines.groupby("speaker", sort=True)[["p0", "p1", "p2", "age", "age_of_decades", "male", "years"]].mean()
    most = lambda s: s.value_counts(sort=True).index[0] if s.nunique() > 1 else s.iloc[0]
    return mean.assign(**{c: lines.groupby("speaker", sort=True)[c].agg(most) for c in ("y", "male_y", "corpus")})


def auc_drawn(score: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Share of pairs (a positive, a negative) in which the positive scores higher, ties counted half, in percent

    `weights` `[draws, n]`: how often each stands in a replicate; None: once. Gives `[draws]`, or one number.
    """
    w = np.ones((1, len(score))) if weights is None else weights
    a, b = score[positive][:, None], score[~positive][None]
    won = (a > b) + .5*(a == b)
    pairs = w[:, positive].sum(1) * w[:, ~positive].sum(1)
    value = 100 * ((w[:, positive] @ won) * w[:, ~positive]).sum(1) / np.maximum(pairs, 1)
    return value if weights is not None else value[0]


def resamples(y: np.ndarray, draws: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    "`[draws, n]`: how often each speaker is drawn; drawn within age groups, so that no group is lost"
    rng, out = np.random.default_rng(seed), np.zeros((draws, len(y)))
    for g in np.unique(y):
        at = np.flatnonzero(y == g)
        out[:, at] = rng.multinomial(len(at), np.full(len(at), 1 / len(at)), draws)
    return out


SPEAKER_SCORES = ("auc", "mae", "f1", "gender", "mae_of_decades")


def real_score(s: pd.DataFrame, w: np.ndarray | None = None) -> dict[str, np.ndarray]:
    "Every score of speakers `s`, or of each replicate `[draws]`"
    many = np.ones((1, len(s))) if w is None else w
    y = s["y"].to_numpy(int)
    def f1(y, guess, k):
        hit = np.stack([many @ ((y == c) & (guess == c)) for c in range(k)], 1)
        said = np.stack([many @ ((y == c) * 1. + (guess == c)) for c in range(k)], 1)
        return 100 * (2 * hit / np.maximum(said, 1e-12))[:, np.unique(y)].mean(1)
    n = many.sum(1)
    out = {"auc": auc_drawn(s["p2"].to_numpy(), y == 2, many),
           "mae": many @ (s["age"] - s["years"]).abs().to_numpy() / n,
           "f1": f1(y, s[["p0", "p1", "p2"]].to_numpy().argmax(1), 3),
           "gender": f1(s["male_y"].to_numpy(int), (s["male"] > .5).to_numpy(int), 2),
           "mae_of_decades": many @ (s["age_of_decades"] - s["years"]).abs().to_numpy() / n}
    return out if w is not None else {k: float(v[0]) for k, v in out.items()}


SUBSETS = {"all": None, "Common Voice": "Common Voice", "Accent Archive": "Speech Accent Archive", CLINIC: CLINIC}


def real_scores(lines: pd.DataFrame, draws: int = RESAMPLES) -> tuple[pd.DataFrame, dict]:
    """Scores of every row with 95 % intervals over speakers; and by (folds, heard, row) the scores, their replicates
    `[draws]` and the speakers

    `all` is Common Voice and Accent Archive, out of fold; Saarbrücken is heard by every fold's network, their
    posteriors averaged.
    """
    out, kept = [], {}
    order = [*UNTRAINED, *TRAINED, *(f"{m}_of_{k}" for k in PUBLIC for m in WITH_K)]
    for by in BY:
        for heard, corpus in SUBSETS.items():
            part = lines[(lines["folds"] == by) & ((lines["corpus"] == corpus) if corpus
                                                   else (lines["corpus"] != CLINIC))]
            drawn = {}
            for row in order:
                if row == "teacher" and heard != "Accent Archive": continue  # it was asked about these alone
                each = [part[part["row"] == r] for r in (PERMUTED if row == "permuted" else [row])]
                mine = each[0]
                if not len(mine): continue
                each = [by_speaker(one) for one in each]
                s, at = each[0], tuple(each[0].index)
                if at not in drawn: drawn[at] = resamples(s["y"].to_numpy(int), draws)
                points, all_reps = [real_score(one) for one in each], [real_score(one, w) for one, w in zip(
                    each, np.array_split(drawn[at], len(each)))]
                point = {k: float(np.mean([p[k] for p in points])) for k in points[0]}
                reps = {k: np.concatenate([r[k] for r in all_reps]) for k in point}
                kept[by, heard, row] = point, reps, at
                entry = dict(folds=by, heard=heard, row=row, title=row_title(row), speakers=len(s),
                             old=int((s["y"] == 2).sum()), utterances=len(mine), n_folds=mine["fold"].nunique())
                for k in SPEAKER_SCORES:
                    low, high = np.percentile(reps[k], [2.5, 97.5]) if np.isfinite(point[k]) else (np.nan, np.nan)
                    entry |= {k: round(point[k], 2), f"{k}_low": round(low, 2), f"{k}_high": round(high, 2)}
                lone = real_score(by_speaker(mine.assign(speaker=mine["utterance"])))
                entry |= {f"utterance_{k}": round(lone[k], 2) for k in SPEAKER_SCORES[:3]}
                out.append(entry)
    return pd.DataFrame(out), kept


def real_pairs(rows: list[str]) -> list[tuple[str, str, bool]]:
    """(row, held against, is it one of the declared questions?) of the rows that are there

    Declared (protocol 2, section 5): K of a public encoder against from scratch, and either against language alone.
    """
    k = next((r.partition("_of_")[2] for r in rows if "_of_" in r), K_DEFAULT)
    wanted = [(f"mkd_ch_of_{k}", "mkd_ch", True), (f"mkd_ch_of_{k}", "language", True), ("mkd_ch", "language", True),
              (k, "language", True), ("mkd_ch", "base", True),
              (f"mkd_of_{k}", "mkd", False), (f"mkd_ch_of_{k}", "base", False), (f"mkd_ch_of_{k}", k, False),
              (f"mkd_ch_of_{k}", f"base_of_{k}", False), (f"mkd_ch_of_{k}", f"ch_of_{k}", False),
              (f"ch_of_{k}", f"base_of_{k}", False), (f"alone_of_{k}", "base", False), ("mkd", "base", False),
              ("ch", "base", False), ("mkd_ch", "ch", False), ("base", "language", False),
              ("base", "base_flat", False), (k, "language_corpus", False), (k, "fbank", False), (k, "permuted", False),
              ("fbank", "language", False), ("dvector", k, False),
              *((f"base_{n}", against, False) for n in REAL_REMEDIES for against in ("base", "language"))]
    have = set(rows)
    return [(a, b, p) for a, b, p in wanted if a in have and b in have]


WORSE = {"mae": -1}  # a smaller one is better


def contrast_table(lines: pd.DataFrame, kept: dict, evidence: bool = True) -> pd.DataFrame:
    "Gain of one row over another on the same speakers, with its interval; corrected within the declared questions"
    out = []
    for by in BY:
        rows = [row for b, heard, row in kept if (b, heard) == (by, "all")]
        for score in ("auc", "mae", "f1"):
            sign, family = WORSE.get(score, 1), []
            for a, b, declared in real_pairs(rows):
                (pa, ra, sa), (pb, rb, sb) = kept[by, "all", a], kept[by, "all", b]
                if sa != sb: continue
                gains = sign * (ra[score] - rb[score])
                low, high = np.percentile(gains, [2.5, 97.5])
                family.append(dict(folds=by, row=a, against=b, title=row_title(a), against_title=row_title(b),
                                   score=score, declared=declared and score in ("auc", "mae"),
                                   gain=round(sign * (pa[score] - pb[score]), 2), low=round(low, 2),
                                   high=round(high, 2), p=round(p_value(gains), 4)))
            out += family
    t = pd.DataFrame(out)
    if not len(t): return t
    for by in BY:
        at = (t["folds"] == by) & t["declared"]
        if at.any(): t.loc[at, "p_holm"] = holm(t.loc[at, "p"].to_numpy()).round(4)
    def word(r):
        if not evidence: return "plumbing only"
        p = r["p_holm"] if r["declared"] else r["p"]
        return "undecided" if p >= .05 or r["low"] <= 0 <= r["high"] else "better" if r["low"] > 0 else "worse"
    return t.assign(status=t.apply(word, axis=1))


# ---- what a reader opens

def with_interval(r, score: str, digits: int = 1) -> str:
    "A score with its interval"
    if pd.isna(r[score]): return ""
    return f"{r[score]:.{digits}f} [{r[f'{score}_low']:.{digits}f}, {r[f'{score}_high']:.{digits}f}]"


def shown_scores(table: pd.DataFrame, by: str, heard: str = "all") -> pd.DataFrame:
    "The table as a reader wants it"
    t = table[(table["folds"] == by) & (table["heard"] == heard)]
    gender = lambda r: "" if r["row"] in ("constant", "permuted") else f"{r['gender']:.1f}"
    return pd.DataFrame([{"row": r["title"], "AUC of 60+": with_interval(r, "auc"),
                          "MAE, years": with_interval(r, "mae"), "agesup F1": with_interval(r, "f1"),
                          "gender F1": gender(r)} for _, r in t.iterrows()])


def worth_in_words(folder: Path) -> str:
    """What a public encoder as K is worth in Z, by itself, and to a student that only learns from it: the AUC of 60+
    with folds by speaker; nothing before these rows have been run"""
    path = Path(folder) / "real.csv"
    if not path.exists(): return ""
    auc = pd.read_csv(path).query("heard == 'all' and folds == 'speaker'").set_index("row")["auc"]
    k = K_DEFAULT
    asked = ("language", "base", f"base_of_{k}", f"mkd_ch_of_{k}", k, f"alone_of_{k}")
    if not set(asked) <= set(auc.index): return ""
    language, base, beside, full, head, alone = (f"{auc[r]:.0f}" for r in asked)
    return (f"With the public {PUBLIC[k].title} as K beside X, base finds real speakers over 60 with an AUC of "
            f"{beside}, +MKD+CH {full}, a linear head on K {head} (language alone {language}); asked "
            f"without K, a student that learnt from it has {alone}, base {base} (50 is chance)")


SCRATCH = ("base", "mkd", "ch", "mkd_ch")  # trained from scratch, age groups balanced
SCORES_TOLD = {"auc": "AUC of 60+", "mae": "MAE", "f1": "agesup F1"}
ADDED = {("mkd_ch", "base")}  # declared with the others before any row was trained, but not named by the protocol


def asked_by(r) -> str:
    "Who asked a declared question: the protocol, or this sheet"
    return "added" if (r["row"], r["against"]) in ADDED else "protocol 2"


def read_tables(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    "Scores and contrasts, as they were published"
    table, pairs = (pd.read_csv(Path(folder) / f) for f in ("real.csv", "real-contrasts.csv"))
    return table, pairs


def gain_told(r, word: bool = True) -> str:
    "A gain with its interval and its word; of years two digits"
    d = 2 if r["score"] == "mae" else 1
    return f"{r['gain']:+z.{d}f} [{r['low']:+z.{d}f}, {r['high']:+z.{d}f}]" + f", {r['status']}" * word


def gains_of(pairs: pd.DataFrame, row: str, against: str) -> pd.DataFrame:
    "The lines of one contrast by (folds, score); none where it has not been run"
    return pairs[(pairs["row"] == row) & (pairs["against"] == against)].set_index(["folds", "score"], drop=False)


def and_list(parts) -> str:
    "a, b and c"
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


def k_of(rows) -> str:
    "The public encoder that plays K in these rows; '' where none does"
    return next((r.partition("_of_")[2] for r in rows if "_of_" in r), "")


def scratch_against_language(table: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    "What is trained from scratch beside what the language of the clip says, for each score and division"
    out, t = [], table[table["heard"] == "all"].set_index(["folds", "row"])
    for by in BY:
        if not {(by, r) for r in ("language", *SCRATCH)} <= set(t.index): continue
        told = gains_of(pairs, "mkd_ch", "language")
        for score, name in SCORES_TOLD.items():
            if (by, score) not in told.index: continue
            v, floor = t.loc[[(by, r) for r in SCRATCH], score], t.loc[(by, "language"), score]
            better = int((WORSE.get(score, 1) * (v - floor) > 0).sum())
            r, d = told.loc[(by, score)], 2 if score == "mae" else 1
            out.append({"folds": TOLD[by], "score": name, "language alone": f"{floor:.{d}f}",
                        "four rows from scratch": f"{v.min():.{d}f} to {v.max():.{d}f}",
                        "of them better": f"{better or 'none'} of {len(SCRATCH)}",
                        "+MKD+CH, K from scratch, over language": gain_told(r, word=False),
                        "word": r["status"] + " (exploratory)" * (not r["declared"])})
    return pd.DataFrame(out)


def scratch_in_words(table: pd.DataFrame, pairs: pd.DataFrame) -> str:
    "The same in two sentences"
    t = scratch_against_language(table, pairs)
    if not len(t): return ""
    out = []
    for folds, part in t.groupby("folds", sort=False):
        better = and_list([f"{b} in {s}" for b, s in zip(part["of them better"], part["score"])])
        words = and_list([f"*{w.partition(' ')[0]}* in {s}" for w, s in zip(part["word"], part["score"])])
        out.append(f"{folds.capitalize()}: by their point values {better} are better than language alone; by its "
                   f"interval, +MKD+CH is {words}.")
    return " ".join(out)


def declared_shown(pairs: pd.DataFrame) -> pd.DataFrame:
    "Every declared line of both divisions, and who asked for it"
    t = pairs[pairs["declared"]]
    return pd.DataFrame([{"folds": TOLD[r["folds"]], "row": r["title"], "against": r["against_title"],
                          "gain in": SCORES_TOLD[r["score"]], "gain [95 %]": gain_told(r, word=False),
                          "p (Holm)": f"{r['p_holm']:.3f}", "word": r["status"],
                          "asked by": asked_by(r)}
                         for _, r in t.iterrows()])


def method_in_words(pairs: pd.DataFrame) -> str:
    "The declared contrast that was added: the full method against base, both with what was trained from scratch"
    t = gains_of(pairs[pairs["declared"]], "mkd_ch", "base")
    if not len(t): return ""
    return ("+MKD+CH with a K from scratch over base: " + "; ".join(
        f"{SCORES_TOLD[r['score']]} {gain_told(r, word=False)}{' years' * (r['score'] == 'mae')} with "
        f"{TOLD[r['folds']]} (*{r['status']}*)" for _, r in t.iterrows()) + ".")


def beside_k(pairs: pd.DataFrame) -> pd.DataFrame:
    "Where a gain beside a public K comes from: the full method over base with the same K, and its two steps"
    k = k_of(pairs["row"])
    names = {"mkd_ch": "+MKD+CH", "ch": "+CH", "base": "base"}
    out = []
    for a, b in (("mkd_ch", "base"), ("ch", "base"), ("mkd_ch", "ch")):
        t = gains_of(pairs, f"{a}_of_{k}", f"{b}_of_{k}")
        if not len(t): continue
        out.append({f"K of {PUBLIC[k].title} beside X in both": f"{names[a]} − {names[b]}"} | {
            f"{SCORES_TOLD[score]}, {TOLD[by]}": gain_told(t.loc[(by, score)])
            for score in ("auc", "mae") for by in BY if (by, score) in t.index})
    return pd.DataFrame(out)


def beside_k_in_words(pairs: pd.DataFrame) -> str:
    "What of that gain is CH's, and what MKD adds; or that these records cannot tell"
    k = k_of(pairs["row"])
    parts = {n: gains_of(pairs, f"{a}_of_{k}", f"{b}_of_{k}")
             for n, (a, b) in dict(both=("mkd_ch", "base"), ch=("ch", "base"), mkd=("mkd_ch", "ch")).items()}
    if not len(parts["both"]): return ""
    if not (len(parts["ch"]) and len(parts["mkd"])):
        return ("These records have no row +CH with the same K beside X. How much of this difference is due to the "
                "third head with its losses and how much to mixup with distillation cannot be told from them.")
    told = lambda t: and_list(f"{gain_told(t.loc[(by, 'auc')], word=False)} with {TOLD[by]} "
                              f"(*{t.loc[(by, 'auc')]['status']}*)" for by in BY)
    return (f"In AUC, the third head with its losses (+CH) adds {told(parts['ch'])} to base with this K, and mixup "
            f"with distillation adds {told(parts['mkd'])} to +CH. All of these lines are exploratory.")


def alone_in_words(pairs: pd.DataFrame) -> str:
    "What a student gains that only learns from a public K, its heads seeing X alone"
    t = gains_of(pairs, f"alone_of_{k_of(pairs['row'])}", "base")
    if not len(t): return ""
    told = and_list([f"{gain_told(t.loc[(by, 'auc')], word=False)} with {TOLD[by]}" for by in BY])
    first = f"{t['title'].iloc[0]}, over base, in AUC: {told}"
    words = [t.loc[(by, "auc"), "status"] for by in BY]
    if set(words) != {"undecided"}: return f"{first} ({and_list([f'*{w}*' for w in words])})."
    return (f"{first}. That is no gain that we could measure, and no proof that there is none: equivalence was not "
            f"tested, and {t.loc[('speaker', 'auc'), 'high']:.1f} points more or "
            f"{-t.loc[('speaker', 'auc'), 'low']:.1f} fewer would fit these records, too.")


def real_remedies_shown(pairs: pd.DataFrame) -> pd.DataFrame:
    "Remedies of base that have been run, over base and over language alone"
    out = []
    for n in REAL_REMEDIES:
        for against in ("base", "language"):
            t = gains_of(pairs, f"base_{n}", against)
            if not len(t): continue
            out.append({"row": row_title(f"base_{n}"), "over": row_title(against)} | {
                f"{SCORES_TOLD[score]}, {TOLD[by]}": gain_told(t.loc[(by, score)])
                for score in ("auc", "mae") for by in BY if (by, score) in t.index})
    return pd.DataFrame(out)


def remedies_in_words(pairs: pd.DataFrame) -> str:
    "How many remedies are better or worse than base, by each declared score and division; nothing before they are run"
    t = pairs[pairs["row"].isin([f"base_{n}" for n in REAL_REMEDIES]) & (pairs["against"] == "base")]
    if not len(t): return ""
    ran = t["row"].nunique()
    def told(part):
        words = part["status"].value_counts()
        return and_list([f"{n} *{w}*" for w, n in words.items()])
    lines = [f"by {SCORES_TOLD[score]} with {TOLD[by]} {told(t[(t['score'] == score) & (t['folds'] == by)])}"
             for score in ("auc", "mae") for by in BY if len(t[(t["score"] == score) & (t["folds"] == by)])]
    return f"Of {ran} remedies, each against base: {'; '.join(lines)}."


def remedies_told(pairs: pd.DataFrame) -> str:
    "The part of the page on remedies, with its heading; '' where none has been run"
    if not (words := remedies_in_words(pairs)): return ""
    return ("## Remedies of base\n\nThree remedies of page 16, exploratory, with the "
            "strengths that were chosen on the stand-in. *Balance* weighs age groups alike within each corpus and "
            "language (languages with too few speakers of an age group are one); *reverse* trains X not to tell corpus "
            "and language; *codec* sends half of the training recordings, chosen by a coin, over a made-up telephone "
            "and leaves the language alone. If base made use of corpus and language, the first two should cost points "
            "with folds by speaker and bring some with folds blocked by language.\n\n"
            + told_below(real_remedies_shown(pairs), words))


def clinic_split(lines: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """AUC of the clinic's speakers beside that of the corpora that were trained on, folds by speaker, and what a rise
    may come of: five networks that are averaged, and the distance in age of those who are not over 60"""
    lines = lines[lines["folds"] == "speaker"]
    k = k_of(lines["row"].unique())
    auc = lambda s: auc_drawn(s["p2"].to_numpy(), (s["y"] == 2).to_numpy())
    inside, out = table[table["folds"] == "speaker"].set_index(["heard", "row"]), []
    for row in ("fbank", *SCRATCH, f"alone_of_{k}", f"base_of_{k}", f"mkd_ch_of_{k}", k or K_DEFAULT):
        part = lines[lines["row"] == row]
        there, here = part[part["corpus"] == CLINIC], part[part["corpus"] != CLINIC]
        if not len(there) or not len(here): continue
        five, own = by_speaker(there), by_speaker(here)
        one = np.mean([auc(by_speaker(f)) for _, f in there.groupby("fold")])
        near = [auc(s[s["y"] > 0]) for s in (own, five)]
        a, b = inside.loc[("all", row)], inside.loc[(CLINIC, row)]
        out.append(dict(row=row, title=row_title(row), here=a["auc"], saa=inside.loc[("Accent Archive", row), "auc"],
                        one=one, five=b["auc"], five_low=b["auc_low"], five_high=b["auc_high"], near_here=near[0],
                        near_there=near[1], mae=b["mae"], f1=b["f1"]))
    return pd.DataFrame(out)


def clinic_shown(split: pd.DataFrame) -> pd.DataFrame:
    "The same as a reader wants it"
    if not len(split): return split
    return pd.DataFrame([{"row": r["title"], "both corpora": f"{r['here']:.1f}", "Accent Archive": f"{r['saa']:.1f}",
                          "clinic, a single network": f"{r['one']:.1f}",
                          "clinic, five averaged": f"{r['five']:.1f} [{r['five_low']:.1f}, {r['five_high']:.1f}]",
                          "60+ against 40-50, both corpora": f"{r['near_here']:.1f}",
                          "60+ against 40-50, clinic": f"{r['near_there']:.1f}"} for _, r in split.iterrows()])


def clinic_in_words(split: pd.DataFrame, table: pd.DataFrame) -> str:
    "How far rows from scratch get on patients of a voice clinic, in AUC, years and F1"
    mine = split[split["row"].isin(SCRATCH)] if len(split) else split
    if not len(mine): return ""
    t = table[(table["folds"] == "speaker") & (table["heard"] == CLINIC)].set_index("row")
    span = lambda c, d=1: f"{mine[c].min():.{d}f} to {mine[c].max():.{d}f}"
    n = t.iloc[0]
    return (f"{int(n['old'])} of the {int(n['speakers'])} patients are 60 or older. Rows from scratch put them above "
            f"the younger ones with an AUC of {span('five')} where five networks are averaged, {span('one')} for a "
            f"single network; on the two corpora that they were trained on it is {span('here')}, on the Accent Archive "
            f"alone {span('saa')}. In years they err by {span('mae')}, where a constant errs by "
            f"{t.loc['constant', 'mae']:.1f} and the answer for everything German by {t.loc['language', 'mae']:.1f}. "
            f"Their F1 is {span('f1')}; a constant has {t.loc['constant', 'f1']:.1f} here.")


def told_below(shown: pd.DataFrame, words: str) -> str:
    "A table, where there is one, and what it says"
    from mkdcls.results.report import as_markdown
    return f"{as_markdown(shown)}\n\n{words}" if len(shown) else words


EXPLAINED = (
    "AUC of 60+ and mean absolute error (MAE) are the declared scores; macro F1 stands beside them. A speaker counts "
    "once: posteriors are averaged over utterances. Intervals are 95 %, speakers resampled within age group; they "
    "treat the trained networks as given. Every row met the age groups equally often in training; for years the "
    "groups' shares in the training part are put back. The age of a Common Voice speaker is the middle of the decade "
    "that was told. The public encoders were trained on speech from the web at 16 kHz, which cannot be shown to be "
    "disjoint from Common Voice.")


def sheet_text(folder: Path, lines: pd.DataFrame) -> str:
    "The text of real.md; `lines` are all answers"
    table, pairs = read_tables(folder)
    from mkdcls.results.report import as_markdown
    about = json.loads((Path(folder) / "real" / "about.json").read_text("utf-8"))
    first = table[table["heard"] == "all"].iloc[0]
    out = [f"# Real speech\n\nCommon Voice 6.1 and the Speech Accent Archive together: {first['speakers']:,} speakers, "
           f"{first['old']} of them 60 and over; preset {about['preset']}, {about['folds']} of {N_FOLDS} folds of each "
           f"division.\n\n{EXPLAINED}"]
    if not preset_of(about["preset"]).evidence: out.append("PLUMBING CHECK: these numbers are no evidence of anything.")
    if told := left_out(folder): out.append(told)
    for by in BY:
        out.append(f"## {TOLD[by].capitalize()}\n\n{as_markdown(shown_scores(table, by))}")
        mine = pairs[(pairs["folds"] == by) & pairs["score"].isin(("auc", "mae"))]
        t = pd.DataFrame([{"row": r["title"], "against": r["against_title"], "gain in": r["score"].upper(),
                           "": gain_told(r, word=False), "declared": asked_by(r) if r["declared"] else "",
                           "word": r["status"]} for _, r in mine.iterrows()])
        out.append(f"{as_markdown(t)}\n\nA gain in MAE is a number of years less. *Added*: declared with the others "
                   "before any row was trained, but not named by the protocol.")
    told = [("From scratch, beside the language of the clip", scratch_against_language(table, pairs),
             scratch_in_words(table, pairs)),
            ("The full method over base, both from scratch", pd.DataFrame(), method_in_words(pairs)),
            ("Beside a public K: where a gain comes from", beside_k(pairs), beside_k_in_words(pairs)),
            ("A student that only learns from a public K", pd.DataFrame(), alone_in_words(pairs)),
            ("Remedies of base", real_remedies_shown(pairs), remedies_in_words(pairs))]
    if (table["heard"] == CLINIC).any():
        split = clinic_split(lines, table)
        out.append(f"## {CLINIC}, never trained on\n\nPatients of a voice clinic, one German sentence: hoarseness is "
                   f"illness there as well as age.\n\n{as_markdown(shown_scores(table, 'speaker', CLINIC))}")
        told.append((f"AUC on {CLINIC} beside the corpora of the training", clinic_shown(split),
                     clinic_in_words(split, table)))
    out += [f"## {title}\n\n{told_below(shown, words)}" for title, shown, words in told if words]
    return "\n\n".join(out) + "\n"


def write(folder: Path) -> pd.DataFrame:
    "Records → real.csv, real-contrasts.csv, real.md; the table of scores"
    folder = Path(folder)
    about = json.loads((folder / "real" / "about.json").read_text("utf-8"))
    table, kept = real_scores(lines := read_answers(folder))
    pairs = contrast_table(lines, kept, preset_of(about["preset"]).evidence)
    write_text(folder / "real.csv", table.to_csv(index=False))
    write_text(folder / "real-contrasts.csv", pairs.to_csv(index=False))
    write_text(folder / "real.md", sheet_text(folder, lines))
    return table


def figure_real(table: pd.DataFrame, folder: Path):
    "What the teacher is worth: AUC of 60+ and MAE of every row, by both divisions, beside what language alone says"
    kinds = {"floor": COLOURS[7], "head": COLOURS[2], "scratch": COLOURS[1], "k": COLOURS[0]}
    kind = lambda row: ("k" if "_of_" in row else "head" if row in PUBLIC or row == "fbank" else
                        "floor" if row in UNTRAINED else "scratch")
    t = table[(table["heard"] == "all") & (table["row"] != "teacher")]
    rows = list(dict.fromkeys(t["row"]))[::-1]
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(1, 2, figsize=(6.6, .8 + .22 * len(rows)), sharey=True, layout="constrained")
        for ax, score, label in zip(axes, ("auc", "mae"), ("AUC of 60+ (%)", "mean absolute error (years)")):
            for by, marker, up in (("speaker", "o", .13), ("language", "s", -.13)):
                for _, r in t[t["folds"] == by].iterrows():
                    ax.errorbar(r[score], rows.index(r["row"]) + up,
                                xerr=[[r[score] - r[f"{score}_low"]], [r[f"{score}_high"] - r[score]]],
                                fmt=marker, ms=4, lw=1, color=kinds[kind(r["row"])],
                                mfc="w" if by == "language" else None)
            floor = t[(t["row"] == "language") & (t["folds"] == "speaker")][score]
            if len(floor): ax.axvline(floor.iloc[0], color="0.6", lw=.8, ls="--")
            ax.set(xlabel=label)
        axes[0].set_yticks(range(len(rows)), [row_title(r) for r in rows], fontsize=7)
        axes[0].plot([], [], "o", color="0.3", ms=4, label=TOLD["speaker"])
        axes[0].plot([], [], "s", color="0.3", mfc="w", ms=4, label=TOLD["language"])
        fig.legend(*axes[0].get_legend_handles_labels(), frameon=False, fontsize=7, loc="outside upper right", ncol=2)
        save_figure(fig, folder, "real")
