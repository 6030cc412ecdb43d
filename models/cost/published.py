"""The published table, and how each of its models is called here and in timm.

Figures are those of the TinyViT paper (arXiv 2207.10666) and its model zoo. Multiply-accumulates follow the rule in
`distill.models.cost.counting`.
"""

import dataclasses

import torch

from distill.models.cost.counting import count_macs, count_params
from distill.models.tinyvit.config import resolve
from distill.models.tinyvit.network import TinyViT


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
