"""What a store will cost: bytes, files, hours, estimated before it is made."""

from typing import Any

import numpy as np

from logitstore.format.identity import VERSION_1
from logitstore.format.layout import BLOCK_FILES, SAMPLE_ARRAYS, SAMPLE_SHARD_ROWS, arrays, documents
from logitstore.spec import INNER_ROWS, StoreSpec

_MEASURED_TOPK = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
BYTES_PER_VIEW = {
    "log8": (2.8, 4.6, 9.5, 17.5, 32.4, 71.4, 127.7, 225.2, 473.9, 903.3),
    "float16": (4.9, 7.7, 15.2, 28.3, 53.4, 129.3, 241.6, 466.1, 1111.4, 2181.7),
}
"""Measured: bytes per view at 1,000 classes, all files of a block, for each k in `_MEASURED_TOPK`. See
docs/store.md."""
MEASURED_CLASSES = 1000
BYTES_PER_BLOCK = 850
"""Measured: what a block costs beside its rows: indexes, checksums, marker, and compression that starts again. Within
4 % for k = 3 to 100 in log8 and blocks of 256 rows or more (docs/store.md)."""
BYTES_PER_SAMPLE = 12.0
"""Key hashes do not compress, labels hardly do."""


def bytes_per_view(*, topk: int, num_classes: int, encoding: str) -> float:
    """Estimate from the measured table, for blocks of 4,096 rows: linear between its values, in proportion above them.

    Other numbers of classes change the cost of a class number, by the difference of log2(classes) in bits.
    """
    sizes = BYTES_PER_VIEW[encoding]
    estimate = float(np.interp(topk, _MEASURED_TOPK, sizes))
    if topk > _MEASURED_TOPK[-1]:
        estimate = sizes[-1] * topk / _MEASURED_TOPK[-1]
    index_bits = np.log2(max(num_classes, 2)) - np.log2(MEASURED_CLASSES)
    return float(max(estimate + topk * index_bits / 8, 1.0))


def plan(spec: StoreSpec, *, images_per_s: float | None = None, gpus: int = 1) -> dict[str, Any]:
    """Estimated cost of a whole store as JSON values.

    **Arguments** images_per_s: views per second of the teacher on one GPU; gpus: how many run at once.

    **Returns** `bytes_per_view`, `bytes_total`, and for comparison `published_bytes_per_view` (4 + 4k) and
    `published_bytes_total`; `views`, `files`, `folders`, `files_per_block`, `blocks`, `bytes_per_block`; `hours` and
    `gpu_hours`, None where `images_per_s` is.
    """
    views = spec.num_samples * spec.num_epochs
    each = bytes_per_view(topk=spec.topk, num_classes=spec.num_classes, encoding=spec.encoding)
    each += BYTES_PER_BLOCK * max(spec.num_blocks / spec.num_samples - 1 / INNER_ROWS, 0.0)
    blocks = spec.num_epochs * spec.num_blocks
    parts = len(SAMPLE_ARRAYS) * -(-spec.num_samples // SAMPLE_SHARD_ROWS)
    gpu_seconds = views / images_per_s if images_per_s else None
    published = 4 + 4 * spec.topk
    return {
        "views": views,
        "blocks": blocks,
        "files_per_block": len(BLOCK_FILES),
        "files": blocks * len(BLOCK_FILES) + parts + len(documents(spec, VERSION_1)),
        "folders": sum(_folders(spec, name) for name in arrays(spec)),
        "bytes_per_view": each,
        "bytes_per_block": round(each * min(spec.rows_per_block, spec.num_samples)),
        "bytes_total": round(each * views + BYTES_PER_SAMPLE * spec.num_samples),
        "published_bytes_per_view": published,
        "published_bytes_total": published * views,
        "gpu_hours": gpu_seconds / 3600 if gpu_seconds is not None else None,
        "hours": gpu_seconds / 3600 / gpus if gpu_seconds is not None else None,
    }


def _folders(spec: StoreSpec, name: str) -> int:
    """Folders of one array: each shard with a class dimension lies in a folder of its own."""
    layout = arrays(spec)[name]
    if "E" not in layout.dims:
        return 2
    inner = spec.num_blocks if "k" in layout.dims else 0
    return 2 + spec.num_epochs * (1 + inner)
