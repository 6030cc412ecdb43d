"""What came out: one results file, with the tables and plots made from it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scripts.claims import plots, tables
from scripts.claims.jobs import write_json
from scripts.claims.plan import Plan, about
from scripts.claims.questions import Question, Scale

SCORES = ("top1", "agreement", "kl")


def collect(
    plan: Plan, questions: Sequence[Question], scale: Scale, *, seeds: int, first: int | None
) -> dict[str, Any]:
    """Everything that was measured, a list over the seeds for each number of an arm."""
    asked = [_question(plan, question, scale, seeds=seeds, first=first) for question in questions]
    return {"about": about(), "cores": os.cpu_count(), "seeds": seeds, "scale": asdict(scale), "questions": asked}


def _question(plan: Plan, question: Question, scale: Scale, *, seeds: int, first: int | None) -> dict[str, Any]:
    arms: dict[str, list[dict[str, Any]]] = {}
    for seed in range(seeds):
        for label, cell in question.arms(scale, seed)[:first]:
            arms.setdefault(label, []).append(json.loads(plan.cells[cell].read_text()))
    return {
        "key": question.key, "title": question.title, "against": question.against, "metric": question.metric,
        "across": question.across, "arms": [_arm(label, found) for label, found in arms.items()],
    }  # fmt: skip


def _arm(label: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    scores = {name: [cell["scores"][name] for cell in found] for name in SCORES if name in found[0]["scores"]}
    settings = {name: value for name, value in found[0]["cell"].items() if name != "seed"}
    return {
        "label": label, **scores, "seconds": [cell["seconds"] for cell in found],
        "peak_mb": [cell["peak_mb"] for cell in found], "seeds": [cell["cell"]["seed"] for cell in found],
        "store": found[0].get("store"), "settings": settings,
    }  # fmt: skip


def write(results: dict[str, Any], work: Path, *, out: Path | None) -> None:
    """The results file, and in `work` tables and plots."""
    write_json(out or work / "results.json", results)
    (work / "tables.md").write_text(tables.markdown(results))
    for question in results["questions"]:
        plots.plot(question, work / f"{question['key']}.png")
