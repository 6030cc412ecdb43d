"""Opening a store to replay it: is it about this data, is it complete, and do its views come out the same here?

A student trusts stored logits only because it sees the images the teacher saw. So before anything is trained, some
synthetic images are rendered and held against the digest in the store, and the images of a few blocks' first rows
against those blocks' proofs. Each further block is verified when training first reads it (see `proofs`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

import logitstore
from distill.config import StoreConfig
from distill.data.catalog import Catalog
from distill.errors import DistillError
from distill.replay.proofs import HOW_TO_GO_ON, ProofVerifier, explain_digest, explain_failure
from distill.views import ViewSpec
from distill.views.digest import view_digest
from logitstore.ranges import compact

_PROOFS_AT_START = 4


@dataclass(frozen=True, slots=True)
class Replay:
    """A store that is fit to be replayed."""

    store: logitstore.Store
    spec: ViewSpec
    epochs: tuple[int, ...]
    """The stored epochs to go round."""


def open_replay(config: StoreConfig, catalog: Catalog) -> Replay:
    """Opens a store over `catalog` for training.

    **Raises:** `DistillError` or a `logitstore.StoreError` if it belongs to other data, lacks blocks (unless only
    complete epochs are asked for), or its views do not replay and `check` is `strict`.
    """
    assert config.path
    store = logitstore.open(config.path)
    spec = view_spec_of(store, catalog)
    done = store.done()
    complete = done.all(axis=1)
    if config.epochs == "all" and not complete.all():
        raise DistillError(_missing(store, done))
    if not complete.any():
        raise DistillError(f"{config.path} has no complete epoch yet: let `distill.save_logits` finish one")
    epochs = tuple(int(epoch) for epoch in np.flatnonzero(complete))
    if config.check != "off":
        blocks = [(epoch, block) for epoch in epochs for block in range(store.spec.num_blocks)]
        some = [blocks[n] for n in np.linspace(0, len(blocks) - 1, _PROOFS_AT_START).astype(int)]
        here, there = view_digest(spec), store.spec.software.get("views", {}).get("digest", "")
        if there and here != there:
            _warn_or_raise(explain_digest(store, here=here, there=there), check=config.check)
        if wrong := list(ProofVerifier(store, spec, catalog).failed(sorted(set(some)))):
            _warn_or_raise(explain_failure(store, wrong), check=config.check)
    return Replay(store, spec, epochs)


def _warn_or_raise(message: str, *, check: str) -> None:
    if check == "strict":
        raise DistillError(f"{message}. {HOW_TO_GO_ON}")
    print(f"warning: {message}", flush=True)


def _missing(store: logitstore.Store, done: npt.NDArray[np.bool_]) -> str:
    lacks = [
        f"epoch {epoch} lacks blocks {compact(np.flatnonzero(~done[epoch]).tolist())}"
        for epoch in np.flatnonzero(~done.all(axis=1)).tolist()
    ]
    shown = "\n  ".join([*lacks[:20], f"and {len(lacks) - 20} epochs more"] if len(lacks) > 20 else lacks)
    return (
        f"{store.path} is not complete: let `distill.save_logits` finish it, or train on its complete epochs alone "
        f"with store.epochs=complete\n  {shown}"
    )


def view_spec_of(store: logitstore.Store, catalog: Catalog) -> ViewSpec:
    """The store's ViewSpec. **Raises:** `DistillError` if the store is about other data than the catalog."""
    if store.spec.view.get("replayable") is False:
        raise DistillError(
            f"{store.path} cannot be replayed: its logits were imported ({store.spec.view.get('source', 'unknown')}), "
            "and their views were drawn by another program. `logitstore` can look into it, recode and export it; "
            "to train a student, make a store with `distill.save_logits`"
        )
    check_same_data(store, catalog)
    return ViewSpec.from_json(store.spec.view)


def check_same_data(store: logitstore.Store, catalog: Catalog) -> None:
    """**Raises:** `DistillError` if the store is about other data than the catalog."""
    stored = store.spec.data.get("fingerprint")
    if stored != catalog.fingerprint:
        raise DistillError(
            f"{store.path} was made from other data than {catalog.where}: fingerprint {stored} of "
            f"{store.spec.num_samples} samples there, {catalog.fingerprint} of {len(catalog)} here. "
            "Name the data set that the teacher saw"
        )
