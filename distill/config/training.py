"""A student's training: its length, its evaluation and its folder."""

from __future__ import annotations

from dataclasses import dataclass, field

from distill.config.checks import at_least, choice
from distill.config.durations import limit_of
from distill.errors import UsageError


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
    global_batch: int | None = None
    """Rows of one optimiser step over all processes, from which `accumulate` then follows; null: it is given."""
    partial_step: bool = False
    """Take the rows that do not fill an epoch's last step as a smaller step, instead of leaving them out of it."""
    repeats: int = 1
    """Views of a row in one batch, each of another epoch, from one decoding (repeated augmentation)."""
    label_smoothing: float = 0.0
    """For training on labels."""
    batchnorm: str = "own"
    """Statistics of BatchNorm in training: `own`, each process's batch; `sync`, the batches of all processes;
    `frozen`, those that were loaded (scale and shift are trained all the same)."""
    grad_checkpoint: bool = False
    """Keep only the input of each of the student's blocks and compute the rest again for the gradients: less memory,
    about a third more arithmetic, the same numbers."""
    ema_decay: float | None = None
    """Decay of the moving average of the weights, by step; null: none is kept."""
    seed: int = 0
    """Of initialisation, order and drop path; and of the views when there is no store."""

    def __post_init__(self) -> None:
        at_least(1, train__steps=self.steps, train__batch_size=self.batch_size, train__accumulate=self.accumulate)
        at_least(1, train__repeats=self.repeats)
        at_least(0, train__epochs=self.epochs, train__seed=self.seed)
        at_least(1, train__global_batch=self.global_batch)
        choice("train.batchnorm", self.batchnorm, ("own", "sync", "frozen"))
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise UsageError(f"train.ema_decay={self.ema_decay}: must be at least 0 and less than 1, such as 0.9999")
        if self.global_batch and self.accumulate != 1:
            raise UsageError("train.accumulate follows from train.global_batch: set one of them")

    def accumulation(self, world: int) -> int:
        """Batches that each of `world` processes takes for one optimiser step.

        **Raises:** `UsageError` if they do not make up the global batch.
        """
        if self.global_batch is None:
            return self.accumulate
        if self.global_batch % (self.batch_size * world):
            raise UsageError(
                f"train.global_batch={self.global_batch} is no multiple of train.batch_size={self.batch_size} x "
                f"{world} processes: take another train.batch_size or number of processes, or train.global_batch=null"
            )
        return self.global_batch // (self.batch_size * world)


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
    weights: str = "both"
    """Of a run with `train.ema_decay`: `both`, scores of the average beside those of the weights; `ema`, the average
    instead, which is then also what the run leaves; `raw`: the average is kept and not scored."""

    def __post_init__(self) -> None:
        at_least(0, eval__every=self.every)
        at_least(1, eval__batch_size=self.batch_size)
        choice("eval.weights", self.weights, ("both", "ema", "raw"))


@dataclass(kw_only=True)
class RunConfig:
    dir: str | None = None
    """Folder of the run: configuration, metrics, checkpoints, weights."""
    log_every: int = 20
    """Steps between lines of `metrics.jsonl`."""
    save_every: int | None = None
    """Steps between checkpoints; null: at the end of each epoch."""
    keep: int = 2
    """Newest checkpoints kept, besides the one with the best top-1."""
    best_weights: bool = False
    """Also write the weights with the best top-1, `best.safetensors`."""
    time_limit: str | None = None
    """Stop in good order after so long, with exit code 75; as "11:50:00", "1-11:50:00" or 90m; null: no limit."""
    trackers: list[str] = field(default_factory=list)
    """Where metrics go besides `metrics.jsonl`: names of accelerate's trackers, as tensorboard or wandb."""

    def __post_init__(self) -> None:
        at_least(1, run__log_every=self.log_every, run__save_every=self.save_every, run__keep=self.keep)
        limit_of(self.time_limit)
