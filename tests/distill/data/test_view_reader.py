"""Mixed views, read in pairs: against the definition, at any batch bounds and image size."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch

from distill.data.batches import BlockBatches, BlockSlice, TrainBatches
from distill.data.catalog import Catalog
from distill.data.order import Order
from distill.data.pairs import group_starts
from distill.data.seeds import DerivedSeeds
from distill.data.view_reader import ViewReader
from distill.views import MixSpec, ViewSpec, draw, draw_mix, image_size, mix_pixels, own_weight, render

SPEC = ViewSpec(mix=MixSpec(group_size=16))


def source_of(catalog: Catalog) -> DerivedSeeds:
    return DerivedSeeds(base=3, num_samples=len(catalog))


def train_batches(catalog: Catalog, *, size: int = 32, spec: ViewSpec = SPEC) -> TrainBatches:
    starts = group_starts(catalog.starts, spec.mix, num_rows=len(catalog))
    order = Order(starts=starts, seed=0, batch_size=10, unit=2)
    return TrainBatches(catalog, order=order, rank=0, spec=spec, size=size, source=source_of(catalog))


def test_a_mixed_image_is_made_of_the_two_views_of_its_pair(catalog: Catalog) -> None:
    """Against the definition, one row at a time; rows 144 to 149 are a short group."""
    source = source_of(catalog)
    views = ViewReader(catalog, size=32, spec=SPEC, source=source)
    pairs = views.pairs
    assert pairs is not None and SPEC.mix is not None

    def seed_of(row: int) -> int:
        return int(source.seeds(np.array([1]), np.array([row]))[0])

    def alone(row: int) -> np.ndarray:
        data = views.reader.read(row)
        return render(data, draw(SPEC, seed_of(row), image_size(data)), size=32)

    kinds = set()
    for row in (0, 7, 15, 16, 100, 144, 149):
        partner = int(pairs.partners(np.array([1]), np.array([row]))[0])
        assert partner // 16 == row // 16 and partner != row
        assert int(pairs.partners(np.array([1]), np.array([partner]))[0]) == row
        mixing = draw_mix(SPEC.mix, seed_of(min(row, partner)))
        assert mixing is not None
        kinds.add(mixing.kind)
        epochs, rows = np.array([1]), np.array([row])
        batch = views.read(epochs, rows, source.seeds(epochs, rows))
        assert batch.mix_weights_b is not None and batch.partner_labels_b is not None
        assert np.array_equal(batch.pixels_bhwc[0], mix_pixels(alone(row), alone(partner), mixing))
        assert batch.mix_weights_b.item() == pytest.approx(own_weight(mixing, size=32))
        assert batch.labels_b.item() == catalog.labels[row]
        assert batch.partner_labels_b.item() == catalog.labels[partner]
    assert kinds == {"mixup", "cutmix"}


def test_teacher_batches_have_the_students_images_at_any_batch_bounds(catalog: Catalog) -> None:
    blocks = BlockBatches(catalog, spec=SPEC, size=32, seed=3, rows_per_block=64, proof_rows=2)
    train = train_batches(catalog)
    whole: dict[int, Any] = {}
    for index in range(train.order.steps_per_epoch):
        batch = train[index]
        whole |= dict(zip(batch.rows_b.tolist(), batch.pixels_bhwc.numpy(), strict=True))
        assert batch.rows_b.reshape(-1, 2).unique(dim=0).shape == (5, 2)
    assert len(whole) == 150
    for begin in range(0, 150, 11):
        (batch,) = blocks[BlockSlice((0,), begin // 64, begin, min(150, begin + 11), last=False)]
        for row, pixels in zip(batch.rows_b.tolist(), batch.pixels_bhwc.numpy(), strict=True):
            assert np.array_equal(pixels, whole[row])


def test_another_size_has_the_same_mix(catalog: Catalog) -> None:
    small, large = train_batches(catalog, size=32)[0], train_batches(catalog, size=96)[0]
    assert torch.equal(small.rows_b, large.rows_b)
    assert small.mix_weights_b is not None and large.mix_weights_b is not None
    torch.testing.assert_close(small.mix_weights_b, large.mix_weights_b, rtol=0, atol=2.1 / 32)
    plain = train_batches(catalog, size=32, spec=ViewSpec(mix=MixSpec(group_size=16, prob=0.0)))[0]
    for n in range(len(small)):
        shrunk = cv2.resize(large.pixels_bhwc[n].numpy(), (32, 32), interpolation=cv2.INTER_AREA).astype(float)
        near = np.abs(shrunk - small.pixels_bhwc[n].numpy()).mean()
        assert near < 14
        if 0.3 < small.mix_weights_b[n] < 0.7:
            assert near < np.abs(shrunk - plain.pixels_bhwc[n].numpy()).mean()


def test_a_damaged_image_takes_its_partner_with_it(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    train = train_batches(catalog)
    row, partner = train[0].rows_b[:2].tolist()
    read = train.views.reader.read

    def damaged(n: int) -> bytes:
        return read(n)[:40] if n == row else read(n)

    monkeypatch.setattr(train.views.reader, "read", damaged)
    batch = train[0]
    assert batch.weights_b.tolist() == [0, 0, *[1] * 8]
    assert [entry.row for entry in batch.damage] == [row]
    assert partner != row
