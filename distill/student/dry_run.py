"""Dry runs: everything is built and a few steps are run, to see memory and hours before a cluster is asked for them.

Nothing is written: no folder, no checkpoint, no store.
"""

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
    """Builds a student pass, runs its first steps and prints what the whole would take."""
    trackers.check(config.run.trackers)
    runtime = processes.start(config.compute)
    runtime.from_main(lambda: run_dir.is_there(config))
    with TemporaryDirectory() as scratch:  # Where damaged pictures would be put on record.
        quiet = replace(config, run=replace(config.run, dir=scratch))
        work = make_pass(quiet, runtime)
        training = make_training(quiet, runtime, work.num_classes)
        runtime.say(describe(quiet, work, runtime, training))
        step_seconds, text = first_steps(quiet, work, training, runtime)
        training.meter.flush(runtime)
        checkpoint_bytes = size_bytes(training.state(runtime))
    runtime.say(
        f"{text}\n"
        f"checkpoints of {checkpoint_bytes / 1e6:,.1f} MB, the newest {config.run.keep} and the best are kept\n"
        f"about {describe_time(work.plan.total_steps * step_seconds)} for {work.plan.total_steps:,} steps"
        + (", and the time of its evaluations" if work.evaluator else "")
        + "\ndry run: nothing was written"
    )
    runtime.finish()


def first_steps(
    config: TrainStudentConfig, work: StudentPass, training: Training, runtime: Runtime
) -> tuple[float, str]:
    """Runs the first steps of a training. All processes must call.

    **Returns** the seconds of a step, and lines that tell of speed and memory.
    """
    steps, data = min(DRY_RUN_STEPS, work.plan.total_steps), config.data
    indices = work.order.indices(0, steps)
    batches = load(work.batches, indices, workers=data.workers, prefetch=data.prefetch, pin=runtime.pin)
    lines: list[dict[str, Any]] = []
    clock = [time.monotonic()]

    def log(values: dict[str, Any]) -> None:
        lines.append(values)
        clock.append(time.monotonic())

    train(
        training, replace(work.plan, total_steps=steps, log_every=1, save_every=0, eval_every=0), batches,
        runtime=runtime, damage_log=make_damage_log(config, runtime), log=log, save=nothing,
        evaluate=None, stop=nothing, progress=Progress("dry run", total=steps, unit="steps", shown=False),
    )  # fmt: skip
    memory = describe_memory(runtime)
    seconds = [after - before for before, after in itertools.pairwise(clock)]
    each = seconds[1:] or seconds
    mean = sum(each) / len(each)
    wait = sum(line["data_wait"] for line in lines[-len(each) :]) / len(each)
    text = (
        f"first step {seconds[0]:.2f} s, then {mean:.2f} s a step ({work.order.step_rows / mean:,.1f} images/s, "
        f"{100 * wait:.0f} % of it waiting for data; mean of {len(each)})\n{memory}"
    )
    return mean, text


def nothing() -> None:
    """Saves nothing, and never stops."""
