"""The search space of contraction: step sizes, minimums, and the published models in it."""

from __future__ import annotations

import itertools
import random

import pytest

from distill import models
from distill.models.contraction.space import FACTORS, Space, changes, floors, head_dim_of, levels, lowered
from distill.models.cost.formula import cost_of
from distill.models.tinyvit.config import TinyViTConfig

PAPER = Space(
    step_sizes={name: 32 if name.startswith("dims") else 7 if name.startswith("windows") else 1 for name in FACTORS}
    | {"head_dim": 16},
    minimums={name: 32 if name.startswith("dims") else 7 if name.startswith("windows") else 1 for name in FACTORS}
    | {"head_dim": 16},
)


def published(name: str) -> TinyViTConfig:
    return models.resolve_config(name, dimensions={"num_classes": 1000, "image_size": 224})


@pytest.mark.parametrize("name", ["tiny_vit_11m", "tiny_vit_5m"])
def test_published_models_are_steps_below_the_21m(name: str) -> None:
    config, goal = published("tiny_vit_21m"), published(name)
    for factor, (_, value) in changes(config, goal).items():
        while levels(config)[factor] > value:
            below = lowered(config, factor, PAPER)
            assert below is not None
            config = below
    assert config == goal


def test_a_step_lowers_one_factor_by_its_step_size_and_ends_at_its_minimum() -> None:
    seed = published("tiny_vit_21m")
    for factor in FACTORS:
        config, values = seed, [levels(seed)[factor]]
        while (below := lowered(config, factor, PAPER)) is not None:
            assert list(changes(config, below)) == [factor]
            config = below
            values.append(levels(config)[factor])
        assert all(high - low == PAPER.step_sizes[factor] for high, low in itertools.pairwise(values))
        assert PAPER.minimums[factor] <= values[-1] < PAPER.minimums[factor] + PAPER.step_sizes[factor]


def test_widths_that_do_not_divide_into_heads_are_passed_over() -> None:
    seed = models.TinyViTConfig(
        num_classes=2,
        image_size=32,
        dims=(18, 48, 48, 48),
        depths=(1, 1, 1, 1),
        heads=(1, 2, 2, 2),
        windows=(2, 2, 2, 2),
    )
    space = Space(step_sizes={**PAPER.step_sizes, "dims.1": 8, "dims.0": 3}, minimums=dict.fromkeys(FACTORS, 1))
    narrower = lowered(seed, "dims.1", space)
    assert narrower is not None and narrower.dims == (18, 24, 48, 48) and narrower.heads[1] == 1
    assert lowered(seed, "dims.0", space).dims[0] == 12  # type: ignore[union-attr]  # 15 is odd
    assert lowered(seed, "head_dim", space).heads[1:] == (6, 6, 6)  # type: ignore[union-attr]


def test_heads_of_unequal_size_are_no_point_of_the_space() -> None:
    config = models.TinyViTConfig(
        num_classes=2,
        image_size=32,
        dims=(8, 16, 24, 32),
        depths=(1, 1, 1, 1),
        heads=(1, 1, 2, 2),
        windows=(4, 4, 4, 4),
    )
    with pytest.raises(models.ModelError, match=r"\[12, 16\]"):
        head_dim_of(config)


def test_no_point_below_is_cheaper_in_both_than_every_floor() -> None:
    """Lowers factors at random, down to the end, and compares each config with the floors that should bound it."""
    seed = models.TinyViTConfig(
        num_classes=3,
        image_size=96,
        dims=(24, 48, 96, 96),
        depths=(2, 2, 2, 1),
        heads=(1, 2, 4, 4),
        windows=(7, 7, 6, 5),
    )
    step_sizes = dict.fromkeys(FACTORS, 1) | {f"dims.{n}": 8 for n in range(4)} | {"head_dim": 8}
    minimums = dict.fromkeys(FACTORS, 1) | {f"dims.{n}": 8 for n in range(4)} | {f"windows.{n}": 4 for n in (1, 2, 3)}
    space = Space(step_sizes=step_sizes, minimums=minimums | {"head_dim": 8})
    costs = [cost_of(floor) for floor in floors(seed, space)]
    generator = random.Random(0)
    for _ in range(60):
        config: TinyViTConfig | None = seed
        while config is not None:
            cost = cost_of(config)
            assert any(floor.params <= cost.params and floor.macs <= cost.macs for floor in costs)
            below = [lower for factor in FACTORS if (lower := lowered(config, factor, space))]
            config = generator.choice(below) if below else None
