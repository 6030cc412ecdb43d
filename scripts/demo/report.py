"""The quick start's result: a table of the teacher and each student, and a plot of their curves.

python scripts/demo/report.py runs/quickstart
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib
from rich.console import Console
from rich.table import Table

from distill.runs.metric_log import read_metrics

matplotlib.use("Agg")
import matplotlib.pyplot as plt

STUDENTS = {
    "labels_600": "labels of 600 pictures",
    "labels_6000": "labels of 6,000 pictures",
    "distilled": "logits of 6,000 pictures, no labels",
}


def main(folder: Path) -> None:
    table = Table("model", "trained on", "top-1 %", "steps", "seconds")
    teacher = json.loads((folder / "teacher.json").read_text())
    table.add_row("teacher", "labels of 60,000 pictures", f"{teacher['top1']:.2f}", "", "")
    figure, axes = plt.subplots(1, 2, figsize=(11, 4))
    for name, what in STUDENTS.items():
        summary = json.loads((folder / name / "summary.json").read_text())
        table.add_row("student", what, f"{summary['top1']:.2f}", str(summary["steps"]), f"{summary['seconds']:.0f}")
        lines = read_metrics(folder / name / "metrics.jsonl")
        scores = [line for line in lines if "top1" in line]
        steps = [line for line in lines if "lr" in line]
        axes[0].plot([line["step"] for line in scores], [line["top1"] for line in scores], "o-", label=what)
        axes[1].plot([line["step"] for line in steps], [line["accuracy"] * 100 for line in steps], label=what)
    axes[0].axhline(teacher["top1"], color="grey", linestyle=":", label="teacher")
    axes[0].set(xlabel="step", ylabel="top-1 on 2,000 validation pictures, %")
    axes[1].set(xlabel="step", ylabel="label accuracy on the training views, %")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(folder / "curves.png", dpi=110)
    Console(width=100).print(table)
    print(f"curves: {folder / 'curves.png'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
