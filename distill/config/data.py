"""The packed data set and how it is read."""

from __future__ import annotations

from dataclasses import dataclass

from distill.config.checks import at_least, choice


@dataclass(kw_only=True)
class DataConfig:
    path: str | None = None
    """Folder of the packed data set."""
    val_path: str | None = None
    """Folder of the packed data set to evaluate on; null: none."""
    rows: int | None = None
    """Use the first so many rows only; null: all. Rows were shuffled when they were packed."""
    workers: int = 2
    """Loader processes of each rank; 0: load in the training process."""
    prefetch: int = 4
    """Batches each worker prepares ahead."""
    window_shards: int = 16
    """Rows are shuffled among so many tar shards at a time."""
    damaged: str = "stop"
    """What to do about an image that cannot be read: `stop`, or `skip` it with a record."""
    cache: str | None = None
    """Where shards of a data set on a URL are kept; null: $XDG_CACHE_HOME/distill or ~/.cache/distill."""
    cache_bytes: int = 50_000_000_000
    """Largest size of that; it should hold two windows of shards."""
    retries: int = 5
    """Further tries, after growing pauses, of a remote read that fails or is too slow."""
    timeout: float = 60.0
    """Seconds after which a remote read is too slow."""
    digests: str | None = None
    """Append the digest of every picture the model is given to FILE.rankR (a check of the replay)."""

    def __post_init__(self) -> None:
        choice("data.damaged", self.damaged, ("stop", "skip"))
        at_least(0, data__workers=self.workers, data__retries=self.retries)
        at_least(0.001, data__timeout=self.timeout)
        at_least(1, data__cache_bytes=self.cache_bytes)
        at_least(1, data__prefetch=self.prefetch, data__window_shards=self.window_shards, data__rows=self.rows)
