"""Torchvision's detectors on a pyramid: levels, shapes, losses with gradients, and statistics that stay frozen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision.models.detection.backbone_utils import BackboneWithFPN

from distill import models
from distill.models.features.detection import PyramidBackbone, build_detector
from distill.models.tinyvit.norms import FrozenBatchNorm

STATISTICS: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
TARGET = {"boxes": torch.tensor([[4.0, 6.0, 30.0, 40.0]]), "labels": torch.tensor([1])}


def test_backbone_has_torchvisions_form(small: models.TinyViT) -> None:
    backbone = PyramidBackbone(models.FeaturePyramid(small), out_channels=16)
    levels = backbone(torch.randn(1, 3, 70, 64))
    assert list(levels) == ["0", "1", "2", "3"]
    assert [tuple(level.shape) for level in levels.values()] == [
        (1, 16, 18, 16), (1, 16, 9, 8), (1, 16, 5, 4), (1, 16, 3, 2)
    ]  # fmt: skip
    assert backbone.out_channels == 16
    assert {"out_channels"} <= set(vars(backbone)) & set(vars(BackboneWithFPN(torch.nn.Identity(), {}, [8], 16)))


@pytest.mark.parametrize(("kind", "out_indices"), [("retinanet", (1, 2, 3)), ("fasterrcnn", (0, 1, 2, 3))])
def test_detectors_train_and_predict(kind: str, out_indices: tuple[int, ...], small: models.TinyViT) -> None:
    features = models.FeaturePyramid(small, out_indices=out_indices)
    detector = build_detector(kind, features, num_classes=3, image_size=64, channels=16, **STATISTICS)
    detector.train()
    norms: list[Any] = [module for module in features.modules() if isinstance(module, FrozenBatchNorm)]
    statistics = [norm.running_mean.clone() for norm in norms]
    losses = detector([torch.rand(3, 64, 80), torch.rand(3, 50, 64)], [dict(TARGET), dict(TARGET)])
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    gradient = features.get_parameter("patch_embed.conv1.conv.weight").grad
    assert gradient is not None and gradient.abs().sum() > 0
    assert norms and all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, statistics, strict=True))
    with torch.no_grad():
        predictions = detector.eval()([torch.rand(3, 64, 80)])
    assert set(predictions[0]) == {"boxes", "labels", "scores"}


def test_wrong_requests_are_refused(small: models.TinyViT) -> None:
    features = models.FeaturePyramid(small)
    with pytest.raises(models.ModelError, match="known: retinanet, fasterrcnn"):
        build_detector("yolo", features, num_classes=3, image_size=64, **STATISTICS)
    with pytest.raises(models.ModelError, match=r"at strides \[8, 16, 32\], these are at \[4, 8, 16, 32\]"):
        build_detector("retinanet", features, num_classes=3, image_size=64, **STATISTICS)
