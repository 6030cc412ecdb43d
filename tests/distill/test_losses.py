"""The sparse loss against its dense definition, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import logitstore
from distill.targets.losses import TailDistributions, label_loss, mixed_label_loss, soft_target_loss
from distill.targets.selection import no_targets, select_topk
from distill.targets.sparse import SparseTargets


def dense_target(kept: SparseTargets, num_classes: int) -> torch.Tensor:
    """(b, c) float64: kept probabilities, and the tail spread evenly over the other classes."""
    target = torch.zeros(len(kept.tail), num_classes, dtype=torch.float64)
    for row in range(len(kept.tail)):
        present = [k for k in range(kept.indices.shape[1]) if kept.logprobs[row, k] > float("-inf")]
        others = num_classes - len(present)
        if others:
            target[row] = kept.tail[row].exp() / others
        for k in present:
            target[row, kept.indices[row, k]] = kept.logprobs[row, k].exp()
    return target / target.sum(dim=1, keepdim=True)  # Single-precision logarithms sum to 1 only nearly.


def random_kept(num_rows: int, num_classes: int, topk: int, *, sharpness: float) -> SparseTargets:
    kept = select_topk(sharpness * torch.randn(num_rows, num_classes, dtype=torch.float64), topk=topk)
    return SparseTargets(kept.indices, kept.logprobs.double(), kept.tail.double())


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
    cut = kept.logprobs.clone()
    cut[:, 4:] = float("-inf")
    tail = (kept.tail.exp() + kept.logprobs[:, 4:].exp().sum(dim=1)).log()
    shorter = SparseTargets(kept.indices, cut, tail)
    logits = torch.randn(4, 20, dtype=torch.float64, requires_grad=True)
    dense = -(dense_target(shorter, 20) * logits.log_softmax(dim=1)).sum(dim=1)
    torch.testing.assert_close(soft_target_loss(logits, shorter), dense, rtol=0, atol=1e-9)


def test_keeping_nothing_is_the_uniform_distribution_with_finite_gradient() -> None:
    kept = no_targets(3, topk=5)
    logits = torch.randn(3, 12, requires_grad=True)
    loss = soft_target_loss(logits, kept)
    torch.testing.assert_close(loss, -logits.log_softmax(dim=1).mean(dim=1))
    loss.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_half_precision_logits_are_taken_to_float32() -> None:
    kept = select_topk(torch.randn(4, 50), topk=5)
    logits = torch.randn(4, 50).bfloat16()
    assert soft_target_loss(logits, kept).dtype == torch.float32
    torch.testing.assert_close(soft_target_loss(logits, kept), soft_target_loss(logits.float(), kept))


def test_top_k_keeps_the_distribution() -> None:
    logits = 4 * torch.randn(16, 100, dtype=torch.float64)
    kept = select_topk(logits, topk=7)
    probs = logits.softmax(dim=1)
    top = probs.topk(7, dim=1)
    assert torch.equal(kept.indices, top.indices)
    torch.testing.assert_close(kept.logprobs.double().exp(), top.values, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(kept.tail.double().exp(), 1 - top.values.sum(dim=1), rtol=1e-4, atol=1e-9)
    assert kept.logprobs.dtype == kept.tail.dtype == torch.float32


def test_a_sure_teacher_keeps_its_tail() -> None:
    logits = torch.zeros(1, 1000)
    logits[0, 3] = 40.0
    kept = select_topk(logits, topk=1)
    expected = torch.log(torch.tensor(999.0)) - 40.0
    torch.testing.assert_close(kept.tail[0], expected, rtol=1e-5, atol=0)


def test_all_classes_kept_leave_no_tail() -> None:
    kept = select_topk(torch.randn(2, 6), topk=6)
    assert torch.isneginf(kept.tail).all()


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


def softened(target: torch.Tensor, temperature: float) -> torch.Tensor:
    """p^(1/T), scaled to sum to 1."""
    powers = target ** (1 / temperature)
    return powers / powers.sum(dim=1, keepdim=True)


def tail_model(num_classes: int, *, groups: int) -> logitstore.TailModel:
    random = np.random.default_rng(0)
    logits = 2 * random.normal(size=(groups, num_classes))
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return logitstore.TailModel(groups=random.integers(0, groups, num_classes), logprobs=logprobs.astype(np.float32))


def learned_target(kept: SparseTargets, model: logitstore.TailModel) -> torch.Tensor:
    """(b, c) float64: kept probabilities, and the tail spread by the group's distribution over the other classes."""
    num_classes = model.logprobs.shape[1]
    target = torch.zeros(len(kept.tail), num_classes, dtype=torch.float64)
    for row in range(len(kept.tail)):
        shape = torch.from_numpy(model.logprobs[model.groups[int(kept.indices[row, 0])]]).double().exp()
        present = kept.indices[row][kept.logprobs[row] > float("-inf")]
        shape[present] = 0
        if len(present) < num_classes:
            target[row] = kept.tail[row].exp() * shape / shape.sum()
        target[row, present] = kept.logprobs[row][: len(present)].exp()
    return target / target.sum(dim=1, keepdim=True)


def same_value_and_gradient(sparse: torch.Tensor, dense: torch.Tensor, logits: torch.Tensor) -> None:
    torch.testing.assert_close(sparse, dense, rtol=1e-5, atol=1e-5)
    (sparse_grad,) = torch.autograd.grad(sparse.sum(), logits, retain_graph=True)
    (dense_grad,) = torch.autograd.grad(dense.sum(), logits)
    torch.testing.assert_close(sparse_grad, dense_grad, rtol=1e-5, atol=1e-6)


SIZES = [(10, 1), (10, 9), (10, 10), (1000, 10), (5000, 100)]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize(("num_classes", "topk"), SIZES)
def test_even_tail_at_a_temperature(num_classes: int, topk: int, temperature: float) -> None:
    torch.manual_seed(3)
    kept = random_kept(6, num_classes, topk, sharpness=3.0)
    logits = (3 * torch.randn(6, num_classes, dtype=torch.float64)).requires_grad_()
    target = softened(dense_target(kept, num_classes), temperature)
    dense = -(target * (logits / temperature).log_softmax(dim=1)).sum(dim=1) * temperature**2
    same_value_and_gradient(soft_target_loss(logits, kept, temperature=temperature), dense, logits)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize(("num_classes", "topk"), SIZES)
@pytest.mark.parametrize("groups", [1, 7])
def test_learned_tail(num_classes: int, topk: int, temperature: float, groups: int) -> None:
    torch.manual_seed(4)
    kept = random_kept(6, num_classes, topk, sharpness=3.0)
    model = tail_model(num_classes, groups=groups)
    tables = TailDistributions.of(model, temperature=temperature, device=torch.device("cpu"))
    logits = (3 * torch.randn(6, num_classes, dtype=torch.float64)).requires_grad_()
    target = softened(learned_target(kept, model), temperature)
    dense = -(target * (logits / temperature).log_softmax(dim=1)).sum(dim=1) * temperature**2
    sparse = soft_target_loss(logits, kept, tail="learned", temperature=temperature, tables=tables)
    same_value_and_gradient(sparse, dense, logits)


def test_a_learned_tail_that_is_even_is_the_even_tail() -> None:
    kept = random_kept(6, 40, 5, sharpness=2.0)
    even = logitstore.TailModel(groups=np.zeros(40, np.int64), logprobs=np.full((1, 40), -np.log(40), np.float32))
    tables = TailDistributions.of(even, temperature=1.0, device=torch.device("cpu"))
    logits = torch.randn(6, 40, dtype=torch.float64)
    expected = soft_target_loss(logits, kept)
    torch.testing.assert_close(
        soft_target_loss(logits, kept, tail="learned", tables=tables), expected, rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize(("num_classes", "topk"), SIZES)
def test_one_bucket_for_the_others(num_classes: int, topk: int, temperature: float) -> None:
    torch.manual_seed(5)
    kept = random_kept(6, num_classes, topk, sharpness=3.0)
    cut = kept.logprobs.clone()
    cut[0, topk // 2 :] = float("-inf")  # A row with entries that hold nothing, which name class 0.
    indices = kept.indices.masked_fill(cut.isneginf(), 0)
    gone = kept.logprobs.masked_fill(~cut.isneginf(), float("-inf")).logsumexp(dim=1)
    kept = SparseTargets(indices, cut, kept.tail.logaddexp(gone))
    logits = (3 * torch.randn(6, num_classes, dtype=torch.float64)).requires_grad_()
    target = softened(dense_target(kept, num_classes), temperature)
    student = (logits / temperature).softmax(dim=1)
    dense = torch.zeros(6, dtype=torch.float64)
    for row in range(6):
        mask = torch.zeros(num_classes, dtype=torch.bool)
        mask[kept.indices[row][kept.logprobs[row] > float("-inf")]] = True
        dense[row] = -(target[row][mask] * student[row][mask].log()).sum()
        if not mask.all():
            dense[row] = dense[row] - target[row][~mask].sum() * student[row][~mask].sum().log()
    sparse = soft_target_loss(logits, kept, tail="bucket", temperature=temperature)
    same_value_and_gradient(sparse, dense * temperature**2, logits)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize(("num_classes", "topk"), SIZES)
def test_dropped_tail(num_classes: int, topk: int, temperature: float) -> None:
    torch.manual_seed(6)
    kept = random_kept(6, num_classes, topk, sharpness=3.0)
    logits = (3 * torch.randn(6, num_classes, dtype=torch.float64)).requires_grad_()
    target = torch.zeros(6, num_classes, dtype=torch.float64).scatter_(1, kept.indices, kept.logprobs.exp())
    target = softened(target / target.sum(dim=1, keepdim=True), temperature)
    dense = -(target * (logits / temperature).log_softmax(dim=1)).sum(dim=1) * temperature**2
    same_value_and_gradient(soft_target_loss(logits, kept, tail="dropped", temperature=temperature), dense, logits)


@pytest.mark.parametrize("tail", ["uniform", "bucket", "dropped"])
def test_rows_that_keep_nothing_have_finite_gradients(tail: str) -> None:
    logits = torch.randn(3, 12, requires_grad=True)
    loss = soft_target_loss(logits, no_targets(3, topk=5), tail=tail)
    assert torch.isfinite(loss).all()
    loss.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_max_mass_moves_the_rest_to_the_tail() -> None:
    logits = torch.log(torch.tensor([[0.6, 0.3, 0.05, 0.03, 0.02], [0.21, 0.2, 0.2, 0.2, 0.19]]))
    kept = select_topk(logits, topk=4, max_mass=0.89)
    assert kept.logprobs.isfinite().tolist() == [[True, True, False, False], [True] * 4]
    torch.testing.assert_close(kept.tail.exp(), torch.tensor([0.1, 0.19]), rtol=1e-5, atol=1e-6)
