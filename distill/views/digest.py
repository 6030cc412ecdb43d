"""One number that says whether this machine and these libraries draw and render a spec's views as others do.

The teacher pass keeps it beside the ViewSpec; a student compares it at its start, before it has read any picture.
It covers decoding, the resize, every operation that the spec can draw, and erasing, on pictures made here by integer
arithmetic: about 20 milliseconds. Proofs of blocks (`proof.py`) show the same for real pictures.
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
from distill.views.view import MOVING, Box, Operation, View

SOURCE = (96, 128)
"""Height and width of the synthetic picture."""
SIZE = 64
WHOLE_VIEWS = 16
CHOICES = 128
"""Words tried on a policy: enough to meet each of up to 64 operations twice."""
STRIDE = 0x9E3779B97F4A7C15
"""Odd, WORD over the golden ratio: its multiples spread evenly over all words."""

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
    picture = synthetic_picture(*SOURCE)
    jpeg = b64decode(TINY_JPEG)
    whole = Box(top=0, left=0, height=SOURCE[0], width=SOURCE[1])
    pixels = [render(jpeg, draw(spec, seed, image_size(jpeg)), size=SIZE >> 4 * (seed % 2)) for seed in range(4)]
    plain = replace(spec, decode="exact", erase=1.0 if spec.erase else 0.0)
    pixels += [render(picture, draw(plain, seed, SOURCE), size=SIZE) for seed in range(WHOLE_VIEWS)]
    for way in INTERPOLATIONS if spec.interpolation == "random" else (spec.interpolation,):
        view = View(source=SOURCE, crop=whole, interpolation=way)
        pixels += [render(picture, view, size=size) for size in (SIZE, 3 * SIZE)]
    for operation in drawable(spec):
        view = View(source=SOURCE, crop=whole, interpolation=INTERPOLATIONS[0], operations=(operation,))
        pixels.append(render(picture, view, size=SIZE))
    return block_proof([pixel_digest(each) for each in pixels])


def drawable(spec: ViewSpec) -> Iterator[Operation]:
    """Every operation that the policy of `spec` can choose, with two of its amounts and each allowed interpolation."""
    seen: dict[str, set[float]] = {}
    for number in range(CHOICES if spec.policy else 0):
        # Choices in even steps, always applied, strength and sign spread over their ranges.
        words = [number * WORD // CHOICES, 0, number * STRIDE % WORD, number % 2 * WORD // 2, 0, 0, 0, 0]
        chosen = spec.policy.choose(words) if spec.policy else None
        if chosen is None or len(seen.setdefault(chosen[0], set())) == 2 or chosen[1] in seen[chosen[0]]:
            continue
        name, amount = chosen
        seen[name].add(amount)
        if name not in MOVING:
            yield Operation(name=name, amount=amount)
            continue
        for way in INTERPOLATIONS if spec.policy_interpolation == "random" else (spec.policy_interpolation,):
            yield Operation(name=name, amount=amount, interpolation=way, fill=spec.fill)


def synthetic_picture(height: int, width: int) -> np.ndarray:
    """uint8 (height, width, 3): slopes, rings and speckle from integer arithmetic alone."""
    row, column = np.mgrid[:height, :width].astype(np.int64)
    slope = (row * 255 // max(1, height - 1) + column * 3) % 256
    rings = ((row - height // 2) ** 2 + (column - width // 3) ** 2) // 64 % 256
    speckle = (row * 2654435761 + column * 40503) // 7 % 256
    return np.stack([slope, rings, (slope + speckle) // 2], axis=-1).astype(np.uint8)


def view_digest(view: ViewSpec) -> str:
    """Digest of a fixed set of synthetic pictures under a ViewSpec: equal wherever its views come out alike."""
    digests = [spec_digest(view), *([mix_digest(view.mix)] if view.mix else [])]
    return "-".join(f"{digest:016x}" for digest in digests)
