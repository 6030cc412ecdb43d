"""Take damaged blocks out of a store, so that the teacher pass does them again, and bring them back.

What looks damaged may be a fault of the way there: a network that flips bits, a server that says that a file is
missing. So everything that is to be taken out is read again, from other connections and with pauses, and goes only
where it is damaged in the same way each time. It is not deleted but moved to `dropped/NAME/` in the store, under its
own path, from where `restore` brings it back.
"""

import json
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from logitstore.errors import StoreError, StoreMissing
from logitstore.format.identity import Identity
from logitstore.format.layout import (
    BLOCK_ARRAYS,
    BLOCK_FILES,
    DROPPED,
    MARKERS,
    ROOT_DOCUMENT,
    arrays,
    documents,
)
from logitstore.format.metadata import metadata_faults, read_root
from logitstore.lock import locked
from logitstore.spec import StoreSpec
from logitstore.storage import Storage, open_storage
from logitstore.store import Store
from logitstore.store import open as open_store
from logitstore.tools.check import BAD_METADATA, BAD_VALUES, DAMAGED_BLOCK, MISSING_BLOCKS, Finding, check, check_block
from logitstore.untrusted import BadInput, plain_name

PAUSES_S: tuple[float, ...] = (0.1, 0.5, 2.0, 5.0)
"""Before each further reading of what seems damaged; behind a URL, on a disk a tenth of it."""

Place = tuple[int, int]
"""(epoch, block)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What `repair` did, or, with `dry_run`, would do."""

    path: str
    dropped: tuple[Place, ...]
    """(epoch, block) of damaged blocks; they are absent now."""
    name: str | None
    """Of the folder in `dropped/` where they are, for `restore`; None where nothing was dropped."""
    passing: tuple[Place, ...]
    """(epoch, block) that seemed damaged and were read well later: the fault is on the way to the store."""
    metadata: tuple[str, ...]
    """Metadata files that were rewritten; they follow from the spec."""
    temporary: tuple[str, ...]
    """Files left by killed writes, deleted."""
    left: tuple[Finding, ...]
    """Faults that only a copy of the store can fix."""
    dry_run: bool

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What `restore` did."""

    path: str
    restored: tuple[Place, ...]
    """(epoch, block) that are in the store again, as they were: damaged, if they still are."""
    kept: tuple[Place, ...]
    """(epoch, block) that have been written anew meanwhile, and were left so."""
    damaged: tuple[Finding, ...]
    """What is wrong with the restored ones."""


def repair(path: str | Path, *, dry_run: bool = False, progress: Callable[[int, int], None] | None = None) -> Repair:
    """Check a whole store and take out the blocks that are damaged; the teacher pass then redoes them.

    Of a damaged block first the marker is moved aside, then its files. Array metadata that contradicts the spec is
    rewritten. Good blocks are not touched; absent ones are no damage.

    **Arguments** dry_run: only report what would be done; progress: called with (blocks checked, blocks to check).

    A dry run writes nothing, and takes no lock: while a run writes, it may report what is not finished.

    Raises `StoreMissing`, `NotAStore` or `UnsupportedVersion` where the spec itself is gone (restore the root's
    zarr.json from a copy), `StoreLocked` while a run writes; `StoreError`, and nothing is changed, where what is read
    differs from one time to the next, so that nobody can say what is in the store.
    """
    storage = open_storage(path)
    with nullcontext() if dry_run else locked(storage):
        spec, identity = read_root(storage)
        report = check(path, progress=progress)
        suspects = [f for f in report.faults if f.id in (DAMAGED_BLOCK, BAD_VALUES) and f.block is not None]
        places = sorted({(f.epoch, f.block) for f in suspects if f.epoch is not None and f.block is not None})
        bad_documents = [key for key, _ in metadata_faults(storage, spec, identity) if key != ROOT_DOCUMENT]
        dropped, passing = _read_again(path, places, bad_documents)
        temporary = storage.list_temporary()
        left = [f for f in report.faults if f not in suspects and f.id not in (BAD_METADATA, MISSING_BLOCKS)]
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}" if dropped or bad_documents else None
        if not dry_run:
            for key in bad_documents:
                _move_aside(storage, key, name)
                storage.write(key, json.dumps(documents(spec, identity)[key], indent=1).encode())
            for epoch, block in dropped:
                for array in (MARKERS, *BLOCK_ARRAYS):
                    _move_aside(storage, arrays(spec)[array].key(epoch, block), name)
            for key in temporary:
                storage.delete(key)
    return Repair(
        path=str(storage),
        dropped=tuple(dropped),
        name=name,
        passing=tuple(passing),
        metadata=tuple(bad_documents),
        temporary=tuple(temporary),
        left=tuple(left),
        dry_run=dry_run,
    )


def restore(path: str | Path, name: str) -> Restored:
    """Bring back the blocks that a repair moved to `dropped/NAME`, just as they were.

    A block that was written anew meanwhile is left as it is. Metadata files are not brought back: they follow from the
    spec.

    Raises `StoreMissing` where there is no such folder, `StoreLocked` while a run writes, and as `open` does.
    """
    storage = open_storage(path)
    try:
        folder = f"{DROPPED}/{plain_name(name)}"
    except BadInput as error:
        raise StoreError(f"{storage}: {error}") from None
    with locked(storage):
        store = open_store(path)
        layouts = arrays(store.spec)
        if not storage.list_names(folder):
            raise StoreMissing(f"{storage} has no {folder}: `logitstore repair` says the name, {DROPPED}/ has them all")
        restored, kept = [], []
        for epoch, block in sorted(_dropped_places(storage, folder)):
            if storage.has(layouts[MARKERS].key(epoch, block)):
                kept.append((epoch, block))
                continue
            for array in BLOCK_FILES:  # The marker last.
                key = layouts[array].key(epoch, block)
                if storage.has(f"{folder}/{key}"):
                    storage.delete(key)
                    storage.move(f"{folder}/{key}", key)
            restored.append((epoch, block))
    faults = [fault for epoch, block in restored for fault in check_block(store, epoch, block)]
    return Restored(path=str(storage), restored=tuple(restored), kept=tuple(kept), damaged=tuple(faults))


def _read_again(path: str | Path, places: list[Place], bad_documents: list[str]) -> tuple[list[Place], list[Place]]:
    """The blocks that are damaged in the same way whenever they are read, and those that are not damaged at all.

    Raises `StoreError` where readings differ in another way.
    """
    if not places and not bad_documents:
        return [], []
    readings: dict[Place, list[tuple[object, bool]]] = {place: [] for place in places}
    for pause in PAUSES_S:
        storage, spec, identity = _fresh(path, pause)
        store = Store(storage, spec=spec, identity=identity, cache_bytes=0)
        for place in places:
            state = tuple(_state(store.storage, store.files.layouts[name].key(*place)) for name in BLOCK_FILES)
            readings[place].append((state, bool(check_block(store, *place))))
        found = [key for key, _ in metadata_faults(store.storage, store.spec, store.files.identity)]
        if [key for key in found if key != ROOT_DOCUMENT] != bad_documents:
            raise StoreError(_undecided(path, ", ".join(bad_documents)))
    dropped, passing = [], []
    for place, seen in readings.items():
        if not any(damaged for _, damaged in seen):
            passing.append(place)
        elif all(damaged for _, damaged in seen) and len({state for state, _ in seen}) == 1:
            dropped.append(place)
        else:
            raise StoreError(_undecided(path, "epoch {}, block {}".format(*place)))
    return dropped, passing


def _fresh(path: str | Path, pause: float) -> tuple[Storage, StoreSpec, Identity]:
    """After a pause, a store's storage by another connection, its spec and identity."""
    storage = open_storage(path)
    time.sleep(pause if storage.local_path is None else pause / 10)
    storage.renew()
    return storage, *read_root(storage)


def _state(storage: Storage, key: str) -> object:
    """What reading a file gives, so that two readings can be compared; a missing one must be missing in the listing."""
    try:
        with storage.reading(key) as (read, size):
            return hash(read(0, size))
    except FileNotFoundError:
        folder, _, name = key.rpartition("/")
        if name in storage.list_names(folder):
            return secrets.token_hex(8)  # It is there and cannot be read: no two readings of this are alike.
        return "missing"
    except OSError as error:
        return str(error.strerror)


def _undecided(path: str | Path, what: str) -> str:
    return (
        f"{path}: {what} reads differently from one time to the next: the network or the disk is faulty, the store "
        "perhaps not. Nothing was changed; see to the connection and run the command again"
    )


def _move_aside(storage: Storage, key: str, name: str | None) -> None:
    if storage.has(key):
        storage.move(key, f"{DROPPED}/{name}/{key}")


def _dropped_places(storage: Storage, folder: str) -> Iterable[Place]:
    """(epoch, block) of the files below a folder that is laid out as a store."""
    places = set()
    for name in BLOCK_FILES:
        for epoch in storage.list_numbers(f"{folder}/{name}/c"):
            places |= {(epoch, block) for block in storage.list_numbers(f"{folder}/{name}/c/{epoch}")}
    return places
