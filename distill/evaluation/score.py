"""Top-1, top-5 and loss of a classifier on labelled images, packed or in a folder.

Every process takes a range of consecutive rows, and an all-reduce adds up the sums, so every image counts once whatever
the number of processes. Further metrics (`metrics`) are computed from the same logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from distill.data.batch import Batch
from distill.data.batches import EvalBatches
from distill.data.damage_log import DamageLog
from distill.data.image_folder import Images
from distill.data.loader import load
from distill.errors import DistillError
from distill.runtime.model_input import Normalise, forward
from distill.runtime.processes import Runtime
from distill.runtime.progress import Progress
from distill.targets.losses import label_loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Over all labelled images, each counted once."""

    top1: float
    """Percent."""
    top5: float
    """Percent; of a model with fewer than 5 classes, 100."""
    loss: float
    """Mean cross entropy in nats."""
    num_images: int


class Metric(Protocol):
    """One or more scores, computed from the batches of all processes."""

    def add(self, batch: Batch, logits_bc: Tensor) -> None:
        """Takes a batch of this process and its logits (b, c)."""
        ...

    def read(self, runtime: Runtime) -> dict[str, float]:
        """The scores by name, over all processes; all must call."""
        ...


def check_classes(images: Images, num_classes: int) -> None:
    """**Raises:** `DistillError` if a data set and a classifier have different numbers of classes."""
    if images.num_classes != num_classes:
        raise DistillError(
            f"{images.where} has {images.num_classes} classes and the model {num_classes}: evaluate on data with "
            "the model's classes, or let `distill.evaluate` match them by their WordNet ids (eval.classes=wordnet). A "
            "student whose teacher had other classes than your folders is first trained on your labels "
            "(distill.train_student student.init=FILE student.init_classes=new), or probed by distill.transfer"
        )


@torch.inference_mode()
def evaluate(
    net: nn.Module,
    dataset: EvalBatches,
    *,
    batch_size: int,
    workers: int,
    damage_log: DamageLog,
    normalise: Normalise,
    runtime: Runtime,
    progress: Progress | None = None,
    metrics: Sequence[Metric] = (),
) -> Scores:
    """Scores `net` on a data set, of which every process takes a part; all must call. The net's mode is restored.

    **Arguments:** `damage_log`: what happens at an image that cannot be read; `metrics`: given every batch.

    **Raises:** `DistillError` if no image has a label.
    """
    was_training = net.training
    net.eval()
    parts = rows_of_process(len(dataset.views.images), batch_size=batch_size, runtime=runtime)
    sums = torch.zeros(5, dtype=torch.float64, device=runtime.device)
    for batch in load(dataset, parts, workers=workers, pin=runtime.pin):
        damage_log.record(batch)
        logits_bc = forward(net, batch.pixels_bhwc, normalise=normalise, accelerator=runtime.accelerator)
        labels_b = batch.labels_b.to(runtime.device, non_blocking=True)
        weights_b = batch.weights_b.to(runtime.device, non_blocking=True) * (labels_b >= 0)
        top_bk = logits_bc.topk(min(5, logits_bc.shape[1]), dim=1).indices
        hits_bk = (top_bk == labels_b[:, None]) * weights_b[:, None]
        losses_b = label_loss(logits_bc, labels_b.clamp(min=0)) * weights_b
        bad = (~logits_bc.isfinite().all(dim=1)).sum()
        sums += torch.stack([hits_bk[:, 0].sum(), hits_bk.sum(), losses_b.sum(), weights_b.sum(), bad]).double()
        for metric in metrics:
            metric.add(batch, logits_bc)
        if progress:
            progress.advance(len(batch) * runtime.world)
    net.train(was_training)
    top1, top5, loss, count, bad_count = runtime.accelerator.reduce(sums, reduction="sum").tolist()
    if bad_count:
        raise DistillError(
            f"the model's logits of {bad_count:.0f} images of {dataset.views.images.where} are not finite: its weights "
            "are of a training that has diverged, or compute.precision is too narrow for them"
        )
    if not count:
        raise DistillError(f"{dataset.views.images.where} has no labelled image to evaluate on")
    return Scores(top1=100 * top1 / count, top5=100 * top5 / count, loss=loss / count, num_images=round(count))


def rows_of_process(num_rows: int, *, batch_size: int, runtime: Runtime) -> Sequence[range]:
    """The batches of this process as ranges of rows; over all processes they hold every row once."""
    begin, end = (num_rows * rank // runtime.world for rank in (runtime.rank, runtime.rank + 1))
    return [range(first, min(first + batch_size, end)) for first in range(begin, end, batch_size)]
