"""Scores of a student on the test images: against their labels and against its teacher.

Test images are evaluated whole. A teacher's outputs on them are computed once and saved.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import distill.config.command
from distill import inputs, models
from distill.config import ComputeConfig, SaveLogitsConfig
from distill.data.batch import Batch
from distill.data.batches import EvalBatches
from distill.data.catalog import open_catalog
from distill.data.damage_log import DamageLog
from distill.evaluation.score import evaluate
from distill.runtime import processes
from distill.runtime.model_input import Normalise
from distill.runtime.processes import Runtime
from distill.views import EvalSpec
from logitstore.storage.atomic import atomic_path
from scripts.studies.reproduced.images import data_path
from scripts.studies.reproduced.settings import Answers, fingerprint, teacher_arguments


class Collector:
    """Collects the logits of an evaluation, as one of its metrics."""

    def __init__(self) -> None:
        self.logits: list[Tensor] = []
        self.labels: list[Tensor] = []

    def add(self, batch: Batch, logits_bc: Tensor) -> None:
        self.logits.append(logits_bc.float())
        self.labels.append(batch.labels_b)

    def read(self, runtime: Runtime) -> dict[str, float]:
        return {}


def outputs_path(work: Path, of: Answers) -> Path:
    return work / "answers" / f"{of.teacher}-{fingerprint(of)}.npy"


def build(teacher: str) -> models.ImageModel:
    """A teacher of `settings.TEACHERS`."""
    arguments = ["data.path=unused", "store.path=unused", *teacher_arguments(teacher)]
    return inputs.open_teacher(distill.config.command.load("save_logits", SaveLogitsConfig, arguments).teacher)


def save_outputs(work: Path, of: Answers) -> None:
    """Writes the teacher's log-probabilities (n, C) on the test images, in the catalog's order."""
    logprobs_nc, _ = outputs(build(of.teacher), data_path(work, of.judged))
    path = outputs_path(work, of)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, logprobs_nc.numpy())


def outputs(teacher: models.ImageModel, data: Path) -> tuple[Tensor, Tensor]:
    """A network's log-probabilities (n, C) on whole images, and the labels (n,)."""
    compute = ComputeConfig(threads=1)
    runtime = processes.start(compute)
    runtime.place(teacher.net, compute)
    collector = Collector()
    evaluate(
        teacher.net, EvalBatches(open_catalog(data), spec=EvalSpec(full=True), size=teacher.image_size),
        batch_size=250, workers=0, runtime=runtime, metrics=[collector],
        damage_log=DamageLog(damaged="stop", path=data / "damaged.jsonl", rank=0),
        normalise=Normalise(teacher.mean, teacher.std, device=runtime.device, channels_last=compute.channels_last),
    )  # fmt: skip
    return torch.cat(collector.logits).log_softmax(dim=1), torch.cat(collector.labels)


def score(work: Path, weights: Path, against: Answers) -> dict[str, float]:
    """A student's scores: `top1` in percent, where student and data have the same classes; `agreement` with the
    teacher's top class in percent; `kl`, KL(teacher || student) in nats per image."""
    student_nc, labels_n = outputs(
        models.build_teacher(kind="tiny_vit", weights=weights), data_path(work, against.judged)
    )
    teacher_nc = torch.from_numpy(np.load(outputs_path(work, against)))
    predicted_n = student_nc.argmax(dim=1)
    divergence_n = (teacher_nc.exp() * (teacher_nc - student_nc)).sum(dim=1)
    scores = {
        "agreement": 100 * (predicted_n == teacher_nc.argmax(dim=1)).double().mean().item(),
        "kl": divergence_n.double().mean().item(),
    }
    if against.teacher == "fashion":
        scores["top1"] = 100 * (predicted_n == labels_n).double().mean().item()
    return scores
