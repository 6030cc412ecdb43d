"""A batch of views: the value that goes from a loader's worker to the training step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from distill.targets.sparse import SparseTargets


@dataclass(frozen=True, slots=True)
class Damage:
    """An image that could not be read."""

    epoch: int
    row: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The images of b views, with labels, weights and targets."""

    epochs_b: Tensor
    """(b,) int64 stored epoch; 0 for evaluation views."""
    rows_b: Tensor
    """(b,) int64."""
    seeds_b: Tensor
    """(b,) int64 with the bits of the uint64 view seeds; 0 for evaluation views."""
    pixels_bhwc: Tensor
    """(b, size, size, 3) uint8 RGB; grey where an image could not be read."""
    labels_b: Tensor
    """(b,) int64, -1 unknown."""
    weights_b: Tensor
    """(b,) float32: 0 for a view to leave out, because its image or that of its partner in a mix could not be read, now
    or by the teacher; else 1."""
    partner_labels_b: Tensor | None = None
    """(b,) int64, where views are mixed: the label of the partner."""
    mix_weights_b: Tensor | None = None
    """(b,) float32, where views are mixed: the weight of a view's own image and label."""
    targets: SparseTargets | None = None
    """Of the views, where there is a store."""
    digests: tuple[int, ...] = ()
    """Digests of the pixels of the first images, as many as were requested."""
    damage: tuple[Damage, ...] = ()
    warnings: tuple[str, ...] = ()
    """Messages for the user, printed once."""

    def __len__(self) -> int:
        return len(self.rows_b)

    @property
    def main_labels_b(self) -> Tensor:
        """(b,) int64: the label with the larger weight; a view's own where both are a half."""
        if self.mix_weights_b is None or self.partner_labels_b is None:
            return self.labels_b
        return torch.where(self.mix_weights_b >= 0.5, self.labels_b, self.partner_labels_b)

    def with_targets(self, targets: SparseTargets | None) -> Batch:
        """The same views with their targets. Views whose image the teacher could not read get weight 0."""
        if targets is None:
            return self
        has_targets_b = (targets.logprobs[:, 0] > float("-inf")).float()
        return replace(self, targets=targets, weights_b=self.weights_b * has_targets_b)

    def without_pixels(self) -> Batch:
        """The same batch without its images, to save memory."""
        return replace(self, pixels_bhwc=self.pixels_bhwc.new_empty(0))

    def pin_memory(self) -> Batch:
        names = ("pixels_bhwc", "labels_b", "weights_b", "partner_labels_b", "mix_weights_b")
        pinned = {name: tensor.pin_memory() for name in names if (tensor := getattr(self, name)) is not None}
        return replace(self, **pinned, targets=self.targets.pin_memory() if self.targets else None)
