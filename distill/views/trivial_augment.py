"""TrivialAugment in its wide space: one operation, one of 31 strengths.

Müller & Hutter, "TrivialAugment: tuning-free yet state-of-the-art data augmentation" (ICCV 2021), table 1, column
"wide". A shift of up to 32 pixels is written as a fraction of 224 pixels, so that it replays at any size.
"""

from collections.abc import Callable
from dataclasses import dataclass

from distill.errors import UsageError
from distill.views.checks import as_tuple
from distill.views.randaugment import DEGREE_GRID, FACTOR_GRID, FRACTION_GRID
from distill.views.random import bernoulli, integer, to_grid

BINS = 31
REFERENCE_SIDE = 224
"""Image size in pixels for which the shifts are published."""

AmountOf = Callable[[int, bool], float]


def _nothing(bin_: int, minus: bool) -> float:
    return 0.0


def _signed(limit: float, *, grid: int, around: float = 0.0) -> AmountOf:
    """`around` plus or minus 0 to `limit`, in equal steps."""

    def amount(bin_: int, minus: bool) -> float:
        step = limit * bin_ / (BINS - 1)
        return to_grid(around - step if minus else around + step, grid)

    return amount


def _bits(bin_: int, minus: bool) -> float:
    return float(8 - round(bin_ / ((BINS - 1) / 6)))


def _threshold(bin_: int, minus: bool) -> float:
    """255 down to 0. Integer values at or above it are inverted, so a fraction is rounded up."""
    return float(-(-255 * (BINS - 1 - bin_) // (BINS - 1)))


FACTOR = _signed(0.99, grid=FACTOR_GRID, around=1.0)
SHEAR = _signed(0.99, grid=FRACTION_GRID)
SHIFT = _signed(32 / REFERENCE_SIDE, grid=FRACTION_GRID)

WIDE: dict[str, AmountOf] = {
    "Identity": _nothing,
    "AutoContrast": _nothing,
    "Equalize": _nothing,
    "Rotate": _signed(135.0, grid=DEGREE_GRID),
    "Posterize": _bits,
    "Solarize": _threshold,
    "Color": FACTOR,
    "Contrast": FACTOR,
    "Brightness": FACTOR,
    "Sharpness": FACTOR,
    "ShearX": SHEAR,
    "ShearY": SHEAR,
    "TranslateX": SHIFT,
    "TranslateY": SHIFT,
}
"""Operation to render -> amount from the number 0..30 of the strength and a random sign. Identity changes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrivialAugment:
    """One operation of `operations` with one of 31 strengths, per view."""

    kind: str = "trivialaugment-wide"
    operations: tuple[str, ...] = tuple(WIDE)
    """Names of `WIDE`, equally likely."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "operations", as_tuple("policy.operations", self.operations))
        unknown = [name for name in self.operations if name not in WIDE]
        if unknown or not self.operations:
            raise UsageError(f"view policy: unknown operations {unknown}; the operations are {', '.join(WIDE)}")

    @property
    def layers(self) -> int:
        """One."""
        return 1

    def choose(self, words: list[int]) -> tuple[str, float] | None:
        """Operation and amount, from a layer's words; None for the identity."""
        choice, _, strength, sign = words[:4]
        name = self.operations[integer(choice, len(self.operations))]
        amount = WIDE[name](integer(strength, BINS), bernoulli(sign, 0.5))
        return None if name == "Identity" else (name, amount)
