"""`metrics.jsonl`, the record of a run: one JSON line per interval of steps and per evaluation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.errors import DistillError
from distill.files import open_to_append, read_text, write_file
from logitstore.untrusted import BadInput, parse_json


@dataclass(frozen=True, slots=True)
class Best:
    """The evaluation with the highest top-1; of equal ones, the first."""

    step: int
    top1: float
    """Percent."""


class MetricLog:
    """`metrics.jsonl`, open for writing. On resuming, lines after the checkpoint's step are removed: their steps run
    again."""

    def __init__(self, path: Path, *, resume_step: int) -> None:
        self.path = path
        lines = read_text(path).splitlines() if path.exists() else []
        done = [line for line in lines if _step(line) <= resume_step]
        if done != lines:
            write_file(path, "".join(line + "\n" for line in done))
        self._evaluations = [values for line in done if "top1" in (values := _parse(line) or {})]
        self._file = open_to_append(path)

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


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`, of a finished run or of one that is still running.

    A last line that is incomplete, because the run was killed or is writing it now, is left out.

    **Raises:** `DistillError` if there is no such file, or another line is not JSON.
    """
    try:
        lines = read_text(path).splitlines()
    except FileNotFoundError:
        raise DistillError(f"{path.parent} has no {path.name}: it is not the folder of a run that has begun") from None
    metrics = [_parse(line) for line in lines]
    if None in metrics[:-1]:
        raise DistillError(
            f"{path}, line {metrics.index(None) + 1}, is no line of metrics, an object of finite numbers with a step: "
            "restore the file"
        )
    return [values for values in metrics if values is not None]


def series(lines: Sequence[Mapping[str, Any]], metric: str, *, over: str = "epoch") -> list[tuple[float, float]]:
    """One metric of a run as (x, value), x being the epoch or, with `over="step"`, the step; lines without it are
    left out."""
    return [(float(line[over]), float(line[metric])) for line in lines if metric in line and over in line]


def _parse(line: str) -> dict[str, Any] | None:
    """None for a line that is no JSON object of finite numbers with a step, such as one that is incomplete because the
    run was killed."""
    try:
        values = parse_json(line)
    except BadInput:
        return None
    return values if isinstance(values, dict) and "step" in values and all(map(_is_number, values.values())) else None


def _is_number(value: object) -> bool:
    return (isinstance(value, float) and math.isfinite(value)) or (isinstance(value, int) and abs(value) < 2**63)


def _step(line: str) -> float:
    """The step of a line; infinite where the line is incomplete."""
    return float((_parse(line) or {}).get("step", float("inf")))
