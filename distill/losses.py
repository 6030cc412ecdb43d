"""Losses on sparse teacher distributions, computed without a dense target.

Legend: b views, c classes, k kept classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distill.keep import Kept


def soft_target_loss(logits_bc: Tensor, kept: Kept) -> Tensor:
    """Cross entropy between a sparse teacher distribution and the student's, per view.

    The mass outside the kept classes is spread evenly over all other classes: with n kept classes and tail mass t,
    q_c = exp(log-probability) for a kept class and t / (C - n) for any other. With the logits z,

        -sum_c q_c log softmax(z)_c  =  logsumexp(z) * sum_c q_c - sum_kept (q_c - u) z_c - u * sum_c z_c,

    where u = t / (C - n), so only the student's own logits are dense (soft labels with a uniform remainder: Shen &
    Xing, FKD, ECCV 2022; Wu et al., TinyViT, ECCV 2022, section 3.1).

    **Arguments:** `logits_bc` (b, c) of any floating type, taken to float32 at least; `kept` on the same device.

    **Returns:** (b,) float32 (float64 for float64 logits), in nats; differentiable in the logits.
    """
    logits_bc = logits_bc if logits_bc.dtype == torch.float64 else logits_bc.float()
    probs_bk = kept.logprobs_bk.to(logits_bc.dtype).exp()
    tail_b = kept.tail_b.to(logits_bc.dtype).exp()
    present_bk = probs_bk > 0
    num_others_b = logits_bc.shape[1] - present_bk.sum(dim=1)
    uniform_b = tail_b / num_others_b.clamp(min=1)
    uniform_b = torch.where(num_others_b > 0, uniform_b, torch.zeros_like(uniform_b))
    weights_bk = torch.where(present_bk, probs_bk - uniform_b[:, None], torch.zeros_like(probs_bk))
    mass_b = probs_bk.sum(dim=1) + uniform_b * num_others_b
    kept_logits_bk = logits_bc.gather(1, kept.indices_bk)
    return (
        mass_b * logits_bc.logsumexp(dim=1)
        - (weights_bk * kept_logits_bk).sum(dim=1)
        - uniform_b * logits_bc.sum(dim=1)
    )


def mixed_label_loss(
    logits_bc: Tensor, labels_b: Tensor, partner_labels_b: Tensor, shares_b: Tensor, *, smoothing: float = 0.0
) -> Tensor:
    """Cross entropy for mixed pictures: each label counts by its share of the picture.

        share * CE(own label) + (1 - share) * CE(partner's label)

    **Arguments:** labels (b,) int64; `shares_b` (b,) float32, of the picture's own part.

    **Returns:** (b,) float32. Source: Zhang et al., "mixup" (ICLR 2018), section 2.
    """
    own_b = label_loss(logits_bc, labels_b, smoothing=smoothing)
    partner_b = label_loss(logits_bc, partner_labels_b, smoothing=smoothing)
    return shares_b * own_b + (1 - shares_b) * partner_b


def label_loss(logits_bc: Tensor, labels_b: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Cross entropy with integer labels, per view: (b,) float32. Label smoothing as in torch."""
    logits_bc = logits_bc if logits_bc.dtype == torch.float64 else logits_bc.float()
    return torch.nn.functional.cross_entropy(logits_bc, labels_b, reduction="none", label_smoothing=smoothing)
