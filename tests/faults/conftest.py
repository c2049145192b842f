"""The fixture of every kind: it watches, and tells the session's summary how the kind ended."""
import pytest

from faults.harness import Fault


@pytest.fixture
def fault(request, tmp_path, record_property):
    mark = request.node.get_closest_marker("faults")
    if mark is None: pytest.fail("a test with `fault` is marked with @kinds(family)")
    watch = Fault(mark.args[0], tmp_path)
    yield watch
    record_property("fault", [watch.family, watch.outcome])
