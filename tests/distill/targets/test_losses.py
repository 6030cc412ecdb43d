"""The losses on sparse targets against their dense definitions, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import logitstore
from distill.targets.losses import TailDistributions, label_loss, mixed_label_loss, soft_target_loss
from distill.targets.selection import no_targets, select_topk
from distill.targets.sparse import SparseTargets


def dense_target(targets: SparseTargets, num_classes: int) -> torch.Tensor:
    """(b, c) float64: the probabilities of the top-k, and the tail uniformly over the other classes."""
    target = torch.zeros(len(targets.tail), num_classes, dtype=torch.float64)
    for row in range(len(targets.tail)):
        present = [k for k in range(targets.indices.shape[1]) if targets.logprobs[row, k] > float("-inf")]
        others = num_classes - len(present)
        if others:
            target[row] = targets.tail[row].exp() / others
        for k in present:
            target[row, targets.indices[row, k]] = targets.logprobs[row, k].exp()
    return target / target.sum(dim=1, keepdim=True)  # Single-precision logarithms sum to 1 only nearly.


def random_targets(num_rows: int, num_classes: int, topk: int, *, sharpness: float) -> SparseTargets:
    targets = select_topk(sharpness * torch.randn(num_rows, num_classes, dtype=torch.float64), topk=topk)
    return SparseTargets(targets.indices, targets.logprobs.double(), targets.tail.double())


@pytest.mark.parametrize(("num_classes", "topk"), [(10, 1), (10, 9), (10, 10), (1000, 10), (21841, 100)])
@pytest.mark.parametrize("sharpness", [0.0, 3.0, 30.0])
def test_value_and_gradient_equal_the_dense_loss(num_classes: int, topk: int, sharpness: float) -> None:
    torch.manual_seed(0)
    targets = random_targets(8, num_classes, topk, sharpness=sharpness)
    logits = (3 * torch.randn(8, num_classes, dtype=torch.float64)).requires_grad_()
    sparse = soft_target_loss(logits, targets)
    dense = -(dense_target(targets, num_classes) * logits.log_softmax(dim=1)).sum(dim=1)
    torch.testing.assert_close(sparse, dense, rtol=0, atol=1e-6)
    (sparse_grad,) = torch.autograd.grad(sparse.sum(), logits)
    (dense_grad,) = torch.autograd.grad(dense.sum(), logits)
    torch.testing.assert_close(sparse_grad, dense_grad, rtol=0, atol=1e-6)


def test_absent_entries_count_as_other_classes() -> None:
    torch.manual_seed(1)
    targets = random_targets(4, 20, 6, sharpness=2.0)
    cut = targets.logprobs.clone()
    cut[:, 4:] = float("-inf")
    tail = (targets.tail.exp() + targets.logprobs[:, 4:].exp().sum(dim=1)).log()
    shorter = SparseTargets(targets.indices, cut, tail)
    logits = torch.randn(4, 20, dtype=torch.float64, requires_grad=True)
    dense = -(dense_target(shorter, 20) * logits.log_softmax(dim=1)).sum(dim=1)
    torch.testing.assert_close(soft_target_loss(logits, shorter), dense, rtol=0, atol=1e-9)


def test_no_targets_are_the_uniform_distribution_with_finite_gradient() -> None:
    targets = no_targets(3, topk=5)
    logits = torch.randn(3, 12, requires_grad=True)
    loss = soft_target_loss(logits, targets)
    torch.testing.assert_close(loss, -logits.log_softmax(dim=1).mean(dim=1))
    loss.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_half_precision_logits_are_taken_to_float32() -> None:
    targets = select_topk(torch.randn(4, 50), topk=5)
    logits = torch.randn(4, 50).bfloat16()
    assert soft_target_loss(logits, targets).dtype == torch.float32
    torch.testing.assert_close(soft_target_loss(logits, targets), soft_target_loss(logits.float(), targets))


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


def learned_target(targets: SparseTargets, model: logitstore.TailModel) -> torch.Tensor:
    """(b, c) float64: probabilities of the top-k, and the tail over the other classes by the group's distribution."""
    num_classes = model.logprobs.shape[1]
    target = torch.zeros(len(targets.tail), num_classes, dtype=torch.float64)
    for row in range(len(targets.tail)):
        shape = torch.from_numpy(model.logprobs[model.groups[int(targets.indices[row, 0])]]).double().exp()
        present = targets.indices[row][targets.logprobs[row] > float("-inf")]
        shape[present] = 0
        if len(present) < num_classes:
            target[row] = targets.tail[row].exp() * shape / shape.sum()
        target[row, present] = targets.logprobs[row][: len(present)].exp()
    return target / target.sum(dim=1, keepdim=True)


def same_value_and_gradient(sparse: torch.Tensor, dense: torch.Tensor, logits: torch.Tensor) -> None:
    torch.testing.assert_close(sparse, dense, rtol=1e-5, atol=1e-5)
    (sparse_grad,) = torch.autograd.grad(sparse.sum(), logits, retain_graph=True)
    (dense_grad,) = torch.autograd.grad(dense.sum(), logits)
    torch.testing.assert_close(sparse_grad, dense_grad, rtol=1e-5, atol=1e-6)


SIZES = [(10, 1), (10, 9), (10, 10), (1000, 10), (5000, 100)]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize(("num_classes", "topk"), SIZES)
def test_uniform_tail_at_a_temperature(num_classes: int, topk: int, temperature: float) -> None:
    torch.manual_seed(3)
    targets = random_targets(6, num_classes, topk, sharpness=3.0)
    logits = (3 * torch.randn(6, num_classes, dtype=torch.float64)).requires_grad_()
    target = softened(dense_target(targets, num_classes), temperature)
    dense = -(target * (logits / temperature).log_softmax(dim=1)).sum(dim=1) * temperature**2
    same_value_and_gradient(soft_target_loss(logits, targets, temperature=temperature), dense, logits)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize(("num_classes", "topk"), SIZES)
@pytest.mark.parametrize("groups", [1, 7])
def test_learned_tail(num_classes: int, topk: int, temperature: float, groups: int) -> None:
    torch.manual_seed(4)
    targets = random_targets(6, num_classes, topk, sharpness=3.0)
    model = tail_model(num_classes, groups=groups)
    distributions = TailDistributions.of(model, temperature=temperature)
    logits = (3 * torch.randn(6, num_classes, dtype=torch.float64)).requires_grad_()
    target = softened(learned_target(targets, model), temperature)
    dense = -(target * (logits / temperature).log_softmax(dim=1)).sum(dim=1) * temperature**2
    sparse = soft_target_loss(logits, targets, tail="learned", temperature=temperature, tail_model=distributions)
    same_value_and_gradient(sparse, dense, logits)


def test_a_learned_tail_that_is_uniform_is_the_uniform_tail() -> None:
    targets = random_targets(6, 40, 5, sharpness=2.0)
    uniform = logitstore.TailModel(groups=np.zeros(40, np.int64), logprobs=np.full((1, 40), -np.log(40), np.float32))
    distributions = TailDistributions.of(uniform)
    logits = torch.randn(6, 40, dtype=torch.float64)
    expected = soft_target_loss(logits, targets)
    torch.testing.assert_close(
        soft_target_loss(logits, targets, tail="learned", tail_model=distributions), expected, rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize(("num_classes", "topk"), SIZES)
def test_one_bucket_for_the_others(num_classes: int, topk: int, temperature: float) -> None:
    torch.manual_seed(5)
    targets = random_targets(6, num_classes, topk, sharpness=3.0)
    cut = targets.logprobs.clone()
    cut[0, topk // 2 :] = float("-inf")  # A row with empty entries, which name class 0.
    indices = targets.indices.masked_fill(cut.isneginf(), 0)
    cut_mass = targets.logprobs.masked_fill(~cut.isneginf(), float("-inf")).logsumexp(dim=1)
    targets = SparseTargets(indices, cut, targets.tail.logaddexp(cut_mass))
    logits = (3 * torch.randn(6, num_classes, dtype=torch.float64)).requires_grad_()
    target = softened(dense_target(targets, num_classes), temperature)
    student = (logits / temperature).softmax(dim=1)
    dense = torch.zeros(6, dtype=torch.float64)
    for row in range(6):
        mask = torch.zeros(num_classes, dtype=torch.bool)
        mask[targets.indices[row][targets.logprobs[row] > float("-inf")]] = True
        dense[row] = -(target[row][mask] * student[row][mask].log()).sum()
        if not mask.all():
            dense[row] = dense[row] - target[row][~mask].sum() * student[row][~mask].sum().log()
    sparse = soft_target_loss(logits, targets, tail="bucket", temperature=temperature)
    same_value_and_gradient(sparse, dense * temperature**2, logits)


@pytest.mark.parametrize("tail", ["uniform", "bucket"])
def test_rows_without_targets_have_finite_gradients(tail: str) -> None:
    logits = torch.randn(3, 12, requires_grad=True)
    loss = soft_target_loss(logits, no_targets(3, topk=5), tail=tail)
    assert torch.isfinite(loss).all()
    loss.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_a_tail_model_is_prepared_where_it_is_not() -> None:
    targets, model = random_targets(6, 40, 5, sharpness=2.0), tail_model(40, groups=3)
    logits = torch.randn(6, 40, dtype=torch.float64)
    prepared = TailDistributions.of(model, temperature=2.0)
    losses = [
        soft_target_loss(logits, targets, tail="learned", temperature=2.0, tail_model=each)
        for each in (model, prepared)
    ]
    assert torch.equal(*losses)


def test_wrong_arguments_are_refused() -> None:
    targets, logits = random_targets(4, 10, 3, sharpness=1.0), torch.randn(4, 10)
    model = tail_model(10, groups=2)
    for arguments, message in (
        ({"tail": "dropped"}, "choose one of uniform, learned, bucket"),
        ({"temperature": 0.0}, "must be above 0"),
        ({"tail": "learned"}, r"needs tail_model=store\.tail_model\(\)"),
        ({"tail_model": model}, "tail='learned' alone"),
        ({"tail": "learned", "tail_model": tail_model(11, groups=2)}, "11 classes, the logits have 10"),
        ({"tail": "learned", "temperature": 2.0, "tail_model": TailDistributions.of(model)}, "are at 1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            soft_target_loss(logits, targets, **arguments)
    for wrong in (targets._replace(tail=targets.tail[:3]), targets._replace(logprobs=targets.logprobs[:, :2])):
        with pytest.raises(ValueError, match=r"logits \(4, 10\) with indices \(4, 3\)"):
            soft_target_loss(logits, wrong)
    with pytest.raises(ValueError, match=r"logits \(3, 10\)"):
        soft_target_loss(logits[:3], targets)
    with pytest.raises(ValueError, match=r"indices \(3,\)"):
        soft_target_loss(logits[0], SparseTargets(*(tensor[0] for tensor in targets)))
