# mypy: disable-error-code="no-any-return, no-untyped-call"
# (torch does not type what a module returns)
"""A trained TinyViT made ready for inference: BatchNorm folded into the convolution before it, GELU done in the same
pass over memory where torch has a kernel for it.

    fast = models.for_inference(net, dtype=torch.bfloat16)
    logits_bc = fast(pixels_bchw)

Beside the flow: evaluation and users of a trained student may take it; training and checkpoints never do.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.models.tinyvit.attention import WindowAttention
from distill.models.tinyvit.cpu_layers import autocast_like, chooses
from distill.models.tinyvit.network import MLP, ConvNorm, MBConv, PatchMerging, Stem, TinyViT

# Of each kind of block: the layers followed by an activation, and its name.
_ACTIVATED: dict[type[nn.Module], dict[str, str]] = {
    Stem: {"conv1": "act"},
    MBConv: {"conv1": "act1", "conv2": "act2"},
    PatchMerging: {"conv1": "act1", "conv2": "act2"},
    MLP: {"fc1": "act"},
}


class ForInference(nn.Module):
    """What `for_inference` returns: pixels of any float dtype (B, 3, H, W) -> float32 logits (B, num_classes)."""

    def __init__(self, net: TinyViT, dtype: torch.dtype) -> None:
        super().__init__()
        self.net = net
        self.dtype = dtype
        self.num_classes = net.num_classes

    def forward(self, pixels_bchw: Tensor) -> Tensor:
        return self.net(pixels_bchw.to(self.dtype)).float()


class Convolution(nn.Module):
    """A convolution with bias, and GELU after it where asked for. Its weights take no gradient.

    On a CPU the weights are kept a second time, in the layout that oneDNN wants for the dtype it is called with.
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
        if not (chooses(x_bchw) and _has_fused_kernel(x_bchw)):
            out_bchw = F.conv2d(x_bchw, self.weight, self.bias, self.stride, self.padding, 1, self.groups)
            return F.gelu(out_bchw) if self.gelu else out_bchw
        x_bchw, bias = autocast_like(x_bchw, self.bias)
        after: tuple[str, list[Any], str] = ("gelu", [], "none") if self.gelu else ("none", [], "")
        return torch.ops.mkldnn._convolution_pointwise(
            x_bchw, self._pack(x_bchw), bias, [self.padding] * 2, [self.stride] * 2, [1, 1], self.groups, *after
        )

    def _pack(self, x_bchw: Tensor) -> Tensor:
        kept = self._packed.get(x_bchw.dtype)
        if kept is None or kept[0] != self.weight._version:
            packed = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight.to(x_bchw.dtype), [self.padding] * 2, [self.stride] * 2, [1, 1], self.groups,
                list(x_bchw.shape),
            )  # fmt: skip
            kept = self._packed[x_bchw.dtype] = (self.weight._version, packed)
        return kept[1]

    def _apply(self, fn: Any, recurse: bool = True) -> "Convolution":
        self._packed = {}
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._packed = {}
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": {}}


class Product(Convolution):
    """The same for a linear map on the last axis of (b, h, w, in), as a 1x1 convolution."""

    def forward(self, x_bhwc: Tensor) -> Tensor:
        return super().forward(x_bhwc.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def for_inference(net: TinyViT, *, dtype: torch.dtype = torch.float32) -> ForInference:
    """A copy of a network for inference, in evaluation mode; the network itself is left as it is.

    **Arguments:** `dtype` of weights and maps; bfloat16 is meant for what autocast is used for elsewhere.

    **Returns:** a module from pixels to float32 logits, on the same device and in the same layout as `net`. In float32
    they equal those of `net.eval()` but for rounding.
    """
    net = copy.deepcopy(net).eval().requires_grad_(False)
    for block in list(net.modules()):
        activated = _ACTIVATED.get(type(block), {})
        for name, layer in list(block.named_children()):
            if isinstance(layer, ConvNorm):
                setattr(block, name, _folded(layer, gelu=name in activated))
            elif isinstance(layer, nn.Linear) and isinstance(block, (MLP, WindowAttention)):
                weight, bias = layer.weight.detach()[:, :, None, None], layer.bias.detach()
                setattr(block, name, Product(weight, bias, stride=1, padding=0, groups=1, gelu=name in activated))
            else:
                continue
            if name in activated:
                setattr(block, activated[name], nn.Identity())
    return ForInference(net.to(dtype), dtype)


def _folded(layer: ConvNorm, *, gelu: bool) -> Convolution:
    """conv(x) * scale + shift = (conv with scaled kernels)(x) + shift, computed in float64."""
    conv, norm = layer.conv, layer.bn
    assert norm.running_mean is not None and norm.running_var is not None
    scale_c = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift_c = norm.bias.double() - norm.running_mean.double() * scale_c
    weight = (conv.weight.double() * scale_c[:, None, None, None]).to(conv.weight.dtype)
    weight = weight.contiguous(memory_format=_layout(conv.weight))
    return Convolution(
        weight.detach(), shift_c.to(weight.dtype).detach(), stride=conv.stride[0], padding=int(conv.padding[0]),
        groups=conv.groups, gelu=gelu,
    )  # fmt: skip


def _layout(weight: Tensor) -> torch.memory_format:
    last = weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def _has_fused_kernel(x: Tensor) -> bool:
    """Whether oneDNN's convolution with GELU serves x here. torch.compile calls it for frozen networks; it is not among
    torch's documented operations, so its absence only means other kernels and GELU as a pass of its own."""
    if torch.is_grad_enabled() and x.requires_grad:
        return False
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")):
        return False
    half = x.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")
    return not half or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
