"""Opens a store for replay, and verifies that it belongs to this data, is complete, and renders the same views here.

Stored logits are only right for the images that the teacher saw. So before training, synthetic images are rendered and
compared with the digest in the store, and the first rows of a few blocks with those blocks' proofs. Every other block
is verified when training first reads it (see `proofs`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

import logitstore
from distill.config import StoreConfig
from distill.data.catalog import Catalog
from distill.errors import DistillError
from distill.replay import recorded
from distill.replay.proofs import OVERRIDE, ProofVerifier, explain_digest, explain_failure
from distill.views import ViewSpec
from distill.views.digest import view_digest
from logitstore.ranges import compact

_PROOFS_AT_START = 4


@dataclass(frozen=True, slots=True)
class Replay:
    """A store that has been verified for replay."""

    store: logitstore.Store
    spec: ViewSpec
    epochs: tuple[int, ...]
    """The complete stored epochs, which training repeats in turn."""


def open_replay(config: StoreConfig, catalog: Catalog) -> Replay:
    """Opens a store over `catalog` for training.

    **Raises:** `DistillError` or a `logitstore.StoreError` if it belongs to other data, lacks blocks (unless `epochs`
    is `complete`), or its views do not replay and `check` is `strict`.
    """
    assert config.path
    store = logitstore.open(config.path)
    spec = view_spec_of(store, catalog)
    done = store.done()
    complete = done.all(axis=1)
    if config.epochs == "all" and not complete.all():
        raise DistillError(_missing(store, done))
    if not complete.any():
        raise DistillError(f"{config.path} has no complete epoch yet: finish one with `distill.save_logits`")
    epochs = tuple(int(epoch) for epoch in np.flatnonzero(complete))
    if config.check != "off":
        blocks = [(epoch, block) for epoch in epochs for block in range(store.spec.num_blocks)]
        sample = [blocks[n] for n in np.linspace(0, len(blocks) - 1, _PROOFS_AT_START).astype(int)]
        digest, stored_digest = view_digest(spec), recorded.view_software(store).get("digest", "")
        if stored_digest and digest != stored_digest:
            _warn_or_raise(explain_digest(store, digest=digest, stored=stored_digest), check=config.check)
        if failed := list(ProofVerifier(store, spec, catalog).failed(sorted(set(sample)))):
            _warn_or_raise(explain_failure(store, failed), check=config.check)
    return Replay(store, spec, epochs)


def _warn_or_raise(message: str, *, check: str) -> None:
    if check == "strict":
        raise DistillError(f"{message}. {OVERRIDE}")
    print(f"warning: {message}", flush=True)


def _missing(store: logitstore.Store, done: npt.NDArray[np.bool_]) -> str:
    lines = [
        f"epoch {epoch} lacks blocks {compact(np.flatnonzero(~done[epoch]).tolist())}"
        for epoch in np.flatnonzero(~done.all(axis=1)).tolist()
    ]
    text = "\n  ".join([*lines[:20], f"and {len(lines) - 20} more epochs"] if len(lines) > 20 else lines)
    return (
        f"{store.path} is not complete: finish it with `distill.save_logits`, or train on its complete epochs alone "
        f"with store.epochs=complete\n  {text}"
    )


def view_spec_of(store: logitstore.Store, catalog: Catalog) -> ViewSpec:
    """The store's ViewSpec. **Raises:** `DistillError` if the store belongs to other data, or cannot be replayed."""
    if store.spec.view.get("replayable") is False:
        raise DistillError(
            f"{store.path} cannot be replayed: its logits were imported ({store.spec.view.get('source', 'unknown')}), "
            "and their views were drawn by another program. `logitstore` can inspect, recode and export it; to train "
            "a student, make a store with `distill.save_logits`"
        )
    check_same_data(store, catalog)
    return ViewSpec.from_json(store.spec.view)


def check_same_data(store: logitstore.Store, catalog: Catalog) -> None:
    """**Raises:** `DistillError` if the store belongs to other data than the catalog."""
    stored = store.spec.data.get("fingerprint")
    if stored != catalog.fingerprint:
        raise DistillError(
            f"{store.path} was made from other data than {catalog.where}: fingerprint {stored} of "
            f"{store.spec.num_samples} samples there, {catalog.fingerprint} of {len(catalog)} here. "
            "Give the data set that the teacher saw"
        )
