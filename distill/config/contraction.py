"""Settings of `distill.contract`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from distill.config.checks import at_least, choice, given
from distill.config.compute import ComputeConfig
from distill.config.data import DataConfig
from distill.config.durations import time_limit_seconds
from distill.config.loss import LossConfig
from distill.config.models import StudentConfig
from distill.config.optim import OptimConfig
from distill.config.parts import REMOTE, part
from distill.config.store import StoreConfig
from distill.config.training import TrainConfig
from distill.errors import UsageError


@dataclass(kw_only=True)
class StepSizeConfig:
    """By how much a factor falls per step of the search; 0: it is not changed."""

    dims: int = 32
    """Channels of a stage."""
    depths: int = 1
    """Blocks of a stage."""
    windows: int = 7
    """Side of a stage's attention windows."""
    expand: float = 1.0
    """Hidden over input width of the MBConv blocks."""
    mlp_ratio: float = 1.0
    """Hidden over input width of the MLPs."""
    head_dim: int = 16
    """Channels per attention head."""

    def __post_init__(self) -> None:
        at_least(0, strides__dims=self.dims, strides__depths=self.depths, strides__windows=self.windows)
        at_least(0, strides__expand=self.expand, strides__mlp_ratio=self.mlp_ratio, strides__head_dim=self.head_dim)


@dataclass(kw_only=True)
class MinimumConfig:
    """Smallest values of the factors. Lists have one value per stage; the first window is not used."""

    dims: list[int] = field(default_factory=lambda: [32, 32, 32, 32])
    """Channels of the stages."""
    depths: list[int] = field(default_factory=lambda: [1, 1, 1, 1])
    """Blocks of the stages."""
    windows: list[int] = field(default_factory=lambda: [7, 7, 7, 7])
    """Sides of the attention windows."""
    expand: float = 1.0
    """Hidden over input width of the MBConv blocks."""
    mlp_ratio: float = 1.0
    """Hidden over input width of the MLPs."""
    head_dim: int = 16
    """Channels of an attention head."""

    def __post_init__(self) -> None:
        for name in ("dims", "depths", "windows"):
            values = getattr(self, name)
            if len(values) != 4 or min(values) < 1:
                raise UsageError(f"least.{name}={values}: give four numbers of at least 1, one per stage")
        at_least(0.1, least__expand=self.expand, least__mlp_ratio=self.mlp_ratio)
        at_least(1, least__head_dim=self.head_dim)


@dataclass(kw_only=True)
class LimitsConfig:
    """Limits of the result; null: no limit."""

    params: float | None = None
    """Largest number of parameters."""
    macs: float | None = None
    """Largest number of multiply-accumulates per image."""
    latency_ms: float | None = None
    """Longest time for one image, measured on this process's device."""
    images_per_s: float | None = None
    """Fewest images per second, measured on this process's device in batches of `search.measure_batch`."""

    def __post_init__(self) -> None:
        at_least(1, limits__params=self.params, limits__macs=self.macs)
        at_least(1e-6, limits__latency_ms=self.latency_ms, limits__images_per_s=self.images_per_s)


@dataclass(kw_only=True)
class SearchConfig:
    """How candidates are chosen, trained and ranked."""

    shrink: float = 0.75
    """Costs fall to this fraction per round, or to their limit."""
    candidates: int = 16
    """Candidates trained per round, over all processes."""
    beam: int = 1
    """Number of best candidates of a round that the next one starts from."""
    factors: int = 3
    """Largest number of factors that a candidate lowers together, besides all widths at once."""
    seed: int = 0
    """Of the choice of candidates. Their training has `train.seed`."""
    inherit: str = "slice"
    """Initial weights of a candidate: sliced from its parent's (`slice`), or drawn from `train.seed` (`fresh`)."""
    channels: str = "importance"
    """Which channels are inherited: those with the largest weights (`importance`), or the `first`."""
    hold_out: float = 0.1
    """Fraction of the rows, the last ones, that no candidate trains on and that rank the candidates."""
    hold_out_views: int = 1
    """Number of stored epochs of the held-out rows that are scored."""
    rank_by: str = "loss"
    """`loss`: cross entropy with the stored distribution; `agreement`: with its most probable class."""
    seed_steps: int | None = None
    """Optimiser steps of the initial architecture, from which weights are inherited; 0: none, as its weights file is
    trained; null: as many as a candidate's."""
    measure_batch: int = 64
    """Images per batch where `limits.images_per_s` is measured."""
    measure_batches: int = 20
    """Batches that are timed for both measured limits; the median counts."""

    def __post_init__(self) -> None:
        if not 0 < self.shrink < 1 or not 0 < self.hold_out < 1:
            raise UsageError(f"search.shrink={self.shrink}, search.hold_out={self.hold_out}: must be between 0 and 1")
        at_least(1, search__candidates=self.candidates, search__beam=self.beam, search__factors=self.factors)
        at_least(1, search__hold_out_views=self.hold_out_views, search__measure_batch=self.measure_batch)
        at_least(1, search__measure_batches=self.measure_batches)
        at_least(0, search__seed_steps=self.seed_steps, search__seed=self.seed)
        choice("search.inherit", self.inherit, ("slice", "fresh"))
        choice("search.channels", self.channels, ("importance", "first"))
        choice("search.rank_by", self.rank_by, ("loss", "agreement"))


@dataclass(kw_only=True)
class ContractRunConfig:
    """Folder and time limit of the search."""

    dir: str | None = None
    """Folder of the search: candidates, report, the resulting student."""
    time_limit: str | None = None
    """Save and stop after so long, with exit code 75: "11:50:00", "1-11:50:00" (with days) or 90m; null: no limit."""

    def __post_init__(self) -> None:
        time_limit_seconds(self.time_limit)


@dataclass(kw_only=True)
class ContractConfig:
    data: DataConfig = part(DataConfig, f"path rows workers prefetch window_shards damaged {REMOTE}")
    store: StoreConfig = part(StoreConfig)
    student: StudentConfig = part(StudentConfig)
    """The architecture that the search starts from; `student.init`: its weights."""
    strides: StepSizeConfig = part(StepSizeConfig)
    least: MinimumConfig = part(MinimumConfig)
    limits: LimitsConfig = part(LimitsConfig)
    search: SearchConfig = part(SearchConfig)
    loss: LossConfig = part(LossConfig)
    optim: OptimConfig = part(OptimConfig, warmup_epochs=0.1)
    train: TrainConfig = part(
        TrainConfig,
        "epochs steps batch_size accumulate global_batch partial_step repeats batchnorm grad_checkpoint seed",
        epochs=1,
    )
    """Of each candidate; `train.batch_size` rows a step, whatever the number of processes."""
    compute: ComputeConfig = part(ComputeConfig)
    run: ContractRunConfig = part(ContractRunConfig)

    def __post_init__(self) -> None:
        given("data.path", self.data.path, "the folder of a packed data set")
        given("store.path", self.store.path, "the store of teacher logits that candidates learn from")
        given("run.dir", self.run.dir, "a folder for the search")
        if all(value is None for value in asdict(self.limits).values()):
            raise UsageError("no limit is set: give limits.params=11e6, limits.macs, limits.latency_ms or more of them")
        if self.train.ema_decay is not None:
            raise UsageError("train.ema_decay: candidates are ranked by their raw weights, without EMA")
        if self.search.seed_steps == 0 and not self.student.init:
            raise UsageError(
                "search.seed_steps=0: the initial architecture then needs trained weights, student.init=FILE"
            )
