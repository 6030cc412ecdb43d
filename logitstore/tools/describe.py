"""A store, or one view of it, as plain values for the command line to print."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitstore.format.layout import (
    BLOCK_ARRAYS,
    MARKERS,
    SAMPLE_ARRAYS,
    arrays,
    documents,
    static_arrays,
)
from logitstore.ranges import compact
from logitstore.store import Store, version_limits
from logitstore.tools.names import class_names, key_text

MEASURED_BLOCKS = 2000
"""With more committed blocks than this, sizes are estimated from so many of them, at even distances."""


def describe_store(store: Store) -> dict[str, Any]:
    """Spec, coverage and sizes as JSON values. Costs one folder listing per epoch, and the sizes of `MEASURED_BLOCKS`
    blocks' files."""
    spec = store.spec
    done = store.done()
    views = int(done.sum()) * spec.rows_per_block
    views -= int(done[:, -1].sum()) * (spec.rows_per_block - len(spec.block_rows(spec.num_blocks - 1)))
    by_array, exact = sizes(store, done)
    complete = np.flatnonzero(done.all(axis=1)).tolist()
    per_view = sum(by_array[name] for name in (*BLOCK_ARRAYS, MARKERS)) / views if views else None
    return {
        "path": str(store.path),
        "format_version": store.format_version,
        "limits": version_limits(store),
        "spec": spec.to_json(),
        "blocks_total": int(done.size),
        "blocks_committed": int(done.sum()),
        "epochs_complete": complete,
        "epochs_incomplete": {
            str(e): compact(np.flatnonzero(~done[e]).tolist()) for e in range(spec.num_epochs) if not done[e].all()
        },
        "views_committed": views,
        "bytes_by_array": by_array,
        "bytes_total": sum(by_array.values()),
        "bytes_are_exact": exact,
        "bytes_per_view": per_view,
        "bytes_per_sample": sum(by_array[name] for name in SAMPLE_ARRAYS) / spec.num_samples,
    }


def describe_row(store: Store, *, epoch: int, row: int, data: Path | None = None) -> dict[str, Any]:
    """One view as JSON values; its key where the packed data set is given.

    Raises `OutOfRange`, `MissingBlocks`, `DamagedBlock`.
    """
    spec, names = store.spec, class_names(store)
    view = store.read(epoch=epoch, rows=row)
    label = int(store.labels(row)[0])
    drawn = view.drawn[0] if view.drawn is not None else np.zeros(spec.topk, bool)
    classes = [
        {
            "class": int(c),
            "name": names.class_name(int(c)),
            "probability": float(np.exp(lp)),
            "logprob": float(lp),
            "drawn": bool(is_drawn),
        }
        for c, lp, is_drawn in zip(view.indices[0], view.logprobs[0], drawn, strict=True)
        if np.isfinite(lp)
    ]
    return {
        "path": str(store.path),
        "epoch": epoch,
        "row": row,
        "block": row // spec.rows_per_block,
        "key_hash": f"{int(store.keys(row)[0]):016x}",
        "key": key_text(data, row, store=store) if data else None,
        "label": label,
        "label_name": names.label_name(label),
        "seed": int(view.seeds[0]),
        "classes": classes,
        "tail_probability": float(np.exp(view.tail[0])),
    }


def sizes(store: Store, done: NDArray[np.bool_]) -> tuple[dict[str, int], bool]:
    """Bytes of committed files by array, and of metadata; and whether all were measured, or some estimated."""
    committed = np.argwhere(done)
    picked = committed
    if len(committed) > MEASURED_BLOCKS:
        picked = committed[np.linspace(0, len(committed) - 1, MEASURED_BLOCKS).astype(np.int64)]
    scale = len(committed) / max(len(picked), 1)
    size = store.storage.file_size
    by_array = {}
    for name, layout in arrays(store.spec).items():
        if name in static_arrays(store.spec):
            by_array[name] = store.storage.folder_size(f"{name}/c")
        else:
            keys = [layout.key(epoch, block) for epoch, block in picked.tolist()]
            by_array[name] = round(sum(size(key) for key in keys) * scale)
    by_array["metadata"] = sum(size(key) for key in documents(store.spec, store.files.identity))
    return by_array, len(picked) == len(committed)
