"""Runs the project's programs in tests: inside this process, or as a user would, one process or several."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from accelerate.state import AcceleratorState

import distill.student.loop
from distill import config
from distill.config import command
from tests.seen import log_views

ROOT = Path(__file__).parent.parent
SCHEMAS: dict[str, type[Any]] = {
    "save_logits": config.SaveLogitsConfig,
    "train_student": config.TrainStudentConfig,
    "contract": config.ContractConfig,
    "evaluate": config.EvaluateConfig,
    "export": config.ExportConfig,
    "gallery": config.GalleryConfig,
    "transfer": config.TransferConfig,
    "verify_logits": config.VerifyLogitsConfig,
}

TINY_STUDENT = (
    "student=tiny_vit_micro", "student.image_size=32", "student.dims=[8,16,24,32]", "student.depths=[1,1,1,1]",
    "student.heads=[1,1,2,2]", "student.windows=[4,4,4,4]",
)  # fmt: skip


def teacher_arguments(data: Path, weights: Path, store: Path, *more: str) -> list[str]:
    """A small teacher pass: 2 epochs of 3 blocks."""
    return [
        f"data.path={data}", "teacher=tiny_vit", f"teacher.weights={weights}", f"store.path={store}", "store.topk=2",
        "store.epochs=2", "store.rows_per_block=64", "view=randaugment", "data.workers=0", "batch_size=16",
        "compute.threads=1", *more,
    ]  # fmt: skip


def student_arguments(data: Path, run: Path, *more: str) -> list[str]:
    """A small student pass with a line of metrics for every step."""
    return [
        f"data.path={data}", f"run.dir={run}", *TINY_STUDENT, "train.batch_size=16", "train.epochs=2",
        "optim.base_batch=null", "optim.lr=2e-3", "data.workers=0", "data.window_shards=3", "run.log_every=1",
        "compute.threads=1", *more,
    ]  # fmt: skip


def call(program: str, words: list[str], *, views: Path | None = None) -> None:
    """Runs a program inside this process. Errors come out as exceptions. `views`: see `tests.seen.log_views`."""
    main = importlib.import_module(f"distill.{program}").main
    with fresh_state(), log_views(views):
        main(command.load(program, SCHEMAS[program], words))


@contextmanager
def fresh_state() -> Iterator[None]:
    """Afterwards accelerate has forgotten how it was started: what comes next may take another precision."""
    try:
        yield
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def break_off(words: list[str], *, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains a student inside this process until an error ends the run after so many steps."""
    step = distill.student.loop._step

    def failing_step(training: Any, *args: Any, **kwargs: Any) -> float:
        if training.step == after:
            raise KeyboardInterrupt
        return step(training, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(distill.student.loop, "_step", failing_step)
        with pytest.raises(KeyboardInterrupt):
            call("train_student", words)


def spawn(
    program: str, words: list[str], *, processes: int = 1, code: str | None = None, module: str | None = None
) -> subprocess.Popen[str]:
    """Starts a program as a user would, in its own session; `code` or `module` replace `-m distill.PROGRAM`."""
    start = ["-c", code] if code else ["-m", module or f"distill.{program}"]
    if processes > 1:
        rendezvous = [
            "--nnodes=1",
            f"--nproc_per_node={processes}",
            "--rdzv-backend=c10d",
            "--rdzv-endpoint=localhost:0",
        ]
        start = ["-m", "torch.distributed.run", *rendezvous, *start]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *start, *words], env=env, cwd=ROOT, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run(
    program: str, words: list[str], *, processes: int = 1, views: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a program as a user would, to its end. `views`: see `tests.seen`."""
    if views:
        process = spawn(program, [str(views), program, *words], processes=processes, module="tests.seen")
    else:
        process = spawn(program, words, processes=processes)
    out, err = process.communicate(timeout=600)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def kill_at_work(program: str, words: list[str], *, line: str, seconds: float, processes: int = 1) -> None:
    """Starts a program as a user would and sends SIGKILL to it and all its workers, some seconds after it has printed
    `line`."""
    process = spawn(program, words, processes=processes)
    assert process.stdout
    for printed in process.stdout:
        if line in printed:
            break
    time.sleep(seconds)
    # torchrun's processes have sessions of their own: a signal to the launcher's group would not reach them.
    launcher = psutil.Process(process.pid)
    for each in (launcher, *launcher.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.communicate()
