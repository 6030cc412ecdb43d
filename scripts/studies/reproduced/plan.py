"""From questions to jobs: data, teacher passes, stores, trainings, in this order."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from distill import views
from scripts.studies.reproduced import costs, images, scoring, stores
from scripts.studies.reproduced.jobs import Job
from scripts.studies.reproduced.questions import Question, Scale, store_of
from scripts.studies.reproduced.questions import costs as costs_of
from scripts.studies.reproduced.settings import Answers, Cost, Data, Pass, Store, Training, fingerprint
from scripts.studies.reproduced.training import train_cell

Value = TypeVar("Value")

# CPU time on one of two busy cores; an idle machine needs less.
MINUTES_PER_STEP = {"0.16 M": 0.080 / 60, "0.60 M": 0.090 / 60}
MINUTES_PER_ONLINE_STEP = 0.06 / 60
MINUTES_PER_TRAINING = 9 / 60
"""Beside its steps: opening, verifying proofs, curves, scoring."""
MINUTES_PER_VIEW = {"fashion": 0.0021 / 60, "imagenet": 0.012 / 60}
MINUTES_PER_TURN = {"fashion": 0.03, "lite2": 0.05, "random_clip": 0.15}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Jobs in stages: each stage needs the stages before it."""

    stages: tuple[tuple[Job, ...], ...]
    alone: tuple[Job, ...]
    """Measurements of time and memory, after all stages, one at a time."""
    cells: dict[Training, Path]
    """The result file of each training."""
    costs: dict[Cost, Path]

    @property
    def jobs(self) -> list[Job]:
        return [*(job for stage in self.stages for job in stage), *self.alone]


def make_plan(work: Path, questions: Sequence[Question], scale: Scale, *, seeds: int, first: int | None) -> Plan:
    """**Arguments:** `first`: only the first arms of each question; None: all."""
    labelled: list[tuple[str, Training]] = []
    for seed in range(seeds):
        for question in questions:
            labelled += [(f"{question.key}: {label}", cell) for label, cell in question.arms(scale, seed)[:first]]
    cells = {cell: f"{label}, seed {cell.seed}" for label, cell in reversed(labelled)}  # The first label counts.
    cells = {cell: cells[cell] for _, cell in labelled}
    measured = costs_of(scale) if any(question.key == "b" for question in questions) else []
    base = store_of(scale)
    made = _unique([*(cell.store for cell in cells if cell.store), *([base] if measured else [])])
    passes = _unique(store.of for store in made)
    data = _unique([*(p.data for p in passes), *(c.data for c in cells), *(c.judged for c in cells)])
    answers = _unique(Answers(teacher=cell.teacher, judged=cell.judged) for cell in cells)
    cost_paths = {cost: work / "cells" / f"{fingerprint(cost)}.json" for cost in measured}
    paths = {cell: work / "cells" / f"{fingerprint(cell)}.json" for cell in cells}
    return Plan(
        stages=(
            tuple(_data_job(work, each) for each in data),
            (*(_pass_job(work, each) for each in passes), *(_outputs_job(work, each) for each in answers)),
            tuple(_store_job(work, each) for each in made),
            tuple(_cell_job(work, cell, name=name, path=paths[cell]) for cell, name in cells.items()),
        ),
        alone=tuple(_cost_job(work, cost, base, path=path) for cost, path in cost_paths.items()),
        cells=paths,
        costs=cost_paths,
    )


def about() -> dict[str, Any]:
    """The software that made a result."""
    return {"python": platform.python_version(), "torch": torch.__version__, "views": views.software()}


def _made(work: Path, value: Any, make: Callable[[], None], *, name: str, minutes: float) -> Job:
    """A job that writes something else than its result file; the file only records that it is done."""

    def run() -> dict[str, Any]:
        make()
        return {"made": asdict(value)}

    result = work / "made" / f"{fingerprint(value)}.json"
    return Job(name=name, result=result, work=run, minutes=minutes)


def _data_job(work: Path, data: Data) -> Job:
    name = f"data {images.data_path(work, data).name}"
    return _made(work, data, lambda: images.make_data(work, data), name=name, minutes=0.1)


def _pass_job(work: Path, of: Pass) -> Job:
    minutes = of.epochs * of.data.per_class * 10 * MINUTES_PER_VIEW[of.teacher]
    name = f"teacher pass {stores.pass_path(work, of).stem}"
    return _made(work, of, lambda: stores.run_pass(work, of), name=name, minutes=minutes)


def _store_job(work: Path, store: Store) -> Job:
    name = f"store {stores.store_path(work, store).stem}"
    return _made(work, store, lambda: stores.make_store(work, store), name=name, minutes=0.1)


def _outputs_job(work: Path, of: Answers) -> Job:
    minutes = of.judged.per_class * 10 * MINUTES_PER_VIEW[of.teacher]
    name = f"outputs of {of.teacher} on test images"
    return _made(work, of, lambda: scoring.save_outputs(work, of), name=name, minutes=minutes)


def _cell_job(work: Path, cell: Training, *, name: str, path: Path) -> Job:
    minutes = cell.steps * (MINUTES_PER_STEP[cell.student] + (MINUTES_PER_ONLINE_STEP if cell.online else 0))
    minutes += MINUTES_PER_TRAINING
    return Job(
        name=name, result=path, minutes=minutes,
        work=lambda: {"cell": asdict(cell), "software": about(), **train_cell(work, cell)},
    )  # fmt: skip


def _cost_job(work: Path, cost: Cost, base: Store, *, path: Path) -> Job:
    def run() -> dict[str, Any]:
        if cost.student == "TinyViT-5M":
            costs.make_photographs(work)
        return {"cost": asdict(cost), "software": about(), **costs.measure(work, cost, store=base)}

    name = f"cost: {cost.student} student, {cost.teacher}, {' and '.join(cost.arms)}"
    minutes = MINUTES_PER_TURN[cost.teacher] * (cost.turns + 1) * len(cost.arms)
    return Job(name=name, result=path, work=run, minutes=minutes)


def _unique(values: Iterable[Value]) -> list[Value]:
    return list(dict.fromkeys(values))
