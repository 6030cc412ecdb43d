"""Rows that no candidate trains on: the last ones of the data set, seen as the teacher saw them, which rank candidates.

The score is how close a candidate comes to what the teacher said there: no label is needed and no teacher runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from distill.data.batches import Batch
from distill.data.catalog import Catalog
from distill.data.damage_log import DamageLog
from distill.data.images import Pictures
from distill.data.loader import load
from distill.data.pairs import Rows, pairs_of
from distill.errors import DistillError, UsageError
from distill.models import TinyViT
from distill.replay.open_store import Replay
from distill.runtime.model_input import forward
from distill.runtime.processes import Runtime
from distill.student.loop import Plan
from distill.targets.sparse import SparseTargets


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
        self.store, self.spec = replay.store, replay.spec
        self.pictures = Pictures(catalog, size=size, num_classes=replay.store.spec.num_classes)
        self.pairs = pairs_of(replay.spec, num_rows=len(catalog), seeds_of=self._seeds)

    def __getitem__(self, index: tuple[int, int, int]) -> Batch:
        epoch, begin, end = index
        rows = np.arange(begin, end)
        self.pictures.fetch_after(end)
        fields = self.pictures.augmented(
            np.full(len(rows), epoch), rows, spec=self.spec, seeds_of=self._seeds, pairs=self.pairs
        )
        stored = self.store.read(epoch=epoch, rows=rows)
        kept = SparseTargets(*(torch.from_numpy(values) for values in (stored.indices, stored.logprobs, stored.tail)))
        fields["weights_b"] *= (kept.logprobs_bk[:, 0] > float("-inf")).float()
        return Batch(kept=kept, **fields)

    def _seeds(self, epoch: int, rows: Rows) -> np.ndarray:
        return self.store.read(epoch=epoch, rows=rows).seeds


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
        assert batch.kept is not None
        kept = batch.kept.to(runtime.device)
        weights_b = batch.weights_b.to(runtime.device)
        logits_bc = forward(net, batch.pixels_bhwc, normalise=plan.normalise, accelerator=runtime.accelerator)
        losses_b = plan.target_loss(logits_bc, kept) * weights_b
        same_b = (logits_bc.argmax(dim=1) == kept.indices_bk[:, 0]) * weights_b
        sums += torch.stack([losses_b.sum(), same_b.sum(), weights_b.sum()]).double()
    loss, same, count = sums.tolist()
    if not count:
        raise DistillError(f"none of the held-out rows {split.train} to {split.end - 1} can be read: see data.damaged")
    return {"loss": loss / count, "agreement": 100 * same / count}
