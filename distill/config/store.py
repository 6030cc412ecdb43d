"""The store: the one to be made, and the one to train from."""

from __future__ import annotations

from dataclasses import dataclass

from distill.config.checks import at_least, choice
from distill.errors import UsageError


@dataclass(kw_only=True)
class NewStoreConfig:
    path: str | None = None
    selection: str = "topk"
    """Which classes of a view are kept: `topk`, the most probable; `hybrid`, the most probable exactly and draws from
    the rest that stand for it; `sample`, those that `draws` draws meet."""
    topk: int = 10
    """Classes kept of each view; under `sample` it follows from `draws`."""
    max_mass: float = 1.0
    """topk: of a view no classes are kept after those that reach this mass together."""
    draws: int | None = None
    """sample: draws from each view's distribution, at most 255."""
    tail: str = "uniform"
    """topk: what is assumed of the classes that are not kept: `uniform`, or `learned` from `tail_views` views."""
    tail_views: int = 16_384
    """Views that the teacher sees beforehand to learn that; all of epoch 0 if there are fewer."""
    epochs: int = 1
    """Stored epochs: views of each sample."""
    encoding: str = "log8"
    """`log8`: a byte a class; `float16`: two."""
    rows_per_block: int = 4096
    """Unit of work, of writing and of loss."""
    proof_rows: int = 2
    """Rows of each block whose pixels are digested into the block's proof."""
    epochs_per_read: int = 1
    """Stored epochs whose views of a block are made from one decoding of its pictures; changes no value."""
    seed: int = 0
    """Decides every view's seed."""

    def __post_init__(self) -> None:
        choice("store.encoding", self.encoding, ("log8", "float16"))
        choice("store.selection", self.selection, ("topk", "sample", "hybrid"))
        choice("store.tail", self.tail, ("uniform", "learned"))
        if not 0 < self.max_mass <= 1:
            raise UsageError(f"store.max_mass={self.max_mass}: must be above 0 and at most 1")
        if self.selection != "topk" and (self.max_mass < 1 or self.tail == "learned"):
            raise UsageError(f"store.selection={self.selection}: max_mass and tail=learned go with topk alone")
        if (self.selection == "sample") != (self.draws is not None):
            raise UsageError("store.draws=NUMBER goes with store.selection=sample, and with it alone")
        at_least(1, store__draws=self.draws, store__tail_views=self.tail_views)
        at_least(1, store__topk=self.topk, store__epochs=self.epochs, store__rows_per_block=self.rows_per_block)
        at_least(1, store__proof_rows=self.proof_rows, store__epochs_per_read=self.epochs_per_read)
        at_least(0, store__seed=self.seed)


@dataclass(kw_only=True)
class StoreConfig:
    path: str | None = None
    """Store of teacher logits; null: train on labels."""
    epochs: str = "all"
    """`all`: every stored epoch must be complete; `complete`: use those that are."""
    check: str = "strict"
    """Prove that views replay identically, before training and whenever a block is first read: `strict` stops at a
    difference, `warn` says so once and goes on, `off` skips the test."""

    def __post_init__(self) -> None:
        choice("store.epochs", self.epochs, ("all", "complete"))
        choice("store.check", self.check, ("strict", "warn", "off"))
