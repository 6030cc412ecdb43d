"""Mixup and cutmix: the draws' distribution, the pairing, and the mixed pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import UsageError
from distill.views import (
    Mixing,
    MixSpec,
    ViewSpec,
    describe_mix,
    draw_mix,
    mix_digest,
    mix_pixels,
    own_weight,
    pair_order,
)  # fmt: skip
from distill.views import mix as mix_module
from distill.views.mix import BETA_GRID, symmetric_beta
from distill.views.random import words
from distill.views.view import RELATIVE, Box


def ks_distance(sample: np.ndarray, other: np.ndarray) -> float:
    """The largest distance between two empirical distribution functions."""
    both = np.concatenate([sample, other])
    ours = np.searchsorted(np.sort(sample), both, side="right") / len(sample)
    theirs = np.searchsorted(np.sort(other), both, side="right") / len(other)
    return float(np.abs(ours - theirs).max())


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0, 2.5, 16.0])
def test_weights_have_the_beta_distribution(alpha: float) -> None:
    ours = np.array([symmetric_beta(words(seed, count=132, domain=2)[4:], alpha) for seed in range(4000)])
    theirs = np.round(np.random.default_rng(0).beta(alpha, alpha, 100_000) * BETA_GRID)
    assert ks_distance(ours, theirs) < 1.63 * np.sqrt(1 / 4000 + 1 / 100_000)  # 1 % level


def test_the_kinds_come_as_often_as_asked() -> None:
    spec = MixSpec(mixup_alpha=0.8, cutmix_alpha=1.0, prob=0.75, switch_prob=0.4)
    kinds = [mixing.kind if (mixing := draw_mix(spec, seed)) else "none" for seed in range(4000)]
    for kind, prob in (("none", 0.25), ("cutmix", 0.3), ("mixup", 0.45)):
        assert kinds.count(kind) / 4000 == pytest.approx(prob, abs=4 * np.sqrt(prob * (1 - prob) / 4000))
    only = MixSpec(mixup_alpha=0, cutmix_alpha=1.0, switch_prob=0.0)
    always = [draw_mix(only, seed) for seed in range(50)]
    assert {mixing.kind if mixing else "none" for mixing in always} == {"cutmix"}


def test_cutmix_boxes_are_as_timm_draws_them() -> None:
    """Centre uniform, sides sqrt(1 - beta), clipped: the covered area against a simulation."""
    random = np.random.default_rng(1)
    spec = MixSpec(mixup_alpha=0, cutmix_alpha=1.0)
    ours = np.array([1 - own_weight(mixing, size=224) for seed in range(4000) if (mixing := draw_mix(spec, seed))])
    side = np.sqrt(1 - random.beta(1, 1, 100_000))
    spans = []
    for _ in range(2):
        centre = random.uniform(0, 1, 100_000)
        spans.append(np.clip(centre + side / 2, 0, 1) - np.clip(centre - side / 2, 0, 1))
    assert ks_distance(ours, spans[0] * spans[1]) < 0.04


@given(seed=st.integers(0, 2**64 - 1), length=st.integers(1, 200))
def test_a_group_is_paired_completely(seed: int, length: int) -> None:
    assert sorted(pair_order(seed, length=length).tolist()) == list(range(length))


def test_partners_are_spread_over_the_group() -> None:
    """Row 0 of groups of 8 meets each of the 7 others about as often."""
    met = [0] * 8
    for seed in range(7000):
        order = pair_order(seed, length=8).tolist()
        met[order[order.index(0) ^ 1]] += 1
    assert met[0] == 0
    assert all(850 < count < 1150 for count in met[1:])


def test_mixup_rounds_half_up_and_mirrors() -> None:
    random = np.random.default_rng(2)
    a, b = (random.integers(0, 256, (16, 16, 3), np.uint8) for _ in range(2))
    for weight in (0, 1, 77, 128, 255, 256):
        mixing = Mixing(kind="mixup", weight=weight)
        exact = (a.astype(float) * weight + b.astype(float) * (256 - weight)) / 256
        assert np.array_equal(mix_pixels(a, b, mixing), np.floor(exact + 0.5))
        assert own_weight(mixing, size=16) == weight / 256
    assert np.array_equal(mix_pixels(a, b, Mixing(kind="mixup", weight=256)), a)


@given(top=st.integers(0, RELATIVE), left=st.integers(0, RELATIVE), sides=st.tuples(*[st.integers(0, RELATIVE)] * 2))
def test_a_cutmix_weight_is_the_fraction_of_pixels_outside_the_box(top: int, left: int, sides: tuple[int, int]) -> None:
    box = Box(top=top, left=left, height=min(sides[0], RELATIVE - top), width=min(sides[1], RELATIVE - left))
    mixing = Mixing(kind="cutmix", box=box)
    own, other = np.zeros((33, 33, 3), np.uint8), np.full((33, 33, 3), 255, np.uint8)
    mixed = mix_pixels(own, other, mixing)
    assert (mixed == 0).mean() == pytest.approx(own_weight(mixing, size=33))
    assert np.array_equal(255 - mixed, mix_pixels(other, own, mixing))


def test_a_box_covers_the_same_part_at_another_size() -> None:
    for seed in range(200):
        mixing = draw_mix(MixSpec(mixup_alpha=0), seed)
        assert mixing is not None
        assert own_weight(mixing, size=128) == pytest.approx(own_weight(mixing, size=384), abs=2.1 / 128)


def test_known_draws() -> None:
    """The draws are fixed: a change would separate students from their stores without an error."""
    spec = MixSpec()
    assert [describe_mix(draw_mix(spec, seed), size=224) for seed in (0, 1, 2, 3)] == KNOWN
    assert pair_order(5, length=8).tolist() == KNOWN_ORDER


KNOWN = [
    "cutmix: 88.3% x 79.4% of the output at left 11.7%, top 0.0% from the partner's image, 29.8% its own",
    "cutmix: 52.7% x 52.6% of the output at left 47.3%, top 0.0% from the partner's image, 72.2% its own",
    "cutmix: 65.4% x 89.6% of the output at left 34.6%, top 10.4% from the partner's image, 41.5% its own",
    "mixup: 91.0% its own image, 9.0% the partner's",
]
KNOWN_ORDER = [5, 7, 6, 1, 4, 2, 0, 3]


def test_a_digest_is_of_everything_that_mixing_does(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = MixSpec(group_size=8)
    right = mix_digest(spec)
    assert right == mix_digest(MixSpec(group_size=8)) != mix_digest(MixSpec(group_size=8, mixup_alpha=1.0))
    for name, other in (
        ("pair_order", lambda seed, length: np.arange(length)),
        ("edge_slice", lambda start, length, side: slice(start * side >> 16, (start + length) * side >> 16)),
        ("WEIGHT_STEPS", 255),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(mix_module, name, other)
            assert mix_digest(spec) != right


def test_specs_travel_and_are_checked() -> None:
    spec = ViewSpec(mix=MixSpec(mixup_alpha=0.2, group_size=16))
    assert ViewSpec.from_json(spec.to_json()) == spec
    assert "mix" not in ViewSpec().to_json()
    for wrong, message in (
        ({"alpha": 1.0}, "unknown keys alpha"),
        ({"group_size": 7}, "even"),
        ({"prob": 1.5}, r"mix\.prob"),
        ({"mixup_alpha": 0, "cutmix_alpha": 0}, "one of them above 0"),
        ({"mixup_alpha": "much"}, "needs numbers"),
    ):
        with pytest.raises(UsageError, match=message):
            ViewSpec.from_json({"mix": wrong})
    with pytest.raises(UsageError, match="mix must be null"):
        ViewSpec.from_json({"mix": "cutmix"})
