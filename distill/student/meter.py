"""Metrics of a log interval, on the device until an all-reduce."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from distill.errors import LossNotFinite
from distill.runtime.processes import Runtime
from distill.targets.sparse import SparseTargets


class Meter:
    """Sums over the steps of an interval. Tensors stay on the device until `flush`.

    Flushed values are means over all processes and are part of checkpoints, so that an interval that was interrupted
    gives the same line as an uninterrupted one.
    """

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._losses: list[Tensor] = []
        self._norms: list[Tensor] = []
        self._counts: list[Tensor] = []
        self._flushed: dict[str, list[float]] = {"losses": [], "norms": [], "counts": []}

    @torch.no_grad()
    def add(self, logits_bc: Tensor, labels_b: Tensor, targets: SparseTargets | None) -> None:
        """Counts a batch's views: agreement with the teacher's top class, and label accuracy (for a mixed image by the
        label of larger weight)."""
        predicted_b = logits_bc.argmax(dim=1)
        counts = [torch.ones_like(predicted_b).sum(), (predicted_b == labels_b).sum(), (labels_b >= 0).sum()]
        if targets is not None:
            counts.append((predicted_b == targets.indices[:, 0]).sum())
        self._counts.append(torch.stack(counts))

    def add_step(self, step: int, loss: Tensor, grad_norm: Tensor | None) -> None:
        self._steps.append(step)
        self._losses.append(loss.detach())
        if grad_norm is not None:
            self._norms.append(grad_norm.detach())

    def flush(self, runtime: Runtime) -> None:
        """All-reduces the values that were added since the last call, to means over processes. All must call.

        **Raises:** `LossNotFinite` naming the first step whose loss is not finite.
        """
        if not self._steps:
            return
        losses = runtime.accelerator.reduce(torch.stack(self._losses), reduction="mean").tolist()
        bad = [(step, loss) for step, loss in zip(self._steps, losses, strict=True) if not abs(loss) < float("inf")]
        if bad:
            raise LossNotFinite(
                f"the loss of step {bad[0][0]} is {bad[0][1]}: the run stops; its last checkpoint is older. "
                "Try a lower optim.lr, a longer warm-up, or another compute.precision"
            )
        counts = runtime.accelerator.reduce(torch.stack(self._counts).sum(dim=0), reduction="sum").tolist()
        flushed = self._flushed
        flushed["losses"] += losses
        flushed["norms"] += torch.stack(self._norms).tolist() if self._norms else []
        flushed["counts"] = [a + b for a, b in zip(flushed["counts"] or [0] * len(counts), counts, strict=True)]
        self._steps, self._losses, self._norms, self._counts = [], [], [], []

    def read(self, runtime: Runtime) -> dict[str, Any]:
        """Means over the interval and over all processes; resets the meter. All processes must call.

        **Raises:** `LossNotFinite` as `flush` does.
        """
        self.flush(runtime)
        losses, norms, counts = (self._flushed[name] for name in ("losses", "norms", "counts"))
        values: dict[str, Any] = {"loss": sum(losses) / len(losses)}
        if len(counts) > 3:
            values["agreement"] = counts[3] / counts[0]
        if counts[2]:
            values["accuracy"] = counts[1] / counts[2]
        if norms:
            values["grad_norm"] = sum(norms) / len(norms)
        self.__init__()  # type: ignore[misc]
        return values

    def state(self) -> dict[str, list[float]]:
        """The flushed values, for a checkpoint."""
        assert not self._steps, "flush comes before state"
        return {name: list(values) for name, values in self._flushed.items()}

    def restore(self, state: dict[str, list[float]]) -> None:
        """Continues from a checkpoint's `state`."""
        self.__init__()  # type: ignore[misc]
        self._flushed = {name: list(values) for name, values in state.items()}
