"""The linear probe: its optimum against a solver of another kind, and how it chooses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from distill.errors import DistillError
from distill.probes import linear
from distill.probes.features import Features

CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {
    "penalties": [1e-4, 1e-2, 1.0], "held_out": 0.2, "max_iterations": 100, "seed": 0, "num_classes": 4, "device": CPU,
}  # fmt: skip


def clusters(count: int, *, seed: int, spread: float) -> Features:
    """Four classes around fixed centres, on axes of very different scale."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(4, 6))
    labels = random.integers(0, 4, count)
    values = (centres[labels] + spread * random.normal(size=(count, 6))) * 10.0 ** np.arange(-3, 3)
    return Features(values_nd=(values + 5).astype(np.float32), labels_n=labels)


@pytest.mark.parametrize("penalty", [1e-3, 1e-1])
def test_the_fit_is_the_optimum(penalty: float, monkeypatch: pytest.MonkeyPatch) -> None:
    regression = pytest.importorskip("sklearn.linear_model").LogisticRegression
    monkeypatch.setattr(linear, "_LOGITS_AT_ONCE", 400)  # several parts
    data = clusters(200, seed=0, spread=1.0)
    values, labels = torch.from_numpy(data.values_nd), torch.from_numpy(data.labels_n)
    fitted = linear.fit(values, labels, penalty=penalty, num_classes=4, max_iterations=500)
    assert fitted.converged
    scaled = (data.values_nd.astype(float) - data.values_nd.mean(0, dtype=float)) / data.values_nd.std(0, dtype=float)
    theirs = regression(C=1 / (penalty * 200), tol=1e-10, max_iter=5000).fit(scaled, data.labels_n)
    np.testing.assert_allclose(fitted.weight_cd, theirs.coef_, atol=2e-3)
    shift = fitted.bias_c.numpy() - theirs.intercept_  # a constant added to every bias changes nothing
    np.testing.assert_allclose(shift, shift.mean(), atol=2e-3)
    assert abs(theirs.coef_).max() > 0.3


def test_separable_features_are_told_apart() -> None:
    probe = linear.score(clusters(300, seed=1, spread=0.02), clusters(200, seed=2, spread=0.02), **SETTINGS)
    assert probe.scores.top1 == 100
    assert probe.scores.top5 == 100


def test_the_penalty_is_chosen_on_rows_held_out_of_training() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 60)
    noise = random.normal(size=(60, 80)).astype(np.float32)
    noise[:, 0] += 2 * labels
    train = Features(values_nd=noise, labels_n=labels)
    probe = linear.score(train, train, **SETTINGS | {"penalties": [1e-4, 1e-1, 1e5]})
    assert set(probe.held_out) == {1e-4, 1e-1, 1e5}
    assert probe.penalty == max(probe.held_out, key=lambda penalty: (probe.held_out[penalty], penalty))
    assert probe.scores.top1 > max(probe.held_out.values()), "the rows held out were not trained on"
    again = linear.score(train, train, **SETTINGS | {"penalties": [1e5, 1e-4, 1e-1]})
    assert again == probe
    assert "edge of linear.penalties" in linear.describe(
        linear.score(train, train, **SETTINGS | {"penalties": [1e-4, 1e5]})
    )


def test_a_fit_that_was_cut_short_says_so() -> None:
    data = clusters(100, seed=0, spread=1.0)
    probe = linear.score(data, data, **SETTINGS | {"max_iterations": 1, "penalties": [1e-6]})
    assert not probe.converged
    assert "raise linear.max_iterations" in linear.describe(probe)


def test_too_few_rows_are_refused() -> None:
    data = clusters(2, seed=0, spread=1.0)
    with pytest.raises(DistillError, match=r"linear\.held_out=0\.2 of 2 labelled rows leaves none"):
        linear.score(data, data, **SETTINGS)
