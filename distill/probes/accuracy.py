"""Top-1 and top-5 accuracy of class scores: logits or votes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    top1: float
    """Percent."""
    top5: float
    """Percent; with fewer than 5 classes, 100."""


def accuracy(scores_nc: Tensor, labels_n: Tensor) -> Accuracy:
    """**Arguments:** `scores_nc`: (n, c), the highest for the most likely class; `labels_n`: (n,) int64."""
    top_nk = scores_nc.topk(min(5, scores_nc.shape[1]), dim=1).indices
    hits_nk = (top_nk == labels_n[:, None]).double()
    return Accuracy(top1=100 * float(hits_nk[:, 0].mean()), top5=100 * float(hits_nk.sum(1).mean()))
