"""The seed of every view."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_ROOM = 2**40


def view_seeds(
    rows: npt.NDArray[np.int64] | range, *, base: int, epoch: int, num_samples: int
) -> npt.NDArray[np.uint64]:
    """(n,) uint64 seeds of the views of some rows in one epoch: base * 2**40 + epoch * N + row, modulo 2**64.

    Seeds that count up compress to next to nothing, and the generator they key is counter-based: made for keys that
    differ in one bit. Stores of up to 2**40 views with different bases share no seed.
    """
    first = (base * _ROOM + epoch * num_samples) % 2**64
    return np.asarray(rows, np.uint64) + np.uint64(first)
