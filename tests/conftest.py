"""What several test files need."""
import sys

import pytest

from faults.harness import summary


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
