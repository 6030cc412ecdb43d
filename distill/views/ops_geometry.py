"""Operations that move pixels: all are one affine map from output to source, in integers.

OpenCV's own `warpAffine` and its cubic `remap` give other pixels on other CPUs; `remap` with an integer map
and linear weights does not. So the map is made here: coefficients in 1/65536, coordinates in int32, weights
in 1/32 pixel. Pixel centres lie at half coordinates and a pixel whose source lies outside the picture gets
the fill colour, with a sharp edge, both as in Pillow's `Image.transform`. Bicubic goes to Pillow itself: true
to it and slow.
"""

import math
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image

from distill.views.ops_color import Pixels
from distill.views.view import Colour, Operation

ONE = 1 << 16
"""Coefficients and coordinates are in 1 / ONE."""

SUBPIXEL_BITS = 5
"""`cv2.remap` weighs neighbours in 1/32 pixel."""

MAX_SIDE = 8192
"""Largest picture whose coordinates fit into int32."""

Affine = tuple[int, int, int, int, int, int]
"""(a, b, c, d, e, f) in 1 / ONE: source x = a x + b y + c, source y = d x + e y + f (c, f in pixels)."""


def rotate(pixels: Pixels, operation: Operation) -> Pixels:
    """Turns counter-clockwise by `amount` degrees about the centre."""
    height, width = pixels.shape[:2]
    cosine, sine = cosine_and_sine(operation.amount)
    c = ((ONE - cosine) * width + sine * height) // 2
    f = ((ONE - cosine) * height - sine * width) // 2
    return _move(pixels, (cosine, -sine, c, sine, cosine, f), operation)


def shear_x(pixels: Pixels, operation: Operation) -> Pixels:
    """Moves each row left by `amount` times its distance from the top."""
    return _move(pixels, (ONE, _fixed(operation.amount), 0, 0, ONE, 0), operation)


def shear_y(pixels: Pixels, operation: Operation) -> Pixels:
    """Moves each column up by `amount` times its distance from the left."""
    return _move(pixels, (ONE, 0, 0, _fixed(operation.amount), ONE, 0), operation)


def translate_x(pixels: Pixels, operation: Operation) -> Pixels:
    """Moves the picture left by `amount` times its width."""
    return _move(pixels, (ONE, 0, _fixed(operation.amount) * pixels.shape[1], 0, ONE, 0), operation)


def translate_y(pixels: Pixels, operation: Operation) -> Pixels:
    """Moves the picture up by `amount` times its height."""
    return _move(pixels, (ONE, 0, 0, 0, ONE, _fixed(operation.amount) * pixels.shape[0]), operation)


def cosine_and_sine(degrees: float) -> tuple[int, int]:
    """In 1 / ONE. On the grid of angles none is near a tie, so the C library's last bit is harmless."""
    angle = degrees * (math.pi / 180)
    return round(math.cos(angle) * ONE), round(math.sin(angle) * ONE)


def _fixed(number: float) -> int:
    return round(number * ONE)


def _move(pixels: Pixels, affine: Affine, operation: Operation) -> Pixels:
    if operation.interpolation == "bicubic":
        return _move_bicubic(pixels, affine, operation.fill)
    if operation.interpolation == "bilinear":
        return _move_bilinear(pixels, affine, operation.fill)
    raise ValueError(f"operation {operation.name} cannot interpolate by {operation.interpolation!r}")


def _move_bicubic(pixels: Pixels, affine: Affine, fill: Colour) -> Pixels:
    matrix = tuple(number / ONE for number in affine)
    picture = Image.fromarray(pixels)
    moved = picture.transform(
        picture.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BICUBIC, fillcolor=fill
    )
    return np.array(moved)


def _move_bilinear(pixels: Pixels, affine: Affine, fill: Colour) -> Pixels:
    height, width = pixels.shape[:2]
    if max(height, width) > MAX_SIDE:
        raise ValueError(f"pictures up to {MAX_SIDE} pixels a side can be moved, this one is {height} x {width}")
    a, b, c, d, e, f = affine
    x = _coordinates(a, b, c, height=height, width=width)
    y = _coordinates(d, e, f, height=height, width=width)
    outside = _outside(x, width) | _outside(y, height)

    # From corner-based to centre-based coordinates, then to 1/32 pixel.
    x -= ONE // 2 - (ONE >> (SUBPIXEL_BITS + 1))
    y -= ONE // 2 - (ONE >> (SUBPIXEL_BITS + 1))
    x >>= 16 - SUBPIXEL_BITS
    y >>= 16 - SUBPIXEL_BITS
    whole = np.empty((height, width, 2), dtype=np.int16)
    np.right_shift(x, SUBPIXEL_BITS, out=whole[..., 0], casting="unsafe")
    np.right_shift(y, SUBPIXEL_BITS, out=whole[..., 1], casting="unsafe")
    mask = (1 << SUBPIXEL_BITS) - 1
    x &= mask
    y &= mask
    y <<= SUBPIXEL_BITS
    x |= y
    moved = cv2.remap(pixels, whole, x.astype(np.uint16), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.copyTo(_plain_picture(fill, height, width), outside.view(np.uint8), dst=moved))


def _coordinates(per_x: int, per_y: int, start: int, *, height: int, width: int) -> np.ndarray:
    """int32 (height, width): per_x * (column + 1/2) + per_y * (row + 1/2) + start, in 1 / ONE."""
    along = (2 * np.arange(width, dtype=np.int64) + 1) * per_x // 2
    down = (2 * np.arange(height, dtype=np.int64) + 1) * per_y // 2 + start
    return np.add.outer(down.astype(np.int32), along.astype(np.int32))


@lru_cache(maxsize=8)
def _plain_picture(colour: Colour, height: int, width: int) -> Pixels:
    """Read-only, kept: copying it under a mask is a hundred times faster than spreading a colour with numpy."""
    picture = np.empty((height, width, 3), dtype=np.uint8)
    picture[:] = colour
    picture.flags.writeable = False
    return picture


def _outside(coordinates: np.ndarray, side: int) -> np.ndarray:
    """bool (height, width): True below 0 (huge when read as unsigned) and from `side` pixels on."""
    outside: np.ndarray = coordinates.view(np.uint32) >= np.uint32(side * ONE)
    return outside
