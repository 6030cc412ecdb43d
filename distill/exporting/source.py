"""What is exported: a network, its input, and the record of where it comes from."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distill import models
from distill.config import ExportConfig
from distill.files import read_json_object, read_text
from distill.models.weights.class_maps import synset_ids
from distill.models.weights.convert import convert
from distill.runs import run_dir

_PROVENANCE = "provenance"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSource:
    """A network with its input and its history."""

    net: models.TinyViT
    """On the CPU, in evaluation mode."""
    weights: Path
    """The file its weights come from."""
    model: models.ImageModel
    """The network as the file has it, with normalisation, crop, interpolation and class names."""
    changes: tuple[str, ...]
    """What this export changed in it, one sentence each."""
    class_names: tuple[str, ...] | None
    run: str | None
    """The run's configuration as YAML."""
    scores: dict[str, Any]
    """Of the run's summary."""
    history: dict[str, Any]
    """What the training wrote into the file about its data, store, teacher and software."""

    def metadata(self) -> dict[str, str]:
        """The metadata of the exported file: name -> JSON."""
        values: dict[str, Any] = {
            "mean": list(self.model.mean),
            "std": list(self.model.std),
            "crop": self.model.crop,
            "interpolation": self.model.interpolation,
        }
        if self.class_names:
            values["class_names"] = list(self.class_names)
        values[_PROVENANCE] = self.history | {
            "weights_sha256": self.model.weights_sha256, "changes": list(self.changes),
        }  # fmt: skip
        return {name: json.dumps(value) for name, value in values.items()}


def open_source(config: ExportConfig) -> ExportSource:
    """Loads the weights that the configuration names, and converts head and image size as it says.

    **Raises:** `DistillError` if a run is not finished; `models.ModelError` for weights that cannot be read or
    converted.
    """
    folder = Path(config.run.dir) if config.run.dir else None
    weights = run_dir.finished_weights(folder) if folder else Path(config.weights or "")
    named = config.model
    model = models.build_teacher(
        kind="tiny_vit", name=named.name, weights=weights, num_classes=named.num_classes, image_size=named.image_size
    )
    assert isinstance(model.net, models.TinyViT)
    source = ExportSource(
        net=model.net,
        weights=weights,
        model=model,
        changes=(),
        class_names=model.class_names,
        run=read_text(folder / run_dir.CONFIG) if folder else None,
        scores=_scores(folder) if folder else {},
        history={} if named.name else _history(weights),
    )
    return _converted(source, config)


def _converted(source: ExportSource, config: ExportConfig) -> ExportSource:
    if config.classes:
        class_map = models.match_classes("imagenet_22k", config.classes)
        source = replace(
            source,
            net=convert(source.net, class_map=class_map),
            class_names=synset_ids(config.classes),
            changes=(
                *source.changes,
                f"head re-mapped from {class_map.num_sources} to {class_map.num_targets} classes by WordNet ids; "
                f"{len(class_map.missing)} without a counterpart got the mean of the others",
            ),
        )
    if config.image_size and config.image_size != source.net.config.image_size:
        before = source.net.config
        net = convert(source.net, image_size=config.image_size)
        change = (
            f"windows {list(before.windows)} for {before.image_size} px resized to {list(net.config.windows)} for "
            f"{config.image_size} px, bicubic; not trained since"
        )
        source = replace(source, net=net, changes=(*source.changes, change))
    return source


def _scores(folder: Path) -> dict[str, Any]:
    path = folder / run_dir.SUMMARY
    return read_json_object(path) if path.exists() else {}


def _history(weights: Path) -> dict[str, Any]:
    text = models.describe_weights(weights).get(_PROVENANCE)
    return dict(json.loads(text)) if text else {}
