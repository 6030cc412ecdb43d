"""Dry runs: they say what a pass would take, and write nothing."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import torch

import distill.student.dry_run
from distill.config import TrainStudentConfig
from distill.config.command import load, run_program
from distill.config.durations import as_clock, parse_seconds
from distill.errors import DistillError, UsageError
from distill.runtime.measure import size_bytes
from tests.programs import call, student_arguments


def dry_run(program: str, words: list[str]) -> None:
    """Runs `python -m distill.PROGRAM WORDS --dry-run` in this process."""
    run_program(importlib.import_module(f"distill.{program}").PROGRAM, [*words, "--dry-run"])


def test_a_dry_run_of_a_student_says_what_it_would_take_and_writes_nothing(
    data_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = student_arguments(
        data_path, tmp_path / "run", "view=crop_flip", f"data.val_path={data_path}", "data.workers=1",
        "train.ema_decay=0.9",
    )  # fmt: skip
    dry_run("train_student", words)
    printed = capfd.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert "18 steps of 16 rows (16 x 1 processes x 1 accumulated)" in printed
    assert re.search(r"memory: \d+\.\d\d GB at most in a process, \d+\.\d\d GB in each of its \d+ loader", printed)
    assert re.search(r"about 0\.\d\d hours \(0:00:\d\d\) for 18 steps, and the time of its evaluations", printed)
    assert "nothing was written" in printed


def test_a_dry_run_names_what_the_run_would_stumble_over(
    data_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = student_arguments(data_path, tmp_path / "run", "view=crop_flip", "train.steps=1")
    call("train_student", words)
    with pytest.raises(SystemExit) as stop:
        dry_run("train_student", [*words, "optim.lr=1"])
    assert stop.value.code == 1
    assert "optim.lr: 0.002 there, 1.0 now" in capfd.readouterr().err


def test_size_of_a_nested_state() -> None:
    state = {"a": torch.zeros(3, 4), "b": [{"c": torch.zeros(5, dtype=torch.int64)}, 1, None], "d": "text"}
    assert size_bytes(state) == 48 + 40


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("11:50:00", 42600), ("0:00:30", 30), ("1-02:00:00", 93600), ("90m", 5400), ("11.5h", 41400), ("2d", 172800)],
)
def test_spans_of_time(text: str, seconds: float) -> None:
    assert parse_seconds("run.time_limit", text) == seconds


@pytest.mark.parametrize("text", ["", "90", "1:99:00", "h", "-5m", "1e3s", "11:50"])
def test_no_span_of_time(text: str) -> None:
    with pytest.raises(UsageError, match=r"run\.time_limit="):
        parse_seconds("run.time_limit", text)


def test_a_clock() -> None:
    assert [as_clock(seconds) for seconds in (0, 61, 3599.6, 90061)] == ["0:00:00", "0:01:01", "1:00:00", "25:01:01"]


def test_a_folder_of_something_else_is_refused_by_a_dry_run_too(
    data_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("")
    config = load("train_student", TrainStudentConfig, student_arguments(data_path, tmp_path / "run"))
    with pytest.raises(DistillError, match="is not the folder of a run"):
        distill.student.dry_run.dry_run(config)
