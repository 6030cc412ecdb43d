"""Draws and renders fixed views and prints the results as JSON; run as a separate process.

    python tests/distill/views/report.py golden                  # the content of golden.json
    python tests/distill/views/report.py digests FOLDER COUNT    # digests of views of the images in FOLDER

`test_golden.py` compares the first with the kept file, `test_stability.py` the second between processes that may use
different CPU instructions. Rewrite golden.json only with a new version of the specs: every stored seed depends on it.
"""

import json
import sys
from base64 import b64decode
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import torch

from distill.views import (
    RandAugment,
    ThreeAugment,
    TrivialAugment,
    ViewSpec,
    decode,
    draw,
    image_size,
    pixel_digest,
    render,
    spec_digest,
)
from distill.views.digest import TINY_JPEG, synthetic_image
from distill.views.randaugment import INCREASING
from distill.views.random import integer, normal, uniform, words

EVERYTHING = ViewSpec(
    interpolation="random",
    policy=RandAugment(layers=3, prob=0.8, magnitude=8.0, magnitude_std=1.5),
    policy_interpolation="random",
    color_jitter=(0.4, 0.4, 0.4),
    erase=0.5,
    erase_count=(1, 3),
)
SPECS = {
    "crop_flip": ViewSpec(),
    "randaugment": ViewSpec(policy=RandAugment(), erase=0.25),
    "everything": EVERYTHING,
    "wide": ViewSpec(policy=TrivialAugment()),
    "three": ViewSpec(policy=ThreeAugment(), color_jitter=(0.3, 0.3, 0.3)),
    "dct": ViewSpec(decode="dct", policy=RandAugment(), erase=0.25),
}
SEEDS = (0, 1, 2, 3, 4, 5, 6, 2**32, 2**53 + 1, 2**63, 2**64 - 1)
SIZES = ((375, 500), (28, 28), (640, 97))


def golden() -> dict[str, object]:
    """Words, numbers, drawn views and digests that must never change under one version of the specs."""
    stream = words(12345, count=6)
    views = [
        {"spec": name, "seed": seed, "view": asdict(draw(spec, seed, size))}
        for name, spec in SPECS.items()
        for seed, size in zip(SEEDS, SIZES * len(SEEDS), strict=False)
    ]
    image = synthetic_image(120, 160)
    digests = {
        name: [pixel_digest(render(image, draw(spec, seed, (120, 160)), size=96)) for seed in range(12)]
        for name, spec in SPECS.items()
    }
    every_operation = [
        pixel_digest(render(image, draw(replace(EVERYTHING, policy=only(name)), 7, (120, 160)), size=64))
        for name in INCREASING
    ]
    return {
        "words": [f"{word:016x}" for word in stream],
        "uniforms": [uniform(word) for word in stream],
        "integers": [integer(word, 1000) for word in stream],
        "normals": [normal(word) for word in stream],
        "views": views,
        "digests": digests,
        "operations": every_operation,
        "spec digests": {name: f"{spec_digest(spec):016x}" for name, spec in SPECS.items()},
        "jpeg": [pixel_digest(decode(b64decode(TINY_JPEG), factor=factor)) for factor in (1, 2, 4, 8)],
    }


def only(name: str) -> RandAugment:
    """A policy that always applies the one operation `name`."""
    return RandAugment(layers=1, prob=1.0, operations=(name,))


def digests(folder: Path, count: int) -> dict[str, object]:
    """Digests of `count` views over the files of `folder`, and which instructions were in use."""
    specs = (EVERYTHING, SPECS["wide"], SPECS["three"], replace(EVERYTHING, decode="dct"))
    files = [path.read_bytes() for path in sorted(folder.iterdir())]
    found = []
    for seed in range(count):
        data = files[seed % len(files)]
        view = draw(specs[seed % len(specs)], seed, image_size(data))
        found.append(pixel_digest(render(data, view, size=(224, 96, 384)[seed % 3])))
    return {
        "digests": found,
        "torch": torch.backends.cpu.get_cpu_capability(),
        "opencv": cv2.getCPUFeaturesLine().split(),
    }


if __name__ == "__main__":
    if sys.argv[1] == "golden":
        print(json.dumps(golden(), indent=1))
    else:
        print(json.dumps(digests(Path(sys.argv[2]), int(sys.argv[3]))))
