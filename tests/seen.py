"""Logs every view that a pass is given: lines of epoch, row and digest of its pixels, a file for each rank.

`python -m tests.seen FILE PROGRAM ARGUMENTS...` runs a program so; in this process, `log_views`.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distill.config.command import run_program
from distill.data.batch import Batch
from distill.data.damage_log import DamageLog
from distill.views import pixel_digest


@contextmanager
def log_views(path: Path | None) -> Iterator[None]:
    """Appends to `path`.rankR what training and teacher passes are given; evaluation views have no seed and are left
    out."""
    if path is None:
        yield
        return
    record = DamageLog.record

    def logging_record(self: DamageLog, batch: Batch) -> None:
        record(self, batch)
        if not batch.seeds_b.any():
            return
        places = zip(batch.epochs_b.tolist(), batch.rows_b.tolist(), batch.pixels_bhwc.numpy(), strict=True)
        with path.with_name(f"{path.name}.rank{os.environ.get('RANK', '0')}").open("a") as file:
            file.writelines(f"{epoch} {row} {pixel_digest(pixels):016x}\n" for epoch, row, pixels in places)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DamageLog, "record", logging_record)
        yield


if __name__ == "__main__":
    with log_views(Path(sys.argv[1])):
        run_program(importlib.import_module(f"distill.{sys.argv[2]}").PROGRAM, sys.argv[3:])
