"""Batches of pictures: what the loader's workers do.

    row -> bytes from its shard -> view drawn from its seed -> uint8 picture    (+ what the store knows of the view)

Three datasets, one for each use: `TrainBatches` (student), `BlockBatches` (teacher) and `EvalBatches`. An index
stands for a whole batch, so torch's DataLoader (see `loader`) only moves finished batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

import logitstore
from distill.data.catalog import Catalog
from distill.data.image_folder import Images
from distill.data.images import Pictures
from distill.data.order import Order, Rows
from distill.data.pairs import pairs_of
from distill.data.seeds import view_seeds
from distill.targets.sparse import SparseTargets
from distill.views import EvalSpec, ViewSpec, eval_view


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Pictures of b views and what is known about them."""

    epochs_b: Tensor
    """(b,) int64."""
    rows_b: Tensor
    """(b,) int64."""
    pixels_bhwc: Tensor
    """(b, size, size, 3) uint8 RGB; grey where a picture could not be read."""
    labels_b: Tensor
    """(b,) int64, -1 unknown."""
    weights_b: Tensor
    """(b,) float32: 0 for a view to leave out (its picture, or that of its partner in a mix, could not be read, now or
    by the teacher), else 1."""
    partner_labels_b: Tensor | None = None
    """(b,) int64, where views are mixed: the label of what is mixed into each."""
    mix_weights_b: Tensor | None = None
    """(b,) float32, where views are mixed: what each picture keeps of its own, the weight of its own label."""
    seeds_b: Tensor | None = None
    """(b,) int64 holding the bits of the uint64 view seeds."""
    kept: SparseTargets | None = None
    digests: tuple[int, ...] = ()
    """Digests of the first pictures' pixels, as many as were asked for."""
    damage: tuple[tuple[int, int, str], ...] = ()
    """Epoch, row and message of each picture that could not be read."""
    warnings: tuple[str, ...] = ()
    """What a person should be told once."""

    def __len__(self) -> int:
        return len(self.rows_b)

    @property
    def main_labels_b(self) -> Tensor:
        """(b,) int64: the label of the larger part of each picture; its own where both are a half."""
        if self.mix_weights_b is None or self.partner_labels_b is None:
            return self.labels_b
        return torch.where(self.mix_weights_b >= 0.5, self.labels_b, self.partner_labels_b)

    def pin_memory(self) -> Batch:
        names = ("pixels_bhwc", "labels_b", "weights_b", "partner_labels_b", "shares_b")
        pinned = {name: tensor.pin_memory() for name in names if (tensor := getattr(self, name)) is not None}
        return replace(self, **pinned, kept=self.kept.pin_memory() if self.kept else None)


class TrainBatches(Dataset[Batch]):
    """The student's batches; index i is micro-batch i % accumulate of optimiser step i // accumulate."""

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
        prove: Callable[[Rows, Rows], str | None] | None = None,
    ) -> None:
        """**Arguments:** `store` and the stored `epochs` to go round; without a store views are seeded by `seed`.
        `prove(epochs, rows)` sees every batch's coordinates before they are rendered; what it says is passed on."""
        self.pictures = Pictures(catalog, size=size, num_classes=store.spec.num_classes if store else None)
        self.order, self.rank, self.spec, self.seed = order, rank, spec, seed
        self.store, self.epochs, self.digest, self.prove = store, epochs, digest, prove
        self.remote = catalog.remote is not None
        self.pairs = pairs_of(spec, num_rows=len(catalog), seeds_of=self._seeds)
        self._window = (-1, -1)

    def __getitem__(self, index: int) -> Batch:
        step, micro_batch = divmod(index, self.order.accumulate)
        self._fetch_ahead(step)
        epochs, rows = self.order.batch(step, micro_batch=micro_batch, rank=self.rank)
        if self.epochs:
            epochs = np.array(self.epochs)[epochs % len(self.epochs)]
        if self.pairs is not None:  # One epoch, whose groups lie in the order of their pairs.
            rows = self.pairs.rows_at(int(epochs[0]), rows)
        warning = self.prove(epochs, rows) if self.prove else None
        seeds, kept = self._stored(epochs, rows)
        known = dict(zip(zip(epochs.tolist(), rows.tolist(), strict=True), seeds.tolist(), strict=True))
        fields = self.pictures.augmented(
            epochs, rows, spec=self.spec, pairs=self.pairs,
            # Partners are among the rows: pairs are dealt together.
            seeds_of=lambda epoch, those: np.array([known[epoch, row] for row in those.tolist()], np.uint64),
            num_digests=len(rows) if self.digest else 0,
        )  # fmt: skip
        if kept is not None:
            fields["weights_b"] *= (kept.logprobs_bk[:, 0] > float("-inf")).float()
        return Batch(seeds_b=_bits(seeds), kept=kept, warnings=(warning,) if warning else (), **fields)

    def _fetch_ahead(self, step: int) -> None:
        """When a window of the order begins, asks for its shards and those of the window after it."""
        if self.remote and (window := self.order.window_of(step)) != self._window:
            self._window = window
            for number in (window[1], window[1] + 1):
                self.pictures.fetch_ahead(self.order.window_rows(window[0], number))

    def _seeds(self, epoch: int, rows: Rows) -> np.ndarray:
        if self.store is not None:
            return self.store.read(epoch=epoch, rows=rows).seeds
        return view_seeds(rows, base=self.seed, epoch=epoch, num_samples=len(self.pictures.catalog))

    def _stored(self, epochs: Rows, rows: Rows) -> tuple[np.ndarray, SparseTargets | None]:
        """Seeds, and what the store keeps of each view."""
        seeds = np.empty(len(rows), np.uint64)
        parts: list[tuple[np.ndarray, logitstore.Rows]] = []
        for epoch in np.unique(epochs).tolist():
            at = np.flatnonzero(epochs == epoch)
            if self.store is None:
                seeds[at] = self._seeds(epoch, rows[at])
            else:
                stored = self.store.read(epoch=epoch, rows=rows[at])
                seeds[at] = stored.seeds
                parts.append((at, stored))
        if not parts:
            return seeds, None
        back = np.argsort(np.concatenate([at for at, _ in parts]))

        def gathered(name: str) -> Tensor:
            return torch.from_numpy(np.concatenate([getattr(stored, name) for _, stored in parts])[back])

        return seeds, SparseTargets(gathered("indices"), gathered("logprobs"), gathered("tail"))


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
    """The teacher's batches: every view of a block in the order of its rows; a batch for each of a part's epochs, all
    from one decoding of its pictures."""

    def __init__(
        self, catalog: Catalog, *, spec: ViewSpec, size: int, seed: int, rows_per_block: int, proof_rows: int,
        digest: bool = False,
    ) -> None:  # fmt: skip
        self.pictures = Pictures(catalog, size=size)
        self.spec, self.seed = spec, seed
        self.rows_per_block, self.proof_rows, self.digest = rows_per_block, proof_rows, digest
        self.pairs = pairs_of(spec, num_rows=len(catalog), seeds_of=self._seeds)

    def __getitem__(self, part: BlockSlice) -> list[Batch]:
        rows = np.arange(part.begin, part.end)
        self.pictures.fetch_after(part.end)
        epochs = np.repeat(np.array(part.epochs), len(rows))
        proved = part.block * self.rows_per_block + self.proof_rows - part.begin
        num_digests = len(rows) if self.digest else max(0, min(len(rows), proved))
        every = np.tile(rows, len(part.epochs))
        fields = self.pictures.augmented(
            epochs, every, spec=self.spec, seeds_of=self._seeds, pairs=self.pairs,
            num_digests=len(every) if num_digests else 0,
        )  # fmt: skip
        return [self._of_epoch(fields, epoch, n, rows, num_digests) for n, epoch in enumerate(part.epochs)]

    def _of_epoch(self, fields: dict[str, Any], epoch: int, n: int, rows: Rows, num_digests: int) -> Batch:
        """The batch of the n-th epoch of a part."""
        here = slice(n * len(rows), (n + 1) * len(rows))
        tensors: dict[str, Any] = {name: value[here] for name, value in fields.items() if isinstance(value, Tensor)}
        return Batch(
            seeds_b=_bits(self._seeds(epoch, rows)),
            digests=fields["digests"][here][:num_digests],
            damage=tuple(entry for entry in fields["damage"] if entry[0] == epoch),
            **tensors,
        )

    def _seeds(self, epoch: int, rows: Rows) -> np.ndarray:
        return view_seeds(rows, base=self.seed, epoch=epoch, num_samples=len(self.pictures.catalog))


class EvalBatches(Dataset[Batch]):
    """Evaluation views of all rows; an index is a range of rows."""

    def __init__(self, catalog: Images, *, spec: EvalSpec, size: int) -> None:
        self.pictures = Pictures(catalog, size=size)
        self.spec = spec

    def __getitem__(self, rows: range) -> Batch:
        self.pictures.fetch_after(rows.stop)
        fields = self.pictures.plain(np.arange(rows.start, rows.stop), lambda source: eval_view(self.spec, source))
        return Batch(**fields)


def _bits(seeds: np.ndarray) -> Tensor:
    """uint64 seeds as the int64 of the same bits: torch's unsigned types lack most operations."""
    return torch.from_numpy(seeds.view(np.int64))
