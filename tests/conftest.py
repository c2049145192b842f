"""What several test files need."""
import os
import sys

import pytest

from faults.harness import summary

for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"): os.environ.pop(name, None)  # a make within `make test` is told nothing by it

# Files whose tests train, render a corpus or start the command line many times: marked slow, so that `make check` leaves them out.
SLOW = {"test_table1", "test_verification_sheets", "test_ablations", "test_engine", "test_diagrams", "test_prepare", "test_intervention", "test_interventions",
        "test_attribution", "test_equivalence", "test_notebooks", "test_speaker_features"}


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem in SLOW or item.path.parent.name == "faults": item.add_marker(pytest.mark.slow)


def pytest_configure(config): config.addinivalue_line("markers", "faults(family): a kind of fault, see tests/faults/harness.py")


def pytest_terminal_summary(terminalreporter):
    if lines := summary(r for part in terminalreporter.stats.values() for r in part if getattr(r, "when", "") == "teardown"):
        terminalreporter.section("faults")
        for line in lines: terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def no_lazy_modules():
    """SpeechBrain leaves proxies in sys.modules that import optional packages when anything looks at them; hypothesis looks at every module.

    Once a parity test has imported SpeechBrain, property tests in the same process would fail for want of those packages.
    """
    for name in [n for n, m in list(sys.modules.items()) if type(m).__module__ == "speechbrain.utils.importutils"]: del sys.modules[name]
