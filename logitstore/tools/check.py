"""Is a store still what was written? Reads every byte of it and says what is wrong.

Three passes: structure (attributes and array metadata agree with the spec), coverage (which blocks are
missing), data (every checksum, and that the values make sense). A fault has a stable id that scripts may rely
on; a note is something worth knowing that harms nobody.
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
from logitstore.format.layout import BLOCK_ARRAYS, MARKERS, SAMPLE_ARRAYS, TAIL_ARRAYS, arrays, once_arrays
from logitstore.format.metadata import metadata_faults, read_spec, unfinished_growth
from logitstore.ranges import compact
from logitstore.spec import StoreSpec
from logitstore.storage import local
from logitstore.store import Store
from logitstore.writer import repeated

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing found."""

    id: str
    """What kind of thing, one of the ids above."""
    message: str
    """What and where, for people."""
    epoch: int | None = None
    block: int | None = None
    array: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What `check` found."""

    path: str
    blocks_total: int
    blocks_committed: int
    faults: tuple[Finding, ...]
    """What makes the store unfit to train from; empty for a good store."""
    notes: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether there are no faults."""
        return not self.faults

    def to_json(self) -> dict[str, Any]:
        """As JSON values, with `ok`."""
        return {"ok": self.ok, **json.loads(json.dumps(asdict(self)))}


def check(path: str | Path, *, progress: Progress | None = None) -> Report:
    """Check a store from end to end, reading all of it, one block at a time.

    Raises `StoreMissing`, `NotAStore` or `UnsupportedVersion` when there is no spec to check against.
    """
    folder = local.at(path)
    spec = read_spec(folder)
    total = spec.num_epochs * spec.num_blocks
    bad = metadata_faults(folder, spec)
    faults = [Finding(id=BAD_METADATA, message=f"{key}: {what}", array=key.rpartition("/")[0]) for key, what in bad]
    store = Store(folder, spec=spec, cache_bytes=0)
    done = store.done()
    for epoch in range(spec.num_epochs):
        missing = np.flatnonzero(~done[epoch])
        if len(missing):
            message = f"epoch {epoch} lacks {len(missing)} of {spec.num_blocks} blocks: {compact(missing.tolist())}"
            faults.append(Finding(id=MISSING_BLOCKS, message=message, epoch=epoch))
    faults += _check_once(store)
    committed = np.argwhere(done)
    for count, (epoch, block) in enumerate(committed.tolist()):
        if progress is not None:
            progress(count, len(committed))
        faults += check_block(store, epoch, block)
    if progress is not None:
        progress(len(committed), len(committed))
    return Report(
        path=str(path),
        blocks_total=total,
        blocks_committed=len(committed),
        faults=tuple(faults),
        notes=tuple(_notes(store, done)),
    )


def _check_once(store: Store) -> list[Finding]:
    """The arrays that were written at creation: sample columns and the tail model."""
    faults = []
    layouts = arrays(store.spec)
    for name in once_arrays(store.spec):
        layout = layouts[name]
        total, rows = layout.shape[layout.row_axis], layout.shard_rows
        for part, first in enumerate(range(0, total, rows)):
            used = -(-min(rows, total - first) // layout.inner_rows)
            try:
                _, chunks = store.files.shard(name, 0, part, list(range(used)))
            except DamagedBlock as error:
                faults.append(Finding(id=DAMAGED_SAMPLES, message=str(error), array=name))
                continue
            if what := _once_fault(name, np.concatenate([chunks[slot] for slot in range(used)]), spec=store.spec):
                faults.append(Finding(id=BAD_VALUES, message=f"{name}: {what} in part {part}", array=name))
    return faults


def _once_fault(name: str, values: NDArray[Any], *, spec: StoreSpec) -> str | None:
    """What a correct writer would never have stored there, in words."""
    if name == SAMPLE_ARRAYS[1] and (values < -1).any():
        return "labels below -1"
    if name == TAIL_ARRAYS[0] and (values >= spec.tail_groups).any():
        return f"groups outside 0..{spec.tail_groups - 1}"
    if name == TAIL_ARRAYS[1] and not np.allclose(np.exp(values.astype(np.float64)).sum(axis=1), 1, atol=0.01):
        return "distributions that do not sum to 1"
    return None


def check_block(store: Store, epoch: int, block: int) -> list[Finding]:
    """Read a committed block in full; values are looked at only where all its bytes are good."""
    faults = []
    stored: dict[str, Any] = {}

    def note(error: DamagedBlock, name: str) -> None:
        faults.append(Finding(id=DAMAGED_BLOCK, message=str(error), epoch=epoch, block=block, array=name))

    marker = None
    try:
        marker = store.marker(epoch, block)
    except DamagedBlock as error:
        note(error, MARKERS)
    slots = store.files.slots(block)
    for name in BLOCK_ARRAYS:
        try:
            writing, chunks = store.files.shard(name, epoch, block, slots)
            if marker is not None and writing != marker.writing:
                raise store.files.foreign(name, epoch, block)
        except DamagedBlock as error:
            note(error, name)
            continue
        stored[name] = np.concatenate([chunks[slot] for slot in slots])
    if len(stored) < len(BLOCK_ARRAYS):
        return faults
    where = f"epoch {epoch}, block {block}"
    for what in _value_faults(stored, spec=store.spec):
        faults.append(Finding(id=BAD_VALUES, message=f"{where}: {what}", epoch=epoch, block=block))
    return faults


def _value_faults(stored: dict[str, Any], *, spec: StoreSpec) -> list[str]:
    """What a correct writer would never have stored, in words."""
    values, tail = stored["logprobs"], stored["tail"]
    indices, _ = codec.decode_kept(stored["indices"], values, spec=spec)
    nothing, drawn = codec.is_nothing(values, spec=spec), codec.is_drawn(values, spec=spec)
    rules = {"something is stored after nothing": (nothing[:, :-1] & ~nothing[:, 1:]).any(axis=1)}
    if spec.selection != "sample":
        rules["a class that was not drawn is stored after one that was"] = (
            drawn[:, :-1] & ~drawn[:, 1:] & ~nothing[:, 1:]
        ).any(axis=1)
        rules["classes were drawn"] = drawn.any(axis=1) & (spec.selection == "topk")
    return [
        f"{what} ({int(bad.sum())} rows)"
        for what, bad in {
            **rules,
            "log-probabilities are out of range or out of order": _unsound(values, tail, nothing | drawn, spec=spec),
            f"a class is outside 0..{spec.num_classes - 1}": (indices >= spec.num_classes).any(axis=1),
            "a class is kept twice": repeated(indices, nothing),
        }.items()
        if bad.any()
    ]


def _unsound(
    values: NDArray[Any], tail: NDArray[Any], marked: NDArray[np.bool_], *, spec: StoreSpec
) -> NDArray[np.bool_]:
    """Which rows (n,) hold log-probabilities that no writer makes. `marked`: entries that hold none."""
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


def _notes(store: Store, done: Any) -> list[Finding]:
    """What lies in the store's folders beyond what the committed blocks account for."""
    notes = []
    layouts = arrays(store.spec)
    for epoch in range(store.spec.num_epochs):
        present: set[int] = set()
        for name in BLOCK_ARRAYS:
            present.update(store.folder.numbered(f"{name}/c/{epoch}"))
        loose = [b for b in present if b >= store.spec.num_blocks or not done[epoch, b]]
        # A dropped block may leave an empty folder, which is nothing.
        loose = [b for b in loose if any(store.folder.length(layouts[name].key(epoch, b)) for name in BLOCK_ARRAYS)]
        if loose:
            message = f"epoch {epoch}: files of blocks without marker, to be written anew: {compact(loose)}"
            notes.append(Finding(id=UNCOMMITTED_BLOCKS, message=message, epoch=epoch))
    if unfinished_growth(store.folder, store.spec):
        message = "a growth of the store was stopped before its last step: `logitstore grow` it again to finish"
        notes.append(Finding(id=UNFINISHED_GROWTH, message=message))
    temporary = store.folder.temporary()
    if temporary:
        message = f"{len(temporary)} temporary files of killed writes, safe to delete while nobody writes: "
        notes.append(Finding(id=TEMPORARY_FILES, message=message + ", ".join(temporary[:5])))
    return notes
