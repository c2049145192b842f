"""How far does the same seed lead to another score on another processor? Rows of Table 1 under several arithmetics, one
thread each.

`make portable SHEET=table1` makes the runs (each arithmetic in a store of its own, about 15 minutes on a free core) and
writes `paper/arithmetic.csv`, with the scores of the committed sheet beside them, which was made on yet another
machine.
"""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

from mkdcls.engine.portable import ROOT, environment
from mkdcls.engine.store import home

PRESET, SEED = "laptop", 0
ROWS = ("3", "6", "7", "10")  # base and +MKD+CH of both encoders; their teachers are made with them
HEARD = ("native", "oneDNN AVX", "oneDNN AVX2", "ATen default")  # of `portable.ARITHMETICS`
COMMITTED = "committed sheet"
ARITHMETIC_CSV = Path("paper", "arithmetic.csv")
COLUMNS = ("arithmetic", "row", "encoder", "method", "agesup_f1", "agesup_f1_as_trained", "gender_f1", "key", "device")


def store_of(arithmetic: str) -> Path:
    """Where the runs of an arithmetic are kept: the same run under another arithmetic is another result with the
    same key"""
    return home() / "arithmetic" / arithmetic.lower().replace(" ", "-")


def line(arithmetic: str, row: str, record: dict) -> dict:
    "One line of the table from a run's record"
    recipe, m = record["identity"]["recipe"], record["metrics"]
    return dict(arithmetic=arithmetic, row=row, encoder=recipe["family"], method=recipe["method"],
                agesup_f1=m["agesup_f1"],
                agesup_f1_as_trained=m.get("as_trained_agesup_f1"), gender_f1=m["gender_f1"], key=record["key"],
                device=record["provenance"]["device"])


def committed() -> list[dict]:
    "The same rows and seed in the committed sheet"
    runs = pd.read_csv(ROOT / "paper" / "results" / f"standin-{PRESET}" / "runs.csv", dtype={"row": str})
    runs = runs[(runs["seed"] == SEED) & runs["row"].isin(ROWS)]
    names = dict(encoder=runs["encoder"].map(lambda e: "resnet" if "ResNet" in e else "ecapa"),
                 agesup_f1_as_trained=runs["as_trained_agesup_f1"])
    return runs.assign(arithmetic=COMMITTED, **names)[list(COLUMNS)].to_dict("records")


def one(arithmetic: str) -> list[dict]:
    "The rows under the arithmetic that this process was started with"
    import torch

    from mkdcls.results.runner import Runner
    torch.set_num_threads(1)
    runner = Runner(PRESET, say=lambda text: print(f"  {text}", flush=True))
    return [line(arithmetic, row, runner.run(row, SEED)) for row in ROWS]


def main():
    if sys.argv[1:2] == ["--one"]:
        pd.DataFrame(one(sys.argv[2])).to_csv(sys.argv[3], index=False)
        return
    parts = [pd.DataFrame(committed())]
    for name in HEARD:
        print(f"{name} ...", flush=True)
        at = store_of(name)
        at.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "mkdcls.results.arithmetic", "--one", name, str(at / "table.csv")],
                       cwd=ROOT, check=True,
                       env=environment(name)
                       | dict(MKDCLS_RUNS=str(at),
                              PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])))
        parts.append(pd.read_csv(at / "table.csv", dtype={"row": str}))
    table = pd.concat(parts, ignore_index=True)[list(COLUMNS)]
    table.round(4).to_csv(ROOT / ARITHMETIC_CSV, index=False)
    print(table.pivot(index="row", columns="arithmetic", values="agesup_f1").loc[list(ROWS)].round(1).to_string())
    print(f"written: {ARITHMETIC_CSV}")


if __name__ == "__main__": main()
