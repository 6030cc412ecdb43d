"""Import logits that TinyViT's own programs stored (arXiv 2207.10666, section 3).

    logits_topK_epochE/rankR-keys.txt     one key per line
    logits_topK_epochE/rankR-values.bin   one record per key: int32 seed, K int16 classes, K float16 probabilities

Little-endian; ranks hold different keys, in another order in each epoch. The seeds belong to that program's
augmentations, so the views cannot be drawn again here: the store's `view` says `"replayable": false`. The published
record has no tail; it is taken as 1 minus the sum of the probabilities.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from logitstore.create import create
from logitstore.errors import StoreError, StoreMissing
from logitstore.spec import INNER_ROWS, StoreSpec
from logitstore.tools.transfer import Progress
from logitstore.writer import writer

_FOLDER = re.compile(r"logits_top(\d+)_epoch(\d+)")
_MAX_K = 2**15
_KEYS = re.compile(r"rank(\d+)-keys\.txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """The result of `import_tinyvit`."""

    path: str
    num_samples: int
    num_epochs: int
    topk: int
    views: int
    missing: int
    """Views that an epoch lacks; all their entries are stored empty."""
    repeated: int
    """Further records of a key in the same epoch; the first one counts."""


@dataclass(frozen=True, slots=True)
class _Epoch:
    """One folder: hashes of its keys in the order of its records, and the records, rank after rank."""

    hashes: NDArray[np.uint64]
    records: Sequence[NDArray[np.void]]


def import_tinyvit(
    source: str | Path,
    target: str | Path,
    *,
    num_classes: int,
    encoding: str = "float16",
    rows_per_block: int = 4096,
    progress: Progress | None = None,
) -> Imported:
    """Read every `logits_topK_epochE` folder in `source` into a store; stored epochs count from 0 in their order.

    Rows are the keys in the order in which the epochs first name them. A stopped import continues when it is started
    again. Memory: some 50 bytes per key; records are memory-mapped.

    **Arguments** num_classes: of the teacher, which the files do not say.

    Raises `StoreMissing`, `StoreError` that names a malformed file, `StoreConflict`, `SpecError`.
    """
    folders, topk = _folders(Path(source))
    epochs = [_read_epoch(folder, topk) for folder in folders]
    keys = _row_keys(epochs)
    spec = StoreSpec(
        num_samples=len(keys),
        num_epochs=len(folders),
        num_classes=num_classes,
        topk=topk,
        encoding=encoding,
        rows_per_block=rows_per_block if len(keys) > rows_per_block else min(rows_per_block, INNER_ROWS),
        proof_rows=0,
        view={"replayable": False, "source": "TinyViT logits", "folders": [folder.name for folder in folders]},
    )
    labels = np.broadcast_to(np.int32(-1), len(keys))
    create(target, spec, keys=keys, labels=labels, exist_ok=True)
    missing = repeated = 0
    with writer(target) as out:
        to_write = set(out.missing())
        for number, epoch in enumerate(epochs):
            places = _places(epoch.hashes, keys)
            missing += int((places < 0).sum())
            repeated += len(epoch.hashes) - int((places >= 0).sum())
            for block in range(spec.num_blocks):
                if progress is not None:
                    progress("importing blocks", number * spec.num_blocks + block, spec.num_epochs * spec.num_blocks)
                if (number, block) in to_write:
                    rows = spec.block_rows(block)
                    views = _views(_records(epoch, places[rows.start : rows.stop]), topk)
                    out.write(number, block, **views, proof=1)  # Of no rows: there are no images to prove.
    if progress is not None:
        progress("importing blocks", spec.num_epochs * spec.num_blocks, spec.num_epochs * spec.num_blocks)
    return Imported(
        path=str(target),
        num_samples=len(keys),
        num_epochs=len(folders),
        topk=topk,
        views=len(keys) * len(folders) - missing,
        missing=missing,
        repeated=repeated,
    )


def _folders(source: Path) -> tuple[list[Path], int]:
    """Folders of epochs in their order, and K."""
    found = sorted(
        (int(match[2]), int(match[1]), path)
        for path in (source.iterdir() if source.is_dir() else [])
        if (match := _FOLDER.fullmatch(path.name)) and path.is_dir()
    )
    if not found:
        raise StoreMissing(f"{source} has no folder named logits_topK_epochE: name the folder that holds them")
    sizes = {topk for _, topk, _ in found}
    if len(sizes) > 1:
        raise StoreError(f"{source} has folders of different K, {sorted(sizes)}: import them one by one")
    topk = sizes.pop()
    if not 0 < topk <= _MAX_K:
        raise StoreError(f"{source} has folders of K = {topk}: the records are of 1 to {_MAX_K} classes")
    return [path for _, _, path in found], topk


def _read_epoch(folder: Path, topk: int) -> _Epoch:
    record = np.dtype([("seed", "<i4"), ("indices", "<i2", (topk,)), ("values", "<f2", (topk,))])
    ranks = sorted((int(match[1]), path) for path in folder.iterdir() if (match := _KEYS.fullmatch(path.name)))
    if not ranks:
        raise StoreError(f"{folder} has no rankR-keys.txt: the folder is not complete")
    hashes, records = [], []
    for rank, path in ranks:
        values = folder / f"rank{rank}-values.bin"
        keys = np.fromiter(_hashes(path), np.uint64)
        size = values.stat().st_size if values.exists() else -1
        if size != len(keys) * record.itemsize:
            raise StoreError(
                f"{values} has {max(size, 0)} bytes where {len(keys)} keys need {len(keys) * record.itemsize} "
                f"(records of {record.itemsize} bytes, K = {topk}): it is missing, truncated, or of another K"
            )
        hashes.append(keys)
        if len(keys):
            records.append(np.memmap(values, dtype=record, mode="r"))
    return _Epoch(np.concatenate(hashes), records)


def _row_keys(epochs: Sequence[_Epoch]) -> NDArray[np.uint64]:
    """Every key once, in the order in which the epochs first name them."""
    hashes = np.concatenate([epoch.hashes for epoch in epochs])
    _, first = np.unique(hashes, return_index=True)
    keys: NDArray[np.uint64] = hashes[np.sort(first)]
    return keys


def _hashes(path: Path) -> Iterator[int]:
    """XXH3-64 of each line, as catalogs hash keys."""
    with path.open("rb") as file:
        for line in file:
            if key := line.rstrip(b"\r\n"):
                yield xxhash.xxh3_64_intdigest(key)


def _places(hashes: NDArray[np.uint64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each key the first record that has it, -1 where none has."""
    order = np.argsort(hashes, kind="stable")
    at = np.minimum(np.searchsorted(hashes, keys, sorter=order), len(hashes) - 1)
    places = order[at]
    return np.where(hashes[places] == keys, places, -1)


def _records(epoch: _Epoch, places: NDArray[np.int64]) -> NDArray[np.void]:
    """Records by their place in the epoch, (n,); zeros where the place is -1."""
    out = np.zeros(len(places), dtype=epoch.records[0].dtype)
    first = 0
    for records in epoch.records:
        here = (places >= first) & (places < first + len(records))
        out[here] = records[places[here] - first]
        first += len(records)
    return out


def _views(records: NDArray[np.void], topk: int) -> dict[str, Any]:
    """The arguments of `Writer.write`. A probability of 0 (below half precision) becomes an empty entry."""
    values = records["values"].astype(np.float64)
    order = np.argsort(-values, axis=1, kind="stable")
    values = np.take_along_axis(values, order, axis=1)
    # Classes from 32,768 on are negative in their 16 bits.
    indices = np.take_along_axis(records["indices"].view("<u2").reshape(-1, topk), order, axis=1)
    with np.errstate(divide="ignore"):
        logprobs = np.log(values)
        tail = np.log(np.clip(1 - values.sum(axis=1), 0, None))
    return {
        "seeds": records["seed"].view("<u4").astype(np.uint64),
        "indices": indices,
        "logprobs": np.minimum(logprobs, 0).astype(np.float32),
        "tail": tail.astype(np.float32),
    }
