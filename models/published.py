"""The published table, and how each of its models is called here and in timm.

Figures are those of the TinyViT paper (arXiv 2207.10666) and its model zoo. Multiply-accumulates follow the rule in
`models.counting`.
"""

import dataclasses

import torch

from models.config import PUBLISHED, TinyViTConfig, resolve
from models.counting import count_macs, count_params
from models.errors import ModelError
from models.tiny_vit import TinyViT


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One line of the published table, ImageNet-1k, 1,000 classes."""

    name: str
    image_size: int
    pretrain: str
    params_m: str
    """As printed, in millions."""
    macs_g: str
    """As printed, in thousand millions."""
    top1: float
    """Percent."""
    top5: float


TABLE = (
    Row("tiny_vit_5m", 224, "from scratch", "5.39", "1.29", 79.02, 94.74),
    Row("tiny_vit_5m", 224, "IN-21k distill", "5.39", "1.29", 80.71, 95.57),
    Row("tiny_vit_11m", 224, "from scratch", "11.00", "2.05", 81.44, 95.79),
    Row("tiny_vit_11m", 224, "IN-21k distill", "11.00", "2.05", 83.19, 96.53),
    Row("tiny_vit_21m", 224, "from scratch", "21.20", "4.30", 83.08, 96.58),
    Row("tiny_vit_21m", 224, "IN-21k distill", "21.20", "4.30", 84.85, 97.27),
    Row("tiny_vit_21m", 384, "IN-21k distill", "21.23", "13.85", 86.21, 97.77),
    Row("tiny_vit_21m", 512, "IN-21k distill", "21.27", "27.15", 86.44, 97.89),
)

_TIMM_SIZES = {"tiny_vit_5m": (224,), "tiny_vit_11m": (224,), "tiny_vit_21m": (224, 384, 512)}


@dataclasses.dataclass(frozen=True, slots=True)
class Counted:
    """A line of the table beside what its model has here."""

    row: Row
    params: int
    macs: int

    @property
    def params_m(self) -> str:
        return f"{self.params / 1e6:.2f}"

    @property
    def macs_g(self) -> str:
        return f"{self.macs / 1e9:.2f}"

    @property
    def equal(self) -> bool:
        """To the printed digits."""
        return (self.params_m, self.macs_g) == (self.row.params_m, self.row.macs_g)


def count_table() -> tuple[Counted, ...]:
    """Counts parameters and multiply-accumulates of every published model."""
    counts: dict[tuple[str, int], tuple[int, int]] = {}
    for row in TABLE:
        if (row.name, row.image_size) not in counts:
            with torch.device("meta"):
                net = TinyViT(resolve(row.name, dimensions={"num_classes": 1000, "image_size": row.image_size}))
            counts[row.name, row.image_size] = count_params(net), count_macs(net, row.image_size)
    return tuple(Counted(row, *counts[row.name, row.image_size]) for row in TABLE)


def published_name(config: TinyViTConfig) -> str | None:
    """The published model that has these dimensions (windows, classes and picture size may differ), or None."""
    for name, dimensions in PUBLISHED.items():
        same = all(getattr(config, field) == value for field, value in dimensions.items())
        if same and (config.mlp_ratio, config.expand, config.stem_stride) == (4.0, 4.0, 4):
            return name
    return None


def timm_model(config: TinyViTConfig) -> tuple[str, dict[str, object]]:
    """How timm builds the network of a config.

    **Returns** the name and the further arguments of `timm.create_model`.

    **Raises** ModelError for a network that timm's TinyViT cannot be.
    """
    if config.stem_stride != 4:
        raise ModelError(f"timm's TinyViT has a stem of stride 4, this network one of {config.stem_stride}")
    name = published_name(config)
    sizes = [size for size in _TIMM_SIZES.get(name or "", ()) if _windows(name, size)[1:] == config.windows[1:]]
    options: dict[str, object] = {"num_classes": config.num_classes}
    if name and sizes:
        return f"{name}_{config.image_size if config.image_size in sizes else sizes[0]}", options
    options["window_sizes"] = list(config.windows)
    if name is None:
        options |= {"embed_dims": list(config.dims), "depths": list(config.depths), "num_heads": list(config.heads)}
        options |= {"mlp_ratio": config.mlp_ratio, "mbconv_expand_ratio": config.expand}
    return f"{name or 'tiny_vit_5m'}_224", options


def _windows(name: str | None, image_size: int) -> tuple[int, ...]:
    return resolve(str(name), dimensions={"num_classes": 1, "image_size": image_size}).windows
