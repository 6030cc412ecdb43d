"""Verification of a store: do its views replay here, and does its teacher still give the stored logits?

    python -m distill.verify_logits data.path=DATA teacher=efficientnet_lite0 store.path=T.zarr

Renders the first rows of every block (or of `check.blocks` blocks) and compares them with the blocks' proofs; then runs
the teacher again on `check.rows` rows and compares classes and log-probabilities. Exits with 1 on a difference.

    python -m distill.verify_logits data.path=DATA store.path=T.zarr show.row=12 show.png=view.png

explains one view: its parameters in words, what it is mixed with, and the rendered image.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

import logitstore
from distill import inputs
from distill.config import OneViewConfig, VerifyLogitsConfig
from distill.config.command import Program, run_program
from distill.data.catalog import Catalog
from distill.data.shards import ShardReader
from distill.errors import DistillError
from distill.replay import recorded
from distill.replay.open_store import view_spec_of
from distill.replay.proofs import ProofVerifier, explain_failure
from distill.runtime import processes
from distill.runtime.progress import Progress
from distill.teacher.recheck import compare_with_teacher
from distill.views import describe, describe_mix, draw, image_size
from logitstore.untrusted import printable


def main(config: VerifyLogitsConfig) -> None:
    assert config.data.path and config.store.path
    catalog = inputs.open_catalog(config.data, config.data.path)
    store = logitstore.open(config.store.path)
    if config.show.row is not None:
        show_view(store, catalog, config.show, row=config.show.row)
        return
    runtime = processes.start(config.compute)
    if runtime.world > 1:
        raise DistillError("distill.verify_logits runs as one process: start it without torchrun")
    faults = check_proofs(store, catalog, blocks=config.check.blocks)
    if config.check.rows:
        teacher = inputs.open_teacher(config.teacher)
        faults += compare_with_teacher(store, catalog, teacher, config=config, runtime=runtime)
    if faults:
        raise DistillError(f"{store.path} failed the verification:\n  " + "\n  ".join(faults))
    print(f"{store.path} is verified", flush=True)


def check_proofs(store: logitstore.Store, catalog: Catalog, *, blocks: int | None) -> list[str]:
    """Renders the first rows of blocks again and compares them with the proofs in the store.

    **Arguments:** `blocks`: how many, uniformly spaced over the blocks that there are; None: all.

    **Returns:** a sentence on the blocks that differ; empty if none does. **Raises:** `DistillError` for a store
    without blocks.
    """
    verifier = ProofVerifier(store, view_spec_of(store, catalog), catalog)
    present = [(int(epoch), int(block)) for epoch, block in np.argwhere(store.done())]
    if not present:
        raise DistillError(f"{store.path} has no block yet: run `distill.save_logits` first")
    if blocks is not None and blocks < len(present):
        present = [present[n] for n in np.linspace(0, len(present) - 1, blocks).astype(int)]
    failed: list[tuple[int, int]] = []
    with Progress("proofs", total=len(present), unit="blocks") as progress:
        for block in present:
            failed.extend(verifier.failed([block]))
            progress.advance(1)
    print(f"proofs: {len(present) - len(failed)} of {len(present)} blocks replay identically", flush=True)
    return [explain_failure(store, failed)] if failed else []


def show_view(store: logitstore.Store, catalog: Catalog, config: OneViewConfig, *, row: int) -> None:
    """Prints the parameters of a view, and of the view mixed into it, and saves the rendered image."""
    spec = view_spec_of(store, catalog)
    size = config.size or recorded.image_size(store)
    pixels, mixture = ProofVerifier(store, spec, catalog, size=size).image(config.epoch, row)
    path = Path(config.png)
    if not cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)):
        raise DistillError(f"cannot write {path}: name a PNG file in a folder that exists")
    for mixed_row in dict.fromkeys((row, mixture.partner if mixture else row)):
        seed = int(store.read(epoch=config.epoch, rows=np.array([mixed_row])).seeds[0])
        label = int(catalog.labels[mixed_row])
        name = f" ({printable(catalog.class_names[label])})" if label >= 0 else ""
        key = printable(catalog.key(mixed_row))
        print(f"row {mixed_row}, epoch {config.epoch}: {key}, label {label}{name}, seed {seed}")
        with ShardReader(catalog) as shards:
            view = draw(spec, seed, image_size(shards.read(mixed_row)))
        for line in describe(view):
            print(f"  {line}")
    if mixture:
        partner = "has no partner: " if mixture.partner == row else f"with row {mixture.partner}: "
        print(f"row {row} {partner}{describe_mix(mixture.mixing, size=size)}")
    print(f"{path}: the view at {size} x {size} pixels")


PROGRAM = Program(main, "verify_logits", schema=VerifyLogitsConfig, about=__doc__)

if __name__ == "__main__":
    run_program(PROGRAM)
