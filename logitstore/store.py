"""Read a store.

Opening reads a handful of small JSON files however large the store is. A reader keeps recently used inner chunks in
memory as they are coded, so reads scattered over a window of rows decompress each chunk once. What comes from disk is
verified by `blocks`; here it is put in order (`gather`) and decoded (`codec`).
"""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from logitstore.errors import DamagedBlock, MissingBlocks, NotAStore, OutOfRange
from logitstore.format import codec
from logitstore.format.blocks import BlockFiles, Marker
from logitstore.format.cache import Cache
from logitstore.format.gather import RowsLike, gather, row_numbers
from logitstore.format.layout import BLOCK_ARRAYS, MARKERS, SAMPLE_ARRAYS, TAIL_ARRAYS
from logitstore.format.metadata import metadata_faults, read_spec
from logitstore.ranges import compact
from logitstore.rows import Rows, TailModel
from logitstore.spec import StoreSpec
from logitstore.storage import local
from logitstore.storage.folder import Folder

CACHE_BYTES = 64 * 2**20
"""Default bound of a reader's memory for inner chunks."""

Array = NDArray[Any]


def open(path: str | Path, *, cache_bytes: int = CACHE_BYTES) -> "Store":
    """Open a store for reading; costs the same for every size of store.

    **Arguments** path: a local path or an fsspec URL.

    Raises `StoreMissing`, `NotAStore`, `UnsupportedVersion` or `StoreUnreachable`.
    """
    folder = local.at(path)
    spec = read_spec(folder)
    faults = metadata_faults(folder, spec)
    if faults:
        key, what = faults[0]
        raise NotAStore(f"{folder}: {key}: {what}; `logitstore check` lists all faults")
    return Store(folder, spec=spec, cache_bytes=cache_bytes)


class Store:
    """A store opened for reading. Use one per thread; it may be forked or pickled freely.

    Holds no open files: each read opens what it needs. Memory: the cache, and 8 bytes a block that was read.
    """

    folder: Folder
    spec: StoreSpec

    def __init__(self, folder: Folder, *, spec: StoreSpec, cache_bytes: int = CACHE_BYTES) -> None:
        self.folder = folder
        self.spec = spec
        self.files = BlockFiles(folder, spec=spec)
        self._cache_bytes = cache_bytes
        self._cache = Cache(limit_bytes=cache_bytes)
        # Acts of writing that markers vouched for, 0 where not asked yet; untouched pages take no memory.
        self._writings = np.zeros((spec.num_epochs, spec.num_blocks), dtype=np.uint64)

    @property
    def path(self) -> str:
        """Where the store lies, as it was named."""
        return str(self.folder)

    def __reduce__(self) -> tuple[Callable[..., "Store"], tuple[str, StoreSpec, int]]:
        return _restore, (self.path, self.spec, self._cache_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the cache's memory back."""
        self._cache = Cache(limit_bytes=self._cache_bytes)

    def done(self) -> NDArray[np.bool_]:
        """Which blocks are committed, bool (E, B). Lists one folder an epoch; reads no values."""
        present = np.zeros((self.spec.num_epochs, self.spec.num_blocks), dtype=bool)
        for epoch in range(self.spec.num_epochs):
            blocks = self.folder.numbered(f"{MARKERS}/c/{epoch}")
            present[epoch, [b for b in blocks if b < self.spec.num_blocks]] = True
        return present

    def marker(self, epoch: int, block: int) -> Marker | None:
        """The block's marker, None where the block is absent. Raises `OutOfRange`, `DamagedBlock`."""
        require_epoch(self.spec, epoch)
        require_block(self.spec, block)
        return self.files.marker(epoch, block)

    def proof(self, epoch: int, block: int) -> int:
        """The block's proof, 0 where the block is absent. Raises `OutOfRange`, `DamagedBlock`."""
        marker = self.marker(epoch, block)
        return marker.proof if marker else 0

    def read(self, *, epoch: int, rows: RowsLike) -> Rows:
        """Views of one stored epoch, in the order asked for.

        **Arguments** rows: a slice (clipped to the store, as for a list), a range, an integer, or integers of
        any order with repetitions.

        Raises `OutOfRange`, `MissingBlocks` (before anything is read), `DamagedBlock`.
        """
        require_epoch(self.spec, epoch)
        wanted = row_numbers(rows, num_samples=self.spec.num_samples, store=self.path)
        self._require_present(epoch, np.unique(wanted // self.spec.rows_per_block))
        seeds, indices, codes, tail = gather(
            wanted,
            layouts=[self.files.layouts[name] for name in BLOCK_ARRAYS],
            load=lambda block, slots: self._load_block(epoch, block, slots),
            cache=self._cache,
            cache_key=epoch,
        )
        logprobs, log_tail = codec.decode(codes, tail, spec=self.spec)
        drawn = None if self.spec.selection == "topk" else codec.is_drawn(codes, spec=self.spec)
        return Rows(
            seeds=seeds,
            indices=indices.astype(np.int64),
            logprobs=logprobs,
            tail=log_tail,
            num_classes=self.spec.num_classes,
            drawn=drawn,
        )

    def keys(self, rows: RowsLike) -> NDArray[np.uint64]:
        """Key hashes, (n,) uint64. Raises `OutOfRange`, `DamagedBlock`."""
        return self._samples(SAMPLE_ARRAYS[0], rows)

    def labels(self, rows: RowsLike) -> NDArray[np.int32]:
        """Labels, (n,) int32, -1 where unknown. Raises `OutOfRange`, `DamagedBlock`."""
        return self._samples(SAMPLE_ARRAYS[1], rows)

    def tail_model(self) -> TailModel | None:
        """What the teacher says outside the kept classes, on the average; None where the store has no such model.

        Raises `DamagedBlock`.
        """
        if not self.spec.tail_groups:
            return None
        groups, logprobs = (np.concatenate(list(self.files.once_parts(name))) for name in TAIL_ARRAYS)
        return TailModel(groups=groups.astype(np.int64), logprobs=logprobs.astype(np.float32))

    def _samples(self, name: str, rows: RowsLike) -> Array:
        (values,) = gather(
            row_numbers(rows, num_samples=self.spec.num_samples, store=self.path),
            layouts=[self.files.layouts[name]],
            load=lambda part, slots: {s: (c,) for s, c in self.files.shard(name, 0, part, slots)[1].items()},
            cache=self._cache,
            cache_key=name,
        )
        return values

    def _require_present(self, epoch: int, blocks: NDArray[np.int64]) -> None:
        missing = []
        for block in (int(b) for b in blocks if self._writings[epoch, b] == 0):
            marker = self.files.marker(epoch, block)
            if marker is None:
                missing.append(block)
            else:
                self._writings[epoch, block] = marker.writing
        if missing:
            raise MissingBlocks(
                f"{self.path}: epoch {epoch} lacks blocks {compact(missing)} "
                f"({len(missing)} of those asked for): run the teacher pass again to write them"
            )

    def _load_block(self, epoch: int, block: int, slots: list[int]) -> dict[int, tuple[Array, ...]]:
        writing = int(self._writings[epoch, block])
        try:
            return self.files.block(epoch, block, slots, writing=writing)
        except DamagedBlock:
            # Since its marker was read the block may have been replaced, or repaired away.
            self._writings[epoch, block] = 0
            self._require_present(epoch, np.array([block]))
            if int(self._writings[epoch, block]) == writing:
                raise
            return self.files.block(epoch, block, slots, writing=int(self._writings[epoch, block]))


def require_epoch(spec: StoreSpec, epoch: int) -> None:
    """Raises `OutOfRange` outside 0 <= epoch < E."""
    if not 0 <= epoch < spec.num_epochs:
        raise OutOfRange(f"the store has epochs 0..{spec.num_epochs - 1}; epoch {epoch} was asked for")


def require_block(spec: StoreSpec, block: int) -> None:
    """Raises `OutOfRange` outside 0 <= block < B."""
    if not 0 <= block < spec.num_blocks:
        raise OutOfRange(f"the store has blocks 0..{spec.num_blocks - 1}; block {block} was asked for")


def _restore(path: str, spec: StoreSpec, cache_bytes: int) -> Store:
    return Store(local.at(path if local.is_url(path) else Path(path)), spec=spec, cache_bytes=cache_bytes)
