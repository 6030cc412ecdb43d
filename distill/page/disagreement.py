"""How far the teacher's answers to the views of one row are apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

import logitstore
from logitstore.tools.stats import quantities

Floats = npt.NDArray[np.float64]


def disagreement(views: Sequence[logitstore.Rows]) -> Floats:
    """Jensen-Shannon divergence of each row's distributions: the entropy of their mean less the mean of their
    entropies (Lin, "Divergence measures based on the Shannon entropy", 1991, section 4).

    The tails count as spread evenly, as `Rows.dense` has them, but nothing dense is made: classes that no view keeps
    are one term.

    **Arguments:** `views`: the same n rows in each of E epochs.

    **Returns:** (n,) nats, from 0 (all the same) to log E (nothing in common).
    """
    num_rows, num_classes = len(views[0]), views[0].num_classes
    stored_nj = np.concatenate([np.isfinite(view.logprobs) for view in views], axis=1)
    shares_ne = np.stack([_share(view) for view in views], axis=1)
    places = np.repeat(np.arange(len(views)), [view.logprobs.shape[1] for view in views])
    probabilities_nj = np.exp(np.concatenate([view.logprobs for view in views], axis=1).astype(np.float64))
    # What a kept class has beyond its share of the tail: of a class that a view does not keep, that is nothing.
    beyond_nj = np.where(stored_nj, probabilities_nj - shares_ne[:, places], 0)
    classes_nj = np.where(stored_nj, np.concatenate([view.indices for view in views], axis=1), num_classes)
    order_nj = np.argsort(classes_nj, axis=1, kind="stable")
    classes_nj = np.take_along_axis(classes_nj, order_nj, axis=1)
    first_nj = np.diff(classes_nj, axis=1, prepend=-1) != 0
    starts = np.flatnonzero(first_nj)
    sums = np.add.reduceat(np.take_along_axis(beyond_nj, order_nj, axis=1).ravel(), starts)
    rows = starts // classes_nj.shape[1]
    rows, sums = (values[classes_nj.ravel()[starts] < num_classes] for values in (rows, sums))

    share_n = shares_ne.mean(axis=1)
    inside_n = np.bincount(rows, _term(sums / len(views) + share_n[rows]), minlength=num_rows)
    outside_n = (num_classes - np.bincount(rows, minlength=num_rows)) * _term(share_n)
    entropy_n = np.mean([quantities(view)["entropy"] for view in views], axis=0)
    return np.asarray(np.maximum(inside_n + outside_n - entropy_n, 0), np.float64)


def _share(view: logitstore.Rows) -> Floats:
    """What each class that is not kept has of the tail, (n,)."""
    others = view.num_classes - np.isfinite(view.logprobs).sum(axis=1)
    return np.where(others > 0, np.exp(view.tail.astype(np.float64)) / np.maximum(others, 1), 0)


def _term(probabilities: Floats) -> Floats:
    """-p log p, 0 at 0."""
    safe = np.where(probabilities > 0, probabilities, 1)
    return np.asarray(-safe * np.log(safe))
