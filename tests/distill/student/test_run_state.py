"""The files of a run: the best evaluation, the division of its steps, its summary."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import distill.student.loop
import distill.train_student
from distill.errors import DistillError, UsageError
from distill.evaluation.score import Scores
from distill.models.weights.tensor_files import file_sha256
from distill.runs import summary
from distill.runs.checkpoint import list_checkpoints, load_checkpoint
from distill.runs.metric_log import Best, MetricLog, read_metrics
from tests.programs import break_off, call, run, student_arguments


def words_of(data: Path, folder: Path, *more: str) -> list[str]:
    """12 steps on labels, 3 per epoch."""
    return student_arguments(data, folder, "view=crop_flip", "data.rows=60", "train.epochs=4", *more)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Top-1 of the evaluations to come; evaluating takes them from here."""
    to_come: list[float] = []

    def evaluate(*_: Any, **__: Any) -> Scores:
        return Scores(top1=to_come.pop(0), top5=100.0, loss=1.0, num_images=150)

    monkeypatch.setattr("distill.evaluation.score.evaluate", evaluate)
    return to_come


def test_the_best_checkpoint_stays_and_its_weights_are_written(
    data_path: Path, tmp_path: Path, scripted: list[float]
) -> None:
    scripted += [40.0, 60.0, 60.0, 50.0]
    folder = tmp_path / "run"
    more = (f"data.val_path={data_path}", "run.keep=1", "run.best_weights=true", "train.ema_decay=0.9")
    call("train_student", words_of(data_path, folder, *more, "eval.weights=ema"))
    best = json.loads((folder / "best.json").read_text())
    assert best == {"step": 6, "top1": 60.0, "checkpoint": "checkpoints/step-00000006.pt"}
    checkpoints = list_checkpoints(folder / "checkpoints")
    assert [path.name for path in checkpoints] == ["step-00000006.pt", "step-00000012.pt"]
    state, weights = load_checkpoint(checkpoints[0]), load_file(folder / "best.safetensors")
    assert all(torch.equal(weights[name], state["average"][name]) for name in weights)
    assert any(not torch.equal(weights[name], state["model"][name]) for name in weights)
    assert "Best top-1: 60.00 % after step 6." in (folder / "summary.md").read_text()


def test_the_best_is_found_again_after_a_stop(
    data_path: Path, tmp_path: Path, scripted: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after the evaluation of step 6 by an error; that of step 6 is not repeated, and step 3 stays the best."""
    scripted += [60.0, 40.0]
    folder = tmp_path / "run"
    words = words_of(data_path, folder, f"data.val_path={data_path}", "run.keep=1")
    break_off(words, after=7, monkeypatch=monkeypatch)
    (folder / "best.json").unlink()
    scripted += [50.0, 55.0]
    call("train_student", words)
    assert scripted == []
    assert json.loads((folder / "best.json").read_text())["step"] == 3
    names = [path.name for path in list_checkpoints(folder / "checkpoints")]
    assert names == ["step-00000003.pt", "step-00000012.pt"]


def test_of_equal_evaluations_the_first_is_the_best(tmp_path: Path) -> None:
    log = MetricLog(tmp_path / "metrics.jsonl", resume_step=0)
    assert log.best is None
    for step, top1 in ((1, 10.0), (2, 30.0), (3, 30.0), (4, 20.0)):
        log.write({"step": step, "top1": top1})
    log.close()
    assert log.best == Best(2, 30.0)
    assert MetricLog(tmp_path / "metrics.jsonl", resume_step=1).best == Best(1, 10.0)


def stopped_run(data: Path, folder: Path, *more: str, views: Path | None = None) -> list[str]:
    """A run of one process and 32 rows per step that was stopped after 5 steps. **Returns:** its words."""
    words = words_of(data, folder, "data.rows=150", "train.batch_size=32", *more)
    step = distill.student.loop._step

    def failing_step(training: Any, *args: Any, **kwargs: Any) -> float:
        if training.step == 5:
            raise KeyboardInterrupt
        return step(training, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distill.student.loop, "_step", failing_step)
        with pytest.raises(KeyboardInterrupt):
            call("train_student", [*words, "run.save_every=5"], views=views)
    return words


def test_steps_of_another_size_are_refused(data_path: Path, tmp_path: Path) -> None:
    words = stopped_run(data_path, tmp_path / "run")
    for word in ("train.batch_size=16", "train.accumulate=2"):
        with pytest.raises(DistillError, match=r"steps of 32 rows .*Choose train\.batch_size and train\.accumulate"):
            call("train_student", [*words, word])


def test_steps_divided_otherwise_see_the_same_rows(
    data_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One process of 32 rows goes on as one of 2 x 16: the rows of every step are those of a run left alone."""
    words = stopped_run(data_path, tmp_path / "run", views=tmp_path / "run-rows")
    call("train_student", [*words, "train.batch_size=16", "train.accumulate=2"], views=tmp_path / "run-rows")
    assert "16 x 1 processes x 2 accumulated; before 32 x 1" in capsys.readouterr().out
    call("train_student", [*words, f"run.dir={tmp_path / 'whole'}"], views=tmp_path / "whole-rows")
    rows = [(tmp_path / f"{name}-rows.rank0").read_text().splitlines() for name in ("run", "whole")]
    assert len(rows[0]) == len(rows[1]) == 16 * 32
    assert [sorted(rows[0][n : n + 32]) for n in range(0, 512, 32)] == [
        sorted(rows[1][n : n + 32]) for n in range(0, 512, 32)
    ]


@pytest.mark.slow
def test_two_processes_go_on_from_one_with_the_same_rows(data_path: Path, tmp_path: Path) -> None:
    words = stopped_run(data_path, tmp_path / "run")
    two = [*words, "train.batch_size=16"]
    result = run("train_student", two, processes=2, views=tmp_path / "two")
    assert result.returncode == 0, result.stderr
    assert "16 x 2 processes x 1 accumulated; before 32 x 1 processes" in result.stdout
    call("train_student", [*words, f"run.dir={tmp_path / 'whole'}"], views=tmp_path / "one")
    one = (tmp_path / "one.rank0").read_text().splitlines()[5 * 32 :]
    ranks = [(tmp_path / f"two.rank{rank}").read_text().splitlines() for rank in range(2)]
    for step in range(11):
        here = [row for rank in ranks for row in rank[step * 16 : step * 16 + 16]]
        assert sorted(here) == sorted(one[step * 32 : step * 32 + 32])


def test_a_run_ends_with_a_summary_and_curves(data_path: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    folder = tmp_path / "run"
    call("train_student", words_of(data_path, folder, f"data.val_path={data_path}"))
    page = (folder / "summary.md").read_text()
    scores = json.loads((folder / "summary.json").read_text())
    assert f"| top1 | {scores['top1']:.4g} |" in page
    assert "12 steps of 16 rows" in page and "waiting for data" in page
    assert scores["weights_sha256"] == file_sha256(folder / "student.safetensors")
    assert page.count("\n| ") == 2 + len(scores) - 1 + 2 + 4  # The totals but for that, and 4 evaluations.
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_summary_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "epoch": 1.0, "loss": 2.0, "lr": 1e-3}\n')
    summary.write(tmp_path, described="a run", totals={"steps": 1, "seconds": 3700.2}, best=None)
    assert "pip install matplotlib" in capsys.readouterr().out
    page = (tmp_path / "summary.md").read_text()
    assert "matplotlib is not installed" in page and "1:01:40 hours" in page
    assert not (tmp_path / "curves.png").exists()


def test_a_tracker_is_shown_what_the_metrics_hold(data_path: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "run"
    words = words_of(data_path, folder, "train.steps=3", "run.trackers=[tensorboard]", f"data.val_path={data_path}")
    call("train_student", words)
    events = EventAccumulator(str(folder / "trackers" / "distill"))
    events.Reload()
    lines = [line for line in read_metrics(folder / "metrics.jsonl") if "loss" in line and "lr" in line]
    shown = {event.step: event.value for event in events.Scalars("lr")}
    assert shown == pytest.approx({line["step"]: line["lr"] for line in lines})
    assert len(events.Scalars("top1")) == 1


def test_an_unknown_or_absent_tracker_is_refused(
    data_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"run\.trackers=tensorbored: choose from .*tensorboard"):
        call("train_student", words_of(data_path, tmp_path / "run", "run.trackers=[tensorbored]"))
    find = importlib.util.find_spec
    absent = lambda name, *rest: None if name == "comet_ml" else find(name, *rest)  # noqa: E731
    monkeypatch.setattr("distill.runtime.trackers.find_spec", absent)
    with pytest.raises(DistillError, match=r"run\.trackers=comet_ml: .*pip install comet-ml"):
        call("train_student", words_of(data_path, tmp_path / "run", "run.trackers=[comet_ml]"))
    assert not (tmp_path / "run").exists()
