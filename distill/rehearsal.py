"""Dry runs: everything is built and a few steps are run, to see memory and hours before a cluster is asked for them.

Nothing is written: no folder, no checkpoint, no store.
"""

from __future__ import annotations

import itertools
import multiprocessing
import re
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

import models
from distill import run_folder, runtime, trackers
from distill.config import SaveLogitsConfig, TrainStudentConfig
from distill.data.batches import BlockBatches, BlockPart
from distill.data.loader import load
from distill.duration import as_clock
from distill.keep import Selection
from distill.loop import Training, train
from distill.progress import Progress
from distill.runtime import Normalise, Runtime
from distill.student_pass import StudentPass, describe, make_pass, make_records, make_training
from distill.teacher_pass import classify

_STEPS = 4
"""The first of them starts the loader and compiles, and is not counted."""


def rehearse_student(config: TrainStudentConfig) -> None:
    """Builds a student pass, runs its first steps and prints what the whole would take."""
    trackers.check(config.run.trackers)
    process = runtime.start(config.compute)
    process.from_main(lambda: run_folder.is_there(config))
    with TemporaryDirectory() as scratch:  # Where damaged pictures would be put on record.
        quiet = replace(config, run=replace(config.run, dir=scratch), data=replace(config.data, digests=None))
        work = make_pass(quiet, process)
        training = make_training(quiet, process, work.num_classes)
        process.say(describe(quiet, work, process, training))
        step_seconds, text = first_steps(quiet, work, training, process)
        training.meter.settle(process)
        checkpoint_bytes = size_bytes(training.state(process))
    process.say(
        f"{text}\n"
        f"checkpoints of {checkpoint_bytes / 1e6:,.1f} MB, the newest {config.run.keep} and the best are kept\n"
        f"about {describe_time(work.plan.total_steps * step_seconds)} for {work.plan.total_steps:,} steps"
        + (", and the time of its evaluations" if work.evaluator else "")
        + "\ndry run: nothing was written"
    )
    process.finish()


def first_steps(
    config: TrainStudentConfig, work: StudentPass, training: Training, process: Runtime
) -> tuple[float, str]:
    """Runs the first steps of a training. All processes must call.

    **Returns** the seconds of a step, and lines that tell of speed and memory.
    """
    steps, data = min(_STEPS, work.plan.total_steps), config.data
    indices = work.order.indices(0, steps)
    batches = load(work.batches, indices, workers=data.workers, prefetch=data.prefetch, pin=process.pin)
    lines: list[dict[str, Any]] = []
    clock = [time.monotonic()]

    def log(values: dict[str, Any]) -> None:
        lines.append(values)
        clock.append(time.monotonic())

    train(
        training, replace(work.plan, total_steps=steps, log_every=1, save_every=0, eval_every=0), batches,
        runtime=process, records=make_records(config, process, digests=None), log=log, save=nothing, evaluate=None,
        stop=nothing, progress=Progress("dry run", total=steps, unit="steps", shown=False),
    )  # fmt: skip
    memory = describe_memory(process)
    seconds = [after - before for before, after in itertools.pairwise(clock)]
    each = seconds[1:] or seconds
    mean = sum(each) / len(each)
    wait = sum(line["data_wait"] for line in lines[-len(each) :]) / len(each)
    text = (
        f"first step {seconds[0]:.2f} s, then {mean:.2f} s a step ({work.order.step_rows / mean:,.1f} images/s, "
        f"{100 * wait:.0f} % of it waiting for data; mean of {len(each)})\n{memory}"
    )
    return mean, text


def rehearse_teacher(
    teacher: models.Teacher, dataset: BlockBatches, parts: Iterator[BlockPart], *, selection: Selection,
    views_left: int, config: SaveLogitsConfig, process: Runtime,
) -> None:  # fmt: skip
    """Runs a teacher over its first batches and prints what the whole pass would take.

    **Arguments:** `views_left`: those that the store still lacks, over all processes.
    """
    process.place(teacher.net, config.compute)
    normalise = Normalise(teacher.mean, teacher.std, process=process, compute=config.compute)
    data = config.data
    batches = load(
        dataset, list(itertools.islice(parts, _STEPS)), workers=data.workers, prefetch=data.prefetch, pin=process.pin
    )
    clock, views = [time.monotonic()], []
    for of_epochs in batches:
        for batch in of_epochs:
            classify(teacher, batch, selection, normalise=normalise, runtime=process).tail_b.cpu()
        clock.append(time.monotonic())
        views.append(sum(map(len, of_epochs)))
        if len(views) == _STEPS:
            break  # Before the loader ends, so that its memory can be seen.
    memory = describe_memory(process)
    seconds = [after - before for before, after in itertools.pairwise(clock)]
    rate = process.world * sum(views[1:] or views) / sum(seconds[1:] or seconds)
    process.say(
        f"first batch {seconds[0]:.2f} s, then {rate:,.1f} views/s over {process.world} processes\n{memory}\n"
        f"about {describe_time(views_left / rate)} for the {views_left:,} views that the store lacks\n"
        "dry run: nothing was written"
    )
    process.finish()


def nothing() -> None:
    """Saves nothing, and never stops."""


def describe_time(seconds: float) -> str:
    """Hours, and where they are few the clock's figures too."""
    return f"{seconds / 3600:,.2f} hours ({as_clock(seconds)})"


def describe_memory(process: Runtime) -> str:
    """Peaks of memory so far, each the largest of all processes. All must call, while their loaders are open."""
    unit = 1 if sys.platform == "darwin" else 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    workers = [peak for child in multiprocessing.active_children() if (peak := _peak_bytes(child.pid))]
    on_device = torch.cuda.max_memory_reserved() if process.device.type == "cuda" else 0
    here = torch.tensor([own, max(workers, default=0), on_device], dtype=torch.float64, device=process.device)
    own_gb, worker_gb, device_gb = (process.accelerator.gather(here).view(-1, 3).max(dim=0).values / 1e9).tolist()
    text = f"memory: {own_gb:.2f} GB at most in a process"
    text += (
        f", {worker_gb:.2f} GB in each of its {len(workers)} loader workers (shared pages counted)" if workers else ""
    )
    return text + (f", {device_gb:.2f} GB on its GPU" if device_gb else "")


def _peak_bytes(pid: int | None) -> int:
    """Most memory that another process has had; 0 where the system does not tell."""
    status = Path(f"/proc/{pid}/status")
    peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(peak[1]) * 1024 if peak else 0


def size_bytes(state: Mapping[Any, Any] | Sequence[Any] | object) -> int:
    """Bytes of all tensors in a nested state."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, Mapping):
        return sum(map(size_bytes, state.values()))
    return sum(map(size_bytes, state)) if isinstance(state, list | tuple) else 0
