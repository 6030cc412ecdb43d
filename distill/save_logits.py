"""Teacher pass: runs a teacher once over augmented views of a packed data set and stores its top classes.

    python -m distill.save_logits data.path=DATA teacher=efficientnet_lite0 store.path=T.zarr \\
        store.topk=10 store.epochs=2

Every stored epoch holds one view of each sample. The view's seed and the teacher's k most probable classes go to
the store, block by block; a pass that was stopped is started again with the same command and does what is missing. A
larger store.epochs makes a store grow: the epochs that it has stay, the new ones are added.
Several processes (torchrun, accelerate launch) share the blocks.
"""

from __future__ import annotations

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
from distill.data.loader import load
from distill.data.records import Records
from distill.errors import DistillError, UsageError
from distill.progress import Progress
from distill.tail_model import TailSums, class_groups
from distill.teacher_pass import list_tasks, logits_of, pilot_parts, run_teacher, selection_of
from distill.views import ViewSpec


def main(config: SaveLogitsConfig) -> None:
    assert config.data.path and config.store.path
    view = provenance.view_spec(config.view)
    catalog = provenance.catalog(config.data, config.data.path)
    teacher = provenance.teacher(config.teacher)
    groups_c = class_groups(teacher.net, teacher.num_classes) if config.store.tail == "learned" else None
    spec = store_spec(config, view=view, catalog=catalog, teacher=teacher, groups_c=groups_c)
    process = runtime.start(config.compute)
    process.place(teacher.net, config.compute)
    normalise = runtime.Normalise(teacher.mean, teacher.std, process=process, compute=config.compute)
    dataset = BlockBatches(
        catalog, spec=view, size=teacher.image_size, seed=spec.store_seed, rows_per_block=spec.rows_per_block,
        proof_rows=spec.proof_rows, digest=config.data.digests is not None,
    )  # fmt: skip
    present = open_present(config.store.path, spec)
    process.accelerator.wait_for_everyone()  # All have looked before anyone creates.
    tail_model = None
    if present is None and groups_c is not None:
        tail_model = learn_tail(config, teacher, catalog, dataset, spec, groups_c, normalise, process)
    if process.is_main:
        make_or_grow(config.store.path, spec, catalog, present, tail_model)
    process.accelerator.wait_for_everyone()

    records = Records(
        damaged=config.data.damaged,
        damage_file=damage_file(config.store.path),
        digest_file=config.data.digests,
        rank=process.rank,
    )
    with logitstore.writer(config.store.path, exclusive=process.is_main) as writer:
        missing = [(int(e), int(b)) for e, b in np.argwhere(~logitstore.open(config.store.path).done())]
        process.accelerator.wait_for_everyone()  # All have listed what is missing before anyone writes.
        tasks = list_tasks(missing, epochs_per_read=config.store.epochs_per_read)
        mine = tasks[process.rank :: process.world]
        process.say(f"{len(missing)} of {spec.num_epochs * spec.num_blocks} blocks to do")
        views = sum(len(epochs) * len(spec.block_rows(block)) for epochs, block in mine)
        with Progress("teacher pass", total=views, unit="views", shown=process.is_main) as progress:
            run_teacher(
                teacher, writer, spec=spec, dataset=dataset, tasks=mine, batch_size=config.batch_size,
                workers=config.data.workers, prefetch=config.data.prefetch, records=records, normalise=normalise,
                runtime=process, progress=progress,
            )  # fmt: skip
        process.accelerator.wait_for_everyone()
    if note := records.summary():
        print(note, flush=True)
    if left := int((~logitstore.open(config.store.path).done()).sum()):
        raise DistillError(f"{config.store.path} still lacks {left} blocks: run the same command again")
    process.say(f"{config.store.path} is complete: {spec.num_epochs} epochs of {spec.num_samples} views")
    process.finish()


def damage_file(store: str) -> Path:
    """Where damaged pictures are put on record: beside the store, for one behind a URL in the working folder."""
    return Path(f"{store.rstrip('/').rpartition('/')[2] if '://' in store else store}.damaged.jsonl")


def store_spec(
    config: SaveLogitsConfig,
    *,
    view: ViewSpec,
    catalog: Catalog,
    teacher: models.Teacher,
    groups_c: torch.Tensor | None = None,
) -> logitstore.StoreSpec:
    """What the store is to hold, with the provenance of everything in it."""
    sampled = config.store.selection == "sample"
    draws = config.store.draws or 0
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
        rows_per_block=rows_per_block,
        store_seed=config.store.seed,
        proof_rows=config.store.proof_rows,
        tail_groups=int(groups_c.max()) + 1 if groups_c is not None else 0,
        view=view.to_json(),
        teacher=teacher.provenance() | precision,
        data=provenance.data(catalog),
        software=provenance.software(view),
    )


def open_present(path: str, spec: logitstore.StoreSpec) -> logitstore.Store | None:
    """The store that is there; None where there is none. **Raises:** `DistillError` where it is not the one asked for,
    with fewer epochs at most."""
    try:
        present = logitstore.open(path)
    except logitstore.StoreMissing:
        return None
    asked = replace(spec, num_epochs=max(spec.num_epochs, present.spec.num_epochs))
    grows = not logitstore.differences(replace(present.spec, num_epochs=asked.num_epochs), asked)
    if not grows or spec.num_epochs < present.spec.num_epochs:
        raise DistillError(
            f"{path} is a store of something else, and nothing was written to it. Take another store.path, or the "
            "settings it was made with. It differs in\n  " + "\n  ".join(logitstore.differences(present.spec, spec))
        )
    return present


def make_or_grow(
    path: str,
    spec: logitstore.StoreSpec,
    catalog: Catalog,
    present: logitstore.Store | None,
    tail_model: logitstore.TailModel | None,
) -> None:
    """Creates the store where there is none, or lets the one that is there grow to the epochs asked for."""
    if present is None:
        keys, labels = catalog.key_hashes(), np.asarray(catalog.labels)
        logitstore.create(path, spec, keys=keys, labels=labels, tail_model=tail_model)
    elif spec.num_epochs > present.spec.num_epochs:
        logitstore.grow(path, epochs=spec.num_epochs)
        print(f"{path} grows from {present.spec.num_epochs} to {spec.num_epochs} epochs", flush=True)


def learn_tail(
    config: SaveLogitsConfig,
    teacher: models.Teacher,
    catalog: Catalog,
    dataset: BlockBatches,
    spec: logitstore.StoreSpec,
    groups_c: torch.Tensor,
    normalise: runtime.Normalise,
    process: runtime.Runtime,
) -> logitstore.TailModel:
    """How the teacher spreads what is not kept, from views of epoch 0 that the processes share."""
    parts = pilot_parts(num_samples=len(catalog), num_views=config.store.tail_views, batch_size=config.batch_size)
    mine = parts[process.rank :: process.world]
    sums = TailSums(groups_c.to(process.device))
    batches = load(dataset, mine, workers=config.data.workers, prefetch=config.data.prefetch, pin=process.pin)
    views = sum(part.end - part.begin for part in mine)
    with Progress("learning the tail", total=views, unit="views", shown=process.is_main) as progress:
        for (batch,) in batches:
            good_b = batch.weights_b > 0
            logits_bc = logits_of(teacher, batch, normalise=normalise, runtime=process)
            sums.add(logits_bc[good_b.to(process.device)], selection_of(spec))
            progress.advance(len(batch))
    return sums.model(process)


if __name__ == "__main__":
    distill.command.run(main, name="save_logits", schema=SaveLogitsConfig, about=__doc__)
