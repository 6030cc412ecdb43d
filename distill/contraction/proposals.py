"""The neighbours of an architecture that a round of the search tries.

A neighbour lowers one or more factors, each by whole steps, until it is within the limits of the round: every factor
alone, all widths together, and random sets of factors that are lowered in turn. Factors that were lowered further than
needed are raised again. Of all neighbours, those with the largest costs within the limits are taken; from each of them
the final limits can still be reached. Nothing here trains or reads a store.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from distill.contraction.costs import CostModel, Costs, analytic_costs, within
from distill.models import TinyViTConfig
from distill.models.contraction.space import FACTORS, WIDTHS, Space, floors, lowered, raised

_POOL = 3
"""Neighbours that are found for every one wanted."""
_TRIES = 12
"""Random sets that are tried for every one wanted."""


def reachable(config: TinyViTConfig, space: Space, final_limits: Costs) -> TinyViTConfig | None:
    """A smallest architecture below `config` within the final limits of parameters and multiply-accumulates; None if
    there is none."""
    return next((floor for floor in floors(config, space) if within(analytic_costs(floor), final_limits)), None)


def propose(
    parent: TinyViTConfig, *, space: Space, cost_model: CostModel, limits: Costs, final_limits: Costs, count: int,
    factors: int, seed: str,
) -> list[TinyViTConfig]:  # fmt: skip
    """Up to `count` different architectures below `parent`, each within the limits of the round.

    **Arguments**

    - `limits`: of the round, and `final_limits`: of the search, which must stay reachable as far as parameters and
      multiply-accumulates go.
    - `factors`: largest size of a random set.
    - `seed`: of the random sets; equal arguments give equal proposals.

    **Returns** first the neighbour that lowers all widths, if there is one, then those with the largest costs. If the
    final limits are reachable from the parent and measured costs allow it, there is at least one: in the worst case a
    smallest architecture within the final limits.
    """
    rng = random.Random(seed)
    pool: dict[TinyViTConfig, None] = {}
    sets = itertools.chain([WIDTHS], ((factor,) for factor in FACTORS), _random_sets(rng, factors))
    narrower: TinyViTConfig | None = None
    for chosen in itertools.islice(sets, 1 + len(FACTORS) + _TRIES * count):
        if len(pool) == _POOL * count:
            break
        config = _lower_until_within(parent, chosen, space, cost_model, limits)
        if config is not None and reachable(config, space, final_limits) is not None:
            pool[config] = None
            narrower = config if chosen == WIDTHS else narrower
    if not pool:
        floor = reachable(parent, space, final_limits)
        return [floor] if floor is not None and floor != parent and cost_model.fits(floor, limits) else []

    def rank(config: TinyViTConfig) -> tuple[bool, float]:
        costs = cost_model.of(config)
        return config != narrower, -sum(costs[name] / limit for name, limit in limits.items())

    return sorted(pool, key=rank)[:count]


def _lower_until_within(
    parent: TinyViTConfig, chosen: tuple[str, ...], space: Space, cost_model: CostModel, limits: Costs
) -> TinyViTConfig | None:
    """Lowers the chosen factors in turn, a step each time, until the limits are kept, then raises those that can be
    raised within them. **Returns** None if the limits are never kept."""
    config, remaining = parent, list(chosen)
    while remaining:
        for factor in list(remaining):
            lower = lowered(config, factor, space)
            if lower is None:
                remaining.remove(factor)
                continue
            config = lower
            if cost_model.fits(config, limits):
                return _raise_within(config, parent, chosen, space, cost_model, limits)
    return None


def _raise_within(
    config: TinyViTConfig, parent: TinyViTConfig, chosen: tuple[str, ...], space: Space, cost_model: CostModel,
    limits: Costs,
) -> TinyViTConfig:  # fmt: skip
    """Raises the chosen factors in turn, a step each time, as far as the limits allow, but never all of them up to the
    parent, which may itself be within the limits."""
    remaining = list(chosen)
    while remaining:
        for factor in list(remaining):
            higher = raised(config, factor, space, top=parent)
            if higher is None or higher == parent or not cost_model.fits(higher, limits):
                remaining.remove(factor)
            else:
                config = higher
    return config


def _random_sets(rng: random.Random, factors: int) -> Iterator[tuple[str, ...]]:
    while True:
        size = rng.randint(min(2, factors), min(factors, len(FACTORS)))
        yield tuple(rng.sample(FACTORS, size))
