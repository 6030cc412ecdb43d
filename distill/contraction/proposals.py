"""Which neighbours of an architecture a round of the search tries.

A neighbour lowers one or more factors, each by whole strides, until it is within the limits of the round: every factor
alone, all widths together, and random sets of factors that are lowered in turn. What was lowered further than needed is
raised again. Those that use most of the limits are taken, and all of them can be contracted further to the targets.
Nothing here trains or reads a store.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from distill.contraction.costs import Costs, Pricing, price, within
from distill.models import TinyViTConfig
from distill.models.contraction.space import FACTORS, WIDTHS, Space, floors, lowered, raised

_POOL = 3
"""Neighbours that are found for every one wanted."""
_TRIES = 12
"""Random sets that are tried for every one wanted."""


def reachable(config: TinyViTConfig, space: Space, targets: Costs) -> TinyViTConfig | None:
    """A smallest architecture under `config` within the targets of parameters and multiply-accumulates; None if nothing
    at all under it is."""
    return next((floor for floor in floors(config, space) if within(price(floor), targets)), None)


def propose(
    parent: TinyViTConfig, *, space: Space, pricing: Pricing, limits: Costs, targets: Costs, count: int, factors: int,
    seed: str,
) -> list[TinyViTConfig]:  # fmt: skip
    """Up to `count` different architectures below `parent`, each within the limits of the round.

    **Arguments**

    - `limits`: of the round, and `targets`: of the end, which must stay within reach as far as parameters and
      multiply-accumulates go.
    - `factors`: most factors of a random set.
    - `seed`: of the choice; equal arguments give equal proposals.

    **Returns** all widths together first, if that leads anywhere, then what uses most of the limits. Where the targets
    are within reach of the parent, and what is measured allows it, there is at least one: at worst the smallest
    architecture of all within the targets.
    """
    chance = random.Random(seed)
    pool: dict[TinyViTConfig, None] = {}
    sets = itertools.chain([WIDTHS], ((factor,) for factor in FACTORS), _random_sets(chance, factors))
    widths: TinyViTConfig | None = None
    for chosen in itertools.islice(sets, 1 + len(FACTORS) + _TRIES * count):
        if len(pool) == _POOL * count:
            break
        config = _descend(parent, chosen, space, pricing, limits)
        if config is not None and reachable(config, space, targets) is not None:
            pool[config] = None
            widths = config if chosen == WIDTHS else widths
    if not pool:
        floor = reachable(parent, space, targets)
        return [floor] if floor is not None and floor != parent and pricing.fits(floor, limits) else []

    def rank(config: TinyViTConfig) -> tuple[bool, float]:
        costs = pricing.of(config)
        return config != widths, -sum(costs[name] / limit for name, limit in limits.items())

    return sorted(pool, key=rank)[:count]


def _descend(
    parent: TinyViTConfig, chosen: tuple[str, ...], space: Space, pricing: Pricing, limits: Costs
) -> TinyViTConfig | None:
    """Lowers some factors in turn, a stride each time, until the limits are kept, then raises those that can be without
    breaking them. **Returns** None if they are never kept."""
    config, left = parent, list(chosen)
    while left:
        for factor in list(left):
            lower = lowered(config, factor, space)
            if lower is None:
                left.remove(factor)
                continue
            config = lower
            if pricing.fits(config, limits):
                return _refill(config, parent, chosen, space, pricing, limits)
    return None


def _refill(
    config: TinyViTConfig, parent: TinyViTConfig, chosen: tuple[str, ...], space: Space, pricing: Pricing, limits: Costs
) -> TinyViTConfig:
    """Raises the factors that can be, a stride each time. Never up to the parent, which may be within the limits."""
    left = list(chosen)
    while left:
        for factor in list(left):
            higher = raised(config, factor, space, top=parent)
            if higher is None or higher == parent or not pricing.fits(higher, limits):
                left.remove(factor)
            else:
                config = higher
    return config


def _random_sets(chance: random.Random, factors: int) -> Iterator[tuple[str, ...]]:
    while True:
        size = chance.randint(min(2, factors), min(factors, len(FACTORS)))
        yield tuple(chance.sample(FACTORS, size))
