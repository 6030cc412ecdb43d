"""A store and its data set as a map-style `torch.utils.data.Dataset`, for training loops of one's own.

    dataset = ViewDataset("teacher.zarr", "packed/train", image_size=224)
    loader = torch.utils.data.DataLoader(dataset, batch_sampler=EpochSampler(dataset, batch_size=64), num_workers=2)
    for batch in loader:  # a ViewItem whose tensors have a first axis
        loss_b = soft_target_loss(net(normalise(batch.image)), batch.target)

The views are those the teacher saw, to the last bit; `distill.train_student` is given the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

import logitstore
from distill.config import StoreConfig
from distill.data.catalog import Catalog, open_catalog
from distill.data.order import Int64s, Order
from distill.data.pairs import group_starts
from distill.data.seeds import StoredViews
from distill.data.view_reader import ViewReader
from distill.errors import DamagedImage
from distill.replay.open_store import open_replay
from distill.replay.proofs import ProofVerifier, VerifyFirstReads
from distill.targets.sparse import SparseTargets
from distill.views import EncodedImage, View, describe, describe_mix, draw, draw_mix


class ViewItem(NamedTuple):
    """One view and what the teacher predicted for it; in a collated batch every tensor has a first axis b."""

    image: Tensor
    """(size, size, 3) uint8 RGB; grey where the image could not be read (`damaged="skip"`)."""
    target: SparseTargets
    """(k,) indices, (k,) log-probabilities, () log of the mass outside."""
    weight: Tensor
    """() float32: 0 for a view to leave out (damaged, now or for the teacher), else 1."""
    label: Tensor
    """() int64, -1 unknown; of a mixed view the label of its own image."""
    row: Tensor
    """() int64."""
    epoch: Tensor
    """() int64, the stored epoch."""


class ViewDataset(Dataset[ViewItem]):
    """Every view of a store's complete epochs. Item i is the view of row i % N in the (i // N)-th of them.

    It may be forked and pickled (workers by fork and by spawn), holds no open files of the store, and reads a whole
    list of indices at once where the loader asks so.
    """

    def __init__(
        self,
        store: str | Path | logitstore.Store,
        dataset: str | Path | Catalog,
        *,
        image_size: int = 224,
        epochs: str = "complete",
        check: str = "strict",
        damaged: str = "stop",
    ) -> None:
        """**Arguments**

        - `store`: a path or URL, or a store opened by `logitstore.open`.
        - `dataset`: path or URL of the packed data set that the store was made from.
        - `image_size`: side of the images in pixels; need not be the teacher's.
        - `epochs`: `complete`, the epochs that are whole; `all`, every stored epoch must be.
        - `check`: `strict`, views that would not come out as the teacher saw them are an error, at the start and when a
          block is first read; `warn`; `off`.
        - `damaged`: `stop`, an image that cannot be read raises; `skip`, its weight is 0.

        **Raises:** `DistillError` or a `logitstore.StoreError` if the store is of other data, has no complete epoch, or
        does not replay here.
        """
        catalog = dataset if isinstance(dataset, Catalog) else open_catalog(dataset)
        path = store.path if isinstance(store, logitstore.Store) else str(store)
        replay = open_replay(StoreConfig(path=path, epochs=epochs, check=check), catalog)
        self.store, self.catalog, self.spec, self.epochs = replay.store, catalog, replay.spec, replay.epochs
        self.image_size, self.damaged = image_size, damaged
        self.source = StoredViews(self.store)
        self.views = ViewReader(
            catalog, size=image_size, spec=self.spec, source=self.source, num_classes=self.num_classes
        )
        self._verify = None
        if check != "off":
            rank, world = _rank_and_world()
            verifier = ProofVerifier(self.store, self.spec, catalog)
            self._verify = VerifyFirstReads(verifier, rank=rank, world=world, strict=check == "strict")

    @property
    def num_classes(self) -> int:
        return int(self.store.spec.num_classes)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Of the teacher's classes, where the store knows them."""
        names = self.store.spec.teacher.get("class_names")
        return tuple(names) if names else None

    def __len__(self) -> int:
        return len(self.epochs) * len(self.catalog)

    def index(self, epoch: int, row: int) -> int:
        """The item of a row in a stored epoch. **Raises:** `IndexError`."""
        if epoch not in self.epochs or not 0 <= row < len(self.catalog):
            raise IndexError(f"no view of epoch {epoch} row {row}: epochs {self.epochs}, {len(self.catalog)} rows")
        return self.epochs.index(epoch) * len(self.catalog) + row

    def coordinates(self, indices: Sequence[int]) -> tuple[Int64s, Int64s]:
        """Stored epochs and rows, (n,) int64 each, of some items. **Raises:** `IndexError`."""
        numbers = np.asarray(indices, np.int64)
        if len(numbers) and not (-len(self) <= numbers.min() and numbers.max() < len(self)):
            raise IndexError(f"items are 0 to {len(self) - 1}, got {numbers.min()} to {numbers.max()}")
        number_of_epoch, rows = np.divmod(numbers % len(self), len(self.catalog))
        return np.array(self.epochs)[number_of_epoch], rows

    def __getitem__(self, index: int) -> ViewItem:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[ViewItem]:
        """The items of a whole batch: the store is read once, and images that several of them need are decoded once."""
        epochs, rows = self.coordinates(indices)
        if self._verify and (warning := self._verify(epochs, rows)):
            warnings.warn(warning, stacklevel=2)
        seeds, targets = self.source.read(epochs, rows)
        batch = self.views.read(epochs, rows, seeds).with_targets(targets)
        if batch.damage and self.damaged == "stop":
            raise DamagedImage(batch.damage[0].message)
        return [
            ViewItem(image, SparseTargets(*target), weight, label, row, epoch)
            for image, *target, weight, label, row, epoch in zip(
                batch.pixels_bhwc, *targets, batch.weights_b, batch.labels_b, batch.rows_b, batch.epochs_b, strict=True
            )
        ]

    def view(self, index: int) -> View:
        """The drawn parameters of an item's own image."""
        epochs, rows = self.coordinates([index])
        image = EncodedImage(self.views.reader.read(int(rows[0])))
        return draw(self.spec, int(self.source.seeds(epochs, rows)[0]), image.size)

    def describe(self, index: int) -> list[str]:
        """The same in words, a line each, and what the view is mixed with."""
        lines, pairs = list(describe(self.view(index))), self.views.pairs
        if pairs is None:
            return lines
        epochs, rows = self.coordinates([index])
        partners = pairs.partners(epochs, rows)
        if partners[0] == rows[0]:
            return [*lines, "no partner: not mixed"]
        mixing = draw_mix(pairs.spec, int(self.source.seeds(epochs, np.minimum(rows, partners))[0]))
        return [*lines, f"with row {partners[0]}: {describe_mix(mixing, size=self.image_size)}"]


class EpochSampler(Sampler[list[int]]):
    """The order of `distill.train_student` over a `ViewDataset`, as a DataLoader's `batch_sampler`.

    Rows are shuffled within windows of a few tar shards, so that reads stay local, and dealt to the ranks; rows that do
    not fill a last step are left out of that epoch. Training may be longer than the store: its epochs come round again.

        for epoch in range(num_epochs):
            sampler.set_epoch(epoch)
            for batch in loader: ...
    """

    def __init__(
        self, dataset: ViewDataset, *, batch_size: int, seed: int = 0, rank: int | None = None,
        world: int | None = None, accumulate: int = 1, window_shards: int = 16,
    ) -> None:  # fmt: skip
        """**Arguments:** `batch_size` of one micro-batch of one rank; `rank` and `world` (default: those of
        `torch.distributed`, where it is initialised); `accumulate`: micro-batches of an optimiser step.

        **Raises:** `UsageError` where the rows do not fill one step.
        """
        own_rank, own_world = _rank_and_world()
        self.dataset, self.rank = dataset, own_rank if rank is None else rank
        catalog, mix = dataset.catalog, dataset.spec.mix
        self.order = Order(
            starts=group_starts(catalog.starts, mix, num_rows=len(catalog)),
            unit=2 if mix else 1,
            seed=seed,
            batch_size=batch_size,
            world=own_world if world is None else world,
            accumulate=accumulate,
            window_shards=window_shards,
        )
        self._epoch, self._step = 0, 0

    def set_epoch(self, epoch: int, *, step: int = 0) -> None:
        """The epoch that the next iteration gives, from one of its optimiser steps on: that is all of resuming."""
        self._epoch, self._step = epoch, step

    def __len__(self) -> int:
        """Micro-batches of a whole epoch."""
        return self.order.steps_per_epoch * self.order.accumulate

    def __iter__(self) -> Iterator[list[int]]:
        first = self._epoch * self.order.steps_per_epoch
        for index in self.order.indices(first + self._step, first + self.order.steps_per_epoch):
            step, micro_batch = divmod(index, self.order.accumulate)
            epochs, rows = self.order.batch(step, micro_batch=micro_batch, rank=self.rank)
            numbers = epochs % len(self.dataset.epochs)
            if pairs := self.dataset.views.pairs:
                rows = pairs.rows_at(self.dataset.epochs[int(numbers[0])], rows)
            yield (numbers * len(self.dataset.catalog) + rows).tolist()


def _rank_and_world() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
