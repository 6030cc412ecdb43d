"""Images of any size: against timm, the size in the config, windows resized in place, and multiply-accumulates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.models.tiny_vit import TinyVit
from torch import nn

from distill import models
from distill.models.weights.convert import convert

Fill = Callable[[nn.Module], None]
SHAPE: dict[str, Any] = {
    "num_classes": 5,
    "image_size": 64,
    "dims": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "heads": [1, 1, 2, 2],
}


def build(fill: Fill, windows: tuple[int, ...] = (7, 7, 14, 7)) -> models.TinyViT:
    net = models.build("tiny_vit", windows=windows, **SHAPE)
    fill(net)
    return net.eval()


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 97), (224, 160), (64, 1024), (1024, 1024)])
def test_one_network_takes_every_size_as_timm_does(height: int, width: int, fill: Fill) -> None:
    ours = build(fill)
    theirs = TinyVit(
        num_classes=5, embed_dims=SHAPE["dims"], depths=SHAPE["depths"], num_heads=SHAPE["heads"],
        window_sizes=(7, 7, 14, 7), drop_path_rate=0.0,
    )  # fmt: skip
    theirs.load_state_dict(ours.state_dict())
    pixels = torch.randn(1, 3, height, width)
    with torch.no_grad():
        ours.set_input_size((height, width))
        torch.testing.assert_close(ours(pixels), theirs.eval()(pixels), rtol=0, atol=2e-5)


def test_setting_a_size_changes_the_config_and_no_logits(fill: Fill) -> None:
    net, pixels = build(fill), torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        before = net(pixels)
        net.set_input_size(96)
        assert torch.equal(net(pixels), before)
    assert net.config.image_size == 96
    net.set_input_size((64, 128))
    assert net.config.image_size == 96, "a rectangle has no place in the config"


def test_windows_resized_in_place_equal_a_network_built_for_them(fill: Fill) -> None:
    net, pixels = build(fill, (7, 7, 14, 7)), torch.randn(1, 3, 384, 384)
    with torch.no_grad():
        net(torch.randn(1, 3, 64, 64))  # so that gathered biases are cached
        wanted = convert(net, image_size=384)
        net.set_input_size(384, windows=[12, 12, 24, 12])
        assert net.config == wanted.config
        assert torch.equal(net(pixels), wanted(pixels))
    assert all(parameter.requires_grad for parameter in net.parameters())
    tables = [table.shape[1] for name, table in net.named_parameters() if name.endswith("attention_biases")]
    assert tables == [12**2, 24**2, 12**2]


@pytest.mark.parametrize("size", [0, 7, (64,), (64, 64, 64), (64, 1.5), "64"])
def test_wrong_sizes_are_refused(size: object, small: models.TinyViT) -> None:
    before = small.config
    with pytest.raises(models.ModelError, match="a size must be a side, or height and width"):
        small.set_input_size(size)  # type: ignore[arg-type]
    with pytest.raises(models.ModelError, match="windows must be 4 positive integers"):
        small.set_input_size(64, windows=[1, 2, 3])
    assert small.config == before


def test_macs_follow_the_size_of_the_maps(fill: Fill) -> None:
    net = build(fill, (1, 2, 2, 1))
    # Whole windows everywhere: every position costs the same, and only the head (norm, 32 x 5) does not grow.
    head = 5 * 32 + 32 * 5
    macs = models.count_macs(net, 64) - head
    assert models.count_macs(net, (64, 128)) == 2 * macs + head
    assert models.count_macs(net, 1024) == 256 * macs + head
    net = build(fill, (1, 2, 3, 1))  # maps of 4 x 4 are padded to 6 x 6 in stage 2
    padded = 36 - 16
    extra = padded * (5 * 24 + 24 * 72 + 24 * 24) + (36 * 9 - 16 * 4) * 2 * 24
    assert models.count_macs(net, 64) == macs + head + extra
