"""A classifier with everything it wants of its images: size, mean, std, crop. A teacher is one; so is a saved
student."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import nn


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ImageModel:
    """A network that answers, and where it comes from."""

    net: nn.Module
    """Evaluation mode, without gradients: normalised float (B, 3, S, S) -> logits (B, num_classes)."""
    kind: str
    name: str
    num_classes: int
    image_size: int
    """S, in pixels."""
    mean: tuple[float, ...]
    """Subtracted from pixels in 0..1, for red, green and blue."""
    std: tuple[float, ...]
    """Divides after subtraction."""
    crop: float
    """Side of the centre crop over the side of the resized picture, in evaluation."""
    interpolation: str
    weights_sha256: str
    """Of the weights file; of the state dict where timm fetched the weights."""
    class_names: tuple[str, ...] | None

    def provenance(self) -> dict[str, Any]:
        """Everything but the network, as JSON values."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "net"]
        values = {name: getattr(self, name) for name in names}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
