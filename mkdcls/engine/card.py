"""The model card of an exported model: what it is, what it is for, how sure it may be, and what it must not be used
for."""
from __future__ import annotations

TASK_WORDS = {"gender": "gender", "agesup": "age group", "agesub": "decade"}

SYNTHETIC = """It was trained on the project's **stand-in corpus: synthetic speech**, made by a program whose causes we
chose. No human voice was used. What it says about a real voice has never been measured, and there is no reason to \
trust it."""
RECORDED = """It was trained on recordings; what they are and who speaks in them is known to whoever exported it, and \
should
be written here."""
UNCALIBRATED = """It has **not been calibrated**: its temperatures are 1 and its thresholds 0. Its probabilities are \
those of
a softmax, which mostly says too much or too little. Export it again with the corpus at hand, so that validation \
speakers can
be asked."""
CALIBRATED = """One temperature for each question was fitted on the {utterances} utterances of {speakers} validation \
speakers,
none of whom was trained on. An answer whose probability lies below the threshold is *unsure*. The threshold of a \
question is
the lowest with which at least {wanted} of the answers on those speakers are right. With so few speakers it is itself
uncertain."""
TESTED = "On the test speakers, who had no part in any of this:"

CARD = """---
library_name: mkdcls
license: apache-2.0
tags:
- speech
- audio-classification
---

# {name}

A network that hears {shortest:g} to {longest:g} seconds of speech at {rate:,} samples per second and guesses \
{questions}.
{heard}

{classes}

## Use

```python
from mkdcls.use import load_model
model = load_model("path/to/{name}")   # this folder
model.predict(["a.wav", "calls/"])  # a DataFrame, one line for each recording
```

or `mkdcls predict a.wav calls/ --model path/to/{name}`. Nothing but this folder and the package `mkdcls` is needed: no
corpus and no record of runs. `sha256sum --check SHA256SUMS` compares the files with what was exported; loading does
the same.

## What it is

{what}, {parameters:,} numbers; row {row} of Table 1 ({method}), size `{preset}`, seed {seed}. The weights are
{weights}, stored as {stored}. `config.json` has every setting, `training.json` the record of the training run with its
scores on test speakers.

## How sure it may be

{calibration}

A decade and an age group always agree: they are decided together. Recordings longer than {longest:g} s are cut into \
equal
pieces whose probabilities are averaged.

## What it is meant for, and what it is not

It is meant for **studying the method**: what calibration, a hierarchy of answers and an explanation of an answer look \
like
in a whole system.

It is not meant for decisions about people. Do not use it to identify, sort, price, route, admit, watch or judge \
anybody, to
check somebody's age, or to fill in what a person did not say. A voice does not tell a gender: the two labels say how
somebody was labelled in a corpus, and they leave people out. An age heard in a voice is a guess about a decade, and \
it is
wrong often. Errors are not spread evenly: voices unlike those it was trained on (children, people under 20, other
languages, illness, an unusual telephone line) are answered as confidently as any. Where the law asks for consent before
such guesses are made, a research licence does not replace it.

It cannot tell speech from other sound. A few sounds that cannot be speech (silence, a steady tone, steady noise) are
refused; music or a barking dog gets an answer that means nothing.
"""


def _percent(v) -> str: return "" if v is None else f"{100 * v:.0f} %"


def _table(head: list[str], rows: list[list]) -> str:
    def line(cells): return "| " + " | ".join(map(str, cells)) + " |"
    return "\n".join([line(head), line(["---"] * len(head)), *map(line, rows)])


def _calibration(c: dict) -> str:
    about = c["calibration"]
    if not about: return UNCALIBRATED
    rows = [[TASK_WORDS.get(t, t), f"{c['temperatures'][t]:.2f}", f"{v['nll_before']:.3f} → {v['nll']:.3f}",
             f"{c['unsure'][t]:.2f}",
             _percent(v["answered"]), _percent(v["right"])] for t, v in about["tasks"].items()]
    told = CALIBRATED.format(**about | dict(wanted=_percent(about["wanted"])))
    parts = [told,
             _table(["question", "temperature", "negative log-likelihood", "unsure below", "answered",
                     "of these right"], rows)]
    if about.get("test"):
        rows = [[TASK_WORDS.get(t, t), _percent(v["right_all"]), _percent(v["answered"]), _percent(v["right"])]
                for t, v in about["test"].items()]
        parts += [TESTED, _table(["question", "right, if it must always answer", "answered", "of these right"], rows)]
    return "\n\n".join(parts)


def model_card(c: dict  # the model's config.json
               ) -> str:  # Markdown
    "README.md of a model folder"
    t, net = c["trained"], c["network"]
    what = net["student"]["class"] + (" as student, and the frozen teacher whose features enter the answers"
                                      if net["teacher"] else "")
    rows = [[TASK_WORDS.get(task, task), ", ".join(names)] for task, names in c["classes"].items()]
    return CARD.format(
        name=c["name"], shortest=c["seconds"][0], longest=c["seconds"][1], rate=c["front_end"]["rate"], what=what,
        parameters=c["parameters"],
        questions=" and ".join(TASK_WORDS.get(x, x) for x in c["classes"]),
        heard=SYNTHETIC if t.get("corpus") == "standin" else RECORDED,
        classes=_table(["question", "answers"], rows), weights=c["weights"], stored=c["stored"],
        calibration=_calibration(c),
        **{k: t.get(k, "?") for k in ("row", "method", "preset", "seed")})
