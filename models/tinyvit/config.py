"""The dimensions of a TinyViT: one checked value, the published members, and `resolve` from name to value.

First step of building a student. Leaves the network itself to `distill.models.tinyvit.network`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from distill.models.errors import ModelError

NUM_STAGES = 4


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TinyViTConfig:
    """All that decides the shape of a TinyViT (arXiv 2207.10666, section 3.3 and table of variants)."""

    num_classes: int
    """Rows of the classifier."""
    image_size: int
    """Height and width in pixels the model is meant for; other sizes run too, padded to whole windows."""
    dims: tuple[int, ...]
    """Channels of the four stages."""
    depths: tuple[int, ...]
    """Blocks in each stage: MBConv in the first, attention blocks in the other three."""
    heads: tuple[int, ...]
    """Attention heads of each stage; the first entry is not used."""
    windows: tuple[int, ...]
    """Side of the attention window of each stage, in positions; the first entry is not used."""
    mlp_ratio: float = 4.0
    """Hidden over input width of the MLPs."""
    expand: float = 4.0
    """Hidden over input width of the MBConv blocks."""
    stem_stride: int = 4
    """Pixels to a position after the stem: 4 as published, or 2 for small pictures."""
    drop_path: float = 0.0
    """Rate of dropped residual branches in the last block; rises linearly from 0 in the first."""

    def __post_init__(self) -> None:
        for field in ("dims", "depths", "heads", "windows"):
            values = getattr(self, field)
            four = isinstance(values, tuple) and len(values) == NUM_STAGES
            if not four or not all(_is_int(value) and value > 0 for value in values):
                shown = list(values) if isinstance(values, tuple) else values
                raise ModelError(f"{field} must be {NUM_STAGES} positive integers, got {shown!r}")
        for field, least in (("num_classes", 1), ("image_size", 8)):
            value = getattr(self, field)
            if not _is_int(value) or value < least:
                raise ModelError(f"{field} must be an integer of at least {least}, got {value!r}")
        for stage in range(1, NUM_STAGES):
            if self.dims[stage] % self.heads[stage]:
                raise ModelError(
                    f"dims[{stage}] = {self.dims[stage]} is not a multiple of heads[{stage}] = {self.heads[stage]}"
                )
        if self.dims[0] % 2:
            raise ModelError(f"dims[0] = {self.dims[0]} must be even: the stem starts with half as many")
        for field in ("mlp_ratio", "expand"):
            value = getattr(self, field)
            if not _is_number(value) or int(min(self.dims) * value) < 1:
                raise ModelError(f"{field} must be a positive number, got {value!r}")
        if self.stem_stride not in (2, 4):
            raise ModelError(f"stem_stride must be 2 or 4, got {self.stem_stride!r}")
        if not _is_number(self.drop_path) or not 0 <= self.drop_path < 1:
            raise ModelError(f"drop_path must be in [0, 1), got {self.drop_path!r}")

    def to_json(self) -> dict[str, Any]:
        """Returns a dict of numbers and lists that `from_json` takes back."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TinyViTConfig":
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


# dims, depths, heads as published; windows follow the picture size.
PUBLISHED: dict[str, dict[str, tuple[int, ...]]] = {
    "tiny_vit_5m": {"dims": (64, 128, 160, 320), "depths": (2, 2, 6, 2), "heads": (2, 4, 5, 10)},
    "tiny_vit_11m": {"dims": (64, 128, 256, 448), "depths": (2, 2, 6, 2), "heads": (2, 4, 8, 14)},
    "tiny_vit_21m": {"dims": (96, 192, 384, 576), "depths": (2, 2, 6, 2), "heads": (3, 6, 12, 18)},
}
PUBLISHED_WINDOWS = {224: (7, 7, 14, 7), 384: (12, 12, 24, 12), 512: (16, 16, 32, 16)}
FREE_NAME = "tiny_vit"


def resolve(name: str, *, dimensions: Mapping[str, Any]) -> TinyViTConfig:
    """Turns a model name and the given dimensions into a config.

    **Arguments**

    - `name`: a key of `PUBLISHED`, or `tiny_vit`, for which dims, depths, heads and windows must be given.
    - `dimensions`: fields of `TinyViTConfig`; None counts as not given. A published model takes other
      `windows` (they change its bias tables, not its kind) but no other deviation. Sizes without published
      windows get those of 224.

    **Raises** ModelError naming what is unknown, missing or contradictory.
    """
    given = {key: _plain(value) for key, value in dimensions.items() if value is not None}
    if name == FREE_NAME:
        fixed: dict[str, Any] = {}
    elif name in PUBLISHED:
        fixed = {**PUBLISHED[name], "mlp_ratio": 4.0, "expand": 4.0, "stem_stride": 4}
        given.setdefault("windows", PUBLISHED_WINDOWS.get(given["image_size"], PUBLISHED_WINDOWS[224]))
    else:
        known = ", ".join([*PUBLISHED, FREE_NAME])
        raise ModelError(f"unknown model {name!r}; known: {known}")
    for key, value in fixed.items():
        if given.get(key, value) != value:
            shown = list(value) if isinstance(value, tuple) else value
            raise ModelError(f"{name} has {key} = {shown}; for other dimensions take {FREE_NAME} and give them all")
    return TinyViTConfig.from_json({**fixed, **given})


def _plain(value: Any) -> Any:
    """Sequences of any kind (a list, a configuration library's list) become tuples."""
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
