"""Holds stored logits against the teacher's own, run again on the same views."""

from __future__ import annotations

import numpy as np
import torch

import logitstore
from distill import models
from distill.config import VerifyLogitsConfig
from distill.data.batches import BlockBatches, BlockSlice
from distill.data.catalog import Catalog
from distill.data.loader import load
from distill.data.seeds import as_uint64
from distill.replay.open_store import view_spec_of
from distill.runtime.model_input import Normalise
from distill.runtime.processes import Runtime
from distill.runtime.progress import Progress
from distill.targets.selection import Selection
from distill.targets.sparse import SparseTargets
from distill.teacher.run import classify

_PROVENANCE = ("kind", "name", "weights_sha256", "num_classes", "image_size", "mean", "std")


def compare_with_teacher(
    store: logitstore.Store,
    catalog: Catalog,
    teacher: models.ImageModel,
    *,
    config: VerifyLogitsConfig,
    runtime: Runtime,
) -> list[str]:
    """Runs the teacher on sampled stored rows; a sentence for each kind of disagreement, none if all is well."""
    stored_teacher, given = store.spec.teacher, teacher.provenance()
    faults = [
        f"teacher {name}: {stored_teacher.get(name)} in the store, {given.get(name)} now"
        for name in _PROVENANCE
        if _plain(stored_teacher.get(name)) != _plain(given.get(name))
    ]
    if faults:
        return faults
    runtime.place(teacher.net, config.compute)
    normalise = Normalise(teacher.mean, teacher.std, device=runtime.device, channels_last=config.compute.channels_last)
    dataset = BlockBatches(
        catalog, spec=view_spec_of(store, catalog), size=teacher.image_size, seed=store.spec.store_seed,
        rows_per_block=store.spec.rows_per_block, proof_rows=0,
    )  # fmt: skip
    parts = _sample(store, rows=config.check.rows, seed=config.check.seed, batch_size=config.batch_size)
    worst, num_rows = 0.0, sum(part.end - part.begin for part in parts)
    with Progress("teacher again", total=num_rows, unit="rows") as progress:
        batches = load(dataset, parts, workers=config.data.workers, prefetch=config.data.prefetch)
        for part, (batch,) in zip(parts, batches, strict=True):
            (epoch,) = part.epochs
            stored = store.read(epoch=epoch, rows=range(part.begin, part.end))
            if not np.array_equal(stored.seeds, as_uint64(batch.seeds_b)):
                faults.append(f"epoch {epoch} rows {part.begin}..{part.end - 1}: stored seeds are not the spec's")
                continue
            dense = classify(
                teacher, batch, Selection(kind="topk", topk=teacher.num_classes), normalise=normalise, runtime=runtime
            )
            differences = difference(stored, dense, spec=store.spec)
            differences[batch.weights_b.numpy() == 0] = 0
            worst = max(worst, float(differences.max()))
            faults += [
                f"epoch {epoch} row {part.begin + n}: a log-probability differs by {differences[n]:.3f} nats"
                for n in np.flatnonzero(differences > config.check.tolerance)
            ]
            progress.advance(len(batch))
    print(
        f"teacher: {num_rows} rows run again, largest difference of a kept log-probability {worst:.4f} nats "
        f"(tolerance {config.check.tolerance:g})",
        flush=True,
    )
    return faults if len(faults) <= 10 else [*faults[:10], f"and {len(faults) - 10} rows more"]


def difference(stored: logitstore.Rows, dense: SparseTargets, *, spec: logitstore.StoreSpec) -> np.ndarray:
    """(n,) float64: the largest difference a row shows between what is stored and the teacher's full distribution.

    For each class stored with its log-probability, that against the true one; and for the classes left out, how far the
    most probable of them lies above the least probable one that had to be kept: a wrong choice of classes shows there,
    a tie does not. A drawn class cannot be judged by its weight alone; but no class of the rest is more probable than a
    drawn one's weight (`hybrid`), and counts are within one of their expectation (`sample`). `dense` holds all classes.
    """
    true = torch.full_like(dense.logprobs, float("-inf"))
    true.scatter_(1, dense.indices, dense.logprobs)
    full = true.double().cpu().numpy()
    rows = np.arange(len(full))[:, None]
    present = stored.logprobs > -np.inf
    weights, truth = np.where(present, stored.logprobs.astype(np.float64), 0), full[rows, stored.indices]
    gaps = np.abs(weights - truth)
    least = np.where(present, truth, np.inf).min(axis=1)
    if stored.drawn is not None:
        if spec.selection == "sample":
            within = np.abs(np.exp(weights) - np.exp(truth)) <= 1 / spec.draws
            gaps, least = np.where(within, 0, gaps), np.full(len(full), -np.log(spec.draws))
        else:
            gaps = np.where(stored.drawn, np.maximum(truth - weights, 0), gaps)
            least = np.where(present & stored.drawn, weights, np.where(present, truth, np.inf)).min(axis=1)
    others = full.copy()
    np.put_along_axis(others, np.where(present, stored.indices, stored.indices[:, :1]), -np.inf, axis=1)
    wrongly_left = np.maximum(others.max(axis=1) - least, 0)
    if spec.max_mass < 1:  # Where the classes ended early, those left out are judged by what the kept ones reach.
        reached = np.exp(np.where(present, weights, -np.inf)).sum(axis=1) >= spec.max_mass - 0.01
        wrongly_left = np.where(reached, 0, wrongly_left)
    worst = np.where(present, gaps, 0).max(axis=1)
    return np.asarray(np.maximum(worst, np.where(present.any(axis=1), wrongly_left, 0)))


def _sample(store: logitstore.Store, *, rows: int, seed: int, batch_size: int) -> list[BlockSlice]:
    """Short runs of consecutive stored rows, at random places of random blocks."""
    spec = store.spec
    present = np.argwhere(store.done())
    random = np.random.default_rng(seed)
    length = min(16, batch_size, rows)
    parts: list[BlockSlice] = []
    while sum(part.end - part.begin for part in parts) < rows:
        epoch, block = present[random.integers(len(present))].tolist()
        all_rows = spec.block_rows(block)
        begin = int(random.integers(all_rows.start, max(all_rows.start, all_rows.stop - length) + 1))
        parts.append(BlockSlice((epoch,), block, begin, min(begin + length, all_rows.stop), last=True))
    return parts


def _plain(value: object) -> object:
    """Tuples as the lists that JSON makes of them."""
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
