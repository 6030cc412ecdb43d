"""The dimensions of a TinyViT: a checked dataclass, the published models, and the way from a name to dimensions.

First step of building a student; the network itself is in `distill.models.tinyvit.network`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from distill.models.errors import ModelError

NUM_STAGES = 4
NUM_CLASSES = 1000
"""Of published classifiers of ImageNet-1k, and of a model that is built without saying another number."""
IMAGE_SIZE = 224
"""Side in pixels of the images that published models are meant for, and models built without saying another size."""
MIN_IMAGE_SIZE = 8
"""Smallest side in pixels."""
MLP_RATIO, EXPAND, STEM_STRIDE = 4.0, 4.0, 4
"""Of the published models, and of a config that does not say others."""


_MAXIMA = {
    "dims": 2**14, "depths": 1000, "heads": 2**10, "windows": 2**10, "num_classes": 2**24, "image_size": 2**13,
}  # fmt: skip
"""Far above any network of this kind: a file that says more is wrong, and would take all memory."""
_MAX_RATIO = 64


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TinyViTConfig:
    """Everything that determines the shape of a TinyViT (arXiv 2207.10666, section 3.3 and table of variants)."""

    num_classes: int
    """Outputs of the classifier."""
    image_size: int
    """Height and width, in pixels, of the images that the model is meant for; it takes other sizes too (maps are padded
    to whole windows)."""
    dims: tuple[int, ...]
    """Channels of the four stages."""
    depths: tuple[int, ...]
    """Blocks in each stage: MBConv in the first, attention blocks in the other three."""
    heads: tuple[int, ...]
    """Attention heads of each stage; the first entry is not used."""
    windows: tuple[int, ...]
    """Side of the attention window of each stage, in positions; the first entry is not used."""
    mlp_ratio: float = MLP_RATIO
    """Hidden width over input width of the MLPs."""
    expand: float = EXPAND
    """Hidden width over input width of the MBConv blocks."""
    stem_stride: int = STEM_STRIDE
    """Stride of the stem, in pixels per position: 4 as published, or 2 for small images."""
    drop_path: float = 0.0
    """Drop-path rate of the last block; it rises linearly from 0 in the first."""

    def __post_init__(self) -> None:
        for field in ("dims", "depths", "heads", "windows"):
            values = getattr(self, field)
            has_four = isinstance(values, tuple) and len(values) == NUM_STAGES
            if not has_four or not all(_is_int(value) and 0 < value <= _MAXIMA[field] for value in values):
                shown = list(values) if isinstance(values, tuple) else values
                raise ModelError(
                    f"{field} must be {NUM_STAGES} positive integers up to {_MAXIMA[field]:,}, got {shown!r:.100}"
                )
        for field, minimum in (("num_classes", 1), ("image_size", MIN_IMAGE_SIZE)):
            value = getattr(self, field)
            if not _is_int(value) or value < minimum:
                raise ModelError(f"{field} must be an integer of at least {minimum}, got {value!r:.100}")
            if value > _MAXIMA[field]:
                raise ModelError(f"{field} must be at most {_MAXIMA[field]:,}, got {value!r:.40}")
        for stage in range(1, NUM_STAGES):
            if self.dims[stage] % self.heads[stage]:
                raise ModelError(
                    f"dims[{stage}] = {self.dims[stage]} is not a multiple of heads[{stage}] = {self.heads[stage]}"
                )
        if self.dims[0] % 2:
            raise ModelError(f"dims[0] = {self.dims[0]} must be even: the stem starts with half as many")
        for field in ("mlp_ratio", "expand"):
            value = getattr(self, field)
            if not _is_number(value) or not value <= _MAX_RATIO or int(min(self.dims) * value) < 1:
                raise ModelError(f"{field} must be a positive number, got {value!r}")
        if self.stem_stride not in (2, 4):
            raise ModelError(f"stem_stride must be 2 or 4, got {self.stem_stride!r}")
        if not _is_number(self.drop_path) or not 0 <= self.drop_path < 1:
            raise ModelError(f"drop_path must be in [0, 1), got {self.drop_path!r}")

    def to_json(self) -> dict[str, Any]:
        """Returns a dict of numbers and lists, which `from_json` reads."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TinyViTConfig:
        """Inverse of `to_json`.

        **Raises** ModelError where a key is unknown or missing, or a value out of range.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - set(fields)):
            raise ModelError(f"unknown TinyViT dimension: {', '.join(unknown)}; known: {', '.join(fields)}")
        required = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
        if missing := [name for name in required if values.get(name) is None]:
            raise ModelError(f"missing TinyViT dimension: {', '.join(missing)}")
        return cls(**{key: _plain(value) for key, value in values.items()})


_RATIOS = {"mlp_ratio": MLP_RATIO, "expand": EXPAND, "stem_stride": STEM_STRIDE}
PUBLISHED: dict[str, dict[str, Any]] = {
    "tiny_vit_5m": {"dims": (64, 128, 160, 320), "depths": (2, 2, 6, 2), "heads": (2, 4, 5, 10), **_RATIOS},
    "tiny_vit_11m": {"dims": (64, 128, 256, 448), "depths": (2, 2, 6, 2), "heads": (2, 4, 8, 14), **_RATIOS},
    "tiny_vit_21m": {"dims": (96, 192, 384, 576), "depths": (2, 2, 6, 2), "heads": (3, 6, 12, 18), **_RATIOS},
}
"""Dimensions of the published models, by name; their windows depend on the image size."""
PUBLISHED_WINDOWS = {224: (7, 7, 14, 7), 384: (12, 12, 24, 12), 512: (16, 16, 32, 16)}
"""Windows of the published models, by image size in pixels."""
FREE_NAME = "tiny_vit"


def resolve_config(name: str, *, dimensions: Mapping[str, Any]) -> TinyViTConfig:
    """The config of a named model with the given dimensions.

    **Arguments**

    - `name`: `tiny_vit_5m`, `tiny_vit_11m`, `tiny_vit_21m`, or `tiny_vit`, for which dims, depths, heads and windows
      must be given.
    - `dimensions`: fields of `TinyViTConfig`; None counts as not given. `num_classes` and `image_size` are required. A
      published model takes other `windows`, but no other dimension may differ; at image sizes without published windows
      it gets those of 224 px.

    **Raises** ModelError for an unknown name or dimension, a missing one, or one that contradicts the name.
    """
    given = {key: _plain(value) for key, value in dimensions.items() if value is not None}
    if name == FREE_NAME:
        fixed: dict[str, Any] = {}
    elif name in PUBLISHED:
        fixed = PUBLISHED[name]
        given.setdefault(
            "windows", PUBLISHED_WINDOWS.get(given.get("image_size", IMAGE_SIZE), PUBLISHED_WINDOWS[IMAGE_SIZE])
        )
    else:
        names = ", ".join([*PUBLISHED, FREE_NAME])
        raise ModelError(f"unknown model {name!r}; known: {names}")
    for key, value in fixed.items():
        if given.get(key, value) != value:
            shown = list(value) if isinstance(value, tuple) else value
            raise ModelError(f"{name} has {key} = {shown}; for other dimensions use {FREE_NAME} and set them all")
    return TinyViTConfig.from_json({**fixed, **given})


def _plain(value: Any) -> Any:
    """Sequences of any type (lists, those of a configuration library) become tuples."""
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
