"""Batches of views: several epochs' views from one decoding."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from distill.data.batches import TrainBatches
from distill.data.catalog import Catalog
from distill.data.order import Order
from distill.data.seeds import DerivedSeeds
from distill.data.shards import ShardReader
from distill.views import ViewSpec, pixel_digest


def test_repeats_give_the_same_views_from_fewer_decodings(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ViewSpec()
    views: list[Any] = []
    reads: list[int] = []
    source = DerivedSeeds(base=1, num_samples=len(catalog))
    read = ShardReader.read

    def counted(self: ShardReader, row: int) -> bytes:
        reads[-1] += 1
        return read(self, row)

    monkeypatch.setattr(ShardReader, "read", counted)
    for repeats in (1, 3):
        order = Order(starts=catalog.starts, seed=0, batch_size=30, repeats=repeats)
        dataset = TrainBatches(catalog, order=order, rank=0, spec=spec, size=32, source=source)
        reads.append(0)
        seen: list[tuple[int, int, int]] = []
        for step in range(3 * order.steps_per_epoch):
            batch = dataset[step]
            assert not torch.equal(batch.pixels_bhwc[0], batch.pixels_bhwc[1])
            digests = map(pixel_digest, batch.pixels_bhwc.numpy())
            seen += zip(batch.epochs_b.tolist(), batch.rows_b.tolist(), digests, strict=True)
        views.append(sorted(seen))
    assert views[0] == views[1]
    assert reads == [450, 150]
