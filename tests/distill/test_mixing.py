"""Mixed views, from the teacher pass to the student: the student is given the images that the teacher was given."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

import logitstore
from distill.errors import DistillError, UsageError
from distill.runs.metric_log import read_metrics
from tests.conftest import read_image
from tests.programs import call, student_arguments, teacher_arguments

MIXED = ("view=randaugment_mix", "view.mix.group_size=16")


@pytest.fixture(scope="module")
def store_path(data_path: Path, teacher_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs of mixed views; the teacher's batches end within groups now and then."""
    folder = tmp_path_factory.mktemp("mixed")
    more = (*MIXED, "batch_size=24")
    call(
        "save_logits", teacher_arguments(data_path, teacher_weights, folder / "t.zarr", *more), views=folder / "teacher"
    )
    return folder / "t.zarr"


def test_the_student_is_given_the_mixed_images_that_the_teacher_was_given(
    store_path: Path, data_path: Path, tmp_path: Path
) -> None:
    teacher = (store_path.parent / "teacher.rank0").read_text().splitlines()
    assert len(set(teacher)) == 300
    words = student_arguments(
        data_path, tmp_path / "run", f"store.path={store_path}",
        "train.batch_size=30", "train.epochs=4", "data.workers=2",
    )  # fmt: skip
    call("train_student", words, views=tmp_path / "student")
    assert sorted((tmp_path / "student.rank0").read_text().splitlines()) == sorted(teacher * 2)


def test_labels_are_mixed_in_label_training(data_path: Path, tmp_path: Path) -> None:
    words = student_arguments(data_path, tmp_path / "run", *MIXED, "train.steps=3", "train.label_smoothing=0.1")
    call("train_student", words)
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in lines if "lr" in line] == [1, 2, 3]


def test_mixed_images_are_verified_and_one_is_explained(
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
    image = cv2.cvtColor(read_image(tmp_path / "view.png"), cv2.COLOR_BGR2RGB)
    seen = {line.rsplit(" ", 1)[0]: line.rsplit(" ", 1)[1] for line in
            (store_path.parent / "teacher.rank0").read_text().splitlines()}  # fmt: skip
    from distill.views import pixel_digest

    assert seen["1 3"] == f"{pixel_digest(image):016x}"


def test_what_does_not_fit_is_refused(data_path: Path, teacher_weights: Path, store_path: Path, tmp_path: Path) -> None:
    words = teacher_arguments(data_path, teacher_weights, tmp_path / "t.zarr", *MIXED, "view.mix.group_size=48")
    with pytest.raises(UsageError, match="must divide the rows of a block, 64"):
        call("save_logits", words)
    student = student_arguments(data_path, tmp_path / "run", f"store.path={store_path}")
    for more, message in (
        ("train.batch_size=15", "must be a multiple of 2"),
        ("data.rows=100", "take 96"),
        ("train.repeats=2", "cannot be used with mixed views"),
    ):
        with pytest.raises(UsageError, match=message):
            call("train_student", [*student, more])


def test_a_changed_mix_is_found_by_the_proofs(
    store_path: Path, data_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import distill.data.view_reader

    monkeypatch.setattr(distill.data.view_reader, "mix_pixels", lambda own, other, mixing: own)
    words = student_arguments(data_path, tmp_path / "run", f"store.path={store_path}")
    with pytest.raises(DistillError, match="do not come out here"):
        call("train_student", words)
    assert logitstore.open(store_path).done().all()
