"""What `distill.export` can be told."""

from __future__ import annotations

from dataclasses import dataclass, field

from distill.config.checks import at_least, choice
from distill.config.training import RunConfig
from distill.errors import UsageError

FORMATS = ("onnx", "timm", "safetensors")
DTYPES = ("float32", "float16", "bfloat16")


@dataclass(kw_only=True)
class WeightsConfig:
    """What a file of published weights does not say of itself; null for a file that was written here."""

    name: str | None = None
    num_classes: int | None = None
    image_size: int | None = None


@dataclass(kw_only=True)
class ExportConfig:
    run: RunConfig = field(default_factory=RunConfig)
    """`run.dir`: the run whose student is exported."""
    weights: str | None = None
    """A file of weights to export instead."""
    model: WeightsConfig = field(default_factory=WeightsConfig)
    format: str = "onnx"
    """`onnx`, `timm` (for timm.create_model), or `safetensors` (our own, which describes itself)."""
    out: str | None = None
    """File to write; null: beside the weights. Its model card has `.md` behind its name."""
    overwrite: bool = False
    """Replace a file of that name."""
    dtype: str = "float32"
    """Of the tensors in `timm` and `safetensors` files."""
    opset: int = 18
    """Version of ONNX's operators."""
    classes: str | None = None
    """`imagenet_1k`: a head of ImageNet's 21,841 classes becomes one of its 1,000; null: as it is."""
    image_size: int | None = None
    """224, 384 or 512: bias tables are resized to the windows published for it; null: as it is."""

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
