"""Signals and time limits: a pass stops gracefully, its exit code says so, and it resumes as if it had not stopped."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

import distill.student.loop
import logitstore
from distill.config.command import STOPPED, exit_codes
from distill.data.loader import load
from distill.errors import Stopped, UsageError
from distill.runs.checkpoint import list_checkpoints
from distill.runs.metric_log import read_metrics
from tests.programs import call, run, spawn, student_arguments, teacher_arguments

CLOCK = ("images_per_s", "data_wait")


def labels_words(data: Path, folder: Path, *more: str) -> list[str]:
    """A run on labels with an average of the weights; lines of several steps, so that a stop can cut one in two."""
    words = student_arguments(data, folder, "view=crop_flip", "data.rows=60", "train.epochs=4", f"data.val_path={data}")
    return [*words, "train.ema_decay=0.9", "run.log_every=4", "student.drop_path=0.2", *more]


def numbers(folder: Path) -> list[dict[str, Any]]:
    lines = read_metrics(folder / "metrics.jsonl")
    return [{name: value for name, value in line.items() if name not in CLOCK} for line in lines]


@pytest.fixture(scope="module")
def whole(data_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of 12 steps, evaluated after each 3."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    call("train_student", labels_words(data_path, folder))
    return folder


def at_step(patch: pytest.MonkeyPatch, number: int, act: Callable[[], object]) -> None:
    """Does something in the middle of one optimiser step."""
    step = distill.student.loop._step

    def acting_step(training: Any, *args: Any, **kwargs: Any) -> float:
        if training.step == number:
            act()
        return step(training, *args, **kwargs)

    patch.setattr(distill.student.loop, "_step", acting_step)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_at_the_end_of_the_step_and_the_run_goes_on_exactly(
    data_path: Path, tmp_path: Path, whole: Path, number: signal.Signals
) -> None:
    words = labels_words(data_path, tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, 6, lambda: os.kill(os.getpid(), number))
        with pytest.raises(Stopped, match=rf"{number.name}, after step 7 of 12"):
            call("train_student", words)
    assert list_checkpoints(tmp_path / "run" / "checkpoints")[-1].name == "step-00000007.pt"
    assert (tmp_path / "run" / "requeue").read_text().startswith(number.name)
    assert signal.getsignal(number) == signal.SIG_DFL
    call("train_student", words)
    assert numbers(tmp_path / "run") == numbers(whole)
    assert not (tmp_path / "run" / "requeue").exists()
    mine, theirs = (load_file(folder / "student_ema.safetensors") for folder in (tmp_path / "run", whole))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_a_signal_at_a_step_that_is_to_be_evaluated_leaves_that_to_the_next_start(
    data_path: Path, tmp_path: Path, whole: Path
) -> None:
    words = labels_words(data_path, tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Stopped, match="after step 6"):
            call("train_student", words)
    assert [line["step"] for line in numbers(tmp_path / "run") if "top1" in line] == [3]
    call("train_student", words)
    assert numbers(tmp_path / "run") == numbers(whole)


def test_a_time_limit_stops_and_counts_anew(data_path: Path, tmp_path: Path, whole: Path) -> None:
    words = labels_words(data_path, tmp_path / "run", "run.time_limit=0:00:00")
    for _ in range(2):
        with pytest.raises(Stopped, match="its time limit, after step 0 of 12"):
            call("train_student", words)
    assert list_checkpoints(tmp_path / "run" / "checkpoints") == []
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, 1, lambda: time.sleep(3))
        with pytest.raises(Stopped, match=r"its time limit, after step [12] of 12"):
            call("train_student", [*words, "run.time_limit=3s"])
    call("train_student", [*words, "run.time_limit=1-00:00:00"])
    assert numbers(tmp_path / "run") == numbers(whole)


def test_a_time_limit_without_a_unit_is_refused(data_path: Path, tmp_path: Path) -> None:
    for text in ("90", "42600", "11:50", "soon", "-1m"):
        with pytest.raises(UsageError, match=r"run\.time_limit"):
            call("train_student", labels_words(data_path, tmp_path / "run", f"run.time_limit={text}"))


def test_a_loader_keeps_working_through_the_signals_of_a_scheduler() -> None:
    others = multiprocessing.active_children()
    items: Iterator[int] = load(list(range(400)), range(400), workers=1)  # type: ignore[arg-type]
    assert next(items) == 0
    (worker,) = (each for each in multiprocessing.active_children() if each not in others)
    assert worker.pid
    for number in (signal.SIGTERM, signal.SIGUSR1):
        os.kill(worker.pid, number)
    assert list(items) == list(range(1, 400))


def wait_for_lines(folder: Path, count: int) -> None:
    path = folder / "metrics.jsonl"
    for _ in range(1200):
        if path.exists() and len(path.read_text().splitlines()) >= count:
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} has not got {count} lines in a minute")


@pytest.mark.slow
def test_two_processes_stop_at_the_same_step_whichever_is_told(data_path: Path, tmp_path: Path) -> None:
    """First one rank alone is told, then the launcher; a third start does the rest. Equal to an undisturbed run."""
    more = ("train.batch_size=8", "train.accumulate=2", "train.steps=100", "run.log_every=2", "eval.every=40")
    words = labels_words(data_path, tmp_path / "run", *more, "data.workers=1")
    for count in (10, 30):
        process = spawn("train_student", words, processes=2)
        wait_for_lines(tmp_path / "run", count)
        if count == 10:
            ranks = [each for each in psutil.Process(process.pid).children() if "-m" in each.cmdline()]
            ranks[-1].send_signal(signal.SIGUSR1)
        else:
            process.terminate()
        out, err = process.communicate(timeout=120)
        assert process.returncode not in (0, STOPPED), out + err  # torchrun has exit codes of its own.
        assert f"exitcode  : {STOPPED}" in err or count == 30, err
        assert (tmp_path / "run" / "requeue").exists(), out + err
    assert run("train_student", words, processes=2).returncode == 0
    undisturbed = labels_words(data_path, tmp_path / "whole", *more, "data.workers=1")
    assert run("train_student", undisturbed, processes=2).returncode == 0
    assert numbers(tmp_path / "run") == numbers(tmp_path / "whole")


def test_the_exit_code_says_that_the_same_command_goes_on(data_path: Path, tmp_path: Path) -> None:
    process = run("train_student", labels_words(data_path, tmp_path / "run", "run.time_limit=0s"))
    assert process.returncode == STOPPED
    assert process.stderr.strip().splitlines()[-1].startswith("stopped: its time limit, after step 0 of 12")
    assert "Traceback" not in process.stderr


def test_a_teacher_pass_stops_between_blocks(
    data_path: Path, teacher_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.zarr"
    words = teacher_arguments(data_path, teacher_weights, path)
    with pytest.raises(Stopped, match="its time limit, 5 blocks left"):
        call("save_logits", [*words, "run.time_limit=0s"])
    assert int(logitstore.open(path).done().sum()) == 1
    assert (tmp_path / "t.zarr.requeue").exists()
    call("save_logits", words)
    assert "5 of 6 blocks to do" in capsys.readouterr().out
    assert logitstore.open(path).done().all()
    assert not (tmp_path / "t.zarr.requeue").exists()


@pytest.mark.slow
def test_processes_of_a_teacher_pass_tell_each_other_to_stop(
    data_path: Path, teacher_weights: Path, tmp_path: Path
) -> None:
    path = tmp_path / "t.zarr"
    words = teacher_arguments(data_path, teacher_weights, path, "store.epochs=100", "batch_size=8")
    process = spawn("save_logits", words, processes=2)
    while not (path.exists() and logitstore.open(path).done().sum() > 4):
        assert process.poll() is None
        time.sleep(0.1)
    ranks = [each for each in psutil.Process(process.pid).children() if "-m" in each.cmdline()]
    ranks[-1].send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert "stopped: SIGTERM" in err, err
    assert (tmp_path / "t.zarr.requeue").exists()
    assert not logitstore.open(path).done().all()
    assert {fault.id for fault in logitstore.check(path).faults} == {"missing-blocks"}


def test_a_process_whose_peer_is_gone_says_only_that(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What gloo raises in the others when one process ends with an error."""
    gone = "[../third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:54321"
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as stop, exit_codes():
        raise RuntimeError(gone)
    assert stop.value.code == 1
    assert "[rank 1] error: another process of the run has ended" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="of another kind"), exit_codes():
        raise RuntimeError("of another kind")
