"""The few rows with the highest scores out of many."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class Ranking:
    """Keeps the `size` best of all rows that are added, a batch at a time; of equal scores the lower row."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._rows = np.empty(0, np.int64)
        self._scores = np.empty(0, np.float64)

    def add(self, rows: npt.NDArray[np.int64], scores: npt.NDArray[np.float64]) -> None:
        """Rows and their scores, (n,) each; a row must not come twice. Scores of minus infinity are left out."""
        ranked = scores > -np.inf
        rows, scores = np.append(self._rows, rows[ranked]), np.append(self._scores, scores[ranked])
        best = np.lexsort((rows, -scores))[: self.size]
        self._rows, self._scores = rows[best], scores[best]

    @property
    def rows(self) -> tuple[int, ...]:
        """Best first."""
        return tuple(self._rows.tolist())
