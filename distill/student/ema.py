"""The moving average of a student's weights over its training steps (EMA): often better than the weights themselves.

    average = decay * average + (1 - decay) * weights        after every optimiser step

Polyak & Juditsky, 1992; with a constant decay as in Tarvainen & Valpola, "Mean teachers", 2017, section 2.
"""

from __future__ import annotations

import copy
from typing import Any

import torch

from distill.models import TinyViT


class Average:
    """A second network beside the student, on its device, that is never trained."""

    def __init__(self, net: TinyViT, *, decay: float) -> None:
        """Starts at the weights that `net` has now."""
        self.net = copy.deepcopy(net).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, net: TinyViT) -> None:
        """Moves the average towards `net`: weights and BatchNorm's statistics; counters are copied."""
        averages, values = [], []
        for mine, theirs in zip(self._tensors(self.net), self._tensors(net), strict=True):
            if mine.is_floating_point():
                averages.append(mine)
                values.append(theirs)
            else:
                mine.copy_(theirs)
        torch._foreach_lerp_(averages, values, 1 - self.decay)

    def state_dict(self) -> dict[str, Any]:
        return self.net.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state)

    @staticmethod
    def _tensors(net: TinyViT) -> list[torch.Tensor]:
        return [*net.parameters(), *net.buffers()]
