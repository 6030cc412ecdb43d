"""From a subject and its data sets to their features: from the cache where they are there, else computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill.config import TransferConfig
from distill.data.batches import EvalBatches
from distill.data.catalog import Catalog
from distill.data.damage_log import DamageLog
from distill.errors import DistillError
from distill.evaluation import setup
from distill.probes import features
from distill.probes.features import Features
from distill.probes.probed_model import Subject
from distill.runtime.model_input import Normalise
from distill.runtime.processes import Runtime
from distill.views import EvalSpec


def features_of(
    config: TransferConfig, subject: Subject, catalogs: dict[str, Catalog], runtime: Runtime
) -> list[Features]:
    """The features of each data set, `data.rows` of the one named train. Every process must call; all get them.

    **Raises:** `DistillError` where no row of one has a label and can be read.
    """
    found, placed = [], False
    for side, catalog in catalogs.items():
        num_rows = min(config.data.rows or len(catalog), len(catalog)) if side == "train" else len(catalog)
        about = _about(config, subject, catalog, num_rows)
        cache = _cache(config)
        if runtime.from_main(lambda about=about, cache=cache: features.is_cached(cache, about)):  # type: ignore[misc]
            runtime.say(f"features of {catalog.where}: {num_rows} rows, from {cache}")
        else:
            if not placed:
                runtime.place(subject.model.net, config.compute)
                placed = True
            _compute(config, subject, catalog, num_rows=num_rows, about=about, runtime=runtime)
        labelled = features.read(cache, about, catalog.labels[:num_rows])
        if not len(labelled):
            raise DistillError(f"{catalog.where} has no labelled picture that can be read")
        found.append(labelled)
    return found


def _compute(
    config: TransferConfig, subject: Subject, catalog: Catalog, *, num_rows: int, about: dict[str, Any],
    runtime: Runtime,
) -> None:  # fmt: skip
    model, view = subject.model, subject.view
    spec = EvalSpec(crop=view.crop, interpolation=view.interpolation, full=view.full)
    damage_log = DamageLog(
        damaged=config.data.damaged,
        path=setup.damage_file(catalog.where),
        rank=runtime.rank,
    )
    features.compute(
        model.net, EvalBatches(catalog, spec=spec, size=model.image_size), num_rows=num_rows, about=about,
        cache=_cache(config), batch_size=config.features.batch_size, workers=config.data.workers, damage_log=damage_log,
        normalise=Normalise(model.mean, model.std, device=runtime.device, channels_last=config.compute.channels_last),
        runtime=runtime,
    )  # fmt: skip
    if note := damage_log.summary():
        print(note, flush=True)


def _about(config: TransferConfig, subject: Subject, catalog: Catalog, num_rows: int) -> dict[str, Any]:
    told = {"data": catalog.fingerprint, "rows": num_rows, "precision": config.compute.precision}
    return subject.about() | told


def _cache(config: TransferConfig) -> Path:
    assert config.out
    return Path(config.features.cache).expanduser() if config.features.cache else Path(config.out) / "features"
