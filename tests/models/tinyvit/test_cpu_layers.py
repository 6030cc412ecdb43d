"""Layers that choose their kernel, against torch's."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from distill.models.tinyvit.cpu_layers import GELU, Depthwise, Linear


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", ["map", "rows", "turned"])
def test_linear_equals_torchs(bias: bool, layout: str) -> None:
    torch.manual_seed(0)
    ours = Linear(12, 20, bias=bias)
    theirs = nn.Linear(12, 20, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(6, 12) if layout == "rows" else torch.randn(2, 3, 4, 12)
    if layout == "turned":
        x = torch.randn(2, 12, 3, 4).permute(0, 2, 3, 1)
    results = []
    for layer in (ours, theirs):
        x = x.detach().requires_grad_()
        out = layer(x)
        results.append([out, *torch.autograd.grad(out.square().sum(), [x, *layer.parameters()])])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), results[1][0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("frozen", ["input", "weight", "bias"])
def test_linear_gives_the_gradients_that_are_wanted(frozen: str) -> None:
    layer, x = Linear(4, 5), torch.randn(1, 2, 2, 4)
    x.requires_grad_(frozen != "input")
    layer.weight.requires_grad_(frozen != "weight")
    layer.bias.requires_grad_(frozen != "bias")
    layer(x).sum().backward()
    grads = {"input": x.grad, "weight": layer.weight.grad, "bias": layer.bias.grad}
    assert [name for name, grad in grads.items() if grad is None] == [frozen]


def test_linear_under_autocast_keeps_float32_gradients() -> None:
    torch.manual_seed(0)
    layer, x = Linear(16, 8), torch.randn(2, 3, 3, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    out.float().square().sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.dtype == torch.float32
    expected = torch.autograd.grad(nn.functional.linear(x, layer.weight, layer.bias).square().sum(), layer.weight)[0]
    torch.testing.assert_close(layer.weight.grad, expected, rtol=0, atol=0.05 * expected.abs().max().item())


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_in_bfloat16_equals_float32(stride: int) -> None:
    torch.manual_seed(0)
    layer = Depthwise(8, stride=stride)
    reference = copy.deepcopy(layer)
    x = torch.randn(2, 8, 9, 9).to(memory_format=torch.channels_last).bfloat16()
    results = []
    for net, half in ((layer, True), (reference, False)):
        inputs = x.clone().float().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            out = net(inputs)
        assert (out.dtype == torch.bfloat16) == half
        results.append([out.float(), *torch.autograd.grad(out.float().square().sum(), [inputs, net.weight])])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=0.03 * expected.abs().max().item())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_gelu_equals_torchs_in_float64(dtype: torch.dtype, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    x = (4 * torch.randn(2, 5, 6, 7)).to(dtype).contiguous(memory_format=layout).requires_grad_()
    out = GELU()(x)
    assert out.dtype == dtype and out.is_contiguous(memory_format=layout)
    (grad,) = torch.autograd.grad(out, x, torch.ones_like(out))
    assert grad.is_contiguous(memory_format=layout)
    exact = x.detach().double().requires_grad_()
    expected = nn.functional.gelu(exact)
    (expected_grad,) = torch.autograd.grad(expected.sum(), exact)
    close = 1e-6 if dtype == torch.float32 else 8e-3
    torch.testing.assert_close(out.double(), expected, rtol=close, atol=close)
    torch.testing.assert_close(grad.double(), expected_grad, rtol=close, atol=close)
