"""Statistics of a teacher's outputs: how certain it was, how much mass the top-k has, how often it agreed with
labels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitstore.errors import MissingBlocks, StoreError
from logitstore.rows import Rows
from logitstore.store import Store
from logitstore.tools.describe import sizes
from logitstore.tools.names import class_names, labels_are_classes

BINS = 20
QUANTITIES = {
    "kept_mass": "mass of the top-k classes",
    "top1": "probability of the most probable class",
    "entropy": "entropy in nats, the tail uniform",
}
"""What is measured of each view: key in the result, and its title."""


@dataclass(slots=True)
class _Histogram:
    """Counts of values from 0 to `high`, and their sum."""

    high: float
    counts: NDArray[np.int64]
    sum: float = 0.0

    def add(self, values: NDArray[np.float64]) -> None:
        bins = np.clip((values / self.high * BINS).astype(np.int64), 0, BINS - 1)
        self.counts += np.bincount(bins, minlength=BINS)
        self.sum += float(values.sum())

    def to_json(self) -> dict[str, Any]:
        return {
            "mean": self.sum / max(int(self.counts.sum()), 1),
            "counts": self.counts.tolist(),
            "edges": np.linspace(0, self.high, BINS + 1).tolist(),
        }


def statistics(
    store: Store, *, blocks: int | None = None, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Statistics over the committed blocks as JSON values. One block is in memory at a time.

    **Arguments** blocks: read only so many blocks, at even distances; None for all; progress: called with (blocks read,
    blocks to read).

    **Returns** `views`, `blocks`; for each of `QUANTITIES` the mean and a histogram; `labels`: views with a label,
    whether labels are the teacher's classes (`comparable`), how many views the teacher agrees with, and the same for
    each label; `bytes_by_array`.

    Raises `MissingBlocks` where nothing is committed, `DamagedBlock`.
    """
    spec, done = store.spec, store.done()
    picked = np.argwhere(done)
    if not len(picked):
        raise MissingBlocks(f"{store.path} has no block yet: run the teacher pass first")
    if blocks is not None and blocks < len(picked):
        picked = picked[np.linspace(0, len(picked) - 1, blocks).astype(np.int64)]
    histograms = {name: _Histogram(1.0, np.zeros(BINS, np.int64)) for name in QUANTITIES}
    histograms["entropy"].high = max(float(np.log(spec.num_classes)), 1e-9)
    seen, agreed, views = np.zeros(1, np.int64), np.zeros(1, np.int64), 0
    for count, (epoch, block) in enumerate(picked.tolist()):
        if progress is not None:
            progress(count, len(picked))
        read = store.read(epoch=epoch, rows=spec.block_rows(block))
        labels = store.labels(spec.block_rows(block))
        for name, values in quantities(read).items():
            histograms[name].add(values)
        agrees = (labels >= 0) & (read.indices[:, 0] == labels) & np.isfinite(read.logprobs[:, 0])
        seen, agreed = _added(seen, labels[labels >= 0]), _added(agreed, labels[agrees])
        views += len(read)
    if progress is not None:
        progress(len(picked), len(picked))
    by_array, exact = sizes(store, done)
    return {
        "path": store.path,
        "views": views,
        "blocks": len(picked),
        "blocks_committed": int(done.sum()),
        **{name: histogram.to_json() for name, histogram in histograms.items()},
        "labels": _label_facts(store, seen, agreed),
        "bytes_by_array": by_array,
        "bytes_are_exact": exact,
    }


def quantities(views: Rows) -> dict[str, NDArray[np.float64]]:
    """Mass of the top-k classes, top-1 probability, and entropy in nats with the tail uniform over the other classes,
    each (n,)."""
    logprobs = views.logprobs.astype(np.float64)
    probabilities = np.exp(logprobs)
    stored = np.isfinite(logprobs)
    others = np.maximum(views.num_classes - stored.sum(axis=1), 1)
    tail = np.exp(views.tail.astype(np.float64))
    inside = -(probabilities * np.where(stored, logprobs, 0)).sum(axis=1)
    outside = -tail * np.where(tail > 0, views.tail - np.log(others), 0)
    return {
        "kept_mass": probabilities.sum(axis=1),
        "top1": probabilities[:, 0],
        "entropy": inside + outside,
    }


def plot(facts: dict[str, Any], path: str) -> None:
    """Plot the histograms of `statistics` into a file. Raises `StoreError`, also where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise StoreError("a plot needs matplotlib: pip install matplotlib") from None
    figure = Figure(figsize=(4 * len(QUANTITIES), 3), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(1, len(QUANTITIES)), QUANTITIES.items(), strict=True):
        axes.stairs(facts[name]["counts"], facts[name]["edges"], fill=True)
        axes.set_title(f"mean {facts[name]['mean']:.3f}", fontsize=9)
        axes.set_xlabel(title)
        axes.set_ylabel("views")
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be written ({error}): name a .png file in a folder that exists") from None


def _added(counts: NDArray[np.int64], values: NDArray[np.int32]) -> NDArray[np.int64]:
    more = np.bincount(values, minlength=len(counts)).astype(np.int64)
    more[: len(counts)] += counts
    return more


def _label_facts(store: Store, seen: NDArray[np.int64], agreed: NDArray[np.int64]) -> dict[str, Any]:
    names = class_names(store)
    by_label = [
        {
            "label": label,
            "name": names.label_name(label),
            "views": int(seen[label]),
            "top1_agrees": int(agreed[label]) if label < len(agreed) else 0,
        }
        for label in np.flatnonzero(seen).tolist()
    ]
    comparable = labels_are_classes(store.spec)
    return {
        "views": int(seen.sum()),
        "comparable": comparable,
        "top1_agrees": int(agreed.sum()),
        "by_label": by_label,
    }
