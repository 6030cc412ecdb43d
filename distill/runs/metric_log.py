"""`metrics.jsonl`, the record of a run: one JSON line per interval of steps and per evaluation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.errors import DistillError


@dataclass(frozen=True, slots=True)
class Best:
    """The evaluation with the highest top-1; of equal ones, the first."""

    step: int
    top1: float
    """Percent."""


class MetricLog:
    """`metrics.jsonl`, open for writing. On resuming, lines after the checkpoint's step are removed: those steps are
    done again."""

    def __init__(self, path: Path, *, resume_step: int) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        done = [line for line in lines if _step(line) <= resume_step]
        if done != lines:
            part = path.with_suffix(".part")
            part.write_text("".join(line + "\n" for line in done))
            part.rename(path)
        self._evaluations = [values for line in done if "top1" in (values := json.loads(line))]
        self._file = path.open("a")

    def write(self, values: dict[str, Any]) -> None:
        """Appends a line."""
        if "top1" in values:
            self._evaluations.append(values)
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()

    def scores(self, step: int) -> dict[str, Any] | None:
        """The line of the evaluation at a step; None if there was none."""
        return next((values for values in self._evaluations if values["step"] == step), None)

    @property
    def best(self) -> Best | None:
        """The best evaluation so far."""
        best = max(self._evaluations, key=lambda values: float(values["top1"]), default=None)
        return Best(best["step"], best["top1"]) if best else None

    def close(self) -> None:
        self._file.close()


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError):
        return float("inf")  # Truncated when the run was killed.


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`, without a last line that is truncated: a run was killed, or is writing it.

    **Raises:** `DistillError` if there is no such file, or another line is no JSON.
    """
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        raise DistillError(f"{path.parent} has no {path.name}: it is not the folder of a run that has begun") from None
    values = []
    for number, line in enumerate(lines, 1):
        try:
            values.append(json.loads(line))
        except json.JSONDecodeError:
            if number < len(lines):
                raise DistillError(f"{path}, line {number}, is not valid JSON: restore the file") from None
    return values
