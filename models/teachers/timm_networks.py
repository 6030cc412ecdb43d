"""Networks of timm's, built for a picture size where they must be."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn


def create(name: str, *, pretrained: bool, num_classes: int | None, image_size: int | None) -> nn.Module:
    """`timm.create_model`; None leaves a number to the model. Raises whatever that raises."""
    options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    if image_size is not None:
        try:  # transformers must be built for their picture size; others do not know the option
            return timm.create_model(name, pretrained=pretrained, img_size=image_size, **options)
        except TypeError:
            pass
    return timm.create_model(name, pretrained=pretrained, **options)
