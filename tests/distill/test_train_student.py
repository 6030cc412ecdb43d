"""The student pass: the same images as the teacher, the same losses however it is run, stopped or divided."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import logitstore
from distill.errors import DistillError, UsageError
from distill.runs.checkpoint import list_checkpoints
from distill.runs.metric_log import read_metrics
from tests.programs import break_off, call, kill_at_work, run, student_arguments, teacher_arguments


@pytest.fixture(scope="module")
def store_path(data_path: Path, teacher_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    words = teacher_arguments(data_path, teacher_weights, folder / "t.zarr")
    call("save_logits", words, views=folder / "teacher")
    return folder / "t.zarr"


@pytest.fixture(scope="module")
def reference(data_path: Path, store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of 18 steps from the store, in this process."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    call(
        "train_student", student_arguments(data_path, folder, f"store.path={store_path}", f"data.val_path={data_path}")
    )
    return folder


def numbers(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics without what the clock decides."""
    clock = ("images_per_s", "data_wait")
    return [{k: v for k, v in line.items() if k not in clock} for line in read_metrics(folder / "metrics.jsonl")]


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in numbers(folder) if "lr" in line]


def test_a_run_learns_and_leaves_what_it_says(reference: Path, data_path: Path) -> None:
    lines = numbers(reference)
    steps = [line for line in lines if "lr" in line]
    assert [line["step"] for line in steps] == list(range(1, 19))
    assert {"loss", "agreement", "accuracy", "grad_norm", "epoch"} <= steps[0].keys()
    assert [line["step"] for line in lines if "top1" in line] == [9, 18]
    assert losses(reference)[-1] < losses(reference)[0]
    summary = json.loads((reference / "summary.json").read_text())
    assert summary["steps"] == 18
    assert summary["num_images"] == 150
    saved = yaml.safe_load((reference / "config.yaml").read_text())
    assert saved["data"]["path"] == str(data_path)
    assert [path.name for path in list_checkpoints(reference / "checkpoints")] == [
        "step-00000009.pt", "step-00000018.pt",
    ]  # fmt: skip


def test_evaluate_gives_the_scores_that_the_run_gave(
    reference: Path, data_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call("evaluate", [f"data.val_path={data_path}", f"run.dir={reference}", "data.workers=0", "compute.threads=1"])
    summary = json.loads((reference / "summary.json").read_text())
    assert f"top-1 {summary['top1']:.2f} %" in capsys.readouterr().out


def test_the_student_is_given_the_images_that_the_teacher_was_given(
    store_path: Path, data_path: Path, tmp_path: Path
) -> None:
    teacher = (store_path.parent / "teacher.rank0").read_text().splitlines()
    assert len(teacher) == 300
    words = student_arguments(
        data_path, tmp_path / "run", f"store.path={store_path}",
        "train.batch_size=15", "train.epochs=4", "data.workers=2",
    )  # fmt: skip
    call("train_student", words, views=tmp_path / "student")
    student = (tmp_path / "student.rank0").read_text().splitlines()
    assert len(student) == 600
    # Four epochs over a store of two: every view comes round exactly twice.
    assert sorted(student) == sorted(teacher * 2)
    assert len({line.split()[2] for line in teacher}) == 300


def test_the_same_run_again_and_with_workers_is_the_same_to_the_last_bit(
    reference: Path, data_path: Path, store_path: Path, tmp_path: Path
) -> None:
    for name, workers in (("again", 0), ("workers", 2)):
        words = student_arguments(
            data_path, tmp_path / name, f"store.path={store_path}", f"data.val_path={data_path}",
            f"data.workers={workers}",
        )  # fmt: skip
        call("train_student", words)
        assert numbers(tmp_path / name) == numbers(reference)


def test_a_run_stopped_between_epochs_goes_on_exactly(
    reference: Path, data_path: Path, store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stops a run with an error after 13 steps; its newest checkpoint is of step 10."""
    words = student_arguments(
        data_path, tmp_path / "run", f"store.path={store_path}", f"data.val_path={data_path}", "run.save_every=5"
    )
    break_off(words, after=13, monkeypatch=monkeypatch)
    assert list_checkpoints(tmp_path / "run" / "checkpoints")[-1].name == "step-00000010.pt"
    call("train_student", words)
    assert losses(tmp_path / "run") == losses(reference)
    assert numbers(tmp_path / "run") == numbers(reference)


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 3])
def test_kills_at_random_moments_change_no_loss(
    data_path: Path, store_path: Path, tmp_path: Path, accumulate: int
) -> None:
    """A small version of `scripts/prove/kills.py`; with drop path, whose random numbers must come again too."""
    more = (
        f"store.path={store_path}", "train.epochs=6", "run.save_every=4", "student.drop_path=0.2",
        f"train.accumulate={accumulate}", f"train.batch_size={15 // accumulate}", "data.workers=1",
    )  # fmt: skip
    call("train_student", student_arguments(data_path, tmp_path / "whole", *more))
    chance = random.Random(accumulate)
    words = student_arguments(data_path, tmp_path / "killed", *more)
    for _ in range(3):
        kill_at_work("train_student", words, line="peak learning rate", seconds=chance.uniform(0, 1.5))
    result = run("train_student", words)
    assert result.returncode == 0, result.stderr
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_do_what_one_does(data_path: Path, store_path: Path, tmp_path: Path) -> None:
    """The same global batch, divided. BatchNorm is the difference: each process normalises with the statistics of
    its own half, as in any data-parallel training without SyncBatchNorm, so losses agree to a few percent only. The
    first loss is taken from the same weights, and differs by that alone."""
    more = (f"store.path={store_path}", "optim.lr=2e-4", f"data.val_path={data_path}")
    one = student_arguments(data_path, tmp_path / "one", *more, "train.batch_size=32")
    two = student_arguments(data_path, tmp_path / "two", *more, "train.batch_size=16")
    call("train_student", one)
    result = run("train_student", two, processes=2, views=tmp_path / "d")
    assert result.returncode == 0, result.stderr
    assert "2 processes on cpu" in result.stdout
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=0.05)
    ranks = [(tmp_path / f"d.rank{rank}").read_text().splitlines() for rank in range(2)]
    assert len(ranks[0]) == len(ranks[1]) == 8 * 16
    assert not set(ranks[0]) & set(ranks[1])
    scores = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("one", "two")]
    assert scores[0]["num_images"] == scores[1]["num_images"] == 150


def test_training_on_labels_needs_no_store(data_path: Path, tmp_path: Path) -> None:
    words = student_arguments(
        data_path, tmp_path / "run", "view=crop_flip", f"data.val_path={data_path}", "data.rows=60",
        "train.steps=7", "train.label_smoothing=0.1",
    )  # fmt: skip
    call("train_student", words)
    lines = [line for line in numbers(tmp_path / "run") if "lr" in line]
    assert len(lines) == 7
    assert "agreement" not in lines[0]
    assert lines[2]["epoch"] == pytest.approx(1.0)  # 60 rows are 3 steps of 16.


def test_bf16_autocast_trains(data_path: Path, store_path: Path, tmp_path: Path) -> None:
    words = student_arguments(
        data_path, tmp_path / "run", f"store.path={store_path}", "compute.precision=bf16", "train.steps=3"
    )
    result = run("train_student", words)
    assert result.returncode == 0, result.stderr
    assert all(0 < loss < 5 for loss in losses(tmp_path / "run"))


def test_a_loss_that_is_not_finite_stops_the_run(data_path: Path, store_path: Path, tmp_path: Path) -> None:
    words = student_arguments(data_path, tmp_path / "run", f"store.path={store_path}", "optim.lr=1e20")
    with pytest.raises(DistillError, match=r"loss of step \d+ is (nan|inf)"):
        call("train_student", words)
    assert list_checkpoints(tmp_path / "run" / "checkpoints") == []


def test_other_settings_in_a_runs_folder_are_refused(reference: Path, data_path: Path, store_path: Path) -> None:
    words = student_arguments(data_path, reference, f"store.path={store_path}", "optim.weight_decay=0.2")
    with pytest.raises(DistillError, match=r"(?s)another run.*optim\.weight_decay: 0\.05 there, 0\.2 now"):
        call("train_student", words)


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    data_path: Path, store_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = student_arguments(data_path, tmp_path / "run", f"store.path={store_path}", "run.save_every=6")
    call("train_student", words)
    (tmp_path / "run" / "student.safetensors").unlink()
    newest = list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    newest.write_bytes(newest.read_bytes()[:2000])
    before = numbers(tmp_path / "run")
    call("train_student", words)
    assert "trying the one before" in capsys.readouterr().out
    assert numbers(tmp_path / "run") == before


def incomplete_copy(store_path: Path, target: Path) -> Path:
    """A copy of the store without one block of its second epoch."""
    shutil.copytree(store_path, target)
    (target / "proofs" / "c" / "1" / "2").unlink()
    assert not logitstore.open(target).done().all()
    return target


def test_a_store_with_missing_blocks_is_refused_unless_complete_epochs_will_do(
    data_path: Path, store_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    partial = incomplete_copy(store_path, tmp_path / "partial.zarr")
    words = student_arguments(data_path, tmp_path / "run", f"store.path={partial}", "train.steps=2")
    with pytest.raises(DistillError, match="epoch 1 lacks blocks 2"):
        call("train_student", words)
    assert not (tmp_path / "run").exists()
    call("train_student", [*words, "store.epochs=complete"])
    assert "1 stored epochs" in capsys.readouterr().out


def test_a_finished_run_is_left_as_it_is(
    reference: Path, data_path: Path, store_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = student_arguments(data_path, reference, f"store.path={store_path}", f"data.val_path={data_path}")
    before = {path: path.read_bytes() for path in reference.iterdir() if path.is_file()}
    call("train_student", words)
    assert "is a finished run" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in reference.iterdir() if path.is_file()} == before


def test_a_run_stopped_just_before_its_end_is_finished(
    reference: Path, data_path: Path, store_path: Path, tmp_path: Path
) -> None:
    shutil.copytree(reference, tmp_path / "run")
    (tmp_path / "run" / "student.safetensors").unlink()
    (tmp_path / "run" / "summary.json").unlink()
    call(
        "train_student",
        student_arguments(data_path, tmp_path / "run", f"store.path={store_path}", f"data.val_path={data_path}"),
    )
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    first = json.loads((reference / "summary.json").read_text())
    assert summary["top1"] == first["top1"]
    tensors, expected = (load_file(folder / "student.safetensors") for folder in (tmp_path / "run", reference))
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


def test_a_student_trains_with_repeats(data_path: Path, teacher_weights: Path, tmp_path: Path) -> None:
    store = tmp_path / "t.zarr"
    call("save_logits", teacher_arguments(data_path, teacher_weights, store), views=tmp_path / "teacher")
    words = student_arguments(
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
