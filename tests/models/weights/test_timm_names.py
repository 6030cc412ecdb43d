"""Which of timm's models a TinyViT is, against timm."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from distill import models
from distill.models.weights.timm_names import timm_model


@pytest.mark.parametrize(
    ("name", "dimensions", "expected"),
    [
        ("tiny_vit_5m", {}, ("tiny_vit_5m_224", {})),
        ("tiny_vit_21m", {"image_size": 384}, ("tiny_vit_21m_384", {})),
        ("tiny_vit_21m", {"image_size": 512}, ("tiny_vit_21m_512", {})),
        ("tiny_vit_21m", {"image_size": 256, "windows": [1, 16, 32, 16]}, ("tiny_vit_21m_512", {})),
        ("tiny_vit_11m", {"image_size": 384}, ("tiny_vit_11m_224", {"window_sizes": [12, 12, 24, 12]})),
    ],
)
def test_timm_builds_the_same_network(
    name: str, dimensions: dict[str, Any], expected: tuple[str, dict[str, Any]]
) -> None:
    with torch.device("meta"):
        net = models.build(name, num_classes=7, **dimensions)
        architecture, arguments = timm_model(net.config)
        theirs = timm.create_model(architecture, **arguments)
    assert (architecture, arguments) == (expected[0], {"num_classes": 7, **expected[1]})
    shapes = {name: tensor.shape for name, tensor in net.state_dict().items()}
    assert {name: tensor.shape for name, tensor in theirs.state_dict().items()} == shapes


def test_timm_cannot_build_another_stem(small: models.TinyViT) -> None:
    config = models.TinyViTConfig.from_json({**small.config.to_json(), "stem_stride": 2})
    with pytest.raises(models.ModelError, match="a stem of stride 4, this network one of 2"):
        timm_model(config)
