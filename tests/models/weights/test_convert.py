"""Conversion to other classes and another image size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from distill import models
from distill.models.tinyvit.bias_tables import resize_table
from distill.models.weights.convert import convert


def test_classes_and_windows_are_changed_together(fill: Callable[[nn.Module], None]) -> None:
    net: Any = models.build(
        "tiny_vit", num_classes=4, image_size=224, dims=[8, 16, 24, 32], depths=[1] * 4, heads=[1, 1, 2, 2],
        windows=[7, 7, 14, 7],
    )  # fmt: skip
    fill(net)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    class_map = models.match_classes(["a", "b", "c", "d"], ["d", "x", "a"])
    other: Any = convert(net, class_map=class_map, image_size=384)
    assert (other.config.num_classes, other.config.image_size, other.config.windows) == (3, 384, (12, 12, 24, 12))
    assert not other.training
    table = net.stages[2].blocks[0].attn.attention_biases
    assert torch.equal(other.stages[2].blocks[0].attn.attention_biases, resize_table(table, side=24))
    assert torch.equal(other.head.fc.bias, class_map.remap(net.head.fc.bias))
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    same = convert(net)
    assert same.config == net.config
    assert all(torch.equal(before[name], tensor) for name, tensor in same.state_dict().items())
    with pytest.raises(models.ModelError, match="no windows are published for 256 px, only for 224, 384, 512"):
        convert(net, image_size=256)
    with pytest.raises(models.ModelError, match=r"head\.fc\.weight has 3 classes, .* starts from 4"):
        convert(other, class_map=class_map)
