"""TinyViT against timm's, with the same weights; and what timm cannot tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from timm.models.tiny_vit import TinyVit
from torch import nn

from distill import models

Fill = Callable[[nn.Module], None]
PUBLISHED = [
    pytest.param("tiny_vit_5m", "tiny_vit_5m_224", 224),
    pytest.param("tiny_vit_11m", "tiny_vit_11m_224", 224),
    pytest.param("tiny_vit_21m", "tiny_vit_21m_224", 224),
    pytest.param("tiny_vit_21m", "tiny_vit_21m_384", 384, marks=pytest.mark.slow),
    pytest.param("tiny_vit_21m", "tiny_vit_21m_512", 512, marks=pytest.mark.slow),
]
SMALL: dict[str, Any] = {"depths": (1, 2, 2, 1), "mlp_ratio": 3.0}
DIMS, HEADS, WINDOWS = (8, 16, 24, 32), (1, 2, 3, 4), (3, 3, 4, 2)


def small_pair(fill: Fill) -> tuple[nn.Module, nn.Module]:
    theirs = TinyVit(
        num_classes=5,
        embed_dims=DIMS,
        num_heads=HEADS,
        window_sizes=WINDOWS,
        drop_path_rate=0.0,
        mbconv_expand_ratio=2.0,
        **SMALL,
    )
    fill(theirs)
    ours = models.build("tiny_vit", num_classes=5, dims=DIMS, heads=HEADS, windows=WINDOWS, expand=2.0, **SMALL)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("name", "timm_name", "image_size"), PUBLISHED)
def test_equals_timm(name: str, timm_name: str, image_size: int, train: bool, fill: Fill) -> None:
    theirs = timm.create_model(timm_name, num_classes=1000, drop_path_rate=0.0)
    fill(theirs)
    ours = models.build(name, image_size=image_size)
    ours.load_state_dict(theirs.state_dict())
    pixels = torch.randn(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs.train(train)(pixels)
        got = ours.train(train)(pixels)
    assert expected.abs().max() > 0.5
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("height", "width"), [(28, 28), (32, 32), (40, 72), (101, 64)])
def test_equals_timm_where_maps_are_padded(height: int, width: int, train: bool, fill: Fill) -> None:
    theirs, ours = small_pair(fill)
    pixels = torch.randn(3, 3, height, width)
    with torch.no_grad():
        expected, got = theirs.train(train)(pixels), ours.train(train)(pixels)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    for name, buffer in theirs.named_buffers():
        if "running" in name:
            torch.testing.assert_close(ours.get_buffer(name), buffer, rtol=0, atol=1e-5)


def test_gradients_equal_timm(fill: Fill) -> None:
    theirs, ours = (net.double().train() for net in small_pair(fill))
    pixels = torch.randn(4, 3, 40, 40, dtype=torch.float64)
    for net in (theirs, ours):
        net(pixels).log_softmax(1)[:, 2].sum().backward()
    expected = dict(theirs.named_parameters())
    assert len(expected) == len(list(ours.parameters()))
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-9, atol=1e-9, msg=name)


def test_fresh_weights_are_as_published() -> None:
    torch.manual_seed(0)
    net = models.build("tiny_vit_5m")
    linears = [module for module in net.modules() if isinstance(module, nn.Linear)]
    for linear in linears:
        assert linear.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert not linear.bias.any()
    for name, module in net.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            ends_residual = name.startswith("stages.0") and name.endswith("conv3.bn")
            assert (module.weight == (0.0 if ends_residual else 1.0)).all(), name
    assert not any(net.get_parameter(name).any() for name in net.no_weight_decay())


def test_no_weight_decay_names_the_bias_tables(small: models.TinyViT) -> None:
    tables = [name for name, _ in small.named_parameters() if "bias" in name and not name.endswith("bias")]
    assert small.no_weight_decay() == set(tables)
    assert len(tables) == 4


def test_drop_path_rises_linearly_and_acts_only_in_training(fill: Fill) -> None:
    net: Any = models.build("tiny_vit", num_classes=5, dims=DIMS, heads=HEADS, windows=WINDOWS, drop_path=0.5, **SMALL)
    fill(net)
    rates = [block.drop_path.drop_prob for stage in net.stages for block in stage.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    pixels = torch.randn(8, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(net.eval()(pixels), net(pixels))
        assert not torch.equal(net.train()(pixels), net(pixels))


@pytest.mark.parametrize(("stem_stride", "side"), [(4, 2), (2, 4)])
def test_stem_stride_sets_the_map_size(stem_stride: int, side: int) -> None:
    net = models.build(
        "tiny_vit", dims=DIMS, heads=HEADS, windows=WINDOWS, stem_stride=stem_stride, num_classes=5, **SMALL
    ).eval()
    pixels = torch.randn(2, 3, 64, 64)
    assert net.forward_features(pixels).shape == (2, 32, side, side)
    assert net(pixels).shape == (2, 5)


def test_channels_last_changes_nothing_but_memory(small: models.TinyViT) -> None:
    pixels = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        expected = small(pixels)
        last = small.to(memory_format=torch.channels_last)
        got = last(pixels.to(memory_format=torch.channels_last))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_bfloat16_autocast_stays_near_float32(small: models.TinyViT) -> None:
    pixels = torch.randn(4, 3, 32, 32)
    expected = small(pixels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = small.train()(pixels)
        got.square().mean().backward()
        got = small.eval()(pixels)
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in small.parameters())
    torch.testing.assert_close(got.float(), expected, rtol=0, atol=0.05 * expected.abs().max().item())


@pytest.mark.slow
@pytest.mark.parametrize("train", [False, True])
def test_traces_into_one_graph(small: models.TinyViT, train: bool) -> None:
    small.train(train)
    pixels = torch.randn(4, 3, 32, 32)
    with torch.set_grad_enabled(train):
        expected = small(pixels)
        got = torch.compile(small, fullgraph=True, backend="aot_eager")(pixels)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
