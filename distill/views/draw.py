"""From a seed to the parameters of a view.

`draw` is a pure function of (spec, seed, image size). Each parameter reads the word at a fixed position of stream
(seed, PARAMETERS), listed below, so a change to one parameter shifts no other; words of parameters that a spec does
not use are not read. Positions never change their meaning; new parameters take unused ones, or positions at the end.

    word            what
    0 + 4a          crop attempt a = 0..9: area, ratio, top, left
    40              interpolation of the resize
    41              flip
    48 + 8l         policy layer l = 0..7: operation, applied or not, strength, sign, interpolation
    112             colour jitter: brightness, contrast, saturation, (113 .. 114), order (116)
    120             erase or not
    121             number of boxes
    122 + b         noise key of box b = 0..3
    128 + 40b + 4a  box b, attempt a = 0..9: area, ratio, top, left
"""

import math
from itertools import permutations

from distill.errors import DistillError
from distill.views.randaugment import FACTOR_GRID
from distill.views.random import bernoulli, integer, log_uniform, to_grid, uniform, words
from distill.views.spec import INTERPOLATIONS, Range, ViewSpec
from distill.views.view import GEOMETRIC, RELATIVE, Box, Erase, Operation, View

PARAMETERS = 0
"""Domain of the parameters' stream."""

ATTEMPTS = 10
CROP, INTERPOLATION, FLIP = 0, 40, 41
LAYERS, WORDS_PER_LAYER, INTERPOLATION_IN_LAYER = 48, 8, 4
JITTER, JITTER_ORDER = 112, 116
ERASE, ERASE_COUNT, ERASE_KEYS = 120, 121, 122
ERASE_BOXES, WORDS_PER_BOX = 128, 40
NUM_WORDS = 288

AREA_GRID = 1 << 24
RATIO_GRID = 1 << 16

SNAP = 8
"""The largest reduction of decoding."""
MIN_SNAPPED_SIDE = 8 * SNAP

JITTERED = ("Brightness", "Contrast", "Color")
JITTER_ORDERS = tuple(permutations(range(3)))


def draw(spec: ViewSpec, seed: int, size: tuple[int, int]) -> View:
    """The view of an image of `size` (height, width) in pixels for `seed`, 0 <= seed < 2**64.

    **Raises:** `DistillError` for an image without pixels; `ValueError` for a seed out of range.
    """
    stream = words(seed, domain=PARAMETERS, count=ERASE_BOXES)
    if bernoulli(stream[ERASE], spec.erase):
        stream = words(seed, domain=PARAMETERS, count=NUM_WORDS)
    source = _checked(size)
    return View(
        source=source,
        decode=spec.decode,
        crop=_crop(spec, stream, source),
        interpolation=_interpolation(spec.interpolation, stream[INTERPOLATION]),
        flip=bernoulli(stream[FLIP], spec.flip),
        operations=(*_policy_operations(spec, stream), *_jitter_operations(spec, stream)),
        erase=_erase_boxes(spec, stream),
    )


def _checked(size: tuple[int, int]) -> tuple[int, int]:
    height, width = int(size[0]), int(size[1])
    if height < 1 or width < 1:
        raise DistillError(f"an image of height {height} and width {width} has no views")
    return height, width


def _whole(source: tuple[int, int]) -> Box:
    return Box(top=0, left=0, height=source[0], width=source[1])


def _interpolation(setting: str, word: int) -> str:
    return INTERPOLATIONS[integer(word, len(INTERPOLATIONS))] if setting == "random" else setting


def _area_and_ratio(stream: list[int], at: int, *, area: Range, ratio: Range) -> tuple[float, float]:
    return (
        to_grid(uniform(stream[at], *area), AREA_GRID),
        to_grid(log_uniform(stream[at + 1], *ratio), RATIO_GRID),
    )


def _crop(spec: ViewSpec, stream: list[int], source: tuple[int, int]) -> Box:
    box = _random_crop(spec, stream, source) if spec.crop == "random" else _whole(source)
    if spec.decode == "exact" or min(box.height, box.width) < MIN_SNAPPED_SIDE:
        return box
    (top, bottom), (left, right) = _snap(box.top, box.height, source[0]), _snap(box.left, box.width, source[1])
    return Box(top=top, left=left, height=bottom - top, width=right - left)


def _snap(start: int, length: int, side: int) -> tuple[int, int]:
    """Start and end rounded to multiples of SNAP, which are whole pixels at every reduction of decoding."""
    first, last = ((end + SNAP // 2) // SNAP * SNAP for end in (start, start + length))
    return first, side if start + length == side else min(last, side)


def _random_crop(spec: ViewSpec, stream: list[int], source: tuple[int, int]) -> Box:
    """Random resized crop (Szegedy et al., "Going deeper with convolutions", CVPR 2015, section 6).

    If none of ten draws of area and ratio fits into the image: the largest central box with an allowed ratio.
    """
    height, width = source
    for at in range(CROP, CROP + 4 * ATTEMPTS, 4):
        fraction, ratio = _area_and_ratio(stream, at, area=spec.scale, ratio=spec.ratio)
        box_height = max(1, round(math.sqrt(fraction * (height * width) / ratio)))
        box_width = max(1, round(math.sqrt(fraction * (height * width) * ratio)))
        if box_height <= height and box_width <= width:
            top = integer(stream[at + 2], height - box_height + 1)
            left = integer(stream[at + 3], width - box_width + 1)
            return Box(top=top, left=left, height=box_height, width=box_width)
    box_height = min(height, max(1, round(width / spec.ratio[0])))
    box_width = min(width, max(1, round(height * spec.ratio[1])))
    top, left = (height - box_height) // 2, (width - box_width) // 2
    return Box(top=top, left=left, height=box_height, width=box_width)


def _policy_operations(spec: ViewSpec, stream: list[int]) -> list[Operation]:
    operations = []
    for layer in range(spec.policy.layers if spec.policy else 0):
        in_layer = stream[LAYERS + layer * WORDS_PER_LAYER :][:WORDS_PER_LAYER]
        drawn = spec.policy.choose(in_layer) if spec.policy else None
        if drawn is None:
            continue
        name, amount = drawn
        if name in GEOMETRIC:
            interpolation = _interpolation(spec.policy_interpolation, in_layer[INTERPOLATION_IN_LAYER])
            operations.append(Operation(name=name, amount=amount, interpolation=interpolation, fill=spec.fill))
        else:
            operations.append(Operation(name=name, amount=amount))
    return operations


def _jitter_operations(spec: ViewSpec, stream: list[int]) -> list[Operation]:
    if not any(spec.color_jitter):
        return []
    operations = []
    for index in JITTER_ORDERS[integer(stream[JITTER_ORDER], len(JITTER_ORDERS))]:
        width = spec.color_jitter[index]
        factor = uniform(stream[JITTER + index], max(0.0, 1.0 - width), 1.0 + width)
        if width:
            operations.append(Operation(name=JITTERED[index], amount=to_grid(factor, FACTOR_GRID)))
    return operations


def _erase_boxes(spec: ViewSpec, stream: list[int]) -> tuple[Erase, ...]:
    """Random erasing (Zhong et al., arXiv 1708.04896); boxes are relative to the output's side."""
    if not bernoulli(stream[ERASE], spec.erase):
        return ()
    low, high = spec.erase_count
    count = low + integer(stream[ERASE_COUNT], high - low + 1)
    starts = (ERASE_BOXES + WORDS_PER_BOX * b for b in range(count))
    boxes = [_erase_box(spec, stream, at=at, scale=1 / count) for at in starts]
    return tuple(
        Erase(box=box, mode=spec.erase_mode, mean=spec.fill, std=spec.noise_std, key=stream[ERASE_KEYS + b])
        for b, box in enumerate(boxes)
        if box is not None
    )


def _erase_box(spec: ViewSpec, stream: list[int], *, at: int, scale: float) -> Box | None:
    """**Arguments:** `scale`: what the area is multiplied by."""
    for word in range(at, at + WORDS_PER_BOX, 4):
        area, ratio = _area_and_ratio(stream, word, area=spec.erase_area, ratio=spec.erase_ratio)
        height = round(math.sqrt(area * scale * ratio) * RELATIVE)
        width = round(math.sqrt(area * scale / ratio) * RELATIVE)
        if 0 < height < RELATIVE and 0 < width < RELATIVE:
            top = integer(stream[word + 2], RELATIVE - height + 1)
            left = integer(stream[word + 3], RELATIVE - width + 1)
            return Box(top=top, left=left, height=height, width=width)
    return None
