"""Drop what is damaged, so that the teacher pass does it again."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from logitstore.format.layout import BLOCK_ARRAYS, MARKERS, ROOT_DOCUMENT, arrays, documents
from logitstore.format.metadata import metadata_faults, read_spec
from logitstore.lock import writing_alone
from logitstore.storage import local
from logitstore.tools.check import BAD_METADATA, BAD_VALUES, DAMAGED_BLOCK, Finding, check


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What `repair` did, or would do."""

    path: str
    dropped: tuple[tuple[int, int], ...]
    """(epoch, block) of damaged blocks; they are absent now."""
    metadata: tuple[str, ...]
    """Metadata files written anew; they follow from the spec."""
    temporary: tuple[str, ...]
    """Leavings of killed writes, deleted."""
    left: tuple[Finding, ...]
    """Faults that only a copy of the store can mend."""
    dry_run: bool

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


def repair(path: str | Path, *, dry_run: bool = False, progress: Callable[[int, int], None] | None = None) -> Repair:
    """Check a store from end to end and drop the blocks that are damaged; the teacher pass then redoes them.

    Of a damaged block first the marker is deleted, then its files. Array metadata that contradicts the spec is written
    anew. Good blocks are not touched, absent ones are no damage.

    Raises `StoreMissing`, `NotAStore` or `UnsupportedVersion` where the spec itself is gone (restore the root's
    zarr.json from a copy), `StoreLocked` while a run writes.
    """
    folder = local.at(path)
    with writing_alone(folder):
        spec = read_spec(folder)
        report = check(path, progress=progress)
        harmed = [f for f in report.faults if f.id in (DAMAGED_BLOCK, BAD_VALUES) and f.block is not None]
        dropped = sorted({(f.epoch, f.block) for f in harmed if f.epoch is not None and f.block is not None})
        metadata = [key for key, _ in metadata_faults(folder, spec) if key != ROOT_DOCUMENT]
        temporary = folder.temporary()
        mended = {BAD_METADATA, "missing-blocks"}
        left = [f for f in report.faults if f not in harmed and f.id not in mended]
        if not dry_run:
            for key in metadata:
                folder.write(key, json.dumps(documents(spec)[key], indent=1).encode())
            for epoch, block in dropped:
                for name in (MARKERS, *BLOCK_ARRAYS):
                    folder.delete(arrays(spec)[name].key(epoch, block))
            for key in temporary:
                folder.delete(key)
    return Repair(
        path=str(folder),
        dropped=tuple(dropped),
        metadata=tuple(metadata),
        temporary=tuple(temporary),
        left=tuple(left),
        dry_run=dry_run,
    )
