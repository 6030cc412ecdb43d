"""Histograms and curves as SVG shapes in a square of 100 by 100 that the page stretches.

Texts stand beside the square, not in it, so that they stay readable at every width. (Runs also have a PNG of their
curves, drawn by matplotlib: see `distill.runs.curves` for why there are two.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distill.page.curves import PANELS, Run
from distill.page.scan import RunningHistogram

SIDE = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramBar:
    """One bar, in units of the square."""

    x: float
    width: float
    height: float
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Bars over [0, high]."""

    title: str
    mean: str
    mean_x: float
    bars: tuple[HistogramBar, ...]
    ticks: tuple[str, ...]
    """Evenly spaced along x, from end to end."""
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One run's curve: `points` of a polyline."""

    run: int
    """Number of the run, from 1: its colour."""
    name: str
    points: str
    last: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One metric of all runs over their epochs."""

    title: str
    lines: tuple[Line, ...]
    x_ticks: tuple[str, ...]
    y_ticks: tuple[str, ...]
    """Evenly spaced, y from the top down."""
    description: str


def draw_histogram(histogram: RunningHistogram, *, title: str, unit: str = "") -> Histogram:
    """The shapes of a histogram; its highest bar fills the square."""
    counts, total = histogram.counts.tolist(), int(histogram.counts.sum())
    name, unit = f"Histogram of {title[0].lower()}{title[1:]}", f" {unit}" if unit else ""
    step, highest = histogram.high / len(counts), max(*counts, 1)
    width = SIDE / len(counts)
    bars = [
        HistogramBar(
            x=width * n, width=width, height=max(SIDE * count / highest, 1.5 if count else 0),
            description=f"{step * n:.3g} to {step * (n + 1):.3g}{unit}: {count:,} views ({count / max(total, 1):.1%})",
        )
        for n, count in enumerate(counts)
    ]  # fmt: skip
    description = f"{name}: no views"
    if total:
        description = (
            f"{name} over {total:,} views, from 0 to {histogram.high:.3g}{unit}; the mean is "
            f"{histogram.mean:.3g}{unit}, the highest bar is {bars[counts.index(highest)].description}"
        )
    return Histogram(
        title=title,
        mean=f"{histogram.mean:.3g}{unit}",
        mean_x=SIDE * min(histogram.mean / histogram.high, 1),
        bars=tuple(bar for bar in bars if bar.height),
        ticks=tuple(f"{histogram.high * n / 4:.3g}" for n in range(5)),
        description=description,
    )


def draw_panels(runs: Sequence[Run]) -> list[Panel]:
    """A chart for each metric that some run has."""
    return [_panel(key, title, runs) for key, (title, _) in PANELS.items() if any(key in run.curves for run in runs)]


def _panel(key: str, title: str, runs: Sequence[Run]) -> Panel:
    shown: Mapping[int, Run] = {number: run for number, run in enumerate(runs, 1) if key in run.curves}
    points = [point for run in shown.values() for point in run.curves[key]]
    y_ticks = nice_ticks([value for _, value in points])
    x_ticks = nice_ticks([0.0, *(epoch for epoch, _ in points)])
    lines = []
    for number, run in shown.items():
        positions = [
            (
                SIDE * (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]),
                SIDE - SIDE * (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]),
            )
            for x, y in run.curves[key]
        ]
        text = " ".join(f"{x:.2f},{y:.2f}" for x, y in positions)
        lines.append(Line(run=number, name=run.name, points=text, last=positions[-1]))
    ends = "; ".join(f"{run.name}: from {_ends(run, key)}" for run in shown.values())
    return Panel(
        title=title,
        lines=tuple(lines),
        x_ticks=tuple(map(tick_text, x_ticks)),
        y_ticks=tuple(map(tick_text, reversed(y_ticks))),
        description=f"{title} over epochs. {ends}",
    )


def _ends(run: Run, key: str) -> str:
    (_, first), (_, last) = run.curves[key][0], run.curves[key][-1]
    return f"{first:.4g} to {last:.4g}"


def nice_ticks(values: Sequence[float], *, max_steps: int = 5) -> list[float]:
    """Round numbers, evenly spaced by at most `max_steps` steps, from at or below the least value to at or above the
    greatest."""
    low, high = min(values), max(values)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-12):
        high = max(high, low + (abs(low) if abs(low) > 1e-12 else 1.0))
    power = 10.0 ** math.floor(math.log10((high - low) / max_steps))
    for factor in (1, 2, 2.5, 5, 10, 20):
        step = factor * power
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first <= max_steps:
            break
    return [step * n for n in range(first, last + 1)]


def tick_text(value: float) -> str:
    """Short: 12, 0.25, 3e-05."""
    return f"{value:.6g}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.3g}"
