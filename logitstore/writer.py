"""Write blocks into a store: whole blocks only, the marker last.

The files of a block are first written in full under temporary names, then renamed, the marker last. Killed at any
point, a block is absent or whole. Rows are checked before anything is written. (On object storage the files are put one
after the other, the marker last.)
"""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from logitstore.errors import BlockExists, OutOfRange, SpecError, StoreError
from logitstore.format import codec, shard
from logitstore.format.layout import BLOCK_FILES, LOCK_KEY, MARKERS
from logitstore.lock import Lock
from logitstore.spec import StoreSpec
from logitstore.store import Store, require_block, require_epoch
from logitstore.store import open as open_store
from logitstore.topk import select_topk

MASS_TOLERANCE = 0.01
"""How far the selected classes and the tail of a row may be from summing to 1 before that is taken for a mistake."""


class Writer:
    """A store opened for writing; a context manager. `write` may be called from several threads.

        with logitstore.writer("teacher.zarr") as writer:
            for epoch, block in writer.missing():
                rows = writer.spec.block_rows(block)
                ...
                writer.write_logits(epoch, block, seeds=seeds, logits=logits, proof=proof)

    Stopped at any moment, the same loop goes on with the blocks that are missing.
    """

    path: str
    """The path or URL of the store."""
    spec: StoreSpec
    """Sizes and encoding; `spec.block_rows(block)` are the rows of a block."""
    blocks: range
    """The blocks that it may write, in every epoch."""

    def __init__(self, path: str | Path, *, exclusive: bool = True, blocks: range | None = None) -> None:
        """Raises as `open` does, `OutOfRange`, and `StoreLocked` where another run holds the store or the blocks."""
        self._store = open_store(path)
        self.path = self._store.path
        self.spec = self._store.spec
        self.blocks = range(self.spec.num_blocks) if blocks is None else blocks
        if not self.blocks or self.blocks.step != 1 or self.blocks.start < 0 or self.blocks.stop > self.spec.num_blocks:
            raise OutOfRange(f"{self.path} has blocks 0..{self.spec.num_blocks - 1}; {self.blocks} was requested")
        folder = self._store.storage.local_path
        self._lock = Lock(folder / LOCK_KEY, blocks=blocks) if exclusive and folder is not None else None
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

    def missing(self) -> list[tuple[int, int]]:
        """(epoch, block) of those of its blocks that are not committed now, in order: what is left to write."""
        return [(epoch, block) for epoch, block in self._store.missing() if block in self.blocks]

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

        **Arguments**

        - `seeds`: (n,) uint64, from which the views are drawn
        - `indices`: (n, k) integers, the selected classes, distinct in a row
        - `logprobs`: (n, k) natural log-probabilities, most probable first, then, under `hybrid`, plus infinity for
          drawn classes, then minus infinity for empty entries; under `sample` the logs of counts / draws
        - `tail`: (n,) natural log of the mass of all classes without a log-probability
        - `proof`: digest of the pixels of the block's first `spec.proof_rows` views, from 1 to 2**64 - 1; 1 where that
          is 0
        - `replace`: overwrite a committed block, which is absent from the first change until the new one is whole

        Raises `SpecError` for rows that do not fit, `BlockExists`, `StoreFull`, `StoreUnreachable`, `OutOfRange`.
        """
        if self._closed:
            raise StoreError(f"{self.path}: this writer is closed")
        require_epoch(self.spec, epoch)
        require_block(self.spec, block)
        where = self._where(epoch, block)
        if block not in self.blocks:
            raise OutOfRange(f"{where}: this writer is for blocks {self.blocks.start}..{self.blocks.stop - 1}")
        if not 0 < proof < 2**64:
            raise SpecError(f"{where}: proof is {proof}: it must be from 1 to 2**64 - 1")
        values = _stored_values(where, self.spec, block, seeds, indices, logprobs, tail)
        values[MARKERS] = np.array([proof], dtype="<u8")
        self._write_files(epoch, block, self._encode(epoch, block, values), replace=replace)

    def write_logits(
        self,
        epoch: int,
        block: int,
        *,
        seeds: NDArray[np.uint64],
        logits: NDArray[Any],
        proof: int,
        replace: bool = False,
    ) -> None:
        """`write` the top-k of dense logits, of a store whose selection is `topk`.

        **Arguments** logits: (n, C) floats, not NaN or plus infinity, in the order of the block's rows
        (log-probabilities will do as well, of an ensemble say the log of the mean probabilities); the others as of
        `write`.

        Raises as `write` does; `SpecError` also for logits that do not fit.
        """
        where = self._where(epoch, block)
        if self.spec.selection != "topk":
            raise SpecError(f"{where}: write_logits selects the top-k; the store's selection is {self.spec.selection}")
        require_block(self.spec, block)
        shape = (len(self.spec.block_rows(block)), self.spec.num_classes)
        if logits.shape != shape:
            raise SpecError(f"{where}: logits are {logits.shape}, expected {shape}")
        try:
            indices, logprobs, tail = select_topk(logits, k=self.spec.topk)
        except ValueError as error:
            raise SpecError(f"{where}: {error}") from None
        self.write(
            epoch, block, seeds=seeds, indices=indices, logprobs=logprobs, tail=tail, proof=proof, replace=replace
        )

    def write_copy(self, epoch: int, block: int, source: Store) -> None:
        """Commit a block of another store of the same spec, every byte of it verified. Raises as `write` does, and
        `DamagedBlock`."""
        write_id, files = source.files.raw(epoch, block)
        of_store = self._store.files
        self._write_files(
            epoch,
            block,
            {
                name: shard.readdressed(
                    data,
                    layout=of_store.layouts[name],
                    header=of_store.header(of_store.layouts[name], epoch, block, write_id=write_id),
                )
                for name, data in files.items()
            },
            replace=False,
        )

    def _write_files(self, epoch: int, block: int, encoded: dict[str, bytes], *, replace: bool) -> None:
        """Commit a block from the bytes of its files, by array, all of one write."""
        layouts = self._store.files.layouts
        files = [(layouts[name].key(epoch, block), encoded[name]) for name in BLOCK_FILES]
        self._store.storage.write_block(files, before=lambda: self._uncommit(epoch, block, replace=replace))

    def _encode(self, epoch: int, block: int, values: dict[str, NDArray[Any]]) -> dict[str, bytes]:
        write_id = shard.new_write_id()
        encoded = {}
        for name in BLOCK_FILES:
            layout = self._store.files.layouts[name]
            header = self._store.files.header(layout, epoch, block, write_id=write_id)
            encoded[name] = shard.encode_shard(values[name].astype(layout.dtype), layout=layout, header=header)
        return encoded

    def _uncommit(self, epoch: int, block: int, *, replace: bool) -> None:
        """A committed block is refused, or its marker deleted first, so that no marker ever commits half a block."""
        marker = self._store.files.layouts[MARKERS].key(epoch, block)
        if replace:
            self._store.storage.delete(marker)
        elif self._store.storage.has(marker):
            where = self._where(epoch, block)
            raise BlockExists(f"{where} is committed already: leave it, or write with replace=True")

    def _where(self, epoch: int, block: int) -> str:
        return f"{self.path}: epoch {epoch}, block {block}"


def writer(path: str | Path, *, exclusive: bool = True, blocks: range | None = None) -> Writer:
    """Open a store for writing, as a context manager.

    **Arguments** exclusive: take the store's lock; a run's further processes pass False and rely on the first; blocks:
    write only these, in any epoch, and lock no others, so that several runs may fill one store. There are no locks on
    object storage.

    Raises as `open` does, `OutOfRange` for blocks that the store does not have, and `StoreLocked`.
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
            expected = "integers" if kind == "iu" else "floats"
            raise SpecError(f"{where}: {name} is {array.dtype} {array.shape}, expected {expected} {shapes[name]}")
    if seeds.dtype.kind == "i" and int(seeds.min()) < 0:
        raise SpecError(f"{where}: seeds are negative")
    logprobs, tail = logprobs.astype(np.float32), tail.astype(np.float32)
    empty = np.isneginf(logprobs)
    classes = np.where(empty, 0, indices).astype(np.int64)
    for fault, wrong in _faults(classes, logprobs, tail, empty, spec=spec).items():
        if wrong.any():
            row = int(np.argmax(wrong)) + spec.block_rows(block).start
            raise SpecError(f"{where}: row {row}: {fault} ({int(wrong.sum())} such rows in the block)")
    full = np.isfinite(logprobs).sum(axis=1) == spec.num_classes
    stored_indices, stored_values = codec.encode_classes(classes, logprobs, spec=spec)
    return {
        "seeds": seeds.astype(np.uint64),
        "indices": stored_indices,
        "logprobs": stored_values,
        "tail": codec.encode_tail(np.where(full, np.float32(-np.inf), tail), spec=spec),
    }


def _faults(
    classes: NDArray[np.int64],
    logprobs: NDArray[np.float32],
    tail: NDArray[np.float32],
    empty: NDArray[np.bool_],
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
        f"a class is outside 0..{num_classes - 1}": ((classes < 0) | (classes >= num_classes)).any(axis=1),
        "a class occurs twice": repeated(classes, empty),
        f"selected classes and tail do not sum to 1 within {MASS_TOLERANCE}": ~(np.abs(mass - 1) <= MASS_TOLERANCE),
    }
    if spec.selection == "sample":
        counts = probabilities * spec.draws
        rules[f"weights are not counts of {spec.draws} draws"] = (np.abs(counts - np.rint(counts)) > 0.01).any(axis=1)
    return rules


def repeated(classes: NDArray[Any], empty: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which rows (n,) have a class twice among the entries that are not empty; both arguments are (n, k)."""
    # Empty entries get numbers of their own below 0.
    distinct = np.where(empty, -1 - np.arange(classes.shape[1]), classes.astype(np.int64))
    distinct.sort(axis=1)
    return np.asarray((distinct[:, 1:] == distinct[:, :-1]).any(axis=1))
