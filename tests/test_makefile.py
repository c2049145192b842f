"""make as a newcomer meets it: help, what table1 runs, and a clear word when an interpreter lacks the packages."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mkdcls.results.sheets import SHEETS

ROOT = Path(__file__).resolve().parents[1]


def make(*args: str, **env: str) -> subprocess.CompletedProcess:
    "make in the checkout"
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(["make", "--no-print-directory", *args], cwd=ROOT, env=clean | env, capture_output=True, text=True, timeout=120)


def test_help_lists_every_command():
    done = make("help")
    shown = set(re.findall(r"^  make (\S+)  +\S", done.stdout, re.M))
    assert done.returncode == 0 and shown >= {
        "setup", "table1", "table", "check", "test", "portable", "equivalent", "lab", "benchmark", "export", "readme", "course", "slides", "clean", "help"}
    assert "PYTHON=" in done.stdout and "PRESET=smoke|laptop|gpu|paper" in done.stdout
    assert make().stdout == done.stdout, "make alone is make help"


def command(done) -> str: return done.stdout.strip().splitlines()[-1]


def test_table1_defaults():
    "laptop, one seed, the stand-in; what the environment happens to hold is not an option"
    want = '-m mkdcls.results.cli table1 --preset "laptop" --seeds "1" --corpus "standin" --real "" --device "auto" --out "" --workers ""'
    for env in ({}, {"OUT": "elsewhere", "DEVICE": "cuda", "SEEDS": "9", "PYTHON": "nothing"}):
        assert command(make("-n", "table1", **env)) == f'".venv/bin/python" {want}'


def test_table1_options():
    done = make("-n", "table1", "PRESET=smoke", "SEEDS=5", "CORPUS=real", "REAL=a folder", "DEVICE=cpu", "OUT=o", f"PYTHON={sys.executable}")
    assert command(done) == (f'"{sys.executable}" -m mkdcls.results.cli table1 --preset "smoke" --seeds "5" --corpus "real" --real "a folder" '
                             '--device "cpu" --out "o" --workers ""')
    assert "pip install" not in done.stdout and "-m venv" not in done.stdout, "PYTHON= installs nothing"


def test_table_sheet():
    "The same options, and which sheet; every sheet that the command knows has its notebook"
    done = make("-n", "table", "SHEET=ablations", "PRESET=smoke", "WORKERS=1", f"PYTHON={sys.executable}")
    assert command(done) == (f'"{sys.executable}" -m mkdcls.results.cli table --sheet "ablations" --preset "smoke" --seeds "1" --corpus "standin" --real "" '
                             '--device "auto" --out "" --workers "1"')
    assert all((ROOT / "nbs" / "results" / f"{s}.ipynb").is_file() for s in SHEETS)


@pytest.mark.parametrize("args,wrong,known", [
    (("table1", "seeds=2"), "seeds", "PYTHON TORCH_INDEX PRESET SEEDS CORPUS REAL DEVICE OUT WORKERS"), (("table1", "SEED=5", "OUT=a folder x=y"), "SEED", "SEEDS"),
    (("table1", "SHEET=ablations"), "SHEET", "PRESET"), (("table", "SHEET=ablations", "WORKER=1"), "WORKER", "SHEET PRESET"),
    (("benchmark", "SHEETS=corpora"), "SHEETS", "SHEET OUT FULL"), (("test", "ARITHMETICS=native"), "ARITHMETICS", "ARITHMETIC"),
    (("portable", "only=native"), "only", "SHEET ONLY")])
def test_a_misspelt_option_is_refused(args, wrong, known):
    "In one line, before anything runs; otherwise the defaults would write over paper/results"
    done = make("-n", *args)
    lines = done.stderr.strip().splitlines()
    assert done.returncode and not done.stdout and len(lines) == 1
    assert f"make {args[0]} takes no option {wrong}. It takes PYTHON TORCH_INDEX" in lines[0] and known in lines[0]


def test_options_of_several_commands_together():
    assert make("-n", "table1", "test", "SEEDS=5", "ARITHMETIC=native", "PYTHON=x").returncode == 0
    assert make("-n", "portable", "SHEET=table1", "PYTHON=x").returncode == 0 and make("-n", "help", "anything=1").returncode == 0


def test_table_without_a_sheet():
    "What is missing, and what may be named; the environment does not count"
    for args, env in ((("table",), {}), (("table", "SHEET="), {}), (("table", "SEEDS=2"), {"SHEET": "ablations"})):
        done = make("-n", *args, **env)
        assert done.returncode and "SHEET is missing: make table SHEET=<one of " + " ".join(SHEETS) + ">" in done.stderr and len(done.stderr.splitlines()) == 1


def test_benchmark_sheets():
    "The first sheet, or the one asked for on the command line; each must be there"
    for options, env, name in (((), {"SHEET": "elsewhere"}, "benchmark"), (("SHEET=corpora",), {}, "benchmark_corpora")):
        want = f'".venv/bin/python" -m papermill "nbs/results/{name}.ipynb" "runs/{name}.ipynb" --cwd nbs/results'
        assert command(make("-n", "benchmark", *options, **env)) == want and (ROOT / f"nbs/results/{name}.ipynb").exists()
        assert command(make("-n", "benchmark", "FULL=1", *options, **env)) == f'".venv/bin/python" -m mkdcls.results.benchmarks "{name}"'


def test_setup_installs_torch_first():
    "A stale stamp means: venv, pip, torch alone at its pin, the rest; the stamp comes last"
    done = make("-n", "-W", "constraints.txt", "setup", "TORCH_INDEX=somewhere")
    wanted = [r"-m venv \.venv", r"--upgrade pip", r'-c constraints\.txt --index-url "somewhere" torch$', r"-c constraints\.txt -e \.$", r"touch \.venv"]
    steps = [next((i for i, l in enumerate(done.stdout.splitlines()) if re.search(p, l)), None) for p in wanted]
    assert None not in steps and steps == sorted(steps), done.stdout


def test_test_runs_cheap_things_first():
    done = make("-n", "test")
    order = [done.stdout.find(w) for w in ("ruff check", "tests/test_house.py", "tests/test_notebooks.py --durations", "tests --ignore=tests/test_house.py")]
    assert -1 not in order and order == sorted(order), done.stdout
    assert 'portable --under ""' in done.stdout and 'portable --under "native"' in make("-n", "test", "ARITHMETIC=native").stdout
    quick = make("-n", "check").stdout
    assert '-m "not slow"' in quick and "ruff check" in quick and "--ignore=tests/test_notebooks.py" in quick


@pytest.fixture
def bare(tmp_path):
    "This Python without site-packages"
    path = tmp_path / "bare python"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("target,lacks", [("table1", "torch>="), ("readme", "nbdev>=")])
def test_python_without_packages(bare, target, lacks):
    done = make(target, f"PYTHON={bare}")
    assert done.returncode and "lacks:" in done.stderr and lacks in done.stderr and "leave PYTHON out" in done.stderr
    assert "Traceback" not in done.stderr


def test_python_that_is_not_there():
    done = make("table1", "PYTHON=no/such/python")
    assert done.returncode and "PYTHON=no/such/python: there is no such program" in done.stderr


def test_python_that_holds_everything():
    done = make("setup", f"PYTHON={sys.executable}")
    assert done.returncode == 0, done.stderr
