"""Teacher and student."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from distill.config.checks import choice, given


@dataclass(kw_only=True)
class TeacherConfig:
    """The teacher; null: as its own definition or file of weights says."""

    kind: str = "timm"
    """`timm`, `efficientnet_lite0` (or 1, 2), `tiny_vit`, `clip` or `saved`; see `models.build_teacher`."""
    name: str | None = None
    """Name of the network, for kinds that have several, as timm's."""
    weights: str | None = None
    """File of its weights, or `pretrained`: timm downloads its own."""
    num_classes: int | None = None
    """Classes of its head."""
    image_size: int | None = None
    """Side of its input images in pixels."""
    mean: list[float] | None = None
    """Mean of the RGB values in 0..1, for normalisation."""
    std: list[float] | None = None
    """Standard deviation of the RGB values in 0..1, for normalisation."""
    crop: float | None = None
    """Side of the centre crop for evaluation, as a fraction of the image's shorter side."""
    interpolation: str | None = None
    """Interpolation of the resize for evaluation: `bicubic` or `bilinear`."""


@dataclass(kw_only=True)
class StudentConfig:
    """The student, a TinyViT; null: as the named model has it."""

    name: str = "tiny_vit_5m"
    """`tiny_vit_5m`, `tiny_vit_11m`, `tiny_vit_21m`, or `tiny_vit` with all dimensions given."""
    init: str | None = None
    """File of initial weights, in any layout that `models.load_weights` reads; null: random, from `train.seed`."""
    init_classes: str = "same"
    """Head of the initial weights. `same`: it is for the student's classes; `map`: re-map it by WordNet ids; `new`:
    leave it out and initialise the student's at random."""
    init_windows: str = "same"
    """Attention windows of the initial weights. `same`: the student's; `resize`: resize the attention-bias tables."""
    image_size: int = 224
    """Side of the images in pixels."""
    drop_path: float = 0.0
    """Stochastic depth: drop rate of the last block, rising linearly from 0 in the first."""
    dims: list[int] | None = None
    """Channels of the four stages."""
    depths: list[int] | None = None
    """Blocks of the four stages."""
    heads: list[int] | None = None
    """Attention heads of the four stages; the first is not used."""
    windows: list[int] | None = None
    """Sides of the attention windows of the four stages, in positions; the first is not used."""
    mlp_ratio: float | None = None
    """Hidden over input width of the MLPs."""
    expand: float | None = None
    """Hidden over input width of the MBConv blocks."""
    stem_stride: int | None = None
    """Stride of the stem: 4, or 2 for small images."""
    mean: list[float] = field(default_factory=lambda: [0.485, 0.456, 0.406])
    """Mean of the RGB values in 0..1, for normalisation."""
    std: list[float] = field(default_factory=lambda: [0.229, 0.224, 0.225])
    """Standard deviation of the RGB values in 0..1, for normalisation."""

    def __post_init__(self) -> None:
        choice("student.init_classes", self.init_classes, ("same", "map", "new"))
        choice("student.init_windows", self.init_windows, ("same", "resize"))
        if (self.init_classes, self.init_windows) != ("same", "same"):
            given("student.init", self.init, "the file of weights that fine-tuning starts from")

    def dimensions(self) -> dict[str, Any]:
        """The free dimensions that are set."""
        names = ("dims", "depths", "heads", "windows", "mlp_ratio", "expand", "stem_stride")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}
