"""Loader workers: their items arrive in order, and they end with the process that started them."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import distill.data.loader
from distill.data.loader import load
from distill.errors import DistillError
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


@pytest.mark.parametrize(
    ("end", "code", "message"),
    [
        ("sys.exit(3)", 3, ""),
        ("raise ValueError('x') from None", 1, "ValueError: x"),
        ("pass", 0, ""),
        ("sys.exit('stopped')", 1, "stopped"),
    ],
)
def test_a_process_ends_though_its_loader_is_not_exhausted(end: str, code: int, message: str) -> None:
    """Workers ignore the SIGTERM that a process sends them at its end; that they are killed is not reported."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(end=end)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "0 10\n"
    assert done.returncode == code
    assert done.stderr.strip().rpartition("\n")[2] == message


class Numbers(torch.utils.data.Dataset[int]):
    def __getitem__(self, index: int) -> int:
        return index * 10


@pytest.mark.parametrize("hanging", [1, 2, 99])
def test_workers_that_hang_when_they_start_are_replaced(
    hanging: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker of each try hangs, another one each time; in the first tries or in all."""
    start = distill.data.loader._start_worker

    def hangs(started: Any, worker: int) -> None:
        with (tmp_path / "starts").open("a") as file:
            file.write(f"{worker}\n")
        tries = (tmp_path / "starts").read_text().split().count(str(worker))
        if tries <= hanging and worker == tries % 2:
            time.sleep(600)
        start(started, worker)

    monkeypatch.setattr(distill.data.loader, "_start_worker", hangs)
    monkeypatch.setattr(distill.data.loader, "START_SECONDS", 1.0)
    items = load(Numbers(), iter(range(100)), workers=2)
    if hanging < 3:
        assert list(items) == [index * 10 for index in range(100)]
    else:
        with pytest.raises(DistillError, match="did not start within 1 s, 3 times"):
            next(items)
    assert multiprocessing.active_children() == []
    assert (tmp_path / "starts").read_text().split().count("1") == min(hanging + 1, 3)
