"""A digest of a spec's views: equal on two machines that draw and render them alike.

The teacher pass stores it beside the ViewSpec; a student compares it before it reads any image. It covers decoding, the
resize, every operation that the spec can draw, and erasing, on synthetic images made by integer arithmetic, and takes
about 20 milliseconds. Proofs of blocks (`proof.py`) do the same for real images.
"""

from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from distill.views.decode import image_size
from distill.views.draw import draw
from distill.views.mix import mix_digest
from distill.views.proof import block_proof, pixel_digest
from distill.views.random import WORD
from distill.views.render import render
from distill.views.spec import INTERPOLATIONS, ViewSpec
from distill.views.view import GEOMETRIC, Box, Operation, View

SOURCE = (96, 128)
"""Height and width of the synthetic image."""
SIZE = 64
WHOLE_VIEWS = 16
CHOICES = 128
"""Policy words tried: enough to draw each of up to 64 operations twice."""
STRIDE = 0x9E3779B97F4A7C15
"""WORD over the golden ratio, odd: its multiples are uniform over all words."""

# 24 x 16 pixels, 4:2:0, made once.
TINY_JPEG = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxO"
    "UlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09P"
    "T09PT09PT0//wAARCAAQABgDASIAAhEBAxEB/8QAGAAAAgMAAAAAAAAAAAAAAAAAAAMCBQb/xAAlEAABAwMDAwUAAAAAAAAAAAAB"
    "AAIRAwQhBTFBEhNRUmGR4fD/xAAWAQEBAQAAAAAAAAAAAAAAAAAFAAH/xAAfEQABAwMFAAAAAAAAAAAAAAABAAIDESGBBBITFDL/"
    "2gAMAwEAAhEDEQA/AMI2z4jfZObaZGP0qwe61og9yvTBaYIDpIz4GUt2oWTI6euoD6W7fMJjaAnerBH6cBlIZae2UKbtVAns2pOM"
    "Oe6OOR9oVyNZZYXaUWrXC//Z"
)


def spec_digest(spec: ViewSpec) -> int:
    """The digest of a fixed set of renders of `spec`: uint64, never 0."""
    image = synthetic_image(*SOURCE)
    jpeg = b64decode(TINY_JPEG)
    whole = Box(top=0, left=0, height=SOURCE[0], width=SOURCE[1])
    pixels = [render(jpeg, draw(spec, seed, image_size(jpeg)), size=SIZE >> 4 * (seed % 2)) for seed in range(4)]
    plain = replace(spec, decode="exact", erase=1.0 if spec.erase else 0.0)
    pixels += [render(image, draw(plain, seed, SOURCE), size=SIZE) for seed in range(WHOLE_VIEWS)]
    for name in INTERPOLATIONS if spec.interpolation == "random" else (spec.interpolation,):
        view = View(source=SOURCE, crop=whole, interpolation=name)
        pixels += [render(image, view, size=size) for size in (SIZE, 3 * SIZE)]
    for operation in drawable(spec):
        view = View(source=SOURCE, crop=whole, interpolation=INTERPOLATIONS[0], operations=(operation,))
        pixels.append(render(image, view, size=SIZE))
    return block_proof([pixel_digest(rendered) for rendered in pixels])


def drawable(spec: ViewSpec) -> Iterator[Operation]:
    """Every operation that the policy of `spec` can draw, with two of its amounts and each allowed interpolation."""
    seen: dict[str, set[float]] = {}
    for number in range(CHOICES if spec.policy else 0):
        # Operations in equal steps, always applied, strength and sign over their whole ranges.
        words = [number * WORD // CHOICES, 0, number * STRIDE % WORD, number % 2 * WORD // 2, 0, 0, 0, 0]
        drawn = spec.policy.choose(words) if spec.policy else None
        if drawn is None or len(seen.setdefault(drawn[0], set())) == 2 or drawn[1] in seen[drawn[0]]:
            continue
        name, amount = drawn
        seen[name].add(amount)
        if name not in GEOMETRIC:
            yield Operation(name=name, amount=amount)
            continue
        for interpolation in INTERPOLATIONS if spec.policy_interpolation == "random" else (spec.policy_interpolation,):
            yield Operation(name=name, amount=amount, interpolation=interpolation, fill=spec.fill)


def synthetic_image(height: int, width: int) -> np.ndarray:
    """uint8 (height, width, 3): gradients, rings and speckle, by integer arithmetic alone."""
    row, column = np.mgrid[:height, :width].astype(np.int64)
    slope = (row * 255 // max(1, height - 1) + column * 3) % 256
    rings = ((row - height // 2) ** 2 + (column - width // 3) ** 2) // 64 % 256
    speckle = (row * 2654435761 + column * 40503) // 7 % 256
    return np.stack([slope, rings, (slope + speckle) // 2], axis=-1).astype(np.uint8)


def view_digest(view: ViewSpec) -> str:
    """Digest of fixed synthetic images under a ViewSpec, mixing included: equal where all its views are equal."""
    digests = [spec_digest(view), *([mix_digest(view.mix)] if view.mix else [])]
    return "-".join(f"{digest:016x}" for digest in digests)
