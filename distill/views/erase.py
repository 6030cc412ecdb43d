"""Random erasing in uint8: normal noise made from integers, or a constant colour.

Elsewhere erasing happens after normalisation, with noise of mean 0 and standard deviation 1. Here pixels stay uint8
RGB until the device, so the noise has the mean and standard deviation of the data set's pixels, clipped to 0..255, and
two models with different statistics see the same image.
"""

from functools import lru_cache

import cv2
import numpy as np

from distill.views.ops_color import Pixels
from distill.views.random import NORMAL_GRID, normal_quantile, raw_words
from distill.views.view import RELATIVE, Colour, Erase

NOISE = 1
"""Domain of the noise streams."""


def erase(pixels: Pixels, boxes: tuple[Erase, ...]) -> Pixels:
    """Overwrites the boxes in order, in place."""
    height, width = pixels.shape[:2]
    for erased in boxes:
        rows = edge_slice(erased.box.top, erased.box.height, height)
        columns = edge_slice(erased.box.left, erased.box.width, width)
        patch = pixels[rows, columns]
        if patch.size:
            patch[:] = _noise(erased, patch.shape) if erased.mode == "pixel" else erased.mean
    return pixels


def edge_slice(start: int, length: int, side: int) -> slice:
    """Pixels of a box edge given in 1 / RELATIVE of `side`; both ends are rounded alike."""
    half = RELATIVE // 2
    return slice((start * side + half) // RELATIVE, ((start + length) * side + half) // RELATIVE)


def _noise(erased: Erase, shape: tuple[int, ...]) -> Pixels:
    """uint8 of `shape`: each byte of the stream (a word's lowest first) picks one of 256 quantiles."""
    count = int(np.prod(shape))
    stream = raw_words(erased.key, domain=NOISE, count=-(-count // 8)).astype("<u8", copy=False)
    codes = stream.view(np.uint8)[:count].reshape(shape)
    return np.asarray(cv2.LUT(codes, noise_table(erased.mean, erased.std)))


@lru_cache(maxsize=16)
def noise_table(mean: Colour, std: Colour) -> np.ndarray:
    """uint8 (1, 256, 3): the grey levels of 256 equally likely quantiles of a normal, for each channel."""
    steps = [round(normal_quantile((code + 0.5) / 256) * NORMAL_GRID) for code in range(256)]
    quantiles = np.array(steps, dtype=np.int64)[:, None]  # (256, 1), in 1 / NORMAL_GRID
    levels = (np.array(mean) * NORMAL_GRID + np.array(std) * quantiles + NORMAL_GRID // 2) // NORMAL_GRID
    return np.clip(levels, 0, 255).astype(np.uint8)[None]
