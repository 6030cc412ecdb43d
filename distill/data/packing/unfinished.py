"""The record of a packing that has not ended: a stopped one is resumed only with the same images and options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import xxhash

from distill.data.packing.listing import Listing
from distill.data.packing.shard_writing import RECORDS
from distill.errors import DistillError
from distill.files import read_json_object, refuse_links
from logitstore.storage.atomic import write_atomically

_REQUEST = f"{RECORDS}/request.json"


def can_pack_into(target: Path) -> bool:
    """Whether a folder is new, empty, or contains a packing that has not ended."""
    return not target.exists() or (target.is_dir() and (not any(target.iterdir()) or (target / _REQUEST).exists()))


def begin_or_resume(target: Path, listing: Listing, options: dict[str, Any]) -> None:
    """Records the images and options of a packing, or compares them with those of the one that is unfinished.

    **Raises:** `DistillError` where they differ.
    """
    refuse_links(target)
    digest = xxhash.xxh3_128(listing.keys.text)
    digest.update(listing.keys.offsets.tobytes())
    digest.update(listing.labels.tobytes())
    request = {"images": len(listing.keys), "keys": digest.hexdigest(), **options}
    file = target / _REQUEST
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(request), sole_writer=True)
        return
    recorded = read_json_object(file)
    different = [f"{name}: {recorded.get(name)}, now {request.get(name)}" for name in sorted(recorded | request)
                 if recorded.get(name) != request.get(name)]  # fmt: skip
    if different:
        raise DistillError(
            f"{target} contains an unfinished packing of other images or options ({'; '.join(different)}): name a new "
            "folder or remove that one"
        )
