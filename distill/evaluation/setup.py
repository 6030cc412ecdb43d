"""The parts of an evaluation, each made from the configuration: images, model, metrics.

`distill.evaluate` puts them together, and `score.evaluate` runs them.
"""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path

from distill import inputs, models
from distill.config import EvalConfig, EvaluateConfig
from distill.data.batches import EvalBatches
from distill.data.image_folder import Images, is_packed, open_image_folder
from distill.evaluation import class_mapping
from distill.evaluation.metrics import Agreement, Calibration, Real
from distill.evaluation.real_labels import open_real_labels
from distill.evaluation.score import Metric
from distill.models.weights.class_maps import Remapped
from distill.runs import run_dir
from distill.runtime.model_input import Normalise
from distill.runtime.processes import Runtime
from distill.views import EvalSpec
from logitstore.storage import is_url


def open_images(config: EvaluateConfig) -> Images:
    """The labelled images, packed or an image folder."""
    path = config.data.val_path
    assert path
    return inputs.open_catalog(config.data, path) if is_packed(path) else open_image_folder(path)


def damage_file(val_path: str) -> Path:
    """Where damaged images are recorded: beside the data set, or for a remote one in the working folder."""
    path = Path(f"{val_path.rstrip('/')}.damaged.jsonl")
    return Path(path.name) if is_url(val_path) else path


def open_model(config: EvaluateConfig) -> tuple[models.ImageModel, EvalConfig]:
    """The model to score, with its weights, and its evaluation settings.

    **Raises:** `DistillError` if the run is not finished.
    """
    if config.teacher:
        teacher = inputs.open_teacher(
            replace(config.teacher, image_size=config.eval.image_size or config.teacher.image_size)
        )
        return teacher, _changed(config, EvalConfig(crop=teacher.crop, interpolation=teacher.interpolation))
    assert config.run.dir
    folder = Path(config.run.dir)
    weights = run_dir.finished_weights(folder)
    student = models.build_teacher(kind="tiny_vit", weights=str(weights), image_size=config.eval.image_size)
    return student, _changed(config, run_dir.read_config(folder).eval)


def _changed(config: EvaluateConfig, settings: EvalConfig) -> EvalConfig:
    """The settings, changed by those of `eval.` that are set."""
    names = {field.name for field in fields(settings)}
    given = {name: value for name, value in asdict(config.eval).items() if name in names and value is not None}
    return replace(settings, **given)


def make_metrics(config: EvaluateConfig, images: Images, settings: EvalConfig, runtime: Runtime) -> list[Metric]:
    """The metrics beside accuracy and loss that the configuration asks for."""
    metrics: list[Metric] = [Calibration(bins=config.eval.bins, device=runtime.device)]
    if config.eval.real_labels:
        metrics.append(Real(open_real_labels(config.eval.real_labels, images), device=runtime.device))
    if config.against:
        metrics.append(_agreement(config, images, settings, runtime))
    return metrics


def _agreement(config: EvaluateConfig, images: Images, settings: EvalConfig, runtime: Runtime) -> Agreement:
    assert config.against
    teacher = inputs.open_teacher(config.against)
    class_map = class_mapping.map_to_data(teacher, images, classes=config.eval.classes)
    net = Remapped(teacher.net, class_map) if class_map else teacher.net
    runtime.place(net, config.compute)
    return Agreement(
        net.eval(),
        EvalBatches(
            images, spec=EvalSpec(crop=teacher.crop, interpolation=teacher.interpolation), size=teacher.image_size
        ),
        normalise=Normalise(
            teacher.mean, teacher.std, device=runtime.device, channels_last=config.compute.channels_last
        ),
        batch_size=settings.batch_size,
        workers=config.data.workers,
        runtime=runtime,
    )
