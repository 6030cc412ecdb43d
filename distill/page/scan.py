"""Reads blocks evenly spaced over a store: histograms of the teacher's confidence, the rows that stand out, and which
of these blocks are damaged.

The same rows are read in several epochs at once, so that the predictions for different views of a row can be compared.
Memory holds one slice of rows in those epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

import logitstore
from distill.page.disagreement import disagreement, tail_per_class
from distill.page.ranking import Ranking
from logitstore.tools.names import ClassNames
from logitstore.tools.stats import QUANTITIES, quantities

BINS = 30
"""No finer than the steps in which `log8` stores a tail of about a half, or bars between them would be empty."""
_SLICE_ROWS, _SLICE_ENTRIES = 1024, 2_000_000
"""Of one slice, at most: rows, and stored classes in all its epochs."""

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(slots=True)
class RunningHistogram:
    """A histogram over [0, high], and the mean of all values added."""

    high: float
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    total: float = 0.0

    def add(self, values: Floats) -> None:
        bins = np.clip((values / self.high * BINS).astype(np.int64), 0, BINS - 1)
        self.counts += np.bincount(bins, minlength=BINS)
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
    histograms: dict[str, RunningHistogram]
    """By quantity, as `logitstore.tools.stats.QUANTITIES` names them, over all views."""
    confident: Ranking
    """By the top-1 probability, a mean over epochs."""
    hardest: Ranking
    """By the probability of the label, lowest first, or, where labels are not the teacher's classes, by entropy."""
    disagreement: Ranking
    """By the disagreement between epochs."""
    by_label: bool
    """Whether `hardest` goes by the label."""
    faults: list[str] = field(default_factory=list)
    """Messages about damage."""
    views: int = 0
    labelled: int = 0
    """Views whose label is one of the teacher's classes."""
    correct: int = 0
    """Those of them whose top-1 class is the label."""
    empty: int = 0
    """Views without a target, such as those of images that the teacher pass could not read."""


def scan(
    store: logitstore.Store, classes: ClassNames, *, blocks: int | None, epochs: int, ranking_size: int,
    progress: Callable[[int], None],
) -> Scan:  # fmt: skip
    """Reads about `blocks` blocks (None: all that are written).

    **Arguments:** `epochs`: compared per row at most (all where `blocks` is None); `ranking_size`: rows of each kind;
    `progress`: called with the number of blocks just read.
    """
    spec, done = store.spec, store.done()
    high = {name: 1.0 for name in QUANTITIES} | {"entropy": max(float(np.log(spec.num_classes)), 1e-9)}
    scanned = Scan(
        read=np.zeros_like(done), damaged=np.zeros_like(done),
        histograms={name: RunningHistogram(high=high[name]) for name in QUANTITIES},
        confident=Ranking(ranking_size), hardest=Ranking(ranking_size), disagreement=Ranking(ranking_size),
        by_label=classes.class_of_label is not None and _has_labels(store),
    )  # fmt: skip
    for block, block_epochs in plan(done, blocks=blocks, epochs=epochs):
        sound_epochs = list(block_epochs)
        rows = spec.block_rows(block)
        step = max(1, min(_SLICE_ROWS, _SLICE_ENTRIES // (spec.topk * len(block_epochs))))
        for first in range(rows.start, rows.stop, step):
            part = range(first, min(first + step, rows.stop))
            if views := _read(store, scanned, sound_epochs, part):
                _count(scanned, views, np.arange(part.start, part.stop), _labels(store, scanned, classes, part))
        scanned.read[block_epochs, block] = True
        progress(len(block_epochs))
    return scanned


def plan(done: Bools, *, blocks: int | None, epochs: int) -> Iterator[tuple[int, list[int]]]:
    """Which blocks to read: (block, epochs), evenly spaced over the blocks and, for each, over the epochs it has."""
    present = np.flatnonzero(done.any(axis=0))
    if blocks is not None:
        epochs = min(epochs, blocks)
        per_block = np.minimum(done[:, present].sum(axis=0), epochs)
        count = max(1, blocks // max(1, round(float(per_block.mean())))) if len(present) else 0
        present = evenly_spaced(present, count)
    for block in present.tolist():
        block_epochs = np.flatnonzero(done[:, block])
        yield block, (block_epochs if blocks is None else evenly_spaced(block_epochs, epochs)).tolist()


def evenly_spaced(values: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """At most `count` of some values, evenly spaced, the first and the last among them."""
    return values if len(values) <= count else values[np.linspace(0, len(values) - 1, count).round().astype(int)]


def _read(store: logitstore.Store, scanned: Scan, sound_epochs: list[int], part: range) -> list[logitstore.Rows]:
    """Some rows of one block in each of `sound_epochs`; an epoch whose block is damaged is removed from that list."""
    views, block = [], part.start // store.spec.rows_per_block
    for epoch in tuple(sound_epochs):
        try:
            views.append(store.read(epoch=epoch, rows=slice(part.start, part.stop)))
        except (logitstore.DamagedBlock, logitstore.MissingBlocks) as error:
            sound_epochs.remove(epoch)
            scanned.damaged[epoch, block] = True
            scanned.faults.append(str(error))
    return views


def _has_labels(store: logitstore.Store) -> bool:
    """Whether the first rows' labels can be read and any is known."""
    try:
        return bool((store.labels(slice(0, logitstore.INNER_ROWS)) >= 0).any())
    except logitstore.DamagedBlock:
        return False


def _labels(store: logitstore.Store, scanned: Scan, classes: ClassNames, part: range) -> npt.NDArray[np.int64]:
    """The teacher's class of each row's label, (n,); -1 where there is none."""
    try:
        return classes.classes_of(store.labels(slice(part.start, part.stop)))
    except logitstore.DamagedBlock as error:
        if str(error) not in scanned.faults:
            scanned.faults.append(str(error))
        return np.full(len(part), -1, np.int64)


def _count(
    scanned: Scan, views: list[logitstore.Rows], rows: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]
) -> None:
    """Adds one slice of rows (n,) in some epochs to the result."""
    stored_en = np.stack([np.isfinite(view.logprobs).any(axis=1) for view in views])
    figures = [quantities(view) for view in views]
    for name, histogram in scanned.histograms.items():
        for stored_n, values in zip(stored_en, figures, strict=True):
            histogram.add(values[name][stored_n])
    correct_en = np.stack([view.indices[:, 0] == labels for view in views]) & stored_en
    scanned.views += stored_en.size
    scanned.empty += int((~stored_en).sum())
    scanned.labelled += int((stored_en & (labels >= 0)).sum())
    scanned.correct += int((correct_en & (labels >= 0)).sum())

    means = {name: _mean(np.stack([values[name] for values in figures]), stored_en) for name in ("top1", "entropy")}
    scanned.confident.add(rows, means["top1"])
    if scanned.by_label:
        probability_en = np.stack([probability_of(view, labels) for view in views])
        scanned.hardest.add(rows, np.where(labels >= 0, _mean(-probability_en, stored_en), -np.inf))
    else:
        scanned.hardest.add(rows, means["entropy"])
    in_all_n = stored_en.all(axis=0)
    if len(views) > 1:
        scanned.disagreement.add(rows, np.where(in_all_n, disagreement(views), -np.inf))


def _mean(values_en: Floats, stored_en: Bools) -> Floats:
    """The mean over the epochs that have a target, (n,); minus infinity where there is none."""
    number_n = stored_en.sum(axis=0)
    sums = np.where(stored_en, values_en, 0).sum(axis=0)
    return np.where(number_n > 0, sums / np.maximum(number_n, 1), -np.inf)


def probability_of(view: logitstore.Rows, classes: npt.NDArray[np.int64]) -> Floats:
    """The probability of one class in each of n views, (n,): as stored, else that of a class of the uniform tail."""
    same_nk = np.isfinite(view.logprobs) & (view.indices == classes[:, None])
    stored_n = np.where(same_nk, np.exp(view.logprobs.astype(np.float64)), 0).sum(axis=1)
    return np.asarray(np.where(same_nk.any(axis=1), stored_n, tail_per_class(view)), np.float64)
