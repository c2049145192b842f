"""`make lab`: tagged cells come folded, and what is opened and saved comes back byte for byte."""
import asyncio
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mkdcls.engine.lab import FOLDED, FoldedContents, fold, unfold

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["nbs/method/06_distillation.ipynb", "nbs/method/14_causal.ipynb", "nbs/00_tour.ipynb", "nbs/index.ipynb"]
LEARNT = {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"},
          "language_info": {"name": "python", "version": "3.99"}}  # what a running kernel tells the lab


@pytest.fixture
def contents(tmp_path):
    for page in PAGES:
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / page, tmp_path / page)
    return FoldedContents(root_dir=str(tmp_path))


def read(contents, path: str) -> dict:
    "A notebook as the browser gets it"
    return json.loads(json.dumps(asyncio.run(contents.get(path))["content"]))


def save(contents, path: str, nb: dict): asyncio.run(contents.save({"type": "notebook", "format": "json", "content": nb}, path))
def hidden(cell: dict) -> bool: return cell["metadata"].get("jupyter", {}).get("source_hidden", False)
def tagged(cell: dict) -> bool: return cell["cell_type"] == "code" and bool(FOLDED & {*cell["metadata"].get("tags", [])})


@pytest.mark.parametrize("page", PAGES)
def test_open_and_save(contents, tmp_path, page):
    "Exactly the tagged cells are folded, all outputs are in sight; saving, kernel or not, leaves the file as it was"
    stored = (tmp_path / page).read_bytes()
    nb = read(contents, page)
    assert any(map(hidden, nb["cells"])) and [hidden(c) for c in nb["cells"]] == [tagged(c) for c in nb["cells"]]
    assert not any("outputs_hidden" in c["metadata"].get("jupyter", {}) or "collapsed" in c["metadata"] for c in nb["cells"])
    assert [c.get("outputs") for c in nb["cells"]] == [c.get("outputs") for c in nbformat.read(tmp_path / page, 4)["cells"]]
    save(contents, page, nb)
    assert (tmp_path / page).read_bytes() == stored
    again = read(contents, page)
    again["metadata"] |= LEARNT
    save(contents, page, again)
    assert (tmp_path / page).read_bytes() == stored
    assert "source_hidden" not in stored.decode()


def test_what_the_reader_changes_is_saved(contents, tmp_path):
    page = PAGES[0]
    nb = read(contents, page)
    folded = next(c for c in nb["cells"] if hidden(c))
    folded["source"] += "\nx = 1"
    nb["metadata"] |= {"kernelspec": {"name": "other", "display_name": "Other"}, "language_info": {"name": "other"}}
    save(contents, page, nb)
    stored = nbformat.read(tmp_path / page, 4)
    cell = next(c for c in stored["cells"] if c["id"] == folded["id"])
    assert cell["source"].endswith("\nx = 1") and "jupyter" not in cell["metadata"] and cell["metadata"]["tags"] == folded["metadata"]["tags"]
    assert stored["metadata"]["kernelspec"]["name"] == stored["metadata"]["language_info"]["name"] == "other"


def test_folds_that_are_not_ours(contents, tmp_path):
    "A cell that says itself whether its source is hidden keeps what it says; so does everything else under `jupyter`"
    said = [{"jupyter": {"source_hidden": True}}, {"tags": ["setup"], "jupyter": {"source_hidden": True}}, {"tags": ["setup"], "jupyter": {"source_hidden": False}},
            {"tags": ["how-it-fails"], "jupyter": {"outputs_hidden": True}}, {"tags": ["parameters"]}, {}]
    nb = new_notebook(cells=[*(new_code_cell("x", metadata=m) for m in said), new_markdown_cell("# x", metadata={"tags": ["setup"]})])
    before = nbformat.writes(nb)
    fold(nb)
    assert [hidden(c) for c in nb.cells] == [True, True, False, True, False, False, False]
    unfold(nb)
    assert nbformat.writes(nb) == before
    save(contents, "nbs/mine.ipynb", json.loads(before))
    assert nbformat.read(tmp_path / "nbs/mine.ipynb", 4) == nbformat.reads(before, 4)


def test_files_that_are_no_pages(contents, tmp_path):
    "A text is read as it is; a notebook too broken to read may be saved over; without content nothing is folded"
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.ipynb").write_text("{")
    assert asyncio.run(contents.get("a.txt"))["content"] == "text"
    assert asyncio.run(contents.get(PAGES[0], content=False))["content"] is None
    assert {m["name"] for m in asyncio.run(contents.get(""))["content"]} == {"a.txt", "b.ipynb", "nbs"}
    save(contents, "b.ipynb", new_notebook(cells=[new_code_cell("x")]))
    assert nbformat.read(tmp_path / "b.ipynb", 4).cells[0].source == "x"


def command() -> list[str]:
    "What `make lab` starts"
    done = subprocess.run(["make", "--no-print-directory", "-n", "lab", f"PYTHON={sys.executable}"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    return shlex.split(done.stdout.strip().splitlines()[-1])


def test_command():
    words = command()
    assert words[1:3] == ["-m", "jupyterlab"] and words[-1] == "nbs/00_tour.ipynb"
    assert ("--allow-root" in words) == (os.getuid() == 0)
    assert f"--ServerApp.contents_manager_class={FoldedContents.__module__}.{FoldedContents.__name__}" in words


@pytest.mark.slow
def test_a_real_lab(contents, tmp_path):
    "The command of `make lab`, but for the browser: a page is read and saved over HTTP"
    page, own = tmp_path / PAGES[0], tmp_path / "jupyter"
    env = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(own)} | {f"JUPYTER_{d}_DIR": str(own / d) for d in ("CONFIG", "DATA", "RUNTIME")}
    log = (tmp_path / "log").open("w")
    lab = subprocess.Popen([*command(), "--no-browser", "--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", "--IdentityProvider.token=open"],
                           cwd=tmp_path, env=env, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 120
        while not (found := list((own / "RUNTIME").glob("jpserver-*.json"))):
            assert lab.poll() is None and time.monotonic() < until, (tmp_path / "log").read_text()[-2000:]
            time.sleep(.2)
        url = json.loads(found[0].read_text())["url"] + "api/contents/" + PAGES[0]
        def ask(data=None):
            body = None if data is None else json.dumps(data).encode()
            with urlopen(Request(url, body, {"Authorization": "token open"}, method="PUT" if body else "GET"), timeout=60) as answer: return json.load(answer)
        got, stored = ask(), page.read_bytes()
        assert any(map(hidden, got["content"]["cells"])) and [*map(hidden, got["content"]["cells"])] == [*map(tagged, got["content"]["cells"])]
        got["content"]["metadata"] |= LEARNT
        then = page.stat().st_mtime_ns
        ask({k: got[k] for k in ("type", "format", "content")})
        assert page.stat().st_mtime_ns > then and page.read_bytes() == stored
    finally:
        lab.terminate()
        lab.wait(30)
        log.close()
