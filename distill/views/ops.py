"""The table of operations: what `render` does for each name in a view, and how to say it.

To add an operation: one function (picture, operation) -> picture in `ops_color.py` or `ops_geometry.py`, one row
here, one test against the reference. A policy that shall draw it names it in its own table.
"""

from collections.abc import Callable
from dataclasses import dataclass

from distill.errors import DistillError
from distill.views import ops_color, ops_geometry
from distill.views.ops_color import Pixels
from distill.views.view import Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How one operation is executed and said."""

    words: str
    """With {amount}, as in str.format."""
    change: Callable[[Pixels, Operation], Pixels]
    """May write into the picture it is given."""
    words_below_zero: str | None = None
    """Of an operation with two directions: what a negative amount does, said with its size; null: as `words` say."""

    def said(self, amount: float) -> str:
        """What is done to the picture, in words."""
        if self.words_below_zero is not None and amount < 0:
            return self.words_below_zero.format(amount=-amount)
        return self.words.format(amount=amount)


OPERATIONS: dict[str, Rule] = {
    "AutoContrast": Rule(words="stretch each channel to 0..255", change=ops_color.auto_contrast),
    "Equalize": Rule(words="equalise each channel's histogram", change=ops_color.equalize),
    "Invert": Rule(words="invert", change=ops_color.invert),
    "Posterize": Rule(words="keep the highest {amount:.0f} bits", change=ops_color.posterize),
    "Solarize": Rule(words="invert values from {amount:.0f}", change=ops_color.solarize),
    "SolarizeAdd": Rule(words="add {amount:.0f} to values below 128", change=ops_color.solarize_add),
    "Brightness": Rule(words="brightness x {amount:.3f}", change=ops_color.brightness),
    "Contrast": Rule(words="contrast x {amount:.3f}", change=ops_color.contrast),
    "Color": Rule(words="saturation x {amount:.3f}", change=ops_color.color),
    "GaussianBlur": Rule(words="blur by {amount:.4f} of the side", change=ops_color.gaussian_blur),
    "Sharpness": Rule(words="sharpness x {amount:.3f}", change=ops_color.sharpness),
    "Rotate": Rule(
        words="rotate {amount:.2f} degrees counter-clockwise",
        words_below_zero="rotate {amount:.2f} degrees clockwise",
        change=ops_geometry.rotate,
    ),
    "ShearX": Rule(words="shear rows by {amount:+.4f}", change=ops_geometry.shear_x),
    "ShearY": Rule(words="shear columns by {amount:+.4f}", change=ops_geometry.shear_y),
    "TranslateX": Rule(
        words="move left by {amount:.4f} of the width",
        words_below_zero="move right by {amount:.4f} of the width",
        change=ops_geometry.translate_x,
    ),
    "TranslateY": Rule(
        words="move up by {amount:.4f} of the height",
        words_below_zero="move down by {amount:.4f} of the height",
        change=ops_geometry.translate_y,
    ),
}


def apply(pixels: Pixels, operation: Operation) -> Pixels:
    """The picture after `operation`; may write into `pixels`."""
    return rule_of(operation).change(pixels, operation)


def rule_of(operation: Operation) -> Rule:
    """The row of `operation`; DistillError when this program has none."""
    if operation.name not in OPERATIONS:
        raise DistillError(f"a view asks for an operation unknown here: {operation.name!r}")
    return OPERATIONS[operation.name]
