"""Make an empty store, and add epochs to a finished one.

A store appears at once or not at all. On a disk everything is made under a temporary name and renamed; on object
storage the root's metadata, without which there is no store, is written last.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from logitstore.errors import NotAStore, SpecError, StoreConflict, StoreExists, StoreMissing
from logitstore.format import shard
from logitstore.format.identity import Identity
from logitstore.format.layout import (
    ROOT_DOCUMENT,
    SAMPLE_ARRAYS,
    SAMPLE_SHARD_ROWS,
    TAIL_ARRAYS,
    arrays,
    documents,
    static_arrays,
)
from logitstore.format.metadata import metadata_faults, read_root
from logitstore.lock import locked
from logitstore.rows import TailModel
from logitstore.spec import StoreSpec, differences
from logitstore.storage import Storage, local, open_storage
from logitstore.storage.atomic import atomic_path
from logitstore.store import Store
from logitstore.store import open as open_store

Array = NDArray[Any]


def create(
    path: str | Path,
    spec: StoreSpec,
    *,
    keys: ArrayLike,
    labels: ArrayLike,
    tail_model: TailModel | None = None,
    exist_ok: bool = False,
) -> None:
    """Make an empty store: metadata, sample keys and labels, no blocks.

    A killed `create` leaves no store at `path`. Memory beyond the arguments' own does not grow with N; arguments
    may be memory maps.

    **Arguments**

    - `path`: a local path or an fsspec URL
    - `keys`: (N,) integers from 0 to 2**64 - 1, a hash of each sample's name
    - `labels`: (N,) int32, -1 where unknown
    - `tail_model`: of `spec.tail_groups` distributions; None where that is 0
    - `exist_ok`: leave a store that is at `path` already as it is, with all that was written to it, where it has the
      same spec (but for `software`), keys and labels: for programs that continue what they began

    Raises `StoreExists` where anything is at `path`, or, with `exist_ok`, `StoreConflict` where that is a store of
    something else; `SpecError` where keys, labels or tail model do not fit the spec; `StoreFull`; `StoreUnreachable`.
    """
    storage = open_storage(path)
    if exist_ok and storage.has(ROOT_DOCUMENT):
        _require_same(open_store(path), spec, keys=keys, labels=labels)
        return
    _require_absent(storage)
    columns = {
        SAMPLE_ARRAYS[0]: _column("keys", keys, np.dtype("<u8"), spec, lowest=0),
        SAMPLE_ARRAYS[1]: _column("labels", labels, np.dtype("<i4"), spec, lowest=-1),
    }
    if spec.tail_groups or tail_model is not None:
        columns |= _tail_columns(tail_model, spec)
    _create(path, spec, columns)


def create_like(path: str | Path, store: Store, *, spec: StoreSpec | None = None) -> None:
    """Make an empty store with the samples, and the tail model, of another one; with its spec, unless another is given.

    Raises as `create` does, and `DamagedBlock`.
    """
    spec = spec or store.spec
    _create(path, spec, {name: store.files.static_parts(name) for name in static_arrays(spec)})


def open_existing(path: str | Path) -> Store | None:
    """The store at `path`, None where nothing is there. Raises as `open` does otherwise."""
    try:
        return open_store(path)
    except StoreMissing:
        return None


def require_spec(store: Store, spec: StoreSpec) -> None:
    """Raises `StoreConflict`, with the lines of what differs, where a store has another spec than the requested one."""
    if lines := differences(store.spec, spec):
        text = "\n  ".join(lines)
        raise StoreConflict(f"{store.path} is a store of something else; nothing was written to it\n  {text}")


def grow(path: str | Path, *, epochs: int) -> StoreSpec:
    """Add epochs to a store; what it holds stays as it is. The new epochs are absent until they are written.

    The arrays' metadata is widened first and the root's spec replaced last, in one step: killed in between, the
    store is the old one, and growing it again finishes the work.

    **Arguments** epochs: how many it shall have in all, not fewer than now (the same number changes nothing).

    **Returns** the spec after that. Raises as `open` does, `SpecError`, `StoreLocked`, `StoreFull`.
    """
    storage = open_storage(path)
    with locked(storage):
        spec, identity = read_root(storage)
        faults = metadata_faults(storage, spec, identity)
        if faults:
            raise NotAStore(f"{storage}: {faults[0][0]}: {faults[0][1]}; `logitstore check` lists all faults")
        if epochs < spec.num_epochs:
            raise SpecError(
                f"{storage} has {spec.num_epochs} epochs and cannot shrink to {epochs}: "
                "`logitstore copy --epochs` makes a store with fewer of them written"
            )
        grown = replace(spec, num_epochs=epochs)
        if epochs > spec.num_epochs:
            _write_documents(storage, grown, identity)
    return grown


def _create(path: str | Path, spec: StoreSpec, columns: dict[str, Iterator[Array]]) -> None:
    storage = open_storage(path)
    _require_absent(storage)
    target = storage.local_path
    if target is None:
        _write_columns(storage, spec, columns)
        return
    with local.disk_errors(target, "creating"):
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target, folder=True) as temporary:
            _write_columns(open_storage(temporary), spec, columns)


def _require_absent(storage: Storage) -> None:
    """Raises `StoreExists`. On object storage the files that a killed `create` left are overwritten."""
    if not storage.exists():
        return
    of_create = {"samples", "tail_model", "seeds", "indices", "logprobs", "tail", "proofs"}
    names = set(storage.list_names())
    if storage.local_path is not None or not names <= of_create or storage.list_names("proofs/c"):
        raise StoreExists(f"{storage} exists already: choose another path, or open it to continue it")


def _require_same(store: Store, spec: StoreSpec, *, keys: ArrayLike, labels: ArrayLike) -> None:
    """Raises `StoreConflict` where a store has another spec or other samples."""
    require_spec(store, spec)
    for name, values in zip(SAMPLE_ARRAYS, (keys, labels), strict=True):
        column, first = np.asarray(values), 0
        for part in store.files.static_parts(name):
            if not np.array_equal(part, column[first : first + len(part)]):
                raise StoreConflict(f"{store.path} is a store of something else: {name} differ; nothing was written")
            first += len(part)
        if first != len(column):
            raise StoreConflict(f"{store.path} has {first} samples, not {len(column)}; nothing was written")


def _write_columns(storage: Storage, spec: StoreSpec, columns: dict[str, Iterator[Array]]) -> None:
    """The arrays that are written at creation, then the metadata."""
    layouts, identity = arrays(spec), Identity.new(spec)
    for name, parts in columns.items():
        write_id = shard.new_write_id()
        for part, values in enumerate(parts):
            header = shard.Header(
                array_number=layouts[name].number, epoch=0, block=part, write_id=write_id, identity=identity
            )
            storage.write(layouts[name].key(0, part), shard.encode_shard(values, layout=layouts[name], header=header))
    _write_documents(storage, spec, identity)


def _write_documents(storage: Storage, spec: StoreSpec, identity: Identity) -> None:
    by_key = documents(spec, identity)
    assert list(by_key)[-1] == ROOT_DOCUMENT
    for key, document in by_key.items():
        storage.write(key, json.dumps(document, indent=1).encode())


def _tail_columns(model: TailModel | None, spec: StoreSpec) -> dict[str, Iterator[Array]]:
    """The tail model's arrays, checked."""
    if model is None:
        raise SpecError(f"tail_groups is {spec.tail_groups}: give a tail model of so many distributions")
    shape = (spec.tail_groups, spec.num_classes)
    if model.logprobs.shape != shape or model.groups.shape != (spec.num_classes,):
        raise SpecError(
            f"the tail model has {model.logprobs.shape} log-probabilities and {model.groups.shape} groups, "
            f"the spec requires {shape} and {shape[1:]}"
        )
    if not ((model.groups >= 0) & (model.groups < spec.tail_groups)).all():
        raise SpecError(f"the tail model has a group outside 0..{spec.tail_groups - 1}")
    halves = model.logprobs.astype("<f2")
    if not np.isfinite(halves).all() or not np.allclose(np.exp(halves.astype(np.float64)).sum(axis=1), 1, atol=0.01):
        raise SpecError("the tail model has a distribution that is not finite or does not sum to 1")
    return dict(zip(TAIL_ARRAYS, (iter([model.groups.astype("<u2")]), iter([halves])), strict=True))


def _column(name: str, values: ArrayLike, dtype: np.dtype[Any], spec: StoreSpec, *, lowest: int) -> Iterator[Array]:
    """A sample column, checked, in the parts that its files hold."""
    column = np.asarray(values)
    if column.shape != (spec.num_samples,) or column.dtype.kind not in "iu":
        raise SpecError(f"{name} must be {spec.num_samples} integers, not {column.dtype} {column.shape}")
    parts = [slice(first, first + SAMPLE_SHARD_ROWS) for first in range(0, len(column), SAMPLE_SHARD_ROWS)]
    for part in parts:
        low, high = int(column[part].min()), int(column[part].max())
        if low < np.iinfo(dtype).min or high > np.iinfo(dtype).max:
            raise SpecError(f"{name} do not fit {dtype.name}")
        if low < lowest:
            raise SpecError(f"{name} hold values below {lowest}: use -1 for unknown")
    return (column[part].astype(dtype) for part in parts)
