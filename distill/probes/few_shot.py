"""Few-shot classification: a few labelled images per class, the others classified by the nearest class mean.

As SimpleShot (Wang et al., arXiv 1911.04623): features minus their mean over the training data, each normalised to
length 1; a class is the mean of its shots. Episodes are drawn from the validation data.

Shape suffixes: n rows, w ways (classes of an episode), s shots, q queries of a class, d features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from distill.errors import DistillError
from distill.probes.features import Features

_NORMAL_95 = 1.959964


@dataclass(frozen=True, slots=True, kw_only=True)
class FewShot:
    mean: float
    """Accuracy over all episodes, in percent."""
    interval: float
    """Half the width of the 95 % confidence interval of `mean`: 1.96 standard errors over episodes."""
    episodes: int


def score(
    train: Features, val: Features, *, ways: int, shots: Sequence[int], queries: int, episodes: int, seed: int
) -> dict[int, FewShot]:
    """Accuracy for each number of shots. An episode is a function of the seed and its number.

    **Raises:** `DistillError` where too few classes have enough rows.
    """
    values_nd = _normalised(val.values_nd - train.values_nd.mean(axis=0, dtype=np.float64).astype(np.float32))
    return {
        number: _summary(
            [
                _episode(values_nd, rows, shots=number, queries=queries)
                for rows in _episodes(val.labels_n, ways=ways, size=number + queries, episodes=episodes, seed=seed)
            ]
        )
        for number in shots
    }


def _episodes(
    labels_n: npt.NDArray[np.int64], *, ways: int, size: int, episodes: int, seed: int
) -> list[npt.NDArray[np.int64]]:
    """Rows (w, size) of each episode; no row is in an episode twice."""
    by_class = [np.flatnonzero(labels_n == label) for label in np.unique(labels_n)]
    eligible = [rows for rows in by_class if len(rows) >= size]
    if len(eligible) < ways:
        raise DistillError(
            f"few_shot.ways={ways}: only {len(eligible)} classes have the {size} labelled rows that shots and "
            "queries take"
        )
    drawn = []
    for episode in range(episodes):
        random = np.random.default_rng([seed, episode])
        classes = random.choice(len(eligible), ways, replace=False)
        drawn.append(np.stack([random.choice(eligible[number], size, replace=False) for number in classes]))
    return drawn


def _episode(values_nd: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], *, shots: int, queries: int) -> float:
    """Fraction of the queries that lie nearest to the mean of their own class."""
    values_wxd = values_nd[rows]
    means_wd = values_wxd[:, :shots].mean(axis=1)
    queries_wqd = values_wxd[:, shots:]
    distances_wqw = -2 * queries_wqd @ means_wd.T + np.square(means_wd).sum(axis=1)
    return float((distances_wqw.argmin(axis=2) == np.arange(len(rows))[:, None]).mean())


def _normalised(values_nd: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    lengths_n1 = np.linalg.norm(values_nd, axis=1, keepdims=True)
    return np.asarray(values_nd / np.maximum(lengths_n1, 1e-12), np.float32)


def _summary(accuracies: list[float]) -> FewShot:
    deviation = np.std(accuracies, ddof=1)
    return FewShot(
        mean=100 * float(np.mean(accuracies)),
        interval=100 * _NORMAL_95 * float(deviation) / math.sqrt(len(accuracies)),
        episodes=len(accuracies),
    )
