"""Losses on sparse targets and on labels, computed without dense targets.

A store has the top-k classes of each view and the mass t of the others, the tail. How the teacher distributed t over
them is assumed:

- `uniform`: equally (FKD: Shen & Xing, ECCV 2022; TinyViT, section 3.1);
- `learned`: as on average in views of the same most probable class (`logitstore.TailModel`);
- `bucket`: the others are one class of mass t, and the student's probability of it is its sum over them.

At a temperature T both distributions are softened before they are compared, p^(1/T) scaled to sum to 1 against
softmax(z / T), and the loss is multiplied by T^2, which makes the size of its gradient independent of T (Hinton et al.,
"Distilling the knowledge in a neural network", 2015). Under `bucket` the teacher is softened with a uniform tail, then
the others are summed.

Legend: b views, c classes, k entries of the targets, g class groups of a tail model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

import logitstore
from distill.targets.sparse import SparseTargets

TAILS = ("uniform", "learned", "bucket")
_MIN_OTHERS = 1e-6
"""Minimum mass of a tail distribution that is taken to be outside the top-k."""


@dataclass(frozen=True, slots=True)
class TailDistributions:
    """A learned tail model on a device, softened at one temperature."""

    class_groups_c: Tensor
    """(c,) int64 class group of a view whose most probable class is c."""
    logprobs_gc: Tensor
    """(g, c) natural log-probabilities over the temperature; float32."""
    weights_gc: Tensor
    """Their exponentials."""
    masses_g: Tensor
    """(g,) sums of the weights."""
    temperature: float

    @classmethod
    def of(
        cls, model: logitstore.TailModel, *, temperature: float = 1.0, device: torch.device | str = "cpu"
    ) -> TailDistributions:
        logprobs_gc = torch.from_numpy(model.logprobs).to(device) / temperature
        class_groups_c = torch.from_numpy(model.groups).to(device)
        return cls(class_groups_c, logprobs_gc, logprobs_gc.exp(), logprobs_gc.exp().sum(dim=1), temperature)


def soft_target_loss(
    logits_bc: Tensor,
    targets: SparseTargets,
    *,
    tail: str = "uniform",
    temperature: float = 1.0,
    tail_model: logitstore.TailModel | TailDistributions | None = None,
) -> Tensor:
    """Cross entropy of the student with the teacher's sparse distribution, per view, times T^2.

    With target probabilities p, weights w_c of the other classes (module docstring) and the student's logits over T, z:

        -sum_c q_c log softmax(z)_c  =  logsumexp(z) - sum_topk (p - w) z - sum_c w_c z_c,

    so only the logits, and with a learned tail one row of a table per view, are dense.

    **Arguments**

    - `logits_bc`: (b, c) of any floating type; float16 and bfloat16 are converted to float32.
    - `targets`: of the same b views, on the same device, as a `ViewDataset` or a store returns them.
    - `tail`: `uniform`, `learned` or `bucket`, as above.
    - `temperature`: T, above 0.
    - `tail_model`: for `learned`, `store.tail_model()`. It is copied to the device in every call; a training loop
      passes `TailDistributions.of(store.tail_model(), temperature=T, device=device)`, made once.

    **Returns:** (b,) float32 (float64 for float64 logits), in nats; differentiable in the logits.

    **Raises:** `ValueError` for an unknown tail, a temperature that is not positive, shapes that do not fit, or a tail
    model that is missing, not used, or of another temperature.
    """
    _check(logits_bc, targets, tail, temperature, tail_model)
    z_bc = logits_bc if logits_bc.dtype == torch.float64 else logits_bc.float()
    z_bc = z_bc / temperature if temperature != 1 else z_bc
    p_bk = targets.logprobs.to(z_bc.dtype) / temperature
    present_bk = p_bk > float("-inf")
    if tail == "bucket":
        losses_b = _bucket_loss(z_bc, targets, p_bk, present_bk, temperature)
    elif tail_model is not None:
        if isinstance(tail_model, logitstore.TailModel):
            tail_model = TailDistributions.of(tail_model, temperature=temperature, device=z_bc.device)
        losses_b = _learned_loss(z_bc, targets, p_bk, present_bk, tail_model)
    else:
        losses_b = _uniform_loss(z_bc, targets, p_bk, present_bk, temperature)
    return losses_b if temperature == 1 else losses_b * temperature**2


def _check(
    logits_bc: Tensor, targets: SparseTargets, tail: str, temperature: float,
    tail_model: logitstore.TailModel | TailDistributions | None,
) -> None:  # fmt: skip
    """**Raises:** `ValueError` for wrong arguments of `soft_target_loss`."""
    if tail not in TAILS:
        raise ValueError(f"tail={tail!r}: choose one of {', '.join(TAILS)}")
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature={temperature}: must be above 0")
    shapes = [tuple(tensor.shape) for tensor in (logits_bc, *targets)]
    logits, indices, logprobs, masses = shapes
    if len(logits) != 2 or len(indices) != 2 or indices != logprobs or masses != logits[:1] or indices[:1] != masses:
        raise ValueError(
            "logits (b, c) need targets with indices (b, k), logprobs (b, k) and tail (b,); got logits {} with indices "
            "{}, logprobs {} and tail {}".format(*shapes)
        )
    if tail == "learned" and tail_model is None:
        raise ValueError("tail='learned' needs tail_model=store.tail_model(), which is None if none was learned")
    if tail != "learned" and tail_model is not None:
        raise ValueError(f"tail={tail!r} uses no tail_model: pass it with tail='learned' alone")
    if isinstance(tail_model, TailDistributions) and tail_model.temperature != temperature:
        raise ValueError(f"temperature={temperature}, but the tail distributions are at {tail_model.temperature}")
    if tail_model is not None:
        groups_c = tail_model.groups if isinstance(tail_model, logitstore.TailModel) else tail_model.class_groups_c
        if len(groups_c) != logits[1]:
            raise ValueError(f"the tail model has {len(groups_c)} classes, the logits have {logits[1]}")


def _uniform_loss(z_bc: Tensor, targets: SparseTargets, p_bk: Tensor, present_bk: Tensor, temperature: float) -> Tensor:
    log_weight_b, mass_b = _uniform_tail(z_bc, targets, present_bk, temperature)
    norm_b1 = torch.logaddexp(_logsumexp(p_bk), mass_b[:, None])
    weight_b1 = (log_weight_b[:, None] - norm_b1).exp()
    weights_bk = ((p_bk - norm_b1).exp() - weight_b1).masked_fill(~present_bk, 0)
    topk_b = (weights_bk * z_bc.gather(1, targets.indices)).sum(dim=1)
    return z_bc.logsumexp(dim=1) - topk_b - weight_b1.squeeze(1) * z_bc.sum(dim=1)


def _learned_loss(
    z_bc: Tensor, targets: SparseTargets, p_bk: Tensor, present_bk: Tensor, distributions: TailDistributions
) -> Tensor:
    groups_b = distributions.class_groups_c[targets.indices[:, 0]]
    soft_logprobs_bk = distributions.logprobs_gc[groups_b[:, None], targets.indices].to(z_bc.dtype)
    # The log-mass of the group's distribution outside the top-k, as it is and softened.
    probs_bk = (soft_logprobs_bk * distributions.temperature).exp().masked_fill(~present_bk, 0)
    outside_b = (1 - probs_bk.sum(dim=1)).clamp(min=_MIN_OTHERS).log()
    soft_bk = soft_logprobs_bk.exp().masked_fill(~present_bk, 0)
    masses_b = distributions.masses_g[groups_b].to(z_bc.dtype)
    soft_outside_b = (masses_b - soft_bk.sum(dim=1)).clamp(min=_MIN_OTHERS * masses_b).log()
    scale_b = (targets.tail.to(z_bc.dtype) - outside_b) / distributions.temperature
    norm_b = torch.logaddexp(_logsumexp(p_bk).squeeze(1), scale_b + soft_outside_b)
    factor_b = (scale_b - norm_b).exp()
    weights_bk = (p_bk - norm_b[:, None]).exp().masked_fill(~present_bk, 0) - factor_b[:, None] * soft_bk
    topk_b = (weights_bk * z_bc.gather(1, targets.indices)).sum(dim=1)
    others_b = (distributions.weights_gc[groups_b].to(z_bc.dtype) * z_bc).sum(dim=1)
    return z_bc.logsumexp(dim=1) - topk_b - factor_b * others_b


def _bucket_loss(z_bc: Tensor, targets: SparseTargets, p_bk: Tensor, present_bk: Tensor, temperature: float) -> Tensor:
    _, mass_b = _uniform_tail(z_bc, targets, present_bk, temperature)
    norm_b1 = torch.logaddexp(_logsumexp(p_bk), mass_b[:, None])
    student_b = z_bc.logsumexp(dim=1)
    weights_bk = (p_bk - norm_b1).exp().masked_fill(~present_bk, 0)
    bucket_b = (mass_b - norm_b1.squeeze(1)).exp()
    # Counted, not assigned: empty entries have the index of some class that must stay in the bucket.
    is_topk_bc = torch.zeros_like(z_bc, dtype=torch.int8).scatter_add(1, targets.indices, present_bk.to(torch.int8)) > 0
    others_bc = z_bc.masked_fill(is_topk_bc, torch.finfo(z_bc.dtype).min)
    topk_b = (weights_bk * (student_b[:, None] - z_bc.gather(1, targets.indices))).sum(dim=1)
    return topk_b + torch.where(bucket_b > 0, bucket_b * (student_b - others_bc.logsumexp(dim=1)), 0)


def _uniform_tail(
    z_bc: Tensor, targets: SparseTargets, present_bk: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Log of the softened weight per other class, and of all of them, each (b,); not yet normalised."""
    num_others_b = (z_bc.shape[1] - present_bk.sum(dim=1)).to(z_bc.dtype)
    log_weight_b = (targets.tail.to(z_bc.dtype) - num_others_b.clamp(min=1).log()) / temperature
    log_weight_b = log_weight_b.masked_fill(num_others_b == 0, float("-inf"))
    return log_weight_b, log_weight_b + num_others_b.clamp(min=1).log()


def _logsumexp(values_bk: Tensor) -> Tensor:
    """(b, 1); minus infinity where a row has no entry."""
    return values_bk.logsumexp(dim=1, keepdim=True)


def mixed_label_loss(
    logits_bc: Tensor, labels_b: Tensor, partner_labels_b: Tensor, mix_weights_b: Tensor, *, smoothing: float = 0.0
) -> Tensor:
    """Cross entropy for mixed images: each label weighted by the fraction of the image that belongs to it.

        weight * CE(own label) + (1 - weight) * CE(partner's label)

    **Arguments:** labels (b,) int64; `mix_weights_b` (b,) float32, of the own image.

    **Returns:** (b,) float32. Source: Zhang et al., "mixup" (ICLR 2018), section 2.
    """
    own_b = label_loss(logits_bc, labels_b, smoothing=smoothing)
    partner_b = label_loss(logits_bc, partner_labels_b, smoothing=smoothing)
    return mix_weights_b * own_b + (1 - mix_weights_b) * partner_b


def label_loss(logits_bc: Tensor, labels_b: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Cross entropy with integer labels, per view: (b,) float32. Label smoothing as in torch."""
    logits_bc = logits_bc if logits_bc.dtype == torch.float64 else logits_bc.float()
    return torch.nn.functional.cross_entropy(logits_bc, labels_b, reduction="none", label_smoothing=smoothing)
