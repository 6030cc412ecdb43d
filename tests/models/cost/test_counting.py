"""Counted parameters and multiply-accumulates: the published table, layers by hand, padded windows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from distill import models

PUBLISHED = [
    ("tiny_vit_5m", 224, "5.39", "1.29"),
    ("tiny_vit_11m", 224, "11.00", "2.05"),
    ("tiny_vit_21m", 224, "21.20", "4.30"),
    ("tiny_vit_21m", 384, "21.23", "13.85"),
    ("tiny_vit_21m", 512, "21.27", "27.15"),
]


@pytest.mark.parametrize(("name", "image_size", "params", "macs"), PUBLISHED)
def test_published_table_to_the_printed_digits(name: str, image_size: int, params: str, macs: str) -> None:
    net = models.build(name, num_classes=1000, image_size=image_size)
    assert f"{models.count_params(net) / 1e6:.2f}" == params
    assert f"{models.count_macs(net, image_size) / 1e9:.2f}" == macs


def test_rule_on_layers_counted_by_hand() -> None:
    conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)  # 4 x 4 outputs of 8 channels, 27 products each
    assert models.count_macs(conv, 8) == 4 * 4 * 8 * 27
    grouped = nn.Conv2d(3, 6, 3, padding=1, groups=3)  # 9 products each
    assert models.count_macs(grouped, 8) == 8 * 8 * 6 * 9
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10))
    assert models.count_macs(linear, 8) == 3 * 8 * 8 * 10
    assert models.count_macs(nn.BatchNorm2d(3), 8) == 5 * 3 * 8 * 8
    assert models.count_macs(nn.GELU(), 8) == 0


def test_padded_windows_cost_what_they_compute() -> None:
    shape: dict[str, Any] = {"dims": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "heads": [1, 1, 1, 1], "num_classes": 5}
    exact = models.build("tiny_vit", windows=[1, 4, 2, 1], **shape)
    padded = models.build("tiny_vit", windows=[1, 4, 2, 2], **shape)
    # Last map 1 x 1 padded to 2 x 2: 4 positions instead of 1 in norm, qkv and proj, 16 pairs instead of 1.
    extra = 3 * 8 * 5 + 3 * (8 * 24 + 8 * 8) + 15 * 2 * 8
    assert models.count_macs(padded, 32) - models.count_macs(exact, 32) == extra


def test_counting_leaves_the_network_alone(small: models.TinyViT) -> None:
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = small(pixels)
        models.count_macs(small.train(), 32)
        assert small.training
        assert all(parameter.device.type == "cpu" for parameter in small.parameters())
        assert all(parameter.requires_grad for parameter in small.parameters())
        assert torch.equal(small.eval()(pixels), expected)
