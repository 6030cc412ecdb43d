"""The table of operations: what `render` does for each name in a view, and how to say it.

To add an operation: write one function in `ops_color.py` or `ops_geometry.py`, one row here, one test against
the reference. A row gives exactly one of three kinds:

- `table`: amount -> table; pointwise and blind to the picture, so a run of them can be composed into one
  table;
- `measure`: picture, amount -> table; pointwise, after a look at the picture;
- `change`: picture, operation -> picture; anything else.
"""

from collections.abc import Callable
from dataclasses import dataclass

from distill.errors import DistillError
from distill.views import ops_color, ops_geometry
from distill.views.ops_color import Pixels, Table, apply_table
from distill.views.view import Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How one operation is executed and said."""

    words: str
    """With {amount}, as in str.format."""
    table: Callable[[float], Table] | None = None
    measure: Callable[[Pixels, float], Table] | None = None
    change: Callable[[Pixels, Operation], Pixels] | None = None


OPERATIONS: dict[str, Rule] = {
    "AutoContrast": Rule(words="stretch each channel to 0..255", measure=ops_color.auto_contrast),
    "Equalize": Rule(words="equalise each channel's histogram", measure=ops_color.equalize),
    "Invert": Rule(words="invert", table=ops_color.invert),
    "Posterize": Rule(words="keep the highest {amount:.0f} bits", table=ops_color.posterize),
    "Solarize": Rule(words="invert values from {amount:.0f}", table=ops_color.solarize),
    "SolarizeAdd": Rule(words="add {amount:.0f} to values below 128", table=ops_color.solarize_add),
    "Brightness": Rule(words="brightness x {amount:.3f}", table=ops_color.brightness),
    "Contrast": Rule(words="contrast x {amount:.3f}", measure=ops_color.contrast),
    "Color": Rule(words="saturation x {amount:.3f}", change=ops_color.color),
    "Sharpness": Rule(words="sharpness x {amount:.3f}", change=ops_color.sharpness),
    "Rotate": Rule(words="rotate {amount:+.2f} degrees counter-clockwise", change=ops_geometry.rotate),
    "ShearX": Rule(words="shear rows by {amount:+.4f}", change=ops_geometry.shear_x),
    "ShearY": Rule(words="shear columns by {amount:+.4f}", change=ops_geometry.shear_y),
    "TranslateX": Rule(words="move left by {amount:+.4f} of the width", change=ops_geometry.translate_x),
    "TranslateY": Rule(words="move up by {amount:+.4f} of the height", change=ops_geometry.translate_y),
}


def apply(pixels: Pixels, operation: Operation) -> Pixels:
    """The picture after `operation`; may write into `pixels`."""
    rule = rule_of(operation)
    if rule.table is not None:
        return apply_table(pixels, rule.table(operation.amount))
    if rule.measure is not None:
        return apply_table(pixels, rule.measure(pixels, operation.amount))
    assert rule.change is not None
    return rule.change(pixels, operation)


def rule_of(operation: Operation) -> Rule:
    """The row of `operation`; DistillError when this program has none."""
    if operation.name not in OPERATIONS:
        raise DistillError(f"a view asks for an operation unknown here: {operation.name!r}")
    return OPERATIONS[operation.name]
