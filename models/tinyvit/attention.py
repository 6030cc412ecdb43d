"""Attention inside windows of a feature map, with a learned bias for every relative offset.

The inner part of a TinyViT block (`distill.models.tinyvit.network`). The map is cut into windows where q, k and v are
separated, which takes a copy anyway, and joined again where the heads are joined.

Shape suffixes: b batch, h and w height and width of a map, c channels; inside attention m windows (batch times windows
per image), h heads, n positions in a window, d channels of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.models.tinyvit.bias_tables import resize_table
from distill.models.tinyvit.cpu_layers import Linear


def offset_index(side: int) -> Tensor:
    """The index into a bias table for each pair of positions in a window of side x side.

    The index of a pair is `|dy| * side + |dx|`, as in published tables, which list offsets in the order in which they
    occur between the top left position and all others.

    **Returns** (side**4,) int64: pair (i, j) of positions, both in row-major order, at i * side**2 + j.
    """
    position_n = torch.arange(side * side)
    y_n, x_n = position_n // side, position_n % side
    dy_nn = (y_n[:, None] - y_n[None, :]).abs()
    dx_nn = (x_n[:, None] - x_n[None, :]).abs()
    return (dy_nn * side + dx_nn).flatten()


def attend_fused(q_mhnd: Tensor, k_mhnd: Tensor, v_mhnd: Tensor, *, bias_hnn: Tensor, scale: float) -> Tensor:
    """softmax(scale * q k^T + bias) v, (m, h, n, d), by torch's fused kernel."""
    return F.scaled_dot_product_attention(q_mhnd, k_mhnd, v_mhnd, attn_mask=bias_hnn, scale=scale)


def attend_plain(q_mhnd: Tensor, k_mhnd: Tensor, v_mhnd: Tensor, *, bias_hnn: Tensor, scale: float) -> Tensor:
    """The same as `attend_fused`, from separate operations."""
    scores_mhnn = (q_mhnd * scale) @ k_mhnd.transpose(-2, -1) + bias_hnn
    return scores_mhnn.softmax(dim=-1) @ v_mhnd


class WindowAttention(nn.Module):
    """Multi-head self-attention over the positions of a window, preceded by its LayerNorm.

    The bias table (h, side**2) is gathered to (h, n, n) once per forward pass; in evaluation mode without gradients the
    gathered tensor is cached. It is gathered again after `train`, after moves to another device or dtype, in copies,
    after loading and after any in-place change of the table that autograd counts as a new version (an edit through
    `.data` does not count).
    """

    def __init__(self, dim: int, *, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.scale = (dim // heads) ** -0.5
        self.norm = nn.LayerNorm(dim)
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        self.bias_index: Tensor
        self.register_buffer("bias_index", offset_index(window), persistent=False)
        self._cached_bias: tuple[int, Tensor] | None = None  # version of the table, gathered bias

    def forward(self, x_bhwc: Tensor) -> Tensor:
        """(b, h, w, c) -> (b, h, w, c).

        Maps whose sides are no multiple of the window are padded with zeros at the right and bottom. Padded positions
        are like others (they pass through LayerNorm and are attended to), as in the published model.
        """
        side, heads = self.window, self.heads
        b, h, w, c = x_bhwc.shape
        pad_h, pad_w = -h % side, -w % side
        if pad_h or pad_w:
            x_bhwc = F.pad(x_bhwc, (0, 0, 0, pad_w, 0, pad_h))
        rows, columns = (h + pad_h) // side, (w + pad_w) // side
        # Each head's q, k and v lie side by side: (h, [q k v], d), the order of published weights.
        qkv = self.qkv(self.norm(x_bhwc)).view(b, rows, side, columns, side, heads, 3, -1)
        qkv_3mhnd = qkv.permute(6, 0, 1, 3, 5, 2, 4, 7).reshape(3, b * rows * columns, heads, side**2, -1)
        out_mhnd = self._attend(qkv_3mhnd)
        out = out_mhnd.view(b, rows, columns, heads, side, side, -1).permute(0, 1, 4, 2, 5, 3, 6)
        out_bhwc: Tensor = self.proj(out.reshape(b, h + pad_h, w + pad_w, c))
        return out_bhwc[:, :h, :w] if pad_h or pad_w else out_bhwc

    def set_window(self, side: int) -> None:
        """Sets the side of the windows, in positions, and resizes the bias table, which becomes a new parameter."""
        if side == self.window:
            return
        table = self.attention_biases
        resized = resize_table(table.detach(), side=side)
        self.attention_biases = nn.Parameter(resized, requires_grad=table.requires_grad)
        self.bias_index = offset_index(side).to(table.device)
        self.window, self._cached_bias = side, None

    def _attend(self, qkv_3mhnd: Tensor) -> Tensor:
        q_mhnd, k_mhnd, v_mhnd = qkv_3mhnd.unbind(0)
        bias_hnn = self.bias().to(q_mhnd.dtype)
        # On a CPU the fused kernel is 1.2 to 2.5 times slower at these window sizes.
        attend = attend_fused if q_mhnd.is_cuda else attend_plain
        return attend(q_mhnd, k_mhnd, v_mhnd, bias_hnn=bias_hnn, scale=self.scale)

    def bias(self) -> Tensor:
        """The bias of every pair of positions, (h, n, n), in the dtype of the table."""
        table = self.attention_biases
        if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
            return self._gather()
        if self.training or torch.is_grad_enabled() or table.is_inference():
            return self._gather()
        if self._cached_bias is None or self._cached_bias[0] != table._version:
            self._cached_bias = (table._version, self._gather())
        return self._cached_bias[1]

    def _gather(self) -> Tensor:
        n = self.window**2
        return self.attention_biases.index_select(1, self.bias_index).view(self.heads, n, n)

    def train(self, mode: bool = True) -> Self:
        self._cached_bias = None
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._cached_bias = None
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch does not type it
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        # `assign=True` replaces the table by another tensor, which may have the same version number.
        self._cached_bias = None
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cached_bias": None}

    def extra_repr(self) -> str:
        return f"heads={self.heads}, window={self.window}"
