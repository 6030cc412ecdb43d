"""The published table of TinyViT, beside the parameters and multiply-accumulates of the networks built here.

Figures are those of the TinyViT paper (arXiv 2207.10666) and its model zoo. Multiply-accumulates follow the rule in
`distill.models.cost.counting`.
"""

from __future__ import annotations

import dataclasses

import torch

from distill.models.cost.counting import count_macs, count_params
from distill.models.tinyvit.config import NUM_CLASSES, resolve_config
from distill.models.tinyvit.network import TinyViT


@dataclasses.dataclass(frozen=True, slots=True)
class PublishedRow:
    """One row of the published table (ImageNet-1k, 1,000 classes)."""

    name: str
    image_size: int
    """Side in pixels."""
    pretrain: str
    """`from scratch`, or `IN-21k distill`: pretrained by distillation on ImageNet-21k, then fine-tuned."""
    params_m: str
    """As printed, in millions."""
    macs_g: str
    """As printed, in billions (10^9)."""
    top1: float
    """Percent."""
    top5: float
    """Percent."""


TABLE = (
    PublishedRow("tiny_vit_5m", 224, "from scratch", "5.39", "1.29", 79.02, 94.74),
    PublishedRow("tiny_vit_5m", 224, "IN-21k distill", "5.39", "1.29", 80.71, 95.57),
    PublishedRow("tiny_vit_11m", 224, "from scratch", "11.00", "2.05", 81.44, 95.79),
    PublishedRow("tiny_vit_11m", 224, "IN-21k distill", "11.00", "2.05", 83.19, 96.53),
    PublishedRow("tiny_vit_21m", 224, "from scratch", "21.20", "4.30", 83.08, 96.58),
    PublishedRow("tiny_vit_21m", 224, "IN-21k distill", "21.20", "4.30", 84.85, 97.27),
    PublishedRow("tiny_vit_21m", 384, "IN-21k distill", "21.23", "13.85", 86.21, 97.77),
    PublishedRow("tiny_vit_21m", 512, "IN-21k distill", "21.27", "27.15", 86.44, 97.89),
)


@dataclasses.dataclass(frozen=True, slots=True)
class CountedRow:
    """A published row, and the counts of the network built here."""

    row: PublishedRow
    params: int
    macs: int
    """Of one image."""

    @property
    def params_m(self) -> str:
        return f"{self.params / 1e6:.2f}"

    @property
    def macs_g(self) -> str:
        return f"{self.macs / 1e9:.2f}"

    @property
    def equal(self) -> bool:
        """Whether the counts are those of the table, to the printed digits."""
        return (self.params_m, self.macs_g) == (self.row.params_m, self.row.macs_g)


def count_table() -> tuple[CountedRow, ...]:
    """Counts parameters and multiply-accumulates of every published model, in the order of the table."""
    counts: dict[tuple[str, int], tuple[int, int]] = {}
    for row in TABLE:
        if (row.name, row.image_size) not in counts:
            with torch.device("meta"):
                net = TinyViT(
                    resolve_config(row.name, dimensions={"num_classes": NUM_CLASSES, "image_size": row.image_size})
                )
            counts[row.name, row.image_size] = count_params(net), count_macs(net, row.image_size)
    return tuple(CountedRow(row, *counts[row.name, row.image_size]) for row in TABLE)
