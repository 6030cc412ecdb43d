"""Views of a store in common formats: parquet, npz, JSON lines.

One record per view: epoch, row, key hash, label, seed, selected classes, their log-probabilities, log tail mass.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitstore.errors import MissingBlocks, StoreError, StoreExists
from logitstore.storage import local
from logitstore.storage.atomic import atomic_path
from logitstore.store import Store, require_epoch

FORMATS = ("parquet", "npz", "jsonl")
Columns = dict[str, NDArray[Any]]


def export(
    store: Store,
    target: str | Path,
    *,
    form: str,
    epoch: int = 0,
    rows: range | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write views of one epoch to a new local file, which appears when it is whole.

    Parquet and JSON lines are written block by block; npz holds the whole range in memory.

    **Arguments** form: one of `FORMATS`; rows: a range of rows, None for all.

    **Returns** the number of views written.

    Raises `StoreExists`, `StoreError` (pyarrow is missing, the file cannot be
    written), and as `Store.read` does.
    """
    target = Path(target)
    if target.exists():
        raise StoreExists(f"{target} exists already: choose another file")
    require_epoch(store.spec, epoch)
    rows = rows if rows is not None else range(store.spec.num_samples)
    if not len(rows):
        raise MissingBlocks(f"{store.path}: the range of rows is empty")
    # Absent blocks and rows out of range are found before anything is written.
    store.read(epoch=epoch, rows=[rows[0], rows[-1], *rows[:: store.spec.rows_per_block]])
    write = {"parquet": _parquet, "npz": _npz, "jsonl": _jsonl}[form]
    with local.disk_errors(target, "writing"), atomic_path(target) as temporary:
        write(_batches(store, epoch, rows, progress), temporary)
    return len(rows)


def columns(store: Store, epoch: int, rows: range) -> Columns:
    """Views as arrays by name, n of them: `indices` and `logprobs` are (n, k), all others (n,)."""
    views = store.read(epoch=epoch, rows=rows)
    return {
        "epoch": np.full(len(views), epoch, np.int32),
        "row": np.asarray(rows, np.int64),
        "key_hash": store.keys(rows),
        "label": store.labels(rows),
        "seed": views.seeds,
        "indices": views.indices.astype(np.int32),
        "logprobs": views.logprobs,
        "log_tail": views.tail,
    }


def _batches(store: Store, epoch: int, rows: range, progress: Callable[[int, int], None] | None) -> Iterator[Columns]:
    step = store.spec.rows_per_block
    for first in range(0, len(rows), step):
        if progress is not None:
            progress(first, len(rows))
        yield columns(store, epoch, rows[first : first + step])
    if progress is not None:
        progress(len(rows), len(rows))


def _npz(batches: Iterator[Columns], path: Path) -> None:
    parts = list(batches)
    with path.open("wb") as file:
        whole: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        np.savez_compressed(file, **whole)


def _jsonl(batches: Iterator[Columns], path: Path) -> None:
    """Empty entries are left out; the log of a tail without mass is null (JSON has no minus infinity)."""
    with path.open("w", encoding="utf-8") as file:
        for batch in batches:
            for n in range(len(batch["row"])):
                record = {name: values[n].tolist() for name, values in batch.items()}
                used = np.isfinite(batch["logprobs"][n])
                record["indices"] = batch["indices"][n][used].tolist()
                record["logprobs"] = batch["logprobs"][n][used].tolist()
                record["key_hash"] = f"{record['key_hash']:016x}"
                record["log_tail"] = record["log_tail"] if np.isfinite(record["log_tail"]) else None
                file.write(json.dumps(record) + "\n")


def _parquet(batches: Iterator[Columns], path: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise StoreError("parquet needs pyarrow: pip install pyarrow, or export as npz or jsonl") from None
    file = None
    try:
        for batch in batches:
            arrays = {
                name: pa.array(values)
                if values.ndim == 1
                else pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
                for name, values in batch.items()
            }
            table = pa.table(arrays)
            file = file or pq.ParquetWriter(path, table.schema)
            file.write_table(table)
    finally:
        if file is not None:
            file.close()
