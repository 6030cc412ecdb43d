"""What of a store's pictures can be shown here: the originals, the views as the teacher saw them, or nothing; and the
sentences that the page must say about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import logitstore
from distill import inputs
from distill.config import GalleryConfig
from distill.data.catalog import Catalog
from distill.errors import DistillError
from distill.replay.open_store import check_same_data, view_spec_of
from distill.replay.proofs import ProofVerifier, explain_digest, explain_failure
from distill.views.digest import view_digest

_MOST_PROOFS = 4


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence for the top of the page."""

    kind: str
    """`good`, `plain` or `warning`."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayAvailability:
    """The parts that pictures are made with, as far as there are any."""

    catalog: Catalog | None = None
    """None: no pictures at all."""
    prover: ProofVerifier | None = None
    """Renders views at `size`; None: they cannot be drawn again."""
    size: int = 0
    """Side of the views in pixels."""
    notices: tuple[Notice, ...] = ()


def open_sight(store: logitstore.Store, config: GalleryConfig) -> ReplayAvailability:
    """Opens the data set, and finds out whether the store's views can be drawn from it.

    **Raises:** `DistillError` where the data set that is named cannot be opened, or is not the store's.
    """
    if store.spec.view.get("replayable") is False:
        source = store.spec.view.get("source", "unknown")
        return _blind(
            f"These logits were imported ({source}): their views were drawn by another program and cannot be drawn "
            "again, so there are no pictures."
        )
    if not config.data.path:
        return _blind("No data set was named (data.path), so there are no pictures.")
    catalog = inputs.open_catalog(config.data, config.data.path)
    check_same_data(store, catalog)
    try:
        spec = view_spec_of(store, catalog)
        size = config.show.size or int(store.spec.teacher["image_size"])
    except KeyError:
        text = "The store does not say its teacher's picture size: name one with show.size=224 to see the views."
        return ReplayAvailability(catalog=catalog, notices=(Notice("warning", text),))
    except (DistillError, TypeError, ValueError) as error:
        text = f"The views cannot be drawn again by this version of the program, only originals are shown: {error}"
        return ReplayAvailability(catalog=catalog, notices=(Notice("warning", text),))
    here, there = view_digest(spec), store.spec.software.get("views", {}).get("digest", "")
    notices = []
    if there and here != there:
        text = explain_digest(store, here=here, there=there)
        notices.append(Notice("warning", f"The views shown may not be what the teacher saw: {text}."))
    return ReplayAvailability(
        catalog=catalog, prover=ProofVerifier(store, spec, catalog, size=size), size=size, notices=tuple(notices)
    )


def _blind(text: str) -> ReplayAvailability:
    return ReplayAvailability(notices=(Notice("plain", text),))


def prove(store: logitstore.Store, sight: ReplayAvailability, places: Iterable[tuple[int, int]]) -> Notice | None:
    """Holds the first pictures of some (epoch, block) pairs against the proofs in the store, at the teacher's size.

    **Returns:** what to say about it; None where nothing can be proved.
    """
    if sight.prover is None or sight.catalog is None or "image_size" not in store.spec.teacher:
        return None
    if not store.spec.proof_rows:
        return Notice("plain", "The store holds no proofs: whether the views are what the teacher saw is not known.")
    prover = ProofVerifier(store, sight.prover.spec, sight.catalog)
    checked, wrong = [], []
    for place in list(dict.fromkeys(places))[:_MOST_PROOFS]:
        try:
            wrong += list(prover.failed([place], pass_damage=True))
        except logitstore.StoreError:
            continue  # A damaged block is told of elsewhere.
        checked.append(place)
    if wrong:
        return Notice("warning", f"The views shown are not what the teacher saw: {explain_failure(store, wrong)}.")
    if not checked:
        return None
    blocks = "a block" if len(checked) == 1 else f"{len(checked)} blocks"
    return Notice(
        "good",
        f"Views are drawn again from their seeds by the code that the student uses. The first views of {blocks} were "
        "held against the store's proofs: their pixels are those that the teacher saw.",
    )
