"""Teacher pass: runs a teacher once over augmented views of a packed data set and stores its top-k classes.

    python -m distill.save_logits data.path=DATA teacher=efficientnet_lite0 store.path=T.zarr \\
        store.topk=10 store.epochs=2

A stored epoch has one view of every image. The view's seed and the teacher's k most probable classes are written to the
store, block by block; a pass that was stopped is resumed by the same command. With a larger store.epochs a store grows:
its epochs stay, new ones are added. SIGTERM, SIGUSR1 and `run.time_limit` stop the pass between two blocks, with exit
code 75 and a file STORE.requeue: see docs/operations.md. Several processes (torchrun, accelerate launch) divide the
blocks among themselves. Several runs, such as the tasks of a job array, do so too: first one with `run.make_only=true`,
then each with its `run.share=I/N`.
"""

from __future__ import annotations

import time

import logitstore
from distill.config import SaveLogitsConfig
from distill.config.command import Program, run_program
from distill.config.durations import time_limit_seconds
from distill.data.damage_log import DamageLog
from distill.errors import DistillError, Stopped
from distill.files import write_file
from distill.runtime import processes
from distill.runtime.model_input import Normalise
from distill.runtime.processes import Runtime
from distill.runtime.progress import Progress
from distill.runtime.stopping import MARKER, Stopping
from distill.teacher.dry_run import dry_run
from distill.teacher.learned_tail import learn_tail
from distill.teacher.run import list_tasks, run_teacher
from distill.teacher.setup import TeacherPass, check_present, make_or_grow, make_pass, missing_blocks


def main(config: SaveLogitsConfig) -> None:
    began = time.monotonic()
    teacher_pass = make_pass(config)
    runtime = processes.start(config.compute)
    if runtime.is_main:
        teacher_pass.beside(MARKER).unlink(missing_ok=True)
    stored = runtime.from_main(lambda: check_present(teacher_pass.path, teacher_pass.spec))
    check_share(teacher_pass, stored)
    runtime.place(teacher_pass.teacher.net, config.compute)
    with Stopping(runtime, time_limit=time_limit_seconds(config.run.time_limit), began=began) as stopping:
        make_store(config, teacher_pass, stored=stored, runtime=runtime)
        if not config.run.make_only:
            fill(config, teacher_pass, runtime=runtime, stopping=stopping)
        reason = stopping.agreed()
    finish(config, teacher_pass, reason=reason, runtime=runtime)


def check_share(teacher_pass: TeacherPass, stored: int) -> None:
    """**Raises:** `DistillError` for a share of a store that is not made; `UsageError` for more shares than blocks."""
    num_epochs = teacher_pass.spec.num_epochs
    if teacher_pass.blocks and stored < num_epochs:
        raise DistillError(
            f"{teacher_pass.path} has {stored} of {num_epochs} epochs, and a share adds none: run the same command "
            "first with run.make_only=true instead of run.share, then the shares"
        )


def make_store(config: SaveLogitsConfig, teacher_pass: TeacherPass, *, stored: int, runtime: Runtime) -> None:
    """Learns the tail, where it is to be learned, and creates the store, or adds the epochs that it lacks."""
    tail_model, spec, catalog = None, teacher_pass.spec, teacher_pass.catalog
    if teacher_pass.class_groups_c is not None and not stored:
        tail_model = learn_tail(
            config, spec, teacher_pass.teacher, teacher_pass.dataset, class_groups_c=teacher_pass.class_groups_c,
            runtime=runtime,
        )  # fmt: skip
    runtime.from_main(lambda: make_or_grow(teacher_pass.path, spec, catalog, stored=stored, tail_model=tail_model))


def fill(config: SaveLogitsConfig, teacher_pass: TeacherPass, *, runtime: Runtime, stopping: Stopping) -> None:
    """Computes this process's part of the missing blocks, until all are done or the pass is to stop."""
    spec, teacher, blocks = teacher_pass.spec, teacher_pass.teacher, teacher_pass.blocks
    damage_log = DamageLog(
        damaged=config.data.damaged, path=teacher_pass.beside("damaged.jsonl"), rank=runtime.rank
    )  # fmt: skip
    normalise = Normalise(teacher.mean, teacher.std, device=runtime.device, channels_last=config.compute.channels_last)
    with logitstore.writer(teacher_pass.path, exclusive=runtime.is_main, blocks=blocks) as writer:
        missing = missing_blocks(teacher_pass.path, blocks)
        runtime.accelerator.wait_for_everyone()  # All have listed the missing blocks before any process writes.
        tasks = list_tasks(missing, epochs_per_read=config.store.epochs_per_read)[runtime.rank :: runtime.world]
        runtime.say(f"{len(missing)} of {spec.num_epochs * len(writer.blocks)} blocks to do")
        num_views = sum(len(epochs) * len(spec.block_rows(block)) for epochs, block in tasks)
        with Progress("teacher pass", total=num_views, unit="views", shown=runtime.is_main) as progress:
            run_teacher(
                teacher, writer, spec=spec, dataset=teacher_pass.dataset, tasks=tasks, batch_size=config.batch_size,
                workers=config.data.workers, prefetch=config.data.prefetch, damage_log=damage_log, normalise=normalise,
                runtime=runtime, progress=progress, stop=stopping.requested,
            )  # fmt: skip
        runtime.accelerator.wait_for_everyone()
    if note := damage_log.summary():
        print(note, flush=True)


def finish(config: SaveLogitsConfig, teacher_pass: TeacherPass, *, reason: str | None, runtime: Runtime) -> None:
    """Reports the end of the pass. **Raises:** `Stopped` where it was stopped before its last block."""
    spec, path, share, blocks = teacher_pass.spec, teacher_pass.path, teacher_pass.share, teacher_pass.blocks
    if config.run.make_only:
        runtime.say(f"{path} is made: {spec.num_epochs} epochs of {spec.num_blocks} blocks")
        runtime.finish()
        return
    store = f"{share} of {path}" if share else path
    num_missing = len(missing_blocks(path, blocks))
    if num_missing and reason:
        note = f"{reason}, {num_missing} blocks left{f' of {share}' if share else ''}. The same command computes them"
        runtime.from_main(lambda: write_file(teacher_pass.beside(MARKER), note + "\n"))
        runtime.finish()
        raise Stopped(note)
    if num_missing:
        raise DistillError(f"{store} still lacks {num_missing} blocks: run the same command again")
    num_views = sum(len(spec.block_rows(block)) for block in blocks or range(spec.num_blocks))
    runtime.say(f"{store} is complete: {spec.num_epochs} epochs of {num_views} views")
    runtime.finish()


PROGRAM = Program(main, "save_logits", schema=SaveLogitsConfig, about=__doc__, dry_run=dry_run)

if __name__ == "__main__":
    run_program(PROGRAM)
