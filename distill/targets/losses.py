"""Losses on sparse teacher distributions and on labels, computed without a dense target.

A store keeps some classes of each view and the mass t outside them. What the teacher said there, a tail model fills in:

- `uniform`: t is spread evenly over the other classes (FKD: Shen & Xing, ECCV 2022; TinyViT, section 3.1);
- `learned`: t is spread as it was on the average among views of the same most probable class (`logitstore.TailModel`);
- `bucket`: all other classes are one event, of mass t for the teacher; only its sum is asked of the student;
- `dropped`: t is forgotten and the kept classes scaled to sum to 1.

At a temperature T both distributions are softened before they are compared, p^(1/T) scaled to sum to 1 against
softmax(z / T), and the loss is multiplied by T^2 so that its gradient keeps its size (Hinton et al., "Distilling the
knowledge in a neural network", 2015). Under `bucket` the teacher is softened with an even tail, then the others summed.

Legend: b views, c classes, k kept classes, g groups of the tail model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import logitstore
from distill.targets.sparse import SparseTargets

TAILS = ("uniform", "learned", "bucket", "dropped")
_LEAST_OTHERS = 1e-6
"""Least part of a tail distribution that is taken to lie outside the kept classes."""


@dataclass(frozen=True, slots=True)
class TailDistributions:
    """A learned tail model on a device, softened at one temperature."""

    groups_c: Tensor
    """(c,) int64 group of a most probable class."""
    logprobs_gc: Tensor
    """(g, c) natural log-probabilities over the temperature; float32."""
    weights_gc: Tensor
    """Their exponentials."""
    masses_g: Tensor
    """Sums of those."""
    temperature: float

    @classmethod
    def of(cls, model: logitstore.TailModel, *, temperature: float, device: torch.device) -> TailDistributions:
        logprobs_gc = torch.from_numpy(model.logprobs).to(device) / temperature
        groups_c = torch.from_numpy(model.groups).to(device)
        return cls(groups_c, logprobs_gc, logprobs_gc.exp(), logprobs_gc.exp().sum(dim=1), temperature)


def soft_target_loss(
    logits_bc: Tensor,
    kept: SparseTargets,
    *,
    tail: str = "uniform",
    temperature: float = 1.0,
    tables: TailDistributions | None = None,
) -> Tensor:
    """Cross entropy between a sparse teacher distribution and the student's, per view, times T^2.

    With kept probabilities p and other classes of weight w_c (module docstring), z the student's logits over T,

        -sum_c q_c log softmax(z)_c  =  logsumexp(z) - sum_kept (p - w) z - sum_c w_c z_c,

    so only the student's own logits, and with a learned tail one row of a table, are dense.

    **Arguments:** `logits_bc` (b, c) of any floating type, taken to float32 at least; `kept` on the same device, its
    entries weights, as a store hands them out; `tail` one of `TAILS`; `tables` for `learned`, of this temperature.

    **Returns:** (b,) float32 (float64 for float64 logits), in nats; differentiable in the logits.
    """
    z_bc = logits_bc if logits_bc.dtype == torch.float64 else logits_bc.float()
    z_bc = z_bc / temperature if temperature != 1 else z_bc
    p_bk = kept.logprobs.to(z_bc.dtype) / temperature
    present_bk = p_bk > float("-inf")
    if tail == "bucket":
        losses_b = _bucket_loss(z_bc, kept, p_bk, present_bk, temperature)
    elif tail == "dropped":
        weights_bk = (p_bk - _logsumexp(p_bk)).exp().masked_fill(~present_bk, 0)
        losses_b = weights_bk.sum(dim=1) * z_bc.logsumexp(dim=1) - (weights_bk * z_bc.gather(1, kept.indices)).sum(1)
    elif tail == "learned":
        assert tables is not None and tables.temperature == temperature
        losses_b = _learned_loss(z_bc, kept, p_bk, present_bk, tables)
    else:
        losses_b = _uniform_loss(z_bc, kept, p_bk, present_bk, temperature)
    return losses_b if temperature == 1 else losses_b * temperature**2


def _uniform_loss(z_bc: Tensor, kept: SparseTargets, p_bk: Tensor, present_bk: Tensor, temperature: float) -> Tensor:
    share_b, mass_b = _even_tail(z_bc, kept, present_bk, temperature)
    norm_b1 = torch.logaddexp(_logsumexp(p_bk), mass_b[:, None])
    even_b1 = (share_b[:, None] - norm_b1).exp()
    weights_bk = ((p_bk - norm_b1).exp() - even_b1).masked_fill(~present_bk, 0)
    kept_b = (weights_bk * z_bc.gather(1, kept.indices)).sum(dim=1)
    return z_bc.logsumexp(dim=1) - kept_b - even_b1.squeeze(1) * z_bc.sum(dim=1)


def _learned_loss(
    z_bc: Tensor, kept: SparseTargets, p_bk: Tensor, present_bk: Tensor, tables: TailDistributions
) -> Tensor:
    groups_b = tables.groups_c[kept.indices[:, 0]]
    shape_bk = tables.logprobs_gc[groups_b[:, None], kept.indices].to(z_bc.dtype)
    # The log-mass that the group's distribution has outside the kept classes, as it is and softened.
    flat_bk = (shape_bk * tables.temperature).exp().masked_fill(~present_bk, 0)
    outside_b = (1 - flat_bk.sum(dim=1)).clamp(min=_LEAST_OTHERS).log()
    soft_bk = shape_bk.exp().masked_fill(~present_bk, 0)
    masses_b = tables.masses_g[groups_b].to(z_bc.dtype)
    softened_b = (masses_b - soft_bk.sum(dim=1)).clamp(min=_LEAST_OTHERS * masses_b).log()
    scale_b = (kept.tail.to(z_bc.dtype) - outside_b) / tables.temperature
    norm_b = torch.logaddexp(_logsumexp(p_bk).squeeze(1), scale_b + softened_b)
    factor_b = (scale_b - norm_b).exp()
    weights_bk = (p_bk - norm_b[:, None]).exp().masked_fill(~present_bk, 0) - factor_b[:, None] * soft_bk
    kept_b = (weights_bk * z_bc.gather(1, kept.indices)).sum(dim=1)
    others_b = (tables.weights_gc[groups_b].to(z_bc.dtype) * z_bc).sum(dim=1)
    return z_bc.logsumexp(dim=1) - kept_b - factor_b * others_b


def _bucket_loss(z_bc: Tensor, kept: SparseTargets, p_bk: Tensor, present_bk: Tensor, temperature: float) -> Tensor:
    _, mass_b = _even_tail(z_bc, kept, present_bk, temperature)
    norm_b1 = torch.logaddexp(_logsumexp(p_bk), mass_b[:, None])
    student_b = z_bc.logsumexp(dim=1)
    weights_bk = (p_bk - norm_b1).exp().masked_fill(~present_bk, 0)
    bucket_b = (mass_b - norm_b1.squeeze(1)).exp()
    # Entries that hold nothing name class 0, which must not be taken out for them.
    kept_bc = torch.zeros_like(z_bc, dtype=torch.int8).scatter_add(1, kept.indices, present_bk.to(torch.int8)) > 0
    others_bc = z_bc.masked_fill(kept_bc, torch.finfo(z_bc.dtype).min)
    kept_b = (weights_bk * (student_b[:, None] - z_bc.gather(1, kept.indices))).sum(dim=1)
    return kept_b + torch.where(bucket_b > 0, bucket_b * (student_b - others_bc.logsumexp(dim=1)), 0)


def _even_tail(z_bc: Tensor, kept: SparseTargets, present_bk: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-weight of one other class, softened, and of all of them, each (b,); not yet scaled."""
    num_others_b = (z_bc.shape[1] - present_bk.sum(dim=1)).to(z_bc.dtype)
    share_b = (kept.tail.to(z_bc.dtype) - num_others_b.clamp(min=1).log()) / temperature
    share_b = share_b.masked_fill(num_others_b == 0, float("-inf"))
    return share_b, share_b + num_others_b.clamp(min=1).log()


def _logsumexp(values_bk: Tensor) -> Tensor:
    """(b, 1); minus infinity where a row holds nothing."""
    return values_bk.logsumexp(dim=1, keepdim=True)


def mixed_label_loss(
    logits_bc: Tensor, labels_b: Tensor, partner_labels_b: Tensor, mix_weights_b: Tensor, *, smoothing: float = 0.0
) -> Tensor:
    """Cross entropy for mixed pictures: each label counts by its share of the picture.

        share * CE(own label) + (1 - share) * CE(partner's label)

    **Arguments:** labels (b,) int64; `mix_weights_b` (b,) float32, of the picture's own part.

    **Returns:** (b,) float32. Source: Zhang et al., "mixup" (ICLR 2018), section 2.
    """
    own_b = label_loss(logits_bc, labels_b, smoothing=smoothing)
    partner_b = label_loss(logits_bc, partner_labels_b, smoothing=smoothing)
    return mix_weights_b * own_b + (1 - mix_weights_b) * partner_b


def label_loss(logits_bc: Tensor, labels_b: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Cross entropy with integer labels, per view: (b,) float32. Label smoothing as in torch."""
    logits_bc = logits_bc if logits_bc.dtype == torch.float64 else logits_bc.float()
    return torch.nn.functional.cross_entropy(logits_bc, labels_b, reduction="none", label_smoothing=smoothing)
