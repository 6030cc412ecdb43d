"""The evaluation image: the shorter side resized to `size / crop`, then the central square, as the field evaluates.

Pixel for pixel timm's `create_transform(size, crop_pct=crop)` (mode `center`) under the installed Pillow: the same
integers for the resized sides and the crop's corner (those of torchvision's `Resize` and `CenterCrop`), and Pillow's
own antialiased resize. Published accuracies are measured on this image.
"""

import math

import numpy as np
from PIL import Image

from distill.errors import DistillError
from distill.views.decode import EncodedImage
from distill.views.spec import EvalSpec

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
MAX_RESIZED_RATIO = 50
"""Images more elongated than this are cropped before they are resized: the whole would grow without bound."""


def eval_pixels(image: bytes | np.ndarray | EncodedImage, spec: EvalSpec, *, size: int) -> np.ndarray:
    """The image as a model is evaluated on it: uint8 (size, size, 3) RGB, C-contiguous, own memory.

    **Arguments:** `image`: an image file's bytes, an `EncodedImage`, or decoded pixels, uint8 (height, width, 3) RGB;
    `size`: of the output, in pixels.

    **Raises:** `DamagedImage`; `DistillError` for pixels of another kind.
    """
    image = EncodedImage(image) if isinstance(image, bytes | bytearray | memoryview) else image
    pixels = image if isinstance(image, np.ndarray) else image.pixels()
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise DistillError(f"an image must be uint8 (height, width, 3), got {pixels.dtype} {pixels.shape}")
    source, filter_ = Image.fromarray(pixels), _FILTERS[spec.interpolation]
    if spec.full:
        return np.array(source.resize((size, size), filter_))
    width, height = source.size
    if max(width, height) > MAX_RESIZED_RATIO * min(width, height):
        return np.array(source.resize((size, size), filter_, box=_central_box(width, height, spec.crop)))
    width, height = _resized(width, height, short=math.floor(size / spec.crop))
    left, top = round((width - size) / 2), round((height - size) / 2)
    resized = source if source.size == (width, height) else source.resize((width, height), filter_)
    return np.array(resized.crop((left, top, left + size, top + size)))


def _resized(width: int, height: int, *, short: int) -> tuple[int, int]:
    """(width, height) with the shorter side `short`, the other one in proportion, rounded down."""
    long = int(short * max(width, height) / min(width, height))
    return (short, long) if width <= height else (long, short)


def _central_box(width: int, height: int, crop: float) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of the central square in source pixels."""
    side = min(width, height) * crop
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side
