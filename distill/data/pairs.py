"""Pairs of rows that are mixed: the pairing within a group (see `distill.views.mix`) applied to the rows of a data set.

Rows g * G .. g * G + G - 1 are group g; the last group of a data set may be shorter. A pairing holds for one epoch,
because it follows from the seed of the group's first view.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from distill.data.order import Int64s
from distill.data.seeds import SeedSource
from distill.errors import UsageError
from distill.views import MixSpec, pair_order

_CACHED_GROUPS = 4096


class Pairs:
    """The pairs of a data set's rows. The orders of the last few thousand groups are cached."""

    def __init__(self, spec: MixSpec, *, num_rows: int, source: SeedSource) -> None:
        """**Arguments:** `num_rows`: of the whole data set."""
        self.spec, self.num_rows, self._source = spec, num_rows, source
        self._orders: OrderedDict[tuple[int, int], Int64s] = OrderedDict()

    def rows_at(self, epoch: int, positions: Int64s) -> Int64s:
        """The rows at some positions of an epoch whose groups are ordered by pairs: the two rows of a pair are
        neighbours, the first at an even position within its group."""
        size = self.spec.group_size
        groups, within = np.divmod(positions, size)
        orders = self._group_orders(epoch, groups)
        return np.array([g * size + orders[g][n] for g, n in zip(groups.tolist(), within.tolist(), strict=True)])

    def partners(self, epochs: Int64s, rows: Int64s) -> Int64s:
        """(n,) partner of each row in its epoch; a row without a partner is its own."""
        partners = rows.copy()
        for epoch in np.unique(epochs).tolist():
            in_epoch = epochs == epoch
            partners[in_epoch] = self._partners(epoch, rows[in_epoch])
        return partners

    def _partners(self, epoch: int, rows: Int64s) -> Int64s:
        groups, within = np.divmod(rows, self.spec.group_size)
        orders = self._group_orders(epoch, groups)
        partners = rows.copy()
        for n, (group, position) in enumerate(zip(groups.tolist(), within.tolist(), strict=True)):
            order = orders[group]
            other = int(np.flatnonzero(order == position)[0]) ^ 1
            if other < len(order):
                partners[n] = group * self.spec.group_size + order[other]
        return partners

    def _group_orders(self, epoch: int, groups: Int64s) -> dict[int, Int64s]:
        distinct = np.unique(groups).tolist()
        orders = {g: self._orders[epoch, g] for g in distinct if (epoch, g) in self._orders}
        new = np.array([g for g in distinct if g not in orders], np.int64)
        if len(new):
            seeds = self._source.seeds(np.full(len(new), epoch), new * self.spec.group_size)
            for group, seed in zip(new.tolist(), seeds.tolist(), strict=True):
                length = min(self.spec.group_size, self.num_rows - group * self.spec.group_size)
                orders[group] = self._orders[epoch, group] = pair_order(seed, length=length)
        while len(self._orders) > _CACHED_GROUPS:
            self._orders.popitem(last=False)
        return orders


def group_starts(starts: Int64s, mix: MixSpec | None, *, num_rows: int) -> Int64s:
    """Shard starts moved back to the begin of a group, so that no group is split; unchanged without mixing.

    **Arguments:** `starts` (S + 1,) may end before the data set's `num_rows`.

    **Raises:** `UsageError` if it ends within a group.
    """
    if mix is None:
        return starts
    last = int(starts[-1])
    if last != num_rows and last % mix.group_size:
        raise UsageError(
            f"data.rows={last}: views are mixed within groups of {mix.group_size} rows, so the number of rows must be "
            f"a multiple of that; take {last - last % mix.group_size}"
        )
    whole = starts[:-1] // mix.group_size * mix.group_size
    return np.append(np.unique(whole), last)
