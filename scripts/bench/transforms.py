"""The transforms that `bench_data.py` compares: from a JPEG file to augmented pixels, each a function of an index.

All start from the bytes of a file in memory and end at 224 x 224 pixels after random crop, flip, RandAugment
(magnitude 9) and random erasing with a probability of 1/4, except where a row's name says less.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import timm.data.auto_augment
import torch
import torchvision
from PIL import Image
from timm.data import create_transform
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from distill.views import ViewSpec, decode, draw, image_size, render

POLICY = "rand-m9-mstd0.5-inc1"
SIZE = 224
ERASE = 0.25

Transform = Callable[[int], object]
"""Makes one augmented image of file `index` modulo the number of files; each index has its own randomness."""

INTERPOLATIONS = (("bicubic", "bilinear"), ("bicubic", "bicubic"), ("bilinear", "bilinear"))
"""Of (resize, geometric operations); the first is the default of a ViewSpec."""


def views_spec(*, resize: str = "bicubic", operations: str = "bilinear", **more: object) -> ViewSpec:
    """TinyViT's views."""
    return ViewSpec(interpolation=resize, policy_interpolation=operations, policy=POLICY, erase=ERASE, **more)  # type: ignore[arg-type]


def ours(files: Sequence[bytes]) -> dict[str, Transform]:
    """Decoding alone, rendering alone (from decoded pixels), and whole views at each choice of interpolation."""
    sizes = [image_size(data) for data in files]
    pixels = [decode(data) for data in files]
    spec = views_spec()

    def whole(spec: ViewSpec, index: int, size: int = SIZE) -> np.ndarray:
        data = files[index % len(files)]
        return render(data, draw(spec, index, image_size(data)), size=size)

    def rendered(index: int) -> np.ndarray:
        file = index % len(files)
        return render(pixels[file], draw(spec, index, sizes[file]), size=SIZE)

    transforms: dict[str, Transform] = {
        "decode alone": lambda index: decode(files[index % len(files)]),
        "render alone (decoded pixels in)": rendered,
    }
    for resize, operations in INTERPOLATIONS:
        one = views_spec(resize=resize, operations=operations)
        transforms[f"view, {resize} + {operations}"] = partial(whole, one)
    for method in ("exact", "dct"):
        transforms[f"view at 128, {method} decoding"] = partial(whole, views_spec(decode=method), size=128)
    return transforms


def timms(files: Sequence[bytes]) -> dict[str, Transform]:
    """timm's whole transform (float out, erased), and the one for its prefetcher (uint8 out, not erased)."""
    fix_posterize()
    transforms: dict[str, Transform] = {}
    for resize, operations in INTERPOLATIONS:
        for name, prefetcher in (("whole", False), ("uint8", True)):
            transform = create_transform(
                SIZE, is_training=True, interpolation=resize, re_prob=ERASE, re_mode="pixel", use_prefetcher=prefetcher,
                auto_augment=None, color_jitter=None,  # type: ignore[arg-type]  # None: no jitter.
            )  # fmt: skip
            transform.transforms.insert(2, _timms_policy(operations))
            transforms[f"timm {name}, {resize} + {operations}"] = partial(_by_timm, transform, files)
    return transforms


def torchvisions(files: Sequence[bytes]) -> dict[str, Transform]:
    """v2 on uint8 tensors; its RandAugment is another one (14 operations, always two, nearest neighbour)."""
    tensors = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in files]
    transforms: dict[str, Transform] = {}
    for resize in ("bicubic", "bilinear"):
        transform = v2.Compose(
            [
                v2.RandomResizedCrop(SIZE, interpolation=InterpolationMode(resize), antialias=True),
                v2.RandomHorizontalFlip(),
                v2.RandAugment(num_ops=2, magnitude=9),
                v2.RandomErasing(p=ERASE),
            ]
        )
        transforms[f"torchvision v2 uint8, {resize} + nearest"] = partial(_by_torchvision, transform, tensors)
    return transforms


def _by_timm(transform: Callable[[Image.Image], object], files: Sequence[bytes], index: int) -> object:
    return transform(Image.open(io.BytesIO(files[index % len(files)])).convert("RGB"))


def _by_torchvision(transform: Callable[[Tensor], object], files: Sequence[Tensor], index: int) -> object:
    return transform(torchvision.io.decode_jpeg(files[index % len(files)], mode=torchvision.io.ImageReadMode.RGB))


def _timms_policy(operations: str) -> object:
    hparams = {
        "translate_const": int(SIZE * 0.45),
        "img_mean": (124, 116, 104),
        "interpolation": Image.Resampling[operations.upper()],
    }
    return timm.data.auto_augment.rand_augment_transform(POLICY, hparams)


def fix_posterize() -> None:
    """Pillow 13 refuses timm's posterize with 0 bits, 2 % of its draws: keep one bit instead of raising."""
    plain = timm.data.auto_augment.posterize
    timm.data.auto_augment.NAME_TO_OP["PosterizeIncreasing"] = lambda image, bits, **more: plain(
        image, max(1, bits), **more
    )
