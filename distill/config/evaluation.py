"""Settings of `distill.evaluate`."""

from __future__ import annotations

from dataclasses import dataclass

from distill.config.checks import at_least, choice, given
from distill.config.compute import ComputeConfig
from distill.config.data import DataConfig
from distill.config.models import TeacherConfig
from distill.config.parts import REMOTE, part
from distill.config.training import RunConfig
from distill.errors import UsageError


@dataclass(kw_only=True)
class EvalChangeConfig:
    """How images are evaluated; null: as the run evaluated itself, or as the teacher's own definition says."""

    batch_size: int | None = None
    """Images per batch of each process."""
    crop: float | None = None
    """Side of the centre crop as a fraction of the image's shorter side."""
    interpolation: str | None = None
    """Interpolation of the resize: `bicubic` or `bilinear`."""
    full: bool | None = None
    """Resize the whole image instead of cropping, as published for 384 and 512 px."""
    image_size: int | None = None
    """Side of the images in pixels. A TinyViT keeps its windows; its feature maps are padded to whole windows."""
    classes: str = "same"
    """`same`: the data has the model's classes; `wordnet`: both are matched by their WordNet ids."""
    real_labels: str | None = None
    """File of ReaL labels, or `shipped`: timm's copy; null: none."""
    bins: int = 15
    """Bins of the expected calibration error."""
    throughput: int = 0
    """Time the model alone on so many batches of random images; 0: do not."""

    def __post_init__(self) -> None:
        choice("eval.classes", self.classes, ("same", "wordnet"))
        at_least(1, eval__batch_size=self.batch_size, eval__image_size=self.image_size, eval__bins=self.bins)
        at_least(0, eval__throughput=self.throughput)


@dataclass(kw_only=True)
class EvaluateConfig:
    data: DataConfig = part(DataConfig, f"val_path workers damaged {REMOTE}")
    """The data set to evaluate on: `data.val_path` is packed, or an image folder with one sub-folder per class."""
    run: RunConfig = part(RunConfig, "dir")
    """`run.dir`: the run whose student is evaluated."""
    teacher: TeacherConfig | None = None
    """A teacher to evaluate instead of a run."""
    against: TeacherConfig | None = None
    """A teacher whose predictions on the same images are compared with the model's."""
    eval: EvalChangeConfig = part(EvalChangeConfig)
    compute: ComputeConfig = part(ComputeConfig)
    json: str | None = None
    """Write the scores to this file."""
    table: bool = False
    """Only print parameters and multiply-accumulates beside the published ones."""

    def __post_init__(self) -> None:
        if self.table:
            return
        given("data.val_path", self.data.val_path, "the folder of a data set, packed or with one sub-folder per class")
        if (self.run.dir is None) == (self.teacher is None):
            raise UsageError("name what is to be evaluated: either run.dir=FOLDER or teacher=CHOICE")
