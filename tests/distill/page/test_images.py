"""Images in the page hold the pixels they were made from."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from distill.page import images


def opened(image: images.PageImage) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(base64.b64decode(image.url.partition(",")[2]))).convert("RGB"))


def test_lossless_images_hold_every_pixel() -> None:
    random = np.random.default_rng(0)
    for shape in ((224, 224), (1, 1), (7, 31)):
        pixels = random.integers(0, 256, (*shape, 3), np.uint8)
        np.testing.assert_array_equal(opened(images.lossless(pixels, alt="noise")), pixels)


def test_originals_are_reduced_to_the_longest_side() -> None:
    pixels = np.zeros((400, 100, 3), np.uint8)
    assert opened(images.reduced(pixels, longest=200, alt="")).shape == (200, 50, 3)
    small = images.reduced(pixels[:28, :28], longest=200, alt="")
    assert small.url.startswith("data:image/webp;") and small.pixelated
