"""The table of operations: for each name in a view the function that `render` calls, and its description.

To add an operation: one function (image, operation) -> image in `ops_color.py` or `ops_geometry.py`, one row here, one
test against a reference, and its name in the table of each policy that draws it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from distill.errors import DistillError
from distill.views import ops_color, ops_geometry
from distill.views.ops_color import Pixels
from distill.views.view import Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The function and the description of one operation."""

    text: str
    """Description with {amount}, as in str.format."""
    apply: Callable[[Pixels, Operation], Pixels]
    """(image, operation) -> image; may write into the image."""
    text_negative: str | None = None
    """Description for negative amounts, with their absolute value; None: `text`."""

    def describe(self, amount: float) -> str:
        """What the operation does at an amount, as text."""
        if self.text_negative is not None and amount < 0:
            return self.text_negative.format(amount=-amount)
        return self.text.format(amount=amount)


OPERATIONS: dict[str, Rule] = {
    "AutoContrast": Rule(text="stretch each channel to 0..255", apply=ops_color.auto_contrast),
    "Equalize": Rule(text="equalise each channel's histogram", apply=ops_color.equalize),
    "Invert": Rule(text="invert", apply=ops_color.invert),
    "Posterize": Rule(text="keep the highest {amount:.0f} bits", apply=ops_color.posterize),
    "Solarize": Rule(text="invert values from {amount:.0f}", apply=ops_color.solarize),
    "SolarizeAdd": Rule(text="add {amount:.0f} to values below 128", apply=ops_color.solarize_add),
    "Brightness": Rule(text="brightness x {amount:.3f}", apply=ops_color.brightness),
    "Contrast": Rule(text="contrast x {amount:.3f}", apply=ops_color.contrast),
    "Color": Rule(text="saturation x {amount:.3f}", apply=ops_color.color),
    "GaussianBlur": Rule(text="blur by {amount:.4f} of the side", apply=ops_color.gaussian_blur),
    "Sharpness": Rule(text="sharpness x {amount:.3f}", apply=ops_color.sharpness),
    "Rotate": Rule(
        text="rotate {amount:.2f} degrees counter-clockwise",
        text_negative="rotate {amount:.2f} degrees clockwise",
        apply=ops_geometry.rotate,
    ),
    "ShearX": Rule(text="shear rows by {amount:+.4f}", apply=ops_geometry.shear_x),
    "ShearY": Rule(text="shear columns by {amount:+.4f}", apply=ops_geometry.shear_y),
    "TranslateX": Rule(
        text="move left by {amount:.4f} of the width",
        text_negative="move right by {amount:.4f} of the width",
        apply=ops_geometry.translate_x,
    ),
    "TranslateY": Rule(
        text="move up by {amount:.4f} of the height",
        text_negative="move down by {amount:.4f} of the height",
        apply=ops_geometry.translate_y,
    ),
}


def apply(pixels: Pixels, operation: Operation) -> Pixels:
    """The image after `operation`; may write into `pixels`."""
    return rule_of(operation).apply(pixels, operation)


def rule_of(operation: Operation) -> Rule:
    """The row of `operation`. **Raises:** `DistillError` for an unknown name."""
    if operation.name not in OPERATIONS:
        raise DistillError(f"unknown operation {operation.name!r} in a view")
    return OPERATIONS[operation.name]
