"""Drawn parameters: pure, in bounds, and distributed as timm draws them."""

import math
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import timm.data.auto_augment as reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation
from torchvision.transforms import ColorJitter

from distill.errors import DistillError
from distill.views import RandAugment, ViewSpec, draw
from distill.views.randaugment import INCREASING
from distill.views.view import GEOMETRIC, RELATIVE

SIZE = (375, 500)
FULL = ViewSpec(policy=RandAugment(), color_jitter=(0.4, 0.4, 0.4), erase=0.5, erase_count=(1, 4))

# Largest distance between two empirical distributions of n = 4,000 each that chance exceeds once in about 10,000.
LARGEST_DISTANCE = 2.23 * math.sqrt(2 / 4000)


def distance(ours: list[float], theirs: list[float]) -> float:
    """The two-sample Kolmogorov-Smirnov statistic."""
    values = np.sort(np.concatenate([ours, theirs]))
    first, second = np.sort(ours), np.sort(theirs)
    below_first = np.searchsorted(first, values, side="right") / len(first)
    below_second = np.searchsorted(second, values, side="right") / len(second)
    return float(np.abs(below_first - below_second).max())


def test_draw_is_a_pure_function():
    first = [draw(FULL, seed, SIZE) for seed in range(50)]
    np.random.seed(0)  # noqa: NPY002 (the global state that must not matter)
    random.seed(0)
    torch.manual_seed(0)
    assert [draw(FULL, seed, SIZE) for seed in reversed(range(50))] == first[::-1]
    assert len(set(first)) == 50


def test_parameters_do_not_shift_each_other():
    for seed in range(30):
        full, plain = draw(FULL, seed, SIZE), draw(ViewSpec(), seed, SIZE)
        assert (full.crop, full.flip) == (plain.crop, plain.flip)
        more = draw(replace(FULL, policy=RandAugment(layers=4)), seed, SIZE)
        assert more.erase == full.erase
        assert more.operations[-3:] == full.operations[-3:]
        policy = draw(replace(FULL, color_jitter=(0, 0, 0)), seed, SIZE).operations
        assert more.operations[: len(policy)] == policy


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(1, 3000), st.integers(1, 3000))
def test_every_view_lies_inside_the_image(seed, height, width):
    view = draw(FULL, seed, (height, width))
    crop = view.crop
    assert min(crop.height, crop.width) >= 1
    assert 0 <= crop.top <= height - crop.height
    assert 0 <= crop.left <= width - crop.width
    for erased in view.erase:
        assert min(erased.box.height, erased.box.width) >= 1
        assert 0 <= erased.box.top <= RELATIVE - erased.box.height
        assert 0 <= erased.box.left <= RELATIVE - erased.box.width


def test_an_image_without_pixels_is_refused():
    with pytest.raises(DistillError, match="height 0"):
        draw(ViewSpec(), 1, (0, 5))


@pytest.mark.parametrize("size", [SIZE, (600, 150), (100, 1000)])
def test_crops_are_distributed_as_timms(size):
    random.seed(1)
    image = Image.new("L", (size[1], size[0]))
    theirs = [RandomResizedCropAndInterpolation.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(4000)]
    crops = [draw(ViewSpec(), seed, size).crop for seed in range(4000)]
    ours = [(crop.top, crop.left, crop.height, crop.width) for crop in crops]
    features = {
        "area": lambda top, left, height, width: height * width,
        "ratio": lambda top, left, height, width: width / height,
        "top": lambda top, left, height, width: top,
        "left": lambda top, left, height, width: left,
    }
    for name, feature in features.items():
        found = distance([feature(*crop) for crop in ours], [feature(*crop) for crop in theirs])
        assert found < LARGEST_DISTANCE, name


class Canvas:
    """Stands in for a tensor and notes which box is written to."""

    dtype = torch.float32

    def __init__(self, side: int) -> None:
        self.side = side

    def size(self) -> tuple[int, int, int]:
        return 3, self.side, self.side

    def __setitem__(self, where: tuple[slice, slice, slice], value: torch.Tensor) -> None:
        _, rows, columns = where
        self.box = (rows.stop - rows.start, columns.stop - columns.start, rows.start, columns.start)


def test_erased_boxes_are_distributed_as_timms():
    random.seed(2)
    side = 224
    eraser = RandomErasing(probability=1.0, mode="const", device="cpu")
    theirs = []
    for _ in range(4000):
        canvas = Canvas(side)
        eraser(canvas)
        theirs.append(canvas.box)
    spec = ViewSpec(erase=1.0)
    boxes = [draw(spec, seed, SIZE).erase[0].box for seed in range(4000)]
    ours = [[part * side / RELATIVE for part in (box.height, box.width, box.top, box.left)] for box in boxes]
    for which, name in enumerate(("height", "width", "top", "left")):
        found = distance([round(box[which]) for box in ours], [box[which] for box in theirs])
        assert found < LARGEST_DISTANCE, name


def test_probabilities():
    views = [draw(replace(FULL, erase=0.25), seed, SIZE) for seed in range(4000)]
    assert sum(view.flip for view in views) / 4000 == pytest.approx(0.5, abs=0.03)
    assert sum(bool(view.erase) for view in views) / 4000 == pytest.approx(0.25, abs=0.03)
    counts = Counter(len(view.erase) for view in views if view.erase)
    assert all(counts[number] / sum(counts.values()) == pytest.approx(0.25, abs=0.06) for number in (1, 2, 3, 4))
    applied = Counter(len(view.operations) - 3 for view in views)
    assert [applied[number] / 4000 for number in (0, 1, 2)] == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_operations_are_chosen_equally_often_and_signs_are_even():
    spec = ViewSpec(policy=RandAugment(layers=2, prob=1.0))
    operations = [each for seed in range(6000) for each in draw(spec, seed, SIZE).operations]
    counts = Counter(operation.name for operation in operations)
    assert set(counts) == {operation for operation, _ in INCREASING.values()}
    chi_square = sum((count - 800) ** 2 / 800 for count in counts.values())
    assert chi_square < 42  # 14 degrees of freedom: chance exceeds it once in about 10,000
    rotations = [operation.amount for operation in operations if operation.name == "Rotate"]
    assert sum(amount > 0 for amount in rotations) / len(rotations) == pytest.approx(0.5, abs=0.07)


def test_strengths_are_normal_and_cut_at_ten():
    spec = ViewSpec(policy=RandAugment(layers=1, prob=1.0, operations=("ShearX",)))
    strengths = [abs(draw(spec, seed, SIZE).operations[0].amount) / 0.3 * 10 for seed in range(4000)]
    random.seed(3)
    theirs = [min(10.0, max(0.0, random.gauss(9, 0.5))) for _ in range(4000)]
    assert distance([round(s, 2) for s in strengths], [round(s, 2) for s in theirs]) < LARGEST_DISTANCE
    assert max(strengths) == pytest.approx(10, abs=1e-3)


@pytest.mark.parametrize("name", INCREASING)
@pytest.mark.parametrize("minus", [False, True])
def test_amounts_are_timms(name, minus, monkeypatch):
    """timm's own function from strength to argument, for the whole range of strengths."""
    monkeypatch.setattr(reference.random, "random", lambda: 0.75 if minus else 0.25)
    level_to_argument = reference.LEVEL_TO_ARG[name]
    operation, amount_of = INCREASING[name]
    step = {"Rotate": 1 / 256, "ShearX": 2**-17, "ShearY": 2**-17, "TranslateX": 2**-17, "TranslateY": 2**-17}
    for hundredths in range(1001):
        strength = hundredths / 100
        if level_to_argument is None:
            assert amount_of(strength, minus) == 0
        else:
            (expected,) = level_to_argument(strength, {})
            assert amount_of(strength, minus) == pytest.approx(expected, abs=step.get(operation, 2**-11), rel=0)


def test_jitter_comes_in_every_order_with_factors_in_range():
    spec = ViewSpec(color_jitter=(0.4, 0.2, 0.0))
    drawn = [draw(spec, seed, SIZE).operations for seed in range(1000)]
    orders = Counter(tuple(operation.name for operation in operations) for operations in drawn)
    assert set(orders) == {("Brightness", "Contrast"), ("Contrast", "Brightness")}
    assert min(orders.values()) > 400
    contrast = [operation.amount for operations in drawn for operation in operations if operation.name == "Contrast"]
    assert min(contrast) >= 0.8 - 2**-11
    assert max(contrast) <= 1.2 + 2**-11
    assert np.mean(contrast) == pytest.approx(1, abs=0.02)


def test_jitter_factors_are_torchvisions():
    torch.manual_seed(4)
    jitter = ColorJitter(0.4, 0.3, 0.2)
    arguments = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    theirs = [ColorJitter.get_params(*arguments)[1:4] for _ in range(4000)]
    spec = ViewSpec(color_jitter=(0.4, 0.3, 0.2))
    drawn = [{each.name: each.amount for each in draw(spec, seed, SIZE).operations} for seed in range(4000)]
    for which, name in enumerate(("Brightness", "Contrast", "Color")):
        ours = [operations[name] for operations in drawn]
        assert distance(ours, [factors[which] for factors in theirs]) < LARGEST_DISTANCE, name


@pytest.mark.parametrize("count", [2, 3])
def test_several_erased_boxes_share_the_area_as_timms(count):
    random.seed(5)
    eraser = RandomErasing(probability=1.0, mode="const", min_count=count, max_count=count, device="cpu")
    theirs = []
    for _ in range(4000):
        canvas = Canvas(224)
        eraser(canvas)
        theirs.append(canvas.box)
    spec = ViewSpec(erase=1.0, erase_count=(count, count))
    drawn = [draw(spec, seed, SIZE).erase for seed in range(4000)]
    assert {len(boxes) for boxes in drawn} == {count}
    ours = [(boxes[-1].box.height * 224 / RELATIVE, boxes[-1].box.width * 224 / RELATIVE) for boxes in drawn]
    features = {"area": lambda box: round(box[0]) * round(box[1]), "ratio": lambda box: round(box[0]) / round(box[1])}
    for name, feature in features.items():
        found = distance([feature(box) for box in ours], [feature(box) for box in theirs])
        assert found < LARGEST_DISTANCE, name


def test_interpolation_is_explicit():
    spec = ViewSpec(interpolation="random", policy=RandAugment(prob=1.0), policy_interpolation="random", fill=(1, 2, 3))
    views = [draw(spec, seed, SIZE) for seed in range(400)]
    assert {view.interpolation for view in views} == {"bilinear", "bicubic"}
    geometric = [each for view in views for each in view.operations if each.name in GEOMETRIC]
    assert {each.interpolation for each in geometric} == {"bilinear", "bicubic"}
    assert {each.fill for each in geometric} == {(1, 2, 3)}
    assert {each.interpolation for view in views for each in view.operations if each.name not in GEOMETRIC} == {""}


def test_full_crop_is_the_whole_image():
    crop = draw(ViewSpec(crop="full"), 5, SIZE).crop
    assert (crop.top, crop.left, crop.height, crop.width) == (0, 0, 375, 500)
