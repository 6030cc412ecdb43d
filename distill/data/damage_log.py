"""What is noted about pictures as they pass: damage, and digests of their pixels.

Lines are appended by every process to its own file, `FILE.rankR`, so nothing that was noted is lost.
"""

from __future__ import annotations

import json
from pathlib import Path

from distill.data.batches import Batch
from distill.errors import DamagedImage, DistillError


class DamageLog:
    """Applies the policy for damaged pictures to each batch, and keeps the damage_log."""

    def __init__(self, *, damaged: str, damage_file: Path, digest_file: str | None, rank: int) -> None:
        """**Arguments:** `damaged`: `stop` or `skip`; `digest_file`: null for no digests."""
        self.damaged = damaged
        self.damage_file = damage_file.with_name(f"{damage_file.name}.rank{rank}")
        self.digest_file = Path(f"{digest_file}.rank{rank}") if digest_file else None
        self.num_damaged = 0
        self._warned = False

    def record(self, batch: Batch) -> None:
        """**Raises:** `DamagedImage` for the first picture that could not be read, under `stop`."""
        for warning in batch.warnings[: not self._warned]:
            self._warned = True
            print(f"warning: {warning}", flush=True)
        if batch.damage and self.damaged == "stop":
            *_, message = batch.damage[0]
            more = f" (and {len(batch.damage) - 1} more in the same batch)" if len(batch.damage) > 1 else ""
            raise DamagedImage(
                f"{message}{more}. Restore the shard, or leave such pictures out with data.damaged=skip, "
                f"which lists them in {self.damage_file}"
            )
        lines = [json.dumps({"epoch": epoch, "row": row, "error": text}) for epoch, row, text in batch.damage]
        self.num_damaged += len(lines)
        _append(self.damage_file, lines)
        if self.digest_file:
            views = zip(batch.epochs_b.tolist(), batch.rows_b.tolist(), batch.digests, strict=True)
            _append(self.digest_file, [f"{epoch} {row} {digest:016x}" for epoch, row, digest in views])

    def summary(self) -> str | None:
        """A sentence about what was left out by this process, if anything was."""
        if not self.num_damaged:
            return None
        return f"{self.num_damaged} damaged pictures were left out: {self.damage_file} lists them"


def _append(path: Path, lines: list[str]) -> None:
    if not lines:
        return
    try:
        with path.open("a") as file:
            file.write("\n".join(lines) + "\n")
    except OSError as error:
        raise DistillError(f"cannot write {path}: {error.strerror}") from None
