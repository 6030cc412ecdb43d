"""The linear probe: multinomial logistic regression on features, its penalty chosen on held-out training rows.

Every step of L-BFGS uses all rows, so the result depends on no learning rate and no order of rows. With the chosen
penalty the classifier is fitted once more, on all training rows.

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
_SCORED_AT_ONCE = 8192
_GRADIENT_TOLERANCE = 1e-5
"""A fit has converged where the largest entry of the gradient is below this."""
_MIN_STD = 1e-6
"""A feature with a smaller standard deviation counts as constant."""


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
        """Weight (c, d) and bias (c,), float32 on the CPU, that include the standardisation: `x @ weight.T + bias`."""
        weight_cd = self.weight_cd.double() / self.std_d.double()
        bias_c = self.bias_c.double() - weight_cd @ self.mean_d.double()
        return weight_cd.float().cpu(), bias_c.float().cpu()


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearProbe:
    scores: Accuracy
    penalty: float
    """The chosen penalty."""
    at_edge: bool
    """Whether it is the smallest or the largest of those tried: a better one may lie beyond."""
    converged: bool
    """Whether the last fit converged within `max_iterations`."""
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
    """Chooses the penalty on held-out training rows, fits, and scores. Of equal scores the larger penalty is taken.

    **Arguments:** `held_out`: fraction of the training rows; `seed`: of their choice.

    **Raises:** `DistillError` where there are too few rows to hold some out.
    """
    values_nd, labels_n = (torch.from_numpy(array).to(device) for array in (train.values_nd, train.labels_n))
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(train))).to(device)
    num_held = round(held_out * len(train))
    if not 0 < num_held < len(train):
        raise DistillError(f"linear.held_out={held_out} of {len(train)} labelled rows leaves none on one side")
    held_out_rows, fit_rows = order[:num_held], order[num_held:]
    held_out_top1: dict[float, float] = {}
    model = None
    for penalty in sorted(set(penalties), reverse=True):  # Each fit starts from that for the next larger penalty.
        model = fit(
            values_nd[fit_rows], labels_n[fit_rows], penalty=penalty, num_classes=num_classes,
            max_iterations=max_iterations, start=model,
        )  # fmt: skip
        held_out_top1[penalty] = accuracy(model(values_nd[held_out_rows]), labels_n[held_out_rows]).top1
    best = max(held_out_top1, key=lambda penalty: (held_out_top1[penalty], penalty))
    model = fit(values_nd, labels_n, penalty=best, num_classes=num_classes, max_iterations=max_iterations)
    logits_nc = torch.cat(
        [model(part_nd.to(device)).cpu() for part_nd in torch.split(torch.from_numpy(val.values_nd), _SCORED_AT_ONCE)]
    )
    return LinearProbe(
        scores=accuracy(logits_nc, torch.from_numpy(val.labels_n)),
        penalty=best,
        at_edge=len(held_out_top1) > 1 and best in (min(held_out_top1), max(held_out_top1)),
        converged=model.converged,
        held_out=held_out_top1,
        classifier=model,
    )


def describe(probe: LinearProbe) -> str:
    """The chosen penalty in a sentence, with the settings to change where the fit is not good."""
    text = f"linear probe: penalty {probe.penalty:g} of {len(probe.held_out)}"
    if probe.at_edge:
        text += "; it lies at the edge of linear.penalties: try further ones"
    if not probe.converged:
        text += "; the last fit did not converge: raise linear.max_iterations"
    return text


def as_json(probe: LinearProbe) -> dict[str, Any]:
    """The probe's numbers as JSON values."""
    held_out = {f"{penalty:g}": top1 for penalty, top1 in probe.held_out.items()}
    choice = {"penalty": probe.penalty, "at_edge": probe.at_edge, "converged": probe.converged}
    return asdict(probe.scores) | choice | {"held_out": held_out}


def fit(
    values_nd: Tensor,
    labels_n: Tensor,
    *,
    penalty: float,
    num_classes: int,
    max_iterations: int,
    start: Classifier | None = None,
) -> Classifier:
    """Minimises mean cross entropy + penalty / 2 * (sum of squared weights) on standardised features. The bias has no
    penalty.

    **Arguments:** `start`: a classifier whose weights are the starting point; None: zeros.
    """
    std_d, mean_d = torch.std_mean(values_nd, dim=0, correction=0)
    std_d = torch.where(std_d > _MIN_STD, std_d, 1.0)  # constant features are not scaled
    weight_cd = start.weight_cd.clone() if start else values_nd.new_zeros(num_classes, values_nd.shape[1])
    bias_c = start.bias_c.clone() if start else values_nd.new_zeros(num_classes)
    parameters = [weight_cd.requires_grad_(), bias_c.requires_grad_()]
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=max_iterations, max_eval=4 * max_iterations, tolerance_grad=_GRADIENT_TOLERANCE,
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
