"""The parts of a teacher pass, each made from the settings: the store's spec, the images, the store itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import logitstore
from distill import inputs, models, provenance
from distill.config.block_share import BlockShare, parse_block_share
from distill.config.programs import SaveLogitsConfig
from distill.data.batches import BlockBatches
from distill.data.catalog import Catalog
from distill.errors import DistillError, UsageError
from distill.teacher.learned_tail import class_groups
from distill.views.spec import ViewSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherPass:
    """Everything that a teacher pass consists of, except the store."""

    catalog: Catalog
    teacher: models.ImageModel
    class_groups_c: torch.Tensor | None
    """(c,) int64 class groups of a learned tail; None: the tail is not learned."""
    spec: logitstore.StoreSpec
    dataset: BlockBatches
    path: str
    """Of the store."""
    share: BlockShare | None
    """The share of the blocks that this run computes; None: all blocks."""

    @property
    def blocks(self) -> range | None:
        """The blocks of the share; None: all. **Raises:** `UsageError` where there are fewer blocks than shares."""
        return self.share.blocks(self.spec.num_blocks) if self.share else None

    def beside(self, name: str) -> Path:
        """A file on this run: beside the store, or in the working folder where the store is behind a URL."""
        name = f"{self.share.name}.{name}" if self.share else name
        return Path(f"{self.path.rstrip('/').rpartition('/')[2] if '://' in self.path else self.path}.{name}")


def make_pass(config: SaveLogitsConfig) -> TeacherPass:
    """Opens data and teacher, and derives the store's spec from them."""
    assert config.data.path and config.store.path
    view = inputs.open_view_spec(config.view)
    catalog = inputs.open_catalog(config.data, config.data.path)
    teacher = inputs.open_teacher(config.teacher)
    class_groups_c = class_groups(teacher.net, teacher.num_classes) if config.store.tail == "learned" else None
    spec = store_spec(config, view=view, catalog=catalog, teacher=teacher, class_groups_c=class_groups_c)
    return TeacherPass(
        catalog=catalog,
        teacher=teacher,
        class_groups_c=class_groups_c,
        spec=spec,
        dataset=BlockBatches(
            catalog,
            spec=view,
            size=teacher.image_size,
            seed=spec.store_seed,
            rows_per_block=spec.rows_per_block,
            proof_rows=spec.proof_rows,
        ),
        path=config.store.path,
        share=parse_block_share(config.run.share),
    )


def store_spec(
    config: SaveLogitsConfig, *, view: ViewSpec, catalog: Catalog, teacher: models.ImageModel,
    class_groups_c: torch.Tensor | None = None,
) -> logitstore.StoreSpec:  # fmt: skip
    """The spec of the store to be made, with the provenance of teacher, data and software.

    **Arguments:** `class_groups_c`: of a learned tail.
    """
    sampled, draws = config.store.selection == "sample", config.store.draws or 0
    topk = min(draws, teacher.num_classes) if sampled else config.store.topk
    if topk > teacher.num_classes:
        raise UsageError(f"store.topk={topk}: the teacher has {teacher.num_classes} classes")
    rows_per_block = block_rows(config.store.rows_per_block, len(catalog), view=view)
    precision: dict[str, Any] = {"precision": config.compute.precision}
    return logitstore.StoreSpec(
        num_samples=len(catalog),
        num_epochs=config.store.epochs,
        num_classes=teacher.num_classes,
        topk=topk,
        selection=config.store.selection,
        draws=draws,
        encoding="counts" if sampled else config.store.encoding,
        tail_groups=int(class_groups_c.max()) + 1 if class_groups_c is not None else 0,
        rows_per_block=rows_per_block,
        store_seed=config.store.seed,
        proof_rows=config.store.proof_rows,
        view=view.to_json(),
        teacher=teacher.provenance() | precision,
        data=provenance.data_record(catalog),
        software=provenance.software_record(view),
    )


def block_rows(rows_per_block: int, num_samples: int, *, view: ViewSpec) -> int:
    """Rows of a block: as set, or for a small data set no more than it needs, in steps that a store allows.

    **Raises:** `UsageError` where mixed pairs would lie in two blocks.
    """
    step = 1024 if num_samples <= logitstore.INNER_ROWS else logitstore.INNER_ROWS
    rows_per_block = min(rows_per_block, -(-num_samples // step) * step)
    if view.mix and rows_per_block % view.mix.group_size:
        raise UsageError(
            f"view.mix.group_size={view.mix.group_size}: must divide the rows of a block, {rows_per_block}, so that "
            "every mixed pair is in one block"
        )
    return rows_per_block


def check_present(path: str, spec: logitstore.StoreSpec) -> int:
    """Number of epochs of the store at `path`; 0 if there is none.

    **Raises:** `DistillError` if that store cannot be continued with `spec`.
    """
    try:
        present = logitstore.open(path).spec
    except logitstore.StoreMissing:
        return 0
    if present.max_mass < 1:
        raise DistillError(
            f"{path} was made by an earlier version with max_mass={present.max_mass:g}, which no longer exists: it can "
            "be read, verified and trained from, but no block can be added. Make a new store at another store.path"
        )
    compared = replace(present, num_epochs=max(present.num_epochs, spec.num_epochs))
    if different := logitstore.differences(compared, spec):
        raise DistillError(
            f"{path} is a store with other settings, and nothing was written to it. Choose another store.path, or the "
            "settings that it was made with. It differs in\n  " + "\n  ".join(different)
        )
    return present.num_epochs


def make_or_grow(
    path: str, spec: logitstore.StoreSpec, catalog: Catalog, *, stored: int, tail_model: logitstore.TailModel | None
) -> None:
    """Creates the store, or adds epochs to the one of `stored` epochs."""
    if not stored:
        keys, labels = catalog.key_hashes(), np.asarray(catalog.labels)
        logitstore.create(path, spec, keys=keys, labels=labels, tail_model=tail_model)
    elif stored < spec.num_epochs:
        logitstore.grow(path, epochs=spec.num_epochs)
        print(f"{path} grows from {stored} to {spec.num_epochs} epochs", flush=True)


def missing_blocks(path: str, blocks: range | None = None) -> list[tuple[int, int]]:
    """(epoch, block) of every missing block, among some blocks or all."""
    missing = np.argwhere(~logitstore.open(path).done())
    return [(int(e), int(b)) for e, b in missing if blocks is None or b in blocks]
