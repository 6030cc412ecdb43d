"""A dry run of the teacher pass: builds all but the store, runs the first batches, prints memory and hours, writes
nothing."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import logitstore
from distill.config.programs import SaveLogitsConfig
from distill.data.batches import BlockSlice
from distill.data.loader import load
from distill.runtime import processes
from distill.runtime.measure import DRY_RUN_STEPS, describe_memory, describe_time
from distill.runtime.model_input import Normalise
from distill.runtime.processes import Runtime
from distill.teacher.run import BlockTask, classify, list_slices, list_tasks, selection_of
from distill.teacher.setup import TeacherPass, check_present, make_pass


def dry_run(config: SaveLogitsConfig) -> None:
    """Runs the first batches of a teacher pass and prints what the whole pass would take."""
    teacher_pass = make_pass(config)
    runtime = processes.start(config.compute)
    tasks, spec = tasks_left(teacher_pass, runtime), teacher_pass.spec
    slices = list_slices(spec, tasks[runtime.rank :: runtime.world], config.batch_size)
    views_left = sum(len(spec.block_rows(block)) for _, block in tasks)
    time_first_batches(config, teacher_pass, slices, views_left=views_left, runtime=runtime)
    runtime.finish()


def tasks_left(teacher_pass: TeacherPass, runtime: Runtime) -> list[BlockTask]:
    """The missing blocks of the share, or of the store that would be made, one epoch per task."""
    path, spec = teacher_pass.path, teacher_pass.spec
    stored = runtime.from_main(lambda: check_present(path, spec))
    blocks = teacher_pass.blocks or range(spec.num_blocks)
    missing = [(epoch, block) for epoch in range(spec.num_epochs) for block in blocks]
    if stored:
        done = logitstore.open(path).done()
        missing = [(epoch, block) for epoch, block in missing if epoch >= stored or not done[epoch, block]]
    return list_tasks(missing, epochs_per_read=1)


def time_first_batches(
    config: SaveLogitsConfig, teacher_pass: TeacherPass, slices: Iterator[BlockSlice], *, views_left: int,
    runtime: Runtime,
) -> None:  # fmt: skip
    """Runs the teacher over its first batches and prints memory, speed and hours.

    **Arguments:** `views_left`: that the store lacks, over all processes.
    """
    teacher, selection, data = teacher_pass.teacher, selection_of(teacher_pass.spec), config.data
    runtime.place(teacher.net, config.compute)
    normalise = Normalise(teacher.mean, teacher.std, device=runtime.device, channels_last=config.compute.channels_last)
    first = list(itertools.islice(slices, DRY_RUN_STEPS))
    loader = load(teacher_pass.dataset, first, workers=data.workers, prefetch=data.prefetch, pin=runtime.pin)
    clock, views = [time.monotonic()], []
    for batches in loader:
        for batch in batches:
            classify(teacher, batch, selection, normalise=normalise, runtime=runtime).tail.cpu()
        clock.append(time.monotonic())
        views.append(sum(map(len, batches)))
        if len(views) == DRY_RUN_STEPS:
            break  # Before the loader ends, so that its memory can be measured.
    memory = describe_memory(runtime)
    seconds = [after - before for before, after in itertools.pairwise(clock)]
    views_per_s = runtime.world * sum(views[1:] or views) / sum(seconds[1:] or seconds)
    runtime.say(
        f"first batch {seconds[0]:.2f} s, then {views_per_s:,.1f} views/s over {runtime.world} processes\n{memory}\n"
        f"about {describe_time(views_left / views_per_s)} for the {views_left:,} views that the store lacks\n"
        "dry run: nothing was written"
    )
