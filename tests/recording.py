"""Records the digest of every image that a pass's model is given: the same pixels, the same line.

    python -m tests.recording FILE train_student KEY=VALUE ...

Every process appends lines `epoch row digest` to FILE.rankR.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distill.config.command import run_program
from distill.data.batches import Batch, BlockBatches, TrainBatches
from distill.data.damage_log import DamageLog


@contextmanager
def recorded_digests(file: Path) -> Iterator[None]:
    """While open, the passes of this process are recorded."""
    record = DamageLog.record

    def record_both(log: DamageLog, batch: Batch) -> None:
        record(log, batch)
        if batch.digests:  # Evaluation batches have none.
            views = zip(batch.epochs_b.tolist(), batch.rows_b.tolist(), batch.digests, strict=True)
            with Path(f"{file}{log.damage_file.suffix}").open("a") as lines:
                lines.writelines(f"{epoch} {row} {digest:016x}\n" for epoch, row, digest in views)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DamageLog, "record", record_both)
        for dataset in (TrainBatches, BlockBatches):
            patch.setattr(dataset, "__init__", functools.partialmethod(dataset.__init__, digest=True))
        yield


if __name__ == "__main__":
    with recorded_digests(Path(sys.argv[1])):
        run_program(importlib.import_module(f"distill.{sys.argv[2]}").PROGRAM, sys.argv[3:])
