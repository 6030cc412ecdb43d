"""What a store records of its teacher and software, checked: whoever wrote the store decides what stands there."""

from __future__ import annotations

from typing import Any

import logitstore
from distill.errors import DistillError

_MAX_SIZE = 2**13


def image_size(store: logitstore.Store) -> int:
    """Side of the images that the teacher saw, in pixels. **Raises:** `DistillError` where the store does not say."""
    size = store.spec.teacher.get("image_size")
    if type(size) is not int or not 0 < size <= _MAX_SIZE:
        raise DistillError(f"{store.path} does not say what size of images its teacher saw: {size!r:.40}")
    return size


def class_names(store: logitstore.Store) -> list[str] | None:
    """Names of the teacher's classes, one for each; None where the store has no such list."""
    names = store.spec.teacher.get("class_names")
    if not isinstance(names, list) or len(names) != store.spec.num_classes:
        return None
    return names if all(isinstance(name, str) for name in names) else None


def view_software(store: logitstore.Store) -> dict[str, Any]:
    """Versions of what rendered the views, and the digest of what it drew; empty where the store has none."""
    recorded = store.spec.software.get("views")
    return recorded if isinstance(recorded, dict) else {}
