"""The order of rows: which rows each rank reads at each step, by integer arithmetic alone.

The order of an epoch is a shuffle in two levels. The tar shards are permuted, and `window_shards` consecutive permuted
shards form a window, within which the rows are permuted. So a loader reads from a few shards at a time, and rows of one
shard have different neighbours in every epoch.

Step `t` takes `world * accumulate * batch_size` consecutive rows of that global order; each of its micro-batches is
divided among the ranks 0, 1, ... in turn. So the rows of a step depend neither on the number of loader workers nor on
how the global batch is divided into processes and micro-batches. Rows that do not fill a last step are left out of the
epoch; these are different rows in every epoch.

Three options change the assignment of rows, not these properties:

- `unit` neighbouring rows stay together: the two of a mixed pair, so that each image is decoded once.
- `repeats`: a row comes with its views of that many consecutive epochs at once (repeated augmentation: Hoffer et al.,
  "Augment your batch", CVPR 2020), so that it is decoded once for all of them. Epochs 0 .. r - 1 then have one common
  order, epochs r .. 2r - 1 the next, and every view is read as often as without repeats: at most once in r epochs.
- `partial`: the rows that do not fill a last step form a smaller one. It has as many full micro-batches as there are
  rows for, then one that is divided among the ranks as equally as possible. Every rank has the same number of
  micro-batches, none of them empty: fewer units than ranks are left out.
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
_CACHED_WINDOWS = 4
_CACHED_SHUFFLES = 2


def permutation(length: int, *, key: tuple[int, int]) -> Int64s:
    """(length,) int64: the order that sorts the raw words of a Philox generator of the given 2 x 64-bit key.

    Philox4x64-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011) with the counter from 0.
    It uses raw words alone, so that a changed sampling method in a library cannot change an order.
    """
    words = np.random.Philox(key=np.array(key, np.uint64)).random_raw(length)
    return np.argsort(words, kind="stable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The order of all epochs of a run, for every rank."""

    starts: Int64s
    """(S + 1,) first row of each tar shard, then N, the number of rows that the run uses. With a unit of u all but the
    last are multiples of u."""
    seed: int
    batch_size: int
    """Views of one micro-batch of one process."""
    world: int = 1
    accumulate: int = 1
    """Micro-batches of one optimiser step."""
    window_shards: int = 16
    unit: int = 1
    """Neighbouring rows that stay together; a last incomplete unit is left out."""
    repeats: int = 1
    """Views of a row in one batch, each of another epoch."""
    partial: bool = False
    """Whether the rows that do not fill the last step of an epoch form a smaller one; not with repeats."""
    _windows: OrderedDict[tuple[int, int], Int64s] = field(default_factory=OrderedDict, repr=False, compare=False)
    _shuffles: OrderedDict[int, tuple[Int64s, Int64s]] = field(default_factory=OrderedDict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.partial and self.repeats > 1:
            raise UsageError(
                "train.partial_step cannot be used with train.repeats > 1, which reads several epochs together"
            )
        if self.batch_size % (self.unit * self.repeats):
            raise UsageError(
                f"train.batch_size={self.batch_size}: must be a multiple of {self.unit * self.repeats}: units of "
                f"{self.unit} rows (2 where views are mixed), each row with {self.repeats} views (train.repeats)"
            )
        if self.steps_per_epoch == 0:
            raise UsageError(
                f"{self.num_rows} rows do not fill one step of {self.step_rows} rows (batch_size {self.batch_size} x "
                f"{self.world} processes x accumulate {self.accumulate}): choose a smaller train.batch_size"
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
        """Micro-batches per process of optimiser step `step`."""
        return -(-self.rows_of(step) // (self.world * self.batch_size))

    def indices(self, begin: int, end: int) -> Sequence[int]:
        """The index of every micro-batch of steps begin .. end - 1: step * accumulate + micro-batch."""
        if not self.partial_rows:
            return range(begin * self.accumulate, end * self.accumulate)
        return [step * self.accumulate + m for step in range(begin, end) for m in range(self.micro_batches_of(step))]

    def batch(self, step: int, *, micro_batch: int = 0, rank: int = 0) -> tuple[Int64s, Int64s]:
        """Epochs and rows, both (batch_size,) int64 (fewer in a partial step), of a micro-batch of optimiser step
        `step` at `rank`. The views of one row are neighbours."""
        shuffle, position = self._position(step)
        first = micro_batch * self.world * self.batch_size
        units = min(self.world * self.batch_size, self.rows_of(step) - first) // self.unit
        begin, end = ((first + units * r // self.world * self.unit) // self.repeats for r in (rank, rank + 1))
        rows = self._rows(shuffle, position + begin, position + end)
        epochs = shuffle * self.repeats + np.arange(self.repeats)
        return np.tile(epochs, len(rows)), np.repeat(rows, self.repeats)

    def window_of(self, step: int) -> tuple[int, int]:
        """Index of the shuffle, and of the window in it, in which an optimiser step begins."""
        shuffle, begin = self._position(step)
        ends = self._shuffle(shuffle)[1]
        return shuffle, int(np.searchsorted(ends, begin // self.unit, side="right"))

    def window_rows(self, shuffle: int, window: int) -> list[tuple[int, int]]:
        """First row and end of each shard of a window; windows after the last are those of the next shuffle."""
        num_windows = -(-(len(self.starts) - 1) // self.window_shards)
        shuffle, window = shuffle + window // num_windows, window % num_windows
        shards = self._shuffle(shuffle)[0][window * self.window_shards : (window + 1) * self.window_shards]
        return [(int(self.starts[shard]), int(self.starts[shard + 1])) for shard in shards]

    def _is_partial(self, step: int) -> bool:
        return self.partial_rows > 0 and (step + 1) % self.steps_per_epoch == 0

    def _position(self, step: int) -> tuple[int, int]:
        """Index of the shuffle that a step belongs to, and the position in it where the step's rows begin."""
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
        """The shards of a shuffle in order, and the number of units up to the end of each window; two shuffles are
        cached."""
        if shuffle not in self._shuffles:
            shards = permutation(len(self.starts) - 1, key=(self.seed, shuffle << 32 | _SHARDS))
            sizes = np.diff(self.starts // self.unit)[shards]
            ends = np.cumsum(np.add.reduceat(sizes, np.arange(0, len(sizes), self.window_shards)))
            self._shuffles[shuffle] = shards, ends
            if len(self._shuffles) > _CACHED_SHUFFLES:
                self._shuffles.popitem(last=False)
        return self._shuffles[shuffle]

    def _window(self, shuffle: int, window: int) -> Int64s:
        """All units of one window in order; the last few windows are cached."""
        if (shuffle, window) not in self._windows:
            shards = self._shuffle(shuffle)[0][window * self.window_shards : (window + 1) * self.window_shards]
            starts = self.starts // self.unit
            units = np.concatenate([np.arange(starts[s], starts[s + 1]) for s in shards])
            salt = (shuffle << 32 | _WINDOW) ^ (window << 8)
            self._windows[shuffle, window] = units[permutation(len(units), key=(self.seed, salt))]
            if len(self._windows) > _CACHED_WINDOWS:
                self._windows.popitem(last=False)
        return self._windows[shuffle, window]


def first_rows(starts: Int64s, num_rows: int | None) -> Int64s:
    """Shard starts of the first `num_rows` rows; of all rows where that is None.

    **Raises:** `UsageError` if there are fewer.
    """
    if num_rows is None:
        return starts
    if not 0 < num_rows <= starts[-1]:
        raise UsageError(f"data.rows={num_rows}: the data set has {starts[-1]} rows")
    return np.append(starts[starts < num_rows], num_rows)
