"""Distillation as it is without a store: the teacher runs beside the student at every step.

Only for comparison. The views, their order and the loss are those of a student pass on a store; the teacher's answer on
each batch takes the place of what the store keeps, all classes in float32.
"""

from __future__ import annotations

import time
from dataclasses import replace

from torch.utils.data import Dataset

from distill import run_folder, runtime
from distill.config import TrainStudentConfig
from distill.data.batches import Batch, TrainBatches
from distill.duration import limit_of
from distill.errors import Stopped
from distill.journal import Journal
from distill.keep import Kept, Selection
from distill.runtime import Normalise, Runtime
from distill.stopping import Stopping
from distill.student_pass import make_pass, make_training
from distill.teacher_pass import classify
from distill.train_student import finish, run
from models import Teacher


class Answered(Dataset[Batch]):
    """A student's batches, answered by the teacher as they are asked for. To be read in the process that trains."""

    def __init__(self, batches: TrainBatches, teacher: Teacher, *, normalise: Normalise, process: Runtime) -> None:
        self._batches, self._teacher, self._normalise, self._process = batches, teacher, normalise, process
        self._selection = Selection(kind="topk", topk=teacher.num_classes)

    def __getitem__(self, index: int) -> Batch:
        batch = self._batches[index]
        kept = classify(self._teacher, batch, self._selection, normalise=self._normalise, runtime=self._process)
        # Copies: autograd takes no tensor that was made in inference mode.
        return replace(batch, kept=Kept(kept.indices_bk.clone(), kept.logprobs_bk.clone(), kept.tail_b.clone()))


def answered(batches: TrainBatches, teacher: Teacher, config: TrainStudentConfig, process: Runtime) -> Answered:
    """**Arguments:** `batches` of a store, of pictures at the teacher's size."""
    assert batches.pictures.size == teacher.image_size and config.data.workers == 0
    process.place(teacher.net, config.compute)
    normalise = Normalise(teacher.mean, teacher.std, process=process, compute=config.compute)
    return Answered(batches, teacher, normalise=normalise, process=process)


def train_online(config: TrainStudentConfig, teacher: Teacher) -> None:
    """`distill.train_student` with the teacher beside it; goes on from the newest checkpoint as that does."""
    began = time.monotonic()
    process = runtime.start(config.compute)
    with Stopping(process, time_limit=limit_of(config.run.time_limit), began=began) as stopping:
        work = make_pass(config, process)
        work = replace(work, batches=answered(work.batches, teacher, config, process))
        training = make_training(config, process, work.num_classes)
        folder = run_folder.prepare(config)
        if (folder / run_folder.WEIGHTS).exists():
            return
        journal = Journal(
            folder, training, plan=work.plan, order=work.order, catalog=work.catalog, process=process,
            keep=config.run.keep, began=began,
        )  # fmt: skip
        reason = run(config, work, training, journal, process=process, stopping=stopping)
        if reason:
            raise Stopped(reason)
        finish(config, work, training, journal, process)
