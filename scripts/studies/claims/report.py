"""What came out: one results file, with the tables and plots made from it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distill.errors import UsageError
from scripts.studies.claims import plots, tables
from scripts.studies.claims.jobs import write_json
from scripts.studies.claims.plan import Plan, about
from scripts.studies.claims.questions import Question, Scale

SCORES = ("top1", "agreement", "kl")


def collect(
    plan: Plan, questions: Sequence[Question], scale: Scale, *, seeds: int, first: int | None
) -> dict[str, Any]:
    """Everything that was measured, a list over the seeds for each number of an arm."""
    asked = [_question(plan, question, scale, seeds=seeds, first=first) for question in questions]
    trainings = [json.loads(path.read_text()) for path in plan.cells.values()]
    costs = [json.loads(path.read_text()) for path in plan.costs.values()]
    return {
        "about": about(), "cores": os.cpu_count(), "seeds": seeds, "scale": asdict(scale), "questions": asked,
        "costs": costs, "trainings": len(trainings), "cpu_seconds": sum(cell["cpu_seconds"] for cell in trainings),
    }  # fmt: skip


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
        "label": label, **scores, "cpu_seconds": [cell["cpu_seconds"] for cell in found],
        "peak_mb": [cell["peak_mb"] for cell in found], "seeds": [cell["cell"]["seed"] for cell in found],
        "store": found[0].get("store"), "settings": settings,
    }  # fmt: skip


def fill(page: Path, results: dict[str, Any]) -> None:
    """Puts each question's table and picture where `page` has `<!-- KEY -->` .. `<!-- end -->`.

    Pictures and the results file go to a folder of the page's name beside it.

    **Raises:** `UsageError` if it has no such place for one of them.
    """
    text = page.read_text()
    parts = {"about": sentence(results)}
    for question in results["questions"]:
        picture = f"![{question['title']}]({page.stem}/{question['key']}.png)"
        parts[question["key"]] = f"{picture}\n\n{_without_heading(tables.table(question))}"
    if results["costs"]:
        parts["costs"] = _without_heading(tables.cost_table(results["costs"]))
    for key, body in parts.items():
        place = re.compile(f"(<!-- {key} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not place.search(text):
            raise UsageError(f"{page} has no line <!-- {key} --> with a line <!-- end --> after it")
        text = place.sub(lambda found, body=body: f"{found[1]}\n{body}\n{found[2]}", text)
    page.write_text(text)
    folder = page.with_suffix("")
    folder.mkdir(exist_ok=True)
    write_json(folder / "results.json", results)
    for question in results["questions"]:
        plots.plot(question, folder / f"{question['key']}.png")


def sentence(results: dict[str, Any]) -> str:
    """How much was trained, and with what."""
    about, hours = results["about"], results["cpu_seconds"] / 3600
    return (
        f"{results['trainings']} trainings, {results['seeds']} seeds an arm, {hours:.1f} hours of CPU time in all on a "
        f"machine of {results['cores']} cores; Python {about['python']}, torch {about['torch']}.\n"
    )


def _without_heading(table: str) -> str:
    """The page has headings of its own."""
    return table.split("\n", 2)[2]


def write(results: dict[str, Any], work: Path, *, out: Path | None) -> None:
    """The results file, and in `work` tables and plots."""
    write_json(out or work / "results.json", results)
    (work / "tables.md").write_text(tables.markdown(results))
    for question in results["questions"]:
        plots.plot(question, work / f"{question['key']}.png")
