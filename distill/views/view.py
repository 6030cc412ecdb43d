"""The value `View`: explicit, printable parameters, made by `draw` and executed by `render`.

A view knows the size of its source image (the crop is in source pixels) but not the size of its output:
shifts and erase boxes are relative to the output, so the same view can be rendered at 384 for a teacher and
at 224 for a student.
"""

from dataclasses import dataclass

RELATIVE = 1 << 16
"""Erase boxes are in 1/65536 of the output's side."""

GEOMETRIC = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
"""Geometric operations: they interpolate, and need a colour for pixels taken from outside the image."""

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle; the field that holds it says in which unit."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation on the resized image: `name` is a key of `ops.OPERATIONS`, `amount` its parameter."""

    name: str
    amount: float = 0.0
    """Degrees, bits, a factor or a fraction of the side, depending on the operation, on a fixed grid."""
    interpolation: str = ""
    """'bilinear' or 'bicubic'; empty for operations that are not geometric."""
    fill: Colour = (0, 0, 0)
    """RGB of pixels taken from outside the image; of geometric operations only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Erase:
    """One erased rectangle, in 1/65536 of the output's side."""

    box: Box
    mode: str
    """'pixel': normal noise in each pixel and channel; 'const': the mean colour."""
    mean: Colour
    std: Colour
    key: int
    """Key of the noise stream (uint64)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One augmented rendering of one image; a pure function of (spec, seed, image size)."""

    source: tuple[int, int]
    """(height, width) of the image that the view was drawn for."""
    crop: Box
    """In source pixels."""
    interpolation: str
    """Of the resize: 'bilinear' or 'bicubic', both antialiased."""
    decode: str = "exact"
    """'exact', or 'dct': a JPEG at the smallest of 1/1, 1/2, 1/4 and 1/8 that is no smaller than the output."""
    flip: bool = False
    operations: tuple[Operation, ...] = ()
    erase: tuple[Erase, ...] = ()
