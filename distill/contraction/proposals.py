"""Which neighbours of an architecture a round of the search tries.

A neighbour lowers one or more factors, each by whole strides, until it is within the limits of the round: every factor
alone, all widths together, and random sets of factors that are lowered in turn. All of them can be contracted further
to the targets. Nothing here trains or reads a store.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence

from distill.contraction.costs import Costs, price, within
from models import TinyViTConfig
from models.contraction import FACTORS, WIDTHS, Space, floors, lowered

Fits = Callable[[TinyViTConfig], bool]
_TRIES = 12
"""Random sets that are tried for every candidate wanted."""


def reachable(config: TinyViTConfig, space: Space, targets: Costs) -> TinyViTConfig | None:
    """A smallest architecture under `config` within the targets of parameters and multiply-accumulates; None if nothing
    at all under it is."""
    return next((floor for floor in floors(config, space) if within(price(floor), targets)), None)


def propose(
    parent: TinyViTConfig, *, space: Space, fits: Fits, targets: Costs, count: int, factors: int, seed: str
) -> list[TinyViTConfig]:
    """Up to `count` different architectures below `parent`, each within the limits of the round.

    **Arguments**

    - `fits`: whether an architecture is within the limits of the round.
    - `targets`: limits of the end, which must stay within reach as far as parameters and multiply-accumulates go.
    - `factors`: most factors of a random set.
    - `seed`: of the choice; equal arguments give equal proposals.

    **Returns** them in the order of their finding. Where the targets are within reach of the parent, and what is
    measured allows it, there is at least one: the smallest architecture within the targets itself, at worst.
    """
    chance = random.Random(seed)
    plain = _found(parent, [*[(factor,) for factor in FACTORS], WIDTHS], space, fits, targets)
    if len(plain) > (count + 1) // 2:  # Half of the places are for random sets; all widths keep theirs.
        plain = chance.sample(plain[:-1], (count + 1) // 2 - 1) + plain[-1:]
    kept = dict.fromkeys(plain)
    sets = itertools.islice(_random_sets(chance, factors), _TRIES * count)
    for chosen in sets:
        if len(kept) == count:
            break
        kept.update(dict.fromkeys(_found(parent, [chosen], space, fits, targets)))
    if not kept and (floor := reachable(parent, space, targets)) is not None and floor != parent and fits(floor):
        return [floor]
    return list(kept)


def _found(
    parent: TinyViTConfig, sets: Sequence[tuple[str, ...]], space: Space, fits: Fits, targets: Costs
) -> list[TinyViTConfig]:
    """What lowering each set of factors leads to, once each, as far as it leads anywhere."""
    found: dict[TinyViTConfig, None] = {}
    for chosen in sets:
        config = _descend(parent, chosen, space, fits)
        if config is not None and reachable(config, space, targets) is not None:
            found[config] = None
    return list(found)


def _descend(parent: TinyViTConfig, chosen: tuple[str, ...], space: Space, fits: Fits) -> TinyViTConfig | None:
    """Lowers some factors in turn, a stride each time, until the round's limits are kept; None if they never are."""
    config, left = parent, list(chosen)
    while left:
        for factor in list(left):
            lower = lowered(config, factor, space)
            if lower is None:
                left.remove(factor)
                continue
            config = lower
            if fits(config):
                return config
    return None


def _random_sets(chance: random.Random, factors: int) -> Iterator[tuple[str, ...]]:
    while True:
        size = chance.randint(min(2, factors), min(factors, len(FACTORS)))
        yield tuple(chance.sample(FACTORS, size))
