"""Batches of pictures: what the loader's workers do.

    row -> bytes from its shard -> view drawn from its seed -> uint8 picture    (+ what the store knows of the view)

Three datasets, one for each use: `TrainBatches` (student), `BlockBatches` (teacher) and `EvalBatches`. An index
stands for a whole batch, so torch's DataLoader only moves finished batches. `load` runs one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import logitstore
from distill.data.catalog import Catalog
from distill.data.order import Order
from distill.data.seeds import view_seeds
from distill.data.shards import ShardReader
from distill.errors import DamagedImage, DistillError
from distill.keep import Kept
from distill.views import EvalSpec, View, ViewSpec, draw, eval_view, image_size, pixel_digest, render


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Pictures of b rows and what is known about them."""

    epoch: int
    rows_b: Tensor
    """(b,) int64."""
    pixels_bhwc: Tensor
    """(b, size, size, 3) uint8 RGB; grey where a picture could not be read."""
    labels_b: Tensor
    """(b,) int64, -1 unknown."""
    weights_b: Tensor
    """(b,) float32: 0 for a row to leave out (its picture could not be read, now or by the teacher), else 1."""
    seeds_b: Tensor | None = None
    """(b,) int64 holding the bits of the uint64 view seeds."""
    kept: Kept | None = None
    digests: tuple[int, ...] = ()
    """Digests of the first pictures' pixels, as many as were asked for."""
    damage: tuple[tuple[int, str], ...] = ()
    """Row and message of each picture that could not be read."""

    def __len__(self) -> int:
        return len(self.rows_b)

    def pin_memory(self) -> Batch:
        names = ("pixels_bhwc", "labels_b", "weights_b")
        pinned: dict[str, Any] = {name: getattr(self, name).pin_memory() for name in names}
        return replace(self, **pinned, kept=self.kept.pin_memory() if self.kept else None)


class Pictures:
    """Reads and renders rows of one data set at one size."""

    def __init__(self, catalog: Catalog, *, size: int, num_classes: int | None = None) -> None:
        """**Arguments:** `num_classes`: of the model; labels of a data set with another number are unknown to it."""
        self.catalog = catalog
        self.size = size
        self._labelled = num_classes in (None, catalog.num_classes)
        self._shards = ShardReader(catalog)

    def __call__(
        self, rows: npt.NDArray[np.int64], view_of: Callable[[int, tuple[int, int]], View], *, num_digests: int = 0
    ) -> dict[str, Any]:
        """The fields of a `Batch` that come from pictures.

        **Arguments:** `view_of(position in the batch, (height, width))` gives each row's view; the first
        `num_digests` pictures are digested.
        """
        pixels = np.full((len(rows), self.size, self.size, 3), 128, np.uint8)
        weights = np.ones(len(rows), np.float32)
        digests: list[int] = []
        damage: list[tuple[int, str]] = []
        for position, row in enumerate(rows.tolist()):
            try:
                data = self._shards.read(row)
                view = view_of(position, image_size(data))
                pixels[position] = render(data, view, size=self.size)
            except DamagedImage as error:
                where = self._shards.where(row)
                damage.append((row, str(error) if where in str(error) else f"{where}: {error}"))
                weights[position] = 0
            if position < num_digests:
                digests.append(pixel_digest(pixels[position]))
        labels = self.catalog.labels[rows].astype(np.int64) if self._labelled else np.full(len(rows), -1)
        return {
            "rows_b": torch.from_numpy(rows),
            "pixels_bhwc": torch.from_numpy(pixels),
            "labels_b": torch.from_numpy(labels),
            "weights_b": torch.from_numpy(weights),
            "digests": tuple(digests),
            "damage": tuple(damage),
        }


class TrainBatches(Dataset[Batch]):
    """The student's batches; index i is accumulation part i % accumulate of optimiser step i // accumulate."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        order: Order,
        rank: int,
        spec: ViewSpec,
        size: int,
        seed: int,
        store: logitstore.Store | None = None,
        epochs: tuple[int, ...] = (),
        digest: bool = False,
    ) -> None:
        """**Arguments:** `store` and the stored `epochs` to go round; without a store views are seeded by `seed`."""
        self.pictures = Pictures(catalog, size=size, num_classes=store.spec.num_classes if store else None)
        self.order, self.rank, self.spec, self.seed = order, rank, spec, seed
        self.store, self.epochs, self.digest = store, epochs, digest

    def __getitem__(self, index: int) -> Batch:
        step, part = divmod(index, self.order.accumulate)
        epoch, rows = self.order.batch(step, part=part, rank=self.rank)
        kept = None
        if self.store is not None:
            epoch = self.epochs[epoch % len(self.epochs)]
            stored = self.store.read(epoch=epoch, rows=rows)
            seeds = stored.seeds
            tensors = (stored.indices, stored.logprobs, stored.tail)
            kept = Kept(*(torch.from_numpy(np.ascontiguousarray(values)) for values in tensors))
        else:
            seeds = view_seeds(rows, base=self.seed, epoch=epoch, num_samples=len(self.pictures.catalog))
        fields = self.pictures(
            rows,
            lambda position, source: draw(self.spec, int(seeds[position]), source),
            num_digests=len(rows) if self.digest else 0,
        )
        if kept is not None:
            fields["weights_b"] *= (kept.logprobs_bk[:, 0] > float("-inf")).float()
        return Batch(epoch=epoch, seeds_b=torch.from_numpy(seeds.view(np.int64)), kept=kept, **fields)


@dataclass(frozen=True, slots=True)
class BlockPart:
    """Consecutive rows of one block of one stored epoch: an index of `BlockBatches`."""

    epoch: int
    block: int
    begin: int
    end: int
    last: bool
    """Whether the block ends here."""


class BlockBatches(Dataset[Batch]):
    """The teacher's batches: every view of a block in the order of its rows."""

    def __init__(
        self, catalog: Catalog, *, spec: ViewSpec, size: int, seed: int, rows_per_block: int, proof_rows: int,
        digest: bool = False,
    ) -> None:  # fmt: skip
        self.pictures = Pictures(catalog, size=size)
        self.spec, self.seed = spec, seed
        self.rows_per_block, self.proof_rows, self.digest = rows_per_block, proof_rows, digest

    def __getitem__(self, part: BlockPart) -> Batch:
        rows = np.arange(part.begin, part.end)
        num_samples = len(self.pictures.catalog)
        seeds = view_seeds(rows, base=self.seed, epoch=part.epoch, num_samples=num_samples)
        proved = part.block * self.rows_per_block + self.proof_rows - part.begin
        fields = self.pictures(
            rows,
            lambda position, source: draw(self.spec, int(seeds[position]), source),
            num_digests=len(rows) if self.digest else max(0, min(len(rows), proved)),
        )
        return Batch(epoch=part.epoch, seeds_b=torch.from_numpy(seeds.view(np.int64)), **fields)


class EvalBatches(Dataset[Batch]):
    """Evaluation views of all rows; an index is a range of rows."""

    def __init__(self, catalog: Catalog, *, spec: EvalSpec, size: int) -> None:
        self.pictures = Pictures(catalog, size=size)
        self.spec = spec

    def __getitem__(self, rows: range) -> Batch:
        fields = self.pictures(np.arange(rows.start, rows.stop), lambda _, source: eval_view(self.spec, source))
        return Batch(epoch=0, **fields)


def load(
    dataset: Dataset[Batch], indices: Iterable[Any], *, workers: int, prefetch: int = 2, pin: bool = False
) -> Iterator[Batch]:
    """The batches of a dataset at the given indices, in their order, made by `workers` processes.

    An error that a user can mend arrives as it was raised in the worker, without the loader's wrapping.

    **Arguments:** `prefetch`: batches each worker is ahead; `pin`: into page-locked memory.
    """
    loader = DataLoader(
        _Guarded(dataset),
        batch_size=None,
        sampler=_Indices(indices),
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        pin_memory=pin,
    )
    for item in loader:
        if isinstance(item, Exception):
            raise item
        yield item


class _Guarded(Dataset[Any]):
    def __init__(self, dataset: Dataset[Batch]) -> None:
        self.dataset = dataset

    def __getitem__(self, index: Any) -> Batch | Exception:
        try:
            return self.dataset[index]
        except (DistillError, logitstore.StoreError) as error:
            return error


class _Indices(torch.utils.data.Sampler[Any]):
    def __init__(self, indices: Iterable[Any]) -> None:
        self.indices = indices

    def __iter__(self) -> Iterator[Any]:
        return iter(self.indices)
