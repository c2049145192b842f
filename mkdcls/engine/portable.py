"""Statements about trained networks that hold on any processor.

Processors round differently, and training amplifies it: a small network can answer 78 % of a toy right on one machine
and 98 % on another. A statement about a trained network is therefore written `holds(what, value, above=...)`. Under
`make portable` everything that trains runs under several arithmetics that one x86 machine can imitate, each such value
is noted, and its distance from its threshold is compared with its spread.
"""
from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from mkdcls.engine.needs import ROOT

NOTE_FILE = "MKDCLS_PORTABLE"  # environment variable: a file that `holds` adds a line to
MIN_SPREADS = 3  # a threshold stands at least this many standard deviations from the nearest value that was measured
PORTABLE_CSV = Path("paper", "portable.csv")

# What an x86 machine can be told to imitate: which vector instructions ATen's own kernels and oneDNN's convolutions and
# products use, and how many threads.
ARITHMETICS = {
    "native": {},
    "ATen default": dict(ATEN_CPU_CAPABILITY="default"),
    "ATen avx2": dict(ATEN_CPU_CAPABILITY="avx2"),
    "oneDNN SSE41": dict(ONEDNN_MAX_CPU_ISA="SSE41"),
    "oneDNN AVX": dict(ONEDNN_MAX_CPU_ISA="AVX"),
    "oneDNN AVX2": dict(ONEDNN_MAX_CPU_ISA="AVX2"),
    "both lowest": dict(ATEN_CPU_CAPABILITY="default", ONEDNN_MAX_CPU_ISA="SSE41"),
    "two threads": dict(OMP_NUM_THREADS="2"),
}


def holds(what: str,  # the statement in words and its page, as in 'page 15: the listener answers right'; said only once
          value: float,  # what was measured on a trained network
          above: float | None = None,  # the statement: value > above
          below: float | None = None,  # or value < below
          ) -> float:  # the value
    "An assertion about a trained network; the threshold must stand clear of rounding (`make portable` measures it)"
    if (above is None) == (below is None):
        raise ValueError(f"holds({what!r}): give one threshold, above=... or below=...")
    value, threshold = float(value), float(below if above is None else above)
    if path := os.environ.get(NOTE_FILE):
        line = dict(what=what, value=value, threshold=threshold, side="below" if above is None else "above")
        with open(path, "a", encoding="utf-8") as f: f.write(json.dumps(line) + "\n")
    assert (value > threshold) if below is None else (value < threshold), (
        f"{what}: {value:.4g} is not {'above' if below is None else 'below'} {threshold:.4g}")
    return value


def speakers_of_it() -> list[Path]:
    "Notebooks and test files that make such statements"
    found = [*sorted((ROOT / "nbs").rglob("*.ipynb")), *sorted((ROOT / "tests").glob("test_*.py"))]
    said = re.compile(r"portable import [\w, ]*\bholds\b")
    return [p for p in found if said.search(p.read_text("utf-8")) and not p.name.startswith((".", "_"))
            and p.name != "test_portable.py"]


def environment(arithmetic: str) -> dict:
    "The environment of a process under an arithmetic: one thread unless it says otherwise"
    if arithmetic not in ARITHMETICS:
        raise ValueError(f"no arithmetic {arithmetic!r}: choose one of {', '.join(ARITHMETICS)}")
    clean = {k: v for k, v in os.environ.items() if k not in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")}
    return clean | dict(OMP_NUM_THREADS="1", MPLBACKEND="Agg") | ARITHMETICS[arithmetic]


def measure_under(arithmetic: str, files: list[Path]) -> pd.DataFrame:
    "The noted values of one arithmetic; a statement that fails there is noted all the same"
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder, "notes")
        notes.touch()
        pages = [f"tests/test_notebooks.py::test_notebook[{f.relative_to(ROOT / 'nbs').with_suffix('')}]"
                 for f in files if f.suffix == ".ipynb"]
        tests = [str(f) for f in files if f.suffix == ".py"]
        # apart: a notebook's process must not be forked from one in which a test has started threads
        for some in (pages, tests):
            done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", *some],
                                  cwd=ROOT,
                                  env=environment(arithmetic) | {NOTE_FILE: str(notes)}, capture_output=True,
                                  text=True) if some else None
            if done and done.returncode:
                print(f"  under {arithmetic}:\n" + "\n".join(done.stdout.splitlines()[-15:]), flush=True)
        lines = [json.loads(line) for line in notes.read_text("utf-8").splitlines()]
    return pd.DataFrame(lines, columns=["what", "value", "threshold", "side"]).assign(arithmetic=arithmetic)


def summarise(values: pd.DataFrame  # columns what, value, threshold, side, arithmetic
            ) -> pd.DataFrame:  # one line a statement
    """Lowest and highest value, spread (standard deviation over arithmetics), and how many spreads the threshold is
    away from the nearest value"""
    out = []
    for (what, threshold, side), g in values.groupby(["what", "threshold", "side"], sort=False):
        gap = (g["value"].min() - threshold) if side == "above" else (threshold - g["value"].max())
        spread = g["value"].std(ddof=1) if len(g) > 1 else float("nan")
        out.append(dict(what=what, side=side, threshold=threshold, lowest=g["value"].min(), highest=g["value"].max(),
                        spread=spread,
                        spreads_away=gap / spread if spread > 0 else (float("inf") if gap > 0 else float("-inf")),
                        arithmetics=g["arithmetic"].nunique()))
    return pd.DataFrame(out)


def too_close(table: pd.DataFrame) -> pd.DataFrame:
    "Statements whose threshold rounding could cross"
    return table[~(table["spreads_away"] >= MIN_SPREADS)]


def turn(now: float) -> str:
    "The lowered arithmetic whose turn it is: another one each minute"
    lowered = [n for n, env in ARITHMETICS.items() if env.keys() & {"ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"}]
    return lowered[int(now // 60) % len(lowered)]


def run_under(name: str, command: list[str]):
    "Become a command under an arithmetic, or under the one whose turn it is; says which"
    chosen = name or turn(time.time())
    env = environment(chosen)
    print(f'   as a processor computes that has {chosen}; again with ARITHMETIC="{chosen}"', flush=True)
    os.execvpe(command[0], command, env)


def main():
    if sys.argv[1:2] == ["--under"]: return run_under(sys.argv[2], sys.argv[3:])
    p = argparse.ArgumentParser(prog="make portable", description=__doc__.splitlines()[0])
    p.add_argument("--only", default="", help="arithmetics, with commas between; default all")
    p.add_argument("--file", action="append", default=[],
                   help="notebooks or tests, whose lines are replaced; default all that make such statements")
    args = p.parse_args()
    names = [n.strip() for n in args.only.split(",") if n.strip()] or list(ARITHMETICS)
    for n in names: environment(n)
    files = [Path(f).resolve() for f in args.file] or speakers_of_it()
    print(f"{len(files)} notebooks and test files under {len(names)} arithmetics", flush=True)
    parts, started = [], time.monotonic()
    for n in names:
        parts.append(measure_under(n, files))
        print(f"  {n}: {len(parts[-1])} values, {time.monotonic() - started:.0f} s", flush=True)
    table = summarise(pd.concat(parts, ignore_index=True))
    print(table.round(3).to_string(index=False))
    if not args.only:
        written = ROOT / PORTABLE_CSV
        if args.file and written.exists():  # these files' lines are replaced, the others stay
            before = pd.read_csv(written)
            table = pd.concat([before[~before["what"].isin(table["what"])], table], ignore_index=True)
        table.round(6).to_csv(written, index=False)
        print(f"written: {PORTABLE_CSV}")
    if len(close := too_close(table)):
        raise SystemExit(f"mkdcls: {len(close)} statements stand closer than {MIN_SPREADS} spreads to their threshold: "
                         + "; ".join(close["what"]))


if __name__ == "__main__": main()
