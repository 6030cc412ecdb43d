"""Evaluation: scores the student of a finished run on a packed data set.

    python -m distill.evaluate data.val_path=VAL run.dir=runs/a

The picture size, normalisation and evaluation view are those of the run, unless `eval.` says otherwise.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import distill.command
import models
from distill import evaluation, run_folder, runtime
from distill.config import EvaluateConfig
from distill.data.batches import EvalBatches
from distill.data.catalog import open_catalog
from distill.data.records import Records
from distill.errors import DistillError
from distill.progress import Progress
from distill.views import EvalSpec


def main(config: EvaluateConfig) -> None:
    assert config.data.val_path and config.run.dir
    folder = Path(config.run.dir)
    trained = run_folder.read_config(folder)
    weights = folder / run_folder.WEIGHTS
    if not weights.exists():
        raise DistillError(f"{folder} has no {run_folder.WEIGHTS} yet: let `distill.train_student` finish the run")
    catalog = open_catalog(config.data.val_path)
    student = models.build_teacher(kind="tiny_vit", weights=str(weights))
    evaluation.check_classes(catalog, student.num_classes)

    process = runtime.start(config.compute)
    process.place(student.net, config.compute)
    settings = replace(trained.eval, **{k: v for k, v in asdict(config.eval).items() if v is not None})
    spec = EvalSpec(crop=settings.crop, interpolation=settings.interpolation, full=settings.full)
    records = Records(
        damaged=config.data.damaged, damage_file=folder / "damaged.jsonl", digest_file=None, rank=process.rank
    )
    with Progress("evaluation", total=len(catalog), unit="images", shown=process.is_main) as progress:
        scores = evaluation.evaluate(
            student.net, EvalBatches(catalog, spec=spec, size=student.image_size), mean=student.mean, std=student.std,
            batch_size=settings.batch_size, workers=config.data.workers, records=records, runtime=process,
            memory_format=runtime.memory_format(config.compute), progress=progress,
        )  # fmt: skip
    process.say(
        f"top-1 {scores.top1:.2f} %, top-5 {scores.top5:.2f} %, loss {scores.loss:.4f} on {scores.num_images} images"
    )
    process.finish()


if __name__ == "__main__":
    distill.command.run(main, name="evaluate", schema=EvaluateConfig, about=__doc__)
