# mypy: disable-error-code="no-any-return, no-untyped-call"
# (torch does not type what a module returns)
"""Attention inside one window, with a learned bias for every relative offset.

The inner part of a TinyViT block (`models.tiny_vit`), which cuts the feature map into windows and joins them.

Shape suffixes: m windows (batch times windows a picture), n positions in a window, c channels, h heads,
d channels of a head.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def offset_index(side: int) -> Tensor:
    """Which entry of a bias table belongs to each pair of positions in a window of side x side.

    The entry of a pair is `|dy| * side + |dx|`: the order of published tables, which list offsets as they
    first occur when all positions are seen from the top left one.

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
    """The same as `attend_fused` from single operations."""
    scores_mhnn = (q_mhnd * scale) @ k_mhnd.transpose(-2, -1) + bias_hnn
    return scores_mhnn.softmax(dim=-1) @ v_mhnd


class WindowAttention(nn.Module):
    """Multi-head self-attention over the positions of a window, preceded by its LayerNorm.

    The bias table (h, side**2) is gathered to (h, n, n) once per forward pass; without gradients in
    evaluation mode the gathered tensor is kept. It is made anew after `train`, moves of device or dtype,
    copies, loading and any in-place change of the table that autograd's version counter sees (an edit through
    `.data` is not seen).
    """

    def __init__(self, dim: int, *, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.scale = (dim // heads) ** -0.5
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        self.bias_index: Tensor
        self.register_buffer("bias_index", offset_index(window), persistent=False)
        self._kept: tuple[int, Tensor] | None = None  # version of the table, gathered bias

    def forward(self, x_mnc: Tensor) -> Tensor:
        """(m, n, c) -> (m, n, c), n = window**2."""
        m, n, c = x_mnc.shape
        # Each head's q, k and v lie side by side: (h, [q k v], d), the order of published weights.
        qkv_mnhd = self.qkv(self.norm(x_mnc)).view(m, n, self.heads, -1)
        q_mhnd, k_mhnd, v_mhnd = qkv_mnhd.transpose(1, 2).chunk(3, dim=-1)
        bias_hnn = self.bias().to(q_mhnd.dtype)
        # On a CPU the fused kernel is the slower one at these window sizes, by 1.2 to 2.5 times.
        attend = attend_fused if q_mhnd.is_cuda else attend_plain
        out_mhnd = attend(q_mhnd, k_mhnd, v_mhnd, bias_hnn=bias_hnn, scale=self.scale)
        return self.proj(out_mhnd.transpose(1, 2).reshape(m, n, c))

    def bias(self) -> Tensor:
        """The bias of every pair of positions, (h, n, n), in the dtype of the table."""
        table = self.attention_biases
        if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
            return self._gather()
        if self.training or torch.is_grad_enabled() or table.is_inference():
            return self._gather()
        if self._kept is None or self._kept[0] != table._version:
            self._kept = (table._version, self._gather())
        return self._kept[1]

    def _gather(self) -> Tensor:
        n = self.window**2
        return self.attention_biases.index_select(1, self.bias_index).view(self.heads, n, n)

    def train(self, mode: bool = True) -> "WindowAttention":
        self._kept = None
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> "WindowAttention":
        self._kept = None
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        # `assign=True` puts another tensor in the table's place, whose version may happen to be the same.
        self._kept = None
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}

    def extra_repr(self) -> str:
        return f"heads={self.heads}, window={self.window}"
