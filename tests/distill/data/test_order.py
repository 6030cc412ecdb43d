"""The order of rows: arithmetic alone, so tested without data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.data.order import Order, first_rows, permutation
from distill.data.pairs import group_starts
from distill.data.seeds import DerivedSeeds
from distill.errors import UsageError
from distill.views import MixSpec


def epoch_rows(order: Order, epoch: int, *, rank: int | None = None) -> list[int]:
    """All rows of an epoch in the order they are trained on, of one rank or of all."""
    ranks = range(order.world) if rank is None else [rank]
    rows: list[int] = []
    for step in range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch):
        for micro_batch in range(order.accumulate):
            for r in ranks:
                got_epochs, batch = order.batch(step, micro_batch=micro_batch, rank=r)
                assert got_epochs.tolist() == [epoch] * order.batch_size
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


@settings(max_examples=60, deadline=None)
@given(
    num_rows=st.integers(2, 150),
    units_in_batch=st.integers(1, 4),
    unit=st.integers(1, 2),
    world=st.integers(1, 4),
    accumulate=st.integers(1, 3),
)
def test_a_partial_step_takes_the_rest_of_an_epoch_evenly(
    num_rows: int, units_in_batch: int, unit: int, world: int, accumulate: int
) -> None:
    starts = np.append(np.arange(0, num_rows, 10), num_rows)
    settings: dict[str, Any] = {
        "batch_size": units_in_batch * unit,
        "world": world,
        "accumulate": accumulate,
        "unit": unit,
    }
    if num_rows // unit < world:
        with pytest.raises(UsageError, match="do not fill one step"):
            Order(starts=starts, seed=1, partial=True, **settings)
        return
    order = Order(starts=starts, seed=1, partial=True, **settings)
    for epoch in (0, 3):
        seen: list[int] = []
        steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
        for step in steps:
            sizes = []
            for micro_batch in range(order.micro_batches_of(step)):
                batches = [order.batch(step, micro_batch=micro_batch, rank=rank)[1] for rank in range(world)]
                assert all(len(rows) and len(rows) % unit == 0 for rows in batches)
                assert max(map(len, batches)) - min(map(len, batches)) <= unit
                sizes += [len(rows) for rows in batches]
                seen += [row for rows in batches for row in rows.tolist()]
            assert sum(sizes) == order.rows_of(step) <= order.step_rows
            assert order.rows_of(step) == order.step_rows or step == steps[-1]
            assert set(sizes[: -world or None]) <= {order.batch_size}
        assert len(set(seen)) == len(seen)
        assert num_rows // unit * unit - len(seen) < world * unit
        assert list(order.indices(steps[0], steps[-1] + 1)) == [
            step * accumulate + micro_batch for step in steps for micro_batch in range(order.micro_batches_of(step))
        ]


def test_a_partial_step_leaves_the_others_as_they_are() -> None:
    starts = np.array([0, 50, 100, 130, 200])
    whole, plain = (Order(starts=starts, seed=3, batch_size=24, partial=partial) for partial in (True, False))
    assert (whole.steps_per_epoch, plain.steps_per_epoch) == (9, 8)
    for epoch in range(2):
        for step in range(8):
            ours, theirs = whole.batch(epoch * 9 + step), plain.batch(epoch * 8 + step)
            assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert sorted(epoch_rows(plain, epoch) + whole.batch(epoch * 9 + 8)[1].tolist()) == list(range(200))
    with pytest.raises(UsageError, match=r"train\.partial_step cannot be used with train\.repeats"):
        Order(starts=starts, seed=3, batch_size=24, partial=True, repeats=2)


def test_processes_and_accumulation_only_divide_one_global_order() -> None:
    starts = np.array([0, 50, 100, 130, 200])
    whole = Order(starts=starts, seed=3, batch_size=24)
    for world, accumulate in ((2, 1), (1, 2), (2, 3), (4, 2)):
        divided = Order(
            starts=starts, seed=3, batch_size=24 // (world * accumulate), world=world, accumulate=accumulate
        )
        for epoch in range(3):
            assert epoch_rows(divided, epoch) == epoch_rows(whole, epoch)


@settings(max_examples=60, deadline=None)
@given(
    shard_sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    groups=st.integers(1, 4),
    pairs_in_batch=st.integers(1, 4),
    world=st.integers(1, 3),
    accumulate=st.integers(1, 2),
    seed=st.integers(0, 2**32),
)
def test_pairs_are_dealt_together_and_each_once(
    shard_sizes: list[int], groups: int, pairs_in_batch: int, world: int, accumulate: int, seed: int
) -> None:
    mix, num_rows = MixSpec(group_size=2 * groups), sum(shard_sizes)
    starts = group_starts(np.concatenate([[0], np.cumsum(shard_sizes)]), mix, num_rows=num_rows)
    assert not (starts[:-1] % mix.group_size).any() and starts[-1] == num_rows and (np.diff(starts) > 0).all()
    if num_rows // 2 < pairs_in_batch * world * accumulate:
        return
    order = Order(
        starts=starts, seed=seed, batch_size=2 * pairs_in_batch, world=world, accumulate=accumulate, window_shards=3,
        unit=2,
    )  # fmt: skip
    rows = epoch_rows(order, 2)
    assert len(set(rows)) == len(rows) == order.steps_per_epoch * order.step_rows
    assert num_rows - num_rows % 2 - len(rows) < order.step_rows
    assert all(a % 2 == 0 and b == a + 1 for a, b in zip(rows[::2], rows[1::2], strict=True))
    whole = Order(starts=starts, seed=seed, batch_size=order.step_rows, window_shards=3, unit=2)
    assert epoch_rows(whole, 2) == rows


@settings(max_examples=60, deadline=None)
@given(
    shard_sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    repeats=st.integers(1, 4),
    rows_in_batch=st.integers(1, 4),
    world=st.integers(1, 3),
    seed=st.integers(0, 2**32),
)
def test_repeats_deal_every_view_of_some_epochs_once(
    shard_sizes: list[int], repeats: int, rows_in_batch: int, world: int, seed: int
) -> None:
    starts = np.concatenate([[0], np.cumsum(shard_sizes)])
    if starts[-1] < rows_in_batch * repeats * world:
        return
    order = Order(starts=starts, seed=seed, batch_size=rows_in_batch * repeats, world=world, repeats=repeats)
    plain = Order(starts=starts, seed=seed, batch_size=rows_in_batch * repeats, world=world)
    assert order.steps_per_epoch == plain.steps_per_epoch
    views: list[tuple[int, int]] = []
    for step in range(order.steps_per_epoch * repeats, 2 * order.steps_per_epoch * repeats):
        for rank in range(world):
            epochs, rows = order.batch(step, rank=rank)
            views.extend(zip(epochs.tolist(), rows.tolist(), strict=True))
            assert (rows.reshape(-1, repeats) == rows[::repeats, None]).all()
            assert len(np.unique(rows)) == rows_in_batch
    assert len(set(views)) == len(views) == repeats * order.steps_per_epoch * order.step_rows
    assert {epoch for epoch, _ in views} == set(range(repeats, 2 * repeats))
    counts = np.unique([row for _, row in views], return_counts=True)[1]
    assert (counts == repeats).all()


def test_batches_that_cannot_hold_pairs_or_repeats_are_refused() -> None:
    for more in ({"unit": 2}, {"repeats": 3}):
        with pytest.raises(UsageError, match=r"train\.batch_size=5: must be a multiple"):
            Order(
                starts=np.array([0, 50]), seed=0, batch_size=5, unit=more.get("unit", 1), repeats=more.get("repeats", 1)
            )
    with pytest.raises(UsageError, match="take 24"):
        group_starts(np.array([0, 20, 30]), MixSpec(group_size=8), num_rows=100)


def test_windows_are_known_ahead() -> None:
    order = Order(starts=np.arange(0, 1001, 100), seed=1, batch_size=10, window_shards=4)
    for step in (0, 39, 40, 99, 100, 250):
        shuffle, window = order.window_of(step)
        _, rows = order.batch(step)
        shards = order.window_rows(shuffle, window)
        assert all(any(first <= row < end for first, end in shards) for row in rows.tolist())
    assert order.window_rows(0, 3) == order.window_rows(1, 0)


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


def test_derived_seeds_count_up_and_never_repeat() -> None:
    source = DerivedSeeds(base=3, num_samples=100)
    first, second = (source.seeds(np.full(100, epoch), np.arange(100)) for epoch in range(2))
    assert first.dtype == np.uint64
    assert (np.diff(np.concatenate([first, second])) == 1).all()
    assert first[0] == 3 * 2**40
    (last,) = DerivedSeeds(base=2**24 - 1, num_samples=1).seeds(np.zeros(1, np.int64), np.zeros(1, np.int64))
    assert last == (2**24 - 1) * 2**40
