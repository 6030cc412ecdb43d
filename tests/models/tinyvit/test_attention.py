"""Window attention, against a loop over pairs of positions; and the cached bias."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor

from distill.models.tinyvit.attention import WindowAttention, attend_fused, attend_plain, offset_index


def make(*, dim: int = 12, heads: int = 3, window: int = 3) -> WindowAttention:
    torch.manual_seed(0)
    attention = WindowAttention(dim, heads=heads, window=window)
    torch.nn.init.normal_(attention.attention_biases)
    return attention.double()


def reference(attention: WindowAttention, x_mnc: Tensor) -> Tensor:
    """One window, head and pair of positions at a time."""
    side, heads = attention.window, attention.heads
    out = torch.empty_like(x_mnc)
    for window, x_nc in enumerate(x_mnc):
        by_head = attention.qkv(attention.norm(x_nc)).unflatten(1, (heads, 3, -1))
        mixed = []
        for head in range(heads):
            q_nd, k_nd, v_nd = by_head[:, head].unbind(1)
            scores_nn = q_nd @ k_nd.T / q_nd.shape[1] ** 0.5
            for i in range(side**2):
                for j in range(side**2):
                    dy, dx = abs(i // side - j // side), abs(i % side - j % side)
                    scores_nn[i, j] += attention.attention_biases[head, dy * side + dx]
            mixed.append(scores_nn.softmax(1) @ v_nd)
        out[window] = attention.proj(torch.cat(mixed, 1))
    return out


def test_equals_reference_loop() -> None:
    attention = make()
    x_mnc = torch.randn(4, 9, 12, dtype=torch.float64)
    with torch.no_grad():
        got_mnc = attention(x_mnc.view(4, 3, 3, 12)).view(4, 9, 12)
        torch.testing.assert_close(got_mnc, reference(attention, x_mnc), rtol=0, atol=1e-12)


def test_offsets_are_numbered_as_first_met() -> None:
    side = 4
    seen: dict[tuple[int, int], int] = {}
    positions = [(y, x) for y in range(side) for x in range(side)]
    expected = [seen.setdefault((abs(a[0] - b[0]), abs(a[1] - b[1])), len(seen)) for a in positions for b in positions]
    assert offset_index(side).tolist() == expected


def test_fused_and_plain_agree_in_value_and_gradient() -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(2, 3, 9, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    bias_hnn = torch.randn(3, 9, 9, dtype=torch.float64, requires_grad=True)
    results = []
    for attend in (attend_fused, attend_plain):
        out = attend(*inputs, bias_hnn=bias_hnn, scale=0.3)
        results.append([out, *torch.autograd.grad(out.square().sum(), [*inputs, bias_hnn])])
    for fused, plain in zip(*results, strict=True):
        torch.testing.assert_close(fused, plain, rtol=0, atol=1e-10)


def _edit(attention: WindowAttention) -> WindowAttention:
    with torch.no_grad():
        attention.attention_biases.add_(1.0)
    return attention


def _load(attention: WindowAttention) -> WindowAttention:
    attention.load_state_dict(make_other().state_dict())
    return attention


def _assign(attention: WindowAttention) -> WindowAttention:
    attention.load_state_dict(make_other().state_dict(), assign=True)
    return attention


def _train_step(attention: WindowAttention) -> WindowAttention:
    attention.train()
    attention.attention_biases.data.add_(1.0)
    return attention.eval()


def _copy_and_edit(attention: WindowAttention) -> WindowAttention:
    return _edit(copy.deepcopy(attention))


def _narrow(attention: WindowAttention) -> WindowAttention:
    return attention.float()


def make_other() -> WindowAttention:
    other = make()
    torch.nn.init.normal_(other.attention_biases)
    return other


@pytest.mark.parametrize("change", [_edit, _load, _assign, _train_step, _copy_and_edit, _narrow])
@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_the_cached_bias_never_outlives_its_table(
    change: Callable[[WindowAttention], WindowAttention], guard: Callable[[], AbstractContextManager[object]]
) -> None:
    attention = make().eval()
    with guard():
        assert attention.bias() is attention.bias()  # cached
    attention = change(attention)
    with guard():
        got = attention.bias()
    expected = attention.attention_biases.detach()[:, offset_index(3).view(9, 9)]
    assert got.dtype == expected.dtype
    assert torch.equal(got, expected)


def test_evaluation_mode_has_gradients_after_inference() -> None:
    attention = make().eval()
    x_bhwc = torch.randn(2, 3, 3, 12, dtype=torch.float64)
    with torch.inference_mode():
        attention(x_bhwc)
    grads: list[Tensor] = []
    for _ in range(2):  # a cached graph would fail the second time
        attention.zero_grad()
        attention(x_bhwc).square().sum().backward()
        assert attention.attention_biases.grad is not None
        grads.append(attention.attention_biases.grad)
    assert torch.equal(grads[0], grads[1])
    assert grads[0].abs().max() > 0
