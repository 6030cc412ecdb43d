"""Weighted neighbours against a brute-force count."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from distill.errors import DistillError
from distill.probes import knn
from distill.probes.features import Features

CPU = torch.device("cpu")


def random_features(count: int, *, seed: int, width: int = 7) -> Features:
    random = np.random.default_rng(seed)
    values = random.normal(size=(count, width)).astype(np.float32) * random.uniform(0.1, 9, (count, 1)).astype("f4")
    return Features(values_nd=values, labels_n=values.argmax(1))


def brute_force(train: Features, val: Features, *, k: int, temperature: float) -> tuple[float, float]:
    """Top-1 and top-5 in percent, a row at a time in float64."""
    hits = [0, 0]
    for value, label in zip(val.values_nd.astype(float), val.labels_n, strict=True):
        near = []
        for other, other_label in zip(train.values_nd.astype(float), train.labels_n, strict=True):
            near.append((value @ other / np.linalg.norm(value) / np.linalg.norm(other), int(other_label)))
        votes = dict.fromkeys(range(7), 0.0)
        for cosine, other_label in sorted(near, reverse=True)[:k]:
            votes[other_label] += math.exp(cosine / temperature)
        ranked = sorted(votes, key=lambda name: votes[name], reverse=True)
        hits[0] += ranked[0] == label
        hits[1] += label in ranked[:5] and votes[int(label)] > 0
    return 100 * hits[0] / len(val), 100 * hits[1] / len(val)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_equals_brute_force(temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "_VALUES_AT_ONCE", 700)  # several parts
    train, val = random_features(90, seed=0), random_features(40, seed=1)
    found = knn.score(train, val, neighbours=[1, 9, 60], temperature=temperature, num_classes=7, device=CPU)
    assert len({scores.top1 for scores in found.values()}) > 1
    for k, scores in found.items():
        top1, top5 = brute_force(train, val, k=k, temperature=temperature)
        assert scores.top1 == pytest.approx(top1)
        if k == 60:  # with fewer votes, classes without one are tied
            assert scores.top5 == pytest.approx(top5)


def test_small_temperatures_do_not_overflow() -> None:
    train = random_features(50, seed=2)
    found = knn.score(train, train, neighbours=[5], temperature=1e-4, num_classes=7, device=CPU)
    assert found[5].top1 == 100, "a row is its own nearest neighbour"


def test_more_neighbours_than_rows_are_refused() -> None:
    train = random_features(5, seed=0)
    with pytest.raises(DistillError, match=r"knn\.neighbours=6: there are only 5 labelled rows"):
        knn.score(train, train, neighbours=[6], temperature=0.07, num_classes=7, device=CPU)
