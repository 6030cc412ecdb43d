"""The ways from a JPEG file to augmented pixels that `bench_data.py` compares, each a function of (file, index).

All start from the bytes of a file in memory and end at 224 x 224 pixels after random crop, flip, RandAugment
(strength 9) and random erasing with a chance of 1/4, but for what a row's name leaves out.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
import timm.data.auto_augment
import torch
import torchvision
from PIL import Image
from timm.data import create_transform
from torchvision.transforms import InterpolationMode, v2

from distill.views import ViewSpec, decode, draw, image_size, render

POLICY = "rand-m9-mstd0.5-inc1"
SIZE = 224
ERASE = 0.25

Way = Callable[[int], object]
"""Makes one picture: of file `index` modulo the number of files, with randomness of its own for each index."""

INTERPOLATIONS = (("bicubic", "bilinear"), ("bicubic", "bicubic"), ("bilinear", "bilinear"))
"""Of (resize, operations that move pixels); the first is the default of a ViewSpec."""


def views_spec(*, resize: str = "bicubic", operations: str = "bilinear", **more: object) -> ViewSpec:
    """TinyViT's views."""
    return ViewSpec(interpolation=resize, policy_interpolation=operations, policy=POLICY, erase=ERASE, **more)  # type: ignore[arg-type]


def ours(files: Sequence[bytes]) -> dict[str, Way]:
    """Decoding alone, rendering alone (from decoded pixels), and whole views at each choice of interpolation."""
    sizes = [image_size(data) for data in files]
    pictures = [decode(data) for data in files]
    spec = views_spec()

    def whole(spec: ViewSpec, index: int, size: int = SIZE) -> np.ndarray:
        data = files[index % len(files)]
        return render(data, draw(spec, index, image_size(data)), size=size)

    def rendered(index: int) -> np.ndarray:
        which = index % len(files)
        return render(pictures[which], draw(spec, index, sizes[which]), size=SIZE)

    ways: dict[str, Way] = {
        "decode alone": lambda index: decode(files[index % len(files)]),
        "render alone (decoded pixels in)": rendered,
    }
    for resize, operations in INTERPOLATIONS:
        of = views_spec(resize=resize, operations=operations)
        ways[f"view, {resize} + {operations}"] = lambda index, of=of: whole(of, index)
    for way in ("exact", "dct"):
        of = views_spec(decode=way)
        ways[f"view at 128, {way} decoding"] = lambda index, of=of: whole(of, index, 128)
    return ways


def timms(files: Sequence[bytes]) -> dict[str, Way]:
    """timm's whole transform (float out, erased), and the one for its prefetcher (uint8 out, not erased)."""
    _mend_posterize()
    ways: dict[str, Way] = {}
    for resize, operations in INTERPOLATIONS:
        for name, prefetcher in (("whole", False), ("uint8", True)):
            transform = create_transform(
                SIZE, is_training=True, interpolation=resize, re_prob=ERASE, re_mode="pixel", use_prefetcher=prefetcher,
                auto_augment=None, color_jitter=None,
            )  # fmt: skip
            transform.transforms.insert(2, _timms_policy(operations))
            ways[f"timm {name}, {resize} + {operations}"] = lambda index, transform=transform: transform(
                Image.open(io.BytesIO(files[index % len(files)])).convert("RGB")
            )
    return ways


def torchvisions(files: Sequence[bytes]) -> dict[str, Way]:
    """v2 on uint8 tensors; its RandAugment is another one (14 operations, always two, nearest neighbour)."""
    tensors = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in files]
    ways: dict[str, Way] = {}
    for resize in ("bicubic", "bilinear"):
        transform = v2.Compose(
            [
                v2.RandomResizedCrop(SIZE, interpolation=InterpolationMode(resize), antialias=True),
                v2.RandomHorizontalFlip(),
                v2.RandAugment(num_ops=2, magnitude=9),
                v2.RandomErasing(p=ERASE),
            ]
        )
        ways[f"torchvision v2 uint8, {resize} + nearest"] = lambda index, transform=transform: transform(
            torchvision.io.decode_jpeg(tensors[index % len(tensors)], mode=torchvision.io.ImageReadMode.RGB)
        )
    return ways


def _timms_policy(operations: str) -> object:
    hparams = {
        "translate_const": int(SIZE * 0.45),
        "img_mean": (124, 116, 104),
        "interpolation": Image.Resampling[operations.upper()],
    }
    return timm.data.auto_augment.rand_augment_transform(POLICY, hparams)


def _mend_posterize() -> None:
    """Pillow 13 refuses timm's posterize with 0 bits, 2 % of its draws: keep one bit instead of raising."""
    plain = timm.data.auto_augment.posterize
    timm.data.auto_augment.NAME_TO_OP["PosterizeIncreasing"] = lambda picture, bits, **more: plain(
        picture, max(1, bits), **more
    )
