"""Geometric operations: affine maps from output to source, in integers.

OpenCV's own `warpAffine` and its cubic `remap` give other pixels on other CPUs; `remap` with an integer map and linear
weights does not. So the map of a rotation or shear is computed here: coefficients in 1/65536, coordinates in int32,
weights in 1/32 pixel. A translation needs no map: all pixels have the same weights, so it is a blend of two windows.
Pixel centres are at half coordinates, and pixels whose source lies outside the image get the fill colour, with a sharp
edge, both as in Pillow's `Image.transform`. Bicubic interpolation is Pillow's own: exact and slow.
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
"""`cv2.remap` has weights in 1/32 pixel."""

SHIFT_BITS = 12
"""Translations are in 1 / 2**SHIFT_BITS pixel, so that the blend is exact in float32."""

MAX_SIDE = 8192
"""Largest side in pixels whose coordinates fit into int32."""

Affine = tuple[int, int, int, int, int, int]
"""(a, b, c, d, e, f) in 1 / ONE: source x = a x + b y + c, source y = d x + e y + f (c, f in pixels)."""


def rotate(pixels: Pixels, operation: Operation) -> Pixels:
    """Rotates counter-clockwise by `amount` degrees about the centre."""
    height, width = pixels.shape[:2]
    cosine, sine = cosine_and_sine(operation.amount)
    c = ((ONE - cosine) * width + sine * height) // 2
    f = ((ONE - cosine) * height - sine * width) // 2
    return _affine(pixels, (cosine, -sine, c, sine, cosine, f), operation)


def shear_x(pixels: Pixels, operation: Operation) -> Pixels:
    """Shifts each row left by `amount` times its distance from the top."""
    return _affine(pixels, (ONE, _fixed(operation.amount), 0, 0, ONE, 0), operation)


def shear_y(pixels: Pixels, operation: Operation) -> Pixels:
    """Shifts each column up by `amount` times its distance from the left."""
    return _affine(pixels, (ONE, 0, 0, _fixed(operation.amount), ONE, 0), operation)


def translate_x(pixels: Pixels, operation: Operation) -> Pixels:
    """Shifts the image left by `amount` times its width."""
    shift = _fixed(operation.amount) * pixels.shape[1]
    if operation.interpolation == "bilinear":
        return _translate(pixels, shift, axis=1, fill=operation.fill)
    return _affine(pixels, (ONE, 0, shift, 0, ONE, 0), operation)


def translate_y(pixels: Pixels, operation: Operation) -> Pixels:
    """Shifts the image up by `amount` times its height."""
    shift = _fixed(operation.amount) * pixels.shape[0]
    if operation.interpolation == "bilinear":
        return _translate(pixels, shift, axis=0, fill=operation.fill)
    return _affine(pixels, (ONE, 0, 0, 0, ONE, shift), operation)


def cosine_and_sine(degrees: float) -> tuple[int, int]:
    """In 1 / ONE. On the grid of angles no value is near a rounding tie, so the C library's last bit has no effect."""
    angle = degrees * (math.pi / 180)
    return round(math.cos(angle) * ONE), round(math.sin(angle) * ONE)


def _fixed(number: float) -> int:
    return round(number * ONE)


def _affine(pixels: Pixels, affine: Affine, operation: Operation) -> Pixels:
    if operation.interpolation == "bicubic":
        return _affine_bicubic(pixels, affine, operation.fill)
    if operation.interpolation == "bilinear":
        return _affine_bilinear(pixels, affine, operation.fill)
    raise ValueError(f"operation {operation.name} cannot interpolate by {operation.interpolation!r}")


def _affine_bicubic(pixels: Pixels, affine: Affine, fill: Colour) -> Pixels:
    matrix = tuple(number / ONE for number in affine)
    image = Image.fromarray(pixels)
    output = image.transform(
        image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BICUBIC, fillcolor=fill
    )
    return np.array(output)


def _affine_bilinear(pixels: Pixels, affine: Affine, fill: Colour) -> Pixels:
    height, width = pixels.shape[:2]
    if max(height, width) > MAX_SIDE:
        raise ValueError(
            f"geometric operations take images of up to {MAX_SIDE} pixels per side, this one is {height} x {width}"
        )
    a, b, c, d, e, f = affine
    x = _coordinates(a, b, c, height=height, width=width)
    y = _coordinates(d, e, f, height=height, width=width)
    outside = _outside(x, width) | _outside(y, height)

    # From corner-based to centre-based coordinates, rounded to 1/32 pixel: whole pixels in the upper 16 bits.
    offset = ONE // 2 - (ONE >> (SUBPIXEL_BITS + 1))
    x -= offset
    y -= offset
    whole = (x >> 16 & 0xFFFF) | (y & ~0xFFFF)
    mask = (1 << SUBPIXEL_BITS) - 1
    weights = (x >> 16 - SUBPIXEL_BITS & mask) | (y >> 16 - 2 * SUBPIXEL_BITS & mask << SUBPIXEL_BITS)
    pairs = whole.astype("<i4", copy=False).view("<i2").reshape(height, width, 2)  # x, y
    output = cv2.remap(pixels, pairs, weights.astype(np.uint16), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.copyTo(_constant_image(fill, height, width), outside.view(np.uint8), dst=output))


def _translate(pixels: Pixels, shift: int, *, axis: int, fill: Colour) -> Pixels:
    """Output position i along `axis` is source position i + shift / ONE, a blend of its two neighbours."""
    side = pixels.shape[axis]
    steps = (shift + (ONE >> SHIFT_BITS + 1)) >> 16 - SHIFT_BITS
    whole, weight = steps >> SHIFT_BITS, (steps & (1 << SHIFT_BITS) - 1) / (1 << SHIFT_BITS)
    output = _constant_image(fill, *pixels.shape[:2]).copy()
    source, target = (pixels, output) if axis == 0 else (pixels.swapaxes(0, 1), output.swapaxes(0, 1))

    first, last = max(0, -whole), min(side, side - 1 - whole)  # positions with both neighbours inside
    if first < last:
        near, far = source[first + whole : last + whole], source[first + whole + 1 : last + whole + 1]
        near, far, into = (rows if axis == 0 else rows.swapaxes(0, 1) for rows in (near, far, target[first:last]))
        down = 0.5 / (1 << SHIFT_BITS) - 0.5  # Pillow rounds down
        cv2.addWeighted(near, 1.0 - weight, far, weight, down, dst=into)
    # Half a pixel beyond the outermost centres is still inside, with one neighbour only.
    if weight >= 0.5 and 0 <= -whole - 1 < side:
        target[-whole - 1] = source[0]
    if weight < 0.5 and 0 <= side - 1 - whole < side:
        target[side - 1 - whole] = source[side - 1]
    return output


def _coordinates(per_x: int, per_y: int, start: int, *, height: int, width: int) -> np.ndarray:
    """per_x * (column + 1/2) + per_y * (row + 1/2) + start, in 1 / ONE: int32, broadcastable to (height, width).

    One row or one column where all are equal.
    """
    along = ((2 * np.arange(width if per_x else 1, dtype=np.int64) + 1) * per_x // 2).astype(np.int32)
    down = ((2 * np.arange(height if per_y else 1, dtype=np.int64) + 1) * per_y // 2 + start).astype(np.int32)
    return down[:, None] + along


@lru_cache(maxsize=8)
def _constant_image(colour: Colour, height: int, width: int) -> Pixels:
    """Read-only and cached: copying it under a mask is a hundred times faster than assigning a colour with numpy."""
    image = np.empty((height, width, 3), dtype=np.uint8)
    image[:] = colour
    image.flags.writeable = False
    return image


def _outside(coordinates: np.ndarray, side: int) -> np.ndarray:
    """bool (height, width): True below 0 (huge when read as unsigned) and from `side` pixels on."""
    outside: np.ndarray = coordinates.view(np.uint32) >= np.uint32(side * ONE)
    return outside
