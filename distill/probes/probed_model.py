"""The model under test: a run's student, a teacher or any timm model, without its classifier; and the same model saved
with a probe's classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distill import models
from distill.config import EvalChangeConfig, EvalConfig, EvaluateConfig, TransferConfig
from distill.data.catalog import Catalog
from distill.errors import DistillError
from distill.evaluation import setup
from distill.models.features.embedding import remove_classifier
from distill.probes.linear import Classifier
from distill.runs import run_dir


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedModel:
    name: str
    """In the table, and of the file of its results."""
    model: models.ImageModel
    """Its network returns features."""
    view: EvalConfig
    """How images are cropped and resized for it."""
    weights: Path | None
    """Of a TinyViT: the file that fine-tuning starts from."""
    config: models.TinyViTConfig | None
    """Of a TinyViT."""
    params: int
    macs: int
    """Multiply-accumulates per image at its size, the classifier included as in `params`."""

    def feature_settings(self) -> dict[str, Any]:
        """All that decides the features of an image, except precision, as JSON values."""
        model = self.model
        return {
            "kind": model.kind,
            "model": model.name,
            "weights_sha256": model.weights_sha256,
            "image_size": model.image_size,
            "mean": list(model.mean),
            "std": list(model.std),
            "crop": None if self.view.full else self.view.crop,
            "interpolation": self.view.interpolation,
        }


def open_probed_model(config: TransferConfig) -> ProbedModel:
    """Loads the configuration's model, on the CPU.

    **Raises:** `DistillError` if a run is not finished; `models.ModelError` and `models.WeightsError` for a model that
    cannot be built, or has no features.
    """
    model, view = _open(config)
    if config.save:
        models.check_saveable(model.net, name=model.name)
    weights = None
    if config.run.dir:
        weights = Path(config.run.dir) / run_dir.WEIGHTS
    elif config.teacher and config.teacher.weights:
        weights = Path(config.teacher.weights)
    name = config.name or (Path(config.run.dir).resolve().name if config.run.dir else model.name)
    tiny_vit = model.net if isinstance(model.net, models.TinyViT) else None
    params, macs = models.count_params(model.net), models.count_macs(model.net, model.image_size)
    remove_classifier(model.net, name=name)
    return ProbedModel(
        name=name, model=model, view=view, weights=weights if tiny_vit else None,
        config=tiny_vit.config if tiny_vit else None, params=params, macs=macs,
    )  # fmt: skip


def save(config: TransferConfig, view: EvalConfig, classifier: Classifier, *, class_names: Sequence[str]) -> None:
    """Writes the configuration's model, with `classifier` in the place of its own, to `config.save`.

    **Raises:** `DistillError` where the folder of the file cannot be made.
    """
    assert config.save
    weight_cd, bias_c = classifier.folded()
    model = replace(_open(config)[0], crop=view.crop, interpolation=view.interpolation)
    path = Path(config.save)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DistillError(f"save={path}: {error.strerror}") from None
    models.save_teacher(model, path, weight_cd=weight_cd, bias_c=bias_c, class_names=class_names)


def _open(config: TransferConfig) -> tuple[models.ImageModel, EvalConfig]:
    """The model with its classifier, and how images are cropped and resized for it."""
    features = config.features
    evaluate = EvaluateConfig(
        data=config.data,
        run=config.run,
        teacher=config.teacher,
        eval=EvalChangeConfig(
            batch_size=features.batch_size, crop=features.crop, interpolation=features.interpolation,
            full=features.full, image_size=features.image_size,
        ),
    )  # fmt: skip
    return setup.open_model(evaluate)


def check_data(train: Catalog, val: Catalog) -> None:
    """**Raises:** `DistillError` unless both data sets have the same classes, two at least."""
    if train.class_names != val.class_names:
        raise DistillError(
            f"{train.where} has {train.num_classes} classes and {val.where} {val.num_classes}, or others: a probe "
            "learns the classes it is scored on"
        )
    if train.num_classes < 2:
        raise DistillError(f"{train.where} has {train.num_classes} classes: a probe needs two at least")
