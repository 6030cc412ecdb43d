"""Weighted k nearest neighbours: the training rows most similar to an image vote for their classes.

As in the evaluation of DINO (Caron et al., ICCV 2021, arXiv 2104.14294, section 4.1; after Wu et al., CVPR 2018):
features are normalised, similarity is the cosine, and each of the k nearest votes with exp(cosine / temperature).

Shape suffixes: n training rows, q validation rows, k neighbours, c classes, d features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.errors import DistillError
from distill.probes.accuracy import Accuracy, accuracy
from distill.probes.features import Features

_VALUES_AT_ONCE = 1 << 24
"""Cosines held in memory at a time."""


def score(
    train: Features,
    val: Features,
    *,
    neighbours: Sequence[int],
    temperature: float,
    num_classes: int,
    device: torch.device,
) -> dict[int, Accuracy]:
    """Accuracy for each number of neighbours. **Raises:** `DistillError` for more neighbours than training rows."""
    largest_k = max(neighbours)
    if largest_k > len(train):
        raise DistillError(f"knn.neighbours={largest_k}: there are only {len(train)} labelled rows to learn from")
    train_nd = F.normalize(torch.from_numpy(train.values_nd).to(device), dim=1)
    train_labels_n = torch.from_numpy(train.labels_n).to(device)
    votes: dict[int, list[Tensor]] = {k: [] for k in neighbours}
    rows = max(1, _VALUES_AT_ONCE // len(train))
    for part_qd in torch.split(torch.from_numpy(val.values_nd), rows):
        cosines_qn = F.normalize(part_qd.to(device), dim=1) @ train_nd.T
        cosines_qk, nearest_qk = cosines_qn.topk(largest_k, dim=1)
        # Minus the largest cosine: no ratio of votes changes, and exp cannot overflow.
        weights_qk = ((cosines_qk - cosines_qk[:, :1]) / temperature).exp()
        labels_qk = train_labels_n[nearest_qk]
        for k in neighbours:
            votes_qc = torch.zeros(len(part_qd), num_classes, device=device)
            votes_qc.scatter_add_(1, labels_qk[:, :k], weights_qk[:, :k])
            votes[k].append(votes_qc.cpu())
    labels_q = torch.from_numpy(val.labels_n)
    return {k: accuracy(torch.cat(parts), labels_q) for k, parts in votes.items()}
