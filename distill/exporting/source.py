"""What is exported: a network, how it is used, and all that is known of where it comes from."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distill import models
from distill.config import ExportConfig
from distill.errors import DistillError
from distill.models.weights.class_maps import synset_ids
from distill.models.weights.convert import convert
from distill.runs import run_dir

_PROVENANCE = "provenance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model and its history."""

    net: models.TinyViT
    """On the CPU, in evaluation mode."""
    source: Path
    """The file its weights come from."""
    teacher: models.ImageModel
    """The same as it came from the file: statistics, crop, interpolation and class names."""
    changes: tuple[str, ...]
    """What was done to it since, a sentence each."""
    class_names: tuple[str, ...] | None
    run: str | None
    """The run's configuration as YAML."""
    scores: dict[str, Any]
    """Of the run's summary."""
    history: dict[str, Any]
    """What training wrote into the file: data, store, teacher, software."""

    def metadata(self) -> dict[str, str]:
        """What a file of weights says about itself, as text."""
        told: dict[str, Any] = {
            "mean": list(self.teacher.mean),
            "std": list(self.teacher.std),
            "crop": self.teacher.crop,
            "interpolation": self.teacher.interpolation,
        }
        if self.class_names:
            told["class_names"] = list(self.class_names)
        history = self.history | {"weights_sha256": self.teacher.weights_sha256, "changes": list(self.changes)}
        return {name: json.dumps(value) for name, value in told.items()} | {_PROVENANCE: json.dumps(history)}


def open_subject(config: ExportConfig) -> Subject:
    """Loads what the configuration names, and converts it as asked.

    **Raises:** `DistillError` if a run is not finished; `models.ModelError` for weights that cannot be read or
    converted.
    """
    folder = Path(config.run.dir) if config.run.dir else None
    source = folder / run_dir.WEIGHTS if folder else Path(config.weights or "")
    if folder:
        run_dir.read_config(folder)
        if not source.exists():
            raise DistillError(f"{folder} has no {run_dir.WEIGHTS} yet: let `distill.train_student` finish the run")
    model = config.model
    teacher = models.build_teacher(
        kind="tiny_vit", name=model.name, weights=source, num_classes=model.num_classes, image_size=model.image_size
    )
    assert isinstance(teacher.net, models.TinyViT)
    subject = Subject(
        net=teacher.net,
        source=source,
        teacher=teacher,
        changes=(),
        class_names=teacher.class_names,
        run=(folder / run_dir.CONFIG).read_text() if folder else None,
        scores=_scores(folder) if folder else {},
        history={} if model.name else _history(source),
    )
    return _converted(subject, config)


def _converted(subject: Subject, config: ExportConfig) -> Subject:
    if config.classes:
        class_map = models.match_classes("imagenet_22k", config.classes)
        subject = replace(
            subject,
            net=convert(subject.net, class_map=class_map),
            class_names=synset_ids(config.classes),
            changes=(
                *subject.changes,
                f"head re-mapped from {class_map.num_sources} to {class_map.num_targets} classes by WordNet ids; "
                f"{len(class_map.missing)} without a counterpart got the mean of the others",
            ),
        )
    if config.image_size and config.image_size != subject.net.config.image_size:
        before = subject.net.config
        net = convert(subject.net, image_size=config.image_size)
        change = (
            f"windows {list(before.windows)} for {before.image_size} px resized to {list(net.config.windows)} for "
            f"{config.image_size} px, bicubic; not trained since"
        )
        subject = replace(subject, net=net, changes=(*subject.changes, change))
    return subject


def _scores(folder: Path) -> dict[str, Any]:
    path = folder / run_dir.SUMMARY
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _history(source: Path) -> dict[str, Any]:
    text = models.describe_weights(source).get(_PROVENANCE)
    return dict(json.loads(text)) if text else {}
