"""The best rows of many."""

from __future__ import annotations

import numpy as np

from distill.page.ranking import Ranking


def test_a_ranking_keeps_the_best_of_all_parts() -> None:
    random = np.random.default_rng(0)
    scores = random.integers(0, 20, 200).astype(float)
    scores[::7] = -np.inf
    ranking = Ranking(9)
    for first in range(0, 200, 13):
        part = np.arange(first, min(first + 13, 200))
        ranking.add(part, scores[part])
    wanted = sorted((row for row in range(200) if scores[row] > -np.inf), key=lambda row: (-scores[row], row))
    assert ranking.rows == tuple(wanted[:9])
