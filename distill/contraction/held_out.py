"""The held-out rows, which rank candidates: the last rows of the data set, in stored views. No candidate trains on
them.

A candidate is scored against the teacher's stored targets for these views: this needs neither labels nor a teacher.
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


def split_rows(num_rows: int, *, fraction: float, group_size: int) -> Split:
    """Divides the rows; no group of mixed views is divided.

    **Arguments:** `fraction`: held-out rows / all rows; `group_size`: rows of a group, 1 without mixing.

    **Raises:** `UsageError` where one side would be empty.
    """
    train = int(num_rows * (1 - fraction)) // group_size * group_size
    if not 0 < train < num_rows:
        raise UsageError(
            f"search.hold_out={fraction}: of {num_rows} rows in groups of {group_size}, {train} would be left to train "
            f"on and {num_rows - train} to rank by"
        )
    return Split(train, num_rows)


class HeldOutViews(Dataset[Batch]):
    """Stored views with their targets in row order. An index is (epoch, first row, end of rows)."""

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
    net: TinyViT, dataset: HeldOutViews, split: Split, *, epochs: tuple[int, ...], batch_size: int, workers: int,
    plan: Plan, damage_log: DamageLog, runtime: Runtime,
) -> dict[str, float]:  # fmt: skip
    """Compares a network, in evaluation mode, with the store on the held-out rows.

    **Returns** `loss`, the mean training loss in nats, and `agreement`, the percentage of views whose most probable
    class is the store's.

    **Raises:** `DistillError` where no held-out row can be read.
    """
    assert plan.target_loss is not None
    net.eval()
    indices = [
        (epoch, begin, min(begin + batch_size, split.end))
        for epoch in epochs
        for begin in range(split.train, split.end, batch_size)
    ]
    sums: Tensor = torch.zeros(3, dtype=torch.float64, device=runtime.device)
    for batch in load(dataset, indices, workers=workers, pin=runtime.pin):
        damage_log.record(batch)
        assert batch.targets is not None
        targets = batch.targets.to(runtime.device)
        weights_b = batch.weights_b.to(runtime.device)
        logits_bc = forward(net, batch.pixels_bhwc, normalise=plan.normalise, accelerator=runtime.accelerator)
        losses_b = plan.target_loss(logits_bc, targets) * weights_b
        agreements_b = (logits_bc.argmax(dim=1) == targets.indices[:, 0]) * weights_b
        sums += torch.stack([losses_b.sum(), agreements_b.sum(), weights_b.sum()]).double()
    loss, agreement, count = sums.tolist()
    if not count:
        raise DistillError(f"none of the held-out rows {split.train} to {split.end - 1} can be read: see data.damaged")
    return {"loss": loss / count, "agreement": 100 * agreement / count}
