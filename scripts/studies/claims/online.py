"""Distillation as it is without a store: the teacher runs beside the student at every step.

Only for comparison. The views, their order and the loss are those of a student pass on a store; the teacher's answer on
each batch takes the place of what the store keeps, all classes in float32.
"""

from __future__ import annotations

import time
from dataclasses import replace

from torch.utils.data import Dataset

from distill.config import TrainStudentConfig
from distill.config.durations import time_limit_seconds
from distill.data.batches import Batch, TrainBatches
from distill.errors import Stopped
from distill.models import ImageModel
from distill.runs import run_dir
from distill.runtime import processes
from distill.runtime.model_input import Normalise
from distill.runtime.processes import Runtime
from distill.runtime.stopping import Stopping
from distill.student.run_state import RunState
from distill.student.setup import make_pass, make_training
from distill.targets.selection import Selection
from distill.targets.sparse import SparseTargets
from distill.teacher.run import classify
from distill.train_student import finish, train_to_end


class Answered(Dataset[Batch]):
    """A student's batches, answered by the teacher as they are asked for. To be read in the process that trains."""

    def __init__(self, batches: TrainBatches, teacher: ImageModel, *, normalise: Normalise, runtime: Runtime) -> None:
        self._batches, self._teacher, self._normalise, self._process = batches, teacher, normalise, runtime
        self._selection = Selection(kind="topk", topk=teacher.num_classes)

    def __getitem__(self, index: int) -> Batch:
        batch = self._batches[index]
        kept = classify(self._teacher, batch, self._selection, normalise=self._normalise, runtime=self._process)
        # Copies: autograd takes no tensor that was made in inference mode.
        return replace(
            batch, kept=SparseTargets(kept.indices_bk.clone(), kept.logprobs_bk.clone(), kept.tail_b.clone())
        )


def answered(batches: TrainBatches, teacher: ImageModel, config: TrainStudentConfig, runtime: Runtime) -> Answered:
    """**Arguments:** `batches` of a store, of pictures at the teacher's size."""
    assert batches.pictures.size == teacher.image_size and config.data.workers == 0
    runtime.place(teacher.net, config.compute)
    normalise = Normalise(teacher.mean, teacher.std, device=runtime.device, channels_last=config.compute.channels_last)
    return Answered(batches, teacher, normalise=normalise, runtime=runtime)


def train_online(config: TrainStudentConfig, teacher: ImageModel) -> None:
    """`distill.train_student` with the teacher beside it; goes on from the newest checkpoint as that does."""
    began = time.monotonic()
    runtime = processes.start(config.compute)
    with Stopping(runtime, time_limit=time_limit_seconds(config.run.time_limit), began=began) as stopping:
        work = make_pass(config, runtime)
        work = replace(work, batches=answered(work.batches, teacher, config, runtime))
        training = make_training(config, runtime, work.num_classes)
        folder = run_dir.prepare(config)
        if (folder / run_dir.WEIGHTS).exists():
            return
        journal = RunState(
            folder, training, plan=work.plan, order=work.order, catalog=work.catalog, runtime=runtime,
            keep=config.run.keep, began=began,
        )  # fmt: skip
        reason = train_to_end(config, work, training, journal, runtime=runtime, stopping=stopping)
        if reason:
            raise Stopped(reason)
        finish(config, work, training, journal, runtime)
