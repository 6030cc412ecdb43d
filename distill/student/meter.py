"""Numbers of a training interval, kept on the device until they are all-reduced."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from distill.errors import LossNotFinite
from distill.runtime.processes import Runtime
from distill.targets.sparse import SparseTargets


class Meter:
    """Sums over the steps of an interval. Everything stays on the device until `flush`.

    What is settled is a mean over all processes already and goes into checkpoints, so that an interval that a stop cut
    in two gives the same line as a whole one.
    """

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._losses: list[Tensor] = []
        self._norms: list[Tensor] = []
        self._counts: list[Tensor] = []
        self._settled: dict[str, list[float]] = {"losses": [], "norms": [], "counts": []}

    @torch.no_grad()
    def add(self, logits_bc: Tensor, labels_b: Tensor, targets: SparseTargets | None) -> None:
        """Counts a batch's views: agreement with the teacher's first class, and label accuracy (of a mixed picture, the
        label of its larger part)."""
        guess_b = logits_bc.argmax(dim=1)
        counts = [torch.ones_like(guess_b).sum(), (guess_b == labels_b).sum(), (labels_b >= 0).sum()]
        if targets is not None:
            counts.append((guess_b == targets.indices[:, 0]).sum())
        self._counts.append(torch.stack(counts))

    def add_step(self, step: int, loss: Tensor, grad_norm: Tensor | None) -> None:
        self._steps.append(step)
        self._losses.append(loss.detach())
        if grad_norm is not None:
            self._norms.append(grad_norm.detach())

    def flush(self, runtime: Runtime) -> None:
        """Takes the mean over all processes of what was added since the last time. Every process must call it.

        **Raises:** `LossNotFinite` naming the first step whose loss is not finite.
        """
        if not self._steps:
            return
        losses = runtime.accelerator.reduce(torch.stack(self._losses), reduction="mean").tolist()
        bad = [(step, loss) for step, loss in zip(self._steps, losses, strict=True) if not abs(loss) < float("inf")]
        if bad:
            raise LossNotFinite(
                f"the loss of step {bad[0][0]} is {bad[0][1]}: the run stops, its last checkpoint is from before. "
                "Try a lower optim.lr, a longer warm-up, or another compute.precision"
            )
        counts = runtime.accelerator.reduce(torch.stack(self._counts).sum(dim=0), reduction="sum").tolist()
        settled = self._settled
        settled["losses"] += losses
        settled["norms"] += torch.stack(self._norms).tolist() if self._norms else []
        settled["counts"] = [a + b for a, b in zip(settled["counts"] or [0] * len(counts), counts, strict=True)]
        self._steps, self._losses, self._norms, self._counts = [], [], [], []

    def read(self, runtime: Runtime) -> dict[str, Any]:
        """Means over the interval and over all processes; empties the meter. Every process must call it.

        **Raises:** `LossNotFinite` as `flush` does.
        """
        self.flush(runtime)
        losses, norms, counts = (self._settled[name] for name in ("losses", "norms", "counts"))
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
        """What is settled, for a checkpoint."""
        assert not self._steps, "settle comes before state"
        return {name: list(values) for name, values in self._settled.items()}

    def restore(self, state: dict[str, list[float]]) -> None:
        """Goes on from a checkpoint's `state`."""
        self.__init__()  # type: ignore[misc]
        self._settled = {name: list(values) for name, values in state.items()}
