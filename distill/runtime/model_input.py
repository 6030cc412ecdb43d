"""From uint8 images to a model's logits: normalisation on the device, and the forward pass in the run's precision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn


class Normalise:
    """uint8 images (b, h, w, 3) on the device -> a model's float32 input (b, 3, h, w): (pixel / 255 - mean) / std.

    The images are already channels_last in memory, so that format costs no copy.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], *, device: torch.device, channels_last: bool
    ) -> None:
        """**Arguments:** `mean` and `std` of the RGB values in 0..1; `channels_last`: the result's memory format."""
        deviations = torch.tensor(list(std))
        self._scale = (1 / (255 * deviations)).view(1, 3, 1, 1).to(device)
        self._shift = (-torch.tensor(list(mean)) / deviations).view(1, 3, 1, 1).to(device)
        self._memory_format = memory_format(channels_last)

    def __call__(self, pixels_bhwc: Tensor) -> Tensor:
        floats_bchw = pixels_bhwc.permute(0, 3, 1, 2).float()
        return torch.addcmul(self._shift, floats_bchw, self._scale).contiguous(memory_format=self._memory_format)


def memory_format(channels_last: bool) -> torch.memory_format:
    """The memory format of a model's weights and inputs."""
    return torch.channels_last if channels_last else torch.contiguous_format


def forward(net: nn.Module, pixels_bhwc: Tensor, *, normalise: Normalise, accelerator: Accelerator) -> Tensor:
    """Logits (b, c) of uint8 images (b, h, w, 3), which may be on any device, in the run's precision."""
    pixels_bhwc = pixels_bhwc.to(accelerator.device, non_blocking=True)
    with accelerator.autocast():
        logits_bc: Tensor = net(normalise(pixels_bhwc))
    return logits_bc
