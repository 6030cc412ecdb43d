"""Opens the inputs that a program's settings name: the data set, the teacher, the view settings.

Each function takes one group of settings; a wrong value is an error that names it. `provenance` makes the records of
these inputs.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from distill import models
from distill.config.data import DataConfig
from distill.config.models import TeacherConfig
from distill.data import catalog
from distill.data.catalog import Catalog
from distill.data.remote import ShardCache, default_folder
from distill.errors import DistillError, UsageError
from distill.views.spec import ViewSpec


def open_view_spec(settings: dict[str, Any]) -> ViewSpec:
    """The ViewSpec of the `view` settings. **Raises:** `UsageError` that names a wrong one."""
    try:
        return ViewSpec.from_json(settings)
    except (DistillError, ValueError) as error:
        raise UsageError(f"view: {error}") from None


def open_teacher(config: TeacherConfig) -> models.ImageModel:
    """Builds the teacher of the `teacher` settings with its weights, on the CPU."""
    settings = {name: value for name, value in asdict(config).items() if value is not None}
    for name in ("mean", "std"):
        if name in settings:
            settings[name] = tuple(settings[name])
    return models.build_teacher(**settings)


def open_catalog(config: DataConfig, path: str) -> Catalog:
    """Opens a data set, a folder or a URL, with the cache that the `data` settings describe."""
    folder = Path(config.cache).expanduser() if config.cache else default_folder()
    cache = ShardCache(folder=folder, limit_bytes=config.cache_bytes, retries=config.retries, timeout=config.timeout)
    return catalog.open_catalog(path, cache=cache)
