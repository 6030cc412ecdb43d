"""Copy blocks from one store to another: `copy` publishes or fetches a store, `merge` joins parts written separately.

Blocks are copied as the bytes of their files, verified when they are read and again in the target. Whatever stops the
work, every block that was copied is whole, and the same command does the rest.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from logitstore.create import create_like, grow, open_existing
from logitstore.errors import DamagedBlock, StoreConflict
from logitstore.format.layout import SAMPLE_ARRAYS
from logitstore.spec import differences
from logitstore.store import Store, require_epoch
from logitstore.store import open as open_store
from logitstore.tools.check import check_block
from logitstore.writer import writer

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, blocks done, blocks to do)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """The result of `copy` or `merge`."""

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

    **Arguments** epochs: which stored epochs; None for all; progress: called with (what is being done, blocks done,
    blocks to do).

    Raises as `open` does, `OutOfRange`, `StoreConflict` where the target is a store of something else, `DamagedBlock`.
    """
    origin = open_store(source)
    wanted = np.zeros((origin.spec.num_epochs, origin.spec.num_blocks), dtype=bool)
    chosen = range(origin.spec.num_epochs) if epochs is None else sorted(set(epochs))
    for epoch in chosen:
        require_epoch(origin.spec, epoch)
        wanted[epoch] = True
    return _transfer(target, [origin], [wanted & origin.done()], progress)


def merge(target: str | Path, sources: Sequence[str | Path], *, progress: Progress | None = None) -> Transfer:
    """Copy the blocks of several stores of one spec into `target`, which is created where there is none.

    The sources' blocks must be disjoint or identical. All of them are compared before anything is written. Sources may
    have different numbers of epochs; the target grows to the largest. Where tail models differ, a new target gets that
    of the source with the most epochs, the first of these.

    **Arguments** progress: called with (what is being done, blocks done, blocks to do).

    Raises as `open` does, `StoreConflict`, `DamagedBlock`.
    """
    origins = [open_store(source) for source in sources]
    return _transfer(target, origins, [origin.done() for origin in origins], progress)


def _transfer(
    target: str | Path, origins: list[Store], wanted: list[NDArray[np.bool_]], progress: Progress | None
) -> Transfer:
    report = progress or (lambda what, done, total: None)
    for origin in origins[1:]:
        _require_same(origins[0], origin)
    largest = max(origins, key=lambda origin: origin.spec.num_epochs)
    present = open_existing(target)
    if present is not None:
        _require_same(origins[0], present)
    to_copy, same = _plan(origins, wanted, present, largest.spec.num_epochs)
    if present is None:
        create_like(target, largest)
    elif present.spec.num_epochs < largest.spec.num_epochs:
        grow(target, epochs=largest.spec.num_epochs)
    with writer(target) as out:
        for count, (number, epoch, block) in enumerate(to_copy):
            report("copying blocks", count, len(to_copy))
            out.write_copy(epoch, block, origins[number])
        report("copying blocks", len(to_copy), len(to_copy))
    copied = open_store(target, cache_bytes=0)
    to_verify = sorted({(e, b) for w in wanted for e, b in np.argwhere(w).tolist()})
    for count, (epoch, block) in enumerate(to_verify):
        report("verifying blocks", count, len(to_verify))
        if faults := check_block(copied, epoch, block):
            raise DamagedBlock(f"{copied.path} did not arrive whole: {faults[0].message}")
    report("verifying blocks", len(to_verify), len(to_verify))
    return Transfer(path=copied.path, blocks_written=len(to_copy), blocks_present=same, blocks_verified=len(to_verify))


def _require_same(one: Store, other: Store) -> None:
    """Raises `StoreConflict` where two stores differ in more than the number of epochs."""
    lines = differences(replace(one.spec, num_epochs=other.spec.num_epochs), other.spec)
    if lines:
        lines = [line.replace("store has", "the one has").replace("request has", "the other") for line in lines]
        message = f"{one.path} and {other.path} are stores of different things; nothing was written"
        raise StoreConflict("\n  ".join([message, *lines]))
    # Tail models may differ: learned on other machines from the same views they agree only nearly, and no block
    # depends on them.
    for name in SAMPLE_ARRAYS:
        parts = zip(one.files.static_parts(name), other.files.static_parts(name), strict=True)
        for part, (a, b) in enumerate(parts):
            if not np.array_equal(a, b):
                raise StoreConflict(f"{one.path} and {other.path} differ in {name}, part {part}; nothing was written")


def _plan(
    origins: list[Store], wanted: list[NDArray[np.bool_]], present: Store | None, num_epochs: int
) -> tuple[list[tuple[int, int, int]], int]:
    """Which blocks to copy, as (number of the origin, epoch, block), and how many are there already.

    Raises `StoreConflict` where a block has two contents.
    """
    owner = np.full((num_epochs, origins[0].spec.num_blocks), -1, dtype=np.int32)
    stores = origins if present is None else [*origins, present]
    if present is not None:
        done = present.done()
        owner[: len(done)][done[:num_epochs]] = len(origins)
    to_copy, same = [], 0
    for number, blocks in enumerate(wanted):
        for epoch, block in np.argwhere(blocks).tolist():
            first = int(owner[epoch, block])
            if first < 0:
                owner[epoch, block] = number
                to_copy.append((number, epoch, block))
                continue
            if not same_block(stores[first], origins[number], epoch, block, trust_markers=True):
                raise StoreConflict(
                    f"{stores[first].path} and {origins[number].path} hold different things in epoch {epoch}, block "
                    f"{block}; nothing was written. `logitstore diff` shows how they differ; delete "
                    f"proofs/c/{epoch}/{block} in the store whose block is not wanted"
                )
            same += 1
    return to_copy, same


def same_block(one: Store, other: Store, epoch: int, block: int, *, trust_markers: bool) -> bool:
    """Whether two stores of one encoding hold the same in a block. Raises `DamagedBlock`.

    **Arguments** trust_markers: take blocks of one write for the same without reading them, where both are verified
    later.
    """
    a_marker, b_marker = one.marker(epoch, block), other.marker(epoch, block)
    if trust_markers and a_marker == b_marker:
        return True
    if a_marker is None or b_marker is None or a_marker.proof != b_marker.proof:
        return False
    slots = one.files.slots(block)
    a_chunks = one.files.block(epoch, block, slots, write_id=a_marker.write_id)
    b_chunks = other.files.block(epoch, block, slots, write_id=b_marker.write_id)
    return all(np.array_equal(a, b) for slot in slots for a, b in zip(a_chunks[slot], b_chunks[slot], strict=True))
