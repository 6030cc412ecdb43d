"""The order of rows: arithmetic alone, so tested without data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.data.order import Order, first_rows, permutation
from distill.data.seeds import view_seeds
from distill.errors import UsageError


def epoch_rows(order: Order, epoch: int, *, rank: int | None = None) -> list[int]:
    """All rows of an epoch in the order they are trained on, of one rank or of all."""
    ranks = range(order.world) if rank is None else [rank]
    rows: list[int] = []
    for step in range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch):
        for part in range(order.accumulate):
            for r in ranks:
                got_epoch, batch = order.batch(step, part=part, rank=r)
                assert got_epoch == epoch
                rows.extend(batch.tolist())
    return rows


@settings(max_examples=60, deadline=None)
@given(
    shard_sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    batch_size=st.integers(1, 7),
    world=st.integers(1, 3),
    accumulate=st.integers(1, 3),
    window_shards=st.integers(1, 5),
    seed=st.integers(0, 2**32),
)
def test_an_epoch_holds_each_row_at_most_once_and_only_the_last_step_is_missing(
    shard_sizes: list[int], batch_size: int, world: int, accumulate: int, window_shards: int, seed: int
) -> None:
    starts = np.concatenate([[0], np.cumsum(shard_sizes)])
    if starts[-1] < batch_size * world * accumulate:
        with pytest.raises(UsageError, match="do not fill one step"):
            Order(starts=starts, seed=seed, batch_size=batch_size, world=world, accumulate=accumulate)
        return
    order = Order(
        starts=starts, seed=seed, batch_size=batch_size, world=world, accumulate=accumulate, window_shards=window_shards
    )
    for epoch in (0, 5):
        rows = epoch_rows(order, epoch)
        assert len(set(rows)) == len(rows) == order.steps_per_epoch * order.step_rows
        assert starts[-1] - len(rows) < order.step_rows
        assert min(rows) >= 0
        assert max(rows) < starts[-1]


def test_processes_and_accumulation_only_divide_one_global_order() -> None:
    starts = np.array([0, 50, 100, 130, 200])
    whole = Order(starts=starts, seed=3, batch_size=24)
    for world, accumulate in ((2, 1), (1, 2), (2, 3), (4, 2)):
        divided = Order(
            starts=starts, seed=3, batch_size=24 // (world * accumulate), world=world, accumulate=accumulate
        )
        for epoch in range(3):
            assert epoch_rows(divided, epoch) == epoch_rows(whole, epoch)


def test_ranks_take_the_same_number_of_rows() -> None:
    order = Order(starts=np.array([0, 33, 71]), seed=0, batch_size=5, world=3)
    lengths = {len(epoch_rows(order, 0, rank=rank)) for rank in range(3)}
    assert lengths == {order.steps_per_epoch * 5}


def test_epochs_and_seeds_differ() -> None:
    starts = np.array([0, 64, 128])
    orders = {tuple(epoch_rows(Order(starts=starts, seed=s, batch_size=8), e)) for s in (0, 1) for e in (0, 1)}
    assert len(orders) == 4


def test_rows_stay_within_a_window_of_shards() -> None:
    starts = np.arange(0, 1001, 100)
    order = Order(starts=starts, seed=1, batch_size=10, window_shards=2)
    rows = np.array(epoch_rows(order, 0))
    for window in rows.reshape(5, 200):
        shards = np.unique(window // 100)
        assert len(shards) == 2
        assert not np.array_equal(window, np.sort(window))


def test_known_order() -> None:
    """Holds the order still: a change would silently move every run that is resumed."""
    order = Order(starts=np.array([0, 4, 8, 10]), seed=7, batch_size=5, window_shards=2)
    assert epoch_rows(order, 0) == KNOWN_ORDER
    assert permutation(8, key=(1, 2)).tolist() == KNOWN_PERMUTATION


KNOWN_ORDER = [8, 4, 5, 9, 7, 6, 2, 0, 3, 1]
KNOWN_PERMUTATION = [4, 2, 0, 6, 1, 5, 7, 3]


def test_every_order_of_a_few_rows_is_about_as_likely() -> None:
    counts: dict[tuple[int, ...], int] = {}
    for seed in range(6000):
        order = tuple(permutation(3, key=(seed, 0)).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 6
    assert all(850 < count < 1150 for count in counts.values())


def test_first_rows_cuts_within_a_shard() -> None:
    starts = np.array([0, 10, 20, 30])
    assert first_rows(starts, 15).tolist() == [0, 10, 15]
    assert first_rows(starts, 20).tolist() == [0, 10, 20]
    assert first_rows(starts, None) is starts
    with pytest.raises(UsageError, match="has 30 rows"):
        first_rows(starts, 31)


def test_view_seeds_count_up_and_never_repeat() -> None:
    first = view_seeds(range(100), base=3, epoch=0, num_samples=100)
    second = view_seeds(np.arange(100), base=3, epoch=1, num_samples=100)
    assert first.dtype == np.uint64
    assert (np.diff(np.concatenate([first, second])) == 1).all()
    assert first[0] == 3 * 2**40
    assert view_seeds(range(1), base=2**24 - 1, epoch=0, num_samples=1)[0] == (2**24 - 1) * 2**40
