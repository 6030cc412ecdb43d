"""The policy for images that cannot be read: the run stops, or it leaves them out and logs them.

Every process appends to a file of its own, `FILE.rankR`.
"""

from __future__ import annotations

import json
from pathlib import Path

from distill.data.batch import Batch
from distill.errors import DamagedImage, DistillError
from distill.files import open_to_append


class DamageLog:
    """Applies the policy for damaged images to each batch, and logs them."""

    def __init__(self, *, damaged: str, path: Path, rank: int) -> None:
        """**Arguments:** `damaged`: `stop` or `skip`."""
        self.damaged = damaged
        self.path = path.with_name(f"{path.name}.rank{rank}")
        self.num_damaged = 0
        self._warned = False

    def record(self, batch: Batch) -> None:
        """Logs the damage of a batch and prints the first warning of all batches.

        **Raises:** `DamagedImage`, under `stop`, for an image that could not be read; it ends the run.
        """
        for warning in batch.warnings[: not self._warned]:
            self._warned = True
            print(f"warning: {warning}", flush=True)
        if batch.damage and self.damaged == "stop":
            more = f" (and {len(batch.damage) - 1} more in the same batch)" if len(batch.damage) > 1 else ""
            raise DamagedImage(
                f"{batch.damage[0].message}{more}. Restore the shard, or leave such images out with data.damaged=skip, "
                f"which lists them in {self.path}"
            )
        if not batch.damage:
            return
        lines = [json.dumps({"epoch": d.epoch, "row": d.row, "error": d.message}) for d in batch.damage]
        self.num_damaged += len(lines)
        try:
            with open_to_append(self.path) as file:
                file.write("\n".join(lines) + "\n")
        except OSError as error:
            raise DistillError(f"cannot write {self.path}: {error.strerror}") from None

    def summary(self) -> str | None:
        """A sentence on the images that this process left out; None if there are none."""
        if not self.num_damaged:
            return None
        return f"{self.num_damaged} damaged images were left out: {self.path} lists them"
