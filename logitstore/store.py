"""Read a store.

Opening reads a handful of small JSON files however large the store is. A reader keeps recently used inner chunks in
memory in coded form, so that reads scattered over a window of rows decompress each chunk once. What comes from disk is
verified by `blocks`; here it is put in order (`gather`) and decoded (`codec`).
"""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from logitstore.errors import DamagedBlock, MissingBlocks, NotAStore, OutOfRange, StoreError
from logitstore.format import codec
from logitstore.format.blocks import BlockFiles, Marker
from logitstore.format.cache import ChunkCache
from logitstore.format.gather import RowNumbers, gather, row_numbers
from logitstore.format.identity import VERSION_1, Identity
from logitstore.format.layout import BLOCK_ARRAYS, MARKERS, SAMPLE_ARRAYS, TAIL_ARRAYS
from logitstore.format.metadata import metadata_faults, read_root
from logitstore.ranges import compact
from logitstore.rows import Rows, TailModel
from logitstore.spec import StoreSpec
from logitstore.storage import Storage, is_url, open_storage

if TYPE_CHECKING:
    from zarr import Group

CACHE_BYTES = 64 * 2**20
"""Default bound of a reader's memory for inner chunks."""

Array = NDArray[Any]


def open(path: str | Path, *, cache_bytes: int = CACHE_BYTES) -> "Store":
    """Open a store for reading; costs the same for every size of store.

    **Arguments** path: a local path or an fsspec URL; cache_bytes: most memory for recently used chunks.

    Raises `StoreMissing`, `NotAStore`, `UnsupportedVersion` or `StoreUnreachable`.
    """
    storage = open_storage(path)
    spec, identity = read_root(storage)
    faults = metadata_faults(storage, spec, identity)
    if faults:
        key, fault = faults[0]
        raise NotAStore(f"{storage}: {key}: {fault}; `logitstore check` lists all faults")
    return Store(storage, spec=spec, identity=identity, cache_bytes=cache_bytes)


class Store:
    """A store opened for reading; a context manager. Use one per thread; it may be forked or pickled freely.

    Holds no open files: each read opens what it needs. Memory: the cache, and 8 bytes per block that was read.
    """

    storage: Storage
    """Where its files lie."""
    spec: StoreSpec
    """Sizes, encoding and provenance, as they were when it was opened."""

    def __init__(
        self, storage: Storage, *, spec: StoreSpec, identity: Identity, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self.storage = storage
        self.spec = spec
        self.files = BlockFiles(storage, spec=spec, identity=identity)
        self._cache_bytes = cache_bytes
        self._cache = ChunkCache(limit_bytes=cache_bytes)
        # By block, the write that its marker commits, 0 where not read yet; untouched pages take no memory.
        self._write_ids = np.zeros((spec.num_epochs, spec.num_blocks), dtype=np.uint64)

    @property
    def path(self) -> str:
        """The path or URL that the store was opened with."""
        return str(self.storage)

    @property
    def format_version(self) -> int:
        """Of the format that the store is written in. The files of version 1 do not name their store."""
        return self.files.identity.version

    def __reduce__(self) -> tuple[Callable[..., "Store"], tuple[str, StoreSpec, Identity, int]]:
        return _restore, (self.path, self.spec, self.files.identity, self._cache_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the cache's memory."""
        self._cache = ChunkCache(limit_bytes=self._cache_bytes)

    def done(self) -> NDArray[np.bool_]:
        """Which blocks are committed now, (E, B) bool. Lists one folder per epoch; reads no values."""
        done = np.zeros((self.spec.num_epochs, self.spec.num_blocks), dtype=bool)
        for epoch in self.storage.list_numbers(f"{MARKERS}/c"):
            if epoch < self.spec.num_epochs:
                blocks = self.storage.list_numbers(f"{MARKERS}/c/{epoch}")
                done[epoch, [block for block in blocks if block < self.spec.num_blocks]] = True
        return done

    def missing(self) -> list[tuple[int, int]]:
        """(epoch, block) of the blocks that are not committed now, in order: what is left to write."""
        return [(epoch, block) for epoch, block in np.argwhere(~self.done()).tolist()]

    def marker(self, epoch: int, block: int) -> Marker | None:
        """The block's marker, None where the block is absent. Raises `OutOfRange`, `DamagedBlock`."""
        require_epoch(self.spec, epoch)
        require_block(self.spec, block)
        return self.files.marker(epoch, block)

    def proof(self, epoch: int, block: int) -> int:
        """The block's proof, a digest of its first views' pixels; 0 where the block is absent.

        Raises `OutOfRange`, `DamagedBlock`.
        """
        marker = self.marker(epoch, block)
        return marker.proof if marker else 0

    def read(self, *, epoch: int, rows: RowNumbers) -> Rows:
        """Views of one stored epoch, n of them, in the requested order.

        **Arguments** epoch: 0 <= epoch < E; rows: a slice (clipped to the store, as for a list), a range, an integer,
        or (n,) integers in any order, with repetitions.

        **Returns** seeds (n,) uint64, indices (n, k) int64, log-probabilities (n, k) float32 and log tail mass (n,)
        float32, decoded.

        Raises `OutOfRange`, `MissingBlocks` (before anything is read), `DamagedBlock`, `StoreUnreachable`.
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

    def keys(self, rows: RowNumbers) -> NDArray[np.uint64]:
        """Key hashes of samples, (n,) uint64; rows as for `read`. Raises `OutOfRange`, `DamagedBlock`."""
        return self._samples(SAMPLE_ARRAYS[0], rows)

    def labels(self, rows: RowNumbers) -> NDArray[np.int32]:
        """Labels of samples, (n,) int32, -1 where unknown; rows as for `read`. Raises `OutOfRange`, `DamagedBlock`."""
        labels = self._samples(SAMPLE_ARRAYS[1], rows)
        if len(labels) and not -1 <= labels.min() <= labels.max() < self.spec.num_labels:
            raise DamagedBlock(
                f"{self.path}: {SAMPLE_ARRAYS[1]} holds labels from {labels.min()} to {labels.max()}, where "
                f"-1..{self.spec.num_labels - 1} belong: no correct writer made them"
            )
        return labels

    def tail_model(self) -> TailModel | None:
        """The average distribution outside the selected classes; None where the store has no such model.

        Raises `DamagedBlock`.
        """
        if not self.spec.tail_groups:
            return None
        groups, logprobs = (np.concatenate(list(self.files.static_parts(name))) for name in TAIL_ARRAYS)
        return TailModel(groups=groups.astype(np.int64), logprobs=logprobs.astype(np.float32))

    def zarr(self) -> "Group":
        """The store's arrays as a read-only group of zarr-python (version 3), for xarray, dask and other zarr readers.

        E epochs, N rows, k entries per view, B blocks per epoch; `dimension_names` of the arrays say the same.

        | array | shape | value |
        |---|---|---|
        | `seeds` | (E, N) uint64 | the views' seeds, as `read` returns them |
        | `samples/keys`, `samples/labels` | (N,) uint64, int32 | as `keys` and `labels` return them |
        | `proofs` | (E, B) uint64 | 0 where a block is absent |
        | `indices` | (E, N, k) | encoded: class numbers, those of equally probable neighbours as differences |
        | `logprobs` | (E, N, k) | encoded as `spec.encoding` says; `log8`: differences of codes |
        | `tail` | (E, N) | encoded as `spec.encoding` says |

        docs/format.md defines the encodings and has lines that decode `log8`; `read` decodes all of them. Zarr reads
        absent blocks as zeros, so look at `proofs`; it verifies the checksums of chunks, but not the headers of shards.
        With a tail model there are also `tail_model/groups` and `tail_model/logprobs`.

            group = logitstore.open("teacher.zarr").zarr()
            written = group["proofs"][:] != 0                       # (E, B) bool
            seeds = group["seeds"][0, :256]                         # (256,) uint64
            dask.array.from_zarr(group["seeds"])                    # (E, N), read when it is computed
            xarray.open_zarr(group.store, consolidated=False)       # dimensions epoch, row, kept and block

        Raises `StoreError` where zarr cannot read the kind of URL that the store has.
        """
        import zarr
        import zarr.storage

        try:
            source = (
                zarr.storage.FsspecStore.from_url(self.path, read_only=True)
                if self.storage.local_path is None
                else zarr.storage.LocalStore(self.storage.local_path, read_only=True)
            )
            return zarr.open_group(source, mode="r", zarr_format=3, use_consolidated=False)
        except Exception as error:  # Drivers have errors of their own.
            raise StoreError(
                f"{self.path}: zarr cannot read it there ({type(error).__name__}: {error}): copy it to a disk with "
                "`logitstore copy`, or read it with `Store.read`"
            ) from error

    def _samples(self, name: str, rows: RowNumbers) -> Array:
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
        for block in (int(b) for b in blocks if self._write_ids[epoch, b] == 0):
            marker = self.files.marker(epoch, block)
            if marker is None:
                missing.append(block)
            else:
                self._write_ids[epoch, block] = marker.write_id
        if missing:
            raise MissingBlocks(
                f"{self.path}: epoch {epoch} lacks blocks {compact(missing)} "
                f"({len(missing)} of those requested): run the teacher pass again to write them"
            )

    def _load_block(self, epoch: int, block: int, slots: list[int]) -> dict[int, tuple[Array, ...]]:
        write_id = int(self._write_ids[epoch, block])
        try:
            return self.files.block(epoch, block, slots, write_id=write_id)
        except DamagedBlock:
            # Since its marker was read the block may have been replaced, or dropped by a repair.
            self._write_ids[epoch, block] = 0
            self._require_present(epoch, np.array([block]))
            if int(self._write_ids[epoch, block]) == write_id:
                raise
            return self.files.block(epoch, block, slots, write_id=int(self._write_ids[epoch, block]))


def version_limits(store: Store) -> str | None:
    """What the format of an old store cannot vouch for, as a sentence; None for the newest version."""
    if store.format_version > VERSION_1.version:
        return None
    return (
        "format version 1: its files do not name their store, so another store's block, samples or tail model in their "
        "place go unnoticed; `logitstore upgrade OLD NEW` makes a store of the newest version"
    )


def require_epoch(spec: StoreSpec, epoch: int) -> None:
    """Raises `OutOfRange` outside 0 <= epoch < E."""
    if not 0 <= epoch < spec.num_epochs:
        raise OutOfRange(f"the store has epochs 0..{spec.num_epochs - 1}; epoch {epoch} was requested")


def require_block(spec: StoreSpec, block: int) -> None:
    """Raises `OutOfRange` outside 0 <= block < B."""
    if not 0 <= block < spec.num_blocks:
        raise OutOfRange(f"the store has blocks 0..{spec.num_blocks - 1}; block {block} was requested")


def _restore(path: str, spec: StoreSpec, identity: Identity, cache_bytes: int) -> Store:
    storage = open_storage(path if is_url(path) else Path(path))
    return Store(storage, spec=spec, identity=identity, cache_bytes=cache_bytes)
