"""Plots, one per question: the mean over seeds, bars of one standard deviation, and each seed."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.studies.reproduced.tables import NAMES

# Okabe and Ito's colours, which colour-blind people can distinguish; markers differ too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def plot(question: dict[str, Any], path: Path) -> None:
    """Plots the question's metric by arm, by the number in the arms' labels, or by bytes per view."""
    arms, metric, across = question["arms"], question["metric"], question["across"]
    height = 4.5 if across != "arms" else 1.3 + 0.42 * len(arms)
    figure = Figure(figsize=(8, height), layout="constrained")
    axes = figure.subplots()
    if across == "arms":
        by_name(axes, arms, metric)
    elif across == "bytes":
        by_bytes(axes, arms, metric)
    else:
        by_number(axes, arms, metric, name="stored epochs" if "stored" in arms[0]["label"] else "classes stored, k")
    axes.set_title(question["title"])
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def by_name(axes: Axes, arms: Sequence[dict[str, Any]], metric: str) -> None:
    for y, arm in enumerate(reversed(arms)):
        mean, deviation = _spread(arm[metric])
        axes.errorbar(mean, y, xerr=deviation, fmt="o", color=COLOURS[0], capsize=3)
        axes.plot(arm[metric], [y] * len(arm[metric]), "|", color=COLOURS[1], markersize=9)
    axes.set_yticks(range(len(arms)), [arm["label"] for arm in reversed(arms)])
    axes.set_xlabel(NAMES[metric])


def by_number(axes: Axes, arms: Sequence[dict[str, Any]], metric: str, *, name: str) -> None:
    numbers = [int(re.findall(r"\d+", arm["label"])[0]) for arm in arms]
    spreads = [_spread(arm[metric]) for arm in arms]
    axes.errorbar(numbers, [m for m, _ in spreads], yerr=[d for _, d in spreads], fmt="o-", color=COLOURS[0], capsize=3)
    for number, arm in zip(numbers, arms, strict=True):
        axes.plot([number] * len(arm[metric]), arm[metric], "_", color=COLOURS[1], markersize=9)
    axes.set(xscale="log", xlabel=name, ylabel=NAMES[metric])
    axes.set_xticks(numbers, [f"{number:,}" for number in numbers])
    axes.minorticks_off()


def by_bytes(axes: Axes, arms: Sequence[dict[str, Any]], metric: str) -> None:
    sizes = [arm["store"]["bytes_per_view"] for arm in arms]
    offset = 0.012 * (max(sizes) - min(sizes))
    for number, arm in enumerate(arms):
        mean, deviation = _spread(arm[metric])
        x = sizes[number] + offset * sizes[:number].count(sizes[number])
        axes.errorbar(
            x, mean, yerr=deviation, capsize=3, label=arm["label"],
            fmt=MARKERS[number % len(MARKERS)], color=COLOURS[number % len(COLOURS)],
            markerfacecolor="none" if number >= len(COLOURS) else None,
        )  # fmt: skip
    axes.set(xlabel="bytes per view (equal ones side by side)", ylabel=NAMES[metric])
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")


def _spread(values: Sequence[float]) -> tuple[float, float]:
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
