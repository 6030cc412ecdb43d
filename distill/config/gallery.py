"""Settings of `distill.gallery`."""

from __future__ import annotations

from dataclasses import dataclass, field

from distill.config.checks import at_least, choice, given
from distill.config.data import DataConfig
from distill.config.parts import REMOTE, part
from distill.config.store import StoreConfig
from distill.errors import UsageError


@dataclass(kw_only=True)
class ShowConfig:
    """What the page shows."""

    rows: int = 18
    """Rows drawn at random."""
    extremes: int = 6
    """Rows of each kind that the scan finds: hardest, most disagreement, most confident."""
    pick: list[int] = field(default_factory=list)
    """Numbers of rows to be shown as well."""
    epochs: int = 3
    """Stored epochs shown per row, evenly spaced over those that it has."""
    classes: int = 6
    """Top-k classes with a bar of their own; the others share one."""
    size: int | None = None
    """Side of the replayed views in pixels; null: the teacher's input size."""
    original: int = 320
    """Longest side of the original images in pixels; larger ones are reduced."""
    pictures: str = "exact"
    """How replayed views are encoded: `exact`, lossless; `jpeg`, about a third of the bytes."""
    seed: int = 0
    """Seed of the rows drawn at random."""

    def __post_init__(self) -> None:
        at_least(0, show__rows=self.rows, show__extremes=self.extremes, show__seed=self.seed)
        at_least(1, show__epochs=self.epochs, show__classes=self.classes, show__size=self.size)
        at_least(16, show__original=self.original)
        at_least(0, show__pick=min(self.pick, default=None))
        choice("show.pictures", self.pictures, ("exact", "jpeg"))


@dataclass(kw_only=True)
class ScanConfig:
    """What is read of the store to find rows that stand out."""

    blocks: int | None = 64
    """Blocks read for the histograms and the rows that stand out, evenly spaced over the store; null: all."""
    epochs: int = 8
    """Epochs compared per row, at most; all of them where `blocks` is null."""

    def __post_init__(self) -> None:
        at_least(1, scan__blocks=self.blocks, scan__epochs=self.epochs)


@dataclass(kw_only=True)
class GalleryConfig:
    data: DataConfig = part(DataConfig, f"path {REMOTE}")
    """`data.path` null: a page without images."""
    store: StoreConfig = part(StoreConfig, "path")
    out: str | None = None
    """The page, an HTML file."""
    show: ShowConfig = part(ShowConfig)
    scan: ScanConfig = part(ScanConfig)
    runs: list[str] = field(default_factory=list)
    """Folders of training runs whose curves are shown."""
    max_mb: float = 24.0
    """Largest page in MB (10^6 bytes): the last rows are left out where needed, and the page says how many."""

    def __post_init__(self) -> None:
        given("store.path", self.store.path, "the store to be shown")
        given("out", self.out, "the HTML file to be written")
        at_least(0.01, max_mb=self.max_mb)
        if len({run.rstrip("/") for run in self.runs}) < len(self.runs):
            raise UsageError("runs: the same folder is named twice")
