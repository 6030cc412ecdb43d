"""The network folded for inference, against the network it was made from."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

from distill import models


@pytest.mark.parametrize("size", [32, 40])
def test_folded_network_equals_the_network(small: models.TinyViT, size: int) -> None:
    pixels = torch.randn(4, 3, size, size).contiguous(memory_format=torch.channels_last)
    small.train()
    state = copy.deepcopy(small.state_dict())
    fast = models.for_inference(small)
    assert small.training and all(parameter.requires_grad for parameter in small.parameters())
    assert all(torch.equal(small.state_dict()[name], tensor) for name, tensor in state.items())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    with torch.no_grad():
        expected = small.eval()(pixels)
        torch.testing.assert_close(fast(pixels), expected, rtol=0, atol=1e-5)
        # Without the fused kernels, as off the CPU.
        plain = torch.compile(fast, backend="eager", fullgraph=True)(pixels)
    torch.testing.assert_close(plain, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("autocast", [False, True])
def test_folded_network_in_bfloat16(small: models.TinyViT, autocast: bool) -> None:
    pixels = torch.randn(4, 3, 32, 32)
    fast = models.for_inference(small, dtype=torch.float32 if autocast else torch.bfloat16)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        got = fast(pixels)
    assert got.dtype == torch.float32
    expected = small(pixels).detach()
    torch.testing.assert_close(got, expected, rtol=0, atol=0.05 * expected.abs().max().item())


def _load(fast: nn.Module, other: nn.Module) -> nn.Module:
    fast.load_state_dict(other.state_dict())
    return fast


def _edit(fast: nn.Module, other: nn.Module) -> nn.Module:
    for name, buffer in fast.named_buffers():
        buffer.copy_(other.get_buffer(name))
    return fast


def _move(fast: nn.Module, other: nn.Module) -> nn.Module:
    fast.double()
    for buffer in fast.buffers():
        if buffer.is_floating_point():
            buffer.mul_(1.25)
    return fast.float()


def _copy(fast: nn.Module, other: nn.Module) -> nn.Module:
    return _edit(pickle.loads(pickle.dumps(fast)), other)


@pytest.mark.parametrize("change", [_load, _edit, _move, _copy])
def test_packed_weights_never_outlive_the_weights(
    small: models.TinyViT, change: Callable[[nn.Module, nn.Module], nn.Module]
) -> None:
    pixels = torch.randn(2, 3, 32, 32)
    fast: nn.Module = models.for_inference(small)
    other = copy.deepcopy(small)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.25)
        before = fast(pixels)  # Packs.
        fast = change(fast, models.for_inference(other))
        got = fast(pixels)
        expected = copy.deepcopy(fast)(pixels)
    assert torch.equal(got, expected)
    assert not torch.allclose(got, before, rtol=0, atol=1e-3)
