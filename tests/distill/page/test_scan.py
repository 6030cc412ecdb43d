"""The scan against the same figures from everything that the store holds."""

from __future__ import annotations

import numpy as np
import pytest

import distill.page.scan
import logitstore
from distill.page.classes import classes_of
from distill.page.scan import BINS, Scan, evenly_spaced, plan, probability_of, scan
from tests.distill.page.conftest import MakeStore, damage


def scanned(store: logitstore.Store, *, blocks: int | None = None, epochs: int = 8, ranking_size: int = 5) -> Scan:
    progress: list[int] = []
    found = scan(
        store, classes_of(store.spec), blocks=blocks, epochs=epochs, ranking_size=ranking_size, progress=progress.append
    )
    assert sum(progress) == found.read.sum()
    return found


def everything(store: logitstore.Store) -> np.ndarray:
    """(E, N, C) probabilities."""
    return np.stack(
        [store.read(epoch=epoch, rows=slice(None)).dense().astype(np.float64) for epoch in range(store.spec.num_epochs)]
    )


def test_rows_that_stand_out_are_those_of_the_whole_store(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store()
    monkeypatch.setattr(distill.page.scan, "_SLICE_ROWS", 5)  # Slices that end within blocks.
    found = scanned(store)
    all_enc, labels = everything(store), np.arange(50) % 8
    label_n = all_enc[:, np.arange(50), labels].mean(axis=0)
    entropies_en = -(all_enc * np.log(all_enc)).sum(axis=-1)
    mean_nc = all_enc.mean(axis=0)
    disagreement_n = -(mean_nc * np.log(mean_nc)).sum(axis=-1) - entropies_en.mean(axis=0)
    assert found.by_label
    assert found.hardest.rows == tuple(np.argsort(label_n)[:5])
    assert found.confident.rows == tuple(np.argsort(-all_enc.max(axis=2).mean(axis=0))[:5])
    assert found.disagreement.rows == tuple(np.argsort(-disagreement_n)[:5])
    assert (found.views, found.labelled, found.empty) == (150, 150, 0)
    assert found.correct == (all_enc.argmax(axis=2) == labels).sum()
    assert found.histograms["entropy"].mean == pytest.approx(entropies_en.mean(), abs=1e-5)
    assert found.histograms["top1"].counts.sum() == 150
    inside, _ = np.histogram(all_enc.max(axis=2), bins=BINS, range=(0, 1))
    np.testing.assert_array_equal(found.histograms["top1"].counts, inside)


def test_without_labels_the_hardest_are_the_least_certain(make_store: MakeStore) -> None:
    store = make_store(labels=False)
    found = scanned(store, ranking_size=3)
    all_enc = everything(store)
    entropy_n = -(all_enc * np.log(all_enc)).sum(axis=-1).mean(axis=0)
    assert not found.by_label
    assert found.hardest.rows == tuple(np.argsort(-entropy_n)[:3])
    assert found.labelled == 0


def test_a_damaged_block_is_noted_and_the_rest_is_read(make_store: MakeStore) -> None:
    store = make_store()
    damage(store, epoch=1, block=2)
    found = scanned(store)
    assert np.argwhere(found.damaged).tolist() == [[1, 2]]
    assert found.read.all()
    assert found.views == 150 - 16
    assert len(found.faults) == 1 and "epoch 1, block 2" in found.faults[0]


def test_a_row_without_a_target_stands_out_nowhere(make_store: MakeStore) -> None:
    store = make_store(blocks=[(0, 0), (1, 0)], num_epochs=2, num_samples=16)
    rows = store.read(epoch=0, rows=slice(None))
    logprobs, tail = rows.logprobs.copy(), rows.tail.copy()
    logprobs[3], tail[3] = -np.inf, 0
    with logitstore.writer(store.path) as writer:
        for epoch in range(2):
            writer.write(
                epoch, 0, seeds=rows.seeds, indices=rows.indices, logprobs=logprobs, tail=tail, proof=9, replace=True
            )
    found = scanned(logitstore.open(store.path), ranking_size=50)
    assert found.empty == 2 and found.views == 32
    for ranking in (found.hardest, found.confident, found.disagreement):
        assert set(ranking.rows) == set(range(16)) - {3}
    assert found.histograms["entropy"].counts.sum() == 30


def test_a_plan_is_spread_and_bounded() -> None:
    done = np.ones((10, 100), bool)
    planned = list(plan(done, blocks=24, epochs=4))
    assert sum(len(epochs) for _, epochs in planned) == 24
    assert [planned[0], planned[-1]] == [(0, [0, 3, 6, 9]), (99, [0, 3, 6, 9])]
    done[:, 50:] = False
    done[5:] = False
    assert all(block < 50 and max(epochs) < 5 for block, epochs in plan(done, blocks=24, epochs=4))
    assert sum(len(epochs) for _, epochs in plan(done, blocks=None, epochs=4)) == 250
    assert sum(len(epochs) for _, epochs in plan(done, blocks=1, epochs=4)) == 1
    assert list(plan(np.zeros((2, 3), bool), blocks=5, epochs=4)) == []


def test_evenly_spaced_values_include_both_ends() -> None:
    assert evenly_spaced(np.arange(10), 3).tolist() == [0, 4, 9]
    assert evenly_spaced(np.arange(3), 5).tolist() == [0, 1, 2]
    assert evenly_spaced(np.arange(10), 1).tolist() == [0]


def test_the_probability_of_a_class_is_that_of_the_dense_row(make_store: MakeStore) -> None:
    rows = make_store().read(epoch=0, rows=slice(None))
    for index in range(8):
        wanted = rows.dense()[:, index]
        np.testing.assert_allclose(probability_of(rows, np.full(50, index)), wanted, rtol=1e-5)
