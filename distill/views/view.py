"""What a view is: explicit, printable parameters, made by `draw` and executed by `render`.

A view knows the size of its source picture (the crop is in source pixels) but not the size of its output:
shifts and erase boxes are relative to the output, so the same view can be rendered at 384 for a teacher and
at 224 for a student.
"""

from dataclasses import dataclass

RELATIVE = 1 << 16
"""Erase boxes are in 1/65536 of the output's side."""

MOVING = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
"""Operations that move pixels: they interpolate, and need a colour for what comes in from outside."""

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle; its unit is said where it is used."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation on the resized picture; `ops.OPERATIONS` says what `name` does with `amount`."""

    name: str
    amount: float = 0.0
    """The operation's own parameter (degrees, bits, factor, share of the side), on a grid of its own."""
    interpolation: str = ""
    """'bilinear' or 'bicubic'; empty for operations that move no pixels."""
    fill: Colour = (0, 0, 0)
    """RGB of what comes in from outside; used only by operations that move pixels."""


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
    """One augmented rendering of one picture; a pure function of (spec, seed, picture size)."""

    source: tuple[int, int]
    """(height, width) of the picture that the view was drawn for."""
    crop: Box
    """In source pixels."""
    interpolation: str
    """Of the resize: 'bilinear' or 'bicubic', both antialiased."""
    decode: str = "exact"
    """'exact', or 'dct': a JPEG at the smallest of 1/1, 1/2, 1/4 and 1/8 that is no smaller than the output."""
    flip: bool = False
    operations: tuple[Operation, ...] = ()
    erase: tuple[Erase, ...] = ()
