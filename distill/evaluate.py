"""Evaluation: scores the student of a finished run, or a teacher, on a packed data set or an image folder.

    python -m distill.evaluate data.val_path=VAL run.dir=runs/a
    python -m distill.evaluate data.val_path=VAL teacher=timm teacher.name=NAME teacher.weights=FILE
    python -m distill.evaluate data.val_path=IN1K eval.classes=wordnet eval.real_labels=shipped \\
        teacher=clip_vit_large14_21k teacher.weights=FILE
    python -m distill.evaluate data.val_path=VAL run.dir=runs/a teacher@against=efficientnet_lite0
    python -m distill.evaluate table=true

Image size, normalisation and evaluation view are those of the run or the teacher, unless `eval.` says otherwise. A
TinyViT takes any eval.image_size, from 64 to 1024 and more, and its cost at that size is printed. The last command
prints parameters and multiply-accumulates beside the published ones.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

from distill import models
from distill.config import EvaluateConfig
from distill.config.command import Program, run_program
from distill.data.batches import EvalBatches
from distill.data.damage_log import DamageLog
from distill.evaluation import class_mapping, score, setup
from distill.evaluation.published_table import model_table
from distill.files import write_errors
from distill.models.weights.class_maps import Remapped
from distill.runtime import processes
from distill.runtime.measure import images_per_second
from distill.runtime.model_input import Normalise
from distill.runtime.progress import Progress
from distill.views import EvalSpec
from logitstore.storage.atomic import write_atomically


def main(config: EvaluateConfig) -> None:
    if config.table:
        print(model_table())
        return
    assert config.data.val_path
    images = setup.open_images(config)
    model, settings = setup.open_model(config)
    spec = EvalSpec(crop=settings.crop, interpolation=settings.interpolation, full=settings.full)
    class_map = class_mapping.map_to_data(model, images, classes=config.eval.classes)

    runtime = processes.start(config.compute)
    if class_map:
        runtime.say(class_mapping.describe(class_map, images))
    metrics = setup.make_metrics(config, images, settings, runtime)
    net = Remapped(model.net, class_map) if class_map else model.net
    cost = {
        "image_size": model.image_size,
        "params": models.count_params(model.net),
        "macs": models.count_macs(model.net, model.image_size),
    }
    runtime.place(net, config.compute)
    normalise = Normalise(model.mean, model.std, device=runtime.device, channels_last=config.compute.channels_last)
    damage_log = DamageLog(
        damaged=config.data.damaged,
        path=setup.damage_file(config.data.val_path),
        rank=runtime.rank,
    )
    began = time.monotonic()
    with Progress("evaluation", total=len(images), unit="images", shown=runtime.is_main) as progress:
        scores = score.evaluate(
            net, EvalBatches(images, spec=spec, size=model.image_size), batch_size=settings.batch_size,
            workers=config.data.workers, damage_log=damage_log, runtime=runtime, normalise=normalise, progress=progress,
            metrics=metrics,
        )  # fmt: skip
    numbers = asdict(scores) | cost
    for metric in metrics:
        numbers |= metric.read(runtime)
    numbers["images_per_s"] = len(images) / (time.monotonic() - began)
    if config.eval.throughput:
        numbers["model_images_per_s"] = images_per_second(
            net, size=model.image_size, batch_size=settings.batch_size, batches=config.eval.throughput,
            normalise=normalise, runtime=runtime,
        )  # fmt: skip
    runtime.say(_sentence(numbers))
    if config.json and runtime.is_main:
        with write_errors(f"json={config.json}"):
            write_atomically(Path(config.json), json.dumps(numbers, indent=1) + "\n")
    runtime.finish()


def _sentence(numbers: dict[str, float]) -> str:
    """The scores as text, a few lines."""
    text = "top-1 {top1:.2f} %, top-5 {top5:.2f} %, loss {loss:.4f} on {num_images:.0f} images".format(**numbers)
    text += "\n{image_size} px: {params_m:.2f} M parameters, {macs_g:.3g} G multiply-accumulates per image".format(
        **numbers, params_m=numbers["params"] / 1e6, macs_g=numbers["macs"] / 1e9
    )
    text += "\ncalibration error {ece:.2f} %".format(**numbers)
    if "real" in numbers:
        text += "\nReaL accuracy {real:.2f} % on {real_images:.0f} images".format(**numbers)
    if "agreement" in numbers:
        text += "\nagreement with the teacher {agreement:.2f} %, KL divergence {kl:.4f} nats".format(**numbers)
    text += "\n{images_per_s:,.1f} images/s with loading".format(**numbers)
    if "model_images_per_s" in numbers:
        text += ", {model_images_per_s:,.1f} images/s of the model alone".format(**numbers)
    return text


PROGRAM = Program(main, "evaluate", schema=EvaluateConfig, about=__doc__)

if __name__ == "__main__":
    run_program(PROGRAM)
