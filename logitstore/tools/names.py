"""Numbers to names, where the store's provenance knows any: class names and sample keys.

The store itself holds only class indices and key hashes. Class names come from its provenance, None where that has
none; keys from the catalog of the packed data set.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from logitstore.errors import StoreError
from logitstore.spec import StoreSpec


def class_name(spec: StoreSpec, index: int) -> str | None:
    """Name of one of the teacher's classes: the teacher's list, or the data's where it has as many classes."""
    own = spec.teacher.get("class_names")
    return _item(own if own else spec.data.get("class_names"), index, length=spec.num_classes)


def label_name(spec: StoreSpec, label: int) -> str | None:
    """Name of a label of the data; None for -1."""
    return _item(spec.data.get("class_names"), label)


def labels_are_classes(spec: StoreSpec) -> bool:
    """Whether labels can be numbers of the teacher's classes: not where the data is known to have fewer or more."""
    own = spec.data.get("class_names")
    return not isinstance(own, list) or not own or len(own) == spec.num_classes


def key_text(data: Path, row: int, *, spec: StoreSpec) -> str:
    """Key of a sample from the catalog of the packed data set at `data`.

    Reads `key_offsets.npy`, (N + 1,) uint64, without loading it, and one piece of `keys.bin`, UTF-8.

    Raises `StoreError` where there is no catalog, or one of other data than the store's.
    """
    folder = data / "catalog"
    try:
        fingerprint = json.loads((folder / "catalog.json").read_text()).get("fingerprint")
        offsets = np.load(folder / "key_offsets.npy", mmap_mode="r", allow_pickle=False)
        with (folder / "keys.bin").open("rb") as file:
            file.seek(int(offsets[row]))
            key = file.read(int(offsets[row + 1]) - int(offsets[row])).decode()
    except (OSError, ValueError, IndexError) as error:
        raise StoreError(f"{folder} cannot be read as a catalog ({error}): name the packed data set") from None
    if fingerprint != spec.data.get("fingerprint"):
        raise StoreError(
            f"{data} is other data than the store's: its fingerprint is {fingerprint}, the store's "
            f"{spec.data.get('fingerprint')}"
        )
    return key


def _item(names: Any, index: int, *, length: int | None = None) -> str | None:
    if not isinstance(names, list) or not 0 <= index < len(names):
        return None
    return None if length is not None and len(names) != length else str(names[index])
