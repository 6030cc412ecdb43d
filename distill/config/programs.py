"""The settings of the passes over data: teacher pass, verification, student pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from distill.config.block_share import parse_block_share
from distill.config.checks import at_least, given
from distill.config.compute import ComputeConfig
from distill.config.data import DataConfig
from distill.config.durations import time_limit_seconds
from distill.config.loss import LossConfig
from distill.config.models import StudentConfig, TeacherConfig
from distill.config.optim import OptimConfig
from distill.config.parts import REMOTE, part
from distill.config.store import NewStoreConfig, StoreConfig
from distill.config.training import EvalConfig, RunConfig, TrainConfig
from distill.config.verification import CheckConfig, OneViewConfig
from distill.errors import UsageError


@dataclass(kw_only=True)
class TeacherRunConfig:
    """Time limit, and how several runs fill one store."""

    time_limit: str | None = None
    """Stop between two blocks after so long, with exit code 75: "11:50:00", "1-11:50:00" (with days) or 90m; null: no
    limit."""
    share: str | None = None
    """I/N, such as 3/16 (I from 0): write this share of the blocks only, beside runs that write the others; null:
    write all blocks."""
    make_only: bool = False
    """Create the store, or let it grow, and write no block: the step before runs with `run.share`."""

    def __post_init__(self) -> None:
        time_limit_seconds(self.time_limit)
        if parse_block_share(self.share) and self.make_only:
            raise UsageError("run.make_only goes without run.share: the store is made once, before its shares")


@dataclass(kw_only=True)
class SaveLogitsConfig:
    data: DataConfig = part(DataConfig, f"path workers prefetch damaged {REMOTE}")
    teacher: TeacherConfig = part(TeacherConfig)
    view: dict[str, Any] = field(default_factory=dict)
    """The augmentation: a ViewSpec, whose fields `distill/views/spec.py` explains."""
    store: NewStoreConfig = part(NewStoreConfig)
    compute: ComputeConfig = part(ComputeConfig)
    run: TeacherRunConfig = part(TeacherRunConfig)
    batch_size: int = 64
    """Views per teacher forward."""

    def __post_init__(self) -> None:
        given("data.path", self.data.path, "the folder of a packed data set")
        given("store.path", self.store.path, "where the store is to be")
        at_least(1, batch_size=self.batch_size)


@dataclass(kw_only=True)
class TrainStudentConfig:
    data: DataConfig = part(DataConfig)
    store: StoreConfig = part(StoreConfig)
    student: StudentConfig = part(StudentConfig)
    view: dict[str, Any] = field(default_factory=dict)
    """The augmentation for training on labels: a ViewSpec, whose fields `distill/views/spec.py` explains. A store has
    its own."""
    loss: LossConfig = part(LossConfig)
    optim: OptimConfig = part(OptimConfig)
    train: TrainConfig = part(TrainConfig)
    eval: EvalConfig = part(EvalConfig)
    compute: ComputeConfig = part(ComputeConfig)
    run: RunConfig = part(RunConfig)

    def __post_init__(self) -> None:
        given("data.path", self.data.path, "the folder of a packed data set")
        given("run.dir", self.run.dir, "a folder for the run")
        if self.eval.weights == "ema" and self.train.ema_decay is None:
            raise UsageError("eval.weights=ema: there is no EMA without train.ema_decay, such as 0.9999")


@dataclass(kw_only=True)
class VerifyLogitsConfig:
    data: DataConfig = part(DataConfig, f"path workers {REMOTE}")
    teacher: TeacherConfig = part(TeacherConfig)
    store: StoreConfig = part(StoreConfig, "path")
    check: CheckConfig = part(CheckConfig)
    show: OneViewConfig = part(OneViewConfig)
    compute: ComputeConfig = part(ComputeConfig, "precision channels_last threads")
    batch_size: int = 64
    """Views per teacher forward."""

    def __post_init__(self) -> None:
        given("data.path", self.data.path, "the folder of a packed data set")
        given("store.path", self.store.path, "the store to verify")
        at_least(1, batch_size=self.batch_size)
