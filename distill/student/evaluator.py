"""The evaluation of a student while it trains: a function from a training to its scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from distill import inputs
from distill.config import TrainStudentConfig
from distill.data.batches import EvalBatches
from distill.data.damage_log import DamageLog
from distill.evaluation import score
from distill.models import TinyViT
from distill.runtime.model_input import Normalise
from distill.runtime.processes import Runtime
from distill.student.loop import Training
from distill.views import EvalSpec


def make_evaluator(
    config: TrainStudentConfig, runtime: Runtime, num_classes: int, *, normalise: Normalise, damage_log: DamageLog
) -> Callable[[Training], dict[str, Any]] | None:
    """A function from a training to its scores by name; None without evaluation data. All processes must call it.

    **Raises:** `DistillError` if the evaluation data has another number of classes.
    """
    if not config.data.val_path:
        return None
    catalog = inputs.open_catalog(config.data, config.data.val_path)
    score.check_classes(catalog, num_classes)
    spec = EvalSpec(crop=config.eval.crop, interpolation=config.eval.interpolation, full=config.eval.full)
    dataset = EvalBatches(catalog, spec=spec, size=config.student.image_size)

    def score_net(net: TinyViT) -> dict[str, Any]:
        if runtime.world > 1:
            broadcast_statistics(net)
        return asdict(
            score.evaluate(
                net,
                dataset,
                batch_size=config.eval.batch_size,
                workers=config.data.workers,
                damage_log=damage_log,
                runtime=runtime,
                normalise=normalise,
            )
        )

    def scores(training: Training) -> dict[str, Any]:
        ema = training.ema.module if training.ema and config.eval.weights != "raw" else None
        if ema and config.eval.weights == "ema":
            return score_net(ema)
        ema_scores = {f"ema_{name}": value for name, value in score_net(ema).items()} if ema else {}
        ema_scores.pop("ema_num_images", None)
        return score_net(training.net) | ema_scores

    return scores


def broadcast_statistics(net: TinyViT) -> None:
    """Gives every process the BatchNorm statistics of the first one, which are those of checkpoints and weights."""
    for module in net.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            for buffer in module.buffers():
                torch.distributed.broadcast(buffer, src=0)
