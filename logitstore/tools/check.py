"""Is a store still what was written? Reads every byte of it and reports what is wrong.

Three passes: structure (attributes and array metadata agree with the spec), coverage (which blocks are missing), data
(every checksum, and whether the values make sense). A fault has a stable id that scripts may rely on; a note is
something worth knowing that is no fault.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitstore.errors import DamagedBlock
from logitstore.format import codec
from logitstore.format.layout import BLOCK_ARRAYS, MARKERS, SAMPLE_ARRAYS, TAIL_ARRAYS, arrays, static_arrays
from logitstore.format.metadata import metadata_faults, read_root, unfinished_growth
from logitstore.ranges import compact
from logitstore.spec import StoreSpec
from logitstore.storage import open_storage
from logitstore.store import Store, version_limits
from logitstore.writer import repeated

Array = NDArray[Any]

Progress = Callable[[int, int], None]
"""Called with (blocks checked, blocks to check)."""

# Ids of findings; scripts rely on them, so they never change their meaning.
BAD_METADATA = "bad-metadata"
MISSING_BLOCKS = "missing-blocks"
DAMAGED_BLOCK = "damaged-block"
DAMAGED_SAMPLES = "damaged-samples"
BAD_VALUES = "bad-values"
UNCOMMITTED_BLOCKS = "uncommitted-blocks"
TEMPORARY_FILES = "temporary-files"
UNFINISHED_GROWTH = "unfinished-growth"
OLD_VERSION = "old-version"
HIDDEN_EPOCHS = "hidden-epochs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fault or note."""

    id: str
    """Its kind, one of the ids above."""
    message: str
    """What is wrong and where, for people."""
    epoch: int | None = None
    block: int | None = None
    array: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of `check`."""

    path: str
    blocks_total: int
    blocks_committed: int
    faults: tuple[Finding, ...]
    """What makes the store unfit to train from; empty for a good store."""
    notes: tuple[Finding, ...]
    """What is worth knowing and no fault: temporary files, files of blocks that are not committed."""

    @property
    def ok(self) -> bool:
        """Whether there are no faults."""
        return not self.faults

    def to_json(self) -> dict[str, Any]:
        """As JSON values, with `ok`."""
        return {"ok": self.ok, **json.loads(json.dumps(asdict(self)))}


def check(path: str | Path, *, progress: Progress | None = None) -> Report:
    """Check a whole store, reading every byte of it, one block at a time.

    **Arguments** path: a local path or an fsspec URL; progress: called with (blocks checked, blocks to check).

    Raises `StoreMissing`, `NotAStore` or `UnsupportedVersion` when there is no spec to check against.
    """
    storage = open_storage(path)
    spec, identity = read_root(storage)
    faults = [
        Finding(id=BAD_METADATA, message=f"{key}: {fault}", array=key.rpartition("/")[0])
        for key, fault in metadata_faults(storage, spec, identity)
    ]
    store = Store(storage, spec=spec, identity=identity, cache_bytes=0)
    done = store.done()
    if beyond := [epoch for epoch in storage.list_numbers(f"{MARKERS}/c") if epoch >= spec.num_epochs]:
        message = f"there are blocks of epochs {compact(sorted(beyond))}, unknown to the spec: an old zarr.json"
        faults.append(Finding(id=HIDDEN_EPOCHS, message=message))
    for epoch in range(spec.num_epochs):
        missing = np.flatnonzero(~done[epoch])
        if len(missing):
            message = f"epoch {epoch} lacks {len(missing)} of {spec.num_blocks} blocks: {compact(missing.tolist())}"
            faults.append(Finding(id=MISSING_BLOCKS, message=message, epoch=epoch))
    faults += _check_static(store)
    committed = np.argwhere(done)
    for count, (epoch, block) in enumerate(committed.tolist()):
        if progress is not None:
            progress(count, len(committed))
        faults += check_block(store, epoch, block)
    if progress is not None:
        progress(len(committed), len(committed))
    return Report(
        path=str(path),
        blocks_total=spec.num_epochs * spec.num_blocks,
        blocks_committed=len(committed),
        faults=tuple(faults),
        notes=tuple(_notes(store, done)),
    )


def _check_static(store: Store) -> list[Finding]:
    """The arrays that were written at creation: sample columns and the tail model."""
    faults = []
    for name in static_arrays(store.spec):
        parts = range(store.files.num_static_parts(name))
        present = set(store.storage.list_numbers(f"{name}/c")) & set(parts)
        if len(present) < len(parts):
            missing = compact([part for part in parts if part not in present])
            message = f"{store.path}: array {name}, parts {missing}: the files are missing; restore them from a copy"
            faults.append(Finding(id=DAMAGED_SAMPLES, message=message, array=name))
        for part in sorted(present):
            try:
                values = store.files.static_part(name, part)
            except DamagedBlock as error:
                faults.append(Finding(id=DAMAGED_SAMPLES, message=str(error), array=name))
                continue
            if fault := _static_fault(name, values, spec=store.spec):
                faults.append(Finding(id=BAD_VALUES, message=f"{name}: {fault} in part {part}", array=name))
    return faults


def _static_fault(name: str, values: Array, *, spec: StoreSpec) -> str | None:
    """What a correct writer would never have stored there, as text; None where there is no such thing."""
    if name == SAMPLE_ARRAYS[1] and ((values < -1) | (values >= spec.num_labels)).any():
        return f"labels outside -1..{spec.num_labels - 1}"
    if name == TAIL_ARRAYS[0] and (values >= spec.tail_groups).any():
        return f"groups outside 0..{spec.tail_groups - 1}"
    if name == TAIL_ARRAYS[1] and not np.allclose(np.exp(values.astype(np.float64)).sum(axis=1), 1, atol=0.01):
        return "distributions that do not sum to 1"
    return None


def check_block(store: Store, epoch: int, block: int) -> list[Finding]:
    """Read a committed block in full; values are checked only where all its bytes are good."""
    faults = []
    stored: dict[str, Array] = {}

    def add(error: DamagedBlock, name: str) -> None:
        faults.append(Finding(id=DAMAGED_BLOCK, message=str(error), epoch=epoch, block=block, array=name))

    marker = None
    try:
        marker = store.marker(epoch, block)
    except DamagedBlock as error:
        add(error, MARKERS)
    slots = store.files.slots(block)
    for name in BLOCK_ARRAYS:
        try:
            write_id, chunks = store.files.shard(name, epoch, block, slots)
            if marker is not None and write_id != marker.write_id:
                raise store.files.mixed(name, epoch, block)
        except DamagedBlock as error:
            add(error, name)
            continue
        stored[name] = np.concatenate([chunks[slot] for slot in slots])
    if len(stored) < len(BLOCK_ARRAYS):
        return faults
    where = f"epoch {epoch}, block {block}"
    for fault in _value_faults(stored, spec=store.spec):
        faults.append(Finding(id=BAD_VALUES, message=f"{where}: {fault}", epoch=epoch, block=block))
    return faults


def _value_faults(stored: dict[str, Array], *, spec: StoreSpec) -> list[str]:
    """What a correct writer would never have stored, as text."""
    values, tail = stored["logprobs"], stored["tail"]
    indices, _ = codec.decode_classes(stored["indices"], values, spec=spec)
    empty, drawn = codec.is_empty(values, spec=spec), codec.is_drawn(values, spec=spec)
    rules = {"a class is stored after an empty entry": (empty[:, :-1] & ~empty[:, 1:]).any(axis=1)}
    if spec.selection != "sample":
        rules["a class that was not drawn is stored after one that was"] = (
            drawn[:, :-1] & ~drawn[:, 1:] & ~empty[:, 1:]
        ).any(axis=1)
        rules["classes were drawn"] = drawn.any(axis=1) & (spec.selection == "topk")
    return [
        f"{fault} ({int(wrong.sum())} rows)"
        for fault, wrong in {
            **rules,
            "log-probabilities are out of range or out of order": _unsound(values, tail, empty | drawn, spec=spec),
            f"a class is outside 0..{spec.num_classes - 1}": (indices >= spec.num_classes).any(axis=1),
            "a class occurs twice": repeated(indices, empty),
        }.items()
        if wrong.any()
    ]


def _unsound(values: Array, tail: Array, marked: NDArray[np.bool_], *, spec: StoreSpec) -> NDArray[np.bool_]:
    """Which rows (n,) hold log-probabilities that no writer makes. `marked`: entries without one, (n, k)."""
    if spec.encoding == "counts":
        totals = values.sum(axis=1, dtype=np.int64)
        rising = (values[:, 1:] > values[:, :-1]).any(axis=1)
        return np.asarray(rising | ((totals != 0) & (totals != spec.draws)) | (tail != 0))
    if spec.encoding == "log8":
        return np.asarray(np.where(marked, 0, values).sum(axis=1, dtype=np.int64) > codec.LARGEST)
    floats = np.where(marked, -np.inf, values.astype(np.float32))
    with np.errstate(invalid="ignore"):
        unsound = np.isnan(floats).any(axis=1) | (floats > 0).any(axis=1) | (floats[:, 1:] > floats[:, :-1]).any(axis=1)
    return np.asarray(unsound | np.isnan(tail) | (tail > 0))


def _notes(store: Store, done: NDArray[np.bool_]) -> list[Finding]:
    """Files in the store's folders that do not belong to committed blocks."""
    limits = version_limits(store)
    notes = [Finding(id=OLD_VERSION, message=limits)] if limits else []
    layouts = arrays(store.spec)
    for epoch in range(store.spec.num_epochs):
        present: set[int] = set()
        for name in BLOCK_ARRAYS:
            present.update(store.storage.list_numbers(f"{name}/c/{epoch}"))
        uncommitted = [
            block
            for block in present
            if (block >= store.spec.num_blocks or not done[epoch, block])
            # A dropped block may leave an empty folder, which does not count.
            and any(store.storage.file_size(layouts[name].key(epoch, block)) for name in BLOCK_ARRAYS)
        ]
        if uncommitted:
            message = f"epoch {epoch}: files of blocks without marker, to be written again: {compact(uncommitted)}"
            notes.append(Finding(id=UNCOMMITTED_BLOCKS, message=message, epoch=epoch))
    if unfinished_growth(store.storage, store.spec):
        message = "a growth of the store was stopped before its last step: `logitstore grow` it again to finish"
        notes.append(Finding(id=UNFINISHED_GROWTH, message=message))
    temporary = store.storage.list_temporary()
    if temporary:
        message = f"{len(temporary)} temporary files of killed writes, safe to delete while nobody writes: "
        notes.append(Finding(id=TEMPORARY_FILES, message=message + ", ".join(temporary[:5])))
    return notes
