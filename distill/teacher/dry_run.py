"""A dry run of the teacher pass: everything is built, the first batches run, memory and hours printed, nothing
written."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import logitstore
from distill import inputs, models
from distill.config.block_share import parse_block_share
from distill.config.programs import SaveLogitsConfig
from distill.data.batches import BlockBatches, BlockSlice
from distill.data.loader import load
from distill.runtime import processes
from distill.runtime.measure import DRY_RUN_STEPS, describe_memory, describe_time
from distill.runtime.model_input import Normalise
from distill.runtime.processes import Runtime
from distill.targets.selection import Selection
from distill.teacher.learned_tail import class_groups
from distill.teacher.run import classify, list_slices, selection_of
from distill.teacher.setup import check_present, make_batches, store_spec


def rehearse_teacher(
    teacher: models.ImageModel, dataset: BlockBatches, parts: Iterator[BlockSlice], *, selection: Selection,
    views_left: int, config: SaveLogitsConfig, runtime: Runtime,
) -> None:  # fmt: skip
    """Runs a teacher over its first batches and prints what the whole pass would take.

    **Arguments:** `views_left`: those that the store still lacks, over all processes.
    """
    runtime.place(teacher.net, config.compute)
    normalise = Normalise(teacher.mean, teacher.std, device=runtime.device, channels_last=config.compute.channels_last)
    data = config.data
    timed = list(itertools.islice(parts, DRY_RUN_STEPS))
    batches = load(dataset, timed, workers=data.workers, prefetch=data.prefetch, pin=runtime.pin)
    clock, views = [time.monotonic()], []
    for of_epochs in batches:
        for batch in of_epochs:
            classify(teacher, batch, selection, normalise=normalise, runtime=runtime).tail.cpu()
        clock.append(time.monotonic())
        views.append(sum(map(len, of_epochs)))
        if len(views) == DRY_RUN_STEPS:
            break  # Before the loader ends, so that its memory can be seen.
    memory = describe_memory(runtime)
    seconds = [after - before for before, after in itertools.pairwise(clock)]
    rate = runtime.world * sum(views[1:] or views) / sum(seconds[1:] or seconds)
    runtime.say(
        f"first batch {seconds[0]:.2f} s, then {rate:,.1f} views/s over {runtime.world} processes\n{memory}\n"
        f"about {describe_time(views_left / rate)} for the {views_left:,} views that the store lacks\n"
        "dry run: nothing was written"
    )
    runtime.finish()


def dry_run(config: SaveLogitsConfig) -> None:
    """Builds all of a teacher pass but the store, runs its first batches and prints what the whole would take."""
    assert config.data.path and config.store.path
    view = inputs.open_view_spec(config.view)
    catalog = inputs.open_catalog(config.data, config.data.path)
    teacher = inputs.open_teacher(config.teacher)
    groups_c = class_groups(teacher.net, teacher.num_classes) if config.store.tail == "learned" else None
    spec = store_spec(config, view=view, catalog=catalog, teacher=teacher, groups_c=groups_c)
    runtime = processes.start(config.compute)
    path = config.store.path
    present = runtime.from_main(lambda: check_present(path, spec))
    share = parse_block_share(config.run.share)
    blocks = share.blocks(spec.num_blocks) if share else range(spec.num_blocks)
    tasks = [((epoch,), block) for epoch in range(spec.num_epochs) for block in blocks]
    if present:
        done = logitstore.open(path).done()
        tasks = [(e, b) for e, b in tasks if e[0] >= present or not done[e[0], b]]
    parts = list_slices(spec, tasks[runtime.rank :: runtime.world], config.batch_size)
    rehearse_teacher(
        teacher, make_batches(config, spec, catalog, teacher, view), parts, config=config, runtime=runtime,
        selection=selection_of(spec), views_left=sum(len(spec.block_rows(block)) for _, block in tasks),
    )  # fmt: skip
