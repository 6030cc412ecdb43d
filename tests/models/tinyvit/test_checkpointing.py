"""Gradient checkpointing: fewer tensors are saved, nothing else changes."""

from __future__ import annotations

import copy

import pytest
import torch

from distill import models
from distill.models.tinyvit.norms import use_norms
from tests.conftest import TINY


def trained_once(net: models.TinyViT, pixels: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Output of one training step's forward and backward pass, and the bytes of tensors saved between them."""
    saved: dict[int, int] = {}

    def save(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.data_ptr()] = tensor.nbytes
        return tensor

    torch.manual_seed(7)
    net.train()
    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        out = net(pixels)
        total = sum(saved.values())
    out.square().sum().backward()
    return out.detach(), total


@pytest.mark.parametrize("norms", ["local", "frozen"])
def test_gradients_statistics_and_random_numbers_are_the_same(norms: str) -> None:
    torch.manual_seed(0)
    net = models.build("tiny_vit", num_classes=3, image_size=32, drop_path=0.5, **TINY | {"depths": [2, 2, 2, 2]})
    use_norms(net, norms)
    other = copy.deepcopy(net)
    other.checkpoint_blocks()
    pixels = torch.randn(6, 3, 32, 32)
    plain_out, plain_bytes = trained_once(net, pixels)
    out, num_bytes = trained_once(other, pixels)
    assert torch.equal(out, plain_out)
    for (name, parameter), expected in zip(other.named_parameters(), net.parameters(), strict=True):
        assert parameter.grad is not None and expected.grad is not None, name
        assert torch.equal(parameter.grad, expected.grad), name
    for (name, buffer), expected_buffer in zip(other.named_buffers(), net.buffers(), strict=True):
        assert torch.equal(buffer, expected_buffer), name
    assert num_bytes < plain_bytes / 2
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in other.stages.parameters())


def test_nothing_is_computed_twice_where_there_are_no_gradients() -> None:
    net = models.build("tiny_vit", num_classes=3, image_size=32, **TINY)
    net.checkpoint_blocks()
    calls: list[int] = []
    net.get_submodule("stages.1.blocks.0").register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        net.eval()(torch.zeros(1, 3, 32, 32))
    net.eval()(torch.zeros(1, 3, 32, 32)).sum().backward()
    assert len(calls) == 2
