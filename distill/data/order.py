"""Which rows are read when: pure integer arithmetic, no data needed.

The order of an epoch is a shuffle in two levels. The tar shards are permuted, and `window_shards` consecutive
permuted shards make a window; within a window the rows are permuted. So a loader works within a few shards at a
time, and rows of one shard meet different neighbours in each epoch.

Of that one global order, step `t` takes `world * accumulate * batch_size` consecutive rows; its part `m` goes to
rank 0, 1, ... in turn. What a step sees as a whole therefore depends neither on the number of loader workers nor
on how a global batch is spread over processes and accumulation. Rows that do not fill a last step are left out of
that epoch; other rows in each epoch.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from distill.errors import UsageError

Rows = npt.NDArray[np.int64]

_SHARDS, _WINDOW = 1, 2
_KEPT_WINDOWS = 4


def permutation(length: int, *, key: tuple[int, int]) -> Rows:
    """(length,) int64: the order that sorts the raw words of a Philox generator of the given 2 x 64-bit key.

    Philox4x64-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011) with the counter from 0.
    Built on raw words alone, so that no change of a sampling method in a library can change an order.
    """
    words = np.random.Philox(key=np.array(key, np.uint64)).random_raw(length)
    return np.argsort(words, kind="stable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The order of all epochs of a run, for every rank."""

    starts: npt.NDArray[np.int64]
    """(S + 1,) first row of each tar shard, and N; ends early where a run uses the first N rows only."""
    seed: int
    batch_size: int
    """Rows a process takes at once."""
    world: int = 1
    accumulate: int = 1
    """Batches a process takes for one optimiser step."""
    window_shards: int = 16
    _windows: OrderedDict[tuple[int, int], Rows] = field(default_factory=OrderedDict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.steps_per_epoch == 0:
            raise UsageError(
                f"{self.num_rows} rows do not fill one step of {self.step_rows} rows (batch_size {self.batch_size} x "
                f"{self.world} processes x accumulate {self.accumulate}): take a smaller train.batch_size"
            )

    @property
    def num_rows(self) -> int:
        return int(self.starts[-1])

    @property
    def step_rows(self) -> int:
        """Rows of one optimiser step over all processes: the global batch."""
        return self.batch_size * self.world * self.accumulate

    @property
    def steps_per_epoch(self) -> int:
        return self.num_rows // self.step_rows

    def batch(self, step: int, *, part: int = 0, rank: int = 0) -> tuple[int, Rows]:
        """Epoch and (batch_size,) int64 rows of accumulation part `part` of optimiser step `step` at `rank`."""
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        begin = step_in_epoch * self.step_rows + (part * self.world + rank) * self.batch_size
        return epoch, self._positions(epoch, begin, begin + self.batch_size)

    def _positions(self, epoch: int, begin: int, end: int) -> Rows:
        """Rows at positions begin..end of the epoch's order."""
        ends = np.cumsum(self._window_sizes(epoch))
        pieces = []
        while begin < end:
            window = int(np.searchsorted(ends, begin, side="right"))
            first = int(ends[window - 1]) if window else 0
            stop = min(end, int(ends[window]))
            pieces.append(self._window(epoch, window)[begin - first : stop - first])
            begin = stop
        return np.concatenate(pieces)

    def _shard_order(self, epoch: int) -> Rows:
        return permutation(len(self.starts) - 1, key=(self.seed, epoch << 32 | _SHARDS))

    def _window_sizes(self, epoch: int) -> Rows:
        sizes = np.diff(self.starts)[self._shard_order(epoch)]
        return np.add.reduceat(sizes, np.arange(0, len(sizes), self.window_shards))

    def _window(self, epoch: int, window: int) -> Rows:
        """All rows of one window in their order; the last few windows are kept."""
        if (epoch, window) not in self._windows:
            shards = self._shard_order(epoch)[window * self.window_shards : (window + 1) * self.window_shards]
            rows = np.concatenate([np.arange(self.starts[s], self.starts[s + 1]) for s in shards])
            salt = (epoch << 32 | _WINDOW) ^ (window << 8)
            self._windows[epoch, window] = rows[permutation(len(rows), key=(self.seed, salt))]
            if len(self._windows) > _KEPT_WINDOWS:
                self._windows.popitem(last=False)
        return self._windows[epoch, window]


def first_rows(starts: npt.NDArray[np.int64], num_rows: int | None) -> npt.NDArray[np.int64]:
    """Cuts shard starts down to the first `num_rows` rows (all when None).

    **Raises:** `UsageError` if there are not that many.
    """
    if num_rows is None:
        return starts
    if not 0 < num_rows <= starts[-1]:
        raise UsageError(f"data.rows={num_rows}: the data set has {starts[-1]} rows")
    return np.append(starts[starts < num_rows], num_rows)
