"""Provenance: the records of data, software and teacher that a store and a student's weights carry."""

from __future__ import annotations

import json
import platform
from typing import Any

import accelerate
import timm
import torch
import xxhash
import zarr

import logitstore
from distill import views
from distill.data.catalog import Catalog
from distill.views import ViewSpec
from distill.views.digest import view_digest


def data_record(catalog: Catalog) -> dict[str, Any]:
    """A store's record of the data set that its rows belong to."""
    return {
        "fingerprint": catalog.fingerprint,
        "num_samples": len(catalog),
        "class_names": list(catalog.class_names),
    }


def software_record(view: ViewSpec) -> dict[str, Any]:
    """A store's record of the software that made it: all versions that its content depends on, and a digest of views
    rendered by them."""
    return _versions() | {"zarr": zarr.__version__, "views": views.software() | {"digest": view_digest(view)}}


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "accelerate": accelerate.__version__,
    }


def student_record(catalog: Catalog, store: logitstore.Store | None) -> dict[str, Any]:
    """The record in a student's weights: data, software, and, if it was distilled, store and teacher. Class names are
    not in it: the weights have their own."""
    record: dict[str, Any] = {
        "data": {"path": catalog.where, "fingerprint": catalog.fingerprint, "num_samples": len(catalog)},
        "software": _versions(),
    }
    if store is None:
        return record
    spec = store.spec
    shape = {name: getattr(spec, name) for name in ("num_classes", "topk", "num_epochs", "encoding", "store_seed")}
    digest = xxhash.xxh3_128_hexdigest(json.dumps(spec.to_json(), sort_keys=True).encode())
    return record | {
        "store": {"path": str(store.path), "fingerprint": digest, **shape, "view": spec.view},
        "teacher": {name: value for name, value in spec.teacher.items() if name != "class_names"},
    }
