"""timm networks, built for an image size where their architecture depends on it."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn


def create(name: str, *, pretrained: bool, num_classes: int | None, image_size: int | None) -> nn.Module:
    """`timm.create_model`; None keeps the model's own number. Raises what timm raises."""
    options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    if image_size is not None:
        try:  # transformers are built for an image size; other models do not have the option
            return timm.create_model(name, pretrained=pretrained, img_size=image_size, **options)
        except TypeError:
            pass
    return timm.create_model(name, pretrained=pretrained, **options)
