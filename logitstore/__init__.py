"""Sparse teacher logits on disk.

A store keeps, for every view of every stored epoch, its seed and the k most probable classes a teacher saw in
it. This package knows blocks of rows and nothing of pictures or models.

    spec = logitstore.StoreSpec(num_samples=50_000, num_epochs=2, num_classes=1000, topk=10)
    logitstore.create("teacher.zarr", spec, keys=keys, labels=labels)
    with logitstore.writer("teacher.zarr") as w:
        w.write(0, 0, seeds=seeds, indices=indices, logprobs=logprobs, tail=tail, proof=proof)
    store = logitstore.open("teacher.zarr")
    rows = store.read(epoch=0, rows=slice(0, 256))
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
from logitstore.format.layout import FORMAT_VERSION
from logitstore.rows import Rows, TailModel
from logitstore.spec import INNER_ROWS, StoreSpec, differences
from logitstore.store import Store, open
from logitstore.tools.check import Report, check
from logitstore.tools.recode import recode
from logitstore.tools.repair import Repair, repair
from logitstore.tools.transfer import Transfer, copy, merge
from logitstore.writer import Writer, writer

__all__ = [
    "FORMAT_VERSION",
    "INNER_ROWS",
    "BlockExists",
    "DamagedBlock",
    "MissingBlocks",
    "NotAStore",
    "OutOfRange",
    "Repair",
    "Report",
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
    "copy",
    "create",
    "differences",
    "grow",
    "merge",
    "open",
    "recode",
    "repair",
    "writer",
]
