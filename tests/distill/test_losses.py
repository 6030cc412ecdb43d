"""The sparse loss against its dense definition, in float64."""

from __future__ import annotations

import pytest
import torch

from distill.keep import Kept, keep_nothing, keep_topk
from distill.losses import label_loss, mixed_label_loss, soft_target_loss


def dense_target(kept: Kept, num_classes: int) -> torch.Tensor:
    """(b, c) float64: kept probabilities, and the tail spread evenly over the other classes."""
    target = torch.zeros(len(kept), num_classes, dtype=torch.float64)
    for row in range(len(kept)):
        present = [k for k in range(kept.indices_bk.shape[1]) if kept.logprobs_bk[row, k] > float("-inf")]
        others = num_classes - len(present)
        if others:
            target[row] = kept.tail_b[row].exp() / others
        for k in present:
            target[row, kept.indices_bk[row, k]] = kept.logprobs_bk[row, k].exp()
    return target


def random_kept(num_rows: int, num_classes: int, topk: int, *, sharpness: float) -> Kept:
    kept = keep_topk(sharpness * torch.randn(num_rows, num_classes, dtype=torch.float64), topk=topk)
    return Kept(kept.indices_bk, kept.logprobs_bk.double(), kept.tail_b.double())


@pytest.mark.parametrize(("num_classes", "topk"), [(10, 1), (10, 9), (10, 10), (1000, 10), (21841, 100)])
@pytest.mark.parametrize("sharpness", [0.0, 3.0, 30.0])
def test_value_and_gradient_equal_the_dense_loss(num_classes: int, topk: int, sharpness: float) -> None:
    torch.manual_seed(0)
    kept = random_kept(8, num_classes, topk, sharpness=sharpness)
    logits = (3 * torch.randn(8, num_classes, dtype=torch.float64)).requires_grad_()
    sparse = soft_target_loss(logits, kept)
    dense = -(dense_target(kept, num_classes) * logits.log_softmax(dim=1)).sum(dim=1)
    torch.testing.assert_close(sparse, dense, rtol=0, atol=1e-6)
    (sparse_grad,) = torch.autograd.grad(sparse.sum(), logits)
    (dense_grad,) = torch.autograd.grad(dense.sum(), logits)
    torch.testing.assert_close(sparse_grad, dense_grad, rtol=0, atol=1e-6)


def test_absent_entries_count_as_other_classes() -> None:
    torch.manual_seed(1)
    kept = random_kept(4, 20, 6, sharpness=2.0)
    cut = kept.logprobs_bk.clone()
    cut[:, 4:] = float("-inf")
    tail = (kept.tail_b.exp() + kept.logprobs_bk[:, 4:].exp().sum(dim=1)).log()
    shorter = Kept(kept.indices_bk, cut, tail)
    logits = torch.randn(4, 20, dtype=torch.float64, requires_grad=True)
    dense = -(dense_target(shorter, 20) * logits.log_softmax(dim=1)).sum(dim=1)
    torch.testing.assert_close(soft_target_loss(logits, shorter), dense, rtol=0, atol=1e-9)


def test_keeping_nothing_is_the_uniform_distribution_with_finite_gradient() -> None:
    kept = keep_nothing(3, topk=5)
    logits = torch.randn(3, 12, requires_grad=True)
    loss = soft_target_loss(logits, kept)
    torch.testing.assert_close(loss, -logits.log_softmax(dim=1).mean(dim=1))
    loss.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_half_precision_logits_are_taken_to_float32() -> None:
    kept = keep_topk(torch.randn(4, 50), topk=5)
    logits = torch.randn(4, 50).bfloat16()
    assert soft_target_loss(logits, kept).dtype == torch.float32
    torch.testing.assert_close(soft_target_loss(logits, kept), soft_target_loss(logits.float(), kept))


def test_top_k_keeps_the_distribution() -> None:
    logits = 4 * torch.randn(16, 100, dtype=torch.float64)
    kept = keep_topk(logits, topk=7)
    probs = logits.softmax(dim=1)
    top = probs.topk(7, dim=1)
    assert torch.equal(kept.indices_bk, top.indices)
    torch.testing.assert_close(kept.logprobs_bk.double().exp(), top.values, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(kept.tail_b.double().exp(), 1 - top.values.sum(dim=1), rtol=1e-4, atol=1e-9)
    assert kept.logprobs_bk.dtype == kept.tail_b.dtype == torch.float32


def test_a_sure_teacher_keeps_its_tail() -> None:
    logits = torch.zeros(1, 1000)
    logits[0, 3] = 40.0
    kept = keep_topk(logits, topk=1)
    expected = torch.log(torch.tensor(999.0)) - 40.0
    torch.testing.assert_close(kept.tail_b[0], expected, rtol=1e-5, atol=0)


def test_all_classes_kept_leave_no_tail() -> None:
    kept = keep_topk(torch.randn(2, 6), topk=6)
    assert torch.isneginf(kept.tail_b).all()


def test_label_loss_is_cross_entropy_per_view() -> None:
    logits, labels = torch.randn(5, 9), torch.tensor([0, 8, 3, 3, 1])
    expected = -logits.log_softmax(dim=1)[torch.arange(5), labels]
    torch.testing.assert_close(label_loss(logits, labels), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mixed_label_loss_is_the_dense_loss_with_mixed_targets(smoothing: float) -> None:
    torch.manual_seed(2)
    logits = torch.randn(6, 9, dtype=torch.float64, requires_grad=True)
    own, partner = torch.tensor([0, 8, 3, 3, 1, 5]), torch.tensor([4, 8, 0, 3, 2, 6])
    shares = torch.tensor([1.0, 0.25, 0.5, 0.7, 0.0, 0.9], dtype=torch.float64)
    target = torch.zeros(6, 9, dtype=torch.float64)
    target[torch.arange(6), own] += shares
    target[torch.arange(6), partner] += 1 - shares
    target = target * (1 - smoothing) + smoothing / 9
    dense = -(target * logits.log_softmax(dim=1)).sum(dim=1)
    sparse = mixed_label_loss(logits, own, partner, shares, smoothing=smoothing)
    torch.testing.assert_close(sparse, dense)
    (sparse_grad,) = torch.autograd.grad(sparse.sum(), logits, retain_graph=True)
    (dense_grad,) = torch.autograd.grad(dense.sum(), logits)
    torch.testing.assert_close(sparse_grad, dense_grad)
