"""From configuration to the parts a pass is made of, and what is written down about them."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import accelerate
import timm
import torch
import xxhash
import zarr

import logitstore
import models
from distill import views
from distill.config import DataConfig, TeacherConfig
from distill.data.catalog import Catalog, open_catalog
from distill.data.remote import Cache, default_folder
from distill.errors import DistillError, UsageError
from distill.views import ViewSpec


def view_spec(settings: dict[str, Any]) -> ViewSpec:
    """The ViewSpec of the `view` settings. **Raises:** `UsageError` that names a wrong one."""
    try:
        return ViewSpec.from_json(settings)
    except (DistillError, ValueError) as error:
        raise UsageError(f"view: {error}") from None


def teacher(config: TeacherConfig) -> models.Teacher:
    """Builds the teacher of the `teacher` settings with its weights, on the CPU."""
    settings = {name: value for name, value in asdict(config).items() if value is not None}
    for name in ("mean", "std"):
        if name in settings:
            settings[name] = tuple(settings[name])
    return models.build_teacher(**settings)


def catalog(config: DataConfig, path: str) -> Catalog:
    """Opens a data set, a folder or a URL, with the cache that the `data` settings describe."""
    folder = Path(config.cache).expanduser() if config.cache else default_folder()
    cache = Cache(folder=folder, limit_bytes=config.cache_bytes, retries=config.retries, timeout=config.timeout)
    return open_catalog(path, cache=cache)


def data(catalog: Catalog) -> dict[str, Any]:
    """What a store says of the data set its rows belong to."""
    return {
        "fingerprint": catalog.fingerprint,
        "num_samples": len(catalog),
        "class_names": list(catalog.class_names),
    }


def software(view: ViewSpec) -> dict[str, Any]:
    """Versions of everything that decides what a store holds, and a digest of what they make of its views."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "accelerate": accelerate.__version__,
        "zarr": zarr.__version__,
        "views": views.software() | {"digest": view_digest(view)},
    }


def student(catalog: Catalog, store: logitstore.Store | None) -> dict[str, Any]:
    """What a student's weights say of where they come from: data, software, and, if it was distilled, store and
    teacher. Class names are left out: the weights have them."""
    software_now = {"python": platform.python_version(), "torch": torch.__version__, "timm": timm.__version__}
    told: dict[str, Any] = {
        "data": {"path": catalog.where, "fingerprint": catalog.fingerprint, "num_samples": len(catalog)},
        "software": software_now | {"accelerate": accelerate.__version__},
    }
    if store is None:
        return told
    spec = store.spec
    about = {name: getattr(spec, name) for name in ("num_classes", "topk", "num_epochs", "encoding", "store_seed")}
    digest = xxhash.xxh3_128_hexdigest(json.dumps(spec.to_json(), sort_keys=True).encode())
    return told | {
        "store": {"path": str(store.path), "fingerprint": digest, **about, "view": spec.view},
        "teacher": {name: value for name, value in spec.teacher.items() if name != "class_names"},
    }


def view_digest(view: ViewSpec) -> str:
    """Digest of a fixed set of synthetic pictures under a ViewSpec: equal wherever its views come out alike."""
    digests = [views.spec_digest(view), *([views.mix_digest(view.mix)] if view.mix else [])]
    return "-".join(f"{digest:016x}" for digest in digests)


def block_rows(wanted: int, num_samples: int) -> int:
    """Rows of a block: as wanted, or for a small data set no more than it takes, in steps that a store allows."""
    step = 1024 if num_samples <= logitstore.INNER_ROWS else logitstore.INNER_ROWS
    return min(wanted, -(-num_samples // step) * step)
