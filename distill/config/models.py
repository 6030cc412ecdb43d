"""Teacher and student."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from distill.config.checks import choice, given


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
    init: str | None = None
    """File of initial weights, in any layout that `models.load_weights` reads; null: drawn from `train.seed`."""
    init_classes: str = "same"
    """`same`: the file must be for the student's classes; `map`: its head is re-mapped by WordNet ids; `new`: its head
    is left out, and the student's drawn from `train.seed`."""
    init_windows: str = "same"
    """`same`: the file must be for the student's attention windows; `resize`: its bias tables are resized."""
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

    def __post_init__(self) -> None:
        choice("student.init_classes", self.init_classes, ("same", "map", "new"))
        choice("student.init_windows", self.init_windows, ("same", "resize"))
        if (self.init_classes, self.init_windows) != ("same", "same"):
            given("student.init", self.init, "the file of weights that fine-tuning starts from")

    def dimensions(self) -> dict[str, Any]:
        """The free dimensions that are set."""
        names = ("dims", "depths", "heads", "windows", "mlp_ratio", "expand", "stem_stride")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}
