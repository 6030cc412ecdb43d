"""A student's training: its length, its evaluation and its folder."""

from __future__ import annotations

from dataclasses import dataclass, field

from distill.config import former
from distill.config.checks import at_least, choice
from distill.config.durations import time_limit_seconds
from distill.errors import UsageError


@dataclass(kw_only=True)
class TrainConfig:
    """Length, batches and options of the training."""

    epochs: float = 90
    """Passes over the rows; with a store of fewer epochs its views are used again, from the first."""
    steps: int | None = None
    """Optimiser steps, instead of `epochs`."""
    batch_size: int = 128
    """Rows per micro-batch of each process."""
    accumulate: int = 1
    """Micro-batches per optimiser step."""
    global_batch: int | None = None
    """Rows per optimiser step over all processes; `accumulate` then follows from it. null: `accumulate` is given."""
    partial_step: bool = False
    """Use the rows that do not fill an epoch's last step as a smaller step, instead of leaving them out."""
    repeats: int = 1
    """Views of a row in one batch, each of another epoch, from one decoding (repeated augmentation)."""
    label_smoothing: float = 0.0
    """Label smoothing, for training on labels."""
    batchnorm: str = "local"
    """Statistics of BatchNorm in training. `local`: of each process's batch; `sync`: of the batches of all processes;
    `frozen`: the loaded ones, while scale and shift are trained."""
    grad_checkpoint: bool = False
    """Gradient checkpointing of the student's blocks: less memory, about a third more arithmetic, the same numbers."""
    ema_decay: float | None = None
    """Decay per step of an exponential moving average (EMA) of the weights; null: no EMA."""
    seed: int = 0
    """Seed of initial weights, order and drop path, and of the views where there is no store."""

    def __post_init__(self) -> None:
        self.batchnorm = former.renamed("train.batchnorm", self.batchnorm)
        at_least(1, train__steps=self.steps, train__batch_size=self.batch_size, train__accumulate=self.accumulate)
        at_least(1, train__repeats=self.repeats)
        at_least(0, train__epochs=self.epochs, train__seed=self.seed)
        at_least(1, train__global_batch=self.global_batch)
        choice("train.batchnorm", self.batchnorm, ("local", "sync", "frozen"))
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise UsageError(f"train.ema_decay={self.ema_decay}: must be at least 0 and less than 1, such as 0.9999")
        if self.global_batch and self.accumulate != 1:
            raise UsageError("train.accumulate follows from train.global_batch: set one of them")

    def accumulation(self, world: int) -> int:
        """Micro-batches that each of `world` processes takes for one optimiser step.

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
    """Evaluation on `data.val_path` during and after the training."""

    every: int = 1
    """Epochs between evaluations; there is one at the end in any case. 0: only that one."""
    batch_size: int = 256
    """Images per batch of each process."""
    crop: float = 0.875
    """Side of the centre crop as a fraction of the image's shorter side."""
    interpolation: str = "bicubic"
    """Interpolation of the resize: `bicubic` or `bilinear`."""
    full: bool = False
    """Resize the whole image instead of cropping, as published for 384 and 512 px."""
    weights: str = "both"
    """What is scored with `train.ema_decay`. `both`: the weights and, beside them, their EMA; `ema`: the EMA alone,
    which is then also what the run leaves; `raw`: the weights alone."""

    def __post_init__(self) -> None:
        at_least(0, eval__every=self.every)
        at_least(1, eval__batch_size=self.batch_size)
        choice("eval.weights", self.weights, ("both", "ema", "raw"))


@dataclass(kw_only=True)
class RunConfig:
    """The run's folder, its checkpoints and its time limit."""

    dir: str | None = None
    """Folder of the run: configuration, metrics, checkpoints, weights."""
    log_every: int = 20
    """Steps between lines of `metrics.jsonl`."""
    save_every: int | None = None
    """Steps between checkpoints; null: one after each epoch."""
    keep: int = 2
    """How many of the newest checkpoints are kept, besides the one with the best top-1."""
    best_weights: bool = False
    """Also write the weights with the best top-1, `best.safetensors`."""
    time_limit: str | None = None
    """Save and stop after so long, with exit code 75: "11:50:00", "1-11:50:00" (with days) or 90m; null: no limit."""
    trackers: list[str] = field(default_factory=list)
    """Trackers that also get the metrics, by accelerate's names for them: tensorboard, wandb, ..."""

    def __post_init__(self) -> None:
        at_least(1, run__log_every=self.log_every, run__save_every=self.save_every, run__keep=self.keep)
        time_limit_seconds(self.time_limit)
