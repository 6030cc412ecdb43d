"""Opening a store to replay it: is it about this data, is it complete, and do its views come out the same here?

A student trusts stored logits only because it sees the pictures the teacher saw. So before anything is trained, the
pictures of a few blocks' first rows are rendered again and held against the proofs in the store.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

import logitstore
from distill import views
from distill.config import StoreConfig
from distill.data.batches import Pictures
from distill.data.catalog import Catalog
from distill.errors import DistillError
from distill.views import ViewSpec, block_proof, draw
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
        if wrong := list(failed_proofs(store, spec, catalog, sorted(set(some)))):
            message = explain_failure(store, wrong)
            if config.check == "strict":
                raise DistillError(f"{message}. To train all the same, set store.check=warn or off")
            print(f"warning: {message}", flush=True)
    return Replay(store, spec, epochs)


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
    stored = store.spec.data.get("fingerprint")
    if stored != catalog.fingerprint:
        raise DistillError(
            f"{store.path} was made from other data than {catalog.path}: fingerprint {stored} of "
            f"{store.spec.num_samples} samples there, {catalog.fingerprint} of {len(catalog)} here. "
            "Name the data set that the teacher saw"
        )
    return ViewSpec.from_json(store.spec.view)


def failed_proofs(
    store: logitstore.Store, spec: ViewSpec, catalog: Catalog, blocks: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Renders the first rows of (epoch, block) pairs at the teacher's size; yields those whose proof differs."""
    pictures = Pictures(catalog, size=int(store.spec.teacher["image_size"]))
    for epoch, block in blocks:
        rows = store.spec.block_rows(block)[: store.spec.proof_rows]
        if not proof_holds(store, spec, pictures, epoch=epoch, block=block, rows=rows):
            yield epoch, block


def proof_holds(
    store: logitstore.Store, spec: ViewSpec, pictures: Pictures, *, epoch: int, block: int, rows: range
) -> bool:
    """Whether a block's first rows render to the pictures that the teacher saw."""
    seeds = store.read(epoch=epoch, rows=rows).seeds
    fields = pictures(
        np.arange(rows.start, rows.stop),
        lambda position, source: draw(spec, int(seeds[position]), source),
        num_digests=len(rows),
    )
    return block_proof(fields["digests"]) == store.proof(epoch, block)


def explain_failure(store: logitstore.Store, wrong: Sequence[tuple[int, int]]) -> str:
    """Says which proofs failed and which library versions differ."""
    here, there = views.software(), store.spec.software.get("views", {})
    differ = [f"{name} {there.get(name)} there, {here.get(name)} here" for name in sorted(here | there)
              if here.get(name) != there.get(name)]  # fmt: skip
    cause = "; ".join(differ) if differ else "no library version differs, so look at the images themselves"
    places = ", ".join(f"epoch {epoch} block {block}" for epoch, block in wrong[:5])
    return (
        f"the views of {store.path} do not come out here as the teacher saw them ({len(wrong)} proofs fail: {places}"
        f"{', ...' if len(wrong) > 5 else ''}; {cause})"
    )
