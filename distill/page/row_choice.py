"""Which rows the page shows, and why each of them."""

from __future__ import annotations

from itertools import zip_longest

import numpy as np
import numpy.typing as npt

import logitstore
from distill.config.gallery import ShowConfig
from distill.errors import UsageError
from distill.page.scan import Scan

KINDS = ("picked", "hardest", "disputed", "confident", "random")
"""Why a row is shown."""

Chosen = dict[int, tuple[str, ...]]
"""Row -> kinds."""


def check_pick(config: ShowConfig, spec: logitstore.StoreSpec) -> None:
    """**Raises:** `UsageError` if a row was named that the store does not have."""
    if outside := [row for row in config.pick if row >= spec.num_samples]:
        raise UsageError(f"show.pick: the store has rows 0 to {spec.num_samples - 1:,}, not {outside[0]}")


def choose(config: ShowConfig, spec: logitstore.StoreSpec, done: npt.NDArray[np.bool_], found: Scan) -> Chosen:
    """Rows in the order in which the page has room for them: those that were picked, then one of each kind in turn."""
    lists = {
        "hardest": found.hard.rows,
        "disputed": found.disputed.rows,
        "confident": found.confident.rows,
        "random": draw_rows(spec, done, count=config.rows, seed=config.seed),
    }
    order = [*config.pick, *(row for turn in zip_longest(*lists.values()) for row in turn if row is not None)]
    members = {"picked": set(config.pick)} | {kind: set(rows) for kind, rows in lists.items()}
    return {row: tuple(kind for kind in KINDS if row in members[kind]) for row in dict.fromkeys(order)}


def draw_rows(spec: logitstore.StoreSpec, done: npt.NDArray[np.bool_], *, count: int, seed: int) -> tuple[int, ...]:
    """Rows drawn evenly from the blocks that some epoch has, each once, in rising order; memory of the blocks only."""
    blocks = np.flatnonzero(done.any(axis=0))
    if not len(blocks):
        return ()
    sizes = np.full(len(blocks), spec.rows_per_block, np.int64)
    if blocks[-1] == spec.num_blocks - 1:
        sizes[-1] = len(spec.block_rows(spec.num_blocks - 1))
    ends = np.cumsum(sizes)
    total, random = int(ends[-1]), np.random.default_rng(seed)
    places = np.sort(random.choice(total, min(count, total), replace=False, shuffle=False))
    at = np.searchsorted(ends, places, side="right")
    return tuple((blocks[at] * spec.rows_per_block + places - (ends - sizes)[at]).tolist())
