"""Histograms and curves as shapes in a square of 100 by 100 that the page stretches; texts stand beside it, so that
they stay readable at every width."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distill.page.curves import PANELS, Run
from distill.page.scan import Spread

SIDE = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One bar of a histogram."""

    x: float
    width: float
    height: float
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Bars over [0, high]."""

    title: str
    mean: str
    mean_x: float
    bars: tuple[Shape, ...]
    ticks: tuple[str, ...]
    """Evenly spaced along x, from end to end."""
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One run's curve: `points` of a polyline."""

    run: int
    name: str
    points: str
    last: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One quantity of all runs over their epochs."""

    title: str
    lines: tuple[Line, ...]
    x_ticks: tuple[str, ...]
    y_ticks: tuple[str, ...]
    """Evenly spaced, y from the top down."""
    says: str


def histogram(spread: Spread, *, title: str, unit: str = "") -> Histogram:
    """The shapes of a histogram; its highest bar fills the square."""
    counts, total = spread.counts.tolist(), max(int(spread.counts.sum()), 1)
    step, most = spread.high / len(counts), max(*spread.counts.tolist(), 1)
    width = SIDE / len(counts)
    unit = f" {unit}" if unit else ""
    bars = [
        Shape(
            x=width * n, width=width, height=max(SIDE * count / most, 1.5 if count else 0),
            says=f"{step * n:.3g} to {step * (n + 1):.3g}{unit}: {count:,} views ({count / total:.1%})",
        )
        for n, count in enumerate(counts)
    ]  # fmt: skip
    return Histogram(
        title=title,
        mean=f"{spread.mean:.3g}{unit}",
        mean_x=SIDE * min(spread.mean / spread.high, 1),
        bars=tuple(bar for bar in bars if bar.height),
        ticks=tuple(f"{spread.high * n / 4:.3g}" for n in range(5)),
        says=f"Histogram of {title[0].lower()}{title[1:]} over {total:,} views, from 0 to {spread.high:.3g}{unit}; "
        f"the mean is {spread.mean:.3g}{unit}, the fullest bar is {bars[counts.index(most if total else 0)].says}"
        if spread.counts.any()
        else f"Histogram of {title[0].lower()}{title[1:]}: no views",
    )


def panels(runs: Sequence[Run]) -> list[Panel]:
    """A chart for each quantity that some run has."""
    return [_panel(key, title, runs) for key, (title, _) in PANELS.items() if any(key in run.lines for run in runs)]


def _panel(key: str, title: str, runs: Sequence[Run]) -> Panel:
    shown: Mapping[int, Run] = {number: run for number, run in enumerate(runs, 1) if key in run.lines}
    points = [point for run in shown.values() for point in run.lines[key]]
    y_ticks = nice_ticks([value for _, value in points])
    x_ticks = nice_ticks([0.0, *(epoch for epoch, _ in points)])
    lines = []
    for number, run in shown.items():
        places = [
            (
                SIDE * (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]),
                SIDE - SIDE * (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]),
            )
            for x, y in run.lines[key]
        ]
        text = " ".join(f"{x:.2f},{y:.2f}" for x, y in places)
        lines.append(Line(run=number, name=run.name, points=text, last=places[-1]))
    ends = "; ".join(f"{run.name}: from {_ends(run, key)}" for run in shown.values())
    return Panel(
        title=title,
        lines=tuple(lines),
        x_ticks=tuple(map(tick_text, x_ticks)),
        y_ticks=tuple(map(tick_text, reversed(y_ticks))),
        says=f"{title} over epochs. {ends}",
    )


def _ends(run: Run, key: str) -> str:
    (_, first), (_, last) = run.lines[key][0], run.lines[key][-1]
    return f"{first:.4g} to {last:.4g}"


def nice_ticks(values: Sequence[float], *, most: int = 5) -> list[float]:
    """Round numbers, evenly spaced, at most `most + 1` of them, that reach from below the least value to above the
    greatest."""
    low, high = min(values), max(values)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-12):
        high = max(high, low + (abs(low) if abs(low) > 1e-12 else 1.0))
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for factor in (1, 2, 2.5, 5, 10, 20):
        step = factor * power
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first <= most:
            break
    return [step * n for n in range(first, last + 1)]


def tick_text(value: float) -> str:
    """Short: 12, 0.25, 3e-05."""
    return f"{value:.6g}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.3g}"
