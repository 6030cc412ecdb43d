"""Sparse teacher logits on disk.

A store holds, for every view of every stored epoch, its seed and a teacher's k most probable classes with their
log-probabilities. This package knows blocks of rows, and nothing of images or models.

Read a store:

    store = logitstore.open("teacher.zarr")
    views = store.read(epoch=0, rows=slice(0, 256))     # seeds (n,), indices (n, k), logprobs (n, k), tail (n,)
    names = logitstore.class_names(store)

Fill a store from any source of logits. Stopped at any moment, the same lines do the rest:

    spec = logitstore.StoreSpec(num_samples=50_000, num_epochs=2, num_classes=1000, topk=10, proof_rows=0)
    logitstore.create("teacher.zarr", spec, keys=keys, labels=labels, exist_ok=True)
    with logitstore.writer("teacher.zarr") as writer:
        for epoch, block in writer.missing():
            rows = spec.block_rows(block)
            seeds = np.arange(rows.start, rows.stop, dtype=np.uint64)
            logits = teacher(rows, seeds)               # (n, 1000) floats
            writer.write_logits(epoch, block, seeds=seeds, logits=logits, proof=1)
"""

from logitstore.create import create, grow
from logitstore.errors import (
    BlockExists,
    DamagedBlock,
    MissingBlocks,
    NotAStore,
    OutOfRange,
    SpecError,
    StoreConflict,
    StoreError,
    StoreExists,
    StoreFull,
    StoreLocked,
    StoreMissing,
    StoreUnreachable,
    UnsupportedVersion,
)
from logitstore.format.identity import spec_digest
from logitstore.format.layout import FORMAT_VERSION
from logitstore.rows import Rows, TailModel
from logitstore.spec import INNER_ROWS, StoreSpec, differences
from logitstore.store import Store, open
from logitstore.tools.check import Finding, Report, check
from logitstore.tools.names import ClassList, ClassNames, class_names
from logitstore.tools.recode import recode
from logitstore.tools.repair import Repair, Restored, repair, restore
from logitstore.tools.transfer import Transfer, copy, merge
from logitstore.writer import Writer, writer

__all__ = [
    "FORMAT_VERSION",
    "INNER_ROWS",
    "BlockExists",
    "ClassList",
    "ClassNames",
    "DamagedBlock",
    "Finding",
    "MissingBlocks",
    "NotAStore",
    "OutOfRange",
    "Repair",
    "Report",
    "Restored",
    "Rows",
    "SpecError",
    "Store",
    "StoreConflict",
    "StoreError",
    "StoreExists",
    "StoreFull",
    "StoreLocked",
    "StoreMissing",
    "StoreSpec",
    "StoreUnreachable",
    "TailModel",
    "Transfer",
    "UnsupportedVersion",
    "Writer",
    "check",
    "class_names",
    "copy",
    "create",
    "differences",
    "grow",
    "merge",
    "open",
    "recode",
    "repair",
    "restore",
    "spec_digest",
    "writer",
]
