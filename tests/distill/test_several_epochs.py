"""Several epochs' views from one decoding change no value: in the teacher pass, and in the student's."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.data.batches import TrainBatches
from distill.data.catalog import Catalog
from distill.data.order import Order
from distill.data.seeds import DerivedSeeds
from distill.data.shards import ShardReader
from distill.errors import UsageError
from distill.teacher.run import list_tasks
from distill.views import ViewSpec, pixel_digest
from tests.distill.test_teacher_pass import content
from tests.programs import call, student_words, teacher_words

MIXED = ("view=randaugment_mix", "view.mix.group_size=16")


def test_missing_blocks_are_grouped_by_runs_of_epochs() -> None:
    missing = [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (3, 1), (4, 0)]
    assert list_tasks(missing, epochs_per_read=1) == [((e,), b) for e, b in missing]
    assert list_tasks(missing, epochs_per_read=2) == [
        ((0, 1), 0), ((0,), 1), ((2,), 0), ((2, 3), 1), ((4,), 0),
    ]  # fmt: skip
    assert list_tasks(missing, epochs_per_read=9) == [((0, 1, 2, 4), 0), ((0, 2, 3), 1)]


@pytest.mark.parametrize("view", [(), MIXED])
def test_a_store_is_the_same_from_fewer_decodings(
    data_path: Path, teacher_weights: Path, tmp_path: Path, view: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("store.epochs=3", *view)
    call("save_logits", teacher_words(data_path, teacher_weights, tmp_path / "one.zarr", *words))
    reads: Counter[int] = Counter()
    read = ShardReader.read

    def counted(self: ShardReader, row: int) -> bytes:
        reads[row] += 1
        return read(self, row)

    monkeypatch.setattr(ShardReader, "read", counted)
    more = (*words, "store.epochs_per_read=2")
    call("save_logits", teacher_words(data_path, teacher_weights, tmp_path / "two.zarr", *more))
    assert set(reads.values()) == {2}  # epochs 0 and 1 together, then 2
    assert content(tmp_path / "two.zarr") == content(tmp_path / "one.zarr")


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


def test_a_student_trains_with_repeats(data_path: Path, teacher_weights: Path, tmp_path: Path) -> None:
    store = tmp_path / "t.zarr"
    call("save_logits", teacher_words(data_path, teacher_weights, store), views=tmp_path / "teacher")
    words = student_words(
        data_path, tmp_path / "run", f"store.path={store}", "train.repeats=2", "train.batch_size=30", "train.epochs=2",
        "data.workers=2",
    )  # fmt: skip
    call("train_student", words, views=tmp_path / "student")
    student = (tmp_path / "student.rank0").read_text().splitlines()
    assert sorted(student) == sorted((tmp_path / "teacher.rank0").read_text().splitlines())
    rows = [int(line.split()[1]) for line in student]
    assert rows[::2] == rows[1::2]
    with pytest.raises(UsageError, match="the store has 2 epochs"):
        call("train_student", [*words, "train.repeats=3"])
