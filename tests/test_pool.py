"What a worker process is told before its first job"
import platform
import subprocess
import sys

import pytest

STEPS = '''
import resource, torch
from mkdcls.engine.pool import keep_memory
torch.set_num_threads(1)
assert keep_memory()
def step(): return sum(torch.ones(4 << 20) for _ in range(4))  # arrays of 16 MB, freed at the end of each step
for _ in range(8): assert float(step()[-1]) == 4
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8): step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
'''


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep freed memory")
def test_freed_memory_is_used_again():
    "Pages that the system hands out anew, in eight steps of four arrays: 4,096 for each array were none kept"
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < 4096
