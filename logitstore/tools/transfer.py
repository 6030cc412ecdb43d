"""Bring blocks from one store to another: `copy` publishes or fetches, `merge` joins parts written apart.

Blocks travel as the bytes of their files, verified on the way and again where they arrive. Whatever stops the work,
every block that arrived is whole, and the same command does the rest.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from logitstore.create import create_like, grow
from logitstore.errors import DamagedBlock, StoreConflict, StoreMissing
from logitstore.format.layout import SAMPLE_ARRAYS
from logitstore.spec import differences
from logitstore.store import Store, require_epoch
from logitstore.store import open as open_store
from logitstore.tools.check import check_block
from logitstore.writer import writer

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, done so far, of how many)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What `copy` or `merge` did."""

    path: str
    """Of the store that was written."""
    blocks_written: int
    blocks_present: int
    """Blocks that were there before, or came from an earlier source, with the same content."""
    blocks_verified: int
    """Blocks read again in full at the end."""


def copy(
    source: str | Path, target: str | Path, *, epochs: Iterable[int] | None = None, progress: Progress | None = None
) -> Transfer:
    """Copy a store, or some of its epochs, to a path or URL; continue a copy that was stopped.

    The target has the source's spec, so a view keeps its epoch and row; epochs left out are absent there.

    **Arguments** epochs: which stored epochs; None for all.

    Raises as `open` does, `OutOfRange`, `StoreConflict` where the target is of something else, `DamagedBlock`.
    """
    origin = open_store(source)
    wanted = np.zeros((origin.spec.num_epochs, origin.spec.num_blocks), dtype=bool)
    chosen = range(origin.spec.num_epochs) if epochs is None else sorted(set(epochs))
    for epoch in chosen:
        require_epoch(origin.spec, epoch)
        wanted[epoch] = True
    return _bring(target, [origin], [wanted & origin.done()], progress)


def merge(target: str | Path, sources: Sequence[str | Path], *, progress: Progress | None = None) -> Transfer:
    """Bring the blocks of several stores of one spec into `target`, which is created where there is none.

    The sources' blocks must be disjoint or identical. All of them are compared before anything is written.
    Sources may have different numbers of epochs; the target grows to the most. Of tail models that differ a new target
    gets that of the source with the most epochs, the first of those.

    Raises as `open` does, `StoreConflict`, `DamagedBlock`.
    """
    origins = [open_store(source) for source in sources]
    return _bring(target, origins, [origin.done() for origin in origins], progress)


def _bring(
    target: str | Path, origins: list[Store], wanted: list[NDArray[np.bool_]], progress: Progress | None
) -> Transfer:
    say = progress or (lambda what, done, total: None)
    for origin in origins[1:]:
        _require_same(origins[0], origin)
    largest = max(origins, key=lambda origin: origin.spec.num_epochs)
    present = _target(target, origins[0])
    moves, same = _plan(origins, wanted, present, largest.spec.num_epochs)
    if present is None:
        create_like(target, largest)
    elif present.spec.num_epochs < largest.spec.num_epochs:
        grow(target, epochs=largest.spec.num_epochs)
    with writer(target) as out:
        for count, (number, epoch, block) in enumerate(moves):
            say("copying blocks", count, len(moves))
            out.write_files(epoch, block, origins[number].files.raw(epoch, block))
        say("copying blocks", len(moves), len(moves))
    arrived = open_store(target, cache_bytes=0)
    check = sorted({(e, b) for w in wanted for e, b in np.argwhere(w).tolist()})
    for count, (epoch, block) in enumerate(check):
        say("verifying blocks", count, len(check))
        if faults := check_block(arrived, epoch, block):
            raise DamagedBlock(f"{arrived.path} did not arrive whole: {faults[0].message}")
    say("verifying blocks", len(check), len(check))
    return Transfer(path=arrived.path, blocks_written=len(moves), blocks_present=same, blocks_verified=len(check))


def _target(target: str | Path, like: Store) -> Store | None:
    """The store that is there, None where there is none. Raises `StoreConflict`."""
    try:
        present = open_store(target)
    except StoreMissing:
        return None
    _require_same(like, present)
    return present


def _require_same(one: Store, other: Store) -> None:
    """Raises `StoreConflict` where two stores differ in more than the number of epochs."""
    lines = differences(replace(one.spec, num_epochs=other.spec.num_epochs), other.spec)
    if lines:
        told = [line.replace("store has", "the one has").replace("request has", "the other") for line in lines]
        message = f"{one.path} and {other.path} are stores of different things; nothing was written"
        raise StoreConflict("\n  ".join([message, *told]))
    # Tail models may differ: machines that learn one from the same views agree only nearly, and no block depends on it.
    for name in SAMPLE_ARRAYS:
        parts = zip(one.files.once_parts(name), other.files.once_parts(name), strict=True)
        for part, (mine, theirs) in enumerate(parts):
            if not np.array_equal(mine, theirs):
                raise StoreConflict(f"{one.path} and {other.path} differ in {name}, part {part}; nothing was written")


def _plan(
    origins: list[Store], wanted: list[NDArray[np.bool_]], present: Store | None, num_epochs: int
) -> tuple[list[tuple[int, int, int]], int]:
    """Which blocks to write, as (number of the origin, epoch, block), and how many are there already.

    Raises `StoreConflict` where a block has two contents.
    """
    owner = np.full((num_epochs, origins[0].spec.num_blocks), -1, dtype=np.int32)
    stores = origins if present is None else [*origins, present]
    if present is not None:
        done = present.done()
        owner[: len(done)][done[:num_epochs]] = len(origins)
    moves, same = [], 0
    for number, blocks in enumerate(wanted):
        for epoch, block in np.argwhere(blocks).tolist():
            first = int(owner[epoch, block])
            if first < 0:
                owner[epoch, block] = number
                moves.append((number, epoch, block))
                continue
            if not same_block(stores[first], origins[number], epoch, block, trust_markers=True):
                raise StoreConflict(
                    f"{stores[first].path} and {origins[number].path} hold different things in epoch {epoch}, block "
                    f"{block}; nothing was written. `logitstore diff` shows how they differ; delete "
                    f"proofs/c/{epoch}/{block} in the store whose block is not wanted"
                )
            same += 1
    return moves, same


def same_block(one: Store, other: Store, epoch: int, block: int, *, trust_markers: bool) -> bool:
    """Whether two stores of one encoding hold the same in a block. Raises `DamagedBlock`.

    **Arguments** trust_markers: take blocks of one act of writing for the same without reading them, where both are
    verified later, or the reading of a whole store would be for nothing.
    """
    mine, theirs = one.marker(epoch, block), other.marker(epoch, block)
    if trust_markers and mine == theirs:
        return True
    if mine is None or theirs is None or mine.proof != theirs.proof:
        return False
    slots = one.files.slots(block)
    left = one.files.block(epoch, block, slots, writing=mine.writing)
    right = other.files.block(epoch, block, slots, writing=theirs.writing)
    return all(np.array_equal(a, b) for slot in slots for a, b in zip(left[slot], right[slot], strict=True))
