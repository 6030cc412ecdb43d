"""RandAugment: probability, strength, operations, and the amount of each operation at a strength.

Cubuk et al., "RandAugment" (arXiv 1909.13719), with the increasing-severity operations and the random strength that
timm's names such as `rand-m9-mstd0.5-inc1` stand for. A layer's random words become an operation and its amount.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from distill.errors import UsageError
from distill.views.checks import as_integer, as_number, as_tuple, check_range
from distill.views.random import bernoulli, integer, normal, to_grid

MAX_LAYERS = 8
STRENGTH = 10.0
"""Strengths run from 0 to 10 (the scale of the names)."""

FACTOR_GRID = 1 << 10
DEGREE_GRID = 1 << 7
FRACTION_GRID = 1 << 16


def _factor(strength: float, minus: bool) -> float:
    step = strength / STRENGTH * 0.9
    return to_grid(max(0.1, 1.0 - step if minus else 1.0 + step), FACTOR_GRID)


def _degrees(strength: float, minus: bool) -> float:
    return to_grid(_signed(strength / STRENGTH * 30.0, minus), DEGREE_GRID)


def _shear(strength: float, minus: bool) -> float:
    return to_grid(_signed(strength / STRENGTH * 0.3, minus), FRACTION_GRID)


def _shift(strength: float, minus: bool) -> float:
    return to_grid(_signed(strength / STRENGTH * 0.45, minus), FRACTION_GRID)


def _signed(number: float, minus: bool) -> float:
    return -number if minus else number


def _nothing(strength: float, minus: bool) -> float:
    return 0.0


def _bits(strength: float, minus: bool) -> float:
    return max(0.0, 4.0 - int(strength / STRENGTH * 4))


def _threshold(strength: float, minus: bool) -> float:
    return 256.0 - min(256, int(strength / STRENGTH * 256))


def _addend(strength: float, minus: bool) -> float:
    return float(min(128, int(strength / STRENGTH * 110)))


AmountOf = Callable[[float, bool], float]

INCREASING: dict[str, tuple[str, AmountOf]] = {
    "AutoContrast": ("AutoContrast", _nothing),
    "Equalize": ("Equalize", _nothing),
    "Invert": ("Invert", _nothing),
    "Rotate": ("Rotate", _degrees),
    "PosterizeIncreasing": ("Posterize", _bits),
    "SolarizeIncreasing": ("Solarize", _threshold),
    "SolarizeAdd": ("SolarizeAdd", _addend),
    "ColorIncreasing": ("Color", _factor),
    "ContrastIncreasing": ("Contrast", _factor),
    "BrightnessIncreasing": ("Brightness", _factor),
    "SharpnessIncreasing": ("Sharpness", _factor),
    "ShearX": ("ShearX", _shear),
    "ShearY": ("ShearY", _shear),
    "TranslateXRel": ("TranslateX", _shift),
    "TranslateYRel": ("TranslateY", _shift),
}
"""Name in a policy -> (operation to render, amount from strength 0..10 and a random sign)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RandAugment:
    """`layers` operations, each drawn from `operations` with replacement and applied with probability `prob`."""

    kind: str = "randaugment"
    layers: int = 2
    """Operations drawn per view."""
    prob: float = 0.5
    """Probability that a drawn operation is applied."""
    magnitude: float = 9.0
    """Mean strength."""
    magnitude_std: float = 0.5
    """Standard deviation of the strength; it is clipped to 0..magnitude_max."""
    magnitude_max: float = STRENGTH
    operations: tuple[str, ...] = tuple(INCREASING)
    """Names of `INCREASING`, equally likely."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "operations", as_tuple("policy.operations", self.operations))
        for name in ("prob", "magnitude", "magnitude_std", "magnitude_max"):
            object.__setattr__(self, name, as_number(f"policy.{name}", getattr(self, name)))
        check_range("policy.layers", (as_integer("policy.layers", self.layers),) * 2, low=1, high=MAX_LAYERS)
        check_range("policy.prob", (self.prob, self.prob), low=0.0, high=1.0)
        if not (0 <= self.magnitude <= self.magnitude_max <= 2 * STRENGTH and 0 <= self.magnitude_std <= 100):
            raise UsageError(
                "view policy: 0 <= magnitude <= magnitude_max <= 20, 0 <= magnitude_std <= 100 must hold, "
                f"got {self.magnitude}, {self.magnitude_max} and {self.magnitude_std}"
            )
        unknown = [name for name in self.operations if name not in INCREASING]
        if unknown or not self.operations:
            raise UsageError(f"view policy: unknown operations {unknown}; the operations are {', '.join(INCREASING)}")

    def choose(self, words: list[int]) -> tuple[str, float] | None:
        """Operation to render and its amount, from a layer's words; None where the layer is not applied."""
        choice, applied, strength, sign = words[:4]
        if not bernoulli(applied, self.prob):
            return None
        name, amount_of = INCREASING[self.operations[integer(choice, len(self.operations))]]
        magnitude = self.magnitude + self.magnitude_std * normal(strength)
        return name, amount_of(min(max(magnitude, 0.0), self.magnitude_max), bernoulli(sign, 0.5))

    @classmethod
    def parse(cls, name: str) -> "RandAugment":
        """The policy of a name like `rand-m9-mstd0.5-inc1`.

        Parts: m magnitude, n layers, p probability, mstd, mmax, inc1 (required: only the increasing operations
        exist here). **Raises:** `UsageError` for any other part.
        """
        head, *parts = name.split("-")
        values: dict[str, float] = {}
        for part in parts:
            match = re.fullmatch(r"(m|n|p|mstd|mmax|inc)(\d+(?:\.\d+)?)", part)
            if match is None or match[1] in values:
                raise UsageError(f"view policy {name!r}: unknown part {part!r}")
            values[match[1]] = float(match[2])
        if head != "rand" or values.get("inc") != 1:
            raise UsageError(f"view policy {name!r}: must start with 'rand-' and contain 'inc1', or be 'none'")
        layers = values.get("n", 2.0)
        if layers != int(layers):
            raise UsageError(f"view policy {name!r}: n must be an integer")
        return cls(
            layers=int(layers),
            prob=values.get("p", 0.5),
            magnitude=values.get("m", STRENGTH),
            magnitude_std=values.get("mstd", 0.0),
            magnitude_max=values.get("mmax", STRENGTH),
        )
