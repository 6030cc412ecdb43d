"""The quick start's result: a table of the teacher and each student, and a plot of their curves.

python scripts/demo/report.py runs/quickstart
"""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from distill.runs.curves import draw_curves
from distill.runs.metric_log import read_metrics

STUDENTS = {
    "labels_600": "labels of 600 images",
    "labels_6000": "labels of 6,000 images",
    "distilled": "logits of 6,000 images, no labels",
}


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(folder: Path) -> None:
    """Prints a table of the quick start in FOLDER and writes FOLDER/curves.png."""
    table = Table("model", "trained on", "top-1 %", "steps", "seconds")
    teacher = json.loads((folder / "teacher.json").read_text())
    table.add_row("teacher", "labels of 60,000 images", f"{teacher['top1']:.2f}", "", "")
    runs = {}
    for name, trained_on in STUDENTS.items():
        summary = json.loads((folder / name / "summary.json").read_text())
        table.add_row(
            "student", trained_on, f"{summary['top1']:.2f}", str(summary["steps"]), f"{summary['seconds']:.0f}"
        )
        runs[trained_on] = read_metrics(folder / name / "metrics.jsonl")
    runs["teacher"] = [{"step": step, "top1": teacher["top1"]} for step in (0, summary["steps"])]
    drawn = draw_curves(runs, folder / "curves.png", panels=(("top1",), ("accuracy",)), over="step")
    Console(width=100).print(table)
    print(f"curves: {folder / 'curves.png'}" if drawn else "no curves: pip install matplotlib")


if __name__ == "__main__":
    main()
