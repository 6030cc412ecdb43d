"""A folder of JPEG files like ImageNet's, made at run time for the benchmarks.

Crops, some mirrored, of the free photographs in scikit-image and scikit-learn (`demo/photographs.py` names their
licences): around 500 x 375 pixels, 0.22 megapixels on average, 4:2:0, at qualities from 75 to 95.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.demo.photographs import PHOTOS, photograph

SIZES = ((375, 500), (375, 500), (500, 375), (333, 500), (500, 500), (480, 640))
"""(height, width); 0.22 megapixels on average."""
QUALITIES = (75, 85, 90, 95)


def make_pool(folder: Path, *, count: int = 96, seed: int = 0) -> list[Path]:
    """Writes `count` files into `folder`, equal ones for equal seeds. **Returns** their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    photos = [photograph(name) for name in PHOTOS]
    paths = []
    for number in range(count):
        height, width = SIZES[number % len(SIZES)]
        image = _crop(photos[number % len(photos)], height / width, random)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        image = image[:, ::-1] if random.random() < 0.5 else image
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.choice(QUALITIES))]
        paths.append(folder / f"{number:04d}.jpg")
        cv2.imwrite(str(paths[-1]), image, quality)
    return paths


def _crop(image: np.ndarray, ratio: float, random: np.random.Generator) -> np.ndarray:
    """A random box of 60 to 100 % of the sides of the largest one with `ratio` (height / width)."""
    height, width = image.shape[:2]
    largest = min(height, width * ratio)
    rows = int(largest * random.uniform(0.6, 1.0))
    columns = int(rows / ratio)
    top, left = random.integers(0, height - rows + 1), random.integers(0, width - columns + 1)
    return image[top : top + rows, left : left + columns]
