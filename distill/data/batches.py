"""Datasets whose items are batches of views: the work of the loader's workers.

    coordinates -> seeds (+ targets, where there is a store) -> ViewReader -> Batch

Three datasets: `TrainBatches` (student), `BlockBatches` (teacher) and `EvalBatches` (evaluation). An index stands for a
whole batch, so torch's DataLoader (see `loader`) only moves finished batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from distill.data.batch import Batch
from distill.data.catalog import Catalog
from distill.data.image_folder import Images
from distill.data.order import Int64s, Order
from distill.data.seeds import DerivedSeeds, SeedSource
from distill.data.view_reader import ViewReader
from distill.views import EvalSpec, ViewSpec


class TrainBatches(Dataset[Batch]):
    """The student's batches; index i is micro-batch i % accumulate of optimiser step i // accumulate."""

    def __init__(
        self, catalog: Catalog, *, order: Order, rank: int, spec: ViewSpec, size: int, source: SeedSource,
        num_classes: int | None = None, epochs: tuple[int, ...] = (),
        verify: Callable[[Int64s, Int64s], str | None] | None = None,
    ) -> None:  # fmt: skip
        """**Arguments:** `source` of seeds and targets; `num_classes` of the model; `epochs`: the stored epochs,
        repeated in turn (empty: every epoch has new views); `verify(epochs, rows)` is called before a batch is
        rendered, and its message becomes a warning of the batch."""
        self.views = ViewReader(catalog, size=size, spec=spec, source=source, num_classes=num_classes)
        self.order, self.rank, self.source, self.epochs, self.verify = order, rank, source, epochs, verify
        self._remote = catalog.remote is not None
        self._window = (-1, -1)

    def __getitem__(self, index: int) -> Batch:
        step, micro_batch = divmod(index, self.order.accumulate)
        self._fetch_ahead(step)
        epochs, rows = self.order.batch(step, micro_batch=micro_batch, rank=self.rank)
        if self.epochs:
            epochs = np.array(self.epochs)[epochs % len(self.epochs)]
        if self.views.pairs is not None:  # One epoch; pairs are neighbours in the order.
            rows = self.views.pairs.rows_at(int(epochs[0]), rows)
        warning = self.verify(epochs, rows) if self.verify else None
        seeds, targets = self.source.read(epochs, rows)
        batch = self.views.read(epochs, rows, seeds).with_targets(targets)
        return replace(batch, warnings=(warning,)) if warning else batch

    def _fetch_ahead(self, step: int) -> None:
        """At the begin of a window of the order, requests its shards and those of the next window."""
        if self._remote and (window := self.order.window_of(step)) != self._window:
            self._window = window
            for number in (window[1], window[1] + 1):
                self.views.fetch_ahead(self.order.window_rows(window[0], number))


@dataclass(frozen=True, slots=True)
class BlockSlice:
    """Consecutive rows of one block in some stored epochs: an index of `BlockBatches`."""

    epochs: tuple[int, ...]
    block: int
    begin: int
    end: int
    last: bool
    """Whether the block ends here."""


class BlockBatches(Dataset[list[Batch]]):
    """The teacher's batches: the views of a block in the order of its rows. An item has one batch per epoch of the
    slice, all from one decoding of the images."""

    def __init__(
        self, catalog: Catalog, *, spec: ViewSpec, size: int, seed: int, rows_per_block: int, proof_rows: int
    ) -> None:
        """**Arguments:** `seed` of the store; `proof_rows`: rows of a block whose pixels are digested."""
        self.source = DerivedSeeds(base=seed, num_samples=len(catalog))
        self.views = ViewReader(catalog, size=size, spec=spec, source=self.source)
        self.spec, self.rows_per_block, self.proof_rows = spec, rows_per_block, proof_rows

    def __getitem__(self, block_slice: BlockSlice) -> list[Batch]:
        begin, end, slice_epochs = block_slice.begin, block_slice.end, block_slice.epochs
        self.views.fetch_after(end)
        epochs, rows = np.repeat(np.array(slice_epochs), end - begin), np.tile(np.arange(begin, end), len(slice_epochs))
        proof_end = block_slice.block * self.rows_per_block + self.proof_rows
        num_digests = max(0, min(end, proof_end) - begin)
        seeds = self.source.seeds(epochs, rows)
        batch = self.views.read(epochs, rows, seeds, num_digests=len(rows) if num_digests else 0)
        return [self._of_epoch(batch, epoch, n, end - begin, num_digests) for n, epoch in enumerate(slice_epochs)]

    def _of_epoch(self, batch: Batch, epoch: int, n: int, num_rows: int, num_digests: int) -> Batch:
        """The n-th epoch of a batch of several epochs."""
        part = slice(n * num_rows, (n + 1) * num_rows)

        def part_of(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[part]

        return Batch(
            epochs_b=batch.epochs_b[part],
            rows_b=batch.rows_b[part],
            seeds_b=batch.seeds_b[part],
            pixels_bhwc=batch.pixels_bhwc[part],
            labels_b=batch.labels_b[part],
            weights_b=batch.weights_b[part],
            partner_labels_b=part_of(batch.partner_labels_b),
            mix_weights_b=part_of(batch.mix_weights_b),
            digests=batch.digests[part][:num_digests],
            damage=tuple(damage for damage in batch.damage if damage.epoch == epoch),
        )


class EvalBatches(Dataset[Batch]):
    """Evaluation views of all rows; an index is a range of rows."""

    def __init__(self, images: Images, *, spec: EvalSpec, size: int) -> None:
        self.views = ViewReader(images, size=size, spec=spec)

    def __getitem__(self, rows: range) -> Batch:
        self.views.fetch_after(rows.stop)
        numbers = np.arange(rows.start, rows.stop)
        return self.views.read(np.zeros_like(numbers), numbers, np.zeros(len(numbers), np.uint64))
