"""The space that a contraction walks through: what can be lowered in a TinyViT, by how much, and where it ends.

Contraction starts from a large architecture and lowers its factors until it is small enough (TinyViT, arXiv
2207.10666, section 3.2, "Model architectures"): the width and depth of each stage, the attention window of the last
three, the expansion of MBConv blocks, the ratio of MLPs, and the channels of an attention head. A point of the space
is a `TinyViTConfig`; the heads of a stage follow from its width and the channels of a head.
`distill.models.cost.formula` prices points, `distill.models.contraction.slicing` gives one the weights of another.
Which points are tried is not decided here.
"""

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
    """How far each factor falls at a step, and its least value."""

    strides: Mapping[str, float]
    """Of each of `FACTORS`; 0: it stays."""
    least: Mapping[str, float]
    """Of each of `FACTORS`. A factor that is below it already stays."""

    def __post_init__(self) -> None:
        for name in FACTORS:
            if self.strides[name] < 0 or self.least[name] <= 0:
                raise ModelError(
                    f"{name}: the stride must not be negative and the least value must be positive, got "
                    f"{self.strides[name]:g} and {self.least[name]:g}"
                )


def head_dim_of(config: TinyViTConfig) -> int:
    """Channels of an attention head. **Raises** ModelError where stages differ: then it is no point of the space."""
    found = {config.dims[stage] // config.heads[stage] for stage in range(1, NUM_STAGES)}
    if len(found) > 1:
        raise ModelError(
            f"a contraction needs heads of equal size in stages 1 to 3: dims = {list(config.dims)} over heads = "
            f"{list(config.heads)} have {sorted(found)} channels each"
        )
    return found.pop()


def levels(config: TinyViTConfig) -> dict[str, float]:
    """The value of every factor at a point."""
    values: dict[str, float] = {}
    for name in FACTORS[:-1]:
        field, _, stage = name.partition(".")
        values[name] = getattr(config, field)[int(stage)] if stage else getattr(config, field)
    return values | {"head_dim": head_dim_of(config)}


def changes(before: TinyViTConfig, after: TinyViTConfig) -> dict[str, tuple[float, float]]:
    """The factors that differ between two points: value before and after."""
    old, new = levels(before), levels(after)
    return {name: (old[name], new[name]) for name in FACTORS if old[name] != new[name]}


def lowered(config: TinyViTConfig, factor: str, space: Space) -> TinyViTConfig | None:
    """The point one step below in one factor; None at its end.

    A stride that leads to no valid network (a width that does not divide into heads) is taken again, until it does.
    """
    values = levels(config)
    for value in _values_below(values[factor], factor, space):
        values[factor] = value
        if _is_valid(values):
            return _with_levels(config, values)
    return None


def raised(config: TinyViTConfig, factor: str, space: Space, *, top: TinyViTConfig) -> TinyViTConfig | None:
    """The point one step above in one factor, as `lowered` goes down from `top`; None at the top itself."""
    values, highest = levels(config), levels(top)[factor]
    while space.strides[factor] and (value := round(values[factor] + space.strides[factor], 6)) <= highest:
        values[factor] = value
        if _is_valid(values):
            return _with_levels(config, values)
    return None


def floors(config: TinyViTConfig, space: Space) -> Iterator[TinyViTConfig]:
    """The smallest points that can be reached from one, one for each choice of windows and of channels of a head.

    Parameters and multiply-accumulates rise with every other factor. They do not with these two: a smaller window can
    cost more where maps are padded to it, and more heads have more bias tables. So if any point below `config` is
    within some limits of parameters and multiply-accumulates, one of these is. Those that keep `config`'s own windows
    and head come first.
    """
    here = levels(config)
    free = [name for name in FACTORS if name.startswith("windows") or name == "head_dim"]
    ranges = [[here[name], *_values_below(here[name], name, space)] for name in free]
    for chosen in itertools.product(*ranges):
        values = here | dict(zip(free, chosen, strict=True))
        for name in FACTORS:
            if name not in free:
                below = [here[name], *_values_below(here[name], name, space)]
                fitting = [value for value in below if _divides(name, value, values["head_dim"])]
                values[name] = fitting[-1] if fitting else below[-1]
        if _is_valid(values):
            yield _with_levels(config, values)


def _values_below(value: float, factor: str, space: Space) -> Iterator[float]:
    stride, least = space.strides[factor], space.least[factor]
    while stride and value - stride >= least - 1e-9:
        value = round(value - stride, 6)
        yield value


def _divides(name: str, value: float, head_dim: float) -> bool:
    """Whether a width goes with the channels of a head; true of what is no width."""
    if name not in WIDTHS:
        return True
    return value % 2 == 0 if name == WIDTHS[0] else value % head_dim == 0


def _is_valid(values: Mapping[str, float]) -> bool:
    if not all(_divides(name, values[name], values["head_dim"]) for name in WIDTHS):
        return False
    narrowest = min(values[name] for name in WIDTHS)
    return all(int(narrowest * values[name]) >= 1 for name in ("expand", "mlp_ratio"))


def _with_levels(config: TinyViTConfig, values: Mapping[str, float]) -> TinyViTConfig:
    fields: dict[str, Any] = {}
    for field in _PER_STAGE:
        own = getattr(config, field)
        fields[field] = tuple(int(values.get(f"{field}.{stage}", own[stage])) for stage in range(NUM_STAGES))
    head_dim = int(values["head_dim"])
    # The first stage has no attention; published configs count heads there all the same.
    heads = tuple(max(1, width // head_dim) for width in fields["dims"])
    fields |= {name: float(values[name]) for name in ("expand", "mlp_ratio")}
    return dataclasses.replace(config, heads=heads, **fields)
