"""How much the teacher's predictions for the views of one row differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

import logitstore
from logitstore.tools.stats import quantities

Floats = npt.NDArray[np.float64]


def disagreement(views: Sequence[logitstore.Rows]) -> Floats:
    """Jensen-Shannon divergence of each row's distributions: the entropy of their mean minus the mean of their
    entropies (Lin, "Divergence measures based on the Shannon entropy", 1991, section 4).

    Tails are uniform, as in `Rows.dense`, but nothing dense is made: the classes that are in no view's top-k all have
    the same probability, and are one term.

    **Arguments:** `views`: the same n rows in each of E epochs.

    **Returns:** (n,) nats, from 0 (all equal) to log E (nothing in common).
    """
    # n rows, e epochs, j stored classes of all epochs beside each other.
    num_rows, num_classes = len(views[0]), views[0].num_classes
    stored_nj = np.concatenate([np.isfinite(view.logprobs) for view in views], axis=1)
    tails_ne = np.stack([tail_per_class(view) for view in views], axis=1)
    epochs_j = np.repeat(np.arange(len(views)), [view.logprobs.shape[1] for view in views])
    probabilities_nj = np.exp(np.concatenate([view.logprobs for view in views], axis=1).astype(np.float64))
    # By how much a stored class exceeds what a class of the tail has in the same view; 0 in views that do not store it.
    excess_nj = np.where(stored_nj, probabilities_nj - tails_ne[:, epochs_j], 0)
    classes_nj = np.where(stored_nj, np.concatenate([view.indices for view in views], axis=1), num_classes)
    order_nj = np.argsort(classes_nj, axis=1, kind="stable")
    classes_nj = np.take_along_axis(classes_nj, order_nj, axis=1)
    first_nj = np.diff(classes_nj, axis=1, prepend=-1) != 0
    starts = np.flatnonzero(first_nj)
    sums = np.add.reduceat(np.take_along_axis(excess_nj, order_nj, axis=1).ravel(), starts)
    rows = starts // classes_nj.shape[1]
    rows, sums = (values[classes_nj.ravel()[starts] < num_classes] for values in (rows, sums))

    tail_n = tails_ne.mean(axis=1)
    inside_n = np.bincount(rows, _entropy_term(sums / len(views) + tail_n[rows]), minlength=num_rows)
    outside_n = (num_classes - np.bincount(rows, minlength=num_rows)) * _entropy_term(tail_n)
    entropy_n = np.mean([quantities(view)["entropy"] for view in views], axis=0)
    return np.asarray(np.maximum(inside_n + outside_n - entropy_n, 0), np.float64)


def tail_per_class(view: logitstore.Rows) -> Floats:
    """The probability of each class outside the top-k, (n,); 0 where all classes are stored."""
    others_n = view.num_classes - np.isfinite(view.logprobs).sum(axis=1)
    return np.where(others_n > 0, np.exp(view.tail.astype(np.float64)) / np.maximum(others_n, 1), 0)


def _entropy_term(probabilities: Floats) -> Floats:
    """-p log p, 0 at 0."""
    safe = np.where(probabilities > 0, probabilities, 1)
    return np.asarray(-safe * np.log(safe))
