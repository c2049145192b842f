"""Is today's code the code that recorded runs were made with? Both are trained at smoke size and compared, bit for bit.

`equivalent.json` names the commit of the recorded code; a set of modules that is younger names its own. `python -m
mkdcls.engine.equivalence` (`make equivalent`) takes these commits out of the history, makes the same small runs with
each of them and with the code that stands, under the same arithmetic, and writes the list anew where every weight,
every answer and every feature is the same. With `--check` nothing is written: the tests do that.
"""
from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import load_file

from mkdcls.engine.codehash import EQUIVALENT, code_now, short, source_now
from mkdcls.engine.needs import ROOT

BEGIN = '''
import importlib, sys
name = lambda f: f"{getattr(f, '__module__', '')} {getattr(f, '__name__', '')}".lower()
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in name(f)]  # PYTHONPATH decides
import torch
torch.set_num_threads(1)
'''
# What makes the runs; it must run with the recorded code as well, so it tries the places where things have lain.
PROBE = BEGIN + '''
def at(*places):
    for module, name in places:
        try: return getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as e:
            if not e.name.startswith("mkdcls"): raise
    raise SystemExit(f"none of {places}")
if __name__ == "__main__":
    Runner = at(("mkdcls.results.runner", "Runner"), ("mkdcls.engine.runner", "Runner"))
    SpeakerRunner = at(("mkdcls.results.speaker_runner", "SpeakerRunner"),
                       ("mkdcls.engine.speaker_runner", "SpeakerRunner"))
    from mkdcls.runs import Knobs, preset_of
    from mkdcls.verification.bridge import sheet_rows
    table = Runner("smoke", rows=sheet_rows(preset_of("smoke"), "standin"))
    rows = [r for r in ("4a", "4b", "6", "10", "13", "3both", "kmix", "norm", "bd", "pr", "features", "sumasl",
                        "dep_soft_kl", "official", "focal", "v2", "v7", "v10") if r in table.rows]
    table.run_all([(r, 0) for r in rows], workers=1)
    Runner("smoke", knobs=Knobs(rho=.8, adjacent=.2, overlay_label=.5, spread=1.5)).run_all([("5", 1)], workers=1)
    speakers = SpeakerRunner("smoke")
    for sheet in ("seo_kim", "imu_elevoc"):
        speakers.run_all([(r, 0) for r in speakers.preset.rows("standin", sheet)], workers=1)
'''
PROBE_REMEDIES = BEGIN + '''
if __name__ == "__main__":
    from mkdcls.remedies import REMEDIES
    from mkdcls.results.remedies_sheet import remedy_rows
    from mkdcls.results.runner import Runner
    from mkdcls.runs import Knobs, preset_of
    rows = remedy_rows(preset_of("smoke"), chosen={n: m.tried[0] for n, m in REMEDIES.items()})
    tied = Runner("smoke", rows=rows, knobs=Knobs(rho=.4))
    tied.run_all([(r, 0) for r in (*(f"3{n}" for n in REMEDIES), "6balance", "6match", "6dro")], workers=1)
'''
YOUNGER = {"mkdcls.training mkdcls.remedies": PROBE_REMEDIES}  # a set with a commit of its own → what makes its runs


def recorded_code(commit: str, folder: Path) -> Path:
    "The package as it stood at a commit, in a folder; an error where the history does not hold it"
    done = subprocess.run(["git", "-C", str(ROOT), "archive", commit, "mkdcls", "settings.ini"], capture_output=True)
    if done.returncode:
        raise LookupError(f"commit {commit} is not in this checkout's history: "
                          f"a whole clone has it ({done.stderr.decode().strip()})")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as tar: tar.extractall(folder, filter="data")
    return folder


def probe(code: Path, runs: Path, text: str = PROBE) -> Path:
    "The small runs of a package, one thread"
    env = os.environ | dict(PYTHONPATH=str(code), MKDCLS_RUNS=str(runs), OMP_NUM_THREADS="1",
                            PYTHONDONTWRITEBYTECODE="1")
    script = runs.with_name(runs.name + ".py")
    script.write_text(text)
    done = subprocess.run([sys.executable, str(script)], cwd=code, env=env, capture_output=True, text=True)
    if done.returncode: raise RuntimeError(f"the runs of {code} ended with {done.stderr.strip().splitlines()[-1:]}")
    return runs


def store_content(runs: Path) -> dict[str, object]:
    """Everything that a store holds: weights, embeddings, answers and features, by the row and seed of the run,
    without its key"""
    found, features = {}, []
    for path in sorted(runs.rglob("*")):
        if path.suffix not in (".safetensors", ".parquet", ".f16") or path.name == "manifest.parquet": continue
        name = "/".join([path.parent.parent.name, path.parent.name.rsplit("-", 1)[0], path.name])
        if path.suffix == ".f16": features.append(path.read_bytes())
        elif path.suffix == ".parquet": found[name] = pd.read_parquet(path)
        else: found[name] = load_file(path)
    return found | {"features": sorted(features)}


def unequal(a, b) -> bool:
    "Do two contents differ in a single bit?"
    if isinstance(a, dict):
        return a.keys() != b.keys() or any(not np.array_equal(v, b[k], equal_nan=True) for k, v in a.items())
    return not a.equals(b) if isinstance(a, pd.DataFrame) else a != b


def compare(one: dict, other: dict) -> list[str]:
    "What differs between two stores"
    return sorted({*one} ^ {*other}) + [n for n in one if n in other and unequal(one[n], other[n])]


def names_now(names) -> dict[str, object]:
    "Hashes of today's code for the names of the list: sets of modules, functions, classes"
    def one(name):
        if " " not in name and not (ROOT / (name.replace(".", "/") + ".py")).exists():
            module, thing = name.rsplit(".", 1)
            return source_now(getattr(importlib.import_module(module), thing))
        return code_now(*name.split())
    return {name: one(name) for name in names}


def unequal_runs(commit: str, text: str = PROBE) -> list[str]:
    "What the recorded code and today's compute differently at smoke size"
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        (top / "code").mkdir()
        trees = {"recorded": recorded_code(commit, top / "code"), "now": ROOT}
        with ThreadPoolExecutor(2) as both: runs = list(both.map(lambda n: probe(trees[n], top / n, text), trees))
        return compare(*map(store_content, runs))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--check", action="store_true",
                   help="write nothing; exit 1 where the list is not true of today's code")
    args = p.parse_args()
    kept = json.loads(EQUIVALENT.read_text(encoding="utf-8"))
    now = {n: short(v) for n, v in names_now(kept["code"]).items()}
    changed = [n for n, e in kept["code"].items() if now[n] != e["now"]]
    asked = {kept["commit"]: PROBE} | {kept["code"][n]["commit"]: text for n, text in YOUNGER.items()}
    for commit, text in asked.items():
        try: wrong = unequal_runs(commit, text)
        except LookupError as e: raise SystemExit(f"mkdcls: {e}") from e
        if wrong:
            raise SystemExit(f"mkdcls: today's code computes something else than {commit}: "
                             f"{', '.join(wrong[:6])}{' ...' * (len(wrong) > 6)}")
    if args.check and changed:
        raise SystemExit(f"mkdcls: equal to the recorded code, but not in the list yet ({', '.join(changed)}): "
                         "run `make equivalent`")
    if changed:
        for name, entry in kept["code"].items(): entry["now"] = now[name]
        EQUIVALENT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(f"equal to {' and '.join(asked)}, bit for bit; {len(changed)} of {len(now)} names of the list changed")


if __name__ == "__main__": main()
