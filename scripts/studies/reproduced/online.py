"""Distillation without stored logits: the teacher runs online, at every step of the student.

Only for comparison. The views, their order and the loss are those of a student pass on a store; the teacher's outputs
on each batch, all classes in float32, take the place of the stored targets.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from torch.utils.data import Dataset

from distill.config import TrainStudentConfig
from distill.config.durations import time_limit_seconds
from distill.data.batch import Batch
from distill.data.batches import TrainBatches
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


class OnlineBatches(Dataset[Batch]):
    """A student's batches with targets that the teacher computes when a batch is read, in the process that trains."""

    def __init__(self, batches: TrainBatches, teacher: ImageModel, *, normalise: Normalise, runtime: Runtime) -> None:
        self._batches, self._teacher, self._normalise, self._runtime = batches, teacher, normalise, runtime
        self._selection = Selection(kind="topk", topk=teacher.num_classes)

    def __getitem__(self, index: int) -> Batch:
        batch = self._batches[index]
        targets = classify(self._teacher, batch, self._selection, normalise=self._normalise, runtime=self._runtime)
        # Copies, because autograd refuses tensors made in inference mode.
        return replace(
            batch,
            targets=SparseTargets(targets.indices.clone(), targets.logprobs.clone(), targets.tail.clone()),
        )


def online_batches(
    batches: TrainBatches, teacher: ImageModel, config: TrainStudentConfig, runtime: Runtime
) -> OnlineBatches:
    """**Arguments:** `batches` of a store, with images at the teacher's size."""
    assert batches.views.size == teacher.image_size and config.data.workers == 0
    runtime.place(teacher.net, config.compute)
    normalise = Normalise(teacher.mean, teacher.std, device=runtime.device, channels_last=config.compute.channels_last)
    return OnlineBatches(batches, teacher, normalise=normalise, runtime=runtime)


def train_online(config: TrainStudentConfig, teacher: ImageModel) -> None:
    """`distill.train_student` with the teacher online; resumes from the newest checkpoint like the program."""
    began = time.monotonic()
    runtime = processes.start(config.compute)
    with Stopping(runtime, time_limit=time_limit_seconds(config.run.time_limit), began=began) as stopping:
        student_pass = make_pass(config, runtime)
        batches: Any = online_batches(student_pass.batches, teacher, config, runtime)
        student_pass = replace(student_pass, batches=batches)
        training = make_training(config, runtime, student_pass.num_classes)
        folder = run_dir.prepare(config)
        if (folder / run_dir.WEIGHTS).exists():
            return
        run_state = RunState(
            folder, training, plan=student_pass.plan, order=student_pass.order, catalog=student_pass.catalog,
            runtime=runtime, keep=config.run.keep, began=began,
        )  # fmt: skip
        reason = train_to_end(config, student_pass, training, run_state, runtime=runtime, stopping=stopping)
        if reason:
            raise Stopped(reason)
        finish(config, student_pass, training, run_state, runtime)
