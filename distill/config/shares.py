"""One run's share of a teacher pass, where several fill one store at the same time: the tasks of a job array.

A share is a run of consecutive blocks, the same ones in every stored epoch. So it depends on nothing that changes while
others write, a task that is started again finds its own blocks, and each reads only its own part of the images.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from distill.errors import UsageError


@dataclass(frozen=True, slots=True)
class Share:
    """Share `index` of `count`, counted from 0."""

    index: int
    count: int

    @property
    def name(self) -> str:
        """For files about this share alone."""
        return f"share-{self.index}-of-{self.count}"

    def __str__(self) -> str:
        return f"share {self.index}/{self.count}"

    def blocks(self, num_blocks: int) -> range:
        """Its blocks; one more or less than another's. **Raises:** `UsageError` for more shares than blocks."""
        if num_blocks < self.count:
            raise UsageError(
                f"run.share={self.index}/{self.count}: the store has only {num_blocks} blocks; take fewer shares, or "
                "a new store with smaller store.rows_per_block"
            )
        return range(num_blocks * self.index // self.count, num_blocks * (self.index + 1) // self.count)


def share_of(text: str | None) -> Share | None:
    """The setting `run.share`, "I/N"; None where there is none. **Raises:** `UsageError`."""
    if text is None:
        return None
    if parts := re.fullmatch(r"(\d+)/(\d+)", text):
        share = Share(int(parts[1]), int(parts[2]))
        if share.index < share.count:
            return share
    raise UsageError(f"run.share={text}: write I/N, such as 3/16, with I from 0 to N - 1")
