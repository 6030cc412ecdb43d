"""A trained TinyViT for inference: BatchNorm folded into the convolution before it, and GELU fused into that
convolution where torch has a kernel for it.

    fast = models.for_inference(net, dtype=torch.bfloat16)
    logits_bc = fast(pixels_bchw)

For evaluation and users of a trained student; training and checkpoints do not use it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.models.tinyvit.attention import WindowAttention
from distill.models.tinyvit.cpu_layers import takes_cpu_kernel, to_autocast_dtype
from distill.models.tinyvit.network import MLP, ConvNorm, MBConv, PatchMerging, Stem, TinyViT

# For each type of block: the layers that an activation follows, and the activation's name.
_FOLLOWED_BY_GELU: dict[type[nn.Module], dict[str, str]] = {
    Stem: {"conv1": "act"},
    MBConv: {"conv1": "act1", "conv2": "act2"},
    PatchMerging: {"conv1": "act1", "conv2": "act2"},
    MLP: {"fc1": "act"},
}


class ForInference(nn.Module):
    """The network that `for_inference` returns: pixels of any float dtype (B, 3, H, W) -> float32 logits
    (B, num_classes)."""

    def __init__(self, net: TinyViT, dtype: torch.dtype) -> None:
        super().__init__()
        self.net = net
        self.dtype = dtype
        self.num_classes = net.num_classes

    def forward(self, pixels_bchw: Tensor) -> Tensor:
        logits_bc: Tensor = self.net(pixels_bchw.to(self.dtype)).float()
        return logits_bc


class FusedConv(nn.Module):
    """A convolution with bias, optionally followed by GELU. Its weights have no gradients.

    On a CPU a second copy of the weights is cached, packed as oneDNN expects it for the dtype of the input.
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, stride: int, padding: int, groups: int, gelu: bool) -> None:
        """**Arguments:** `weight` (out, in / groups, k, k); `bias` (out,)."""
        super().__init__()
        self.weight: Tensor
        self.bias: Tensor
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.stride, self.padding, self.groups, self.gelu = stride, padding, groups, gelu
        self._packed: dict[torch.dtype, tuple[int, Tensor]] = {}  # version of the weight, packed weight

    def forward(self, x_bchw: Tensor) -> Tensor:
        if not (takes_cpu_kernel(x_bchw) and _has_fused_kernel(x_bchw)):
            out_bchw = F.conv2d(x_bchw, self.weight, self.bias, self.stride, self.padding, 1, self.groups)
            return F.gelu(out_bchw) if self.gelu else out_bchw
        x_bchw, bias = to_autocast_dtype(x_bchw, self.bias)
        activation: tuple[str, list[Any], str] = ("gelu", [], "none") if self.gelu else ("none", [], "")
        fused_bchw: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x_bchw, self._pack(x_bchw), bias, [self.padding] * 2, [self.stride] * 2, [1, 1], self.groups, *activation
        )
        return fused_bchw

    def _pack(self, x_bchw: Tensor) -> Tensor:
        cached = self._packed.get(x_bchw.dtype)
        if cached is None or cached[0] != self.weight._version:
            packed = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight.to(x_bchw.dtype), [self.padding] * 2, [self.stride] * 2, [1, 1], self.groups,
                list(x_bchw.shape),
            )  # fmt: skip
            cached = self._packed[x_bchw.dtype] = (self.weight._version, packed)
        return cached[1]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._packed = {}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch does not type it
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._packed = {}
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": {}}


class FusedLinear(FusedConv):
    """A linear map on the last axis of (b, h, w, in), computed as a 1x1 `FusedConv`."""

    def forward(self, x_bhwc: Tensor) -> Tensor:
        return super().forward(x_bhwc.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def for_inference(net: TinyViT, *, dtype: torch.dtype = torch.float32) -> ForInference:
    """A copy of a network for inference, in evaluation mode: BatchNorm is folded into convolutions, GELU fused.

    **Arguments**

    - `net`: left unchanged.
    - `dtype`: of weights and feature maps; bfloat16 instead of autocast.

    **Returns** a module from pixels of any float dtype (B, 3, H, W) to float32 logits (B, num_classes), on the device
    and in the memory format of `net`. In float32 the logits equal those of `net.eval()` up to rounding.
    """
    net = copy.deepcopy(net).eval().requires_grad_(False)
    for block in list(net.modules()):
        activations = _FOLLOWED_BY_GELU.get(type(block), {})
        for name, layer in list(block.named_children()):
            if isinstance(layer, ConvNorm):
                setattr(block, name, _folded(layer, gelu=name in activations))
            elif isinstance(layer, nn.Linear) and isinstance(block, (MLP, WindowAttention)):
                weight, bias = layer.weight.detach()[:, :, None, None], layer.bias.detach()
                fused = FusedLinear(weight, bias, stride=1, padding=0, groups=1, gelu=name in activations)
                setattr(block, name, fused)
            else:
                continue
            if name in activations:
                setattr(block, activations[name], nn.Identity())
    return ForInference(net.to(dtype), dtype)


def _folded(layer: ConvNorm, *, gelu: bool) -> FusedConv:
    """conv(x) * scale + shift = (conv with scaled kernels)(x) + shift; the kernels are scaled in float64."""
    conv, norm = layer.conv, layer.bn
    assert norm.running_mean is not None and norm.running_var is not None
    scale_c = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift_c = norm.bias.double() - norm.running_mean.double() * scale_c
    weight = (conv.weight.double() * scale_c[:, None, None, None]).to(conv.weight.dtype)
    weight = weight.contiguous(memory_format=_memory_format(conv.weight))
    return FusedConv(
        weight.detach(), shift_c.to(weight.dtype).detach(), stride=conv.stride[0], padding=int(conv.padding[0]),
        groups=conv.groups, gelu=gelu,
    )  # fmt: skip


def _memory_format(weight: Tensor) -> torch.memory_format:
    channels_last = weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    return torch.channels_last if channels_last else torch.contiguous_format


def _has_fused_kernel(x: Tensor) -> bool:
    """Whether oneDNN's convolution fused with GELU takes `x`. torch.compile calls it for frozen networks; it is not a
    documented operation of torch, so where it is absent convolution and GELU run one after the other."""
    if torch.is_grad_enabled() and x.requires_grad:
        return False
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch does not type it
    if not (has_onednn and hasattr(torch.ops.mkldnn, "_convolution_pointwise")):
        return False
    half = x.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")
    return not half or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
