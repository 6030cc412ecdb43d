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
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import distill.command
import logitstore
import models
from distill import provenance, runtime
from distill.config import SaveLogitsConfig
from distill.data.batches import BlockBatches
from distill.data.catalog import Catalog
from distill.data.records import Records
from distill.duration import limit_of
from distill.errors import DistillError, Stopped, UsageError
from distill.progress import Progress
from distill.rehearsal import rehearse_teacher
from distill.runtime import Runtime
from distill.share import Share, share_of
from distill.stopping import MARKER, Stopping
from distill.tail_model import class_groups
from distill.tail_pass import learn_tail
from distill.teacher_pass import list_parts, list_tasks, run_teacher, selection_of
from distill.views import ViewSpec


def main(config: SaveLogitsConfig) -> None:
    assert config.data.path and config.store.path
    began = time.monotonic()
    view = provenance.view_spec(config.view)
    catalog = provenance.catalog(config.data, config.data.path)
    teacher = provenance.teacher(config.teacher)
    groups_c = class_groups(teacher.net, teacher.num_classes) if config.store.tail == "learned" else None
    spec = store_spec(config, view=view, catalog=catalog, teacher=teacher, groups_c=groups_c)
    process = runtime.start(config.compute)
    path, share = config.store.path, share_of(config.run.share)
    marker = beside(path, MARKER, share)
    if process.is_main:
        marker.unlink(missing_ok=True)
    stored = process.from_main(lambda: check_present(path, spec))
    blocks = share.blocks(spec.num_blocks) if share else None
    if share and stored < spec.num_epochs:
        raise DistillError(
            f"{path} has {stored} of {spec.num_epochs} epochs, and a share makes none: run the same command once with "
            "run.make_only=true instead of run.share, then the shares"
        )
    process.place(teacher.net, config.compute)
    dataset = make_batches(config, spec, catalog, teacher, view)
    with Stopping(process, time_limit=limit_of(config.run.time_limit), began=began) as stopping:
        tail_model = None
        if groups_c is not None and not stored:
            tail_model = learn_tail(config, spec, teacher, dataset, groups_c=groups_c, process=process)
        process.from_main(lambda: make_or_grow(path, spec, catalog, stored=stored, tail_model=tail_model))
        if config.run.make_only:
            process.say(f"{path} is made: {spec.num_epochs} epochs of {spec.num_blocks} blocks")
            process.finish()
            return
        fill(config, spec, teacher, dataset, blocks=blocks, process=process, stopping=stopping)
        reason = stopping.agreed()
    what = f"{share} of {path}" if share else path
    left = len(missing_blocks(path, blocks))
    if left and reason:
        how = f"{reason}, {left} blocks left{f' of {share}' if share else ''}. The same command does them"
        process.from_main(lambda: marker.write_text(how + "\n"))
        process.finish()
        raise Stopped(how)
    if left:
        raise DistillError(f"{what} still lacks {left} blocks: run the same command again")
    views = sum(len(spec.block_rows(block)) for block in blocks or range(spec.num_blocks))
    process.say(f"{what} is complete: {spec.num_epochs} epochs of {views} views")
    process.finish()


def fill(
    config: SaveLogitsConfig, spec: logitstore.StoreSpec, teacher: models.Teacher, dataset: BlockBatches, *,
    blocks: range | None, process: Runtime, stopping: Stopping,
) -> None:  # fmt: skip
    """Does this process's part of the missing blocks, or as many as there is time for.

    **Arguments:** `blocks`: of this run's share; None: all.
    """
    assert config.store.path
    records = Records(
        damaged=config.data.damaged,
        damage_file=beside(config.store.path, "damaged.jsonl", share_of(config.run.share)),
        digest_file=config.data.digests,
        rank=process.rank,
    )
    normalise = runtime.Normalise(teacher.mean, teacher.std, process=process, compute=config.compute)
    with logitstore.writer(config.store.path, exclusive=process.is_main, blocks=blocks) as writer:
        missing = missing_blocks(config.store.path, blocks)
        process.accelerator.wait_for_everyone()  # All have listed what is missing before anyone writes.
        tasks = list_tasks(missing, epochs_per_read=config.store.epochs_per_read)
        mine = tasks[process.rank :: process.world]
        process.say(f"{len(missing)} of {spec.num_epochs * len(writer.blocks)} blocks to do")
        views = sum(len(epochs) * len(spec.block_rows(block)) for epochs, block in mine)
        with Progress("teacher pass", total=views, unit="views", shown=process.is_main) as progress:
            run_teacher(
                teacher, writer, spec=spec, dataset=dataset, tasks=mine, batch_size=config.batch_size,
                workers=config.data.workers, prefetch=config.data.prefetch, records=records, normalise=normalise,
                runtime=process, progress=progress, stop=stopping.heard,
            )  # fmt: skip
        process.accelerator.wait_for_everyone()
    if note := records.summary():
        print(note, flush=True)


def missing_blocks(path: str, blocks: range | None) -> list[tuple[int, int]]:
    """(epoch, block) of each that the store lacks, among some blocks or all."""
    missing = np.argwhere(~logitstore.open(path).done())
    return [(int(e), int(b)) for e, b in missing if blocks is None or b in blocks]


def rehearse(config: SaveLogitsConfig) -> None:
    """Builds all of a teacher pass but the store, runs its first batches and prints what the whole would take."""
    assert config.data.path and config.store.path
    view = provenance.view_spec(config.view)
    catalog = provenance.catalog(config.data, config.data.path)
    teacher = provenance.teacher(config.teacher)
    groups_c = class_groups(teacher.net, teacher.num_classes) if config.store.tail == "learned" else None
    spec = store_spec(config, view=view, catalog=catalog, teacher=teacher, groups_c=groups_c)
    process = runtime.start(config.compute)
    path = config.store.path
    present = process.from_main(lambda: check_present(path, spec))
    share = share_of(config.run.share)
    blocks = share.blocks(spec.num_blocks) if share else range(spec.num_blocks)
    tasks = [((epoch,), block) for epoch in range(spec.num_epochs) for block in blocks]
    if present:
        done = logitstore.open(path).done()
        tasks = [(e, b) for e, b in tasks if e[0] >= present or not done[e[0], b]]
    parts = list_parts(spec, tasks[process.rank :: process.world], config.batch_size)
    rehearse_teacher(
        teacher, make_batches(config, spec, catalog, teacher, view), parts, config=config, process=process,
        selection=selection_of(spec), views_left=sum(len(spec.block_rows(block)) for _, block in tasks),
    )  # fmt: skip


def make_batches(
    config: SaveLogitsConfig, spec: logitstore.StoreSpec, catalog: Catalog, teacher: models.Teacher, view: ViewSpec
) -> BlockBatches:
    """The teacher's pictures."""
    return BlockBatches(
        catalog,
        spec=view,
        size=teacher.image_size,
        seed=spec.store_seed,
        rows_per_block=spec.rows_per_block,
        proof_rows=spec.proof_rows,
        digest=config.data.digests is not None,
    )


def beside(store: str, name: str, share: Share | None = None) -> Path:
    """A file about a pass, or a share of it: beside the store, for one behind a URL in the working folder."""
    name = f"{share.name}.{name}" if share else name
    return Path(f"{store.rstrip('/').rpartition('/')[2] if '://' in store else store}.{name}")


def store_spec(
    config: SaveLogitsConfig, *, view: ViewSpec, catalog: Catalog, teacher: models.Teacher,
    groups_c: torch.Tensor | None = None,
) -> logitstore.StoreSpec:  # fmt: skip
    """What the store is to hold, with the provenance of everything in it.

    **Arguments:** `groups_c`: of the classes of a learned tail.
    """
    sampled, draws = config.store.selection == "sample", config.store.draws or 0
    topk = min(draws, teacher.num_classes) if sampled else config.store.topk
    if topk > teacher.num_classes:
        raise UsageError(f"store.topk={topk}: the teacher has {teacher.num_classes} classes")
    rows_per_block = provenance.block_rows(config.store.rows_per_block, len(catalog))
    if view.mix and rows_per_block % view.mix.group_size:
        raise UsageError(
            f"view.mix.group_size={view.mix.group_size}: must divide the rows of a block, {rows_per_block}, so that no "
            "pair lies in two blocks"
        )
    precision: dict[str, Any] = {"precision": config.compute.precision}
    return logitstore.StoreSpec(
        num_samples=len(catalog),
        num_epochs=config.store.epochs,
        num_classes=teacher.num_classes,
        topk=topk,
        selection=config.store.selection,
        max_mass=float(config.store.max_mass),
        draws=draws,
        encoding="counts" if sampled else config.store.encoding,
        tail_groups=int(groups_c.max()) + 1 if groups_c is not None else 0,
        rows_per_block=rows_per_block,
        store_seed=config.store.seed,
        proof_rows=config.store.proof_rows,
        view=view.to_json(),
        teacher=teacher.provenance() | precision,
        data=provenance.data(catalog),
        software=provenance.software(view),
    )


def make_or_grow(
    path: str, spec: logitstore.StoreSpec, catalog: Catalog, *, stored: int, tail_model: logitstore.TailModel | None
) -> None:
    """Creates the store, or lets the one of `stored` epochs that is there grow to those asked for."""
    if not stored:
        keys, labels = catalog.key_hashes(), np.asarray(catalog.labels)
        logitstore.create(path, spec, keys=keys, labels=labels, tail_model=tail_model)
    elif stored < spec.num_epochs:
        logitstore.grow(path, epochs=spec.num_epochs)
        print(f"{path} grows from {stored} to {spec.num_epochs} epochs", flush=True)


def check_present(path: str, spec: logitstore.StoreSpec) -> int:
    """Epochs of the store that is there; 0 if there is none. **Raises:** `DistillError` if it is of something else."""
    try:
        present = logitstore.open(path)
    except logitstore.StoreMissing:
        return 0
    stored = present.spec.num_epochs
    if spec.num_epochs > stored and not logitstore.differences(replace(present.spec, num_epochs=spec.num_epochs), spec):
        return stored
    if different := logitstore.differences(present.spec, spec):
        raise DistillError(
            f"{path} is a store of something else, and nothing was written to it. Take another store.path, or the "
            "settings it was made with. It differs in\n  " + "\n  ".join(different)
        )
    return stored


if __name__ == "__main__":
    distill.command.run(main, name="save_logits", schema=SaveLogitsConfig, about=__doc__, dry_run=rehearse)
