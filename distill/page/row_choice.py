"""Which rows the page shows, and why."""

from __future__ import annotations

from itertools import zip_longest

import numpy as np
import numpy.typing as npt

import logitstore
from distill.config.gallery import ShowConfig
from distill.errors import UsageError
from distill.page.scan import Scan

KINDS = ("picked", "hardest", "disagreement", "confident", "random")
"""Reasons to show a row."""

ChosenRows = dict[int, tuple[str, ...]]
"""Row -> its kinds."""


def check_picked(config: ShowConfig, spec: logitstore.StoreSpec) -> None:
    """**Raises:** `UsageError` if `show.pick` names a row that the store does not have."""
    if outside := [row for row in config.pick if row >= spec.num_samples]:
        raise UsageError(f"show.pick: the store has rows 0 to {spec.num_samples - 1:,}, not {outside[0]}")


def choose_rows(
    config: ShowConfig, spec: logitstore.StoreSpec, done: npt.NDArray[np.bool_], scanned: Scan
) -> ChosenRows:
    """Rows in the order in which the page takes them until it is full: picked ones, then one of each kind in turn."""
    by_kind = {
        "hardest": scanned.hardest.rows,
        "disagreement": scanned.disagreement.rows,
        "confident": scanned.confident.rows,
        "random": draw_rows(spec, done, count=config.rows, seed=config.seed),
    }
    order = [*config.pick, *(row for turn in zip_longest(*by_kind.values()) for row in turn if row is not None)]
    members = {"picked": set(config.pick)} | {kind: set(rows) for kind, rows in by_kind.items()}
    return {row: tuple(kind for kind in KINDS if row in members[kind]) for row in dict.fromkeys(order)}


def draw_rows(spec: logitstore.StoreSpec, done: npt.NDArray[np.bool_], *, count: int, seed: int) -> tuple[int, ...]:
    """Rows drawn uniformly, without repetition, from the blocks that some epoch has; in rising order.

    **Arguments:** `done`: (E, B) blocks that are written; memory is by blocks, not by rows.
    """
    blocks = np.flatnonzero(done.any(axis=0))
    if not len(blocks):
        return ()
    sizes = np.full(len(blocks), spec.rows_per_block, np.int64)
    if blocks[-1] == spec.num_blocks - 1:
        sizes[-1] = len(spec.block_rows(spec.num_blocks - 1))
    ends = np.cumsum(sizes)
    total, random = int(ends[-1]), np.random.default_rng(seed)
    drawn = np.sort(random.choice(total, min(count, total), replace=False, shuffle=False))
    at = np.searchsorted(ends, drawn, side="right")
    return tuple((blocks[at] * spec.rows_per_block + drawn - (ends - sizes)[at]).tolist())
