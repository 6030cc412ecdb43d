"""Evaluation: scores the student of a finished run, or a teacher, on a packed data set.

    python -m distill.evaluate data.val_path=VAL run.dir=runs/a
    python -m distill.evaluate data.val_path=VAL teacher=timm teacher.name=NAME teacher.weights=FILE

Picture size, normalisation and evaluation view are those of the run or the teacher, unless `eval.` says otherwise.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import distill.command
import models
from distill import evaluation, provenance, run_folder, runtime
from distill.config import EvalConfig, EvaluateConfig
from distill.data.batches import EvalBatches
from distill.data.records import Records
from distill.data.remote import is_url
from distill.errors import DistillError
from distill.progress import Progress
from distill.views import EvalSpec


def main(config: EvaluateConfig) -> None:
    assert config.data.val_path
    catalog = provenance.catalog(config.data, config.data.val_path)
    model, settings = _subject(config)
    settings = replace(settings, **{k: v for k, v in asdict(config.eval).items() if v is not None})
    evaluation.check_classes(catalog, model.num_classes)
    spec = EvalSpec(crop=settings.crop, interpolation=settings.interpolation, full=settings.full)

    process = runtime.start(config.compute)
    process.place(model.net, config.compute)
    records = Records(
        damaged=config.data.damaged,
        damage_file=_damage_file(config.data.val_path),
        digest_file=None,
        rank=process.rank,
    )
    with Progress("evaluation", total=len(catalog), unit="images", shown=process.is_main) as progress:
        scores = evaluation.evaluate(
            model.net, EvalBatches(catalog, spec=spec, size=model.image_size),
            batch_size=settings.batch_size, workers=config.data.workers, records=records, runtime=process,
            normalise=runtime.Normalise(model.mean, model.std, process=process, compute=config.compute),
            progress=progress,
        )  # fmt: skip
    process.say(
        f"top-1 {scores.top1:.2f} %, top-5 {scores.top5:.2f} %, loss {scores.loss:.4f} on {scores.num_images} images"
    )
    if config.json and process.is_main:
        Path(config.json).write_text(json.dumps(asdict(scores), indent=1) + "\n")
    process.finish()


def _damage_file(val_path: str) -> Path:
    """Beside the data set; of a remote one, in the folder where the program was started."""
    path = Path(f"{val_path.rstrip('/')}.damaged.jsonl")
    return Path(path.name) if is_url(val_path) else path


def _subject(config: EvaluateConfig) -> tuple[models.Teacher, EvalConfig]:
    """The model to score, ready to be asked, and how it is evaluated."""
    if config.teacher:
        teacher = provenance.teacher(config.teacher)
        return teacher, EvalConfig(crop=teacher.crop, interpolation=teacher.interpolation)
    assert config.run.dir
    folder = Path(config.run.dir)
    trained = run_folder.read_config(folder)
    weights = folder / run_folder.WEIGHTS
    if not weights.exists():
        raise DistillError(f"{folder} has no {run_folder.WEIGHTS} yet: let `distill.train_student` finish the run")
    return models.build_teacher(kind="tiny_vit", weights=str(weights)), trained.eval


if __name__ == "__main__":
    distill.command.run(main, name="evaluate", schema=EvaluateConfig, about=__doc__)
