"""Selections: `topk` is exact, and those that draw have the teacher's distribution as their mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from distill.targets.selection import Selection, select_targets, select_topk, uniforms
from distill.targets.sparse import SparseTargets


def weights(targets: SparseTargets, num_classes: int) -> torch.Tensor:
    """(b, c) float64 weights, the drawn classes dividing the tail."""
    drawn = targets.logprobs.isposinf()
    weight_b = targets.tail.double().exp() / drawn.sum(dim=1).clamp(min=1)
    values = torch.where(drawn, weight_b[:, None], targets.logprobs.double().exp())
    return torch.zeros(len(targets.tail), num_classes, dtype=torch.float64).scatter_add_(1, targets.indices, values)


@pytest.mark.parametrize("kind", ["sample", "hybrid"])
@pytest.mark.parametrize("sharpness", [0.5, 2.0, 5.0])
def test_the_mean_over_seeds_is_the_dense_distribution(kind: str, sharpness: float) -> None:
    torch.manual_seed(0)
    logits = sharpness * torch.randn(1, 40, dtype=torch.float64)
    repeats = 20_000
    targets = select_targets(
        logits.expand(repeats, -1), Selection(kind=kind, topk=8, draws=8), seeds_b=np.arange(repeats, dtype=np.uint64)
    )
    found = weights(targets, 40)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(repeats, dtype=torch.float64), rtol=0, atol=1e-5)
    error = (found.mean(dim=0) - logits.softmax(dim=1)[0]).abs()
    # A weight lies between 0 and about 1/8: its mean over so many seeds errs by less than five standard deviations.
    assert (error <= 5 * 0.5 * 0.13 / repeats**0.5 + 1e-6).all()


def test_hybrid_has_the_least_error_of_splits_of_its_size() -> None:
    torch.manual_seed(1)
    probs = (2 * torch.randn(1, 60, dtype=torch.float64)).softmax(dim=1).sort(dim=1, descending=True).values[0]
    targets = select_targets(probs.log()[None], Selection(kind="hybrid", topk=10), seeds_b=np.zeros(1, np.uint64))
    exact = int((~targets.logprobs.isposinf()).sum())

    def squared_error(first: int) -> float:
        """Expected, of drawing 10 - first classes of the rest; a class whose chance exceeds one is certain."""
        weight = probs[first:].sum() / (10 - first)
        return float((probs[first:] * (weight - probs[first:]))[probs[first:] < weight].sum())

    allowed = [m for m in range(10) if probs[m] <= probs[m:].sum() / (10 - m)]
    assert exact == allowed[0]
    assert squared_error(exact) == min(squared_error(m) for m in allowed)


def test_counts_are_integers_next_to_their_expectation() -> None:
    torch.manual_seed(2)
    logits = 2 * torch.randn(50, 30)
    targets = select_targets(
        logits, Selection(kind="sample", topk=20, draws=20), seeds_b=np.arange(50, dtype=np.uint64)
    )
    counts = weights(targets, 30) * 20
    torch.testing.assert_close(counts, counts.round(), rtol=0, atol=1e-5)
    assert ((counts - 20 * logits.double().softmax(dim=1)).abs() < 1 + 1e-5).all()
    assert (targets.logprobs[:, 1:] <= targets.logprobs[:, :-1]).all()


def test_the_same_seed_draws_the_same() -> None:
    logits = torch.randn(5, 100)
    selection = Selection(kind="hybrid", topk=10)
    seeds = np.array([1, 2, 3, 2**63, 2**64 - 1], np.uint64)
    one, other = select_targets(logits, selection, seeds_b=seeds), select_targets(logits, selection, seeds_b=seeds)
    assert torch.equal(one.indices, other.indices)
    again = select_targets(logits[[3]], selection, seeds_b=seeds[[3]])
    assert torch.equal(one.indices[[3]], again.indices)


def test_as_many_entries_as_classes_are_exact() -> None:
    logits = torch.randn(4, 7)
    targets = select_targets(logits, Selection(kind="hybrid", topk=7), seeds_b=np.zeros(4, np.uint64))
    torch.testing.assert_close(targets.logprobs, select_topk(logits, topk=7).logprobs)
    assert targets.tail.isneginf().all()


def test_uniforms_are_uniform() -> None:
    found = uniforms(np.arange(100_000, dtype=np.uint64) + np.uint64(2**40))
    assert found.min() >= 0
    assert found.max() < 1
    counts = np.histogram(found, bins=20, range=(0, 1))[0]
    assert abs(counts - 5000).max() < 5 * 5000**0.5
    assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 0.02


def test_topk_has_the_probabilities() -> None:
    logits = 4 * torch.randn(16, 100, dtype=torch.float64)
    targets = select_topk(logits, topk=7)
    probs = logits.softmax(dim=1)
    top = probs.topk(7, dim=1)
    assert torch.equal(targets.indices, top.indices)
    torch.testing.assert_close(targets.logprobs.double().exp(), top.values, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(targets.tail.double().exp(), 1 - top.values.sum(dim=1), rtol=1e-4, atol=1e-9)
    assert targets.logprobs.dtype == targets.tail.dtype == torch.float32


def test_a_confident_teacher_has_a_precise_tail() -> None:
    logits = torch.zeros(1, 1000)
    logits[0, 3] = 40.0
    targets = select_topk(logits, topk=1)
    expected = torch.log(torch.tensor(999.0)) - 40.0
    torch.testing.assert_close(targets.tail[0], expected, rtol=1e-5, atol=0)


def test_all_classes_leave_no_tail() -> None:
    targets = select_topk(torch.randn(2, 6), topk=6)
    assert torch.isneginf(targets.tail).all()
