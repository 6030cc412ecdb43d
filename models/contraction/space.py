"""The search space of a contraction: which factors of a TinyViT are lowered, by what step size, to what minimum.

Contraction starts from a large architecture and lowers its factors until it is small enough (TinyViT, arXiv
2207.10666, section 3.2, "Model architectures"): the width and depth of each stage, the attention windows of the last
three, the expansion ratio of MBConv blocks, the MLP ratio, and the channels of an attention head. A point of the space
is a `TinyViTConfig`; the number of heads of a stage follows from its width and the channels of a head.
`distill.models.cost.formula` computes parameters and MACs of a point, `distill.models.contraction.slicing` cuts its
weights out of a larger one. `distill.contraction` decides which points are trained.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from distill.models.errors import ModelError
from distill.models.tinyvit.config import NUM_STAGES, TinyViTConfig

FACTORS = (
    *(f"dims.{stage}" for stage in range(NUM_STAGES)),
    *(f"depths.{stage}" for stage in range(NUM_STAGES)),
    *(f"windows.{stage}" for stage in range(1, NUM_STAGES)),
    *("expand", "mlp_ratio", "head_dim"),
)
WIDTHS = FACTORS[:NUM_STAGES]
_PER_STAGE = ("dims", "depths", "windows")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Step size and minimum of each factor."""

    step_sizes: Mapping[str, float]
    """For each of `FACTORS`, by how much it is lowered in one step; 0 leaves it unchanged."""
    minimums: Mapping[str, float]
    """For each of `FACTORS`. A factor that is below its minimum already stays unchanged."""

    def __post_init__(self) -> None:
        for name in FACTORS:
            if self.step_sizes[name] < 0 or self.minimums[name] <= 0:
                raise ModelError(
                    f"{name}: the step size must not be negative and the minimum must be positive, got "
                    f"{self.step_sizes[name]:g} and {self.minimums[name]:g}"
                )


def head_dim_of(config: TinyViTConfig) -> int:
    """Channels of an attention head. **Raises** ModelError where stages differ: such configs are not in the space."""
    head_dims = {config.dims[stage] // config.heads[stage] for stage in range(1, NUM_STAGES)}
    if len(head_dims) > 1:
        raise ModelError(
            f"a contraction needs heads of equal size in stages 1 to 3: dims = {list(config.dims)} over heads = "
            f"{list(config.heads)} have {sorted(head_dims)} channels each"
        )
    return head_dims.pop()


def levels(config: TinyViTConfig) -> dict[str, float]:
    """The value of every factor of a config."""
    values: dict[str, float] = {}
    for name in FACTORS[:-1]:
        field, _, stage = name.partition(".")
        values[name] = getattr(config, field)[int(stage)] if stage else getattr(config, field)
    return values | {"head_dim": head_dim_of(config)}


def changes(before: TinyViTConfig, after: TinyViTConfig) -> dict[str, tuple[float, float]]:
    """The factors that differ between two configs: value before and after."""
    old, new = levels(before), levels(after)
    return {name: (old[name], new[name]) for name in FACTORS if old[name] != new[name]}


def lowered(config: TinyViTConfig, factor: str, space: Space) -> TinyViTConfig | None:
    """The config with one factor lowered by one step; None where that would be below its minimum.

    Where a step leads to no valid network (a width that heads do not divide), further steps follow until one does.
    """
    values = levels(config)
    for value in _values_below(values[factor], factor, space):
        values[factor] = value
        if _is_valid(values):
            return _with_levels(config, values)
    return None


def raised(config: TinyViTConfig, factor: str, space: Space, *, top: TinyViTConfig) -> TinyViTConfig | None:
    """The config with one factor raised by one step, the inverse of `lowered`; None above the value in `top`."""
    values, maximum = levels(config), levels(top)[factor]
    while space.step_sizes[factor] and (value := round(values[factor] + space.step_sizes[factor], 6)) <= maximum:
        values[factor] = value
        if _is_valid(values):
            return _with_levels(config, values)
    return None


def floors(config: TinyViTConfig, space: Space) -> Iterator[TinyViTConfig]:
    """The smallest configs that `config` can be lowered to, one for each choice of windows and of channels of a head.

    Parameters and multiply-accumulates grow with every other factor, but not with these two: a smaller window can need
    more where maps are padded to it, and more heads have more bias tables. So if any config below `config` is within
    limits of parameters and multiply-accumulates, one of these is. Those with the windows and head of `config` come
    first.
    """
    start = levels(config)
    not_monotonic = [name for name in FACTORS if name.startswith("windows") or name == "head_dim"]
    ranges = [[start[name], *_values_below(start[name], name, space)] for name in not_monotonic]
    for combination in itertools.product(*ranges):
        values = start | dict(zip(not_monotonic, combination, strict=True))
        for name in FACTORS:
            if name not in not_monotonic:
                candidates = [start[name], *_values_below(start[name], name, space)]
                valid = [value for value in candidates if _divides(name, value, values["head_dim"])]
                values[name] = valid[-1] if valid else candidates[-1]
        if _is_valid(values):
            yield _with_levels(config, values)


def _values_below(value: float, factor: str, space: Space) -> Iterator[float]:
    step_size, minimum = space.step_sizes[factor], space.minimums[factor]
    while step_size and value - step_size >= minimum - 1e-9:
        value = round(value - step_size, 6)
        yield value


def _divides(name: str, value: float, head_dim: float) -> bool:
    """Whether a width is a multiple of the channels of a head (stage 0: of 2); True for factors other than widths."""
    if name not in WIDTHS:
        return True
    return value % 2 == 0 if name == WIDTHS[0] else value % head_dim == 0


def _is_valid(values: Mapping[str, float]) -> bool:
    if not all(_divides(name, values[name], values["head_dim"]) for name in WIDTHS):
        return False
    min_width = min(values[name] for name in WIDTHS)
    return all(int(min_width * values[name]) >= 1 for name in ("expand", "mlp_ratio"))


def _with_levels(config: TinyViTConfig, values: Mapping[str, float]) -> TinyViTConfig:
    fields: dict[str, Any] = {}
    for field in _PER_STAGE:
        previous = getattr(config, field)
        fields[field] = tuple(int(values.get(f"{field}.{stage}", previous[stage])) for stage in range(NUM_STAGES))
    head_dim = int(values["head_dim"])
    # The first stage has no attention; published configs give it a number of heads all the same.
    heads = tuple(max(1, width // head_dim) for width in fields["dims"])
    fields |= {name: float(values[name]) for name in ("expand", "mlp_ratio")}
    return dataclasses.replace(config, heads=heads, **fields)
