"""A dry run of the student pass: builds everything, runs a few steps, prints memory and hours. Writes nothing."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

from distill.config import TrainStudentConfig
from distill.data.loader import load
from distill.runs import run_dir
from distill.runtime import processes, trackers
from distill.runtime.measure import DRY_RUN_STEPS, describe_memory, describe_time, size_bytes
from distill.runtime.processes import Runtime
from distill.runtime.progress import Progress
from distill.student.loop import Training, train
from distill.student.setup import StudentPass, describe, make_damage_log, make_pass, make_training


def dry_run(config: TrainStudentConfig) -> None:
    """Runs the first steps of a student pass and prints what the whole pass would take."""
    trackers.check(config.run.trackers)
    runtime = processes.start(config.compute)
    runtime.from_main(lambda: run_dir.is_there(config))
    with TemporaryDirectory() as scratch:  # For the log of damaged images.
        config = replace(config, run=replace(config.run, dir=scratch))
        student_pass = make_pass(config, runtime)
        training = make_training(config, runtime, student_pass.num_classes)
        runtime.say(describe(config, student_pass, runtime, training))
        step_seconds, text = first_steps(config, student_pass, training, runtime)
        training.meter.flush(runtime)
        checkpoint_bytes, num_steps = size_bytes(training.state(runtime)), student_pass.plan.total_steps
    runtime.say(
        f"{text}\n"
        f"checkpoints of {checkpoint_bytes / 1e6:,.1f} MB, of which the newest {config.run.keep} and the best remain\n"
        f"about {describe_time(num_steps * step_seconds)} for {num_steps:,} steps"
        + (", and the time of its evaluations" if student_pass.evaluator else "")
        + "\ndry run: nothing was written"
    )
    runtime.finish()


def first_steps(
    config: TrainStudentConfig, student_pass: StudentPass, training: Training, runtime: Runtime
) -> tuple[float, str]:
    """Runs the first steps of a training. All processes must call.

    **Returns** the seconds per step, and lines on speed and memory.
    """
    steps, data = min(DRY_RUN_STEPS, student_pass.plan.total_steps), config.data
    indices = student_pass.order.indices(0, steps)
    batches = load(student_pass.batches, indices, workers=data.workers, prefetch=data.prefetch, pin=runtime.pin)
    lines: list[dict[str, Any]] = []
    clock = [time.monotonic()]

    def log(values: dict[str, Any]) -> None:
        lines.append(values)
        clock.append(time.monotonic())

    train(
        training, replace(student_pass.plan, total_steps=steps, log_every=1, save_every=0, eval_every=0), batches,
        runtime=runtime, damage_log=make_damage_log(config, runtime), log=log, save=nothing,
        evaluate=None, stop=nothing, progress=Progress("dry run", total=steps, unit="steps", shown=False),
    )  # fmt: skip
    memory = describe_memory(runtime)
    seconds = [after - before for before, after in itertools.pairwise(clock)]
    later = seconds[1:] or seconds
    mean = sum(later) / len(later)
    images_per_s = student_pass.order.step_rows / mean
    wait = sum(line["data_wait"] for line in lines[-len(later) :]) / len(later)
    text = (
        f"first step {seconds[0]:.2f} s, then {mean:.2f} s per step ({images_per_s:,.1f} images/s, "
        f"{100 * wait:.0f} % of it waiting for data; mean of {len(later)})\n{memory}"
    )
    return mean, text


def nothing() -> None:
    """A `save` or `stop` that does nothing."""
