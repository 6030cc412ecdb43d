"""The digest of a spec notices a change in any part that decides its views."""

from dataclasses import replace

import numpy as np
import pytest

import distill.views.ops as ops
from distill.views import Operation, RandAugment, TrivialAugment, ViewSpec, spec_digest
from distill.views.digest import drawable
from distill.views.ops_color import Pixels
from distill.views.randaugment import INCREASING
from distill.views.view import GEOMETRIC

SPEC = ViewSpec(policy=RandAugment(), erase=0.25)


def test_it_is_a_fixed_uint64():
    assert spec_digest(SPEC) == spec_digest(replace(SPEC))
    assert 0 < spec_digest(SPEC) < 2**64


def test_every_operation_is_covered():
    names = {operation for operation, _ in INCREASING.values()}
    rare = ViewSpec(policy=RandAugment(prob=0.001), policy_interpolation="random")
    assert {each.name for each in drawable(rare)} == names
    geometric = {(each.name, each.interpolation) for each in drawable(rare) if each.name in GEOMETRIC}
    assert geometric == {(name, way) for name in GEOMETRIC for way in ("bilinear", "bicubic")}
    assert {each.name for each in drawable(ViewSpec(policy="three-augment"))} == {"Color", "Solarize", "GaussianBlur"}
    assert {each.name for each in drawable(ViewSpec(policy=TrivialAugment(operations=("Identity", "Rotate"))))} == {
        "Rotate"
    }
    assert list(drawable(ViewSpec())) == []


@pytest.mark.parametrize("name", sorted({operation for operation, _ in INCREASING.values()}))
def test_one_wrong_grey_level_in_one_operation_is_seen(name, monkeypatch):
    before = spec_digest(SPEC)
    rule = ops.OPERATIONS[name]

    def wrong(pixels: Pixels, operation: Operation) -> Pixels:
        changed = np.array(rule.apply(pixels, operation))
        changed[0, 0, 0] ^= 1
        return changed

    monkeypatch.setitem(ops.OPERATIONS, name, ops.Rule(text=rule.text, apply=wrong))
    assert spec_digest(SPEC) != before
    assert spec_digest(ViewSpec()) == spec_digest(replace(SPEC, policy=None, erase=0.0))


@pytest.mark.parametrize(
    "change",
    [
        {"scale": (0.5, 1.0)},
        {"flip": 0.0},
        {"interpolation": "bilinear"},
        {"interpolation": "random"},
        {"decode": "dct"},
        {"crop": "full"},
        {"color_jitter": (0.1, 0.0, 0.0)},
        {"erase": 0.0},
        {"erase_mode": "const"},
        {"noise_std": (1, 1, 1)},
        {"fill": (0, 0, 0)},
        {"policy_interpolation": "bicubic"},
        {"policy": RandAugment(magnitude=5)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_it_depends_on_the_spec(change):
    assert spec_digest(replace(SPEC, **change)) != spec_digest(SPEC)
