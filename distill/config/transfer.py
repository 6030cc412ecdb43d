"""Settings of `distill.transfer`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from distill.config.checks import at_least, choice, given
from distill.config.compute import ComputeConfig
from distill.config.data import DataConfig
from distill.config.models import TeacherConfig
from distill.config.parts import REMOTE, part
from distill.config.training import RunConfig
from distill.errors import UsageError

METHODS = ("knn", "linear", "few_shot", "finetune")


@dataclass(kw_only=True)
class FeaturesConfig:
    """How features are computed; null: the evaluation settings of the run, or those of the teacher."""

    cache: str | None = None
    """Folder where features are cached; null: `features` in `out`."""
    batch_size: int = 128
    """Images per batch of each process."""
    image_size: int | None = None
    """Side of the images in pixels."""
    crop: float | None = None
    """Side of the centre crop as a fraction of the image's shorter side."""
    interpolation: str | None = None
    """Interpolation of the resize: `bicubic` or `bilinear`."""
    full: bool | None = None
    """Resize the whole image instead of cropping."""

    def __post_init__(self) -> None:
        at_least(1, features__batch_size=self.batch_size, features__image_size=self.image_size)


@dataclass(kw_only=True)
class KnnConfig:
    """k-nearest-neighbour classification of the features."""

    neighbours: list[int] = field(default_factory=lambda: [10, 20])
    """Numbers of neighbours; each gives a score of its own."""
    temperature: float = 0.07
    """A neighbour's vote weighs exp(cosine / temperature)."""

    def __post_init__(self) -> None:
        if not self.neighbours:
            raise UsageError("knn.neighbours=[]: give at least one number")
        at_least(1, knn__neighbours=min(self.neighbours))
        at_least(1e-6, knn__temperature=self.temperature)


@dataclass(kw_only=True)
class LinearConfig:
    """Linear probe: logistic regression on the features."""

    penalties: list[float] = field(default_factory=lambda: [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    """Factors of half the squared weights, added to the mean cross entropy; the best on held-out rows is taken."""
    held_out: float = 0.1
    """Fraction of the training rows that chooses the penalty."""
    max_iterations: int = 500
    """Of L-BFGS, per penalty."""
    seed: int = 0
    """Of the choice of held-out rows."""

    def __post_init__(self) -> None:
        if not self.penalties or not min(self.penalties) > 0:
            raise UsageError(f"linear.penalties={self.penalties}: give positive numbers")
        if not 0 < self.held_out < 1:
            raise UsageError(f"linear.held_out={self.held_out}: must be between 0 and 1")
        at_least(1, linear__max_iterations=self.max_iterations)
        at_least(0, linear__seed=self.seed)


@dataclass(kw_only=True)
class FewShotConfig:
    """Few-shot classification: episodes of a few classes with a few labelled rows each."""

    ways: int = 5
    """Classes per episode."""
    shots: list[int] = field(default_factory=lambda: [1, 5])
    """Labelled rows per class; each number gives a score of its own."""
    queries: int = 15
    """Rows per class to be classified."""
    episodes: int = 600
    """Episodes over which the accuracy is averaged."""
    seed: int = 0
    """Seed of the episodes."""

    def __post_init__(self) -> None:
        at_least(2, few_shot__ways=self.ways, few_shot__episodes=self.episodes)
        if not self.shots:
            raise UsageError("few_shot.shots=[]: give at least one number")
        at_least(1, few_shot__shots=min(self.shots), few_shot__queries=self.queries)
        at_least(0, few_shot__seed=self.seed)


@dataclass(kw_only=True)
class FinetuneConfig:
    """Full fine-tuning of a TinyViT by `distill.train_student`."""

    settings: dict[str, Any] | None = None
    """For `distill.train_student`, by dotted name; over `recipe`."""
    recipe: dict[str, Any] = field(
        default_factory=lambda: {
            "view": "crop_flip", "train.epochs": 20, "train.batch_size": 64, "train.label_smoothing": 0.1,
            "optim.lr": 5e-4, "optim.layer_decay": 0.8, "optim.weight_decay": 1e-8,
        }
    )  # fmt: skip
    """Settings of `distill.train_student`, by dotted name; `settings` go over them."""

    def all(self) -> dict[str, Any]:
        """What is set, by dotted name."""
        return self.recipe | (self.settings or {})


@dataclass(kw_only=True)
class TransferConfig:
    data: DataConfig = part(DataConfig, f"path val_path rows workers damaged {REMOTE}")
    run: RunConfig = part(RunConfig, "dir")
    """`run.dir`: the run whose student is probed."""
    teacher: TeacherConfig | None = None
    """A teacher to be probed instead."""
    out: str | None = None
    """Folder of the results, of this model and of others."""
    name: str | None = None
    """Of the model in the table; null: the run's folder, or the teacher's name."""
    methods: list[str] = field(default_factory=lambda: ["knn", "linear", "few_shot"])
    """Any of knn, linear, few_shot and finetune."""
    save: str | None = None
    """File for the model with the linear probe's classifier: a teacher of these classes, `teacher=saved`."""
    features: FeaturesConfig = part(FeaturesConfig)
    knn: KnnConfig = part(KnnConfig)
    linear: LinearConfig = part(LinearConfig)
    few_shot: FewShotConfig = part(FewShotConfig)
    finetune: FinetuneConfig = part(FinetuneConfig)
    compute: ComputeConfig = part(ComputeConfig)

    def __post_init__(self) -> None:
        given("data.path", self.data.path, "the folder of a packed data set to learn from")
        given("data.val_path", self.data.val_path, "the folder of a packed data set to be scored on")
        given("out", self.out, "a folder for the results")
        if (self.run.dir is None) == (self.teacher is None):
            raise UsageError("name the model to probe: either run.dir=FOLDER or teacher=CHOICE")
        if not self.methods:
            raise UsageError(f"methods=[]: give at least one of {', '.join(METHODS)}")
        for method in self.methods:
            choice("methods", method, METHODS)
        if self.save is not None and "linear" not in self.methods:
            raise UsageError(f"save={self.save}: the linear probe is what is saved, and methods= leaves it out")
        if self.save is not None and not self.save.endswith(".safetensors"):
            raise UsageError(f"save={self.save}: the file's name must end in .safetensors")
        if self.name is not None and (not self.name or "/" in self.name or self.name.startswith(".")):
            raise UsageError(f"name={self.name}: must be the name of a file, without a slash or a dot before it")
