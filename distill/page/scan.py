"""Reads blocks of a store, spread over it, for what the page says of the whole: histograms of the teacher's certainty,
the rows that stand out, and which of these blocks are damaged.

The same rows are read in several epochs at once, so that the teacher's answers to different views of a row can be
compared. In memory is one slice of rows in those epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

import logitstore
from distill.page.classes import Classes
from distill.page.disagreement import disagreement
from distill.page.ranking import Ranking
from logitstore.tools.stats import QUANTITIES, quantities

BINS = 30
"""No finer than the steps in which `log8` keeps a tail of about a half, or bars between them would be empty."""
_SLICE_ROWS, _SLICE_ENTRIES = 1024, 2_000_000
"""Of one slice, at most: rows, and kept classes in all its epochs."""

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Spread:
    """A histogram over [0, high], and its mean."""

    high: float
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    total: float = 0.0

    def add(self, values: Floats) -> None:
        places = np.clip((values / self.high * BINS).astype(np.int64), 0, BINS - 1)
        self.counts += np.bincount(places, minlength=BINS)
        self.total += float(values.sum())

    @property
    def mean(self) -> float:
        return self.total / max(int(self.counts.sum()), 1)


@dataclass(slots=True)
class Scan:
    """What was found in the blocks that were read."""

    read: Bools
    """(E, B) which blocks were read in full."""
    damaged: Bools
    """(E, B) which of them are damaged."""
    spreads: dict[str, Spread]
    """By quantity, as `logitstore.tools.stats.QUANTITIES` names them, over all views."""
    confident: Ranking
    """By the probability of the first class, a mean over epochs."""
    hard: Ranking
    """By the probability of the label, or, where labels are not the teacher's classes, by entropy."""
    disputed: Ranking
    """By the disagreement between epochs."""
    by_label: bool
    """Whether `hard` goes by the label."""
    faults: list[str] = field(default_factory=list)
    """Messages about damage."""
    views: int = 0
    labelled: int = 0
    """Views whose label is one of the teacher's classes."""
    agreed: int = 0
    """Those of them whose first class is the label."""
    empty: int = 0
    """Views of which nothing is kept, as of pictures that could not be read."""


def scan(
    store: logitstore.Store, classes: Classes, *, blocks: int | None, epochs: int, most: int,
    progress: Callable[[int], None],
) -> Scan:  # fmt: skip
    """Reads about `blocks` blocks (None: all that are there).

    **Arguments:** `epochs`: of a row, that are compared at most (unless all blocks are read); `most`: rows of each
    kind; `progress` is told of blocks as they are read.
    """
    spec, done = store.spec, store.done()
    high = {name: 1.0 for name in QUANTITIES} | {"entropy": max(float(np.log(spec.num_classes)), 1e-9)}
    found = Scan(
        read=np.zeros_like(done), damaged=np.zeros_like(done),
        spreads={name: Spread(high=high[name]) for name in QUANTITIES},
        confident=Ranking(most), hard=Ranking(most), disputed=Ranking(most),
        by_label=classes.class_of_label is not None and _has_labels(store),
    )  # fmt: skip
    for block, chosen in plan(done, blocks=blocks, epochs=epochs):
        sound = list(chosen)
        rows = spec.block_rows(block)
        step = max(1, min(_SLICE_ROWS, _SLICE_ENTRIES // (spec.topk * len(chosen))))
        for first in range(rows.start, rows.stop, step):
            part = range(first, min(first + step, rows.stop))
            views = _read(store, found, sound, part)
            if views:
                _count(found, views, np.arange(part.start, part.stop), _labels(store, found, classes, part))
        found.read[chosen, block] = True
        progress(len(chosen))
    return found


def plan(done: Bools, *, blocks: int | None, epochs: int) -> Iterator[tuple[int, list[int]]]:
    """Which blocks to read: (block, epochs), spread evenly over the blocks and, of each, over the epochs it has."""
    present = np.flatnonzero(done.any(axis=0))
    if blocks is not None:
        epochs = min(epochs, blocks)
        per_block = np.minimum(done[:, present].sum(axis=0), epochs)
        present = spread(present, max(1, blocks // max(1, round(float(per_block.mean())))) if len(present) else 0)
    for block in present.tolist():
        there = np.flatnonzero(done[:, block])
        yield block, (there if blocks is None else spread(there, epochs)).tolist()


def spread(values: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """At most `count` of some values, evenly spread, the first and the last among them."""
    return values if len(values) <= count else values[np.linspace(0, len(values) - 1, count).round().astype(int)]


def _read(store: logitstore.Store, found: Scan, sound: list[int], part: range) -> list[logitstore.Rows]:
    """Some rows in the epochs that are `sound`; an epoch whose block turns out to be damaged is removed from them."""
    views, block = [], part.start // store.spec.rows_per_block
    for epoch in tuple(sound):
        try:
            views.append(store.read(epoch=epoch, rows=slice(part.start, part.stop)))
        except (logitstore.DamagedBlock, logitstore.MissingBlocks) as error:
            sound.remove(epoch)
            found.damaged[epoch, block] = True
            found.faults.append(str(error))
    return views


def _has_labels(store: logitstore.Store) -> bool:
    """Whether the first rows' labels can be read and any is known."""
    try:
        return bool((store.labels(slice(0, logitstore.INNER_ROWS)) >= 0).any())
    except logitstore.DamagedBlock:
        return False


def _labels(store: logitstore.Store, found: Scan, classes: Classes, part: range) -> npt.NDArray[np.int64]:
    try:
        return classes.class_of(store.labels(slice(part.start, part.stop)))
    except logitstore.DamagedBlock as error:
        if str(error) not in found.faults:
            found.faults.append(str(error))
        return np.full(len(part), -1, np.int64)


def _count(
    found: Scan, views: list[logitstore.Rows], rows: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]
) -> None:
    """Adds one slice of rows (n,) in some epochs to the figures."""
    kept_en = np.stack([np.isfinite(view.logprobs).any(axis=1) for view in views])
    figures = [quantities(view) for view in views]
    for name, each in found.spreads.items():
        for kept_n, values in zip(kept_en, figures, strict=True):
            each.add(values[name][kept_n])
    right_en = np.stack([view.indices[:, 0] == labels for view in views]) & kept_en
    found.views += kept_en.size
    found.empty += int((~kept_en).sum())
    found.labelled += int((kept_en & (labels >= 0)).sum())
    found.agreed += int((right_en & (labels >= 0)).sum())

    means = {name: _mean(np.stack([each[name] for each in figures]), kept_en) for name in ("top1", "entropy")}
    found.confident.add(rows, means["top1"])
    if found.by_label:
        probability_en = np.stack([probability_of(view, labels) for view in views])
        found.hard.add(rows, np.where(labels >= 0, _mean(-probability_en, kept_en), -np.inf))
    else:
        found.hard.add(rows, means["entropy"])
    whole_n = kept_en.all(axis=0)
    if len(views) > 1:
        found.disputed.add(rows, np.where(whole_n, disagreement(views), -np.inf))


def _mean(values_en: Floats, kept_en: Bools) -> Floats:
    """The mean over the epochs in which something is kept, (n,); minus infinity where there is none."""
    number_n = kept_en.sum(axis=0)
    sums = np.where(kept_en, values_en, 0).sum(axis=0)
    return np.where(number_n > 0, sums / np.maximum(number_n, 1), -np.inf)


def probability_of(view: logitstore.Rows, classes: npt.NDArray[np.int64]) -> Floats:
    """The probability of one class in each of n views, (n,): as it is kept, else an even share of the tail."""
    stored_nk = np.isfinite(view.logprobs)
    same_nk = stored_nk & (view.indices == classes[:, None])
    others_n = np.maximum(view.num_classes - stored_nk.sum(axis=1), 1)
    kept_n = np.where(same_nk, np.exp(view.logprobs.astype(np.float64)), 0).sum(axis=1)
    share_n = np.exp(view.tail.astype(np.float64)) / others_n
    return np.asarray(np.where(same_nk.any(axis=1), kept_n, share_n), np.float64)
