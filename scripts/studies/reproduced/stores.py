"""Teacher passes that store every class in float16, and smaller stores made from them.

So a teacher runs once for all stores that are compared, and all of them hold the same outputs. Selection, learned tail
and writing are the teacher pass's own functions.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import distill.config.command
import logitstore
from distill import inputs, save_logits
from distill.config import SaveLogitsConfig
from distill.data.catalog import open_catalog
from distill.data.seeds import DerivedSeeds
from distill.targets.selection import Selection, select_targets
from distill.teacher.learned_tail import TailSums
from logitstore.tools.describe import describe_store
from scripts.studies.fidelity import end_at_mass
from scripts.studies.reproduced.images import data_path
from scripts.studies.reproduced.settings import VIEWS, Pass, Store, fingerprint, teacher_arguments

OTHER_SEED = 1
"""Store seed of views that are not the teacher's; the teacher's is 0."""


def pass_path(work: Path, of: Pass) -> Path:
    return work / "passes" / f"{of.teacher}-{of.view}-{fingerprint(of)}.zarr"


def store_path(work: Path, store: Store) -> Path:
    return work / "stores" / f"{store.selection}-{store.topk}-{store.encoding}-{fingerprint(store)}.zarr"


def run_pass(work: Path, of: Pass) -> None:
    """Runs the teacher pass; resumes where it was stopped."""
    classes = 10 if of.teacher == "fashion" else 1000
    arguments = [
        f"data.path={data_path(work, of.data)}", *teacher_arguments(of.teacher), *VIEWS[of.view],
        f"store.path={pass_path(work, of)}", f"store.topk={classes}", f"store.epochs={of.epochs}",
        "store.encoding=float16", "batch_size=64", "data.workers=0", "compute.threads=1",
    ]  # fmt: skip
    save_logits.main(distill.config.command.load("save_logits", SaveLogitsConfig, arguments))


def is_made(path: Path) -> bool:
    return path.exists() and bool(logitstore.open(path).done().all())


def make_store(work: Path, store: Store) -> None:
    """Writes `store` from its pass; resumes where it was stopped."""
    origin, path = logitstore.open(pass_path(work, store.of)), store_path(work, store)
    selection = Selection(kind=store.selection, topk=store.topk, draws=store.draws)
    learned = learn_tail(origin, topk=store.topk) if store.tail == "learned" else None
    spec = replace(
        origin.spec, num_epochs=store.epochs, topk=store.topk, selection=store.selection, max_mass=store.max_mass,
        draws=store.draws, encoding=store.encoding, tail_groups=origin.spec.num_classes if learned else 0,
    )  # fmt: skip
    if store.view:
        spec = replace(spec, view=view_json(store.view))
    if not path.exists():
        catalog = open_catalog(data_path(work, store.of.data))
        logitstore.create(path, spec, keys=catalog.key_hashes(), labels=np.asarray(catalog.labels), tail_model=learned)
    with logitstore.writer(path) as writer:
        for epoch, block in np.argwhere(~logitstore.open(path).done()).tolist():
            rows = spec.block_rows(block)
            origin_epoch = 0 if store.view else epoch
            logprobs_bc, seeds = dense(origin, origin_epoch, rows)
            if store.unmatched or store.view:
                base = OTHER_SEED if store.unmatched else 0
                source = DerivedSeeds(base=base, num_samples=spec.num_samples)
                seeds = source.seeds(np.full(len(rows), epoch), np.arange(rows.start, rows.stop))
            targets = end_at_mass(select_targets(logprobs_bc, selection, seeds_b=seeds), store.max_mass)
            writer.write(
                epoch, block, seeds=seeds, indices=targets.indices.numpy(), logprobs=targets.logprobs.numpy(),
                tail=targets.tail.numpy(), proof=origin.proof(origin_epoch, block),
            )  # fmt: skip


def view_json(view: str) -> dict[str, object]:
    arguments = [*VIEWS[view], "data.path=unused", "store.path=unused"]
    return inputs.open_view_spec(distill.config.command.load("save_logits", SaveLogitsConfig, arguments).view).to_json()


def dense(store: logitstore.Store, epoch: int, rows: range) -> tuple[torch.Tensor, np.ndarray]:
    """(b, c) float32 log-probabilities of all classes, and the views' seeds (b,)."""
    stored = store.read(epoch=epoch, rows=rows)
    logprobs_bc = np.full((len(rows), store.spec.num_classes), -np.inf, np.float32)
    np.put_along_axis(logprobs_bc, stored.indices, stored.logprobs, axis=1)
    return torch.from_numpy(logprobs_bc), stored.seeds


def learn_tail(origin: logitstore.Store, *, topk: int) -> logitstore.TailModel:
    """Learns the tail from all views of epoch 0, as a teacher pass does."""
    sums = TailSums(torch.arange(origin.spec.num_classes))
    for block in range(origin.spec.num_blocks):
        sums.add(dense(origin, 0, origin.spec.block_rows(block))[0], topk=topk)
    return sums.model()


def facts(work: Path, store: Store) -> dict[str, float]:
    """Bytes per view, counting all files of the blocks; stored classes and their mass, means over epoch 0."""
    opened = logitstore.open(store_path(work, store))
    rows = opened.read(epoch=0, rows=slice(None))
    present = rows.logprobs > -np.inf
    return {
        "bytes_per_view": float(describe_store(opened)["bytes_per_view"]),
        "classes": float(present.sum(axis=1).mean()),
        "kept_mass": float(1 - np.exp(rows.tail.astype(np.float64)).mean()),
    }
