"""How good a classifier is on a packed data set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from distill.data.batches import EvalBatches
from distill.data.catalog import Catalog
from distill.data.loader import load
from distill.data.records import Records
from distill.errors import DistillError
from distill.losses import label_loss
from distill.progress import Progress
from distill.runtime import Normalise, Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Over all labelled pictures, each counted once."""

    top1: float
    """Percent."""
    top5: float
    """Percent; of a model with fewer than 5 classes, 100."""
    loss: float
    """Mean cross entropy in nats."""
    num_images: int


def check_classes(catalog: Catalog, num_classes: int) -> None:
    """**Raises:** `DistillError` if a data set's classes cannot be those of a classifier."""
    if catalog.num_classes != num_classes:
        raise DistillError(
            f"{catalog.where} has {catalog.num_classes} classes and the model {num_classes}: evaluate on data with "
            "the model's classes"
        )


@torch.inference_mode()
def evaluate(
    net: nn.Module,
    dataset: EvalBatches,
    *,
    batch_size: int,
    workers: int,
    records: Records,
    normalise: Normalise,
    runtime: Runtime,
    progress: Progress | None = None,
) -> Scores:
    """Scores `net` on a data set; every process takes a part of it, and all must call. The net's mode is kept."""
    was_training = net.training
    net.eval()
    num_rows = len(dataset.pictures.catalog)
    mine = range(num_rows * runtime.rank // runtime.world, num_rows * (runtime.rank + 1) // runtime.world)
    sums = torch.zeros(4, dtype=torch.float64, device=runtime.device)
    for batch in load(dataset, list(_chunks(mine, batch_size)), workers=workers, pin=runtime.pin):
        records.note(batch)
        pixels_bhwc = batch.pixels_bhwc.to(runtime.device, non_blocking=True)
        labels_b = batch.labels_b.to(runtime.device, non_blocking=True)
        weights_b = batch.weights_b.to(runtime.device, non_blocking=True) * (labels_b >= 0)
        with runtime.accelerator.autocast():
            logits_bc = net(normalise(pixels_bhwc))
        top_bk = logits_bc.topk(min(5, logits_bc.shape[1]), dim=1).indices
        hits_bk = (top_bk == labels_b[:, None]) * weights_b[:, None]
        losses_b = label_loss(logits_bc, labels_b.clamp(min=0)) * weights_b
        if progress:
            progress.advance(len(batch) * runtime.world)
        sums += torch.stack([hits_bk[:, 0].sum(), hits_bk.sum(), losses_b.sum(), weights_b.sum()]).double()
    net.train(was_training)
    top1, top5, loss, count = runtime.accelerator.reduce(sums, reduction="sum").tolist()
    if not count:
        raise DistillError(f"{dataset.pictures.catalog.where} has no labelled picture to evaluate on")
    return Scores(top1=100 * top1 / count, top5=100 * top5 / count, loss=loss / count, num_images=round(count))


def _chunks(rows: range, size: int) -> Iterator[range]:
    for begin in range(rows.start, rows.stop, size):
        yield range(begin, min(begin + size, rows.stop))
