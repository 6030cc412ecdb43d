"""Disagreement between views against the same figure from dense distributions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import logitstore
from distill.page.disagreement import disagreement


def entropy(probabilities: np.ndarray) -> np.ndarray:
    safe = np.where(probabilities > 0, probabilities, 1)
    return np.asarray(-(safe * np.log(safe)).sum(axis=-1))


def dense(views: list[logitstore.Rows]) -> np.ndarray:
    """The definition, on all classes."""
    all_enc = np.stack([view.dense().astype(np.float64) for view in views])
    return np.asarray(entropy(all_enc.mean(axis=0)) - entropy(all_enc).mean(axis=0))


def rows_of(random: np.random.Generator, *, number: int, classes: int, topk: int, shorter: bool) -> logitstore.Rows:
    """Sparse rows; with `shorter`, some have fewer than `topk` classes."""
    logits = random.normal(size=(number, classes)) * random.choice([0.1, 1, 10])
    logprobs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    order = np.argsort(-logprobs, axis=1)[:, :topk]
    topk_logprobs = np.take_along_axis(logprobs, order, axis=1)
    if shorter and topk > 1:
        topk_logprobs[random.random(number) < 0.5, topk // 2 :] = -np.inf
    tail = (
        np.log(np.maximum(1 - np.exp(topk_logprobs).sum(axis=1), 1e-30)) if topk < classes else np.full(number, -np.inf)
    )
    return logitstore.Rows(
        seeds=np.zeros(number, np.uint64), indices=np.where(np.isfinite(topk_logprobs), order, 0),
        logprobs=topk_logprobs.astype(np.float32), tail=tail.astype(np.float32), num_classes=classes,
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(1, 30), epochs=st.integers(1, 5), shorter=st.booleans())
def test_it_is_the_figure_of_the_dense_distributions(seed: int, classes: int, epochs: int, shorter: bool) -> None:
    random = np.random.default_rng(seed)
    topk = int(random.integers(1, classes + 1))
    shorter = shorter and topk < classes
    views = [rows_of(random, number=7, classes=classes, topk=topk, shorter=shorter) for _ in range(epochs)]
    np.testing.assert_allclose(disagreement(views), np.maximum(dense(views), 0), atol=2e-6)


def test_its_ends_are_agreement_and_nothing_in_common() -> None:
    def certain(index: int) -> logitstore.Rows:
        return logitstore.Rows(
            seeds=np.zeros(1, np.uint64), indices=np.array([[index]]), logprobs=np.zeros((1, 1), np.float32),
            tail=np.full(1, -np.inf, np.float32), num_classes=5,
        )  # fmt: skip

    assert disagreement([certain(2), certain(2)])[0] == 0
    assert disagreement([certain(n) for n in range(4)])[0] == pytest.approx(np.log(4))
