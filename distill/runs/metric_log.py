"""Numbers of a run: gathered on the device without waiting for it, written one JSON line an interval."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.errors import LossNotFinite
from distill.targets.sparse import SparseTargets
from distill.runtime.processes import Runtime




@dataclass(frozen=True, slots=True)
class Best:
    """The evaluation with the highest top-1; of equal ones, the first."""

    step: int
    top1: float
    """Percent."""


class MetricLog:
    """`metrics.jsonl` of a run. On resuming, lines from after the checkpoint are dropped: those steps come again."""

    def __init__(self, path: Path, *, resume_step: int) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if _step(line) <= resume_step]
        if kept != lines:
            part = path.with_suffix(".part")
            part.write_text("".join(line + "\n" for line in kept))
            part.rename(path)
        self._evaluations = [values for line in kept if "top1" in (values := json.loads(line))]
        self._file = path.open("a")

    def write(self, values: dict[str, Any]) -> None:
        if "top1" in values:
            self._evaluations.append(values)
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()

    def scores(self, step: int) -> dict[str, Any] | None:
        """The evaluation's line of a step, if there is one."""
        return next((values for values in self._evaluations if values["step"] == step), None)

    @property
    def best(self) -> Best | None:
        best = max(self._evaluations, key=lambda values: float(values["top1"]), default=None)
        return Best(best["step"], best["top1"]) if best else None

    def close(self) -> None:
        self._file.close()


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError):
        return float("inf")  # A line cut off by a kill.


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`."""
    return [json.loads(line) for line in path.read_text().splitlines()]
