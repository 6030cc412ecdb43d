"""Resizing of attention-bias tables, against a reference and through a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm.layers
import torch
from torch import Tensor, nn

from distill import models
from distill.models.tinyvit.bias_tables import resize_table, resize_tables

SIZES = {224: [7, 7, 14, 7], 384: [12, 12, 24, 12], 512: [16, 16, 32, 16]}


def keys(distance: np.ndarray) -> np.ndarray:
    """The cubic convolution kernel (Keys, 1981) with a = -0.75."""
    a, d = -0.75, np.abs(distance)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * (d**3 - 5 * d**2 + 8 * d - 4)
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def reference(square: np.ndarray, side: int) -> np.ndarray:
    """Each new entry from the 4 x 4 entries around its place, edges repeated."""
    old = len(square)
    weights = np.zeros((side, old))
    for new in range(side):
        at = (new + 0.5) * old / side - 0.5
        for tap in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
            weights[new, min(max(tap, 0), old - 1)] += keys(np.array(at - tap))
    return weights @ square @ weights.T


@pytest.mark.parametrize(("old", "new"), [(7, 12), (14, 24), (12, 16), (24, 32), (14, 7)])
def test_each_head_is_resized_as_an_image(old: int, new: int) -> None:
    table_hn = torch.randn(3, old * old, generator=torch.Generator().manual_seed(0))
    expected = [reference(row.double().numpy().reshape(old, old), new).ravel() for row in table_hn]
    got = resize_table(table_hn, side=new)
    np.testing.assert_allclose(got.numpy(), np.stack(expected), rtol=0, atol=1e-5)


def test_the_rule_is_not_timms() -> None:
    table_hn = torch.randn(2, 49, generator=torch.Generator().manual_seed(0))
    theirs = timm.layers.resize_rel_pos_bias_table_levit(table_hn.T, (144, 2)).T
    assert (resize_table(table_hn, side=12) - theirs).abs().max() > 0.05


def test_other_tensors_and_equal_sizes_stay() -> None:
    like = {"a.attention_biases": torch.zeros(2, 16), "b.attention_biases": torch.zeros(3, 16), "c": torch.zeros(4)}
    state = {"a.attention_biases": torch.randn(2, 16), "b.attention_biases": torch.randn(2, 9), "c": torch.randn(4)}
    resized = resize_tables(state, like=like)
    assert all(resized[name] is state[name] for name in state)
    assert resize_table(torch.ones(2, 9).half(), side=4).dtype == torch.float16


@pytest.mark.parametrize(("source", "target"), [(224, 384), (384, 512)])
def test_loading_at_another_size_only_with_resize_windows(
    source: int, target: int, tmp_path: Path, fill: Callable[[nn.Module], None]
) -> None:
    shape: dict[str, Any] = {"dims": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "heads": [1, 1, 2, 2], "num_classes": 5}
    net = models.build("tiny_vit", image_size=source, windows=SIZES[source], **shape)
    other = models.build("tiny_vit", image_size=target, windows=SIZES[target], **shape)
    fill(net)
    path = tmp_path / "a.safetensors"
    models.save_weights(net, path, metadata={})
    with pytest.raises(models.WeightsError, match=r"other attention windows .*resize_windows is off"):
        models.load_weights(other, path)
    models.load_weights(other, path, resize_windows=True)
    before, after = net.state_dict(), other.state_dict()
    tables = [name for name in before if name.endswith("attention_biases")]
    assert len(tables) == 4
    for name in before:
        side = SIZES[target][int(name.split(".")[1])] if name in tables else 0
        expected: Tensor = resize_table(before[name], side=side) if name in tables else before[name]
        assert torch.equal(after[name], expected)
