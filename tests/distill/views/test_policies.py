"""TrivialAugment and three-augment against torchvision, timm and the papers; the shape of every policy."""

import random
from collections import Counter

import pytest
import torch
import torchvision.transforms.autoaugment as torchvision_policies
from timm.data.auto_augment import auto_augment_policy_3a

from distill.views import RandAugment, ThreeAugment, TrivialAugment, ViewSpec, draw
from distill.views.ops import OPERATIONS
from distill.views.policies import POLICIES
from distill.views.randaugment import MAX_LAYERS
from distill.views.random import words
from distill.views.trivial_augment import BINS, WIDE

SIZE = (375, 500)
MANY = 6000


def torchvisions_space() -> dict[str, tuple[torch.Tensor, bool]]:
    return torchvision_policies.TrivialAugmentWide()._augmentation_space(BINS)


def test_the_wide_space_has_torchvisions_operations():
    assert set(WIDE) == set(torchvisions_space())


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("minus", [False, True])
def test_wide_amounts_are_torchvisions(name, minus):
    magnitudes, signed = torchvisions_space()[name]
    for number in range(BINS):
        expected = float(magnitudes[number]) if magnitudes.ndim else 0.0
        expected = -expected if minus and signed else expected
        amount = WIDE[name](number, minus)
        if name in ("Brightness", "Color", "Contrast", "Sharpness"):
            assert amount == pytest.approx(1 + expected, abs=2**-11 + 1e-6)
        elif name.startswith("Translate"):
            assert amount * 224 == pytest.approx(expected, abs=224 * 2**-17 + 1e-5)
        elif name == "Solarize":  # the same values lie below both thresholds
            assert [value < amount for value in range(256)] == [value < round(expected, 4) for value in range(256)]
        elif name == "Rotate":
            assert amount == pytest.approx(expected, abs=2**-8)
        else:
            assert amount == pytest.approx(expected, abs=2**-16)


def test_trivial_augment_draws_all_evenly():
    spec = ViewSpec(policy="trivialaugment-wide")
    views = [draw(spec, seed, SIZE) for seed in range(MANY)]
    counts = Counter(view.operations[0].name if view.operations else "Identity" for view in views)
    assert set(counts) == set(WIDE)
    expected = MANY / len(WIDE)
    assert (
        sum((count - expected) ** 2 / expected for count in counts.values()) < 41
    )  # 13 degrees of freedom: 1 in 10,000
    only_rotate = ViewSpec(policy=TrivialAugment(operations=("Rotate",)))
    amounts = Counter(draw(only_rotate, seed, SIZE).operations[0].amount for seed in range(MANY))
    assert len(amounts) == 2 * BINS - 1
    assert amounts[0.0] / MANY == pytest.approx(1 / BINS, abs=0.01)
    assert sum(count for amount, count in amounts.items() if amount > 0) / MANY == pytest.approx(0.484, abs=0.025)


def test_three_augment_is_deits():
    spec = ViewSpec(policy=ThreeAugment(), color_jitter=(0.3, 0.3, 0.3))
    views = [draw(spec, seed, SIZE) for seed in range(MANY)]
    first = Counter((view.operations[0].name, view.operations[0].amount) for view in views)
    blurs = sorted(view.operations[0].amount * 224 for view in views if view.operations[0].name == "GaussianBlur")
    assert first[("Color", 0.0)] / MANY == pytest.approx(1 / 3, abs=0.025)
    assert first[("Solarize", 128.0)] / MANY == pytest.approx(1 / 3, abs=0.025)
    assert len(blurs) / MANY == pytest.approx(1 / 3, abs=0.025)
    assert all({each.name for each in view.operations[1:]} == {"Brightness", "Contrast", "Color"} for view in views)
    assert all(0.7 - 2**-10 <= each.amount <= 1.3 + 2**-10 for view in views for each in view.operations[1:])

    random.seed(0)
    theirs: list[float] = []
    ((solarize,), (grey,), (blur,)) = auto_augment_policy_3a({"translate_const": 100, "img_mean": (0, 0, 0)})
    blur.aug_fn = lambda image, factor, **more: theirs.append(random.uniform(0.1, 2.0 * factor))
    for _ in range(2000):
        blur(None)
    assert solarize.level_fn(5, {}) == (128,)
    assert grey.level_fn(10, {}) == (1.0,)  # desaturate by all
    theirs.sort()
    quantiles = [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99]
    ours = [blurs[int(q * len(blurs))] for q in quantiles]
    assert ours == pytest.approx([theirs[int(q * len(theirs))] for q in quantiles], abs=0.12)


@pytest.mark.parametrize("kind", POLICIES)
def test_every_policy_draws_known_operations(kind):
    policy = POLICIES[kind]()
    assert policy.kind == kind
    assert 1 <= policy.layers <= MAX_LAYERS
    drawn = [policy.choose(words(seed, count=8)) for seed in range(400)]
    assert {each[0] for each in drawn if each is not None} <= set(OPERATIONS)
    assert policy.choose(words(5, count=8)) == policy.choose(words(5, count=8))


def test_a_policy_that_is_never_applied_draws_nothing():
    assert draw(ViewSpec(policy=RandAugment(prob=0.0)), 3, SIZE).operations == ()
