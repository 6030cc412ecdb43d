"""The proposals without training: limits and step sizes are kept, and the final limits are always reached."""

from __future__ import annotations

import random

import pytest

from distill import models
from distill.contraction.costs import CostModel, analytic_costs, round_limits, within
from distill.contraction.proposals import propose, reachable
from distill.models import TinyViTConfig
from distill.models.contraction.space import FACTORS, WIDTHS, Space, changes, levels, raised


def random_initial(rng: random.Random) -> TinyViTConfig:
    head_dim = rng.choice([8, 12, 16, 32])
    heads = tuple(rng.randint(1, 6) for _ in range(4))
    return TinyViTConfig(
        num_classes=rng.choice([10, 1000]),
        image_size=rng.choice([28, 64, 224]),
        dims=tuple(head_dim * count for count in heads),
        depths=tuple(rng.randint(1, 4) for _ in range(4)),
        heads=heads,
        windows=(7, rng.choice([4, 7]), rng.choice([7, 14]), rng.choice([3, 7])),
        expand=rng.choice([2.0, 3.0, 4.0]),
        mlp_ratio=rng.choice([2.0, 3.0, 4.0]),
    )


def random_space(rng: random.Random) -> Space:
    choices: dict[str, list[float]] = {
        "dims": [8, 16, 32],
        "depths": [0, 1],
        "windows": [0, 3, 7],
        "expand": [0.5, 1],
        "mlp_ratio": [0.5, 1, 0],
    }
    strides: dict[str, float] = {name: rng.choice(choices.get(name.split(".")[0], [0, 4, 16])) for name in FACTORS}
    least = {name: rng.choice([8, 16]) if name.startswith("dims") else 1 for name in FACTORS}
    return Space(step_sizes=strides, minimums=least | {"head_dim": rng.choice([4, 8])})


def steps_are_whole(parent: TinyViTConfig, child: TinyViTConfig, space: Space) -> bool:
    """Whether nothing rose, something fell, and all falls are whole steps to values that are allowed."""
    above, below = levels(parent), levels(child)
    for name in FACTORS:
        fall = above[name] - below[name]
        if fall and (fall < 0 or below[name] < space.minimums[name] or round(fall / space.step_sizes[name], 6) % 1):
            return False
    return above != below


@pytest.mark.parametrize("part", range(10))
def test_limits_are_kept_in_1000_random_searches(part: int) -> None:
    """Searches that select at random instead of by training; each ends within its limits or is rightly refused."""
    rng = random.Random(part)
    ended = refused = 0
    for number in range(100):
        initial, space = random_initial(rng), random_space(rng)
        costs = analytic_costs(initial)
        wanted = [["params"], ["macs"], ["params", "macs"]][rng.randrange(3)]
        final_limits = {name: costs[name] * rng.uniform(0.02, 0.95) for name in wanted}
        config = initial
        if reachable(initial, space, final_limits) is None:
            refused += 1
            continue
        for _ in range(100):
            if within(analytic_costs(config), final_limits):
                break
            limits = round_limits(analytic_costs(config), final_limits, shrink=rng.choice([0.5, 0.75, 0.9]))
            found = propose(
                config, space=space, cost_model=CostModel(()), limits=limits, final_limits=final_limits,
                count=rng.choice([1, 2, 5]), factors=3, seed=f"{part}-{number}",
            )  # fmt: skip
            assert found, (config, space, final_limits)
            for candidate in found:
                assert all(analytic_costs(candidate)[name] <= limit for name, limit in limits.items())
                assert steps_are_whole(config, candidate, space)
                assert reachable(candidate, space, final_limits)
            assert len(set(found)) == len(found)
            config = rng.choice(found)
        assert all(analytic_costs(config)[name] <= target for name, target in final_limits.items())
        ended += 1
    assert ended > 30 and refused > 5


def test_proposals_depend_on_the_seed() -> None:
    initial = models.resolve_config("tiny_vit_21m", dimensions={"num_classes": 1000, "image_size": 224})
    space = random_space(random.Random(1))
    limits = {"params": 15e6}

    def proposals(text: str) -> list[TinyViTConfig]:
        return propose(
            initial, space=space, cost_model=CostModel(()), limits=limits, final_limits={"params": 5e6}, count=12,
            factors=3, seed=text,
        )  # fmt: skip

    assert proposals("a") == proposals("a")
    assert proposals("a") != proposals("b")
    assert len(proposals("a")) == 12


def test_nothing_is_lowered_further_than_needed() -> None:
    """Raising any factor that a proposal lowered breaks a limit."""
    initial = models.resolve_config("tiny_vit_21m", dimensions={"num_classes": 1000, "image_size": 224})
    space = random_space(random.Random(1))
    limits = {"params": 15e6, "macs": 3e9}
    found = propose(
        initial, space=space, cost_model=CostModel(()), limits=limits, final_limits=limits, count=12, factors=3,
        seed="a",
    )  # fmt: skip
    for config in found:
        for name in changes(initial, config):
            above = raised(config, name, space, top=initial)
            assert above is None or not within(analytic_costs(above), limits)
    assert set(changes(initial, found[0])) <= set(WIDTHS), "the first is narrower and nothing else"


def test_measured_limits_are_kept() -> None:
    """With times that depend on the depth of the third stage alone."""
    initial = models.resolve_config("tiny_vit_21m", dimensions={"num_classes": 1000, "image_size": 224})
    timed: list[TinyViTConfig] = []

    def clock(config: TinyViTConfig, name: str) -> float:
        timed.append(config)
        return config.depths[2]

    cost_model = CostModel(("latency_ms",), clock)
    step_sizes = dict.fromkeys(FACTORS, 0) | {"depths.2": 1, "dims.0": 32}
    space = Space(step_sizes=step_sizes, minimums=dict.fromkeys(FACTORS, 1))
    limits = {"latency_ms": 3.0}
    found = propose(
        initial, space=space, cost_model=cost_model, limits=limits, final_limits=limits, count=3, factors=2, seed="a"
    )
    assert found and all(config.depths[2] == 3 for config in found)
    assert len(set(timed)) == len(timed), "each is measured once"
    limits = {"latency_ms": 0.5}
    found = propose(
        initial, space=space, cost_model=cost_model, limits=limits, final_limits=limits, count=3, factors=2, seed="a"
    )
    assert found == []
