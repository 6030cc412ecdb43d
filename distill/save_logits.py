"""Teacher pass: runs a teacher once over augmented views of a packed data set and stores its top classes.

    python -m distill.save_logits data.path=DATA teacher=efficientnet_lite0 store.path=T.zarr \\
        store.topk=10 store.epochs=2

Every stored epoch holds one view of each sample. The view's seed and the teacher's k most probable classes go to
the store, block by block; a pass that was stopped is started again with the same command and does what is missing. A
larger store.epochs makes a store grow: the epochs that it has stay, the new ones are added. SIGTERM, SIGUSR1 and
`run.time_limit` stop it between two blocks, with exit code 75 and a file STORE.requeue: see docs/operations.md.
Several processes (torchrun, accelerate launch) share the blocks. So do several runs, such as the tasks of a job array:
first one with `run.make_only=true`, then each with its `run.share=I/N`.
"""

from __future__ import annotations

import time

import logitstore
from distill import inputs, models
from distill.config import SaveLogitsConfig
from distill.config.block_share import parse_block_share
from distill.config.command import Program, run_program
from distill.config.durations import time_limit_seconds
from distill.data.batches import BlockBatches
from distill.data.damage_log import DamageLog
from distill.errors import DistillError, Stopped
from distill.runtime import processes
from distill.runtime.model_input import Normalise
from distill.runtime.processes import Runtime
from distill.runtime.progress import Progress
from distill.runtime.stopping import MARKER, Stopping
from distill.teacher.dry_run import dry_run
from distill.teacher.learned_tail import class_groups, learn_tail
from distill.teacher.run import list_tasks, run_teacher
from distill.teacher.setup import beside, check_present, make_batches, make_or_grow, missing_blocks, store_spec


def main(config: SaveLogitsConfig) -> None:
    assert config.data.path and config.store.path
    began = time.monotonic()
    view = inputs.open_view_spec(config.view)
    catalog = inputs.open_catalog(config.data, config.data.path)
    teacher = inputs.open_teacher(config.teacher)
    groups_c = class_groups(teacher.net, teacher.num_classes) if config.store.tail == "learned" else None
    spec = store_spec(config, view=view, catalog=catalog, teacher=teacher, groups_c=groups_c)
    runtime = processes.start(config.compute)
    path, share = config.store.path, parse_block_share(config.run.share)
    marker = beside(path, MARKER, share)
    if runtime.is_main:
        marker.unlink(missing_ok=True)
    stored = runtime.from_main(lambda: check_present(path, spec))
    blocks = share.blocks(spec.num_blocks) if share else None
    if share and stored < spec.num_epochs:
        raise DistillError(
            f"{path} has {stored} of {spec.num_epochs} epochs, and a share makes none: run the same command once with "
            "run.make_only=true instead of run.share, then the shares"
        )
    runtime.place(teacher.net, config.compute)
    dataset = make_batches(config, spec, catalog, teacher, view)
    with Stopping(runtime, time_limit=time_limit_seconds(config.run.time_limit), began=began) as stopping:
        tail_model = None
        if groups_c is not None and not stored:
            tail_model = learn_tail(config, spec, teacher, dataset, groups_c=groups_c, runtime=runtime)
        runtime.from_main(lambda: make_or_grow(path, spec, catalog, stored=stored, tail_model=tail_model))
        if config.run.make_only:
            runtime.say(f"{path} is made: {spec.num_epochs} epochs of {spec.num_blocks} blocks")
            runtime.finish()
            return
        fill(config, spec, teacher, dataset, blocks=blocks, runtime=runtime, stopping=stopping)
        reason = stopping.agreed()
    what = f"{share} of {path}" if share else path
    left = len(missing_blocks(path, blocks))
    if left and reason:
        how = f"{reason}, {left} blocks left{f' of {share}' if share else ''}. The same command does them"
        runtime.from_main(lambda: marker.write_text(how + "\n"))
        runtime.finish()
        raise Stopped(how)
    if left:
        raise DistillError(f"{what} still lacks {left} blocks: run the same command again")
    views = sum(len(spec.block_rows(block)) for block in blocks or range(spec.num_blocks))
    runtime.say(f"{what} is complete: {spec.num_epochs} epochs of {views} views")
    runtime.finish()


def fill(
    config: SaveLogitsConfig, spec: logitstore.StoreSpec, teacher: models.ImageModel, dataset: BlockBatches, *,
    blocks: range | None, runtime: Runtime, stopping: Stopping,
) -> None:  # fmt: skip
    """Does this process's part of the missing blocks, or as many as there is time for.

    **Arguments:** `blocks`: of this run's share; None: all.
    """
    assert config.store.path
    damage_log = DamageLog(
        damaged=config.data.damaged,
        path=beside(config.store.path, "damaged.jsonl", parse_block_share(config.run.share)),
        rank=runtime.rank,
    )
    normalise = Normalise(teacher.mean, teacher.std, device=runtime.device, channels_last=config.compute.channels_last)
    with logitstore.writer(config.store.path, exclusive=runtime.is_main, blocks=blocks) as writer:
        missing = missing_blocks(config.store.path, blocks)
        runtime.accelerator.wait_for_everyone()  # All have listed what is missing before anyone writes.
        tasks = list_tasks(missing, epochs_per_read=config.store.epochs_per_read)
        mine = tasks[runtime.rank :: runtime.world]
        runtime.say(f"{len(missing)} of {spec.num_epochs * len(writer.blocks)} blocks to do")
        views = sum(len(epochs) * len(spec.block_rows(block)) for epochs, block in mine)
        with Progress("teacher pass", total=views, unit="views", shown=runtime.is_main) as progress:
            run_teacher(
                teacher, writer, spec=spec, dataset=dataset, tasks=mine, batch_size=config.batch_size,
                workers=config.data.workers, prefetch=config.data.prefetch, damage_log=damage_log, normalise=normalise,
                runtime=runtime, progress=progress, stop=stopping.requested,
            )  # fmt: skip
        runtime.accelerator.wait_for_everyone()
    if note := damage_log.summary():
        print(note, flush=True)


PROGRAM = Program(main, "save_logits", schema=SaveLogitsConfig, about=__doc__, dry_run=dry_run)

if __name__ == "__main__":
    run_program(PROGRAM)
