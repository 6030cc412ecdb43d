import io

import numpy as np
import pytest
from PIL import Image
from timm.data import create_transform

from distill.errors import DamagedImage, DistillError
from distill.views import EvalSpec, eval_pixels

SIZES = [(375, 500), (500, 375), (262, 451), (300, 300), (28, 28), (1, 1), (2, 90), (97, 640), (1023, 31)]
RANDOM = np.random.default_rng(15)


def timms(image: Image.Image, *, size: int, crop: float, interpolation: str) -> np.ndarray:
    transform = create_transform(size, interpolation=interpolation, crop_pct=crop, use_prefetcher=True)
    return np.asarray(transform(image)).transpose(1, 2, 0)


@pytest.mark.parametrize("size", [32, 224, 235])
@pytest.mark.parametrize(("crop", "interpolation"), [(0.875, "bicubic"), (1.0, "bilinear"), (0.95, "bicubic")])
def test_pixels_equal_timms(size: int, crop: float, interpolation: str) -> None:
    spec = EvalSpec(crop=crop, interpolation=interpolation)
    drawn = [tuple(RANDOM.integers(20, 600, 2).tolist()) for _ in range(6)]
    for shape in SIZES + drawn:
        image = RANDOM.integers(0, 256, (*shape, 3), dtype=np.uint8)
        expected = timms(Image.fromarray(image), size=size, crop=crop, interpolation=interpolation)
        pixels = eval_pixels(image, spec, size=size)
        assert (pixels == expected).all(), shape
        assert pixels.flags.c_contiguous and pixels.flags.owndata


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_files_give_the_pixels_that_pillow_gives(kind: str, photographs: list[np.ndarray]) -> None:
    for photograph in photographs:
        file = io.BytesIO()
        Image.fromarray(photograph).save(file, kind)
        with Image.open(file) as image:
            expected = timms(image.convert("RGB"), size=224, crop=0.875, interpolation="bicubic")
        assert (eval_pixels(file.getvalue(), EvalSpec(), size=224) == expected).all()


def test_the_whole_image_as_a_square() -> None:
    image = RANDOM.integers(0, 256, (40, 70, 3), dtype=np.uint8)
    expected = Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC)
    assert (eval_pixels(image, EvalSpec(full=True), size=32) == np.asarray(expected)).all()


def test_long_images_take_no_more_memory_than_their_crop() -> None:
    image = np.full((3, 90_000, 3), 9, np.uint8)
    assert (eval_pixels(image, EvalSpec(), size=224) == 9).all()
    assert eval_pixels(image.transpose(1, 0, 2), EvalSpec(), size=32).shape == (32, 32, 3)


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(DamagedImage):
        eval_pixels(b"nothing", EvalSpec(), size=32)
    for shape in ((4, 4), (0, 4, 3), (4, 4, 4)):
        with pytest.raises(DistillError, match="uint8"):
            eval_pixels(np.zeros(shape, np.uint8), EvalSpec(), size=32)
