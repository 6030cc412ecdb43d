"""Memory kept between allocations, seen from outside: after some, the system gives no further pages."""

import subprocess
import sys

import pytest

CODE = """
import resource, sys
import torch
from distill.runtime.allocator import keep_freed_memory

kept = keep_freed_memory() if sys.argv[1] == "keep" else None
faults = []
for _ in range(20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(64 * 2**20 // 4)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(kept, faults[-1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_memory_is_used_again() -> None:
    def run(mode: str) -> list[str]:
        return subprocess.run(
            [sys.executable, "-c", CODE, mode], capture_output=True, text=True, check=True
        ).stdout.split()

    kept, faults = run("keep")
    if kept == "False":
        pytest.skip("another C library")
    assert int(faults) < 1000
    assert int(run("leave")[1]) > 10_000  # 64 MiB in pages of 4 KiB are 16,384.
