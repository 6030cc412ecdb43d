"""From logits to what is kept of them: the k most probable classes and the mass outside.

Legend: b views, c classes, k kept classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Kept:
    """A sparse class distribution for each of b views."""

    indices_bk: Tensor
    """(b, k) int64, most probable first; meaningless where the log-probability is -inf (nothing kept)."""
    logprobs_bk: Tensor
    """(b, k) float32, natural logarithms."""
    tail_b: Tensor
    """(b,) float32, log of the mass outside the kept classes; -inf where there is none."""

    def __len__(self) -> int:
        return len(self.tail_b)

    def to(self, device: torch.device) -> Kept:
        return Kept(*(t.to(device, non_blocking=True) for t in (self.indices_bk, self.logprobs_bk, self.tail_b)))

    def pin_memory(self) -> Kept:
        return Kept(self.indices_bk.pin_memory(), self.logprobs_bk.pin_memory(), self.tail_b.pin_memory())


def keep_topk(logits_bc: Tensor, *, topk: int) -> Kept:
    """Keeps the `topk` most probable classes of each row of logits, on the device where they are.

    The tail is the log-sum-exp of the other logits, never one minus the kept mass, so it keeps its precision where
    the teacher is sure.

    **Arguments:** `logits_bc` (b, c) of any floating type; `topk` at most c.

    **Returns:** `Kept` with float32 values on the same device.
    """
    logits_bc = logits_bc.float()
    norm_b1 = logits_bc.logsumexp(dim=1, keepdim=True)
    top_bk, indices_bk = logits_bc.topk(topk, dim=1)
    rest_bc = logits_bc.scatter(1, indices_bk, float("-inf"))
    tail_b = rest_bc.logsumexp(dim=1) - norm_b1.squeeze(1)
    return Kept(indices_bk, top_bk - norm_b1, tail_b)


def keep_nothing(num_rows: int, *, topk: int) -> Kept:
    """What is stored for a row whose picture could not be read: no class, all mass in the tail."""
    return Kept(
        torch.arange(topk).repeat(num_rows, 1),
        torch.full((num_rows, topk), float("-inf")),
        torch.zeros(num_rows),
    )
