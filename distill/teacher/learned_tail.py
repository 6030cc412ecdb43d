"""Learns how a teacher spreads the mass that a store does not keep, from some of the views it is about to store.

For each group of most probable classes, the mean distribution outside the kept classes. It costs a stored view nothing:
the model lies once in the store, and the student's loss spreads each view's own tail by it (`losses`, tail `learned`).

The views come from epoch 0 and are passed through the teacher before the store is made, so the model is there as soon
as the store is, is the same for all who write parts of it, and a killed pass leaves nothing half learned.

Up to `MOST_GROUPS` classes each class is a group. With more, a table of classes by classes is too large: classes whose
rows in the teacher's classifier point the same way share one.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

import logitstore
from distill.config.programs import SaveLogitsConfig
from distill.data.batches import BlockBatches, BlockSlice
from distill.data.loader import load
from distill.models.image_model import ImageModel
from distill.runtime.model_input import Normalise, forward
from distill.runtime.processes import Runtime
from distill.runtime.progress import Progress
from distill.targets.selection import Selection, select_topk
from distill.teacher.run import selection_of

MOST_GROUPS = 1024
PRIOR_VIEWS = 4.0
"""How many views' tails the mean over all groups counts in a group's own mean."""
EVEN_SHARE = 1e-3
"""Part of each distribution that is spread evenly, so that no class has none."""


class TailSums:
    """What lay outside the kept classes, summed by the group of the most probable class."""

    def __init__(self, groups_c: Tensor) -> None:
        """**Arguments:** `groups_c` (c,) int64, on the device of the logits to come."""
        self.groups_c = groups_c
        num_groups = int(groups_c.max()) + 1
        self.sums_gc = torch.zeros(num_groups, len(groups_c), dtype=torch.float64, device=groups_c.device)
        self.views = torch.zeros((), dtype=torch.float64, device=groups_c.device)

    @torch.no_grad()
    def add(self, logits_bc: Tensor, selection: Selection) -> None:
        """Adds the views of a batch. `selection` must be one that leaves a tail."""
        kept = select_topk(logits_bc, topk=selection.topk, max_mass=selection.max_mass)
        rest_bc = logits_bc.double().softmax(dim=1)
        held_bk = rest_bc.gather(1, kept.indices).masked_fill(kept.logprobs.isfinite(), 0)
        rest_bc = rest_bc.scatter(1, kept.indices, held_bk)
        self.sums_gc.index_add_(0, self.groups_c[kept.indices[:, 0]], rest_bc)
        self.views += len(logits_bc)

    def model(self, runtime: Runtime | None = None) -> logitstore.TailModel:
        """The means over the views of all processes, drawn towards the mean of all groups where views are few.

        A group's distribution is (its sum + `PRIOR_VIEWS` average tails of the overall mean), scaled to sum to 1.
        """
        sums_gc, views = self.sums_gc, self.views
        if runtime is not None and runtime.world > 1:
            sums_gc, views = (runtime.accelerator.reduce(t, reduction="sum") for t in (sums_gc, views))
        overall_c = sums_gc.sum(dim=0)
        mean_tail = overall_c.sum() / views.clamp(min=1)
        if overall_c.sum() > 0:
            overall_c = overall_c / overall_c.sum()
        mixed_gc = sums_gc + PRIOR_VIEWS * mean_tail * overall_c
        totals_g1 = mixed_gc.sum(dim=1, keepdim=True)
        num_classes = sums_gc.shape[1]
        even = torch.full_like(mixed_gc, 1 / num_classes)
        spread_gc = torch.where(totals_g1 > 0, mixed_gc / totals_g1.clamp(min=1e-300), even)
        spread_gc = (1 - EVEN_SHARE) * spread_gc + EVEN_SHARE / num_classes
        return logitstore.TailModel(groups=self.groups_c.cpu().numpy(), logprobs=spread_gc.log().float().cpu().numpy())


def class_groups(net: nn.Module, num_classes: int, *, most: int = MOST_GROUPS) -> Tensor:
    """(c,) int64 group of each class: its own, or, of more than `most` classes, that of its cluster.

    Clusters are of the directions of the classes' rows in the classifier's weights, by k-means from classes that are
    far from each other, so the same weights make the same groups. A teacher whose classifier is no linear layer of so
    many rows gets ranges of class numbers, which in WordNet's order are related too.
    """
    if num_classes <= most:
        return torch.arange(num_classes)
    weights = _classifier_weights(net, num_classes)
    if weights is None:
        return torch.arange(num_classes) * most // num_classes
    directions_cd = nn.functional.normalize((weights - weights.mean(dim=0)).float().cpu(), dim=1)
    centres_gd = _far_apart(directions_cd, number=most)
    groups_c = torch.zeros(num_classes, dtype=torch.long)
    for _ in range(10):
        groups_c = torch.cat([(part @ centres_gd.T).argmax(dim=1) for part in torch.split(directions_cd, 4096)])
        sums_gd = torch.zeros_like(centres_gd).index_add_(0, groups_c, directions_cd)
        filled_g = torch.bincount(groups_c, minlength=most) > 0
        centres_gd = torch.where(filled_g[:, None], nn.functional.normalize(sums_gd, dim=1), centres_gd)
    _, packed_c = np.unique(groups_c.numpy(), return_inverse=True)
    return torch.from_numpy(packed_c.astype(np.int64))


def _far_apart(directions_cd: Tensor, *, number: int) -> Tensor:
    """(g, d) rows: the first, then again and again the one that is least like all those before."""
    chosen = [0]
    likeness_c = directions_cd @ directions_cd[0]
    while len(chosen) < number:
        chosen.append(int(likeness_c.argmin()))
        likeness_c = torch.maximum(likeness_c, directions_cd @ directions_cd[chosen[-1]])
    return directions_cd[chosen]


def _classifier_weights(net: nn.Module, num_classes: int) -> Tensor | None:
    """(c, d) weights of the last linear layer, if it has a row for each class."""
    linears = [module for module in net.modules() if isinstance(module, nn.Linear)]
    if linears and linears[-1].weight.shape[0] == num_classes:
        return linears[-1].weight.detach()
    return None


@torch.inference_mode()
def learn_tail(
    config: SaveLogitsConfig, spec: logitstore.StoreSpec, teacher: ImageModel, dataset: BlockBatches, *,
    groups_c: torch.Tensor, runtime: Runtime,
) -> logitstore.TailModel:  # fmt: skip
    """How the teacher spreads what is not kept, from views of epoch 0 that the processes share. Damaged pictures count
    for nothing.

    **Arguments:** `teacher` on its device; `groups_c` (c,) int64 group of each class.
    """
    parts = pilot_parts(spec.num_samples, num_views=config.store.tail_views, batch_size=config.batch_size)
    mine = parts[runtime.rank :: runtime.world]
    normalise = Normalise(teacher.mean, teacher.std, device=runtime.device, channels_last=config.compute.channels_last)
    sums = TailSums(groups_c.to(runtime.device))
    batches = load(dataset, mine, workers=config.data.workers, prefetch=config.data.prefetch, pin=runtime.pin)
    views = sum(part.end - part.begin for part in mine)
    with Progress("learning the tail", total=views, unit="views", shown=runtime.is_main) as progress:
        for (batch,) in batches:
            logits_bc = forward(teacher.net, batch.pixels_bhwc, normalise=normalise, accelerator=runtime.accelerator)
            sums.add(logits_bc[batch.weights_b.to(runtime.device) > 0], selection_of(spec))
            progress.advance(len(batch))
    return sums.model(runtime)


def pilot_parts(num_samples: int, *, num_views: int, batch_size: int) -> list[BlockSlice]:
    """Batches of about `num_views` views of epoch 0, or of all it has, in runs spread evenly over the rows."""
    starts = np.arange(0, num_samples, batch_size)
    if num_views < num_samples:
        starts = starts[np.unique(np.linspace(0, len(starts) - 1, -(-num_views // batch_size)).astype(np.int64))]
    return [BlockSlice((0,), 0, int(s), min(int(s) + batch_size, num_samples), last=False) for s in starts]
