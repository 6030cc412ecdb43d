"""Slicing weights: shapes, what stays the same, which channels are kept."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from distill import models
from distill.models.contraction.slicing import CHANNELS, slice_weights
from distill.models.contraction.space import FACTORS, Space, lowered
from distill.models.tinyvit.attention import WindowAttention
from distill.models.tinyvit.network import TinyViT

SEED = models.TinyViTConfig(
    num_classes=5, image_size=32, dims=(16, 32, 48, 48), depths=(2, 2, 2, 2), heads=(1, 2, 3, 3), windows=(4, 4, 4, 2),
    expand=3.0, mlp_ratio=3.0,
)  # fmt: skip
SPACE = Space(
    step_sizes=dict.fromkeys(FACTORS, 1) | {f"dims.{n}": 16 for n in range(1, 4)} | {"dims.0": 4, "head_dim": 4},
    minimums=dict.fromkeys(FACTORS, 1) | {"head_dim": 4},
)


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def parent(fill: Callable[[nn.Module], None]) -> TinyViT:
    torch.manual_seed(0)
    net = TinyViT(SEED)
    fill(net)
    with torch.no_grad():
        for tensor in net.parameters():
            if tensor.ndim > 1:
                tensor.mul_(10 if tensor.ndim == 2 else 3)  # So that every layer changes the output.
    return net.double().eval()


def child_of(parent: TinyViT, config: models.TinyViTConfig, *, channels: str = "importance") -> TinyViT:
    net = TinyViT(config).double()
    net.load_state_dict(slice_weights(parent, config, channels=channels))
    return net.eval()


@pytest.mark.parametrize("channels", CHANNELS)
def test_cutting_nothing_changes_nothing(parent: TinyViT, pixels: torch.Tensor, channels: str) -> None:
    child = child_of(parent, SEED, channels=channels)
    with torch.no_grad():
        assert torch.equal(child(pixels), parent(pixels))
    child.head.fc.weight.data.zero_()
    assert parent.head.fc.weight.abs().sum() > 0, "the child has copies"


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("factor", FACTORS)
def test_every_factor_gives_a_state_that_fits(
    parent: TinyViT, pixels: torch.Tensor, factor: str, channels: str
) -> None:
    config = lowered(SEED, factor, SPACE)
    assert config is not None
    child = child_of(parent, config, channels=channels)  # strict: every name and shape
    with torch.no_grad():
        assert child(pixels).isfinite().all()


def test_many_factors_together_fit(parent: TinyViT, pixels: torch.Tensor) -> None:
    generator = random.Random(0)
    for _ in range(20):
        config = SEED
        for _ in range(8):
            config = lowered(config, generator.choice(FACTORS), SPACE) or config
        with torch.no_grad():
            assert child_of(parent, config)(pixels).isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize(("factor", "at"), [("mlp_ratio", "stages.2.blocks.1.mlp"), ("expand", "stages.0.blocks.0")])
def test_by_importance_dead_hidden_channels_are_removed_and_outputs_stay(
    parent: TinyViT, pixels: torch.Tensor, factor: str, at: str
) -> None:
    change: dict[str, Any] = {factor: 2.0}
    config = dataclasses.replace(SEED, **change)
    dead = torch.arange(0, 10_000, 3)  # Every third, so that none is a tail of the first ones.
    for name, module in parent.named_modules():
        if factor == "mlp_ratio" and name.endswith(".mlp"):
            zeroed = dead[dead < module.fc1.out_features]
            module.fc1.weight[zeroed] = 0
            module.fc1.bias[zeroed] = 0
            module.fc2.weight[:, zeroed] = 0
        if factor == "expand" and name.startswith("stages.0.blocks.") and name.count(".") == 3:
            zeroed = dead[dead < module.conv1.conv.out_channels]
            for conv in (module.conv1, module.conv2):
                conv.conv.weight[zeroed] = 0
            module.conv3.conv.weight[:, zeroed] = 0
    expected = parent(pixels)
    torch.testing.assert_close(child_of(parent, config)(pixels), expected, rtol=0, atol=1e-10)
    first = child_of(parent, config, channels="first")(pixels)
    assert (first - expected).abs().max() > 1e-4, "the first ones are others"


@torch.no_grad()
def test_heads_stay_whole_with_their_biases(parent: TinyViT) -> None:
    attention: Any = parent.get_submodule("stages.2.blocks.0.attn")
    attention.qkv.weight.view(3, 48, 48)[1] *= 9  # rows lie head by head
    config = dataclasses.replace(SEED, dims=(16, 32, 16, 48), heads=(1, 2, 1, 3))
    state = slice_weights(parent, config)
    at = "stages.2.blocks.0.attn"
    assert torch.equal(state[f"{at}.attention_biases"], attention.attention_biases[1:2])
    assert torch.equal(state[f"{at}.qkv.bias"], attention.qkv.bias[48:96])
    halves = slice_weights(parent, dataclasses.replace(SEED, heads=(2, 4, 6, 6)))
    assert torch.equal(halves[f"{at}.attention_biases"], attention.attention_biases.repeat_interleave(2, dim=0))
    q, k, v = attention.qkv.bias[:48].view(3, 16)
    assert torch.equal(halves[f"{at}.qkv.bias"][:48], torch.cat([q[:8], k[:8], v[:8], q[8:], k[8:], v[8:]]))


def bias_of(net: TinyViT) -> torch.Tensor:
    attention = net.get_submodule("stages.2.blocks.1.attn")
    assert isinstance(attention, WindowAttention)
    return attention.bias()


@torch.no_grad()
def test_a_smaller_window_keeps_the_biases_of_its_offsets(parent: TinyViT) -> None:
    config = dataclasses.replace(SEED, windows=(4, 4, 3, 2))
    child = child_of(parent, config)
    whole = bias_of(parent).view(3, 4, 4, 4, 4)
    part = bias_of(child).view(3, 3, 3, 3, 3)
    assert torch.equal(part, whole[:, :3, :3, :3, :3])


def test_larger_children_are_refused(parent: TinyViT) -> None:
    with pytest.raises(models.ModelError, match=r"depths\.2: parent 2, child 3"):
        slice_weights(parent, dataclasses.replace(SEED, depths=(2, 2, 3, 2)))
    with pytest.raises(models.ModelError, match="classes"):
        slice_weights(parent, dataclasses.replace(SEED, num_classes=6))
