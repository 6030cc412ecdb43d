"""Rows that no candidate trains on: the last ones of the data set, seen as the teacher saw them, which rank candidates.

The score is how close a candidate comes to what the teacher said there: no label is needed and no teacher runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from distill.data.batch import Batch
from distill.data.catalog import Catalog
from distill.data.damage_log import DamageLog
from distill.data.loader import load
from distill.data.seeds import StoredViews
from distill.data.view_reader import ViewReader
from distill.errors import DistillError, UsageError
from distill.models import TinyViT
from distill.replay.open_store import Replay
from distill.runtime.model_input import forward
from distill.runtime.processes import Runtime
from distill.student.loop import Plan


@dataclass(frozen=True, slots=True)
class Split:
    """Rows 0 .. train - 1 are trained on, rows train .. end - 1 held out."""

    train: int
    end: int


def split_rows(num_rows: int, *, part: float, group_size: int) -> Split:
    """Divides the rows; groups of mixed views stay whole.

    **Raises:** `UsageError` where one side would be empty.
    """
    train = int(num_rows * (1 - part)) // group_size * group_size
    if not 0 < train < num_rows:
        raise UsageError(
            f"search.hold_out={part}: of {num_rows} rows in groups of {group_size}, {train} would be left to train on "
            f"and {num_rows - train} to rank by"
        )
    return Split(train, num_rows)


class HeldOut(Dataset[Batch]):
    """Stored views in the order of their rows; an index is an epoch and a range of rows."""

    def __init__(self, catalog: Catalog, replay: Replay, *, size: int) -> None:
        self.source = StoredViews(replay.store)
        self.views = ViewReader(
            catalog, size=size, spec=replay.spec, source=self.source, num_classes=replay.store.spec.num_classes
        )

    def __getitem__(self, index: tuple[int, int, int]) -> Batch:
        epoch, begin, end = index
        rows = np.arange(begin, end)
        epochs = np.full_like(rows, epoch)
        self.views.fetch_after(end)
        seeds, targets = self.source.read(epochs, rows)
        return self.views.read(epochs, rows, seeds).with_targets(targets)


@torch.inference_mode()
def score(
    net: TinyViT, dataset: HeldOut, split: Split, *, epochs: tuple[int, ...], batch_size: int, workers: int,
    plan: Plan, damage_log: DamageLog, runtime: Runtime,
) -> dict[str, float]:  # fmt: skip
    """Holds a network, in evaluation mode, against the store on the held-out rows.

    **Returns** `loss`, the mean of the loss of training, and `agreement`, the percentage of views whose most probable
    class is the store's.
    """
    assert plan.target_loss is not None
    net.eval()
    parts = [
        (epoch, begin, min(begin + batch_size, split.end))
        for epoch in epochs
        for begin in range(split.train, split.end, batch_size)
    ]
    sums: Tensor = torch.zeros(3, dtype=torch.float64, device=runtime.device)
    for batch in load(dataset, parts, workers=workers, pin=runtime.pin):
        damage_log.record(batch)
        assert batch.targets is not None
        targets = batch.targets.to(runtime.device)
        weights_b = batch.weights_b.to(runtime.device)
        logits_bc = forward(net, batch.pixels_bhwc, normalise=plan.normalise, accelerator=runtime.accelerator)
        losses_b = plan.target_loss(logits_bc, targets) * weights_b
        same_b = (logits_bc.argmax(dim=1) == targets.indices[:, 0]) * weights_b
        sums += torch.stack([losses_b.sum(), same_b.sum(), weights_b.sum()]).double()
    loss, same, count = sums.tolist()
    if not count:
        raise DistillError(f"none of the held-out rows {split.train} to {split.end - 1} can be read: see data.damaged")
    return {"loss": loss / count, "agreement": 100 * same / count}
