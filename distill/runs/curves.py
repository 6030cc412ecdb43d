"""The curves of training runs, as a figure by matplotlib.

`summary` draws `curves.png` of one run with it, `scripts/demo/report.py` the runs of the quick start side by side. The
gallery page draws its own (`distill.page.charts`): they follow the reader's colours and screen, which a PNG cannot, and
must be there without matplotlib, which is an optional dependency.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.files import write_file
from distill.runs.metric_log import series

PANELS = (("loss",), ("agreement", "accuracy"), ("top1", "top5", "ema_top1"), ("lr",))
"""Metrics drawn together, one panel each."""
_MARKED_BELOW = 50
"""Points of shorter curves are marked."""


def draw_curves(
    runs: Mapping[str, Sequence[Mapping[str, Any]]], path: Path, *,
    panels: Sequence[Sequence[str]] = PANELS, over: str = "epoch",
) -> bool:  # fmt: skip
    """Draws the metrics of runs as a PNG.

    **Arguments:** `runs`: name -> lines of `metrics.jsonl`; the name may be empty where there is only one run;
    `panels`: metrics drawn together, without those that no run has; `over`: `epoch` or `step`, along x.

    **Returns:** False if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    present = {metric for lines in runs.values() for line in lines for metric in line}
    shown = [metrics for panel in panels if (metrics := [metric for metric in panel if metric in present])]
    figure = Figure(figsize=(5 * len(shown), 3.5), layout="constrained")
    for number, metrics in enumerate(shown, 1):
        axes = figure.add_subplot(1, len(shown), number)
        for name, lines in runs.items():
            for metric in metrics:
                if not (points := series(lines, metric, over=over)):
                    continue
                marker = ".-" if len(points) < _MARKED_BELOW else "-"
                label = f"{name}: {metric}" if name and len(metrics) > 1 else name or metric
                axes.plot([x for x, _ in points], [y for _, y in points], marker, label=label)
        axes.set(xlabel=over, ylabel=metrics[0] if len(metrics) == 1 else "")
        axes.legend()
        axes.grid(alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    write_file(path, picture.getvalue())
    return True
