"""One cell: a student, trained by `distill.train_student` in a folder of its own, and scored."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

import distill.config.command
from distill import train_student
from distill.config import TrainStudentConfig
from distill.errors import DistillError
from distill.runs import run_dir
from distill.student import setup
from distill.targets.losses import soft_target_loss
from distill.targets.sparse import SparseTargets
from scripts.studies.reproduced import scoring, stores
from scripts.studies.reproduced.images import data_path
from scripts.studies.reproduced.online import train_online
from scripts.studies.reproduced.settings import OPTIM, STUDENTS, VIEWS, Answers, Training, fingerprint


def run_path(work: Path, cell: Training) -> Path:
    return work / "runs" / fingerprint(cell)


def arguments_of(work: Path, cell: Training) -> list[str]:
    """The arguments of `python -m distill.train_student`."""
    steps_per_epoch = cell.data.per_class * 10 // cell.batch
    arguments = [
        f"data.path={data_path(work, cell.data)}", *STUDENTS[cell.student], f"train.steps={cell.steps}",
        f"train.batch_size={cell.batch}", *OPTIM, f"optim.warmup_epochs={cell.warmup / steps_per_epoch!r}",
        f"data.window_shards={cell.window}", f"train.seed={cell.seed}", "data.workers=0", "compute.threads=1",
        f"run.save_every={max(1, cell.steps // 6)}", "run.keep=1", f"run.dir={run_path(work, cell)}",
    ]  # fmt: skip
    if cell.store is None:
        return [*arguments, *VIEWS[cell.view]]
    # Views that are not the teacher's would be refused; here they are compared.
    check = "off" if cell.store.unmatched or cell.store.view else "strict"
    return [
        *arguments,
        f"store.path={stores.store_path(work, cell.store)}",
        f"store.check={check}",
        f"loss.tail={'uniform' if cell.tail == 'dropped' else cell.tail}",
    ]


def dropped_tail_loss(logits_bc: Tensor, targets: SparseTargets, **settings: Any) -> Tensor:
    """The loss with the top-k scaled to sum to 1 and no mass outside."""
    no_tail_b = torch.full_like(targets.tail, -torch.inf)
    return soft_target_loss(logits_bc, targets._replace(tail=no_tail_b), **settings)


def train_cell(work: Path, cell: Training) -> dict[str, Any]:
    """Trains and scores a student; resumes from the run's newest checkpoint. **Returns** its result."""
    arguments = arguments_of(work, cell)
    config = distill.config.command.load("train_student", TrainStudentConfig, arguments)
    if cell.online:
        train_online(config, scoring.build(cell.online))
    else:
        with patch.object(setup, "soft_target_loss", dropped_tail_loss) if cell.tail == "dropped" else nullcontext():
            train_student.main(config)
    folder = run_path(work, cell)
    weights = folder / run_dir.WEIGHTS
    if not weights.exists():
        raise DistillError(f"the run in {folder} has not finished")
    began = time.monotonic()
    scores = scoring.score(work, weights, Answers(teacher=cell.teacher, judged=cell.judged))
    summary = json.loads((folder / run_dir.SUMMARY).read_text())
    shutil.rmtree(folder / run_dir.CHECKPOINTS, ignore_errors=True)
    result = {
        "words": arguments,
        "scores": scores,
        "seconds": summary["seconds"],
        "cpu_seconds": round(time.process_time(), 1),  # Of this process: of a run that was stopped, the last part.
        "scoring_seconds": round(time.monotonic() - began, 1),
    }
    return result | ({"store": stores.facts(work, cell.store)} if cell.store else {})
