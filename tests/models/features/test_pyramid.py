"""The pyramid against the classifier it comes from, and against timm's `features_only`."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from distill import models

Fill = Callable[[nn.Module], None]


@pytest.mark.parametrize(("height", "width"), [(64, 64), (70, 101), (33, 200)])
def test_maps_equal_timms_features_only(height: int, width: int, fill: Fill) -> None:
    theirs: Any = timm.create_model("tiny_vit_5m_224", features_only=True, drop_path_rate=0.0).eval()
    fill(theirs)
    state = {name.replace("stages_", "stages."): tensor for name, tensor in theirs.state_dict().items()}
    ours = models.build_features("tiny_vit_5m").eval()
    ours.load_state_dict(state)
    pixels = torch.randn(1, 3, height, width)
    with torch.no_grad():
        expected, got = theirs(pixels), ours(pixels)
    assert isinstance(got, list)
    for got_bchw, expected_bchw in zip(got, expected, strict=True):
        torch.testing.assert_close(got_bchw, expected_bchw, rtol=0, atol=2e-5)
    assert ours.feature_info.channels() == theirs.feature_info.channels() == [64, 128, 160, 320]
    assert ours.feature_info.reduction() == theirs.feature_info.reduction() == [4, 8, 16, 32]
    assert ours.feature_info.module_name() == [f"stages.{index}" for index in range(4)]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (45, 83)])
def test_same_weights_same_features_as_the_classifier(height: int, width: int, small: models.TinyViT) -> None:
    pyramid = models.FeaturePyramid(small)
    pixels, seen = torch.randn(2, 3, height, width), []
    hooks = [stage.register_forward_hook(lambda module, args, output: seen.append(output)) for stage in small.stages]
    with torch.no_grad():
        logits = small(pixels)
        for hook in hooks:
            hook.remove()
        maps = pyramid(pixels)
        assert torch.equal(small.head(maps[-1]), logits)
    for level, (x_bchw, expected) in enumerate(zip(maps, seen, strict=True)):
        assert torch.equal(x_bchw, expected)
        stride = 4 * 2**level
        assert x_bchw.shape[2:] == (math.ceil(height / stride), math.ceil(width / stride))
    assert not pyramid.training
    assert set(pyramid.state_dict()) == {name for name in small.state_dict() if not name.startswith("head.")}


def test_out_indices_choose_maps_and_leave_later_stages_out(small: models.TinyViT) -> None:
    pixels = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        every = models.FeaturePyramid(small)(pixels)
        chosen = models.FeaturePyramid(small, out_indices=(2, 0))
        assert [torch.equal(a, b) for a, b in zip(chosen(pixels), (every[2], every[0]), strict=True)] == [True, True]
        assert torch.equal(models.FeaturePyramid(small, out_indices=(-1,))(pixels)[0], every[3])
    assert len(chosen.stages) == 3
    assert chosen.feature_info.channels() == [32, 8]
    assert chosen.feature_info.reduction() == [16, 4]
    for wrong in ((4,), (-5,), ()):
        with pytest.raises(models.ModelError, match="out_indices"):
            models.FeaturePyramid(small, out_indices=wrong)
    with pytest.raises(models.ModelError, match="before stages are left out"):
        chosen.set_input_size(64, windows=[4, 4, 4, 4])


def test_a_file_describes_the_network_that_is_built(small: models.TinyViT, tmp_path: Path) -> None:
    models.save_weights(small, tmp_path / "a.safetensors", metadata={})
    pixels = torch.randn(1, 3, 40, 32)
    shape: dict[str, Any] = {
        "dims": [8, 16, 32, 32],
        "depths": [1, 1, 2, 1],
        "heads": [1, 2, 4, 2],
        "windows": [4, 4, 2, 1],
    }
    with torch.no_grad():
        expected = small.forward_features(pixels)
        for name, dimensions in ((None, {}), ("tiny_vit", shape)):
            pyramid = models.build_features(name, weights=tmp_path / "a.safetensors", **dimensions).eval()
            assert torch.equal(pyramid(pixels)[3], expected)
    with pytest.raises(models.ModelError, match="name of a model, a file of weights"):
        models.build_features()
    with pytest.raises(models.ModelError, match="says its own dimensions"):
        models.build_features(weights=tmp_path / "a.safetensors", stem_stride=2)
    with pytest.raises(models.WeightsError, match="do not fit"):
        models.build_features("tiny_vit_5m", weights=tmp_path / "a.safetensors")


def test_windows_of_a_pyramid_are_resized(small: models.TinyViT) -> None:
    pyramid: Any = models.FeaturePyramid(small)
    pyramid.set_input_size(64, windows=[4, 8, 4, 2])
    assert pyramid.config.windows == (4, 8, 4, 2)
    assert [stage.blocks[0].attn.window for stage in list(pyramid.stages)[1:]] == [8, 4, 2]
    assert [x.shape[-1] for x in pyramid(torch.randn(1, 3, 64, 64))] == [16, 8, 4, 2]
