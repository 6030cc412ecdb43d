"""Mixed views end to end: the student is given the teacher's mixed pictures, at any batch size and picture size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import logitstore
from distill.data.batches import BlockBatches, BlockSlice, TrainBatches
from distill.data.catalog import Catalog
from distill.data.order import Order
from distill.data.pairs import Pairs, group_starts
from distill.data.seeds import DerivedSeeds
from distill.data.view_reader import ViewReader
from distill.errors import DistillError, UsageError
from distill.runs.metric_log import read_metrics
from distill.views import MixSpec, ViewSpec, draw, draw_mix, image_size, mix_pixels, own_weight, render
from tests.conftest import read_image
from tests.programs import call, student_words, teacher_words

SPEC = ViewSpec(mix=MixSpec(group_size=16))
MIXED = ("view=randaugment_mix", "view.mix.group_size=16")


@pytest.fixture(scope="module")
def store_path(data_path: Path, teacher_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs of mixed views; the teacher's batches end within groups now and then."""
    folder = tmp_path_factory.mktemp("mixed")
    more = (*MIXED, "batch_size=24")
    call("save_logits", teacher_words(data_path, teacher_weights, folder / "t.zarr", *more), views=folder / "teacher")
    return folder / "t.zarr"


def source_of(catalog: Catalog) -> DerivedSeeds:
    return DerivedSeeds(base=3, num_samples=len(catalog))


def train_batches(catalog: Catalog, *, size: int = 32, spec: ViewSpec = SPEC) -> TrainBatches:
    starts = group_starts(catalog.starts, spec.mix, num_rows=len(catalog))
    order = Order(starts=starts, seed=0, batch_size=10, unit=2)
    return TrainBatches(catalog, order=order, rank=0, spec=spec, size=size, source=source_of(catalog))


def test_the_student_is_given_the_mixed_pictures_that_the_teacher_was_given(
    store_path: Path, data_path: Path, tmp_path: Path
) -> None:
    teacher = (store_path.parent / "teacher.rank0").read_text().splitlines()
    assert len(set(teacher)) == 300
    words = student_words(
        data_path, tmp_path / "run", f"store.path={store_path}",
        "train.batch_size=30", "train.epochs=4", "data.workers=2",
    )  # fmt: skip
    call("train_student", words, views=tmp_path / "student")
    assert sorted((tmp_path / "student.rank0").read_text().splitlines()) == sorted(teacher * 2)


def test_a_mixed_picture_is_made_of_the_two_views_of_its_pair(catalog: Catalog) -> None:
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


def test_teacher_batches_hold_the_students_pictures_whatever_their_bounds(catalog: Catalog) -> None:
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


def test_an_odd_last_row_is_alone(catalog: Catalog) -> None:
    assert SPEC.mix is not None
    pairs = Pairs(SPEC.mix, num_rows=149, source=source_of(catalog))
    partners = pairs.partners(np.zeros(149, np.int64), np.arange(149))
    (alone,) = np.flatnonzero(partners == np.arange(149)).tolist()
    assert alone >= 144
    assert pairs.rows_at(0, np.array([148])).tolist() == [alone]


def test_another_size_shows_the_same_mix(catalog: Catalog) -> None:
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


def test_a_damaged_picture_takes_its_partner_with_it(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_labels_are_mixed_in_label_training(data_path: Path, tmp_path: Path) -> None:
    words = student_words(data_path, tmp_path / "run", *MIXED, "train.steps=3", "train.label_smoothing=0.1")
    call("train_student", words)
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in lines if "lr" in line] == [1, 2, 3]


def test_verification_proves_mixed_pictures_and_explains_one(
    store_path: Path, data_path: Path, teacher_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"data.path={data_path}", f"store.path={store_path}", "data.workers=0", "compute.threads=1"]
    teacher = ["teacher=tiny_vit", f"teacher.weights={teacher_weights}", "check.rows=40"]
    call("verify_logits", [*words, *teacher])
    out = capsys.readouterr().out
    assert "6 of 6 blocks replay identically" in out and "is verified" in out
    call("verify_logits", [*words, "show.row=3", "show.epoch=1", f"show.png={tmp_path / 'view.png'}"])
    out = capsys.readouterr().out
    assert "row 3 with row " in out and ("mixup: " in out or "cutmix: " in out)
    assert out.count("crop: ") == 2
    picture = cv2.cvtColor(read_image(tmp_path / "view.png"), cv2.COLOR_BGR2RGB)
    seen = {line.rsplit(" ", 1)[0]: line.rsplit(" ", 1)[1] for line in
            (store_path.parent / "teacher.rank0").read_text().splitlines()}  # fmt: skip
    from distill.views import pixel_digest

    assert seen["1 3"] == f"{pixel_digest(picture):016x}"


def test_what_does_not_fit_is_refused(data_path: Path, teacher_weights: Path, store_path: Path, tmp_path: Path) -> None:
    words = teacher_words(data_path, teacher_weights, tmp_path / "t.zarr", *MIXED, "view.mix.group_size=48")
    with pytest.raises(UsageError, match="must divide the rows of a block, 64"):
        call("save_logits", words)
    student = student_words(data_path, tmp_path / "run", f"store.path={store_path}")
    for more, what in (
        ("train.batch_size=15", "must be a multiple of 2"),
        ("data.rows=100", "take 96"),
        ("train.repeats=2", "does not go with mixed views"),
    ):
        with pytest.raises(UsageError, match=what):
            call("train_student", [*student, more])


def test_a_changed_mix_is_found_by_the_proofs(
    store_path: Path, data_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import distill.data.view_reader

    monkeypatch.setattr(distill.data.view_reader, "mix_pixels", lambda own, other, mixing: own)
    words = student_words(data_path, tmp_path / "run", f"store.path={store_path}")
    with pytest.raises(DistillError, match="do not come out here"):
        call("train_student", words)
    assert logitstore.open(store_path).done().all()
