"""Work in parallel processes: each job in a process of its own, its result in a file.

Processes are forked from one that has imported everything, so a job starts at once. A job whose file exists is done.
The file is written completely or not at all; what the job printed is in a log beside it. Jobs end when their parent
ends.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import click
import torch

from distill.errors import DistillError
from logitstore.storage.atomic import write_atomically

_PARENT_DEATH_SIGNAL = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    name: str
    result: Path
    """A JSON file."""
    work: Callable[[], dict[str, Any]]
    minutes: float
    """Estimated, on one core."""

    @property
    def done(self) -> bool:
        return self.result.exists()


def run_jobs(jobs: Sequence[Job], *, processes: int) -> None:
    """Runs all jobs that are not done. **Raises:** `DistillError` when one fails, after ending the others."""
    waiting = [job for job in jobs if not job.done]
    minutes_left, fork = sum(job.minutes for job in waiting), multiprocessing.get_context("fork")
    running: dict[Any, tuple[Job, BaseProcess, float]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                job = waiting.pop(0)
                job.result.parent.mkdir(parents=True, exist_ok=True)
                process = fork.Process(target=_run, args=(job, os.getpid()), name=job.name)
                process.start()
                running[process.sentinel] = (job, process, time.monotonic())
            for sentinel in multiprocessing.connection.wait(list(running)):
                job, finished, began = running.pop(sentinel)
                finished.join()
                if not job.done:
                    raise DistillError(f"{job.name} failed: {log_path(job)} says why\n{_tail(log_path(job))}")
                minutes_left -= job.minutes
                seconds = time.monotonic() - began
                click.echo(
                    f"{job.name}: {seconds:.0f} s; about {max(0.0, minutes_left) / processes:.0f} minutes left",
                    err=True,
                )
    finally:
        for _, unfinished, _ in running.values():
            unfinished.kill()
            unfinished.join()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """While open, no other run can work in `folder`. **Raises:** `DistillError` if one does."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DistillError(f"another run works in {folder}: wait for it, or name another folder") from None
        yield


def log_path(job: Job) -> Path:
    return job.result.with_suffix(".log")


def _tail(path: Path) -> str:
    return "\n".join(path.read_text().splitlines()[-5:]) if path.exists() else ""


def _run(job: Job, parent: int) -> None:
    """In the forked process: runs the job with its output in the log, and writes what it returns."""
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # The parent ended before this process had asked to end with it.
    log = os.open(log_path(job), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    for stream in (1, 2):
        os.dup2(log, stream)
    torch.set_num_threads(1)
    try:
        result = job.work()
    except BaseException:
        traceback.print_exc()
        sys.exit(1)
    write_json(job.result, result | {"name": job.name, "peak_mb": peak_mb()})


def peak_mb() -> float:
    """Peak memory of this process in MB (10^6 bytes)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))


def write_json(path: Path, values: Any) -> None:
    """Writes the file completely or not at all."""
    write_atomically(path, json.dumps(values, indent=1) + "\n")
