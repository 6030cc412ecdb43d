"""Colour operations, with the results of Pillow's `ImageOps` and `ImageEnhance`.

Where arithmetic on whole images is exact it is used: byte logic and saturating sums in numpy run ten times faster than
a look-up table. Blends are exact too: factors are multiples of 1/1024, so in float32 each product and sum of
`cv2.addWeighted` is exact, fused or not, and only the final rounding remains. Look-up tables, made of integers or of
single float64 steps, serve the operations that depend on the image's histogram (auto contrast, equalise).
"""

import cv2
import numpy as np

from distill.views.randaugment import FACTOR_GRID
from distill.views.view import Operation

Pixels = np.ndarray
"""uint8 (height, width, 3) RGB, C-contiguous; operations may write into it."""

Table = np.ndarray
"""uint8 (256,)."""

LEVELS = np.arange(256, dtype=np.int64)
IDENTITY = LEVELS.astype(np.uint8)

ROUND_DOWN = 0.5 / FACTOR_GRID - 0.5
"""Added to a multiple of 1 / FACTOR_GRID, it makes rounding to nearest a rounding down, which is Pillow's."""


# --- Byte by byte, in place ---


def invert(pixels: Pixels, operation: Operation) -> Pixels:
    """255 - v."""
    np.bitwise_not(pixels, out=pixels)
    return pixels


def posterize(pixels: Pixels, operation: Operation) -> Pixels:
    """Keeps the highest `amount` bits; 0 bits make a black image."""
    mask = 256 - (1 << (8 - int(operation.amount))) & 255
    np.bitwise_and(pixels, np.uint8(mask), out=pixels)
    return pixels


def solarize(pixels: Pixels, operation: Operation) -> Pixels:
    """Inverts values from `amount` on; none if it is above 255."""
    threshold = int(operation.amount)
    if threshold > 255:
        return pixels
    mask = np.greater_equal(pixels, np.uint8(max(0, threshold))).view(np.uint8)
    np.bitwise_xor(pixels, np.negative(mask, out=mask), out=pixels)
    return pixels


def solarize_add(pixels: Pixels, operation: Operation) -> Pixels:
    """Adds `amount` (0..128) to values below 128."""
    mask = np.less(pixels, np.uint8(128)).view(np.uint8)
    mask *= np.uint8(int(operation.amount))
    np.add(pixels, mask, out=pixels)
    return pixels


# --- Blends ---


def brightness(pixels: Pixels, operation: Operation) -> Pixels:
    """Blends black (factor 0) with the image (factor 1); factors above 1 extrapolate."""
    return _blend_with_grey(0, pixels, operation.amount)


def contrast(pixels: Pixels, operation: Operation) -> Pixels:
    """Blends the mean grey (factor 0) with the image (factor 1)."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    total = int(cv2.sumElems(grey)[0])
    mean = (2 * total + grey.size) // (2 * grey.size)
    return _blend_with_grey(mean, pixels, operation.amount)


def color(pixels: Pixels, operation: Operation) -> Pixels:
    """Blends the greyscale image (factor 0) with the image (factor 1)."""
    grey = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return _blend(grey, pixels, operation.amount)


def sharpness(pixels: Pixels, operation: Operation) -> Pixels:
    """Blends a smoothed image (factor 0) with the image (factor 1). Smoothing: a 3 x 3 mean, its centre weighted 5."""
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


def gaussian_blur(pixels: Pixels, operation: Operation) -> Pixels:
    """Gaussian blur, its standard deviation `amount` times the height. Pillow approximates it by three box means."""
    std = operation.amount * pixels.shape[0]
    if std <= 0:
        return pixels
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), std, borderType=cv2.BORDER_REPLICATE))


# --- By a table from the image's histogram ---


def auto_contrast(pixels: Pixels, operation: Operation) -> Pixels:
    """Stretches each channel's minimum and maximum to 0 and 255."""
    low = pixels.min(axis=0).min(axis=0)  # In two steps, which numpy vectorises.
    high = pixels.max(axis=0).max(axis=0)
    tables = [_stretch_table(int(first), int(last)) for first, last in zip(low, high, strict=True)]
    return _look_up(pixels, tables)


def equalize(pixels: Pixels, operation: Operation) -> Pixels:
    """Spreads each channel's values so that all grey levels are about equally frequent."""
    counts = [cv2.calcHist([pixels], [channel], None, [256], [0, 256]) for channel in range(3)]
    return _look_up(pixels, [_equalize_table(count.ravel().astype(np.int64)) for count in counts])


def _look_up(pixels: Pixels, tables: list[Table]) -> Pixels:
    """Each value by the table of its channel, in place."""
    return np.asarray(cv2.LUT(pixels, np.stack(tables, axis=-1)[None], dst=pixels))


def _blend(start: Pixels, end: Pixels, factor: float) -> Pixels:
    """start + factor * (end - start), clipped to 0..255 and rounded down; into `end`."""
    return np.asarray(cv2.addWeighted(end, factor, start, 1.0 - factor, ROUND_DOWN, dst=end))


def _blend_with_grey(level: int, end: Pixels, factor: float) -> Pixels:
    """The same, from one grey level."""
    return np.asarray(cv2.addWeighted(end, factor, end, 0.0, level * (1.0 - factor) + ROUND_DOWN, dst=end))


def _stretch_table(low: int, high: int) -> Table:
    if high <= low:
        return IDENTITY
    scale = 255.0 / (high - low)
    offset = -low * scale
    return np.asarray(np.clip(np.trunc(LEVELS * scale + offset), 0, 255), dtype=np.uint8)


def _equalize_table(counts: np.ndarray) -> Table:
    """Table from a channel's 256 counts (int64)."""
    used = counts[counts > 0]
    step = int(used.sum() - used[-1]) // 255
    if step == 0:
        return IDENTITY
    before = np.cumsum(counts) - counts
    return np.asarray(np.minimum((before + step // 2) // step, 255), dtype=np.uint8)
