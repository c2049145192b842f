"""From a finished run to a model that stands by itself: `mkdcls export`

What such a folder is, and what it can do, is page 17.
"""
from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mkdcls import __version__
from mkdcls.encoders import ENCODERS as TABLE
from mkdcls.encoders import encoder
from mkdcls.engine.codehash import code_now
from mkdcls.engine.folders import write_folder
from mkdcls.engine.lists import printable
from mkdcls.engine.store import digest, file_digest, folder_at, home, read_weights
from mkdcls.fbank import SPEECHBRAIN
from mkdcls.intake.corpora import prepared_real
from mkdcls.intake.features import features_of, forget
from mkdcls.labels import CLASSES, PARENT
from mkdcls.runs import Knobs, labels_of, preset_of, role_manifest
from mkdcls.use import FILES, FORMAT, SpeechClassifier, calibrate, judged, network, probabilities, to_onnx

HIERARCHY = dict(fine="agesub", coarse="agesup", parents=list(PARENT))
PIECE_SECONDS = (1., 20.)  # of speech at a time, as in training
ONNX = "model.onnx"


# ---- which run

def find_run(run: str, preset: str = "laptop", corpus: str = "standin") -> Path:
    "The folder of a finished run: its path, or `row/seed` in the store of a preset and a corpus"
    folder = Path(run).expanduser()
    if (folder / "record.json").is_file(): return folder
    row, _, seed = str(run).partition("/")
    if not seed.isdecimal() or folder.is_dir():
        raise FileNotFoundError(f"{printable(run)} is no folder of a finished run: give one that holds record.json, "
                                "or row and seed, as 6/0")
    name = corpus if corpus in ("standin", "real") else f"own-{digest(str(folder_at(corpus, 'CORPUS')))[:6]}"
    store = home() / f"{name}-{preset}"
    found = sorted(p.parent for p in store.glob(f"row{row}-seed{int(seed)}-*/record.json"))
    if not found:
        there = sorted({p.parent.name.split("-")[0].removeprefix("row")
                        for p in store.glob("row*-seed*-*/record.json")})
        raise FileNotFoundError(f"no finished run of row {printable(row)}, seed {seed} in {store}"
                                + (f"; there are rows {', '.join(there)}" if there else ": run it first")
                                + ". Run folders lie in MKDCLS_RUNS")
    if len(found) > 1:
        raise ValueError(f"row {row}, seed {seed} was run more than once ({', '.join(p.name for p in found)}): "
                         "give the folder that is meant")
    return found[0]


def headline(folder: Path) -> tuple[dict, dict]:
    """The record of a run and the weights that its headline was made with.

    A row that was trained on mixed speech has two files: `model.safetensors` has BatchNorm as trained, and is not what
    was scored.
    """
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    if not isinstance(record, dict) or "recipe" not in record.get("identity", {}):
        raise ValueError(f"{folder / 'record.json'} is no record of a run of Table 1")
    recipe = record["identity"]["recipe"]
    again = recipe["settings"]["student_view"] != "normal" or recipe.get("reestimate", False)
    name = "model-reestimated.safetensors" if again else "model.safetensors"
    weights = read_weights(folder / name)
    wanted = (record.get("sums") or {}).get(name)
    if wanted and file_digest(folder / name) != wanted:
        raise ValueError(f"{folder / name} is not what the run wrote (its digest is another): run it again")
    return record, weights


# ---- what the network is

def encoder_like(weights: dict, prefix: str, scale: str) -> dict:
    "The encoder of the table whose tensors have these names and shapes, as class and settings"
    shapes = {n.removeprefix(prefix): tuple(v.shape) for n, v in weights.items() if n.startswith(prefix)}
    for (s, family, size, variant), settings in TABLE.items():
        if s != scale: continue
        more = dict(masked=True) if family == "resnet" else {}
        with torch.device("meta"): like = encoder(family, size, variant, s, **more)
        if {n: tuple(v.shape) for n, v in like.state_dict().items()} == shapes:
            return {"class": type(like).__name__, "settings": settings | more}
    raise ValueError("its encoder is none of page 05's (a speaker network of page 29, or one of your own): "
                     "such rows cannot be exported yet")


def description(record: dict, weights: dict, name: str, stored: str) -> dict:
    "config.json, but for what calibration adds"
    r = record["identity"]["recipe"]
    classes = {t: list(CLASSES[t]) for t in CLASSES if t in r["tasks"]}
    hierarchy = HIERARCHY if "agesub" in classes else None
    if hierarchy and "agesup" not in classes:
        classes = {t: list(CLASSES[t]) for t in CLASSES if t in classes or t == "agesup"}
    mixed = r["settings"]["student_view"] != "normal" or r.get("reestimate", False)
    with_k = any(n.startswith("teacher.") for n in weights)
    trained = ({k: record.get(k) for k in ("row", "seed", "key", "preset", "corpus", "utterances")}
               | {k: r[k] for k in ("method", "family", "size", "role")})
    return dict(
        format=FORMAT, name=name, mkdcls=__version__,
        code=code_now("mkdcls.model", "mkdcls.fbank", "mkdcls.intervention"), stored=stored,
        network=dict(heads=list(r["tasks"]), z=r["z"], sub_to_sup=r["sub_to_sup"], context=r.get("context", "none"),
                     student=encoder_like(weights, "student.", r["scale"]),
                     teacher=encoder_like(weights, "teacher.encoder.", r["scale"]) if with_k else None),
        classes=classes, hierarchy=hierarchy, front_end=asdict(SPEECHBRAIN), seconds=list(PIECE_SECONDS),
        trained=trained, recipe=r,
        weights="those of the headline" + (": BatchNorm statistics re-estimated on unmixed speech after training"
                                           if mixed else ""),
        parameters=sum(v.numel() for n, v in weights.items() if v.is_floating_point() and "running_" not in n))


# ---- how sure it may be

def validation_speakers(record: dict, corpus: str = "", real: str = "", say=print) -> pd.DataFrame | None:
    "The manifest rows of the validation split of a run, or None with a reason told"
    of, r = record["corpus"], record["identity"]["recipe"]
    knobs = Knobs(**record.get("knobs", {}))
    if of != "standin" and not (real if of == "real" else corpus):
        say(f"It was trained on {printable(of)}: with {'--real' if of == 'real' else '--corpus'} it can be calibrated; "
            "now its temperatures are 1, its thresholds 0")
        return None
    recorded = prepared_real(real) if of == "real" else None
    where = of if of in ("standin", "real") else str(folder_at(corpus, "CORPUS"))
    manifest, about = role_manifest(r["role"], preset_of(record["preset"]), record["seed"], where, recorded, knobs)
    if digest(about) != record["identity"]["data"]:
        if of != "standin":
            raise ValueError("these recordings are not those of the run (their fingerprint is another): "
                             "give the corpus that it was trained on")
        say("The generator has changed since this run: its validation speakers are drawn anew")
    held = manifest[manifest["split"] == "val"]
    if not len(held): say("This corpus has no validation speakers: temperatures are 1, thresholds 0")
    return held.reset_index(drop=True) if len(held) else None


def calibration(model: torch.nn.Module, about: dict, held: pd.DataFrame, wanted: float, progress=None,
                say=print) -> dict:
    "Temperatures and thresholds from validation speakers"
    mark = digest([about["trained"]["key"], "validation speakers"])
    features = features_of(held, mark, workers=0 if len(held) < 500 else None, progress=progress, say=say)
    with torch.no_grad():  # each alone, as the model will be asked
        said = [model(features.batch(torch.tensor([i]))[0], None).logits for i in range(len(held))]
    logits = {t: torch.cat([z[t] for z in said]).float() for t in said[0]}
    forget(mark)
    found = calibrate(logits, {t: v for t, v in labels_of(held).items() if t in about["classes"]}, about["hierarchy"],
                      wanted)
    found = {k: {t: v[t] for t in about["classes"]} for k, v in found.items()}
    told = dict(wanted=wanted, utterances=len(held), speakers=int(held["speaker"].nunique()), tasks=found.pop("tasks"))
    return found | dict(calibration=told)


def test_speakers(folder: Path, about: dict) -> dict:
    "What the model with these temperatures and thresholds does to the test speakers, from the run's kept answers"
    table = pd.read_parquet(folder / "predictions.parquet")
    logits = {t: torch.from_numpy(table[[f"{t}_logit{i}" for i in range(len(about["classes"][t]))]]
                                  .to_numpy(np.float32)) for t in about["network"]["heads"]}
    labels = {t: torch.from_numpy(table[f"y_{t}"].to_numpy(np.int64)) for t in about["classes"]}
    return judged(probabilities(logits, about["temperatures"], about["hierarchy"]), labels, about["hierarchy"],
                  about["unsure"])


def export_run(run: str, out: str, preset: str = "laptop", corpus: str = "standin", real: str = "", name: str = "",
               half: bool = False, onnx: bool = False,
               wanted: float = .75, progress=None, say=print) -> Path:
    "Write a finished run as a model folder"
    if not 0 < wanted <= 1: raise ValueError(f"--right {wanted}: a share above 0, at most 1")
    folder = find_run(run, preset, corpus)
    record, weights = headline(folder)
    weights = {n: v for n, v in weights.items() if not n.startswith("adapter.")}  # of Eq. 2: training only
    if half:
        weights = {n: v.half().float() if v.is_floating_point() and "running_" not in n else v
                   for n, v in weights.items()}
    target = folder_at(out, "--out")
    about = description(record, weights, name or target.name, "float16" if half else "float32")
    net = network(about)
    net.load_state_dict(weights)
    held = validation_speakers(record, "" if corpus in ("standin", "real") else corpus, real, say)
    if held is None:
        about |= dict(temperatures=dict.fromkeys(about["classes"], 1.), unsure=dict.fromkeys(about["classes"], 0.),
                      calibration=None)
    else:
        about |= calibration(net, about, held, wanted, progress, say)
        about["calibration"]["test"] = test_speakers(folder, about)
    about = json.loads(json.dumps(about), parse_constant=_no_constant)
    model = SpeechClassifier(net, about, {k: v for k, v in record.items() if k != "sums"})

    def fill(part):
        model._fill(part)
        if onnx: to_onnx(model, part / ONNX)
    return write_folder(target, fill, (*FILES, ONNX) if onnx else FILES)


def _no_constant(text):
    raise ValueError(f"{text} among the numbers of the model: its validation answers are not finite")


