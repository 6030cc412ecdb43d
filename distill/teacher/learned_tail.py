"""A tail model: how a teacher distributes the mass outside the top-k, learned from some of the views to be stored.

For each group of most probable classes it is the mean distribution outside the top-k. It adds no bytes per view: the
model is stored once, and the student's loss distributes each view's own tail by it (`losses`, tail `learned`).

The views are of epoch 0, and the teacher sees them before the store is made. So the model is there as soon as the store
is, is the same for all processes that fill it, and a pass that is killed leaves no unfinished model.

Up to `MAX_GROUPS` classes every class is a group. With more, a table of classes by classes would be too large: classes
whose rows in the teacher's classifier have similar directions form one group.
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
from distill.targets.selection import select_topk

MAX_GROUPS = 1024
PRIOR_VIEWS = 4.0
"""Weight of the mean over all groups in a group's own mean, in views."""
UNIFORM_WEIGHT = 1e-3
"""Weight of the uniform distribution in every distribution, so that no class has probability zero."""


class TailSums:
    """Sums of the teacher's distributions outside the top-k, per class group."""

    def __init__(self, class_groups_c: Tensor) -> None:
        """**Arguments:** `class_groups_c` (c,) int64 group of each most probable class, on the device of the logits."""
        self.class_groups_c = class_groups_c
        num_groups = int(class_groups_c.max()) + 1
        shape, device = (num_groups, len(class_groups_c)), class_groups_c.device
        self.sums_gc = torch.zeros(shape, dtype=torch.float64, device=device)
        self.num_views = torch.zeros((), dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, logits_bc: Tensor, *, topk: int) -> None:
        """Adds the views of a batch, (b, c) logits of any floating type."""
        targets = select_topk(logits_bc, topk=topk)
        others_bc = logits_bc.double().softmax(dim=1).scatter(1, targets.indices, 0)
        self.sums_gc.index_add_(0, self.class_groups_c[targets.indices[:, 0]], others_bc)
        self.num_views += len(logits_bc)

    def model(self, runtime: Runtime | None = None) -> logitstore.TailModel:
        """The means over the views of all processes, shrunk towards the mean of all groups where views are few.

        A group's distribution is (its sum + `PRIOR_VIEWS` average tails of the overall mean), scaled to sum to 1.
        """
        sums_gc, num_views = self.sums_gc, self.num_views
        if runtime is not None and runtime.world > 1:
            sums_gc, num_views = (runtime.accelerator.reduce(t, reduction="sum") for t in (sums_gc, num_views))
        overall_c = sums_gc.sum(dim=0)
        mean_tail = overall_c.sum() / num_views.clamp(min=1)
        if overall_c.sum() > 0:
            overall_c = overall_c / overall_c.sum()
        shrunk_gc = sums_gc + PRIOR_VIEWS * mean_tail * overall_c
        totals_g1 = shrunk_gc.sum(dim=1, keepdim=True)
        num_classes = sums_gc.shape[1]
        uniform_gc = torch.full_like(shrunk_gc, 1 / num_classes)
        probs_gc = torch.where(totals_g1 > 0, shrunk_gc / totals_g1.clamp(min=1e-300), uniform_gc)
        probs_gc = (1 - UNIFORM_WEIGHT) * probs_gc + UNIFORM_WEIGHT / num_classes
        groups = self.class_groups_c.cpu().numpy()
        return logitstore.TailModel(groups=groups, logprobs=probs_gc.log().float().cpu().numpy())


def class_groups(net: nn.Module, num_classes: int, *, max_groups: int = MAX_GROUPS) -> Tensor:
    """(c,) int64 group of each class: a group of its own, or, with more than `max_groups` classes, its cluster.

    The directions of the classes' rows in the classifier's weights are clustered by k-means, whose first centres are
    classes far from each other, so the same weights give the same groups. Without a linear classifier of `num_classes`
    rows, groups are ranges of class indices, which are related classes too where WordNet ids are sorted.
    """
    if num_classes <= max_groups:
        return torch.arange(num_classes)
    weights = _classifier_weights(net, num_classes)
    if weights is None:
        return torch.arange(num_classes) * max_groups // num_classes
    directions_cd = nn.functional.normalize((weights - weights.mean(dim=0)).float().cpu(), dim=1)
    centres_gd = _distant_rows(directions_cd, number=max_groups)
    groups_c = torch.zeros(num_classes, dtype=torch.long)
    for _ in range(10):
        groups_c = torch.cat([(part_cd @ centres_gd.T).argmax(dim=1) for part_cd in torch.split(directions_cd, 4096)])
        sums_gd = torch.zeros_like(centres_gd).index_add_(0, groups_c, directions_cd)
        filled_g = torch.bincount(groups_c, minlength=max_groups) > 0
        centres_gd = torch.where(filled_g[:, None], nn.functional.normalize(sums_gd, dim=1), centres_gd)
    _, packed_c = np.unique(groups_c.numpy(), return_inverse=True)
    return torch.from_numpy(packed_c.astype(np.int64))


def _distant_rows(directions_cd: Tensor, *, number: int) -> Tensor:
    """(g, d) rows: the first, then repeatedly the row whose largest similarity to the chosen ones is smallest."""
    chosen = [0]
    similarity_c = directions_cd @ directions_cd[0]
    while len(chosen) < number:
        chosen.append(int(similarity_c.argmin()))
        similarity_c = torch.maximum(similarity_c, directions_cd @ directions_cd[chosen[-1]])
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
    class_groups_c: torch.Tensor, runtime: Runtime,
) -> logitstore.TailModel:  # fmt: skip
    """Learns a tail model from views of epoch 0, divided among the processes. Damaged images are left out.

    **Arguments:** `teacher` on its device; `class_groups_c` (c,) int64 group of each class.
    """
    slices = pilot_slices(spec.num_samples, num_views=config.store.tail_views, batch_size=config.batch_size)
    own_slices = slices[runtime.rank :: runtime.world]
    normalise = Normalise(teacher.mean, teacher.std, device=runtime.device, channels_last=config.compute.channels_last)
    sums = TailSums(class_groups_c.to(runtime.device))
    batches = load(dataset, own_slices, workers=config.data.workers, prefetch=config.data.prefetch, pin=runtime.pin)
    num_views = sum(rows.end - rows.begin for rows in own_slices)
    with Progress("learning the tail", total=num_views, unit="views", shown=runtime.is_main) as progress:
        for (batch,) in batches:
            logits_bc = forward(teacher.net, batch.pixels_bhwc, normalise=normalise, accelerator=runtime.accelerator)
            sums.add(logits_bc[batch.weights_b.to(runtime.device) > 0], topk=spec.topk)
            progress.advance(len(batch))
    return sums.model(runtime)


def pilot_slices(num_samples: int, *, num_views: int, batch_size: int) -> list[BlockSlice]:
    """Batches of about `num_views` views of epoch 0, or of all it has, at equal distances over the rows."""
    starts = np.arange(0, num_samples, batch_size)
    if num_views < num_samples:
        starts = starts[np.unique(np.linspace(0, len(starts) - 1, -(-num_views // batch_size)).astype(np.int64))]
    return [BlockSlice((0,), 0, int(s), min(int(s) + batch_size, num_samples), last=False) for s in starts]
