"""Operations that change colours and leave pixels in place, true to Pillow's `ImageOps` and `ImageEnhance`.

Most are one 256-entry table a channel. The tables are made of integers, or of float64 steps that IEEE 754
rounds the same everywhere. A blend needs no care for the last bit either: factors are multiples of 1/1024, so
in float32 each product and sum of `cv2.addWeighted` is exact, fused or not, and only the final rounding
remains.
"""

import cv2
import numpy as np

from distill.views.policy import FACTOR_GRID
from distill.views.view import Operation

Pixels = np.ndarray
"""uint8 (height, width, 3) RGB, C-contiguous; operations may write into it."""

Table = np.ndarray
"""uint8 (256,), one for all channels, or (1, 256, 3)."""

LEVELS = np.arange(256, dtype=np.int64)
IDENTITY = LEVELS.astype(np.uint8)


def apply_table(pixels: Pixels, table: Table) -> Pixels:
    """Looks up every value, in place."""
    return np.asarray(cv2.LUT(pixels, table, dst=pixels))


# --- Tables that follow from the amount alone ---


def invert(amount: float) -> Table:
    """255 - v."""
    return IDENTITY[::-1].copy()


def posterize(amount: float) -> Table:
    """Keeps the highest `amount` bits; 0 bits make a black picture."""
    return IDENTITY & np.uint8(256 - (1 << (8 - int(amount))) & 255)


def solarize(amount: float) -> Table:
    """Inverts values of `amount` and above."""
    return np.where(int(amount) > LEVELS, LEVELS, 255 - LEVELS).astype(np.uint8)


def solarize_add(amount: float) -> Table:
    """Adds `amount` to values below 128."""
    return np.where(LEVELS < 128, np.minimum(255, LEVELS + int(amount)), LEVELS).astype(np.uint8)


def brightness(amount: float) -> Table:
    """Blends from black (0) over the picture (1) onwards."""
    return _blend_table(0, amount)


# --- Tables that look at the picture first ---


def contrast(pixels: Pixels, amount: float) -> Table:
    """Blends from the mean grey (0) over the picture (1) onwards."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    total = int(grey.sum(dtype=np.int64))
    mean = (2 * total + grey.size) // (2 * grey.size)
    return _blend_table(mean, amount)


def auto_contrast(pixels: Pixels, amount: float) -> Table:
    """Stretches each channel's least and greatest value to 0 and 255."""
    low = pixels.min(axis=0).min(axis=0)  # in two steps: numpy takes the long axis at full speed
    high = pixels.max(axis=0).max(axis=0)
    tables = [_stretch_table(int(least), int(most)) for least, most in zip(low, high, strict=True)]
    return np.stack(tables, axis=-1)[None]


def equalize(pixels: Pixels, amount: float) -> Table:
    """Spreads each channel's values so that all grey levels are about equally frequent."""
    counts = [cv2.calcHist([pixels], [channel], None, [256], [0, 256]) for channel in range(3)]
    return np.stack([_equal_table(count.ravel().astype(np.int64)) for count in counts], axis=-1)[None]


# --- Operations that mix channels or neighbours ---


def color(pixels: Pixels, operation: Operation) -> Pixels:
    """Blends from grey (0) over the picture (1) onwards."""
    grey = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return _blend(grey, pixels, operation.amount)


def sharpness(pixels: Pixels, operation: Operation) -> Pixels:
    """Blends from smooth (0) over the picture (1) onwards; smooth is a 3 x 3 mean with fivefold centre."""
    height, width = pixels.shape[:2]
    if height < 3 or width < 3:
        return pixels
    sums = cv2.boxFilter(pixels, cv2.CV_16U, (3, 3), normalize=False)
    sums += pixels.astype(np.uint16) << 2
    sums += 6
    smooth = (sums // 13).astype(np.uint8)
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        smooth[edge] = pixels[edge]
    return _blend(smooth, pixels, operation.amount)


def _blend(start: Pixels, end: Pixels, factor: float) -> Pixels:
    """start + factor * (end - start), cut to 0..255 and rounded down, as Pillow does; into `end`.

    addWeighted rounds to the nearest integer, so subtract a half less half a step of the exact grid first.
    """
    down = 0.5 / FACTOR_GRID - 0.5
    return np.asarray(cv2.addWeighted(end, factor, start, 1.0 - factor, down, dst=end))


def _blend_table(start: int, factor: float) -> Table:
    steps = round(factor * FACTOR_GRID)
    blended = (start * FACTOR_GRID + steps * (LEVELS - start)) // FACTOR_GRID
    return np.asarray(np.clip(blended, 0, 255), dtype=np.uint8)


def _stretch_table(least: int, most: int) -> Table:
    if most <= least:
        return IDENTITY
    scale = 255.0 / (most - least)
    offset = -least * scale
    return np.asarray(np.clip(np.trunc(LEVELS * scale + offset), 0, 255), dtype=np.uint8)


def _equal_table(counts: np.ndarray) -> Table:
    """Table from a channel's 256 counts (int64)."""
    used = counts[counts > 0]
    step = int(used.sum() - used[-1]) // 255
    if step == 0:
        return IDENTITY
    before = np.cumsum(counts) - counts
    return np.asarray(np.minimum((before + step // 2) // step, 255), dtype=np.uint8)
