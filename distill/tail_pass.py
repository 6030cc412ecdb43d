"""The views that a learned tail is learned from: a teacher pass before the teacher pass, see `tail_model`."""

from __future__ import annotations

import numpy as np
import torch

import logitstore
from distill.config import SaveLogitsConfig
from distill.data.batches import BlockBatches, BlockPart
from distill.data.loader import load
from distill.progress import Progress
from distill.runtime import Normalise, Runtime
from distill.tail_model import TailSums
from distill.teacher_pass import logits_of, selection_of
from models import Teacher


def learn_tail(
    config: SaveLogitsConfig, spec: logitstore.StoreSpec, teacher: Teacher, dataset: BlockBatches, *,
    groups_c: torch.Tensor, process: Runtime,
) -> logitstore.TailModel:  # fmt: skip
    """How the teacher spreads what is not kept, from views of epoch 0 that the processes share. Damaged pictures count
    for nothing.

    **Arguments:** `teacher` on its device; `groups_c` (c,) int64 group of each class.
    """
    parts = pilot_parts(spec.num_samples, num_views=config.store.tail_views, batch_size=config.batch_size)
    mine = parts[process.rank :: process.world]
    normalise = Normalise(teacher.mean, teacher.std, process=process, compute=config.compute)
    sums = TailSums(groups_c.to(process.device))
    batches = load(dataset, mine, workers=config.data.workers, prefetch=config.data.prefetch, pin=process.pin)
    views = sum(part.end - part.begin for part in mine)
    with Progress("learning the tail", total=views, unit="views", shown=process.is_main) as progress:
        for (batch,) in batches:
            logits_bc = logits_of(teacher, batch, normalise=normalise, runtime=process)
            sums.add(logits_bc[batch.weights_b.to(process.device) > 0], selection_of(spec))
            progress.advance(len(batch))
    return sums.model(process)


def pilot_parts(num_samples: int, *, num_views: int, batch_size: int) -> list[BlockPart]:
    """Batches of about `num_views` views of epoch 0, or of all it has, in runs spread evenly over the rows."""
    starts = np.arange(0, num_samples, batch_size)
    if num_views < num_samples:
        starts = starts[np.unique(np.linspace(0, len(starts) - 1, -(-num_views // batch_size)).astype(np.int64))]
    return [BlockPart((0,), 0, int(s), min(int(s) + batch_size, num_samples), last=False) for s in starts]
