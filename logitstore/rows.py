"""What a store returns: views decoded, ready for a loss, still sparse."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """n views: their seeds and the teacher's top-k for them."""

    seeds: NDArray[np.uint64]
    """(n,) seed of each view."""
    indices: NDArray[np.int64]
    """(n, k) selected classes, most probable first; from the second on, classes that are stored as equally probable are
    in the order of their numbers. Empty entries, at the end of a row, are 0."""
    logprobs: NDArray[np.float32]
    """(n, k) natural log-probabilities, of drawn classes the log of their weights; minus infinity for empty entries.
    exp of a row sums to 1 - exp(tail)."""
    tail: NDArray[np.float32]
    """(n,) natural log of the mass outside the selected classes; minus infinity where there is none."""
    num_classes: int
    """C, classes of the teacher."""
    drawn: NDArray[np.bool_] | None = None
    """(n, k), which classes were drawn at random; None under the selection `topk`."""

    def __len__(self) -> int:
        return len(self.seeds)

    def dense(self) -> NDArray[np.float32]:
        """Probabilities of all classes, (n, C) float32, each row summing to 1: the tail is uniform over the classes
        that are not selected."""
        stored_nk = np.isfinite(self.logprobs)
        others_n = self.num_classes - stored_nk.sum(axis=1)
        each_n = np.exp(self.tail) / np.maximum(others_n, 1)
        probabilities_nc = np.repeat(each_n[:, None].astype(np.float32), self.num_classes, axis=1)
        row, place = np.nonzero(stored_nk)
        probabilities_nc[row, self.indices[row, place]] = np.exp(self.logprobs[row, place])
        return probabilities_nc


@dataclass(frozen=True, slots=True, kw_only=True)
class TailModel:
    """How the mass outside the selected classes is distributed: one distribution for each group of classes.

    The teacher pass learns it from some views, as the mean distribution outside the selected classes. A view belongs to
    the group of its most probable class; its tail is distributed over the classes that are not selected, in proportion
    to its group's distribution.
    """

    groups: NDArray[np.int64]
    """(C,) group of a view whose most probable class is c; 0 <= group < G."""
    logprobs: NDArray[np.float32]
    """(G, C) natural log-probabilities, finite; exp of each row sums to 1."""
