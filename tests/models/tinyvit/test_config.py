"""Dimensions: published models, wrong values, JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from distill import models

FREE: dict[str, Any] = {
    "dims": [8, 16, 32, 32],
    "depths": [1, 1, 1, 1],
    "heads": [1, 2, 4, 2],
    "windows": [4, 4, 2, 1],
}


@pytest.mark.parametrize(
    ("image_size", "windows"),
    [(224, (7, 7, 14, 7)), (384, (12, 12, 24, 12)), (512, (16, 16, 32, 16)), (32, (7, 7, 14, 7))],
)
def test_published_windows_follow_image_size(image_size: int, windows: tuple[int, ...]) -> None:
    net: Any = models.build("tiny_vit_5m", num_classes=3, image_size=image_size)
    assert net.config.windows == windows
    assert [block.attn.window for block in net.stages[2].blocks] == [windows[2]] * 6


def test_named_model_takes_other_windows_and_nothing_else() -> None:
    assert models.build("tiny_vit_5m", num_classes=3, windows=[4, 4, 2, 1]).config.windows == (4, 4, 2, 1)
    assert models.build("tiny_vit_5m", num_classes=3, dims=None, mlp_ratio=4.0).config.mlp_ratio == 4.0
    with pytest.raises(models.ModelError, match=r"tiny_vit_5m has dims = \[64, 128, 160, 320\]"):
        models.build("tiny_vit_5m", dims=[64, 128, 160, 352])
    with pytest.raises(models.ModelError, match="tiny_vit_5m has stem_stride = 4"):
        models.build("tiny_vit_5m", stem_stride=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dims": None}, "missing TinyViT dimension: dims"),
        ({"dim": 3}, "unknown TinyViT dimension: dim;"),
        ({"dims": [8, 16, 32]}, "dims must be 4 positive integers"),
        ({"depths": [1, 1, 1, 0]}, "depths must be 4 positive integers"),
        ({"windows": [7, 7.0, 7, 7]}, "windows must be 4 positive integers"),
        ({"windows": 7}, "windows must be 4 positive integers"),
        ({"heads": [1, 2, 5, 2]}, r"dims\[2\] = 32 is not a multiple of heads\[2\] = 5"),
        ({"dims": [9, 16, 32, 32]}, r"dims\[0\] = 9 must be even"),
        ({"mlp_ratio": 0}, "mlp_ratio must be a positive number"),
        ({"expand": "4"}, "expand must be a positive number"),
        ({"stem_stride": 8}, "stem_stride must be 2 or 4, got 8"),
        ({"drop_path": 1.0}, r"drop_path must be in \[0, 1\), got 1.0"),
        ({"image_size": 4}, "image_size must be an integer of at least 8, got 4"),
        ({"num_classes": 0}, "num_classes must be an integer of at least 1, got 0"),
    ],
)
def test_wrong_dimensions_are_refused_by_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(models.ModelError, match=message):
        models.build("tiny_vit", **{**FREE, **change})


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(models.ModelError, match=r"unknown model 'tiny_vit_6m'; known: tiny_vit_5m, "):
        models.build("tiny_vit_6m")


def test_json_round_trip() -> None:
    config = models.build("tiny_vit", num_classes=7, drop_path=0.1, stem_stride=2, **FREE).config
    assert models.TinyViTConfig.from_json(config.to_json()) == config
    assert config.to_json()["dims"] == FREE["dims"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.num_classes = 8  # type: ignore[misc]
