"""Write blocks into a store: whole blocks only, the marker last.

The files of a block are first written in full under temporary names, then renamed, the marker last. Killed at any
point, a block is absent or whole. Rows are checked before anything touches the disk: what a store holds was once
sane. (On object storage the files are put one after the other, the marker last.)
"""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from logitstore.errors import BlockExists, OutOfRange, SpecError, StoreError
from logitstore.format import codec, shard
from logitstore.format.layout import BLOCK_FILES, LOCK_KEY, MARKERS, arrays
from logitstore.lock import Lock
from logitstore.spec import StoreSpec
from logitstore.store import open as open_store
from logitstore.store import require_block, require_epoch

MASS_TOLERANCE = 0.01
"""How far kept classes and tail of a row may be from summing to 1 before they are taken for a mistake."""


class Writer:
    """An open right to write; a context manager. `write` may be called from several threads."""

    path: str
    spec: StoreSpec
    blocks: range
    """Those that it may write."""

    def __init__(self, path: str | Path, *, exclusive: bool = True, blocks: range | None = None) -> None:
        """Raises as `open` does, `OutOfRange`, and `StoreLocked` where another run holds the store or the blocks."""
        store = open_store(path)
        self.path = store.path
        self.spec = store.spec
        self._folder = store.folder
        self._layouts = arrays(self.spec)
        self.blocks = range(self.spec.num_blocks) if blocks is None else blocks
        if not self.blocks or self.blocks.step != 1 or self.blocks.start < 0 or self.blocks.stop > self.spec.num_blocks:
            raise OutOfRange(f"{self.path} has blocks 0..{self.spec.num_blocks - 1}; {self.blocks} was asked for")
        local = self._folder.local
        self._lock = Lock(local / LOCK_KEY, blocks=blocks) if exclusive and local is not None else None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let another run write."""
        self._closed = True
        if self._lock is not None:
            self._lock.release()

    def write(
        self,
        epoch: int,
        block: int,
        *,
        seeds: NDArray[np.uint64],
        indices: NDArray[Any],
        logprobs: NDArray[np.float32],
        tail: NDArray[np.float32],
        proof: int,
        replace: bool = False,
    ) -> None:
        """Write and commit one block of n rows, n = len(spec.block_rows(block)).

        **Arguments** seeds: (n,) uint64; indices: (n, k) integers, distinct in a row; logprobs: (n, k)
        natural log-probabilities, most probable first, then, under `hybrid`, plus infinity for drawn classes, then
        minus infinity for nothing; under `sample` the logs of counts / draws; tail: (n,) natural log of the mass of
        all classes without a log-probability; proof: digest of the block's first views, not 0, below
        2**64; replace: write over a committed block, which is absent from the first change until the new one
        is whole.

        Raises `SpecError` for rows that do not fit, `BlockExists`, `StoreFull`, `OutOfRange`.
        """
        if self._closed:
            raise StoreError(f"{self.path}: this writer is closed")
        require_epoch(self.spec, epoch)
        require_block(self.spec, block)
        where = f"{self.path}: epoch {epoch}, block {block}"
        if block not in self.blocks:
            raise OutOfRange(f"{where}: this writer is for blocks {self.blocks.start}..{self.blocks.stop - 1}")
        if not 0 < proof < 2**64:
            raise SpecError(f"{where}: proof is {proof}: it must be from 1 to 2**64 - 1")
        values = _stored_values(where, self.spec, block, seeds, indices, logprobs, tail)
        values[MARKERS] = np.array([proof], dtype="<u8")
        self.write_files(epoch, block, self._encode(epoch, block, values), replace=replace)

    def write_files(self, epoch: int, block: int, encoded: dict[str, bytes], *, replace: bool = False) -> None:
        """Commit a block from the bytes of its files, by array, as one act of writing made them.

        For whole-block copies between stores; the bytes must have been verified. Raises as `write` does.
        """
        files = [(self._layouts[name].key(epoch, block), encoded[name]) for name in BLOCK_FILES]
        self._folder.write_block(files, before=lambda: self._clear(epoch, block, replace=replace))

    def _encode(self, epoch: int, block: int, values: dict[str, NDArray[Any]]) -> dict[str, bytes]:
        writing = shard.new_writing()
        encoded = {}
        for name in BLOCK_FILES:
            layout = self._layouts[name]
            place = shard.Place(number=layout.number, epoch=epoch, block=block, writing=writing)
            encoded[name] = shard.encode_shard(values[name].astype(layout.dtype), layout=layout, place=place)
        return encoded

    def _clear(self, epoch: int, block: int, *, replace: bool) -> None:
        """A committed block is refused, or uncommitted first, so that no marker ever vouches for half a
        block."""
        marker = self._layouts[MARKERS].key(epoch, block)
        if replace:
            self._folder.delete(marker)
        elif self._folder.has(marker):
            where = f"{self.path}: epoch {epoch}, block {block}"
            raise BlockExists(f"{where} is committed already: leave it, or write with replace=True")


def writer(path: str | Path, *, exclusive: bool = True, blocks: range | None = None) -> Writer:
    """Open a store for writing, as a context manager.

    **Arguments** exclusive: take the store's lock; a run's further processes pass False and rely on the
    first; blocks: write these alone, of any epoch, and lock no others: several runs may then fill one store.

    Raises as `open` does, `OutOfRange` for blocks that the store has not, and `StoreLocked`.
    """
    return Writer(path, exclusive=exclusive, blocks=blocks)


def _stored_values(
    where: str,
    spec: StoreSpec,
    block: int,
    seeds: NDArray[np.uint64],
    indices: NDArray[Any],
    logprobs: NDArray[np.float32],
    tail: NDArray[np.float32],
) -> dict[str, NDArray[Any]]:
    """Check a block's rows and turn them into what the arrays hold, by array. Raises `SpecError`."""
    n, k = len(spec.block_rows(block)), spec.topk
    shapes = {"seeds": (n,), "indices": (n, k), "logprobs": (n, k), "tail": (n,)}
    given = {"seeds": seeds, "indices": indices, "logprobs": logprobs, "tail": tail}
    for name, array in given.items():
        kind = "iu" if name in ("seeds", "indices") else "f"
        if array.shape != shapes[name] or array.dtype.kind not in kind:
            raise SpecError(f"{where}: {name} is {array.dtype} {array.shape}, expected {shapes[name]} of kind {kind}")
    if seeds.dtype.kind == "i" and int(seeds.min()) < 0:
        raise SpecError(f"{where}: seeds are negative")
    logprobs, tail = logprobs.astype(np.float32), tail.astype(np.float32)
    nothing = np.isneginf(logprobs)
    kept = np.where(nothing, 0, indices).astype(np.int64)
    for what, bad in _mistakes(kept, logprobs, tail, nothing, spec=spec).items():
        if bad.any():
            row = int(np.argmax(bad)) + spec.block_rows(block).start
            raise SpecError(f"{where}: row {row}: {what} ({int(bad.sum())} such rows in the block)")
    full = np.isfinite(logprobs).sum(axis=1) == spec.num_classes
    stored_indices, stored_values = codec.encode_kept(kept, logprobs, spec=spec)
    return {
        "seeds": seeds.astype(np.uint64),
        "indices": stored_indices,
        "logprobs": stored_values,
        "tail": codec.encode_tail(np.where(full, np.float32(-np.inf), tail), spec=spec),
    }


def _mistakes(
    kept: NDArray[np.int64],
    logprobs: NDArray[np.float32],
    tail: NDArray[np.float32],
    nothing: NDArray[np.bool_],
    *,
    spec: StoreSpec,
) -> dict[str, NDArray[np.bool_]]:
    """Which rows (n,) break which rule. Rules come in the order in which later ones rely on earlier ones."""
    num_classes, drawn = spec.num_classes, np.isposinf(logprobs)
    with np.errstate(invalid="ignore", over="ignore"):
        probabilities = np.exp(np.where(drawn, -np.inf, logprobs).astype(np.float64))
        mass = probabilities.sum(axis=1) + np.exp(tail.astype(np.float64))
        ranks = np.where(drawn, np.finfo(np.float32).min, logprobs)
        rising = (ranks[:, 1:] > ranks[:, :-1]).any(axis=1)
    rules = {
        "log-probabilities are not a number": np.isnan(logprobs).any(axis=1) | np.isnan(tail),
        f"drawn classes do not go with the selection {spec.selection}": drawn.any(axis=1)
        & (spec.selection != "hybrid"),
        "classes are not ordered, most probable first": rising,
        f"a class is outside 0..{num_classes - 1}": ((kept < 0) | (kept >= num_classes)).any(axis=1),
        "a class is kept twice": repeated(kept, nothing),
        f"kept classes and tail do not sum to 1 within {MASS_TOLERANCE}": ~(np.abs(mass - 1) <= MASS_TOLERANCE),
    }
    if spec.selection == "sample":
        counts = probabilities * spec.draws
        rules[f"weights are not counts of {spec.draws} draws"] = (np.abs(counts - np.rint(counts)) > 0.01).any(axis=1)
    return rules


def repeated(kept: NDArray[Any], nothing: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which rows (n,) name a class twice among the entries that hold something."""
    # Entries that hold nothing get numbers of their own below 0.
    distinct = np.where(nothing, -1 - np.arange(kept.shape[1]), kept.astype(np.int64))
    distinct.sort(axis=1)
    return np.asarray((distinct[:, 1:] == distinct[:, :-1]).any(axis=1))
