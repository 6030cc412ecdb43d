"""Compares stored logits with those of the teacher, run again on the same views."""

from __future__ import annotations

from typing import Any

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
    """Runs the teacher on a sample of stored rows. **Returns:** a sentence per difference; empty if there is none."""
    if faults := _other_teacher(store.spec.teacher, teacher.provenance()):
        return faults
    runtime.place(teacher.net, config.compute)
    normalise = Normalise(teacher.mean, teacher.std, device=runtime.device, channels_last=config.compute.channels_last)
    dataset = BlockBatches(
        catalog, spec=view_spec_of(store, catalog), size=teacher.image_size, seed=store.spec.store_seed,
        rows_per_block=store.spec.rows_per_block, proof_rows=0,
    )  # fmt: skip
    slices = _sample(store, rows=config.check.rows, seed=config.check.seed, batch_size=config.batch_size)
    largest, num_rows = 0.0, sum(rows.end - rows.begin for rows in slices)
    with Progress("teacher again", total=num_rows, unit="rows") as progress:
        batches = load(dataset, slices, workers=config.data.workers, prefetch=config.data.prefetch)
        for rows, (batch,) in zip(slices, batches, strict=True):
            (epoch,) = rows.epochs
            stored = store.read(epoch=epoch, rows=range(rows.begin, rows.end))
            if not np.array_equal(stored.seeds, as_uint64(batch.seeds_b)):
                faults.append(f"epoch {epoch} rows {rows.begin}..{rows.end - 1}: stored seeds differ from the spec's")
                continue
            dense = classify(
                teacher, batch, Selection(kind="topk", topk=teacher.num_classes), normalise=normalise, runtime=runtime
            )
            differences = difference(stored, dense, spec=store.spec)
            differences[batch.weights_b.numpy() == 0] = 0
            largest = float(np.maximum(largest, differences.max()))  # NaN, where there is one.
            faults += [
                f"epoch {epoch} row {rows.begin + n}: a log-probability differs by {differences[n]:.3f} nats"
                for n in np.flatnonzero(~(differences <= config.check.tolerance))
            ]
            progress.advance(len(batch))
    print(
        f"teacher: {num_rows} rows run again, largest difference of a stored log-probability {largest:.4f} nats "
        f"(tolerance {config.check.tolerance:g})",
        flush=True,
    )
    return faults if len(faults) <= 10 else [*faults[:10], f"and {len(faults) - 10} rows more"]


def _other_teacher(stored: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """What differs between the records of two teachers, a sentence each."""
    return [
        f"teacher {name}: {stored.get(name)} in the store, {given.get(name)} now"
        for name in _PROVENANCE
        if _plain(stored.get(name)) != _plain(given.get(name))
    ]


def difference(stored: logitstore.Rows, dense: SparseTargets, *, spec: logitstore.StoreSpec) -> np.ndarray:
    """(n,) float64: each row's largest difference between the stored targets and the teacher's full distribution.

    Of a stored class: its log-probability against the teacher's. Of the other classes: how far the most probable one
    exceeds the least probable stored class, which is 0 for a correct selection, ties included. The weight of a drawn
    class is not its probability; but no class of the rest is more probable than that weight (`hybrid`), and counts are
    within one of their expectation (`sample`).

    **Arguments:** `dense`: the teacher's targets for all classes.
    """
    ordered = torch.full_like(dense.logprobs, float("-inf")).scatter_(1, dense.indices, dense.logprobs)
    full = ordered.double().cpu().numpy()
    rows = np.arange(len(full))[:, None]
    present = stored.logprobs > -np.inf
    weights, true = np.where(present, stored.logprobs.astype(np.float64), 0), full[rows, stored.indices]
    gaps = np.abs(weights - true)
    minimum = np.where(present, true, np.inf).min(axis=1)
    if stored.drawn is not None:
        if spec.selection == "sample":
            within = np.abs(np.exp(weights) - np.exp(true)) <= 1 / spec.draws
            gaps, minimum = np.where(within, 0, gaps), np.full(len(full), -np.log(spec.draws))
        else:
            gaps = np.where(stored.drawn, np.maximum(true - weights, 0), gaps)
            minimum = np.where(present & stored.drawn, weights, np.where(present, true, np.inf)).min(axis=1)
    others = full.copy()
    np.put_along_axis(others, np.where(present, stored.indices, stored.indices[:, :1]), -np.inf, axis=1)
    excess = np.maximum(others.max(axis=1) - minimum, 0)
    gap = np.where(present, gaps, 0).max(axis=1)
    return np.asarray(np.maximum(gap, np.where(present.any(axis=1), excess, 0)))


def _sample(store: logitstore.Store, *, rows: int, seed: int, batch_size: int) -> list[BlockSlice]:
    """Random short runs of consecutive stored rows."""
    spec = store.spec
    present = np.argwhere(store.done())
    rng = np.random.default_rng(seed)
    length = min(16, batch_size, rows)
    slices: list[BlockSlice] = []
    while sum(run.end - run.begin for run in slices) < rows:
        epoch, block = present[rng.integers(len(present))].tolist()
        all_rows = spec.block_rows(block)
        begin = int(rng.integers(all_rows.start, max(all_rows.start, all_rows.stop - length) + 1))
        slices.append(BlockSlice((epoch,), block, begin, min(begin + length, all_rows.stop), last=True))
    return slices


def _plain(value: object) -> object:
    """Tuples as lists, as in JSON."""
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
