"""Settings of `distill.export`."""

from __future__ import annotations

from dataclasses import dataclass

from distill.config.checks import at_least, choice
from distill.config.parts import part
from distill.config.training import RunConfig
from distill.errors import UsageError

FORMATS = ("onnx", "timm", "safetensors")
DTYPES = ("float32", "float16", "bfloat16")


@dataclass(kw_only=True)
class WeightsConfig:
    """The network of published weights, which do not name it; files written here do. null: read from the file."""

    name: str | None = None
    """`tiny_vit_5m`, `tiny_vit_11m` or `tiny_vit_21m`."""
    num_classes: int | None = None
    """Classes of the head; null: 1,000 for published weights."""
    image_size: int | None = None
    """Side of the images in pixels; null: 224 for published weights."""


@dataclass(kw_only=True)
class ExportConfig:
    run: RunConfig = part(RunConfig, "dir")
    """`run.dir`: the run whose student is exported."""
    weights: str | None = None
    """A file of TinyViT weights to export instead of a run's."""
    model: WeightsConfig = part(WeightsConfig)
    format: str = "onnx"
    """`onnx`, `timm` (for timm.create_model), or `safetensors` (this project's own, which describes itself)."""
    out: str | None = None
    """File to write; null: beside the weights. Its model card has the same name with `.md` added."""
    overwrite: bool = False
    """Overwrite an existing file and its card."""
    dtype: str = "float32"
    """Data type of the tensors in `timm` and `safetensors` files: `float32`, `float16` or `bfloat16`."""
    opset: int = 18
    """Version of the ONNX operators."""
    classes: str | None = None
    """`imagenet_1k`: re-map a head of ImageNet's 21,841 classes to its 1,000; null: keep the head."""
    image_size: int | None = None
    """224, 384 or 512: resize the attention-bias tables to the windows published for it; null: keep them."""

    def __post_init__(self) -> None:
        choice("format", self.format, FORMATS)
        choice("dtype", self.dtype, DTYPES)
        at_least(18, opset=self.opset)
        if self.classes is not None:
            choice("classes", self.classes, ("imagenet_1k",))
        if (self.run.dir is None) == (self.weights is None):
            raise UsageError("name what is to be exported: either run.dir=FOLDER or weights=FILE")
        if self.format == "onnx" and self.dtype != "float32":
            raise UsageError(f"dtype={self.dtype}: ONNX files are written in float32")
