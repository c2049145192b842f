"""`make benchmark FULL=1`: a benchmark page at full size, its executed copy kept in paper/benchmarks.

The pages in nbs/results run in about a minute and show that everything works; what is read and cited are these copies.
Whoever makes them leaves the machine alone meanwhile: the page tells how many processes waited for a core.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mkdcls.engine.store import PROJECT
from mkdcls.results.cli import run_notebook

# name → what its page calls full size; corpora: the paper's number of utterances
FULL_SIZE = {"benchmark": dict(repeats=5, seconds=1, full=True),
             "benchmark_corpora": dict(rows=3_200_000, files=64, megabytes=2000, repeats=2),
             "benchmark_verification": dict(repeats=5)}
COPIES = PROJECT / "paper" / "benchmarks"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mkdcls.results.benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("page", choices=FULL_SIZE)
    parser.add_argument("--out", type=Path, help="in place of paper/benchmarks/<page>.ipynb")
    a = parser.parse_args()
    page, target = PROJECT / "nbs" / "results" / f"{a.page}.ipynb", (a.out or COPIES / f"{a.page}.ipynb").absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    run_notebook(page, target, FULL_SIZE[a.page])
    print(f"{a.page} at full size: {target}")
    return 0


if __name__ == "__main__": sys.exit(main())
