"""Linear, depthwise-convolution and GELU layers that use the fastest of torch's kernels on a CPU.

Used by `distill.models.tinyvit.network` and `distill.models.tinyvit.attention`. Parameters, their names and all values
are those of `nn.Linear`, `nn.Conv2d` and `nn.GELU`; on other devices, under torch.compile and while tracing, these
layers call exactly those. Which kernel is used where, and the measurements behind it, are in docs/training-speed.md.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Linear(nn.Linear):
    """`nn.Linear`, computed as a 1x1 convolution on maps (b, h, w, in) -> (b, h, w, out)."""

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or not takes_cpu_kernel(x):
            return super().forward(x)
        x_bhwc, weight, bias = to_autocast_dtype(x, self.weight, self.bias)
        if torch.is_grad_enabled():
            y_bhwo: Tensor = _LinearOnMaps.apply(x_bhwc, weight, bias)
            return y_bhwo
        return _as_convolution(x_bhwc, weight, bias)


class Depthwise(nn.Conv2d):
    """`nn.Conv2d` with as many groups as channels, a kernel of 3 and no bias."""

    def __init__(self, dim: int, *, stride: int = 1) -> None:
        super().__init__(dim, dim, 3, stride=stride, padding=1, groups=dim, bias=False)

    def forward(self, x_bchw: Tensor) -> Tensor:
        if not takes_cpu_kernel(x_bchw) or self.stride[0] == 1 or not torch.is_grad_enabled():
            return super().forward(x_bchw)
        x_bchw, weight = to_autocast_dtype(x_bchw, self.weight)
        if x_bchw.dtype not in (torch.bfloat16, torch.float16):
            return super().forward(x_bchw)
        y_bchw: Tensor = _StridedDepthwise.apply(x_bchw, weight, self.stride[0])
        return y_bchw


class GELU(nn.GELU):
    """`nn.GELU`, exact. torch uses oneDNN's kernel for contiguous tensors only, so a channels_last map is passed as
    (b, h, w, c), which is the same memory."""

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or not takes_cpu_kernel(x) or not x.is_contiguous(memory_format=torch.channels_last):
            return super().forward(x)
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _LinearOnMaps(torch.autograd.Function):
    """x @ weight.T + bias on the last axis. In float32 oneDNN's convolutions are faster than MKL's matrix products for
    the forward pass and the gradient of the input, but not for the gradient of the weight."""

    @staticmethod
    def forward(ctx: Any, x_bhwc: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x_bhwc, weight)
        ctx.has_bias = bias is not None
        return _as_convolution(x_bhwc, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_bhwc: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x_bhwc, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        grad_bhwc = grad_bhwc.contiguous()
        grad_nc = grad_bhwc.view(-1, weight.shape[0])
        grad_x = grad_weight = None
        if needs_x and grad_bhwc.dtype == torch.float32:
            grad_x = _as_convolution(grad_bhwc, weight.t(), None)
        elif needs_x:
            grad_x = (grad_nc @ weight).view(x_bhwc.shape)
        if needs_weight:
            grad_weight = grad_nc.t() @ x_bhwc.reshape(-1, weight.shape[1])
        return grad_x, grad_weight, grad_nc.sum(0) if ctx.has_bias and needs_bias else None


class _StridedDepthwise(torch.autograd.Function):
    """A depthwise 3x3 convolution of stride 2 in half precision. The gradient of its input is computed in float32:
    oneDNN has no fast kernel for it in bfloat16."""

    @staticmethod
    def forward(ctx: Any, x_bchw: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x_bchw, weight)
        ctx.stride = stride
        return F.conv2d(x_bchw, weight, None, stride, 1, 1, x_bchw.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x_bchw, weight = ctx.saved_tensors
        needs_x, needs_weight, _ = ctx.needs_input_grad
        grad_x = grad_weight = None
        if needs_x:
            grad_x = _gradient(grad.float(), x_bchw, weight.float(), ctx.stride, of="input")
            grad_x = grad_x.to(x_bchw.dtype)
        if needs_weight:
            grad_weight = _gradient(grad, x_bchw, weight, ctx.stride, of="weight")
        return grad_x, grad_weight, None


def _gradient(grad: Tensor, x_bchw: Tensor, weight: Tensor, stride: int, *, of: str) -> Tensor:
    if of == "input" and x_bchw.dtype != grad.dtype:
        x_bchw = x_bchw.to(grad.dtype)  # Only its shape and memory format matter.
    mask = [of == "input", of == "weight", False]
    gradients: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        grad, x_bchw, weight, None, [stride] * 2, [1, 1], [1, 1], False, [0, 0], x_bchw.shape[1], mask
    )
    return gradients[0 if of == "input" else 1]


def _as_convolution(x_bhwc: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x @ weight.T + bias, weight (out, in), as a 1x1 convolution of a channels_last map."""
    return F.conv2d(x_bhwc.permute(0, 3, 1, 2), weight.reshape(*weight.shape, 1, 1), bias).permute(0, 2, 3, 1)


def takes_cpu_kernel(x: Tensor) -> bool:
    """Whether the layers of this module choose the kernel for `x`; otherwise they call torch's layer."""
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return False
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and x.numel() > 0


def to_autocast_dtype(*tensors: Any) -> Any:
    """The tensors in the dtype that autocast would give a linear map; None stays None."""
    if not torch.is_autocast_enabled("cpu"):
        return tensors
    dtype = torch.get_autocast_dtype("cpu")
    return tuple(tensor if tensor is None else tensor.to(dtype) for tensor in tensors)
