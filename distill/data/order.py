"""Which rows are read when: pure integer arithmetic, no data needed.

The order of an epoch is a shuffle in two levels. The tar shards are permuted, and `window_shards` consecutive
permuted shards make a window; within a window the rows are permuted. So a loader works within a few shards at a
time, and rows of one shard meet different neighbours in each epoch.

Of that one global order, step `t` takes `world * accumulate * batch_size` consecutive rows; its micro-batch `m` goes to
rank 0, 1, ... in turn. What a step sees as a whole therefore depends neither on the number of loader workers nor
on how a global batch is spread over processes and accumulation. Rows that do not fill a last step are left out of
that epoch; other rows in each epoch.

Three options deal otherwise, and keep all of that:

- `unit` neighbouring rows stay together: the two of a mixed pair, so that each is decoded once.
- `repeats`: a row is dealt with its views of that many consecutive epochs at once (repeated augmentation: Hoffer et
  al., "Augment your batch", CVPR 2020), so that it is decoded once for them. Epochs 0 .. r - 1 then share one order,
  epochs r .. 2r - 1 the next, and every view comes as often as without repeats: once in r epochs, at most.
- `partial`: the rows that do not fill a last step make a smaller one. It has as many full micro-batches as there are
  rows for, then one whose rows are divided over the ranks as evenly as they go. Every rank has the same number of
  micro-batches and none an empty one: fewer units than ranks are left out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from distill.errors import UsageError

Int64s = npt.NDArray[np.int64]

_SHARDS, _WINDOW = 1, 2
_KEPT_WINDOWS = 4
_KEPT_SHUFFLES = 2


def permutation(length: int, *, key: tuple[int, int]) -> Int64s:
    """(length,) int64: the order that sorts the raw words of a Philox generator of the given 2 x 64-bit key.

    Philox4x64-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011) with the counter from 0.
    Built on raw words alone, so that no change of a sampling method in a library can change an order.
    """
    words = np.random.Philox(key=np.array(key, np.uint64)).random_raw(length)
    return np.argsort(words, kind="stable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The order of all epochs of a run, for every rank."""

    starts: Int64s
    """(S + 1,) first row of each tar shard, and N; ends early where a run uses the first N rows only. With a unit of
    u all but the last are multiples of u."""
    seed: int
    batch_size: int
    """Views a process takes at once."""
    world: int = 1
    accumulate: int = 1
    """Batches a process takes for one optimiser step."""
    window_shards: int = 16
    unit: int = 1
    """Neighbouring rows that are dealt together; a last incomplete unit is left out."""
    repeats: int = 1
    """Views of a row in a batch, each of another epoch."""
    partial: bool = False
    """Whether rows that do not fill the last step of an epoch make a smaller one; not with repeats."""
    _windows: OrderedDict[tuple[int, int], Int64s] = field(default_factory=OrderedDict, repr=False, compare=False)
    _shuffles: OrderedDict[int, tuple[Int64s, Int64s]] = field(default_factory=OrderedDict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.partial and self.repeats > 1:
            raise UsageError("train.partial_step does not go with train.repeats > 1: epochs are dealt together")
        if self.batch_size % (self.unit * self.repeats):
            raise UsageError(
                f"train.batch_size={self.batch_size}: must be a multiple of {self.unit * self.repeats}, because rows "
                f"are dealt {self.unit} together (2 where views are mixed), each with {self.repeats} views "
                "(train.repeats)"
            )
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
        """Views of one optimiser step over all processes: the global batch."""
        return self.batch_size * self.world * self.accumulate

    @property
    def steps_per_epoch(self) -> int:
        return self.num_rows // self.unit * self.unit // self.step_rows + (self.partial_rows > 0)

    @property
    def partial_rows(self) -> int:
        """Rows of the smaller last step of every epoch; 0 where there is none."""
        if not self.partial:
            return 0
        units = self.num_rows // self.unit % (self.step_rows // self.unit)
        last_rows = units % (self.world * self.batch_size // self.unit)
        return (units - last_rows if last_rows < self.world else units) * self.unit

    def rows_of(self, step: int) -> int:
        """Views of optimiser step `step` over all processes."""
        return self.partial_rows if self._is_partial(step) else self.step_rows

    def micro_batches_of(self, step: int) -> int:
        """Batches that each process takes for optimiser step `step`."""
        return -(-self.rows_of(step) // (self.world * self.batch_size))

    def indices(self, begin: int, end: int) -> Sequence[int]:
        """Every micro-batch of the steps begin .. end - 1, as step * accumulate + micro-batch."""
        if not self.partial_rows:
            return range(begin * self.accumulate, end * self.accumulate)
        return [step * self.accumulate + m for step in range(begin, end) for m in range(self.micro_batches_of(step))]

    def batch(self, step: int, *, micro_batch: int = 0, rank: int = 0) -> tuple[Int64s, Int64s]:
        """Epochs and rows, both (batch_size,) int64 (fewer in a partial step), of micro-batch `micro_batch` of
        optimiser
        step `step` at `rank`. The views of one row are neighbours."""
        shuffle, place = self._place(step)
        first = micro_batch * self.world * self.batch_size
        units = min(self.world * self.batch_size, self.rows_of(step) - first) // self.unit
        begin, end = ((first + units * r // self.world * self.unit) // self.repeats for r in (rank, rank + 1))
        rows = self._rows(shuffle, place + begin, place + end)
        epochs = shuffle * self.repeats + np.arange(self.repeats)
        return np.tile(epochs, len(rows)), np.repeat(rows, self.repeats)

    def window_of(self, step: int) -> tuple[int, int]:
        """Number of the shuffle, and within it of the window, in which an optimiser step begins."""
        shuffle, begin = self._place(step)
        ends = self._shuffle(shuffle)[1]
        return shuffle, int(np.searchsorted(ends, begin // self.unit, side="right"))

    def window_rows(self, shuffle: int, window: int) -> list[tuple[int, int]]:
        """First row and end of each shard of a window; of the next shuffle's where this one has no such window."""
        last = -(-(len(self.starts) - 1) // self.window_shards)
        shuffle, window = shuffle + window // last, window % last
        shards = self._shuffle(shuffle)[0][window * self.window_shards : (window + 1) * self.window_shards]
        return [(int(self.starts[shard]), int(self.starts[shard + 1])) for shard in shards]

    def _is_partial(self, step: int) -> bool:
        return self.partial_rows > 0 and (step + 1) % self.steps_per_epoch == 0

    def _place(self, step: int) -> tuple[int, int]:
        """Number of the shuffle that a step belongs to, and where in it the step's rows begin."""
        shuffle, step_in_shuffle = divmod(step, self.steps_per_epoch * self.repeats)
        return shuffle, step_in_shuffle * (self.step_rows // self.repeats)

    def _rows(self, shuffle: int, begin: int, end: int) -> Int64s:
        """Rows at positions begin..end of a shuffle's order, both multiples of the unit."""
        begin, end = begin // self.unit, end // self.unit
        ends = self._shuffle(shuffle)[1]
        pieces = []
        while begin < end:
            window = int(np.searchsorted(ends, begin, side="right"))
            first = int(ends[window - 1]) if window else 0
            stop = min(end, int(ends[window]))
            pieces.append(self._window(shuffle, window)[begin - first : stop - first])
            begin = stop
        units = np.concatenate(pieces)
        return np.asarray((units[:, None] * self.unit + np.arange(self.unit)).reshape(-1))

    def _shuffle(self, shuffle: int) -> tuple[Int64s, Int64s]:
        """Of a shuffle the shards in their order, and after how many units each window ends; the last two are kept."""
        if shuffle not in self._shuffles:
            shards = permutation(len(self.starts) - 1, key=(self.seed, shuffle << 32 | _SHARDS))
            sizes = np.diff(self.starts // self.unit)[shards]
            ends = np.cumsum(np.add.reduceat(sizes, np.arange(0, len(sizes), self.window_shards)))
            self._shuffles[shuffle] = shards, ends
            if len(self._shuffles) > _KEPT_SHUFFLES:
                self._shuffles.popitem(last=False)
        return self._shuffles[shuffle]

    def _window(self, shuffle: int, window: int) -> Int64s:
        """All units of one window in their order; the last few windows are kept."""
        if (shuffle, window) not in self._windows:
            shards = self._shuffle(shuffle)[0][window * self.window_shards : (window + 1) * self.window_shards]
            starts = self.starts // self.unit
            units = np.concatenate([np.arange(starts[s], starts[s + 1]) for s in shards])
            salt = (shuffle << 32 | _WINDOW) ^ (window << 8)
            self._windows[shuffle, window] = units[permutation(len(units), key=(self.seed, salt))]
            if len(self._windows) > _KEPT_WINDOWS:
                self._windows.popitem(last=False)
        return self._windows[shuffle, window]


def first_rows(starts: Int64s, num_rows: int | None) -> Int64s:
    """Cuts shard starts down to the first `num_rows` rows (all when None).

    **Raises:** `UsageError` if there are not that many.
    """
    if num_rows is None:
        return starts
    if not 0 < num_rows <= starts[-1]:
        raise UsageError(f"data.rows={num_rows}: the data set has {starts[-1]} rows")
    return np.append(starts[starts < num_rows], num_rows)
