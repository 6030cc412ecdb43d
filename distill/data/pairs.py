"""Which rows are mixed with which: views' own pairing (see `distill.views.mix`), carried over to rows of a data set.

Rows g * G .. g * G + G - 1 are group g; the last group of a data set may be shorter. A pairing belongs to one epoch,
because it follows from the seed of the group's first view.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from distill.errors import UsageError
from distill.views import MixSpec, ViewSpec, pair_order

Rows = npt.NDArray[np.int64]
SeedsOf = Callable[[int, Rows], npt.NDArray[np.uint64]]
"""(epoch, (n,) rows) -> (n,) uint64 view seeds."""

_KEPT_GROUPS = 4096


class Pairs:
    """The pairs of a data set's rows. The last few thousand groups' orders are kept."""

    def __init__(self, spec: MixSpec, *, num_rows: int, seeds_of: SeedsOf) -> None:
        """**Arguments:** `num_rows`: of the whole data set."""
        self.spec, self.num_rows, self.seeds_of = spec, num_rows, seeds_of
        self._orders: OrderedDict[tuple[int, int], Rows] = OrderedDict()

    def rows_at(self, epoch: int, places: Rows) -> Rows:
        """Rows at some places of an epoch in which every group lies in the order of its pairs: a pair is in
        neighbouring places, the lower of them even within its group."""
        groups, within = np.divmod(places, self.spec.group_size)
        orders = self._of(epoch, groups)
        rows = [g * self.spec.group_size + orders[g][n] for g, n in zip(groups.tolist(), within.tolist(), strict=True)]
        return np.array(rows, np.int64)

    def partners(self, epoch: int, rows: Rows) -> Rows:
        """Each row's partner in an epoch; a row that is left alone is its own."""
        groups, within = np.divmod(rows, self.spec.group_size)
        orders = self._of(epoch, groups)
        partners = rows.copy()
        for n, (group, position) in enumerate(zip(groups.tolist(), within.tolist(), strict=True)):
            order = orders[group]
            other = int(np.flatnonzero(order == position)[0]) ^ 1
            if other < len(order):
                partners[n] = group * self.spec.group_size + order[other]
        return partners

    def _of(self, epoch: int, groups: Rows) -> dict[int, Rows]:
        wanted = np.unique(groups)
        orders = {g: self._orders[epoch, g] for g in wanted.tolist() if (epoch, g) in self._orders}
        new = np.array([g for g in wanted.tolist() if g not in orders], np.int64)
        if len(new):
            seeds = self.seeds_of(epoch, new * self.spec.group_size)
            for group, seed in zip(new.tolist(), seeds.tolist(), strict=True):
                length = min(self.spec.group_size, self.num_rows - group * self.spec.group_size)
                orders[group] = self._orders[epoch, group] = pair_order(seed, length=length)
        while len(self._orders) > _KEPT_GROUPS:
            self._orders.popitem(last=False)
        return orders


def pairs_of(spec: ViewSpec, *, num_rows: int, seeds_of: SeedsOf) -> Pairs | None:
    """The pairs of a ViewSpec that mixes; None for any other."""
    return Pairs(spec.mix, num_rows=num_rows, seeds_of=seeds_of) if spec.mix else None


def group_starts(starts: Rows, mix: MixSpec | None, *, num_rows: int) -> Rows:
    """Cuts shard starts back to whole groups, so that no group is dealt in two pieces; as they are without mixing.

    **Arguments:** `starts` (S + 1,) may end before the data set's `num_rows`.

    **Raises:** `UsageError` if it ends within a group.
    """
    if mix is None:
        return starts
    last = int(starts[-1])
    if last != num_rows and last % mix.group_size:
        raise UsageError(
            f"data.rows={last}: these views are mixed within groups of {mix.group_size} rows, so the number of rows "
            f"must be a multiple of that; take {last - last % mix.group_size}"
        )
    whole = starts[:-1] // mix.group_size * mix.group_size
    return np.append(np.unique(whole), last)
