"""A store and its data set as a map-style `torch.utils.data.Dataset`, for any training loop.

    dataset = ViewDataset("teacher.zarr", "packed/train", image_size=224)
    loader = torch.utils.data.DataLoader(dataset, batch_sampler=EpochSampler(dataset, batch_size=64), num_workers=2)
    for batch in loader:  # a ViewItem whose tensors have a first axis
        loss_b = soft_target_loss(net(normalise(batch.image)), batch.target)

The views are those that the teacher saw, to the last bit; `distill.train_student` uses the same.
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
from distill.replay import recorded
from distill.replay.open_store import open_replay
from distill.replay.proofs import ProofVerifier, VerifyFirstReads
from distill.targets.sparse import SparseTargets
from distill.views import EncodedImage, View, describe, describe_mix, draw, draw_mix


class ViewItem(NamedTuple):
    """One view and the teacher's targets for it; in a collated batch every tensor has a first axis b."""

    image: Tensor
    """(size, size, 3) uint8 RGB; grey where the image could not be read (`damaged="skip"`)."""
    target: SparseTargets
    """(k,) indices, (k,) log-probabilities, () log of the mass outside the top-k."""
    weight: Tensor
    """() float32: 0 for a view to leave out, because its image was damaged, now or for the teacher; else 1."""
    label: Tensor
    """() int64, -1 unknown; of a mixed view the label of its own image."""
    row: Tensor
    """() int64."""
    epoch: Tensor
    """() int64, the stored epoch."""


class ViewDataset(Dataset[ViewItem]):
    """Every view of a store's complete epochs. Item i is the view of row i % N in the (i // N)-th of them.

    It can be forked and pickled (loader workers by fork and by spawn) and holds no open files of the store. A batch of
    indices is read at once (`__getitems__`).
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
        - `dataset`: the packed data set that the store was made from: a path, a URL, or an open `Catalog`.
        - `image_size`: side of the images in pixels; it may differ from the teacher's.
        - `epochs`: `complete`, the complete stored epochs; `all`, every stored epoch, which must be complete.
        - `check`: whether views are verified to render as they did for the teacher, at the start and when a block is
          first read. At a difference `strict` raises and `warn` warns; `off`: no verification.
        - `damaged`: an image that cannot be read is an error (`stop`) or gets weight 0 (`skip`).

        **Raises:** `DistillError` or a `logitstore.StoreError` if the store belongs to other data, has no complete
        epoch, or does not replay here.
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
        """The names of the teacher's classes; None where the store has none."""
        names = recorded.class_names(self.store)
        return tuple(names) if names else None

    def __len__(self) -> int:
        return len(self.epochs) * len(self.catalog)

    def index(self, epoch: int, row: int) -> int:
        """The index of the item of a row in a stored epoch. **Raises:** `IndexError`."""
        if epoch not in self.epochs or not 0 <= row < len(self.catalog):
            raise IndexError(f"no view of epoch {epoch} row {row}: epochs {self.epochs}, {len(self.catalog)} rows")
        return self.epochs.index(epoch) * len(self.catalog) + row

    def coordinates(self, indices: Sequence[int]) -> tuple[Int64s, Int64s]:
        """Stored epochs and rows, (n,) int64 each, of n items. **Raises:** `IndexError`."""
        numbers = np.asarray(indices, np.int64)
        if len(numbers) and not (-len(self) <= numbers.min() and numbers.max() < len(self)):
            raise IndexError(f"items are 0 to {len(self) - 1}, got {numbers.min()} to {numbers.max()}")
        number_of_epoch, rows = np.divmod(numbers % len(self), len(self.catalog))
        return np.array(self.epochs)[number_of_epoch], rows

    def __getitem__(self, index: int) -> ViewItem:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[ViewItem]:
        """The items of a batch. The store is read once, and an image that several items need is decoded once."""
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
        """The parameters of an item's view, without mixing."""
        epochs, rows = self.coordinates([index])
        image = EncodedImage(self.views.reader.read(int(rows[0])))
        return draw(self.spec, int(self.source.seeds(epochs, rows)[0]), image.size)

    def describe(self, index: int) -> list[str]:
        """The parameters as text, one per line, and how the view is mixed."""
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

    Rows are shuffled within windows of a few tar shards, so that reads stay local, and divided among the ranks. Rows
    that do not fill a last step are left out of the epoch. Training may be longer than the store: its epochs repeat in
    turn.

        for epoch in range(num_epochs):
            sampler.set_epoch(epoch)
            for batch in loader: ...
    """

    def __init__(
        self, dataset: ViewDataset, *, batch_size: int, seed: int = 0, rank: int | None = None,
        world: int | None = None, accumulate: int = 1, window_shards: int = 16,
    ) -> None:  # fmt: skip
        """**Arguments:** `batch_size` of one micro-batch of one rank; `rank` and `world` (default: those of
        `torch.distributed`, where it is initialised); `accumulate`: micro-batches per optimiser step; `window_shards`:
        tar shards that are shuffled together.

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
        """Sets the epoch of the next iteration, and its first optimiser step: a run is resumed by this call alone."""
        self._epoch, self._step = epoch, step

    def __len__(self) -> int:
        """Micro-batches per epoch, of one rank."""
        return self.order.steps_per_epoch * self.order.accumulate

    def __iter__(self) -> Iterator[list[int]]:
        first = self._epoch * self.order.steps_per_epoch
        for index in self.order.indices(first + self._step, first + self.order.steps_per_epoch):
            step, micro_batch = divmod(index, self.order.accumulate)
            epochs, rows = self.order.batch(step, micro_batch=micro_batch, rank=self.rank)
            stored = epochs % len(self.dataset.epochs)  # Position among the store's complete epochs.
            if pairs := self.dataset.views.pairs:
                rows = pairs.rows_at(self.dataset.epochs[int(stored[0])], rows)
            yield (stored * len(self.dataset.catalog) + rows).tolist()


def _rank_and_world() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
