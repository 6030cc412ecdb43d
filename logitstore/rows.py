"""Rows as a reader hands them out: decoded, ready for a loss, still sparse."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """n views: their seeds and what the teacher said of them."""

    seeds: NDArray[np.uint64]
    """(n,) seed of each view."""
    indices: NDArray[np.int64]
    """(n, k) kept classes, most probable first, those that are stored as equally probable in the order of their
    numbers; 0 where nothing is stored."""
    logprobs: NDArray[np.float32]
    """(n, k) natural log-probabilities, of drawn classes the log of their weights; minus infinity where nothing is
    stored. exp sums to 1 - exp(tail)."""
    tail: NDArray[np.float32]
    """(n,) natural log of the mass that no kept class stands for; minus infinity where there is none."""
    num_classes: int
    """C, classes of the teacher."""
    drawn: NDArray[np.bool_] | None = None
    """(n, k), which classes were drawn; None under the selection `topk`."""

    def __len__(self) -> int:
        return len(self.seeds)

    def dense(self) -> NDArray[np.float32]:
        """Probabilities of all classes, (n, C) float32, each row summing to 1: the tail is spread evenly over
        the classes that are not kept."""
        stored_nk = np.isfinite(self.logprobs)
        others_n = self.num_classes - stored_nk.sum(axis=1)
        share_n = np.exp(self.tail) / np.maximum(others_n, 1)
        probabilities_nc = np.repeat(share_n[:, None].astype(np.float32), self.num_classes, axis=1)
        row, place = np.nonzero(stored_nk)
        probabilities_nc[row, self.indices[row, place]] = np.exp(self.logprobs[row, place])
        return probabilities_nc


@dataclass(frozen=True, slots=True, kw_only=True)
class TailModel:
    """How the mass outside the kept classes is spread: one distribution for each group of most probable classes.

    The teacher pass learns it from some views, as the mean of what lay outside the kept classes. A view's tail is
    spread by its group's distribution over the classes that it does not keep.
    """

    groups: NDArray[np.int64]
    """(C,) group of a view whose most probable class is c; 0 <= group < G."""
    logprobs: NDArray[np.float32]
    """(G, C) natural log-probabilities, finite; exp of each row sums to 1."""
