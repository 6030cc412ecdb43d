"""Pretraining by distillation from stored logits.

The library: a data set of views with their targets, the loss, and a way to fill a store from any source of logits.
docs/library.md shows each in use. `distill.models` builds, loads and exports networks, `distill.views` draws and
renders, `logitstore` reads and writes stores. The programs are `python -m distill.NAME`, or the command `distill`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill.data.catalog import Catalog as Catalog
    from distill.data.catalog import open_catalog as open_catalog
    from distill.errors import DistillError as DistillError
    from distill.replay.dataset import EpochSampler as EpochSampler
    from distill.replay.dataset import ViewDataset as ViewDataset
    from distill.replay.dataset import ViewItem as ViewItem
    from distill.runtime.model_input import Normalise as Normalise
    from distill.targets.losses import soft_target_loss as soft_target_loss
    from distill.targets.sparse import SparseTargets as SparseTargets
    from distill.teacher.fill import StoreFiller as StoreFiller
    from distill.views import ViewSpec as ViewSpec

# Imported when first used: `import distill` alone loads neither torch nor the image libraries.
_HOMES = {
    "Catalog": "distill.data.catalog",
    "DistillError": "distill.errors",
    "EpochSampler": "distill.replay.dataset",
    "Normalise": "distill.runtime.model_input",
    "SparseTargets": "distill.targets.sparse",
    "StoreFiller": "distill.teacher.fill",
    "ViewDataset": "distill.replay.dataset",
    "ViewItem": "distill.replay.dataset",
    "ViewSpec": "distill.views",
    "open_catalog": "distill.data.catalog",
    "soft_target_loss": "distill.targets.losses",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'distill' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
