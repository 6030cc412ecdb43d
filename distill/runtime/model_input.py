"""From uint8 images to a model's logits: normalisation on the device, and the forward pass in the run's precision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn


class Normalise:
    """uint8 (b, h, w, 3) images on the device to a model's float32 (b, 3, h, w) input: (pixel / 255 - mean) / std.

    Images are channels_last in memory as they come, so that format costs no copy.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], *, device: torch.device | str = "cpu",
        channels_last: bool = False,
    ) -> None:  # fmt: skip
        """**Arguments:** `mean` and `std` of the RGB values in 0..1; `channels_last`: the result's memory format."""
        deviations = torch.tensor(list(std))
        self._scale = (1 / (255 * deviations)).view(1, 3, 1, 1).to(device)
        self._shift = (-torch.tensor(list(mean)) / deviations).view(1, 3, 1, 1).to(device)
        self._memory_format = memory_format(channels_last)

    def __call__(self, pixels_bhwc: Tensor) -> Tensor:
        floats_bchw = pixels_bhwc.permute(0, 3, 1, 2).float()
        return torch.addcmul(self._shift, floats_bchw, self._scale).contiguous(memory_format=self._memory_format)


def memory_format(channels_last: bool) -> torch.memory_format:
    """The layout of a model's weights and inputs."""
    return torch.channels_last if channels_last else torch.contiguous_format


def forward(net: nn.Module, pixels_bhwc: Tensor, *, normalise: Normalise, accelerator: Accelerator) -> Tensor:
    """A model's logits (b, c) for uint8 images (b, h, w, 3) on any device, in the precision of the run."""
    pixels_bhwc = pixels_bhwc.to(accelerator.device, non_blocking=True)
    with accelerator.autocast():
        logits_bc: Tensor = net(normalise(pixels_bhwc))
    return logits_bc
