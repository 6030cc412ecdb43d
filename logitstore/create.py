"""Make an empty store, and let a finished one take more epochs.

A store appears at once or not at all. On a disk everything is made under a temporary name and renamed; on object
storage the root's metadata, without which there is no store, is written last.
"""

import json
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from logitstore.errors import NotAStore, SpecError, StoreExists
from logitstore.format import shard
from logitstore.format.layout import (
    ROOT_DOCUMENT,
    SAMPLE_ARRAYS,
    SAMPLE_SHARD_ROWS,
    TAIL_ARRAYS,
    arrays,
    documents,
    once_arrays,
)
from logitstore.format.metadata import metadata_faults, read_spec
from logitstore.lock import writing_alone
from logitstore.rows import TailModel
from logitstore.spec import StoreSpec
from logitstore.storage import local
from logitstore.storage.folder import TEMPORARY, Folder
from logitstore.store import Store

Array = NDArray[Any]


def create(
    path: str | Path, spec: StoreSpec, *, keys: ArrayLike, labels: ArrayLike, tail_model: TailModel | None = None
) -> None:
    """Lay out an empty store: metadata, sample keys and labels, no blocks.

    A killed `create` leaves no store at `path`. Memory beyond the arguments' own does not grow with N; arguments
    may be memory maps.

    **Arguments** path: a local path or an fsspec URL; keys: (N,) uint64 key hashes; labels: (N,) int32, -1 where
    unknown; tail_model: of spec.tail_groups distributions.

    Raises `StoreExists` when there is anything at `path`, `SpecError` when keys, labels or tail model do not fit the
    spec, `StoreFull`.
    """
    _require_room(local.at(path))
    columns = {
        SAMPLE_ARRAYS[0]: _column("keys", keys, np.dtype("<u8"), spec, least=0),
        SAMPLE_ARRAYS[1]: _column("labels", labels, np.dtype("<i4"), spec, least=-1),
    }
    if spec.tail_groups or tail_model is not None:
        columns |= _tail_columns(tail_model, spec)
    _create(path, spec, columns)


def create_like(path: str | Path, store: Store, *, spec: StoreSpec | None = None) -> None:
    """Lay out an empty store with the samples, and the tail model, of another one, part by part; with its spec, unless
    another is given.

    Raises as `create` does, and `DamagedBlock`.
    """
    spec = spec or store.spec
    _create(path, spec, {name: store.files.once_parts(name) for name in once_arrays(spec)})


def _create(path: str | Path, spec: StoreSpec, columns: dict[str, Iterator[Array]]) -> None:
    folder = local.at(path)
    _require_room(folder)
    if folder.local is None:
        _lay_out(folder, spec, columns)
        return
    target = folder.local
    with local.disk_errors(target, "creating"):
        target.parent.mkdir(parents=True, exist_ok=True)
    building = target.with_name(f".{target.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        _lay_out(local.at(building), spec, columns)
        with local.disk_errors(target, "creating"):
            building.rename(target)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def grow(path: str | Path, *, epochs: int) -> StoreSpec:
    """Let a store take more epochs; what it holds stays as it is. The new ones are absent until they are written.

    The arrays' metadata is widened first and the root's spec replaced last, in one step: killed in between, the
    store is the old one, and growing it again finishes the work.

    **Arguments** epochs: how many it shall have in all, not fewer than now (the same number changes nothing).

    **Returns** the spec as it is then. Raises as `open` does, `SpecError`, `StoreLocked`, `StoreFull`.
    """
    folder = local.at(path)
    with writing_alone(folder):
        spec = read_spec(folder)
        faults = metadata_faults(folder, spec)
        if faults:
            raise NotAStore(f"{folder}: {faults[0][0]}: {faults[0][1]}; `logitstore check` lists all faults")
        if epochs < spec.num_epochs:
            raise SpecError(
                f"{folder} has {spec.num_epochs} epochs and cannot shrink to {epochs}: "
                "`logitstore copy --epochs` makes a store with fewer of them written"
            )
        grown = replace(spec, num_epochs=epochs)
        if epochs > spec.num_epochs:
            _write_documents(folder, grown)
    return grown


def _require_room(folder: Folder) -> None:
    """Raises `StoreExists`. On object storage the leavings of a killed `create` are written over."""
    if not folder.exists():
        return
    leavings = {"samples", "tail_model", "seeds", "indices", "logprobs", "tail", "proofs"}
    if folder.local is not None or not set(folder.names()) <= leavings or folder.names("proofs/c"):
        raise StoreExists(f"{folder} exists already: choose another path, or open it to continue it")


def _lay_out(folder: Folder, spec: StoreSpec, columns: dict[str, Iterator[Array]]) -> None:
    layouts = arrays(spec)
    for name, parts in columns.items():
        writing = shard.new_writing()
        for part, values in enumerate(parts):
            place = shard.Place(number=layouts[name].number, epoch=0, block=part, writing=writing)
            folder.write(layouts[name].key(0, part), shard.encode_shard(values, layout=layouts[name], place=place))
    _write_documents(folder, spec)


def _write_documents(folder: Folder, spec: StoreSpec) -> None:
    found = documents(spec)
    assert list(found)[-1] == ROOT_DOCUMENT
    for key, document in found.items():
        folder.write(key, json.dumps(document, indent=1).encode())


def _tail_columns(model: TailModel | None, spec: StoreSpec) -> dict[str, Iterator[Array]]:
    """The tail model's arrays, checked."""
    if model is None:
        raise SpecError(f"tail_groups is {spec.tail_groups}: give a tail model of so many distributions")
    shape = (spec.tail_groups, spec.num_classes)
    if model.logprobs.shape != shape or model.groups.shape != (spec.num_classes,):
        raise SpecError(
            f"the tail model has {model.logprobs.shape} log-probabilities and {model.groups.shape} groups, "
            f"the spec asks for {shape} and {shape[1:]}"
        )
    if not ((model.groups >= 0) & (model.groups < spec.tail_groups)).all():
        raise SpecError(f"the tail model has a group outside 0..{spec.tail_groups - 1}")
    halves = model.logprobs.astype("<f2")
    if not np.isfinite(halves).all() or not np.allclose(np.exp(halves.astype(np.float64)).sum(axis=1), 1, atol=0.01):
        raise SpecError("the tail model has a distribution that is not finite or does not sum to 1")
    return dict(zip(TAIL_ARRAYS, (iter([model.groups.astype("<u2")]), iter([halves])), strict=True))


def _column(name: str, values: ArrayLike, dtype: np.dtype[Any], spec: StoreSpec, *, least: int) -> Iterator[Array]:
    """A sample column, checked, in the parts that its files hold."""
    column = np.asarray(values)
    if column.shape != (spec.num_samples,) or column.dtype.kind not in "iu":
        raise SpecError(f"{name} must be {spec.num_samples} integers, not {column.dtype} {column.shape}")
    parts = [slice(first, first + SAMPLE_SHARD_ROWS) for first in range(0, len(column), SAMPLE_SHARD_ROWS)]
    for part in parts:
        low, high = int(column[part].min()), int(column[part].max())
        if low < np.iinfo(dtype).min or high > np.iinfo(dtype).max:
            raise SpecError(f"{name} do not fit {dtype.name}")
        if low < least:
            raise SpecError(f"{name} hold values below {least}: use -1 for unknown")
    return (column[part].astype(dtype) for part in parts)
