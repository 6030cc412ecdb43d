"""Attention-bias tables for windows of another size: from 224 px to 384 and 512, or anywhere else.

A step of loading weights (`distill.models.weights.load`), taken only when it is asked for: the resized model is another
model.

**Rule.** The table of a head, a square of |dy| by |dx|, is resized as a picture: bicubic (a = -0.75), without
antialiasing, corners not aligned, in float32. This is what the published code does when it goes from 224 to 384 and
from 384 to 512 pixels (github.com/microsoft/Cream, TinyViT/utils.py, load_pretrained). timm resizes with antialiasing
on, whose cubic has a = -0.5: its resized tables differ from these.
"""

import math
from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

TABLE = ".attention_biases"


def resize_table(table_hn: Tensor, *, side: int) -> Tensor:
    """Resizes the biases of one block.

    **Arguments**

    - `table_hn`: (heads, old side**2), entry |dy| * old side + |dx|.
    - `side`: of the new window, in positions.

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
    """A state with every bias table in the size that the table of the same name has in `like`.

    What is not a table, or a table of another number of heads, stays as it is, for strict loading to judge.
    """
    return {
        name: _fitted(tensor, like[name]) if _is_table(name, tensor, like) else tensor for name, tensor in state.items()
    }


def _fitted(table_hn: Tensor, place_hn: Tensor) -> Tensor:
    return resize_table(table_hn, side=math.isqrt(place_hn.shape[1]))


def _is_table(name: str, tensor: Tensor, like: Mapping[str, Tensor]) -> bool:
    if not name.endswith(TABLE) or name not in like or tensor.ndim != 2:
        return False
    return tensor.shape[0] == like[name].shape[0] and math.isqrt(tensor.shape[1]) ** 2 == tensor.shape[1]
