"""The proposal step without training: limits are kept, strides are kept, and it always gets to the targets."""

from __future__ import annotations

import random

import pytest

from distill import models
from distill.contraction.costs import Pricing, price, round_limits, within
from distill.contraction.proposals import propose, reachable
from distill.models import TinyViTConfig
from distill.models.contraction.space import FACTORS, WIDTHS, Space, changes, levels, raised


def random_seed(chance: random.Random) -> TinyViTConfig:
    head_dim = chance.choice([8, 12, 16, 32])
    heads = tuple(chance.randint(1, 6) for _ in range(4))
    return TinyViTConfig(
        num_classes=chance.choice([10, 1000]),
        image_size=chance.choice([28, 64, 224]),
        dims=tuple(head_dim * count for count in heads),
        depths=tuple(chance.randint(1, 4) for _ in range(4)),
        heads=heads,
        windows=(7, chance.choice([4, 7]), chance.choice([7, 14]), chance.choice([3, 7])),
        expand=chance.choice([2.0, 3.0, 4.0]),
        mlp_ratio=chance.choice([2.0, 3.0, 4.0]),
    )


def random_space(chance: random.Random) -> Space:
    choices = {
        "dims": [8, 16, 32],
        "depths": [0, 1],
        "windows": [0, 3, 7],
        "expand": [0.5, 1],
        "mlp_ratio": [0.5, 1, 0],
    }
    strides = {name: chance.choice(choices.get(name.split(".")[0], [0, 4, 16])) for name in FACTORS}
    least = {name: chance.choice([8, 16]) if name.startswith("dims") else 1 for name in FACTORS}
    return Space(step_sizes=strides, minimums=least | {"head_dim": chance.choice([4, 8])})


def steps_are_whole(parent: TinyViTConfig, child: TinyViTConfig, space: Space) -> bool:
    """Whether nothing rose, something fell, and all falls are whole strides to values that are allowed."""
    above, below = levels(parent), levels(child)
    for name in FACTORS:
        fall = above[name] - below[name]
        if fall and (fall < 0 or below[name] < space.minimums[name] or round(fall / space.step_sizes[name], 6) % 1):
            return False
    return above != below


@pytest.mark.parametrize("part", range(10))
def test_limits_are_kept_in_1000_random_searches(part: int) -> None:
    """Searches with chance in the place of training; every one ends within its targets or is rightly refused."""
    chance = random.Random(part)
    ended = refused = 0
    for number in range(100):
        seed, space = random_seed(chance), random_space(chance)
        costs = price(seed)
        wanted = [["params"], ["macs"], ["params", "macs"]][chance.randrange(3)]
        targets = {name: costs[name] * chance.uniform(0.02, 0.95) for name in wanted}
        config = seed
        if reachable(seed, space, targets) is None:
            refused += 1
            continue
        for _ in range(100):
            if within(price(config), targets):
                break
            limits = round_limits(price(config), targets, shrink=chance.choice([0.5, 0.75, 0.9]))
            found = propose(
                config, space=space, pricing=Pricing(()), limits=limits, targets=targets,
                count=chance.choice([1, 2, 5]), factors=3, seed=f"{part}-{number}",
            )  # fmt: skip
            assert found, (config, space, targets)
            for candidate in found:
                assert all(price(candidate)[name] <= limit for name, limit in limits.items())
                assert steps_are_whole(config, candidate, space)
                assert reachable(candidate, space, targets)
            assert len(set(found)) == len(found)
            config = chance.choice(found)
        assert all(price(config)[name] <= target for name, target in targets.items())
        ended += 1
    assert ended > 30 and refused > 5


def test_equal_seeds_propose_alike_and_others_otherwise() -> None:
    seed = models.resolve_config("tiny_vit_21m", dimensions={"num_classes": 1000, "image_size": 224})
    space = random_space(random.Random(1))
    limits = {"params": 15e6}

    def proposals(text: str) -> list[TinyViTConfig]:
        return propose(
            seed, space=space, pricing=Pricing(()), limits=limits, targets={"params": 5e6}, count=12, factors=3,
            seed=text,
        )  # fmt: skip

    assert proposals("a") == proposals("a")
    assert proposals("a") != proposals("b")
    assert len(proposals("a")) == 12


def test_no_stride_is_taken_in_vain() -> None:
    """Raising any factor that a proposal lowered breaks a limit."""
    seed = models.resolve_config("tiny_vit_21m", dimensions={"num_classes": 1000, "image_size": 224})
    space = random_space(random.Random(1))
    limits = {"params": 15e6, "macs": 3e9}
    found = propose(
        seed, space=space, pricing=Pricing(()), limits=limits, targets=limits, count=12, factors=3, seed="a"
    )
    for config in found:
        for name in changes(seed, config):
            above = raised(config, name, space, top=seed)
            assert above is None or not within(price(above), limits)
    assert set(changes(seed, found[0])) <= set(WIDTHS), "the first is narrower and nothing else"


def test_what_is_measured_is_kept_to_as_well() -> None:
    """A clock that goes by the depth of the third stage alone, whatever parameters and arithmetic say."""
    seed = models.resolve_config("tiny_vit_21m", dimensions={"num_classes": 1000, "image_size": 224})
    asked: list[TinyViTConfig] = []

    def clock(config: TinyViTConfig, name: str) -> float:
        asked.append(config)
        return config.depths[2]

    pricing = Pricing(("latency_ms",), clock)
    space = Space(
        step_sizes=dict.fromkeys(FACTORS, 0) | {"depths.2": 1, "dims.0": 32}, minimums=dict.fromkeys(FACTORS, 1)
    )
    limits = {"latency_ms": 3.0}
    found = propose(seed, space=space, pricing=pricing, limits=limits, targets=limits, count=3, factors=2, seed="a")
    assert found and all(config.depths[2] == 3 for config in found)
    assert len(set(asked)) == len(asked), "each is measured once"
    limits = {"latency_ms": 0.5}
    assert (
        propose(seed, space=space, pricing=pricing, limits=limits, targets=limits, count=3, factors=2, seed="a") == []
    )


def test_limits_of_a_round_fall_together_and_end_at_the_targets() -> None:
    costs = {"params": 16.0, "macs": 10.0, "latency_ms": 1.0}
    targets = {"params": 1.0, "macs": 9.0, "latency_ms": 2.0}
    rounds = 0
    while not within(costs, targets):
        limits = round_limits(costs, targets, shrink=0.5)
        assert limits["latency_ms"] == 2.0
        assert limits["params"] == pytest.approx(costs["params"] / 2)
        costs |= {name: limits[name] for name in ("params", "macs")}
        rounds += 1
    assert rounds == 4
    assert limits == targets
