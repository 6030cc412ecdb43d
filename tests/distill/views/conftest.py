"""Images for the tests of views, made at run time from the free photographs that scikit-image ships."""

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image

JPEG_SIZES = ((375, 500), (500, 333), (97, 640), (28, 28), (224, 224), (301, 299))


def encode(pixels: np.ndarray, kind: str = "JPEG", **options) -> bytes:
    """uint8 (h, w, 3) or (h, w) as the bytes of a file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def photographs() -> list[np.ndarray]:
    """Three photographs, uint8 (h, w, 3) RGB."""
    return [skimage.data.astronaut(), skimage.data.chelsea(), skimage.data.coffee()]


@pytest.fixture(scope="session")
def squares(photographs) -> list[np.ndarray]:
    """Photographs, noise, one colour and a slope: uint8 (224, 224, 3)."""
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    plain = np.full((224, 224, 3), 77, dtype=np.uint8)
    slope = np.broadcast_to(np.arange(16, 240, dtype=np.uint8)[:, None, None], (224, 224, 3))
    cut = [np.ascontiguousarray(image[40:264, 60:284]) for image in photographs]
    return [*cut, noise, plain, np.ascontiguousarray(slope)]


@pytest.fixture(scope="session")
def jpeg_folder(photographs, tmp_path_factory) -> Path:
    """A folder of JPEGs of many sizes, colour, grey, progressive and 4:4:4."""
    folder = tmp_path_factory.mktemp("jpegs")
    for number, (height, width) in enumerate(JPEG_SIZES * 2):
        image = cv2.resize(photographs[number % 3], (width, height), interpolation=cv2.INTER_AREA)
        if number % 5 == 4:
            image = image[..., 1]
        options: dict[str, Any] = {
            "quality": 70 + 2 * number,
            "progressive": number % 3 == 0,
            "subsampling": 2 * (number % 2),
        }
        (folder / f"{number:02d}.jpg").write_bytes(encode(image, **options))
    return folder


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    """One photograph of 300 x 400 pixels as a JPEG file."""
    return encode(skimage.data.coffee()[:300, :400], quality=90)
