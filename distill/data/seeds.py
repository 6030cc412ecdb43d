"""The seed of every view: derived from its coordinate, or read from a store.

The coordinate of a view is (stored epoch, row). Both sources give the seeds of many coordinates as one array; a store
also gives their targets. Seeds are derived and read nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

import logitstore
from distill.data.order import Int64s
from distill.targets.sparse import SparseTargets

Seeds = npt.NDArray[np.uint64]

_VIEWS_PER_BASE = 2**40


class SeedSource(Protocol):
    """Where the seeds of views come from."""

    def seeds(self, epochs: Int64s, rows: Int64s) -> Seeds:
        """(n,) uint64 of the views at n coordinates, in any order."""
        ...

    def read(self, epochs: Int64s, rows: Int64s) -> tuple[Seeds, SparseTargets | None]:
        """The seeds, and the views' targets, (n, k), where there is a store."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedSeeds:
    """base * 2**40 + epoch * N + row, modulo 2**64.

    Consecutive seeds compress to almost nothing, and the generator that they key is counter-based, built for keys that
    differ in one bit. Stores of up to 2**40 views with different bases have no seed in common.
    """

    base: int
    num_samples: int
    """N."""

    def seeds(self, epochs: Int64s, rows: Int64s) -> Seeds:
        first = np.uint64(self.base * _VIEWS_PER_BASE % 2**64)
        return epochs.astype(np.uint64) * np.uint64(self.num_samples) + rows.astype(np.uint64) + first

    def read(self, epochs: Int64s, rows: Int64s) -> tuple[Seeds, None]:
        return self.seeds(epochs, rows), None


@dataclass(frozen=True, slots=True)
class StoredViews:
    """Seeds and targets from a store."""

    store: logitstore.Store

    def seeds(self, epochs: Int64s, rows: Int64s) -> Seeds:
        return self.read(epochs, rows)[0]

    def read(self, epochs: Int64s, rows: Int64s) -> tuple[Seeds, SparseTargets]:
        """**Raises:** a `logitstore.StoreError` for a block that is missing or damaged."""
        order, parts = [], []
        for epoch in np.unique(epochs).tolist():
            positions = np.flatnonzero(epochs == epoch)
            order.append(positions)
            parts.append(self.store.read(epoch=epoch, rows=rows[positions]))
        back = np.argsort(np.concatenate(order))

        def joined(name: str) -> npt.NDArray[np.generic]:
            return np.asarray(np.concatenate([getattr(part, name) for part in parts])[back])

        targets = SparseTargets(*(torch.from_numpy(joined(name)) for name in ("indices", "logprobs", "tail")))
        return joined("seeds").astype(np.uint64, copy=False), targets


def as_int64(seeds: Seeds) -> torch.Tensor:
    """uint64 seeds as the int64 of the same bits: torch's unsigned types lack most operations."""
    return torch.from_numpy(seeds.view(np.int64))


def as_uint64(seeds_b: torch.Tensor) -> Seeds:
    """The inverse of `as_int64`."""
    return seeds_b.numpy().view(np.uint64)
