"""Stores of every selection and tail, from the teacher pass to a trained student."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import logitstore
from distill.errors import DistillError, UsageError
from distill.targets.selection import Selection
from distill.teacher.learned_tail import TailSums, class_groups
from distill.teacher.setup import store_spec
from tests.distill.test_verify import verify_words
from tests.programs import call, run, student_words, teacher_words

KINDS = {
    "hybrid": ("store.selection=hybrid", "store.topk=2"),
    "sample": ("store.selection=sample", "store.draws=5"),
    "learned": ("store.tail=learned", "store.topk=1"),
    "mass": (),
}


def save_logits(kind: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher pass. No setting makes a store with `max_mass` any more; those that there are stay readable."""
    with monkeypatch.context() as patch:
        if kind == "mass":
            patch.setattr("distill.save_logits.store_spec", lambda *a, **k: replace(store_spec(*a, **k), max_mass=0.7))
        call("save_logits", words)


@pytest.mark.parametrize("kind", KINDS)
def test_stores_are_made_verified_and_trained_from(
    kind: str, data_path: Path, teacher_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = tmp_path / "t.zarr"
    words = teacher_words(data_path, teacher_weights, path, "store.epochs=1", *KINDS[kind])
    save_logits(kind, words, monkeypatch)
    save_logits(kind, words, monkeypatch)
    assert "0 of 3 blocks to do" in capsys.readouterr().out
    store = logitstore.open(path)
    rows = store.read(epoch=0, rows=slice(None))
    np.testing.assert_allclose(rows.dense().sum(axis=1), 1, atol=1e-5)
    assert logitstore.check(path).ok
    call("verify_logits", verify_words(data_path, teacher_weights, path))
    assert (store.tail_model() is not None) == (kind == "learned")
    call("train_student", student_words(data_path, tmp_path / "run", f"store.path={path}", "train.steps=3"))
    assert (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize("kind", ["hybrid", "sample"])
def test_the_mean_of_what_is_drawn_is_what_the_teacher_says(
    kind: str, data_path: Path, teacher_weights: Path, tmp_path: Path
) -> None:
    """Over the rows, the weights of a class sum to its probabilities as closely as draws can."""
    found = {}
    for name, words in {kind: KINDS[kind], "full": ("store.topk=3", "store.encoding=float16")}.items():
        path = tmp_path / f"{name}.zarr"
        call("save_logits", teacher_words(data_path, teacher_weights, path, "store.epochs=2", *words))
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
            call("save_logits", teacher_words(data_path, teacher_weights, path, *words))
    call("save_logits", teacher_words(data_path, teacher_weights, path, "store.epochs=1", *KINDS["hybrid"]))
    for words, part in (
        (("loss.temperature=2",), "temperature 1 alone"),
        (("loss.tail=learned",), "has learned no tail"),
    ):
        with pytest.raises(DistillError, match=part):
            call("train_student", student_words(data_path, tmp_path / "run", f"store.path={path}", *words))


@pytest.mark.parametrize(
    "words", [("loss.tail=bucket",), ("loss.tail=bucket", "loss.temperature=2"), ("loss.temperature=3",)]
)
def test_students_take_the_tail_they_are_told(
    words: tuple[str, ...], data_path: Path, teacher_weights: Path, tmp_path: Path
) -> None:
    path = tmp_path / "t.zarr"
    call("save_logits", teacher_words(data_path, teacher_weights, path, "store.epochs=1", "store.topk=1"))
    losses = []
    for name, more in (("plain", ()), ("told", words)):
        folder = tmp_path / name
        call("train_student", student_words(data_path, folder, f"store.path={path}", "train.steps=1", *more))
        losses.append((folder / "metrics.jsonl").read_text().split("loss")[1][:12])
    assert losses[0] != losses[1]


def test_the_tail_model_is_the_mean_of_what_is_not_kept() -> None:
    torch.manual_seed(0)
    logits = 2 * torch.randn(4000, 12)
    sums = TailSums(torch.arange(12))
    for part in logits.split(700):
        sums.add(part, Selection(kind="topk", topk=3))
    model = sums.model()
    probs = logits.double().softmax(dim=1)
    rest = probs.scatter(1, probs.topk(3, dim=1).indices, 0)
    mine = rest[probs.argmax(dim=1) == 5].sum(dim=0)
    np.testing.assert_allclose(np.exp(model.logprobs[5]), (mine / mine.sum()).numpy(), atol=0.01)
    np.testing.assert_allclose(np.exp(model.logprobs).sum(axis=1), 1, atol=1e-5)
    assert model.logprobs[5, 5] < -4  # The most probable class is always kept.


def test_groups_of_many_classes_follow_the_classifier() -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 60)
    net = torch.nn.Sequential(torch.nn.Linear(16, 16), head)
    centres = torch.randn(6, 16)
    with torch.no_grad():
        head.weight.copy_(centres[torch.arange(60) % 6] + 0.01 * torch.randn(60, 16))
    groups = class_groups(net, 60, most=6)
    assert len(groups.unique()) == 6
    assert all(len(groups[n::6].unique()) == 1 for n in range(6))
    assert torch.equal(class_groups(net, 60), torch.arange(60))
    assert class_groups(torch.nn.Conv2d(3, 4, 1), 60, most=6).tolist() == [n // 10 for n in range(60)]


def test_two_processes_learn_the_same_tail(data_path: Path, teacher_weights: Path, tmp_path: Path) -> None:
    found = []
    for processes in (1, 2):
        path = tmp_path / f"{processes}.zarr"
        words = teacher_words(data_path, teacher_weights, path, "store.epochs=1", *KINDS["learned"])
        done = run("save_logits", words, processes=processes)
        assert done.returncode == 0, done.stderr
        found.append(logitstore.open(path))
    one, two = (store.tail_model() for store in found)
    assert one and two
    np.testing.assert_allclose(one.logprobs, two.logprobs, atol=2e-3)
    rows = [store.read(epoch=0, rows=slice(None)) for store in found]
    assert np.array_equal(rows[0].logprobs, rows[1].logprobs)
