"""Resizing of attention-bias tables to windows of another size: from 224 px to 384 and 512, or any others.

An optional step of loading weights (`distill.models.weights.load`): a resized model gives other logits, so it is done
only where the caller sets it.

**Rule.** The table of a head, a square of |dy| by |dx|, is resized as an image is: bicubic (a = -0.75), without
antialiasing, corners not aligned, in float32. The published code does the same from 224 to 384 and from 384 to 512
pixels (github.com/microsoft/Cream, TinyViT/utils.py, load_pretrained). timm resizes with antialiasing, whose cubic has
a = -0.5: its resized tables differ from these.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

TABLE = ".attention_biases"


def resize_table(table_hn: Tensor, *, side: int) -> Tensor:
    """Resizes the biases of one block.

    **Arguments**

    - `table_hn`: (heads, old side**2), entry |dy| * old side + |dx|.
    - `side`: side of the new window, in positions.

    **Returns** (heads, side**2) in the dtype of the table; the table itself where the side is the same.
    """
    heads, entries = table_hn.shape
    old = math.isqrt(entries)
    if old == side:
        return table_hn
    squares_1hyx = table_hn.float().view(1, heads, old, old)
    resized_1hyx = F.interpolate(squares_1hyx, size=(side, side), mode="bicubic", align_corners=False)
    return resized_1hyx.view(heads, side * side).to(table_hn.dtype)


def resize_tables(state: Mapping[str, Tensor], *, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with every bias table resized to the table of the same name in `like`.

    Other tensors, and tables of another number of heads, are returned as they are; strict loading refuses them later.
    """
    return {
        name: resize_table(tensor, side=math.isqrt(like[name].shape[1])) if _is_table(name, tensor, like) else tensor
        for name, tensor in state.items()
    }


def _is_table(name: str, tensor: Tensor, like: Mapping[str, Tensor]) -> bool:
    if not name.endswith(TABLE) or name not in like or tensor.ndim != 2:
        return False
    return tensor.shape[0] == like[name].shape[0] and math.isqrt(tensor.shape[1]) ** 2 == tensor.shape[1]
