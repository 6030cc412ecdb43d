"""Sparse targets: the top-k classes of a teacher's class distribution, and the mass of all others."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class SparseTargets(NamedTuple):
    """The sparse class distribution of each of b views; for a single view the same without the first axis.

    A named tuple, so that torch's default collation and pinning handle it.
    """

    indices: Tensor
    """(b, k) int64 class indices, most probable first; without meaning where the log-probability is -inf, which marks
    an empty entry."""
    logprobs: Tensor
    """(b, k) float32, natural logarithms. On the way to a store +inf marks drawn classes, which divide the tail
    equally; targets read from a store have their weights instead."""
    tail: Tensor
    """(b,) float32, log of the mass outside the selected classes; -inf where there is none."""

    def to(self, device: torch.device) -> SparseTargets:
        return SparseTargets(*(tensor.to(device, non_blocking=True) for tensor in self))

    def pin_memory(self) -> SparseTargets:
        return SparseTargets(*(tensor.pin_memory() for tensor in self))
