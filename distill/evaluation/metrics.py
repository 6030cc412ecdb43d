"""Metrics beside accuracy and loss: calibration, ReaL accuracy, agreement with a teacher.

Each is a `score.Metric`: it is given the logits of every batch and keeps sums on the device, so that every image counts
once over all processes.

Legend: b images, c classes, m ReaL classes of an image, n bins.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from distill.data.batch import Batch
from distill.data.batches import EvalBatches
from distill.data.loader import load
from distill.errors import DistillError
from distill.evaluation.real_labels import RealLabels
from distill.evaluation.score import rows_of_process
from distill.runtime.model_input import Normalise, forward
from distill.runtime.processes import Runtime


class Calibration:
    """Expected calibration error: the distance of confidence from accuracy (Guo et al., ICML 2017, arXiv 1706.04599).

    Images are grouped by the probability of their predicted class into n bins of equal width, (i / n, (i + 1) / n].
    The error is the mean over images of |mean confidence - accuracy| of their bin.
    """

    def __init__(self, *, bins: int, device: torch.device) -> None:
        self.bins = bins
        self._sums = torch.zeros(3, bins, dtype=torch.float64, device=device)
        """Number of images, sum of their confidences and number of correct ones in each bin."""

    def add(self, batch: Batch, logits_bc: Tensor) -> None:
        labels_b = batch.labels_b.to(logits_bc.device)
        counted_b = (labels_b >= 0) & (batch.weights_b.to(logits_bc.device) > 0)
        confidence_b, predicted_b = logits_bc.float().softmax(dim=1).max(dim=1)
        bin_b = (confidence_b * self.bins).ceil().long().clamp(1, self.bins) - 1
        values = torch.stack([torch.ones_like(confidence_b), confidence_b, (predicted_b == labels_b).float()])
        self._sums.index_add_(1, bin_b, (values * counted_b).double())

    def read(self, runtime: Runtime) -> dict[str, float]:
        """`ece` in percent."""
        counts_n, confidences_n, hits_n = runtime.accelerator.reduce(self._sums, reduction="sum")
        return {"ece": 100 * ((confidences_n - hits_n).abs().sum() / counts_n.sum()).item()}


class Real:
    """Accuracy on ReaL labels: a prediction is correct if it is one of the image's classes."""

    def __init__(self, labels: RealLabels, *, device: torch.device) -> None:
        self._labels = labels
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)

    def add(self, batch: Batch, logits_bc: Tensor) -> None:
        classes_bm = self._labels.of(batch.rows_b.tolist()).to(logits_bc.device)
        counted_b = (classes_bm >= 0).any(dim=1) & (batch.weights_b.to(logits_bc.device) > 0)
        hits_b = (classes_bm == logits_bc.argmax(dim=1)[:, None]).any(dim=1) & counted_b
        self._sums += torch.stack([hits_b.sum(), counted_b.sum()]).double()

    def read(self, runtime: Runtime) -> dict[str, float]:
        """`real` in percent, over `real_images` images."""
        hits, count = runtime.accelerator.reduce(self._sums, reduction="sum").tolist()
        if not count:
            raise DistillError("no image of the data set has a ReaL label")
        return {"real": 100 * hits / count, "real_images": count}


class Agreement:
    """Agreement of a classifier with a teacher on the same images, each with its own size, crop and normalisation."""

    def __init__(
        self,
        net: nn.Module,
        dataset: EvalBatches,
        *,
        normalise: Normalise,
        batch_size: int,
        workers: int,
        runtime: Runtime,
    ) -> None:
        """**Arguments:** `net`: the teacher, in evaluation mode on the device; `dataset`, `normalise`: the images as it
        needs them; `batch_size`: that of the evaluation."""
        self._net, self._normalise, self._runtime = net, normalise, runtime
        parts = rows_of_process(len(dataset.views.images), batch_size=batch_size, runtime=runtime)
        self._batches: Iterator[Batch] = load(dataset, parts, workers=workers, pin=runtime.pin)
        self._sums = torch.zeros(3, dtype=torch.float64, device=runtime.device)

    def add(self, batch: Batch, logits_bc: Tensor) -> None:
        teacher_batch = next(self._batches)
        assert torch.equal(teacher_batch.rows_b, batch.rows_b)
        accelerator = self._runtime.accelerator
        teacher_bc = forward(
            self._net, teacher_batch.pixels_bhwc, normalise=self._normalise, accelerator=accelerator
        ).float()
        if teacher_bc.shape != logits_bc.shape:
            raise DistillError(f"the teacher has {teacher_bc.shape[1]} classes and the model {logits_bc.shape[1]}")
        weights_b = batch.weights_b.to(logits_bc.device)
        same_b = (teacher_bc.argmax(dim=1) == logits_bc.argmax(dim=1)) * weights_b
        logs_bc, teacher_logs_bc = logits_bc.float().log_softmax(dim=1), teacher_bc.log_softmax(dim=1)
        kl_b = (teacher_logs_bc.exp() * (teacher_logs_bc - logs_bc)).sum(dim=1) * weights_b
        self._sums += torch.stack([same_b.sum(), kl_b.sum(), weights_b.sum()]).double()

    def read(self, runtime: Runtime) -> dict[str, float]:
        """`agreement` of the predicted classes in percent; `kl`, the divergence of the model's distribution from the
        teacher's, in nats."""
        same, kl, count = runtime.accelerator.reduce(self._sums, reduction="sum").tolist()
        return {"agreement": 100 * same / count, "kl": kl / count}
