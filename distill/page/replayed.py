"""Whether the store's images can be shown: originals, the views that the teacher saw, or neither; and the notices in
which the page says so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import logitstore
from distill import inputs
from distill.config import GalleryConfig
from distill.data.catalog import Catalog
from distill.errors import DistillError
from distill.replay import recorded
from distill.replay.open_store import check_same_data, view_spec_of
from distill.replay.proofs import ProofVerifier, explain_digest, explain_failure
from distill.views.digest import view_digest

_MAX_BLOCKS = 4
"""Blocks whose proofs are verified."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence at the top of the page."""

    kind: str
    """`good`, `plain` or `warning`."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayAvailability:
    """What is needed to show images, as far as it is available."""

    catalog: Catalog | None = None
    """None: no images at all."""
    verifier: ProofVerifier | None = None
    """Renders views at `size`; None: views cannot be replayed."""
    size: int = 0
    """Side of the views in pixels."""
    notices: tuple[Notice, ...] = ()


def replay_availability(store: logitstore.Store, config: GalleryConfig) -> ReplayAvailability:
    """Opens the data set, and finds out whether the store's views can be replayed from it.

    **Raises:** `DistillError` where `data.path` cannot be opened, or is not the store's data.
    """
    if store.spec.view.get("replayable") is False:
        source = store.spec.view.get("source", "unknown")
        return _no_images(
            f"These logits were imported ({source}): their views were drawn by another program and cannot be "
            "replayed, so there are no images."
        )
    if not config.data.path:
        return _no_images("No data set was named (data.path), so there are no images.")
    catalog = inputs.open_catalog(config.data, config.data.path)
    check_same_data(store, catalog)
    if not config.show.size and "image_size" not in store.spec.teacher:
        text = "The store does not record its teacher's image size: set one, as show.size=224, to see the views."
        return ReplayAvailability(catalog=catalog, notices=(Notice("warning", text),))
    try:
        spec = view_spec_of(store, catalog)
        size = config.show.size or recorded.image_size(store)
    except (DistillError, TypeError, ValueError) as error:
        text = f"This version of the program cannot replay the views, only originals are shown: {error}"
        return ReplayAvailability(catalog=catalog, notices=(Notice("warning", text),))
    digest, stored_digest = view_digest(spec), recorded.view_software(store).get("digest", "")
    notices = []
    if stored_digest and digest != stored_digest:
        text = explain_digest(store, digest=digest, stored=stored_digest)
        notices.append(Notice("warning", f"The views shown may not be what the teacher saw: {text}."))
    return ReplayAvailability(
        catalog=catalog, verifier=ProofVerifier(store, spec, catalog, size=size), size=size, notices=tuple(notices)
    )


def _no_images(text: str) -> ReplayAvailability:
    return ReplayAvailability(notices=(Notice("plain", text),))


def verify_views(
    store: logitstore.Store, replay: ReplayAvailability, blocks: Iterable[tuple[int, int]]
) -> Notice | None:
    """Verifies the proofs of the first few of some (epoch, block) pairs, at the teacher's image size.

    **Returns:** the result; None where there is nothing to verify.
    """
    if replay.verifier is None or replay.catalog is None or "image_size" not in store.spec.teacher:
        return None
    if not store.spec.proof_rows:
        text = "The store holds no proofs, so it is not known whether the views are those that the teacher saw."
        return Notice("plain", text)
    verifier = ProofVerifier(store, replay.verifier.spec, replay.catalog)
    verified, failed = [], []
    for place in list(dict.fromkeys(blocks))[:_MAX_BLOCKS]:
        try:
            failed += list(verifier.failed([place], pass_damage=True))
        except logitstore.StoreError:
            continue  # A damaged block has a notice of its own.
        verified.append(place)
    if failed:
        return Notice("warning", f"The views shown are not what the teacher saw: {explain_failure(store, failed)}.")
    if not verified:
        return None
    number = "one block" if len(verified) == 1 else f"{len(verified)} blocks"
    return Notice(
        "good",
        "Views are replayed from their seeds by the code that the student uses. The proofs of "
        f"{number} were verified: the pixels are those that the teacher saw.",
    )
