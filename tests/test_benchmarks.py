"Benchmarks at full size: what is kept of them"
import nbformat
import pytest

from mkdcls.results import benchmarks


@pytest.mark.parametrize("name", benchmarks.FULL_SIZE)
def test_kept_copies_are_of_the_pages_at_full_size(name):
    "Their parameters are those of FULL_SIZE, every cell has run, and no path of the machine is in them"
    path = benchmarks.COPIES / f"{name}.ipynb"
    kept = nbformat.read(path, 4)
    given = next(c.source for c in kept.cells if "injected-parameters" in c.metadata.get("tags", []))
    found = {}
    exec(given, found)
    assert {k: found[k] for k in benchmarks.FULL_SIZE[name]} == benchmarks.FULL_SIZE[name]
    assert all(c.execution_count for c in kept.cells if c.cell_type == "code")
    assert not [o for c in kept.cells for o in c.get("outputs", []) if o.output_type == "error"]
    assert "/work" not in (text := path.read_text("utf-8")) and "/home" not in text
