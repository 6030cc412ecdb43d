"""Pixels as `data:` URLs, so that the page needs no other file."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

_PIXELATED_BELOW = 112
"""Images with a smaller side are enlarged without smoothing."""

Pixels = npt.NDArray[np.uint8]
"""(height, width, 3) RGB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageImage:
    """An image in the page."""

    url: str
    """A `data:` URL."""
    width: int
    height: int
    """Of the pixels in it."""
    alt: str
    """What it shows, for readers who do not see it."""

    @property
    def pixelated(self) -> bool:
        """Whether the page enlarges it without smoothing."""
        return min(self.width, self.height) < _PIXELATED_BELOW


def lossless(pixels: Pixels, *, alt: str) -> PageImage:
    """WebP without loss: every pixel as it is, in about three quarters of a PNG's bytes (45 kB where PNG takes 62, on
    views of photographs at 224 px)."""
    return _encode(pixels, "WEBP", alt=alt, lossless=True, method=4)


def jpeg(pixels: Pixels, *, alt: str, quality: int = 90) -> PageImage:
    """About a third of the bytes; close to the pixels, not equal to them."""
    return _encode(pixels, "JPEG", alt=alt, quality=quality)


def reduced(pixels: Pixels, *, longest: int, alt: str) -> PageImage:
    """An original, with no side longer than `longest`: lossless where it is small, else a JPEG."""
    height, width = pixels.shape[:2]
    if max(height, width) <= min(longest, _PIXELATED_BELOW):
        return lossless(pixels, alt=alt)
    scale = min(1.0, longest / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return jpeg(np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8), alt=alt, quality=85)


def _encode(pixels: Pixels, file_format: str, *, alt: str, **options: int) -> PageImage:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format, **options)
    url = f"data:image/{file_format.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    return PageImage(url=url, width=pixels.shape[1], height=pixels.shape[0], alt=alt)
