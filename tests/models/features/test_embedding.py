"""Networks without their classifier, against timm's own features before the classifier."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from distill import models
from distill.models.features.embedding import remove_classifier


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_byobnet", "tiny_vit_5m_224"])
def test_timms_models_return_the_input_of_their_classifier(name: str) -> None:
    net: Any = timm.create_model(name, num_classes=4).eval()
    size = 224 if name.startswith("tiny") else 160
    pixels = torch.randn(2, 3, size, size)
    with torch.no_grad():
        expected = net.forward_head(net.forward_features(pixels), pre_logits=True)
        remove_classifier(net, name=name)
        torch.testing.assert_close(net(pixels).flatten(1), expected)


def test_models_with_several_classifiers_have_no_features() -> None:
    net = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=4)
    with pytest.raises(models.ModelError, match="no single linear classifier"):
        remove_classifier(net, name="deit")


def test_a_tiny_vit_returns_its_normalised_mean(small: models.TinyViT) -> None:
    pixels = torch.randn(2, 3, 32, 40)
    with torch.no_grad():
        expected = small.head.norm(small.forward_features(pixels).mean((2, 3)))
        remove_classifier(small, name="small")
        assert torch.equal(small(pixels), expected)
