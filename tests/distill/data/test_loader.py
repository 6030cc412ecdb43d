"""Loader workers: what they make arrives in order, and they end with the process that made them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.programs import ROOT

CODE = """
import sys
from distill.data.loader import load

class Numbers:
    def __getitem__(self, index):
        return index * 10

if __name__ == "__main__":
    items = load(Numbers(), range(1000), workers=2)
    print(next(items), next(items), flush=True)
    {end}
"""


@pytest.mark.parametrize(("end", "code"), [("sys.exit(3)", 3), ("raise ValueError", 1), ("pass", 0)])
def test_a_process_ends_though_its_loader_is_not_exhausted(end: str, code: int) -> None:
    """Workers are deaf to the SIGTERM with which a process that ends would end them."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(end=end)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "0 10\n"
    assert done.returncode == code
