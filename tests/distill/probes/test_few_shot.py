"""Few-shot episodes: the draw, an episode computed by hand, and the interval."""

from __future__ import annotations

import math

import numpy as np
import pytest

from distill.errors import DistillError
from distill.probes import few_shot
from distill.probes.features import Features


def test_episodes_have_rows_of_their_classes_none_twice() -> None:
    labels = np.repeat(np.arange(6), [9, 3, 9, 9, 9, 2])
    drawn = few_shot._episodes(labels, ways=3, size=5, episodes=40, seed=1)
    seen = set()
    for rows in drawn:
        assert rows.shape == (3, 5)
        assert len(set(rows.flatten().tolist())) == 15
        classes = labels[rows]
        assert (classes == classes[:, :1]).all()
        assert len(set(classes[:, 0].tolist())) == 3
        seen |= set(classes[:, 0].tolist())
    assert seen == {0, 2, 3, 4}, "only classes with rows enough, each of them"
    again = few_shot._episodes(labels, ways=3, size=5, episodes=20, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=False))
    with pytest.raises(DistillError, match=r"few_shot\.ways=5: only 4 classes have the 5 labelled rows"):
        few_shot._episodes(labels, ways=5, size=5, episodes=1, seed=1)


def test_an_episode_computed_by_hand() -> None:
    values = np.array([[0, 0], [2, 0], [0.9, 0], [1.6, 0], [3, 0], [3, 0], [1.9, 0], [2.1, 0]], np.float32)
    rows = np.array([[0, 1, 2, 3], [4, 5, 6, 7]])  # means at 1 and 3: 1.9 lies on the wrong side of 2
    assert few_shot._episode(values, rows, shots=2, queries=2) == pytest.approx(3 / 4)


def test_accuracy_and_interval_are_those_of_plain_loops() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 12)
    values = (random.normal(size=(5, 8))[labels] + random.normal(size=(60, 8))).astype(np.float32) + 3
    val = Features(values_nd=values, labels_n=labels)
    train = Features(values_nd=values[::2] + 0.5, labels_n=labels[::2])
    found = few_shot.score(train, val, ways=3, shots=[2], queries=4, episodes=25, seed=3)[2]
    centred = values - train.values_nd.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    accuracies = []
    for rows in few_shot._episodes(labels, ways=3, size=6, episodes=25, seed=3):
        means = [unit[row[:2]].mean(0) for row in rows]
        right = [
            way == min(range(3), key=lambda other: float(np.linalg.norm(unit[query] - means[other])))
            for way, row in enumerate(rows)
            for query in row[2:]
        ]
        accuracies.append(np.mean(right))
    assert found.mean == pytest.approx(100 * np.mean(accuracies))
    variance = sum((value - np.mean(accuracies)) ** 2 for value in accuracies) / 24
    assert found.interval == pytest.approx(100 * 1.96 * math.sqrt(variance / 25), rel=1e-3)
    assert 0 < found.interval < 20
