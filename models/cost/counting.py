"""Size and cost of a network: parameters and multiply-accumulates, counted as the published table counts.

**Rule.** One multiply-accumulate for each product in convolutions, linear maps and the two matrix products of
attention (over padded windows where maps are padded), and five operations for each element that enters a
normalisation layer (BatchNorm or LayerNorm: mean, variance, shift, scale, offset; nothing for a folded one).
Activations, softmax, biases, residual sums, pooling and resampling count nothing. With the products alone the
published models come to 1.26, 2.02, 4.25, 13.70 and 26.88 G; the normalisation term brings them to the
printed 1.29, 2.05, 4.30, 13.85 and 27.15 G, all five to the last digit.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from distill.models.tinyvit.input_size import Size, height_and_width

NORM_OPERATIONS = 5


def count_params(net: nn.Module) -> int:
    """Number of trainable-by-nature values: parameters, buffers not included."""
    return sum(parameter.numel() for parameter in net.parameters())


def count_macs(net: nn.Module, size: Size) -> int:
    """Multiply-accumulates of one picture of `size` (side, or height and width, in pixels), by the rule above.

    Runs the network without data, on the meta device; `net` itself is neither run nor changed.
    """
    meta = _without_data(net).eval()
    norm_elements = 0

    def count_norm(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        nonlocal norm_elements
        norm_elements += output.numel()

    for module in meta.modules():
        if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)):
            module.register_forward_hook(count_norm)
    with FlopCounterMode(display=False) as products, torch.no_grad():
        meta(torch.empty(1, 3, *height_and_width(size), device="meta"))
    return int(products.get_total_flops()) // 2 + NORM_OPERATIONS * norm_elements


def _without_data(net: nn.Module) -> nn.Module:
    """A copy of `net` on the meta device, made without copying a tensor's data."""
    stand_ins: dict[int, Any] = {}
    for parameter in net.parameters():
        stand_ins[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
    for buffer in net.buffers():
        stand_ins[id(buffer)] = buffer.to("meta")
    return copy.deepcopy(net, stand_ins)
