"""Three-augment: greyscale, solarisation or Gaussian blur.

Touvron et al., "DeiT III: revenge of the ViT" (ECCV 2022), section 3.2. The colour jitter of 0.3 that goes with it
is the ViewSpec's own `color_jitter`.
"""

from dataclasses import dataclass

from distill.views.randaugment import FRACTION_GRID
from distill.views.random import integer, to_grid, uniform

REFERENCE_SIDE = 224
"""Image size in pixels for which the radii are published."""
RADII = (0.1, 2.0)
THRESHOLD = 128.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreeAugment:
    """One of three operations per view, equally likely: greyscale, solarisation at 128, or a blur of 0.1..2 pixels."""

    kind: str = "three-augment"

    @property
    def layers(self) -> int:
        """One."""
        return 1

    def choose(self, words: list[int]) -> tuple[str, float] | None:
        """Operation and amount, from a layer's words."""
        choice, _, strength = words[:3]
        radius = to_grid(uniform(strength, *RADII) / REFERENCE_SIDE, FRACTION_GRID)
        return (("Color", 0.0), ("Solarize", THRESHOLD), ("GaussianBlur", radius))[integer(choice, 3)]
