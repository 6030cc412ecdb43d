"""Rows in any order from arrays that lie in shards of chunks: which chunks, which rows of them, through a cache."""

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from logitstore.errors import OutOfRange
from logitstore.format.cache import ChunkCache
from logitstore.format.layout import ArrayLayout

RowNumbers = slice | range | int | ArrayLike
"""Which rows: a slice (clipped to the store, as for a list), a range, an integer, or integers (n,) in any order."""

Array = NDArray[Any]


def row_numbers(rows: RowNumbers, *, num_samples: int, store: object) -> NDArray[np.int64]:
    """Row numbers in the requested order, (n,) int64.

    **Arguments** store: its name for messages.

    Raises `OutOfRange`.
    """
    if isinstance(rows, slice):
        rows = range(*rows.indices(num_samples))
    if isinstance(rows, range):
        wanted = np.arange(rows.start, rows.stop, rows.step, dtype=np.int64)
    else:
        wanted = np.atleast_1d(np.asarray(rows))
        if wanted.size == 0:
            wanted = wanted.astype(np.int64)
    if wanted.ndim != 1 or wanted.dtype.kind not in "iu":
        raise OutOfRange(f"rows must be integers in one dimension, not {wanted.dtype} {wanted.shape}")
    if wanted.size and (wanted.min() < 0 or wanted.max() >= num_samples):
        bad = int(wanted.min()) if wanted.min() < 0 else int(wanted.max())
        raise OutOfRange(f"{store} has rows 0..{num_samples - 1}; row {bad} was requested")
    return wanted.astype(np.int64, copy=False)


def gather(
    wanted: NDArray[np.int64],
    *,
    layouts: list[ArrayLayout],
    load: Callable[[int, list[int]], dict[int, tuple[Array, ...]]],
    cache: ChunkCache,
    cache_key: Hashable,
) -> list[Array]:
    """Collect rows of arrays of equal chunks, each chunk loaded once.

    **Arguments**

    - `wanted`: (n,) row numbers
    - `layouts`: of the arrays; all have the same number of rows per shard and per chunk
    - `load`: (shard number, slots of chunks in it) -> by slot, a chunk of each array
    - `cache_key`: what the chunks are cached under, together with their number

    **Returns** for each array (n, ...) in the order of `wanted`.
    """
    out = [np.empty((len(wanted), *layout.row_shape), dtype=layout.dtype) for layout in layouts]
    if not len(wanted):
        return out
    inner_rows = layouts[0].inner_rows
    chunks = wanted // inner_rows
    order = np.argsort(chunks, kind="stable")
    ordered = chunks[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    ends = np.append(starts[1:], len(ordered))
    per_shard = layouts[0].shard_rows // inner_rows
    needed = [int(c) for c in ordered[starts]]
    loaded: dict[int, tuple[Array, ...]] = {}
    for position, (chunk, start, end) in enumerate(zip(needed, starts, ends, strict=True)):
        values = loaded.get(chunk) or cache.get((cache_key, chunk))
        if values is None:
            shard = chunk // per_shard
            group = [c for c in needed[position : position + per_shard] if c // per_shard == shard]
            slots = [c % per_shard for c in group if not cache.holds((cache_key, c))]
            loaded = {shard * per_shard + s: v for s, v in load(shard, slots).items()}
            for c, v in loaded.items():
                cache.put((cache_key, c), v)
            values = loaded[chunk]
        places = order[start:end]
        in_chunk = wanted[places] - chunk * inner_rows
        for target, source in zip(out, values, strict=True):
            target[_run(places)] = source[_run(in_chunk)]
    return out


def _run(places: NDArray[np.int64]) -> NDArray[np.int64] | slice:
    """The positions, as a slice where they are consecutive: numpy copies a slice several times faster."""
    first, last = int(places[0]), int(places[-1])
    consecutive = last - first + 1 == len(places) and (len(places) < 3 or bool((np.diff(places) == 1).all()))
    return slice(first, last + 1) if consecutive else places
