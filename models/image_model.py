"""A classifier with the preprocessing of its images (size, crop, mean, std) and the origin of its weights.

Teachers are image models, and so are trained students in evaluation.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import nn


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ImageModel:
    """A network, the preprocessing of its images, and the origin of its weights."""

    net: nn.Module
    """In evaluation mode, without gradients: normalised float pixels (B, 3, S, S) -> logits (B, num_classes)."""
    kind: str
    """How it was built: `timm`, `tiny_vit`, `clip`, .. (`build_teacher`)."""
    name: str
    """Of the architecture."""
    num_classes: int
    image_size: int
    """S, in pixels."""
    mean: tuple[float, ...]
    """Of the red, green and blue values in 0..1; subtracted from pixels."""
    std: tuple[float, ...]
    """Of the same values; pixels are divided by it after subtraction of the mean."""
    crop: float
    """Side of the centre crop as a fraction of the shorter side of the resized image, in evaluation."""
    interpolation: str
    """Of resizing in evaluation: `bicubic`, `bilinear`, .."""
    weights_sha256: str
    """Of the weights file; of the state dict where timm downloaded the weights."""
    class_names: tuple[str, ...] | None
    """One per class, in order; None where they are not known."""

    def provenance(self) -> dict[str, Any]:
        """All fields except the network, as JSON values."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "net"]
        values = {name: getattr(self, name) for name in names}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
