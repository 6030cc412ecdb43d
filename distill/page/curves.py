"""What runs wrote down while they trained, thinned out to what a chart can show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from distill.errors import DistillError
from distill.runs import run_dir
from distill.runs.metric_log import read_metrics

MOST_POINTS = 300
"""Of one line."""

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
    learned_from: str
    finished: bool
    lines: dict[str, Points]
    """By key of `PANELS`, those that the run has."""
    facts: tuple[tuple[str, str], ...]


def read_run(path: str) -> Run:
    """Reads a run's folder, finished or not. **Raises:** `DistillError` if it is none, or has no metrics yet."""
    folder = Path(path)
    config = run_dir.read_config(folder)
    values = read_metrics(folder / run_dir.METRICS)
    lines = {}
    for key, (_, factor) in PANELS.items():
        points = [(float(line["epoch"]), factor * float(line[key])) for line in values if key in line]
        if points:
            lines[key] = thinned(points)
    if not lines:
        raise DistillError(f"{folder} has no line of metrics yet: let the run go on, or leave it out of runs=[..]")
    finished = (folder / run_dir.SUMMARY).exists()
    last = values[-1]
    facts = [("steps", f"{int(last.get('step', 0)):,}" + ("" if finished else " so far"))]
    facts += [(PANELS[key][0], f"{points[-1][1]:.4g}") for key, points in lines.items()]
    return Run(
        name=folder.name or str(folder.resolve().name), path=path, student=config.student.name,
        learned_from=config.store.path or "labels", finished=finished, lines=lines, facts=tuple(facts),
    )  # fmt: skip


def thinned(points: Sequence[tuple[float, float]]) -> Points:
    """At most `MOST_POINTS` points, the last one among them: of more, means of equal pieces."""
    if len(points) <= MOST_POINTS:
        return tuple(points)
    edges = [len(points) * n // MOST_POINTS for n in range(MOST_POINTS + 1)]
    pieces = [points[first:end] for first, end in pairwise(edges)]
    return tuple((piece[-1][0], sum(value for _, value in piece) / len(piece)) for piece in pieces)
