"""The summary of a finished run: `summary.md` with its numbers, and `curves.png` where matplotlib is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.config.durations import as_clock
from distill.files import write_file
from distill.runs import run_dir
from distill.runs.curves import draw_curves
from distill.runs.metric_log import Best, read_metrics

_MOST_ROWS = 30


def write(folder: Path, *, described: str, totals: Mapping[str, Any], best: Best | None) -> None:
    """Writes `summary.md` and `curves.png` into a run's folder.

    **Arguments:** `described`: what the run was to do; `totals`: the numbers of `summary.json`.
    """
    lines = read_metrics(folder / run_dir.METRICS)
    drawn = draw_curves({"": lines}, folder / run_dir.CURVES)
    page = [f"# {folder.name}", "", *(f"{line}  " for line in described.splitlines()), ""]
    page += _table(("", ""), [(name, _shown(value)) for name, value in totals.items()])
    page += ["", f"{as_clock(totals['seconds'])} hours, restarts included."]
    rates = [line["images_per_s"] for line in lines if "images_per_s" in line]
    if rates:
        waits = [line["data_wait"] for line in lines if "data_wait" in line]
        page += [
            f"{sorted(rates)[len(rates) // 2]:,.1f} images/s (median of {len(rates)} intervals), "
            f"{100 * sum(waits) / len(waits):.1f} % of the time waiting for data."
        ]
    if best:
        page += ["", f"Best top-1: {best.top1:.2f} % after step {best.step}."]
    page += _evaluations([line for line in lines if "top1" in line])
    page += ["", f"![curves]({run_dir.CURVES})" if drawn else "No curves: matplotlib is not installed."]
    write_file(folder / run_dir.REPORT, "\n".join(page) + "\n")
    if not drawn:
        print(f"{folder / run_dir.CURVES} was not drawn: pip install matplotlib", flush=True)


def _evaluations(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """The scores of a run's evaluations; of many, evenly spread ones and the last."""
    if not lines:
        return []
    every = -(-len(lines) // _MOST_ROWS)
    shown = [line for n, line in enumerate(lines, 1) if n % every == 0 or n == len(lines)]
    names = [name for name in lines[-1] if name != "num_images"]
    rows = [[_shown(line.get(name, "")) for name in names] for line in shown]
    note = f" (every {every}th)" if every > 1 else ""
    return ["", f"## Evaluations{note}", "", *_table(names, rows)]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
