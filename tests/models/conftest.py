"""Networks with random values in every tensor: in freshly initialised ones zeros and ones hide faults."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from distill import models


@pytest.fixture
def fill() -> Callable[[nn.Module], None]:
    """Fills parameters and statistics of a network with seeded values of moderate size."""

    def fill_network(net: nn.Module) -> None:
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, tensor in net.state_dict().items():
                if name.endswith("running_var"):
                    tensor.uniform_(0.5, 1.5, generator=generator)
                elif tensor.ndim == 1 or name.endswith("attention_biases"):
                    around_one = name.endswith(("bn.weight", "norm.weight"))
                    tensor.normal_(1.0 if around_one else 0.0, 0.2, generator=generator)

    return fill_network


@pytest.fixture
def small(fill: Callable[[nn.Module], None]) -> models.TinyViT:
    """A filled TinyViT of 10 classes for 32 x 32 pixels."""
    net = models.build(
        "tiny_vit",
        num_classes=10,
        image_size=32,
        dims=[8, 16, 32, 32],
        depths=[1, 1, 2, 1],
        heads=[1, 2, 4, 2],
        windows=[4, 4, 2, 1],
    )
    fill(net)
    return net.eval()
