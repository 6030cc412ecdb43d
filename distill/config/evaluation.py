"""What `distill.evaluate` can be told."""

from __future__ import annotations

from dataclasses import dataclass, field

from distill.config.checks import at_least, choice, given
from distill.config.compute import ComputeConfig
from distill.config.data import DataConfig
from distill.config.models import TeacherConfig
from distill.config.training import RunConfig
from distill.errors import UsageError


@dataclass(kw_only=True)
class EvalChangeConfig:
    """null: as the run evaluated itself, or as the teacher is meant to be."""

    batch_size: int | None = None
    crop: float | None = None
    interpolation: str | None = None
    full: bool | None = None
    image_size: int | None = None
    """Side of the pictures in pixels. A TinyViT keeps its windows; its maps are padded to whole ones."""
    classes: str = "same"
    """`same`: the data has the model's classes; `wordnet`: they are matched by their WordNet ids."""
    real_labels: str | None = None
    """File of ReaL labels, or `shipped`: timm's copy; null: none."""
    bins: int = 15
    """Of the calibration error."""
    throughput: int = 0
    """Time the bare model on so many batches of random pictures; 0: do not."""

    def __post_init__(self) -> None:
        choice("eval.classes", self.classes, ("same", "wordnet"))
        at_least(1, eval__batch_size=self.batch_size, eval__image_size=self.image_size, eval__bins=self.bins)
        at_least(0, eval__throughput=self.throughput)


@dataclass(kw_only=True)
class EvaluateConfig:
    data: DataConfig = field(default_factory=DataConfig)
    run: RunConfig = field(default_factory=RunConfig)
    """`run.dir`: the run whose student is evaluated."""
    teacher: TeacherConfig | None = None
    """A teacher to be evaluated instead."""
    against: TeacherConfig | None = None
    """A teacher whose answers to the same images are compared with the model's."""
    eval: EvalChangeConfig = field(default_factory=EvalChangeConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    json: str | None = None
    """Write the scores to this file."""
    table: bool = False
    """Print parameters and multiply-accumulates beside the published ones, and evaluate nothing."""

    def __post_init__(self) -> None:
        if self.table:
            return
        given("data.val_path", self.data.val_path, "the folder of a data set, packed or with a sub-folder a class")
        if (self.run.dir is None) == (self.teacher is None):
            raise UsageError("name what is to be evaluated: either run.dir=FOLDER or teacher=CHOICE")
