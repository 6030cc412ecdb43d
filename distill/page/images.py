"""Pixels as `data:` addresses, so that the page needs no other file."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

_PLAIN_BELOW = 112
"""Pictures with a smaller side are shown with visible pixels when they are enlarged."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture in the page."""

    address: str
    """A `data:` URL."""
    width: int
    height: int
    """Of the pixels in it."""
    says: str
    """What is in it, in words, for who does not see it."""

    @property
    def pixelated(self) -> bool:
        return min(self.width, self.height) < _PLAIN_BELOW


def lossless(pixels: Pixels, *, says: str) -> Picture:
    """WebP without loss: every pixel as it is, in about three quarters of a PNG's bytes (45 kB where PNG takes 62, on
    views of photographs at 224 px)."""
    return _picture(pixels, "WEBP", says=says, lossless=True, method=4)


def jpeg(pixels: Pixels, *, says: str, quality: int = 90) -> Picture:
    """About a third of the bytes; close to the pixels, not equal to them."""
    return _picture(pixels, "JPEG", says=says, quality=quality)


def reduced(pixels: Pixels, *, longest: int, says: str) -> Picture:
    """An original, no larger than `longest`: a JPEG where it had to be reduced, else without loss."""
    height, width = pixels.shape[:2]
    if max(height, width) <= min(longest, _PLAIN_BELOW):
        return lossless(pixels, says=says)
    scale = min(1.0, longest / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return jpeg(np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8), says=says, quality=85)


def _picture(pixels: Pixels, kind: str, *, says: str, **options: int) -> Picture:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    address = f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    return Picture(address=address, width=pixels.shape[1], height=pixels.shape[0], says=says)
