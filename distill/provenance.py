"""From configuration to the parts a pass is made of, and what is written down about them."""

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
