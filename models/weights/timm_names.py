"""Which of timm's models a TinyViT is."""

from __future__ import annotations

from typing import Any

from distill.models.errors import ModelError
from distill.models.tinyvit.config import PUBLISHED, PUBLISHED_WINDOWS, TinyViTConfig

_TIMM_SIZES = {"tiny_vit_5m": (224,), "tiny_vit_11m": (224,), "tiny_vit_21m": (224, 384, 512)}


def published_name(config: TinyViTConfig) -> str | None:
    """The published model with these dimensions (windows, classes and image size may differ), or None."""
    for name, dimensions in PUBLISHED.items():
        if all(getattr(config, field) == value for field, value in dimensions.items()):
            return name
    return None


def timm_model(config: TinyViTConfig) -> tuple[str, dict[str, Any]]:
    """How timm builds the network of a config.

    **Returns** the name and the further arguments of `timm.create_model`.

    **Raises** ModelError for a network that timm's TinyViT cannot be.
    """
    if config.stem_stride != 4:
        raise ModelError(f"timm's TinyViT has a stem of stride 4, this network one of {config.stem_stride}")
    name = published_name(config)
    sizes = [size for size in _TIMM_SIZES.get(name or "", ()) if PUBLISHED_WINDOWS[size][1:] == config.windows[1:]]
    arguments: dict[str, Any] = {"num_classes": config.num_classes}
    if name and sizes:
        return f"{name}_{config.image_size if config.image_size in sizes else sizes[0]}", arguments
    arguments["window_sizes"] = list(config.windows)
    if name is None:
        arguments |= {"embed_dims": list(config.dims), "depths": list(config.depths), "num_heads": list(config.heads)}
        arguments |= {"mlp_ratio": config.mlp_ratio, "mbconv_expand_ratio": config.expand}
    return f"{name or 'tiny_vit_5m'}_224", arguments
