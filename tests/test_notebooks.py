"""Every notebook runs from top to bottom, each in a process of its own.

The process is forked from one that has the heavy libraries loaded already: a kernel for each notebook would import them ninety times over.
What only a real kernel shows (papermill's parameters, an interrupt) has tests of its own in test_table1.py.
"""
import os
import re
import signal
import sys
import traceback
import warnings
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(p for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts and not p.name.startswith(("_", "."))
                   and "instructor" not in p.parts)  # made by `make course` and not committed; tests/test_course.py marks them
SECONDS = 900  # what one notebook may take
SMALL = {  # parameters of the benchmarks: here they only have to run, what they measure is no test's business
    "benchmark": "repeats, seconds = 1, .02",
    "benchmark_verification": "trials, repeats = 100_000, 1"}


@pytest.fixture(scope="session")
def loaded():
    "The libraries that nearly every page imports"
    import captum.attr, matplotlib.pyplot, networkx, pandas, scipy.signal, seaborn, sklearn.metrics, torch  # noqa: F401
    import mkdcls.results.sheets, mkdcls.results.speaker_runner  # noqa: F401
    from execnb.shell import CaptureShell
    return CaptureShell


def in_this_process(shell_class, path: Path, report: Path):
    "Run the cells in the notebook's folder; what went wrong goes to `report`"
    os.chdir(path.parent)
    os.environ["IN_TEST"] = "1"
    signal.alarm(SECONDS)
    shell = shell_class(mpl_format="png")
    for name in ("sys", "set_matplotlib_formats"): shell.user_ns.pop(name, None)  # a notebook finds an empty world, as in a kernel
    sys.path.insert(0, str(path.parent))
    for i, cell in enumerate(nbformat.read(path, 4).cells):
        if cell.cell_type != "code": continue
        shell.run(cell.source)
        if "parameters" in cell.metadata.get("tags", []): shell.run(SMALL.get(path.stem, ""))
        if shell.exc is not None:
            trace = "".join(traceback.format_exception(shell.exc)[-6:])
            report.write_text(f"{path.relative_to(ROOT)}, cell {i}:\n\n{cell.source}\n\n{trace}", "utf-8")
            return 1
    return 0


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: re.sub(r"\.ipynb$", "", str(p.relative_to(ROOT / "nbs"))))
def test_notebook(path, loaded, tmp_path):
    report = tmp_path / "report.txt"
    sys.stdout.flush(); sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads of the parent hold no lock that the child takes
        child = os.fork()
    if not child:
        code = 1
        try:
            with open(tmp_path / "output.txt", "w") as out: os.dup2(out.fileno(), 1); os.dup2(out.fileno(), 2)
            code = in_this_process(loaded, path, report)
        except BaseException:  # noqa: B036 (the child ends here, whatever happened)
            report.write_text(traceback.format_exc(), "utf-8")
        finally: os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == -signal.SIGALRM: pytest.fail(f"{path.relative_to(ROOT)} took longer than {SECONDS} s")
    said = (tmp_path / "output.txt").read_text("utf-8", "replace")[-3000:]
    if status: pytest.fail((report.read_text("utf-8") if report.exists() else f"ended with {status}") + f"\n{said}", pytrace=False)


def test_a_failing_cell_is_told(loaded, tmp_path):
    "The runner itself: a notebook that asserts something false fails, and says where"
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 1"), nbformat.v4.new_markdown_cell("so"), nbformat.v4.new_code_cell("assert x == 2, 'no'")])
    path = ROOT / "nbs" / f".check-{os.getpid()}.ipynb"
    nbformat.write(nb, path)
    try:
        with pytest.raises(pytest.fail.Exception, match=r"cell 2:(.|\n)*assert x == 2(.|\n)*AssertionError: no"): test_notebook(path, loaded, tmp_path)
    finally: path.unlink()
