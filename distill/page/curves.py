"""Training runs for the gallery page: their curves, thinned to what a chart can show, and their last values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from distill.errors import DistillError
from distill.runs import run_dir
from distill.runs.metric_log import read_metrics, series

MAX_POINTS = 300
"""Of one curve."""

PANELS = {
    "loss": ("Loss", 1.0),
    "agreement": ("Agreement with the teacher, training views, %", 100.0),
    "accuracy": ("Accuracy on labels, training views, %", 100.0),
    "top1": ("Top-1, validation, %", 1.0),
}
"""Key of `metrics.jsonl` -> title of its chart, and what values are multiplied by."""

Points = tuple[tuple[float, float], ...]
"""(epoch, value)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run."""

    name: str
    path: str
    student: str
    trained_on: str
    """Path of its store, or `labels`."""
    finished: bool
    curves: dict[str, Points]
    """By key of `PANELS`, those that the run has."""
    facts: tuple[tuple[str, str], ...]
    """(name, value) of its steps and of each curve's last point."""


def read_run(path: str) -> Run:
    """Reads the folder of a run, finished or not.

    **Raises:** `DistillError` if it is not the folder of a run, or has no metrics yet.
    """
    folder = Path(path)
    config = run_dir.read_config(folder)
    lines = read_metrics(folder / run_dir.METRICS)
    curves = {}
    for key, (_, factor) in PANELS.items():
        if points := [(epoch, factor * value) for epoch, value in series(lines, key)]:
            curves[key] = thinned(points)
    if not curves:
        raise DistillError(f"{folder} has no line of metrics yet: wait for the first, or leave it out of runs=[..]")
    finished = (folder / run_dir.SUMMARY).exists()
    facts = [("steps", f"{int(lines[-1].get('step', 0)):,}" + ("" if finished else " so far"))]
    facts += [(PANELS[key][0], f"{points[-1][1]:.4g}") for key, points in curves.items()]
    return Run(
        name=folder.name or str(folder.resolve().name), path=path, student=config.student.name,
        trained_on=config.store.path or "labels", finished=finished, curves=curves, facts=tuple(facts),
    )  # fmt: skip


def thinned(points: Sequence[tuple[float, float]]) -> Points:
    """At most `MAX_POINTS` points, the last one among them; where there are more, means over pieces of equal length."""
    if len(points) <= MAX_POINTS:
        return tuple(points)
    edges = [len(points) * n // MAX_POINTS for n in range(MAX_POINTS + 1)]
    pieces = [points[first:end] for first, end in pairwise(edges)]
    return tuple((piece[-1][0], sum(value for _, value in piece) / len(piece)) for piece in pieces)
