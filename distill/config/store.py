"""The store of teacher logits: the one that a teacher pass makes, and the one that a program reads."""

from __future__ import annotations

from dataclasses import dataclass

from distill.config.checks import at_least, choice
from distill.errors import UsageError


@dataclass(kw_only=True)
class NewStoreConfig:
    """The store that the teacher pass makes."""

    path: str | None = None
    """Folder or URL of the store."""
    selection: str = "topk"
    """Which classes of a view are stored: `topk`, the most probable; `hybrid`, the most probable exactly and random
    draws from the rest; `sample`, `draws` random draws, which estimate the whole distribution without bias."""
    topk: int = 10
    """Classes stored of each view; under `sample` it follows from `draws`."""
    draws: int | None = None
    """sample: draws from each view's distribution, at most 255."""
    tail: str = "uniform"
    """topk: how the mass outside the top-k is distributed: `uniform`, or `learned` from `tail_views` views."""
    tail_views: int = 16_384
    """Views of epoch 0 from which the tail is learned; all of them if there are fewer."""
    epochs: int = 1
    """Stored epochs, each with one view of every row."""
    encoding: str = "log8"
    """Of log-probabilities: `log8`, one byte per class, or `float16`, two."""
    rows_per_block: int = 4096
    """Rows of a block, the unit that is written, resumed and lost as a whole."""
    proof_rows: int = 2
    """Rows of each block whose pixels go into the block's proof."""
    epochs_per_read: int = 1
    """Stored epochs whose views are made from one decoding of each image; changes no value."""
    seed: int = 0
    """Seed of the store, from which every view's seed is derived."""

    def __post_init__(self) -> None:
        choice("store.encoding", self.encoding, ("log8", "float16"))
        choice("store.selection", self.selection, ("topk", "sample", "hybrid"))
        choice("store.tail", self.tail, ("uniform", "learned"))
        if self.selection != "topk" and self.tail == "learned":
            raise UsageError(f"store.selection={self.selection}: store.tail=learned is for store.selection=topk alone")
        if (self.selection == "sample") != (self.draws is not None):
            raise UsageError("store.draws=NUMBER goes with store.selection=sample, and with it alone")
        at_least(1, store__draws=self.draws, store__tail_views=self.tail_views)
        at_least(1, store__topk=self.topk, store__epochs=self.epochs, store__rows_per_block=self.rows_per_block)
        at_least(1, store__proof_rows=self.proof_rows, store__epochs_per_read=self.epochs_per_read)
        at_least(0, store__seed=self.seed)


@dataclass(kw_only=True)
class StoreConfig:
    """The store of teacher logits to read."""

    path: str | None = None
    """Folder or URL of the store; null, for a student pass: train on labels."""
    epochs: str = "all"
    """`all`: every stored epoch must be complete; `complete`: use those that are."""
    check: str = "strict"
    """Verify that views replay identically, before training and whenever a block is first read. At a difference
    `strict` stops, `warn` says so once and continues; `off`: no verification."""

    def __post_init__(self) -> None:
        choice("store.epochs", self.epochs, ("all", "complete"))
        choice("store.check", self.check, ("strict", "warn", "off"))
