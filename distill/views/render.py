"""From bytes and a view to pixels: decode, crop, antialiased resize, flip, operations, erase; all in uint8.

Both passes call it and must get equal pixels on any CPU. So each step uses a primitive whose result does not depend on
the instruction set in use; `tests/distill/views/test_stability.py` tests that.
"""

import cv2
import numpy as np
import torch

from distill.errors import DistillError
from distill.views.decode import REDUCED, EncodedImage
from distill.views.erase import erase
from distill.views.ops import apply
from distill.views.view import View

# The parallelism is that of the loader's workers: threads of OpenCV would compete with them.
cv2.setNumThreads(0)


def render(image: bytes | np.ndarray | EncodedImage, view: View, *, size: int = 224) -> np.ndarray:
    """The view's pixels: uint8 (size, size, 3) RGB, C-contiguous, own memory.

    **Arguments:** `image`: an image file's bytes, an `EncodedImage`, or decoded pixels, uint8 (height, width, 3) RGB;
    `size`: of the output, in pixels.

    **Raises:** `DamagedImage`, or `DistillError` where the view was drawn for another image size.
    """
    image = EncodedImage(image) if isinstance(image, bytes | bytearray | memoryview) else image
    window = _window(image, view, size=size)
    pixels = resize(window, size=size, interpolation=view.interpolation)
    if view.flip:
        pixels = cv2.flip(pixels, 1)
    for operation in view.operations:
        pixels = apply(pixels, operation)
    return erase(pixels, view.erase)


def reduction(view: View, *, size: int) -> int:
    """1, 2, 4 or 8: the largest factor that leaves the crop at least `size` high and wide."""
    if view.decode == "exact":
        return 1
    side = min(view.crop.height, view.crop.width)
    return max(factor for factor in (1, *REDUCED) if factor == 1 or side >= factor * size)


def _window(image: np.ndarray | EncodedImage, view: View, *, size: int) -> np.ndarray:
    """The decoded crop, uint8 (h, w, 3), a slice of the decoded image."""
    crop, factor = view.crop, reduction(view, size=size)
    if isinstance(image, np.ndarray):
        if factor > 1:
            raise DistillError("a view with dct decoding needs the image's file, not decoded pixels")
        source, source_size = image, image.shape[:2]
    else:
        factor = factor if image.is_jpeg else 1
        source, source_size = image.pixels(factor=factor, rows=crop.top + crop.height), image.size
    _check_source(source, source_size, view)
    return source[_reduced(crop.top, crop.height, factor), _reduced(crop.left, crop.width, factor)]


def _reduced(start: int, length: int, factor: int) -> slice:
    """Divided by `factor` and rounded; `draw` has put the ends of all but tiny crops on multiples."""
    half = factor // 2
    return slice((start + half) // factor, (start + length + half) // factor)


def resize(window: np.ndarray, *, size: int, interpolation: str) -> np.ndarray:
    """uint8 (h, w, 3) to uint8 (size, size, 3), C-contiguous, always new memory.

    torch's antialiased uint8 resize: Pillow's filters with 16-bit integer weights, width first; at most 2 grey
    levels from Pillow's where that resizes the width first too.
    """
    if window.shape[:2] == (size, size):
        return np.array(window, order="C")
    # torch's fast path needs a batch axis and channels last in memory.
    pixels_bchw = torch.from_numpy(np.require(window, requirements=["C", "W"]))[None].permute(0, 3, 1, 2)
    resized_bchw = torch.nn.functional.interpolate(
        pixels_bchw, size=(size, size), mode=interpolation, antialias=True, align_corners=False
    )
    return np.ascontiguousarray(resized_bchw[0].permute(1, 2, 0).numpy())


def _check_source(source: np.ndarray, source_size: tuple[int, ...], view: View) -> None:
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
        raise DistillError(f"an image must be uint8 (height, width, 3), got {source.dtype} {source.shape}")
    if source_size != view.source:
        raise DistillError(
            "the view was drawn for an image of height {} and width {}, this one has {} and {}; "
            "is it the image that the seed belongs to?".format(*view.source, *source_size)
        )
