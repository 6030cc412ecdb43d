"""Sparse targets: of a teacher's class distribution, the top-k classes and the mass outside them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class SparseTargets(NamedTuple):
    """A sparse class distribution for each of b views; of a single view the same without the first axis.

    A named tuple, so that torch's default collation and pinning take it.
    """

    indices: Tensor
    """(b, k) int64, most probable first; meaningless where the log-probability is -inf (an empty place)."""
    logprobs: Tensor
    """(b, k) float32, natural logarithms. On the way to a store, +inf marks drawn classes, which share the tail; what a
    store hands out has their weights instead."""
    tail: Tensor
    """(b,) float32, log of the mass outside the selected classes; -inf where there is none."""

    def to(self, device: torch.device) -> SparseTargets:
        return SparseTargets(*(tensor.to(device, non_blocking=True) for tensor in self))

    def pin_memory(self) -> SparseTargets:
        return SparseTargets(*(tensor.pin_memory() for tensor in self))
