"""The share of a store's blocks that one run of the teacher pass writes, beside runs that write the others.

For the tasks of a job array: `run.share=I/N`. A share is a range of consecutive blocks, the same in every stored epoch.
So it does not depend on what other runs have written, a task that is started again finds its own blocks, and each reads
only its own part of the images.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from distill.errors import UsageError


@dataclass(frozen=True, slots=True)
class BlockShare:
    """Share `index` of `count`, counted from 0."""

    index: int
    count: int

    @property
    def name(self) -> str:
        """For the names of files about this share alone."""
        return f"share-{self.index}-of-{self.count}"

    def __str__(self) -> str:
        return f"share {self.index}/{self.count}"

    def blocks(self, num_blocks: int) -> range:
        """The blocks of this share; shares differ by at most one block.

        **Raises:** `UsageError` for more shares than blocks.
        """
        if num_blocks < self.count:
            raise UsageError(
                f"run.share={self.index}/{self.count}: the store has only {num_blocks} blocks; take fewer shares, or "
                "a new store with smaller store.rows_per_block"
            )
        return range(num_blocks * self.index // self.count, num_blocks * (self.index + 1) // self.count)


def parse_block_share(text: str | None) -> BlockShare | None:
    """The setting `run.share`, "I/N"; None for None. **Raises:** `UsageError` for any other text."""
    if text is None:
        return None
    if numbers := re.fullmatch(r"(\d+)/(\d+)", text):
        share = BlockShare(int(numbers[1]), int(numbers[2]))
        if share.index < share.count:
            return share
    raise UsageError(f"run.share={text}: write I/N, such as 3/16, with I from 0 to N - 1")
