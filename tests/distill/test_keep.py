"""Selections that draw: what they keep on the average is what the teacher said."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from distill.targets.selection import Selection, select_targets, select_topk, uniforms
from distill.targets.sparse import SparseTargets


def weights(kept: SparseTargets, num_classes: int) -> torch.Tensor:
    """(b, c) float64 of what is kept, drawn classes sharing the tail."""
    drawn = kept.logprobs.isposinf()
    shares = kept.tail.double().exp() / drawn.sum(dim=1).clamp(min=1)
    values = torch.where(drawn, shares[:, None], kept.logprobs.double().exp())
    return torch.zeros(len(kept.tail), num_classes, dtype=torch.float64).scatter_add_(1, kept.indices, values)


@pytest.mark.parametrize("kind", ["sample", "hybrid"])
@pytest.mark.parametrize("sharpness", [0.5, 2.0, 5.0])
def test_the_mean_over_seeds_is_the_dense_distribution(kind: str, sharpness: float) -> None:
    torch.manual_seed(0)
    logits = sharpness * torch.randn(1, 40, dtype=torch.float64)
    repeats = 20_000
    kept = select_targets(
        logits.expand(repeats, -1), Selection(kind=kind, topk=8, draws=8), seeds_b=np.arange(repeats, dtype=np.uint64)
    )
    found = weights(kept, 40)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(repeats, dtype=torch.float64), rtol=0, atol=1e-5)
    error = (found.mean(dim=0) - logits.softmax(dim=1)[0]).abs()
    # A weight lies between 0 and about 1/8: its mean over so many seeds errs by less than five standard deviations.
    assert (error <= 5 * 0.5 * 0.13 / repeats**0.5 + 1e-6).all()


def test_hybrid_has_the_least_error_of_splits_of_its_size() -> None:
    torch.manual_seed(1)
    probs = (2 * torch.randn(1, 60, dtype=torch.float64)).softmax(dim=1).sort(dim=1, descending=True).values[0]
    kept = select_targets(probs.log()[None], Selection(kind="hybrid", topk=10), seeds_b=np.zeros(1, np.uint64))
    exact = int((~kept.logprobs.isposinf()).sum())

    def squared_error(first: int) -> float:
        """Expected, of drawing 10 - first classes of the rest; of a chance above one the class is sure."""
        share = probs[first:].sum() / (10 - first)
        return float((probs[first:] * (share - probs[first:]))[probs[first:] < share].sum())

    allowed = [m for m in range(10) if probs[m] <= probs[m:].sum() / (10 - m)]
    assert exact == allowed[0]
    assert squared_error(exact) == min(squared_error(m) for m in allowed)


def test_counts_are_whole_and_next_to_their_expectation() -> None:
    torch.manual_seed(2)
    logits = 2 * torch.randn(50, 30)
    kept = select_targets(logits, Selection(kind="sample", topk=20, draws=20), seeds_b=np.arange(50, dtype=np.uint64))
    counts = weights(kept, 30) * 20
    torch.testing.assert_close(counts, counts.round(), rtol=0, atol=1e-5)
    assert ((counts - 20 * logits.double().softmax(dim=1)).abs() < 1 + 1e-5).all()
    assert (kept.logprobs[:, 1:] <= kept.logprobs[:, :-1]).all()


def test_the_same_seed_draws_the_same() -> None:
    logits = torch.randn(5, 100)
    selection = Selection(kind="hybrid", topk=10)
    seeds = np.array([1, 2, 3, 2**63, 2**64 - 1], np.uint64)
    one, other = select_targets(logits, selection, seeds_b=seeds), select_targets(logits, selection, seeds_b=seeds)
    assert torch.equal(one.indices, other.indices)
    again = select_targets(logits[[3]], selection, seeds_b=seeds[[3]])
    assert torch.equal(one.indices[[3]], again.indices)


def test_room_for_all_classes_keeps_them_exactly() -> None:
    logits = torch.randn(4, 7)
    kept = select_targets(logits, Selection(kind="hybrid", topk=7), seeds_b=np.zeros(4, np.uint64))
    torch.testing.assert_close(kept.logprobs, select_topk(logits, topk=7).logprobs)
    assert kept.tail.isneginf().all()


def test_uniforms_are_spread_evenly() -> None:
    found = uniforms(np.arange(100_000, dtype=np.uint64) + np.uint64(2**40))
    assert found.min() >= 0
    assert found.max() < 1
    counts = np.histogram(found, bins=20, range=(0, 1))[0]
    assert abs(counts - 5000).max() < 5 * 5000**0.5
    assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 0.02
