"""Fills a store from any source of logits: a model in another framework, a served model, an ensemble.

    with StoreFiller("teacher.zarr", "packed/train", view=ViewSpec(), num_classes=1000, topk=10, epochs=2,
                     teacher={"name": "ensemble of three"}) as filler:
        for batch in filler:
            filler.add(predict(batch.images))  # uint8 (b, size, size, 3) -> float (b, 1000)

A block is written when its last view has its logits, so a run that ended early is resumed with the missing blocks.
`distill.save_logits` does the same for teachers that are torch modules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

import logitstore
from distill import provenance
from distill.data.batch import Batch
from distill.data.batches import BlockBatches, BlockSlice
from distill.data.catalog import Catalog, open_catalog
from distill.data.loader import load
from distill.data.seeds import as_uint64
from distill.errors import DamagedImage, DistillError, UsageError
from distill.targets.selection import Selection, select_targets
from distill.targets.sparse import SparseTargets
from distill.teacher.run import finished_block, leave_out_damaged, list_slices, list_tasks
from distill.teacher.setup import block_rows, check_present, make_or_grow, missing_blocks
from distill.views import ViewSpec


@dataclass(frozen=True, slots=True)
class ViewBatch:
    """Rendered views whose logits are requested."""

    images: npt.NDArray[np.uint8]
    """(b, size, size, 3) RGB."""
    epoch: int
    rows: npt.NDArray[np.int64]
    """(b,)."""
    seeds: npt.NDArray[np.uint64]
    """(b,)."""


class StoreFiller:
    """A store being filled: iterate over the views of missing blocks and `add` their logits, in the same order."""

    def __init__(
        self,
        store: str | Path,
        dataset: str | Path | Catalog,
        *,
        view: ViewSpec | Mapping[str, Any],
        num_classes: int,
        topk: int = 10,
        epochs: int = 1,
        image_size: int = 224,
        seed: int = 0,
        encoding: str = "log8",
        rows_per_block: int = 4096,
        teacher: Mapping[str, Any] | None = None,
        batch_size: int = 128,
        workers: int = 0,
        damaged: str = "stop",
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Creates the store, or opens an existing one of the same settings.

        **Arguments**

        - `store`: a path or URL; `dataset`: path or URL of packed data.
        - `view`: how views are drawn, a `ViewSpec` or its JSON, as in `conf/view/`.
        - `num_classes` of the logits, of which each view's `topk` most probable are stored; `epochs`: views per image.
        - `image_size`: side of the rendered views in pixels; `seed` of the views; `encoding`: `log8` or `float16`.
        - `teacher`: the store's record of the source of logits: JSON values, such as `name` and `class_names`.
        - `damaged`: at an image that cannot be read `stop`, or `skip`, which stores a view without targets.
        - `batch_size`, `workers`: views per batch, and loader processes.
        - `rank`, `world`: of several processes that fill one store, each takes every `world`-th block; rank 0
          must have created the store before the others open it.

        **Raises:** `UsageError` for a wrong setting; `DistillError` if the store at that path has other settings.
        """
        catalog = dataset if isinstance(dataset, Catalog) else open_catalog(dataset)
        spec = view if isinstance(view, ViewSpec) else ViewSpec.from_json(dict(view))
        if not 1 <= topk <= num_classes:
            raise UsageError(f"topk={topk}: must be from 1 to {num_classes}, the number of classes")
        record = {"kind": "external", "name": "unknown", **(teacher or {})}
        self.path = str(store)
        self.spec = logitstore.StoreSpec(
            num_samples=len(catalog),
            num_epochs=epochs,
            num_classes=num_classes,
            topk=topk,
            encoding=encoding,
            rows_per_block=block_rows(rows_per_block, len(catalog), view=spec),
            store_seed=seed,
            view=spec.to_json(),
            teacher=record | {"num_classes": num_classes, "image_size": image_size},
            data=provenance.data_record(catalog),
            software=provenance.software_record(spec),
        )
        if rank == 0:
            make_or_grow(self.path, self.spec, catalog, stored=check_present(self.path, self.spec), tail_model=None)
        elif check_present(self.path, self.spec) != epochs:
            raise DistillError(f"{self.path} is not created yet: rank 0 does that")
        self._selection = Selection(kind="topk", topk=topk)
        self._damaged, self._group = damaged, spec.mix.group_size if spec.mix else 1
        self._batch_size, self._workers, self._rank, self._world = batch_size, workers, rank, world
        self._dataset = BlockBatches(
            catalog, spec=spec, size=image_size, seed=seed, rows_per_block=self.spec.rows_per_block,
            proof_rows=self.spec.proof_rows,
        )  # fmt: skip
        self._writer: logitstore.Writer | None = None
        self._waiting: tuple[BlockSlice, Batch] | None = None
        self._done: list[tuple[Batch, SparseTargets]] = []

    def __enter__(self) -> Self:
        self._writer = logitstore.writer(self.path, exclusive=self._rank == 0).__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer:
            self._writer.__exit__(kind, error, trace)
            self._writer = None

    def missing(self) -> list[tuple[int, int]]:
        """(epoch, block) of every missing block that is this rank's."""
        num_blocks = self.spec.num_blocks  # By their own numbers: what is missing changes while other ranks write.
        return [(e, b) for e, b in missing_blocks(self.path) if (e * num_blocks + b) % self._world == self._rank]

    def __iter__(self) -> Iterator[ViewBatch]:
        """The views of the missing blocks, in order; `add` must be called before the next batch.

        **Raises:** `DamagedImage` under `damaged="stop"`.
        """
        self._waiting, self._done = None, []  # A block that an earlier iteration left unfinished begins again.
        tasks = list_tasks(self.missing(), epochs_per_read=1)
        slices = list(list_slices(self.spec, tasks, self._batch_size, group=self._group))
        batches = load(self._dataset, slices, workers=self._workers)
        for rows, (batch,) in zip(slices, batches, strict=True):
            if self._waiting:
                raise DistillError("the last batch has no logits yet: call add(logits) once for each batch")
            if batch.damage and self._damaged == "stop":
                raise DamagedImage(batch.damage[0].message)
            self._waiting = rows, batch.without_pixels()
            yield ViewBatch(batch.pixels_bhwc.numpy(), rows.epochs[0], batch.rows_b.numpy(), as_uint64(batch.seeds_b))

    def add(self, logits: npt.NDArray[np.floating] | torch.Tensor) -> None:
        """Takes the logits of the last batch, (b, C) of any floating type; writes the block when it is complete.

        **Raises:** `UsageError` for another shape, and for logits that are not finite.
        """
        if not self._waiting or not self._writer:
            raise DistillError("no batch has been requested: iterate over the filler, in its `with` block")
        rows, batch = self._waiting
        logits_bc = torch.as_tensor(logits)
        if logits_bc.shape != (len(batch), self.spec.num_classes):
            raise UsageError(
                f"logits of shape {tuple(logits_bc.shape)} for {len(batch)} views of {self.spec.num_classes} classes"
            )
        if not logits_bc.isfinite().all():
            row = int(batch.rows_b[int((~logits_bc.isfinite()).any(dim=1).int().argmax())])
            raise UsageError(f"a logit of epoch {rows.epochs[0]} row {row} is not finite")
        targets = select_targets(logits_bc, self._selection, seeds_b=as_uint64(batch.seeds_b))
        self._done.append((batch, leave_out_damaged(targets, batch)))
        self._waiting = None
        if rows.last:
            block = finished_block(rows.epochs[0], rows.block, self._done, self.spec.proof_rows)
            self._done = []
            block.write(self._writer)
