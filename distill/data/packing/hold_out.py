"""Rows held out of training, so that a student can be evaluated on images that it was not trained on.

A fraction of each class is held out, chosen by a hash of each image's key: adding or removing files changes few of the
choices, and the same folder is split alike wherever it is packed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

from distill.data.catalog import Keys
from distill.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldOut:
    """A fraction of the images that is packed into another folder."""

    target: Path
    """The folder, new or empty."""
    fraction: float = 0.1
    """Of each class, 0 < fraction < 1; at least one image of a class that has two."""

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise UsageError(f"--share {self.fraction:g}: the fraction held out must lie between 0 and 1")


def held_out(keys: Keys, labels: npt.NDArray[np.int32], *, fraction: float, seed: int) -> npt.NDArray[np.bool_]:
    """(N,) bool: the rows held out. Of n images of a class fraction * n, rounded; of a class of one none.

    **Arguments:** `keys` and `labels` have one entry per image; `seed` decides which are held out.
    """
    hashes = np.fromiter((xxhash.xxh3_64_intdigest(keys[n], seed) for n in range(len(keys))), np.uint64, len(keys))
    held = np.zeros(len(keys), np.bool_)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = min(max(1, round(fraction * len(rows))), len(rows) - 1)
        held[rows[np.argsort(hashes[rows], kind="stable")[:count]]] = True
    return held
