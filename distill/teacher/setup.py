"""From the settings of a teacher pass to the store's spec and the images: all that is there before a batch is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import logitstore
from distill import models, provenance
from distill.config.block_share import BlockShare
from distill.config.programs import SaveLogitsConfig
from distill.data.batches import BlockBatches
from distill.data.catalog import Catalog
from distill.errors import DistillError, UsageError
from distill.views.spec import ViewSpec


def missing_blocks(path: str, blocks: range | None) -> list[tuple[int, int]]:
    """(epoch, block) of each that the store lacks, among some blocks or all."""
    missing = np.argwhere(~logitstore.open(path).done())
    return [(int(e), int(b)) for e, b in missing if blocks is None or b in blocks]


def make_batches(
    config: SaveLogitsConfig, spec: logitstore.StoreSpec, catalog: Catalog, teacher: models.ImageModel, view: ViewSpec
) -> BlockBatches:
    """The teacher's images."""
    return BlockBatches(
        catalog,
        spec=view,
        size=teacher.image_size,
        seed=spec.store_seed,
        rows_per_block=spec.rows_per_block,
        proof_rows=spec.proof_rows,
    )


def beside(store: str, name: str, share: BlockShare | None = None) -> Path:
    """A file about a pass, or a share of it: beside the store, for one behind a URL in the working folder."""
    name = f"{share.name}.{name}" if share else name
    return Path(f"{store.rstrip('/').rpartition('/')[2] if '://' in store else store}.{name}")


def store_spec(
    config: SaveLogitsConfig, *, view: ViewSpec, catalog: Catalog, teacher: models.ImageModel,
    groups_c: torch.Tensor | None = None,
) -> logitstore.StoreSpec:  # fmt: skip
    """What the store is to hold, with the provenance of everything in it.

    **Arguments:** `groups_c`: of the classes of a learned tail.
    """
    sampled, draws = config.store.selection == "sample", config.store.draws or 0
    topk = min(draws, teacher.num_classes) if sampled else config.store.topk
    if topk > teacher.num_classes:
        raise UsageError(f"store.topk={topk}: the teacher has {teacher.num_classes} classes")
    rows_per_block = block_rows(config.store.rows_per_block, len(catalog))
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
        draws=draws,
        encoding="counts" if sampled else config.store.encoding,
        tail_groups=int(groups_c.max()) + 1 if groups_c is not None else 0,
        rows_per_block=rows_per_block,
        store_seed=config.store.seed,
        proof_rows=config.store.proof_rows,
        view=view.to_json(),
        teacher=teacher.provenance() | precision,
        data=provenance.data_record(catalog),
        software=provenance.software_record(view),
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


def block_rows(wanted: int, num_samples: int) -> int:
    """Rows of a block: as wanted, or for a small data set no more than it takes, in steps that a store allows."""
    step = 1024 if num_samples <= logitstore.INNER_ROWS else logitstore.INNER_ROWS
    return min(wanted, -(-num_samples // step) * step)
