"""The results file, and the tables and plots made from it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distill.errors import UsageError
from scripts.studies.reproduced import plots, tables
from scripts.studies.reproduced.jobs import write_json
from scripts.studies.reproduced.plan import Plan, about
from scripts.studies.reproduced.questions import Question, Scale

SCORES = ("top1", "agreement", "kl")


def collect(
    plan: Plan, questions: Sequence[Question], scale: Scale, *, seeds: int, first: int | None
) -> dict[str, Any]:
    """Everything that was measured; each figure of an arm is a list over the seeds."""
    answered = [_question(plan, question, scale, seeds=seeds, first=first) for question in questions]
    trainings = [json.loads(path.read_text()) for path in plan.cells.values()]
    costs = [json.loads(path.read_text()) for path in plan.costs.values()]
    return {
        "about": about(), "cores": os.cpu_count(), "seeds": seeds, "scale": asdict(scale), "questions": answered,
        "costs": costs, "trainings": len(trainings), "cpu_seconds": sum(cell["cpu_seconds"] for cell in trainings),
    }  # fmt: skip


def _question(plan: Plan, question: Question, scale: Scale, *, seeds: int, first: int | None) -> dict[str, Any]:
    arms: dict[str, list[dict[str, Any]]] = {}
    for seed in range(seeds):
        for label, cell in question.arms(scale, seed)[:first]:
            arms.setdefault(label, []).append(json.loads(plan.cells[cell].read_text()))
    return {
        "key": question.key, "title": question.title, "against": question.against, "metric": question.metric,
        "across": question.across, "arms": [_arm(label, cells) for label, cells in arms.items()],
    }  # fmt: skip


def _arm(label: str, cells: list[dict[str, Any]]) -> dict[str, Any]:
    scores = {name: [cell["scores"][name] for cell in cells] for name in SCORES if name in cells[0]["scores"]}
    settings = {name: value for name, value in cells[0]["cell"].items() if name != "seed"}
    return {
        "label": label, **scores, "cpu_seconds": [cell["cpu_seconds"] for cell in cells],
        "peak_mb": [cell["peak_mb"] for cell in cells], "seeds": [cell["cell"]["seed"] for cell in cells],
        "store": cells[0].get("store"), "settings": settings,
    }  # fmt: skip


def fill(page: Path, results: dict[str, Any]) -> None:
    """Puts each question's table and plot where `page` has `<!-- KEY -->` .. `<!-- end -->`.

    Plots and the results file go to a folder beside the page and of its name.

    **Raises:** `UsageError` if the page has no place for one of them.
    """
    text = page.read_text()
    parts = {"about": sentence(results)}
    for question in results["questions"]:
        plot = f"![{question['title']}]({page.stem}/{question['key']}.png)"
        parts[question["key"]] = f"{plot}\n\n{_without_heading(tables.table(question))}"
    if results["costs"]:
        parts["costs"] = _without_heading(tables.cost_table(results["costs"]))
    for key, body in parts.items():
        place = _place(text, key)
        if place is None:
            raise UsageError(f"{page} has no line <!-- {key} --> with a line <!-- end --> after it")
        before, after = text[: place[0]], text[place[1] :]
        text = f"{before}\n{body}\n{after}"
    page.write_text(text)
    folder = page.with_suffix("")
    folder.mkdir(exist_ok=True)
    write_json(folder / "results.json", results)
    for question in results["questions"]:
        plots.plot(question, folder / f"{question['key']}.png")


def _place(text: str, key: str) -> tuple[int, int] | None:
    """Where the part `key` of a page begins and ends."""
    match = re.search(f"<!-- {key} -->\n(.*?)<!-- end -->", text, re.DOTALL)
    return match.span(1) if match else None


def sentence(results: dict[str, Any]) -> str:
    """How much was trained, and with what."""
    about, hours = results["about"], results["cpu_seconds"] / 3600
    return (
        f"{results['trainings']} trainings, {results['seeds']} seeds per arm, {hours:.1f} hours of CPU time in all on "
        f"a machine of {results['cores']} cores; Python {about['python']}, torch {about['torch']}.\n"
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
