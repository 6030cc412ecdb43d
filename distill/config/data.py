"""The packed data set and how it is read."""

from __future__ import annotations

from dataclasses import dataclass

from distill.config.checks import at_least, choice


@dataclass(kw_only=True)
class DataConfig:
    """The packed data set and how it is read. Paths are folders or URLs."""

    path: str | None = None
    """The packed data set."""
    val_path: str | None = None
    """The packed data set to evaluate on; null: none."""
    rows: int | None = None
    """How many rows are used, from the first; null: all. Packing has shuffled them."""
    workers: int = 2
    """Loader worker processes per rank; 0: load in the main process."""
    prefetch: int = 4
    """Batches that each worker prepares ahead."""
    window_shards: int = 16
    """Rows are shuffled within windows of so many tar shards."""
    damaged: str = "stop"
    """At an image that cannot be read: `stop`, or `skip` it and record it in a file."""
    cache: str | None = None
    """Folder that caches the shards of a data set on a URL; null: $XDG_CACHE_HOME/distill or ~/.cache/distill."""
    cache_bytes: int = 50_000_000_000
    """Size limit of the cache; two windows of shards should fit."""
    retries: int = 5
    """How often a remote read that fails or times out is tried again, after growing pauses."""
    timeout: float = 60.0
    """Timeout of a remote read in seconds."""

    def __post_init__(self) -> None:
        choice("data.damaged", self.damaged, ("stop", "skip"))
        at_least(0, data__workers=self.workers, data__retries=self.retries)
        at_least(0.001, data__timeout=self.timeout)
        at_least(1, data__cache_bytes=self.cache_bytes)
        at_least(1, data__prefetch=self.prefetch, data__window_shards=self.window_shards, data__rows=self.rows)
