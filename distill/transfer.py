"""Transfer: what the features of a student, a teacher or any timm model are worth on other packed images.

    python -m distill.transfer data.path=TRAIN data.val_path=VAL run.dir=runs/a out=runs/probes
    python -m distill.transfer data.path=TRAIN data.val_path=VAL teacher=efficientnet_lite0 out=runs/probes
    python -m distill.transfer data.path=TRAIN data.val_path=VAL teacher=timm teacher.name=NAME teacher.weights=FILE \\
        out=runs/probes
    python -m distill.transfer data.path=TRAIN data.val_path=VAL run.dir=runs/a out=runs/probes methods=[finetune] \\
        finetune.settings={train.epochs:30}
    python -m distill.transfer data.path=TRAIN data.val_path=VAL teacher=efficientnet_lite0 out=runs/probes \\
        "methods=[linear]" save=teacher.safetensors

Nearest neighbours, a linear probe and few-shot episodes on features that are computed once and kept; full fine-tuning
of TinyViTs. `save` writes the model with the linear probe in the place of its classifier, a teacher of TRAIN's classes
(teacher=saved teacher.weights=FILE). Results lie in OUT/NAME.json; the table shows every model of OUT that was scored
alike. Several processes (torchrun) share the features' work. See docs/transfer.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distill import inputs
from distill.config import TransferConfig
from distill.config.command import Program, run_program
from distill.data.catalog import Catalog
from distill.probes import few_shot, finetune, knn, linear, results
from distill.probes.extraction import features_of
from distill.probes.features import Features
from distill.probes.probed_model import Subject, check_data, open_subject, save
from distill.runtime import processes
from distill.runtime.processes import Runtime


def main(config: TransferConfig) -> None:
    assert config.data.path and config.data.val_path and config.out
    train = inputs.open_catalog(config.data, config.data.path)
    val = inputs.open_catalog(config.data, config.data.val_path)
    check_data(train, val)
    subject = open_subject(config)
    runtime = processes.start(config.compute)
    if "finetune" in config.methods:
        finetune.check(config, subject, runtime)
    out = Path(config.out)
    result = describe(config, subject, train, val)
    scores = runtime.from_main(lambda: results.check(out, subject.name, result))
    if set(config.methods) - {"finetune"}:
        sides = features_of(config, subject, {"train": train, "val": val}, runtime)
        if runtime.is_main:
            scores |= probe(config, *sides, subject=subject, class_names=train.class_names, runtime=runtime)
            results.write(out, subject.name, result | {results.SCORES: scores})
    if "finetune" in config.methods:
        scores["finetune"] = finetune.score(config, subject)
        results.write(out, subject.name, result | {results.SCORES: scores})
    if runtime.is_main:
        runtime.say(results.table(out, result))
    runtime.finish()


def describe(config: TransferConfig, subject: Subject, train: Catalog, val: Catalog) -> dict[str, Any]:
    """What scores are of: model, data and settings, as JSON values."""
    size = {"params": subject.params, "macs": subject.macs}
    return {
        "subject": subject.about() | size | {"precision": config.compute.precision},
        "data": {
            "train": train.fingerprint,
            "train_rows": min(config.data.rows or len(train), len(train)),
            "val": val.fingerprint,
            "val_rows": len(val),
        },
        "settings": {part: asdict(getattr(config, part)) for part in ("knn", "linear", "few_shot")},
    }


def probe(
    config: TransferConfig, train: Features, val: Features, *, subject: Subject, class_names: Sequence[str],
    runtime: Runtime,
) -> dict[str, Any]:  # fmt: skip
    """The scores of the probes that are asked for, as JSON values; saves what is to be saved."""
    scores: dict[str, Any] = {}
    num_classes = len(class_names)
    if "knn" in config.methods:
        neighbours = knn.score(train, val, **asdict(config.knn), num_classes=num_classes, device=runtime.device)
        scores["knn"] = {str(number): asdict(found) for number, found in neighbours.items()}
    if "linear" in config.methods:
        fitted = linear.score(train, val, **asdict(config.linear), num_classes=num_classes, device=runtime.device)
        runtime.say(linear.describe(fitted))
        scores["linear"] = linear.as_json(fitted)
        if config.save:
            save(config, subject.view, fitted.classifier, class_names=class_names)
            runtime.say(f"{config.save} written: {subject.name} with {num_classes} classes (teacher=saved)")
    if "few_shot" in config.methods:
        shots = few_shot.score(train, val, **asdict(config.few_shot))
        scores["few_shot"] = {str(number): asdict(found) for number, found in shots.items()}
    return scores


PROGRAM = Program(main, "transfer", schema=TransferConfig, about=__doc__)

if __name__ == "__main__":
    run_program(PROGRAM)
