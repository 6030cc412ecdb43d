"""What the programs can be told: one dataclass a program, made of the parts below.

Values are checked here, before anything is opened; what depends on files is checked where they are read. A field's
meaning stands under it. `conf/*.yaml` holds the values that users start from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from distill.errors import UsageError


def _choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(f"{name}={value}: choose one of {', '.join(choices)}")


def _at_least(least: float, **values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not value >= least:
            raise UsageError(f"{name.replace('__', '.')}={value}: must be at least {least:g}")


def _given(name: str, value: str | None, what: str) -> None:
    if not value:
        raise UsageError(f"{name} is not set: give {what}, for example {name}=PATH")


@dataclass(kw_only=True)
class DataConfig:
    path: str | None = None
    """Folder of the packed data set."""
    val_path: str | None = None
    """Folder of the packed data set to evaluate on; null: none."""
    rows: int | None = None
    """Use the first so many rows only; null: all. Rows were shuffled when they were packed."""
    workers: int = 2
    """Loader processes of each rank; 0: load in the training process."""
    prefetch: int = 4
    """Batches each worker prepares ahead."""
    window_shards: int = 16
    """Rows are shuffled among so many tar shards at a time."""
    damaged: str = "stop"
    """What to do about an image that cannot be read: `stop`, or `skip` it with a record."""
    cache: str | None = None
    """Where shards of a data set on a URL are kept; null: $XDG_CACHE_HOME/distill or ~/.cache/distill."""
    cache_bytes: int = 50_000_000_000
    """Largest size of that; it should hold two windows of shards."""
    retries: int = 5
    """Further tries, after growing pauses, of a remote read that fails or is too slow."""
    timeout: float = 60.0
    """Seconds after which a remote read is too slow."""
    digests: str | None = None
    """Append the digest of every picture the model is given to FILE.rankR (a check of the replay)."""

    def __post_init__(self) -> None:
        _choice("data.damaged", self.damaged, ("stop", "skip"))
        _at_least(0, data__workers=self.workers, data__retries=self.retries)
        _at_least(0.001, data__timeout=self.timeout)
        _at_least(1, data__cache_bytes=self.cache_bytes)
        _at_least(1, data__prefetch=self.prefetch, data__window_shards=self.window_shards, data__rows=self.rows)


@dataclass(kw_only=True)
class TeacherConfig:
    """See `models.build_teacher`; null leaves a value to the teacher's own definition."""

    kind: str = "timm"
    name: str | None = None
    weights: str | None = None
    num_classes: int | None = None
    image_size: int | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    crop: float | None = None
    interpolation: str | None = None


@dataclass(kw_only=True)
class StudentConfig:
    """See `models.build`; null leaves a value to the named model."""

    name: str = "tiny_vit_5m"
    image_size: int = 224
    drop_path: float = 0.0
    dims: list[int] | None = None
    depths: list[int] | None = None
    heads: list[int] | None = None
    windows: list[int] | None = None
    mlp_ratio: float | None = None
    expand: float | None = None
    stem_stride: int | None = None
    mean: list[float] = field(default_factory=lambda: [0.485, 0.456, 0.406])
    """Of the RGB values in 0..1, for normalisation."""
    std: list[float] = field(default_factory=lambda: [0.229, 0.224, 0.225])

    def dimensions(self) -> dict[str, Any]:
        """The free dimensions that are set."""
        names = ("dims", "depths", "heads", "windows", "mlp_ratio", "expand", "stem_stride")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass(kw_only=True)
class ComputeConfig:
    precision: str = "no"
    """Autocast of the forward pass: `no`, `bf16` or `fp16`."""
    channels_last: bool = True
    compile: bool = False
    """torch.compile the model."""
    threads: int | None = None
    """CPU threads of each process; null: torch's choice."""

    def __post_init__(self) -> None:
        _choice("compute.precision", self.precision, ("no", "bf16", "fp16"))
        _at_least(1, compute__threads=self.threads)


@dataclass(kw_only=True)
class NewStoreConfig:
    path: str | None = None
    topk: int = 10
    """Classes kept of each view."""
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
        _choice("store.encoding", self.encoding, ("log8", "float16"))
        _at_least(1, store__topk=self.topk, store__epochs=self.epochs, store__rows_per_block=self.rows_per_block)
        _at_least(1, store__proof_rows=self.proof_rows, store__epochs_per_read=self.epochs_per_read)
        _at_least(0, store__seed=self.seed)


@dataclass(kw_only=True)
class SaveLogitsConfig:
    data: DataConfig = field(default_factory=DataConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    view: dict[str, Any] = field(default_factory=dict)
    """The ViewSpec; see `distill.views.spec`."""
    store: NewStoreConfig = field(default_factory=NewStoreConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    batch_size: int = 64
    """Views the teacher is given at once."""

    def __post_init__(self) -> None:
        _given("data.path", self.data.path, "the folder of a packed data set")
        _given("store.path", self.store.path, "where the store is to be")
        _at_least(1, batch_size=self.batch_size)


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
        _choice("store.epochs", self.epochs, ("all", "complete"))
        _choice("store.check", self.check, ("strict", "warn", "off"))


@dataclass(kw_only=True)
class OptimConfig:
    lr: float = 5e-4
    """Peak learning rate at a global batch of `base_batch`."""
    warmup_lr: float = 5e-7
    """Learning rate of the first step, scaled alike."""
    min_lr: float = 5e-6
    """Learning rate at the end, scaled alike."""
    base_batch: int | None = 512
    """Learning rates are multiplied by global batch / base_batch; null: taken as they are."""
    warmup_epochs: float = 1.0
    weight_decay: float = 0.05
    """Not applied to biases, norms and attention biases."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    eps: float = 1e-8
    clip_grad: float | None = 5.0
    """Largest norm of the gradient; null: not clipped."""

    def __post_init__(self) -> None:
        _at_least(0, optim__lr=self.lr, optim__warmup_lr=self.warmup_lr, optim__min_lr=self.min_lr)
        _at_least(0, optim__warmup_epochs=self.warmup_epochs, optim__weight_decay=self.weight_decay)
        _at_least(1, optim__base_batch=self.base_batch)


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
        _at_least(1, train__steps=self.steps, train__batch_size=self.batch_size, train__accumulate=self.accumulate)
        _at_least(1, train__repeats=self.repeats)
        _at_least(0, train__epochs=self.epochs, train__seed=self.seed)


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
        _at_least(0, eval__every=self.every)
        _at_least(1, eval__batch_size=self.batch_size)


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
        _at_least(1, run__log_every=self.log_every, run__save_every=self.save_every, run__keep=self.keep)


@dataclass(kw_only=True)
class TrainStudentConfig:
    data: DataConfig = field(default_factory=DataConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    view: dict[str, Any] = field(default_factory=dict)
    """The ViewSpec for training on labels; a store brings its own."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        _given("data.path", self.data.path, "the folder of a packed data set")
        _given("run.dir", self.run.dir, "a folder for the run")


@dataclass(kw_only=True)
class EvalChangeConfig:
    """null: as the run evaluated itself, or as the teacher is meant to be."""

    batch_size: int | None = None
    crop: float | None = None
    interpolation: str | None = None
    full: bool | None = None


@dataclass(kw_only=True)
class EvaluateConfig:
    data: DataConfig = field(default_factory=DataConfig)
    run: RunConfig = field(default_factory=RunConfig)
    """`run.dir`: the run whose student is evaluated."""
    teacher: TeacherConfig | None = None
    """A teacher to be evaluated instead."""
    eval: EvalChangeConfig = field(default_factory=EvalChangeConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    json: str | None = None
    """Write the scores to this file."""

    def __post_init__(self) -> None:
        _given("data.val_path", self.data.val_path, "the folder of a packed data set")
        if (self.run.dir is None) == (self.teacher is None):
            raise UsageError("name what is to be evaluated: either run.dir=FOLDER or teacher=CHOICE")


@dataclass(kw_only=True)
class CheckConfig:
    blocks: int | None = None
    """Blocks whose proofs are checked, spread over the store; null: all."""
    rows: int = 256
    """Rows that the teacher is run on again; 0: none."""
    seed: int = 0
    """Picks the rows."""
    tolerance: float = 0.1
    """Largest difference of a kept log-probability, in nats, between store and teacher."""

    def __post_init__(self) -> None:
        _at_least(1, check__blocks=self.blocks)
        _at_least(0, check__rows=self.rows, check__tolerance=self.tolerance)


@dataclass(kw_only=True)
class OneViewConfig:
    epoch: int = 0
    row: int | None = None
    """Explain this row's view instead of checking the store; null: check."""
    png: str = "view.png"
    """Where the rendered view is saved."""
    size: int | None = None
    """Its side in pixels; null: the teacher's input size."""


@dataclass(kw_only=True)
class VerifyLogitsConfig:
    data: DataConfig = field(default_factory=DataConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    check: CheckConfig = field(default_factory=CheckConfig)
    show: OneViewConfig = field(default_factory=OneViewConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    batch_size: int = 64

    def __post_init__(self) -> None:
        _given("data.path", self.data.path, "the folder of a packed data set")
        _given("store.path", self.store.path, "the store to verify")
        _at_least(1, batch_size=self.batch_size)
