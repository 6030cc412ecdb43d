"""Sparse targets: of a teacher's class distribution, the top-k classes and the mass outside them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class SparseTargets:
    """A sparse class distribution for each of b views."""

    indices_bk: Tensor
    """(b, k) int64, most probable first; meaningless where the log-probability is -inf (nothing kept)."""
    logprobs_bk: Tensor
    """(b, k) float32, natural logarithms. On the way to a store, +inf marks drawn classes, which share the tail; what a
    store hands out has their weights instead."""
    tail_b: Tensor
    """(b,) float32, log of the mass outside the kept classes; -inf where there is none."""

    def __len__(self) -> int:
        return len(self.tail_b)

    def to(self, device: torch.device) -> SparseTargets:
        return SparseTargets(
            *(t.to(device, non_blocking=True) for t in (self.indices_bk, self.logprobs_bk, self.tail_b))
        )

    def pin_memory(self) -> SparseTargets:
        return SparseTargets(self.indices_bk.pin_memory(), self.logprobs_bk.pin_memory(), self.tail_b.pin_memory())
