"""Stores of every selection and tail, from the teacher pass to a trained student."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import logitstore
from distill.errors import DistillError, UsageError
from tests.distill.test_verify import verify_arguments
from tests.programs import call, student_arguments, teacher_arguments

KINDS = {
    "hybrid": ("store.selection=hybrid", "store.topk=2"),
    "sample": ("store.selection=sample", "store.draws=5"),
    "learned": ("store.tail=learned", "store.topk=1"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_stores_are_made_verified_and_trained_from(
    kind: str, data_path: Path, teacher_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.zarr"
    words = teacher_arguments(data_path, teacher_weights, path, "store.epochs=1", *KINDS[kind])
    call("save_logits", words)
    call("save_logits", words)
    assert "0 of 3 blocks to do" in capsys.readouterr().out
    store = logitstore.open(path)
    rows = store.read(epoch=0, rows=slice(None))
    np.testing.assert_allclose(rows.dense().sum(axis=1), 1, atol=1e-5)
    assert logitstore.check(path).ok
    call("verify_logits", verify_arguments(data_path, teacher_weights, path))
    assert (store.tail_model() is not None) == (kind == "learned")
    call("train_student", student_arguments(data_path, tmp_path / "run", f"store.path={path}", "train.steps=3"))
    assert (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize("kind", ["hybrid", "sample"])
def test_drawn_classes_have_the_teachers_distribution_as_their_mean(
    kind: str, data_path: Path, teacher_weights: Path, tmp_path: Path
) -> None:
    """Over the rows, the weights of a class sum to its probabilities, up to the variance of the draws."""
    found = {}
    for name, words in {kind: KINDS[kind], "full": ("store.topk=3", "store.encoding=float16")}.items():
        path = tmp_path / f"{name}.zarr"
        call("save_logits", teacher_arguments(data_path, teacher_weights, path, "store.epochs=2", *words))
        store = logitstore.open(path)
        rows = [store.read(epoch=epoch, rows=slice(None)).dense() for epoch in range(2)]
        found[name] = np.concatenate(rows).mean(axis=0)
    np.testing.assert_allclose(found[kind], found["full"], atol=0.03)


def test_what_does_not_go_together_is_refused(data_path: Path, teacher_weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.zarr"
    for words, part in (
        (("store.selection=hybrid", "store.tail=learned"), "for store.selection=topk alone"),
        (("store.selection=sample",), "store.draws=NUMBER"),
        (("store.draws=3",), "store.draws=NUMBER"),
        (("store.max_mass=0.9",), "store.max_mass was removed"),
    ):
        with pytest.raises(UsageError, match=part):
            call("save_logits", teacher_arguments(data_path, teacher_weights, path, *words))
    call("save_logits", teacher_arguments(data_path, teacher_weights, path, "store.epochs=1", *KINDS["hybrid"]))
    for words, part in (
        (("loss.temperature=2",), "temperature 1 alone"),
        (("loss.tail=learned",), "has learned no tail"),
    ):
        with pytest.raises(DistillError, match=part):
            call("train_student", student_arguments(data_path, tmp_path / "run", f"store.path={path}", *words))


@pytest.mark.parametrize(
    "words", [("loss.tail=bucket",), ("loss.tail=bucket", "loss.temperature=2"), ("loss.temperature=3",)]
)
def test_students_take_the_tail_and_temperature_of_their_settings(
    words: tuple[str, ...], data_path: Path, teacher_weights: Path, tmp_path: Path
) -> None:
    path = tmp_path / "t.zarr"
    call("save_logits", teacher_arguments(data_path, teacher_weights, path, "store.epochs=1", "store.topk=1"))
    losses = []
    for name, more in (("plain", ()), ("changed", words)):
        folder = tmp_path / name
        call("train_student", student_arguments(data_path, folder, f"store.path={path}", "train.steps=1", *more))
        losses.append((folder / "metrics.jsonl").read_text().split("loss")[1][:12])
    assert losses[0] != losses[1]
