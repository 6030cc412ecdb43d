"""Which images of a folder are kept from training, so that a student can be scored on images it has not seen.

Of each class a share is held out, chosen by a hash of each image's key: other files coming or going move few of the
choices, and the same folder is parted alike wherever it is packed.
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
    """A part of the images that is packed elsewhere."""

    target: Path
    """Its folder, new or empty."""
    share: float = 0.1
    """Of each class, 0 < share < 1; at least one image of a class that has two."""

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise UsageError(f"the share held out must lie between 0 and 1, not {self.share:g}")


def held_out(keys: Keys, labels: npt.NDArray[np.int32], *, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """(N,) bool: the rows held out. Of n images of a class share * n, rounded, of a class of one none.

    **Arguments:** one entry an image in `keys` and `labels`. `seed` decides which.
    """
    hashes = np.fromiter((xxhash.xxh3_64_intdigest(keys[n], seed) for n in range(len(keys))), np.uint64, len(keys))
    held = np.zeros(len(keys), np.bool_)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = min(max(1, round(share * len(rows))), len(rows) - 1)
        held[rows[np.argsort(hashes[rows], kind="stable")[:count]]] = True
    return held
