"""Drop what is damaged, so that the teacher pass does it again."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from logitstore.format.layout import BLOCK_ARRAYS, MARKERS, ROOT_DOCUMENT, arrays, documents
from logitstore.format.metadata import metadata_faults, read_root
from logitstore.lock import locked
from logitstore.storage import open_storage
from logitstore.tools.check import BAD_METADATA, BAD_VALUES, DAMAGED_BLOCK, MISSING_BLOCKS, Finding, check


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What `repair` did, or, with `dry_run`, would do."""

    path: str
    dropped: tuple[tuple[int, int], ...]
    """(epoch, block) of damaged blocks; they are absent now."""
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


def repair(path: str | Path, *, dry_run: bool = False, progress: Callable[[int, int], None] | None = None) -> Repair:
    """Check a whole store and drop the blocks that are damaged; the teacher pass then redoes them.

    Of a damaged block first the marker is deleted, then its files. Array metadata that contradicts the spec is
    rewritten. Good blocks are not touched; absent ones are no damage.

    **Arguments** dry_run: only report what would be done; progress: called with (blocks checked, blocks to check).

    A dry run writes nothing, and takes no lock: while a run writes, it may report what is not finished.

    Raises `StoreMissing`, `NotAStore` or `UnsupportedVersion` where the spec itself is gone (restore the root's
    zarr.json from a copy), `StoreLocked` while a run writes.
    """
    storage = open_storage(path)
    with nullcontext() if dry_run else locked(storage):
        spec, identity = read_root(storage)
        report = check(path, progress=progress)
        damaged = [f for f in report.faults if f.id in (DAMAGED_BLOCK, BAD_VALUES) and f.block is not None]
        dropped = sorted({(f.epoch, f.block) for f in damaged if f.epoch is not None and f.block is not None})
        metadata = [key for key, _ in metadata_faults(storage, spec, identity) if key != ROOT_DOCUMENT]
        temporary = storage.list_temporary()
        left = [f for f in report.faults if f not in damaged and f.id not in (BAD_METADATA, MISSING_BLOCKS)]
        if not dry_run:
            for key in metadata:
                storage.write(key, json.dumps(documents(spec, identity)[key], indent=1).encode())
            for epoch, block in dropped:
                for name in (MARKERS, *BLOCK_ARRAYS):
                    storage.delete(arrays(spec)[name].key(epoch, block))
            for key in temporary:
                storage.delete(key)
    return Repair(
        path=str(storage),
        dropped=tuple(dropped),
        metadata=tuple(metadata),
        temporary=tuple(temporary),
        left=tuple(left),
        dry_run=dry_run,
    )
