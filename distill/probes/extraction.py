"""From a probed model and data sets to features: read from the cache where they are there, else computed."""

from __future__ import annotations

from collections.abc import Iterable
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
from distill.probes.probed_model import ProbedModel
from distill.runtime.model_input import Normalise
from distill.runtime.processes import Runtime
from distill.views import EvalSpec


def extract_features(
    config: TransferConfig, probed: ProbedModel, data: Iterable[tuple[Catalog, int]], runtime: Runtime
) -> list[Features]:
    """The features of the first rows of each data set. Every process must call; all get them.

    **Arguments:** `data`: catalogs, each with its number of rows.

    **Raises:** `DistillError` where a data set has no labelled row that can be read.
    """
    extracted, cache, is_placed = [], _cache_dir(config), False
    for catalog, num_rows in data:
        cache_key = probed.feature_settings() | {
            "data": catalog.fingerprint, "rows": num_rows, "precision": config.compute.precision,
        }  # fmt: skip
        if runtime.from_main(lambda cache_key=cache_key: features.is_cached(cache, cache_key)):  # type: ignore[misc]
            runtime.say(f"features of {catalog.where}: {num_rows} rows, from {cache}")
        else:
            if not is_placed:
                runtime.place(probed.model.net, config.compute)
                is_placed = True
            _compute(config, probed, catalog, num_rows=num_rows, cache_key=cache_key, runtime=runtime)
        labelled = features.read(cache, cache_key, catalog.labels[:num_rows])
        if not len(labelled):
            raise DistillError(f"{catalog.where} has no labelled image that can be read")
        extracted.append(labelled)
    return extracted


def _compute(
    config: TransferConfig, probed: ProbedModel, catalog: Catalog, *, num_rows: int, cache_key: dict[str, Any],
    runtime: Runtime,
) -> None:  # fmt: skip
    model, view = probed.model, probed.view
    spec = EvalSpec(crop=view.crop, interpolation=view.interpolation, full=view.full)
    damage_log = DamageLog(
        damaged=config.data.damaged,
        path=setup.damage_file(catalog.where),
        rank=runtime.rank,
    )
    features.compute(
        model.net, EvalBatches(catalog, spec=spec, size=model.image_size), num_rows=num_rows, cache_key=cache_key,
        cache=_cache_dir(config), batch_size=config.features.batch_size, workers=config.data.workers,
        damage_log=damage_log,
        normalise=Normalise(model.mean, model.std, device=runtime.device, channels_last=config.compute.channels_last),
        runtime=runtime,
    )  # fmt: skip
    if note := damage_log.summary():
        print(note, flush=True)


def _cache_dir(config: TransferConfig) -> Path:
    assert config.out
    return Path(config.features.cache).expanduser() if config.features.cache else Path(config.out) / "features"
