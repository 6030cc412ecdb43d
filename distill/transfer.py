"""Transfer: how well the features of a student, a teacher or any timm model serve other packed images.

    python -m distill.transfer data.path=TRAIN data.val_path=VAL run.dir=runs/a out=runs/probes
    python -m distill.transfer data.path=TRAIN data.val_path=VAL teacher=efficientnet_lite0 out=runs/probes
    python -m distill.transfer data.path=TRAIN data.val_path=VAL teacher=timm teacher.name=NAME teacher.weights=FILE \\
        out=runs/probes
    python -m distill.transfer data.path=TRAIN data.val_path=VAL run.dir=runs/a out=runs/probes methods=[finetune] \\
        finetune.settings={train.epochs:30}
    python -m distill.transfer data.path=TRAIN data.val_path=VAL teacher=efficientnet_lite0 out=runs/probes \\
        "methods=[linear]" save=teacher.safetensors

Nearest neighbours, a linear probe and few-shot episodes on features that are computed once and cached; full fine-tuning
of TinyViTs. `save` writes the model with the linear probe in the place of its classifier, a teacher of TRAIN's classes
(teacher=saved teacher.weights=FILE). Results are in OUT/NAME.json; the table shows every model of OUT with results on
the same data and settings. Several processes (torchrun) compute features together. See docs/transfer.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distill import inputs, train_student
from distill.config import TransferConfig
from distill.config.command import Program, run_program
from distill.probes import few_shot, finetune, knn, linear, results
from distill.probes.extraction import extract_features
from distill.probes.features import Features
from distill.probes.probed_model import ProbedModel, check_data, open_probed_model, save
from distill.runtime import processes
from distill.runtime.processes import Runtime


def main(config: TransferConfig) -> None:
    assert config.data.path and config.data.val_path and config.out
    train = inputs.open_catalog(config.data, config.data.path)
    val = inputs.open_catalog(config.data, config.data.val_path)
    check_data(train, val)
    train_rows = min(config.data.rows or len(train), len(train))
    probed = open_probed_model(config)
    runtime = processes.start(config.compute)
    if "finetune" in config.methods:
        finetune.check(config, probed, runtime)
    out = Path(config.out)
    result = {
        "subject": probed.feature_settings()
        | {"params": probed.params, "macs": probed.macs, "precision": config.compute.precision},
        "data": {
            "train": train.fingerprint, "train_rows": train_rows, "val": val.fingerprint, "val_rows": len(val),
        },
        "settings": {part: asdict(getattr(config, part)) for part in ("knn", "linear", "few_shot")},
    }  # fmt: skip
    scores = runtime.from_main(lambda: results.read_scores(out, probed.name, result))
    if set(config.methods) - {"finetune"}:
        features = extract_features(config, probed, [(train, train_rows), (val, len(val))], runtime)
        if runtime.is_main:
            scores |= probe_features(config, *features, probed=probed, class_names=train.class_names, runtime=runtime)
            results.write(out, probed.name, result | {results.SCORES: scores})
    runtime.finish()
    if "finetune" in config.methods:
        scores["finetune"] = finetune.score(config, probed, train_student=train_student.main)
        results.write(out, probed.name, result | {results.SCORES: scores})
    if runtime.is_main:
        print(results.table(out, result), flush=True)


def probe_features(
    config: TransferConfig, train: Features, val: Features, *, probed: ProbedModel, class_names: Sequence[str],
    runtime: Runtime,
) -> dict[str, Any]:  # fmt: skip
    """The scores of `methods` except fine-tuning, as JSON values. Writes the file of `save`."""
    scores: dict[str, Any] = {}
    num_classes = len(class_names)
    if "knn" in config.methods:
        by_k = knn.score(train, val, **asdict(config.knn), num_classes=num_classes, device=runtime.device)
        scores["knn"] = {str(k): asdict(accuracy) for k, accuracy in by_k.items()}
    if "linear" in config.methods:
        probe = linear.score(train, val, **asdict(config.linear), num_classes=num_classes, device=runtime.device)
        runtime.say(linear.describe(probe))
        scores["linear"] = linear.as_json(probe)
        if config.save:
            save(config, probed.view, probe.classifier, class_names=class_names)
            runtime.say(f"{config.save} written: {probed.name} with {num_classes} classes (teacher=saved)")
    if "few_shot" in config.methods:
        by_shots = few_shot.score(train, val, **asdict(config.few_shot))
        scores["few_shot"] = {str(shots): asdict(accuracy) for shots, accuracy in by_shots.items()}
    return scores


PROGRAM = Program(main, "transfer", schema=TransferConfig, about=__doc__)

if __name__ == "__main__":
    run_program(PROGRAM)
