"""The linear probe: multinomial logistic regression on features, its penalty chosen on held-out training rows.

The whole of the data decides every step (L-BFGS), so nothing hangs on a learning rate or an order of rows. With the
chosen penalty the classifier is fitted once more, on all training rows.

Shape suffixes: n rows, d features, c classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from distill.errors import DistillError
from distill.probes.accuracy import Accuracy, accuracy
from distill.probes.features import Features

_LOGITS_AT_ONCE = 1 << 26
_ROWS_SCORED = 8192
_GRADIENT = 1e-5
"""Where the largest entry of the gradient is below this, a fit has converged."""
_LEAST_DEVIATION = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """Logits are `((x - mean) / std) @ weight.T + bias`."""

    mean_d: Tensor
    std_d: Tensor
    weight_cd: Tensor
    bias_c: Tensor
    converged: bool

    def __call__(self, values_nd: Tensor) -> Tensor:
        return ((values_nd - self.mean_d) / self.std_d) @ self.weight_cd.T + self.bias_c

    def folded(self) -> tuple[Tensor, Tensor]:
        """(c, d) and (c,) float32 on the CPU: the same logits are `x @ weight.T + bias`."""
        weight_cd = self.weight_cd.double() / self.std_d.double()
        bias_c = self.bias_c.double() - weight_cd @ self.mean_d.double()
        return weight_cd.float().cpu(), bias_c.float().cpu()


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearProbe:
    scores: Accuracy
    penalty: float
    """The chosen one."""
    at_edge: bool
    """It is the least or the largest of those tried: better ones may lie beyond."""
    converged: bool
    """Whether the last fit came to its end before `max_iterations`."""
    held_out: dict[float, float]
    """Top-1 on the held-out rows, in percent, for each penalty."""
    classifier: Classifier = field(compare=False, repr=False)
    """Fitted with the chosen penalty to all training rows."""


def score(
    train: Features,
    val: Features,
    *,
    penalties: Sequence[float],
    held_out: float,
    max_iterations: int,
    seed: int,
    num_classes: int,
    device: torch.device,
) -> LinearProbe:
    """Chooses the penalty, fits, and scores. Equal scores on the held-out rows choose the larger penalty.

    **Raises:** `DistillError` where the rows are too few to hold some out.
    """
    values_nd, labels_n = (torch.from_numpy(part).to(device) for part in (train.values_nd, train.labels_n))
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(train))).to(device)
    num_held = round(held_out * len(train))
    if not 0 < num_held < len(train):
        raise DistillError(f"linear.held_out={held_out} of {len(train)} labelled rows leaves none on one side")
    held, kept = order[:num_held], order[num_held:]
    tried: dict[float, float] = {}
    model = None
    for penalty in sorted(set(penalties), reverse=True):  # Each fit starts from that of the next larger penalty.
        model = fit(
            values_nd[kept], labels_n[kept], penalty=penalty, num_classes=num_classes,
            max_iterations=max_iterations, start=model,
        )  # fmt: skip
        tried[penalty] = accuracy(model(values_nd[held]), labels_n[held]).top1
    best = max(tried, key=lambda penalty: (tried[penalty], penalty))
    model = fit(values_nd, labels_n, penalty=best, num_classes=num_classes, max_iterations=max_iterations)
    logits_nc = torch.cat(
        [model(part_nd.to(device)).cpu() for part_nd in torch.split(torch.from_numpy(val.values_nd), _ROWS_SCORED)]
    )
    return LinearProbe(
        scores=accuracy(logits_nc, torch.from_numpy(val.labels_n)),
        penalty=best,
        at_edge=len(tried) > 1 and best in (min(tried), max(tried)),
        converged=model.converged,
        held_out=tried,
        classifier=model,
    )


def describe(probe: LinearProbe) -> str:
    """How the penalty was chosen, in a sentence, with what a person should mend."""
    text = f"linear probe: penalty {probe.penalty:g} of {len(probe.held_out)}"
    if probe.at_edge:
        text += "; it lies at the edge of linear.penalties: try further ones"
    if not probe.converged:
        text += "; the last fit did not converge: raise linear.max_iterations"
    return text


def as_json(probe: LinearProbe) -> dict[str, Any]:
    """The probe's numbers as JSON values."""
    numbers = {name: getattr(probe, name) for name in ("penalty", "at_edge", "converged")}
    return asdict(probe.scores) | numbers | {"held_out": {f"{k:g}": v for k, v in probe.held_out.items()}}


def fit(
    values_nd: Tensor,
    labels_n: Tensor,
    *,
    penalty: float,
    num_classes: int,
    max_iterations: int,
    start: Classifier | None = None,
) -> Classifier:
    """Minimises mean cross entropy + penalty / 2 * (sum of squared weights), features standardised; the bias is free.

    **Arguments:** `start`: a classifier whose weights are the first guess; None: zeros.
    """
    std_d, mean_d = torch.std_mean(values_nd, dim=0, correction=0)
    std_d = torch.where(std_d > _LEAST_DEVIATION, std_d, 1.0)  # what is constant stays as it is
    weight_cd = start.weight_cd.clone() if start else values_nd.new_zeros(num_classes, values_nd.shape[1])
    bias_c = start.bias_c.clone() if start else values_nd.new_zeros(num_classes)
    parameters = [weight_cd.requires_grad_(), bias_c.requires_grad_()]
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=max_iterations, max_eval=4 * max_iterations, tolerance_grad=_GRADIENT,
        tolerance_change=1e-9, history_size=20, line_search_fn="strong_wolfe",
    )  # fmt: skip
    rows = max(1, _LOGITS_AT_ONCE // num_classes)
    parts = list(zip(torch.split(values_nd, rows), torch.split(labels_n, rows), strict=True))

    def objective() -> float:
        optimizer.zero_grad()
        loss = 0.5 * penalty * weight_cd.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        total = loss.item()
        for part_nd, part_labels_n in parts:
            logits_nc = ((part_nd - mean_d) / std_d) @ weight_cd.T + bias_c
            loss = F.cross_entropy(logits_nc, part_labels_n, reduction="sum") / len(labels_n)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        return total

    optimizer.step(objective)  # type: ignore[no-untyped-call]
    steps = optimizer.state[parameters[0]]["n_iter"]
    return Classifier(
        mean_d=mean_d, std_d=std_d, weight_cd=weight_cd.detach(), bias_c=bias_c.detach(),
        converged=steps < max_iterations,
    )  # fmt: skip
