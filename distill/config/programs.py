"""One dataclass a program, made of the parts in the other rooms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from distill.config.checks import at_least, given
from distill.config.compute import ComputeConfig
from distill.config.data import DataConfig
from distill.config.durations import limit_of
from distill.config.loss import LossConfig
from distill.config.models import StudentConfig, TeacherConfig
from distill.config.optim import OptimConfig
from distill.config.shares import share_of
from distill.config.store import NewStoreConfig, StoreConfig
from distill.config.training import EvalConfig, RunConfig, TrainConfig
from distill.config.verification import CheckConfig, OneViewConfig
from distill.errors import UsageError


@dataclass(kw_only=True)
class TeacherRunConfig:
    time_limit: str | None = None
    """Stop in good order after so long, with exit code 75; as "11:50:00", "1-11:50:00" or 90m; null: no limit."""
    share: str | None = None
    """Do the blocks of share I of N only, as "3/16" (I from 0), beside runs of the other shares; null: all blocks."""
    make_only: bool = False
    """Make the store, or let it grow, and write no block: what comes before runs that share it."""

    def __post_init__(self) -> None:
        limit_of(self.time_limit)
        if share_of(self.share) and self.make_only:
            raise UsageError("run.make_only goes without run.share: the store is made once, before its shares")


@dataclass(kw_only=True)
class SaveLogitsConfig:
    data: DataConfig = field(default_factory=DataConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    view: dict[str, Any] = field(default_factory=dict)
    """The ViewSpec; see `distill.views.spec`."""
    store: NewStoreConfig = field(default_factory=NewStoreConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    run: TeacherRunConfig = field(default_factory=TeacherRunConfig)
    batch_size: int = 64
    """Views the teacher is given at once."""

    def __post_init__(self) -> None:
        given("data.path", self.data.path, "the folder of a packed data set")
        given("store.path", self.store.path, "where the store is to be")
        at_least(1, batch_size=self.batch_size)


@dataclass(kw_only=True)
class TrainStudentConfig:
    data: DataConfig = field(default_factory=DataConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    view: dict[str, Any] = field(default_factory=dict)
    """The ViewSpec for training on labels; a store brings its own."""
    loss: LossConfig = field(default_factory=LossConfig)
    """For training from a store."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        given("data.path", self.data.path, "the folder of a packed data set")
        given("run.dir", self.run.dir, "a folder for the run")
        if self.eval.weights == "ema" and self.train.ema_decay is None:
            raise UsageError("eval.weights=ema: there is no average without train.ema_decay, such as 0.9999")


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
        given("data.path", self.data.path, "the folder of a packed data set")
        given("store.path", self.store.path, "the store to verify")
        at_least(1, batch_size=self.batch_size)
