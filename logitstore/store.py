"""Make a store, and read one.

`create` lays out an empty store at once or not at all; `writer` (in its own module) fills it block by block;
`open` reads it. Opening reads a handful of small JSON files however large the store is. A reader keeps
recently used inner chunks in memory as they are coded, so reads scattered over a window of rows decompress
each chunk once.
"""

import json
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from logitstore import codec, files, shard
from logitstore.cache import Cache
from logitstore.errors import DamagedBlock, MissingBlocks, NotAStore, OutOfRange, SpecError, StoreExists
from logitstore.layout import BLOCK_ARRAYS, MARKERS, SAMPLE_ARRAYS, ArrayLayout, arrays, documents
from logitstore.metadata import metadata_faults, read_spec
from logitstore.ranges import compact
from logitstore.rows import Rows
from logitstore.spec import StoreSpec

CACHE_BYTES = 64 * 2**20
"""Default bound of a reader's memory for inner chunks."""

RowsLike = slice | range | int | ArrayLike
Array = NDArray[Any]


def create(path: str | Path, spec: StoreSpec, *, keys: ArrayLike, labels: ArrayLike) -> None:
    """Lay out an empty store: metadata, sample keys and labels, no blocks.

    Everything is made under a temporary name beside `path` and renamed at the end, so that a killed `create`
    leaves nothing at `path`.

    **Arguments** keys: (N,) uint64 key hashes; labels: (N,) int32, -1 where unknown.

    Raises `StoreExists` when there is anything at `path`, `SpecError` when keys or labels do not fit the
    spec, `StoreFull`.
    """
    path = Path(path)
    if path.exists() or path.is_symlink():
        raise StoreExists(f"{path} exists already: choose another path, or open it to continue it")
    columns = [
        _column("keys", keys, np.dtype("<u8"), spec),
        _column("labels", labels, np.dtype("<i4"), spec),
    ]
    if columns[1].min(initial=0) < -1:
        raise SpecError("labels hold values below -1: use -1 for unknown")
    with files.disk_errors(path, "creating"):
        path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(f".{path.name}.{secrets.token_hex(4)}{files.TEMPORARY}")
    try:
        layouts = arrays(spec)
        for name, values in zip(SAMPLE_ARRAYS, columns, strict=True):
            _write_samples(building, layouts[name], values)
        for key, document in documents(spec).items():
            files.write(building / key, json.dumps(document, indent=1).encode())
        with files.disk_errors(path, "creating"):
            building.rename(path)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def open(path: str | Path, *, cache_bytes: int = CACHE_BYTES) -> "Store":
    """Open a store for reading; costs the same for every size of store.

    Raises `StoreMissing`, `NotAStore` or `UnsupportedVersion`.
    """
    path = Path(path)
    spec = read_spec(path)
    faults = metadata_faults(path, spec)
    if faults:
        key, what = faults[0]
        raise NotAStore(f"{path}: {key}: {what}; `logitstore check` lists all faults")
    return Store(path, spec=spec, cache_bytes=cache_bytes)


class Store:
    """A store opened for reading. Use one per thread; it may be forked or pickled freely.

    Holds no open files: each read opens what it needs. Nothing here grows with N * E.
    """

    path: Path
    spec: StoreSpec

    def __init__(self, path: Path, *, spec: StoreSpec, cache_bytes: int = CACHE_BYTES) -> None:
        self.path = path
        self.spec = spec
        self._layouts = arrays(spec)
        self._cache_bytes = cache_bytes
        self._cache = Cache(limit_bytes=cache_bytes)
        self._seen = np.zeros((spec.num_epochs, spec.num_blocks), dtype=bool)

    def __reduce__(self) -> tuple[Callable[..., "Store"], tuple[Path, StoreSpec, int]]:
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
            blocks = files.numbered(self.path / MARKERS / "c" / str(epoch))
            present[epoch, [b for b in blocks if b < self.spec.num_blocks]] = True
        return present

    def proof(self, epoch: int, block: int) -> int:
        """The block's proof, 0 where the block is absent. Raises `OutOfRange`, `DamagedBlock`."""
        require_epoch(self.spec, epoch)
        require_block(self.spec, block)
        layout = self._layouts[MARKERS]
        try:
            data = (self.path / layout.key(epoch, block)).read_bytes()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise self._damaged(layout, epoch, block, f"cannot be read ({error.strerror})") from None
        try:
            value = int(shard.decode_chunk(data, layout=layout, rows=1)[0])
        except shard.BadBytes as error:
            raise self._damaged(layout, epoch, block, str(error)) from None
        if value == 0:
            raise self._damaged(layout, epoch, block, "the marker is there but holds 0")
        return value

    def read(self, *, epoch: int, rows: RowsLike) -> Rows:
        """Views of one stored epoch, in the order asked for.

        **Arguments** rows: a slice (clipped to the store, as for a list), a range, an integer, or integers of
        any order with repetitions.

        Raises `OutOfRange`, `MissingBlocks` (before anything is read), `DamagedBlock`.
        """
        require_epoch(self.spec, epoch)
        wanted = self._rows(rows)
        self._require_present(epoch, np.unique(wanted // self.spec.rows_per_block))
        seeds, indices, codes, tail = self._gather(
            wanted,
            names=BLOCK_ARRAYS,
            shard_rows=self.spec.rows_per_block,
            inner_rows=self.spec.inner_rows,
            load=lambda block, slots: self._load_block(epoch, block, slots),
            cache_key=epoch,
        )
        logprobs, log_tail = codec.decode(codes, tail, spec=self.spec)
        return Rows(
            seeds=seeds,
            indices=indices.astype(np.int64),
            logprobs=logprobs,
            tail=log_tail,
            num_classes=self.spec.num_classes,
        )

    def keys(self, rows: RowsLike) -> NDArray[np.uint64]:
        """Key hashes, (n,) uint64. Raises `OutOfRange`, `DamagedBlock`."""
        return self._samples(SAMPLE_ARRAYS[0], rows)

    def labels(self, rows: RowsLike) -> NDArray[np.int32]:
        """Labels, (n,) int32, -1 where unknown. Raises `OutOfRange`, `DamagedBlock`."""
        return self._samples(SAMPLE_ARRAYS[1], rows)

    def _samples(self, name: str, rows: RowsLike) -> Array:
        layout = self._layouts[name]
        (values,) = self._gather(
            self._rows(rows),
            names=(name,),
            shard_rows=layout.shard_rows,
            inner_rows=layout.inner_rows,
            load=lambda block, slots: {s: (c,) for s, c in self.load_shard(name, 0, block, slots)[1].items()},
            cache_key=name,
        )
        return values

    def _rows(self, rows: RowsLike) -> NDArray[np.int64]:
        limit = self.spec.num_samples
        if isinstance(rows, slice):
            rows = range(*rows.indices(limit))
        if isinstance(rows, range):
            wanted = np.arange(rows.start, rows.stop, rows.step, dtype=np.int64)
        else:
            wanted = np.atleast_1d(np.asarray(rows))
            if wanted.size == 0:
                wanted = wanted.astype(np.int64)
        if wanted.ndim != 1 or wanted.dtype.kind not in "iu":
            raise OutOfRange(f"rows must be integers in one dimension, not {wanted.dtype} {wanted.shape}")
        if wanted.size and (wanted.min() < 0 or wanted.max() >= limit):
            bad = int(wanted.min()) if wanted.min() < 0 else int(wanted.max())
            raise OutOfRange(f"{self.path} has rows 0..{limit - 1}; row {bad} was asked for")
        return wanted.astype(np.int64, copy=False)

    def _require_present(self, epoch: int, blocks: NDArray[np.int64]) -> None:
        unseen = [int(b) for b in blocks if not self._seen[epoch, b]]
        missing = [b for b in unseen if self.proof(epoch, b) == 0]
        if missing:
            raise MissingBlocks(
                f"{self.path}: epoch {epoch} lacks blocks {compact(missing)} "
                f"({len(missing)} of those asked for): run the teacher pass again to write them"
            )
        self._seen[epoch, unseen] = True

    def _gather(
        self,
        wanted: NDArray[np.int64],
        *,
        names: tuple[str, ...],
        shard_rows: int,
        inner_rows: int,
        load: Callable[[int, list[int]], dict[int, tuple[Array, ...]]],
        cache_key: int | str,
    ) -> list[Array]:
        """Collect rows from inner chunks, shard by shard, through the cache."""
        layouts = [self._layouts[name] for name in names]
        out = [np.empty((len(wanted), *layout.row_shape), dtype=layout.dtype) for layout in layouts]
        if not len(wanted):
            return out
        chunks = wanted // inner_rows
        order = np.argsort(chunks, kind="stable")
        ordered = chunks[order]
        starts = np.flatnonzero(np.diff(ordered, prepend=-1))
        ends = np.append(starts[1:], len(ordered))
        per_shard = shard_rows // inner_rows
        needed = [int(c) for c in ordered[starts]]
        loaded: dict[int, tuple[Array, ...]] = {}
        for at, (chunk, start, end) in enumerate(zip(needed, starts, ends, strict=True)):
            values = loaded.get(chunk) or self._cache.get((cache_key, chunk))
            if values is None:
                block = chunk // per_shard
                group = [c for c in needed[at : at + per_shard] if c // per_shard == block]
                slots = [c % per_shard for c in group if not self._cache.holds((cache_key, c))]
                loaded = {block * per_shard + s: v for s, v in load(block, slots).items()}
                for c, v in loaded.items():
                    self._cache.put((cache_key, c), v)
                values = loaded[chunk]
            places = order[start:end]
            local = wanted[places] - chunk * inner_rows
            for target, source in zip(out, values, strict=True):
                target[_run(places)] = source[_run(local)]
        return out

    def _load_block(self, epoch: int, block: int, slots: list[int]) -> dict[int, tuple[Array, ...]]:
        """Inner chunks of a committed block by slot: seeds, indices, codes, tail codes."""
        parts, writings = [], set()
        for name in BLOCK_ARRAYS:
            writing, chunks = self.load_shard(name, epoch, block, slots)
            writings.add(writing)
            parts.append({s: codec.codes_of(c) for s, c in chunks.items()} if name == "logprobs" else chunks)
        if len(writings) > 1:
            layout = self._layouts[BLOCK_ARRAYS[0]]
            raise self._damaged(layout, epoch, block, "the block's files come from different acts of writing")
        return {slot: tuple(part[slot] for part in parts) for slot in slots}

    def load_shard(self, name: str, epoch: int, block: int, slots: list[int]) -> tuple[int, dict[int, Array]]:
        """Inner chunks of one file as stored, with the id of the act of writing. Raises `DamagedBlock`."""
        layout = self._layouts[name]
        rows = min(layout.shard_rows, self.spec.num_samples - block * layout.shard_rows)
        place = shard.Place(number=layout.number, epoch=epoch, block=block, writing=0)
        try:
            with files.reading(self.path / layout.key(epoch, block)) as (read, size):
                return shard.decode_shard(read, size, layout=layout, place=place, rows=rows, slots=slots)
        except FileNotFoundError:
            raise self._damaged(layout, epoch, block, "the file is missing") from None
        except OSError as error:
            raise self._damaged(layout, epoch, block, f"cannot be read ({error.strerror})") from None
        except shard.BadBytes as error:
            raise self._damaged(layout, epoch, block, str(error)) from None

    def _damaged(self, layout: ArrayLayout, epoch: int, block: int, what: str) -> DamagedBlock:
        where = f"{self.path}: array {layout.path}, "
        where += f"epoch {epoch}, block {block}" if "E" in layout.dims else f"part {block}"
        if layout.path in SAMPLE_ARRAYS:
            advice = "this array is written once, at creation: restore the file from a copy"
        else:
            advice = f"delete {MARKERS}/c/{epoch}/{block} in it and run the teacher pass again to redo the block"
        return DamagedBlock(f"{where}: {what} ({layout.key(epoch, block)}); {advice}")


def require_epoch(spec: StoreSpec, epoch: int) -> None:
    """Raises `OutOfRange` outside 0 <= epoch < E."""
    if not 0 <= epoch < spec.num_epochs:
        raise OutOfRange(f"the store has epochs 0..{spec.num_epochs - 1}; epoch {epoch} was asked for")


def require_block(spec: StoreSpec, block: int) -> None:
    """Raises `OutOfRange` outside 0 <= block < B."""
    if not 0 <= block < spec.num_blocks:
        raise OutOfRange(f"the store has blocks 0..{spec.num_blocks - 1}; block {block} was asked for")


def _restore(path: Path, spec: StoreSpec, cache_bytes: int) -> Store:
    return Store(path, spec=spec, cache_bytes=cache_bytes)


def _run(places: NDArray[np.int64]) -> NDArray[np.int64] | slice:
    """A slice where the positions are consecutive: numpy copies it several times faster."""
    first, last = int(places[0]), int(places[-1])
    consecutive = last - first + 1 == len(places) and (len(places) < 3 or bool((np.diff(places) == 1).all()))
    return slice(first, last + 1) if consecutive else places


def _column(name: str, values: ArrayLike, dtype: np.dtype[Any], spec: StoreSpec) -> Array:
    column = np.asarray(values)
    if column.shape != (spec.num_samples,) or column.dtype.kind not in "iu":
        raise SpecError(f"{name} must be {spec.num_samples} integers, not {column.dtype} {column.shape}")
    limits = np.iinfo(dtype)
    if int(column.min()) < limits.min or int(column.max()) > limits.max:
        raise SpecError(f"{name} do not fit {dtype.name}")
    return column.astype(dtype)


def _write_samples(root: Path, layout: ArrayLayout, values: Array) -> None:
    writing = secrets.randbits(64)
    for part, first in enumerate(range(0, len(values), layout.shard_rows)):
        place = shard.Place(number=layout.number, epoch=0, block=part, writing=writing)
        data = shard.encode_shard(values[first : first + layout.shard_rows], layout=layout, place=place)
        files.write(root / layout.key(0, part), data)
