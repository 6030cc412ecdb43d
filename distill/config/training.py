"""A student's training: its length, its evaluation and its folder."""

from __future__ import annotations

from dataclasses import dataclass

from distill.config.checks import at_least


@dataclass(kw_only=True)
class TrainConfig:
    epochs: float = 90
    """Passes over the rows; with a store of fewer epochs its views come round again."""
    steps: int | None = None
    """Optimiser steps, instead of `epochs`."""
    batch_size: int = 128
    """Rows a process takes at once."""
    accumulate: int = 1
    """Batches a process takes for one optimiser step."""
    repeats: int = 1
    """Views of a row in one batch, each of another epoch, from one decoding (repeated augmentation)."""
    label_smoothing: float = 0.0
    """For training on labels."""
    seed: int = 0
    """Of initialisation, order and drop path; and of the views when there is no store."""

    def __post_init__(self) -> None:
        at_least(1, train__steps=self.steps, train__batch_size=self.batch_size, train__accumulate=self.accumulate)
        at_least(1, train__repeats=self.repeats)
        at_least(0, train__epochs=self.epochs, train__seed=self.seed)


@dataclass(kw_only=True)
class EvalConfig:
    every: int = 1
    """Evaluate after every so many epochs, and at the end; 0: at the end only."""
    batch_size: int = 256
    crop: float = 0.875
    """The centre crop's side as a part of the picture's shorter side."""
    interpolation: str = "bicubic"
    full: bool = False
    """Resize the whole picture instead of cropping."""

    def __post_init__(self) -> None:
        at_least(0, eval__every=self.every)
        at_least(1, eval__batch_size=self.batch_size)


@dataclass(kw_only=True)
class RunConfig:
    dir: str | None = None
    """Folder of the run: configuration, metrics, checkpoints, weights."""
    log_every: int = 20
    """Steps between lines of `metrics.jsonl`."""
    save_every: int | None = None
    """Steps between checkpoints; null: at the end of each epoch."""
    keep: int = 2
    """Checkpoints kept."""

    def __post_init__(self) -> None:
        at_least(1, run__log_every=self.log_every, run__save_every=self.save_every, run__keep=self.keep)
