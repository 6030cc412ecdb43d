"""Parameters and multiply-accumulates (MACs) of a network, counted as in the published table.

**Rule.** One MAC for each product in convolutions, linear maps and the two matrix products of attention (over padded
windows where maps are padded), and five for each input element of a normalisation layer (BatchNorm or LayerNorm: mean,
variance, shift, scale, offset; none for a folded one). Activations, softmax, biases, residual sums, pooling and
resampling count nothing. From products alone the published models have 1.26, 2.02, 4.25, 13.70 and 26.88 G; with
normalisation they have the printed 1.29, 2.05, 4.30, 13.85 and 27.15 G, all five to the last digit.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from distill.models.tinyvit.input_size import Size, height_and_width

MACS_PER_NORM_ELEMENT = 5


def count_params(net: nn.Module) -> int:
    """Number of parameters, frozen ones included, buffers not."""
    return sum(parameter.numel() for parameter in net.parameters())


def count_macs(net: nn.Module, size: Size) -> int:
    """Multiply-accumulates of one forward pass for one image, as in the published table (arXiv 2207.10666).

    One for each product in convolutions, linear maps and attention, and five for each input element of BatchNorm and
    LayerNorm. A copy of the network is run on the meta device; `net` is neither run nor changed.

    **Arguments:** `size`: side, or height and width, in pixels.

    **Raises** ModelError for a wrong size.
    """
    meta_net = _to_meta(net).eval()
    norm_elements = 0

    def count_norm(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        nonlocal norm_elements
        norm_elements += output.numel()

    for module in meta_net.modules():
        if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)):
            module.register_forward_hook(count_norm)
    with FlopCounterMode(display=False) as products, torch.no_grad():
        meta_net(torch.empty(1, 3, *height_and_width(size), device="meta"))
    return int(products.get_total_flops()) // 2 + MACS_PER_NORM_ELEMENT * norm_elements


def _to_meta(net: nn.Module) -> nn.Module:
    """A copy of `net` on the meta device, made without copying the data of tensors."""
    meta_tensors: dict[int, Any] = {}
    for parameter in net.parameters():
        meta_tensors[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
    for buffer in net.buffers():
        meta_tensors[id(buffer)] = buffer.to("meta")
    return copy.deepcopy(net, meta_tensors)
