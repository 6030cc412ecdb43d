"""Verifies that views render here as they did for the teacher: the first rows of blocks are rendered again and compared
with the blocks' proofs, digests of their pixels in the store.

`open_store` verifies a few blocks before a run begins, `verify_logits` all of them, and `VerifyFirstReads` each block
when training first reads it, in the loader's workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

import logitstore
from distill import views
from distill.data.catalog import Catalog
from distill.data.order import Int64s
from distill.data.seeds import StoredViews
from distill.data.view_reader import ViewReader
from distill.errors import DamagedImage, DistillError
from distill.replay import recorded
from distill.views import Mixing, ViewSpec, block_proof, draw_mix

_MAX_COST = 0.01
"""Maximum fraction of an epoch's images that is rendered again for proofs at first reads."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """The partner of a view, and how the two are mixed."""

    partner: int
    """Row of the partner; the view's own row where it has none."""
    mixing: Mixing | None


class ProofVerifier:
    """Renders stored views again, at the teacher's size."""

    def __init__(self, store: logitstore.Store, spec: ViewSpec, catalog: Catalog, *, size: int | None = None) -> None:
        """**Arguments:** `size`: of the rendered images, for display; None: the teacher's, as proofs need it."""
        self.store, self.spec = store, spec
        self._source = StoredViews(store)
        self._views = ViewReader(catalog, size=size or recorded.image_size(store), spec=spec, source=self._source)

    def verify(self, epoch: int, block: int, *, pass_damage: bool = False) -> bool:
        """Whether a block's first rows render to the images that the teacher saw.

        **Arguments:** `pass_damage`: True also where one of the images cannot be read, so rendering is unknown.
        """
        first = self.store.spec.block_rows(block)[: self.store.spec.proof_rows]
        rows = np.arange(first.start, first.stop)
        epochs = np.full_like(rows, epoch)
        batch = self._views.read(epochs, rows, self._source.seeds(epochs, rows), num_digests=len(rows))
        return (pass_damage and bool(batch.damage)) or block_proof(batch.digests) == self.store.proof(epoch, block)

    def failed(self, blocks: Sequence[tuple[int, int]], *, pass_damage: bool = False) -> Iterator[tuple[int, int]]:
        """The (epoch, block) pairs, among the given ones, whose proof differs."""
        return ((epoch, block) for epoch, block in blocks if not self.verify(epoch, block, pass_damage=pass_damage))

    def image(self, epoch: int, row: int) -> tuple[npt.NDArray[np.uint8], Mixture | None]:
        """The pixels of one view, uint8 (size, size, 3), and its `Mixture`, None where the spec does not mix.

        **Raises:** `DamagedImage`.
        """
        epochs, rows = np.array([epoch]), np.array([row])
        batch = self._views.read(epochs, rows, self._source.seeds(epochs, rows))
        for damage in batch.damage:
            raise DamagedImage(damage.message)
        pixels, pairs = batch.pixels_bhwc[0].numpy(), self._views.pairs
        if pairs is None:
            return pixels, None
        partner = int(pairs.partners(epochs, rows)[0])
        seed = int(self._source.seeds(epochs, np.array([min(row, partner)]))[0])
        return pixels, Mixture(partner, draw_mix(pairs.spec, seed) if partner != row else None)


class VerifyFirstReads:
    """Verifies each (epoch, block) at its first read; a reader is a loader worker of one process.

    With few readers each of them verifies every block that it reads, before it uses the block's first image. The images
    of a block's proof (`proof_rows`, twice as many where views are mixed) times its verifying readers stay below 1 % of
    the block's rows: of more readers, some verify each block, others the next. 2 rows of 4,096 allow 20 readers, each
    at a cost of 0.05 %.
    """

    def __init__(self, verifier: ProofVerifier, *, rank: int, world: int, strict: bool) -> None:
        spec = verifier.store.spec
        self._verifier, self._rank, self._world, self._strict = verifier, rank, world, strict
        images = max(1, spec.proof_rows) * (2 if verifier.spec.mix else 1)
        self._verifiers = max(1, int(_MAX_COST * spec.rows_per_block / images))
        self._seen = np.zeros((spec.num_epochs, spec.num_blocks), np.bool_)

    def __call__(self, epochs: Int64s, rows: Int64s) -> str | None:
        """Verifies the blocks that a batch is the first to read. **Arguments:** the batch's coordinates, (b,).

        **Returns:** a message where a proof differs, else None. **Raises:** it as `DistillError` when strict.
        """
        blocks = rows // self._verifier.store.spec.rows_per_block
        new = np.unique(np.stack([epochs, blocks], axis=1)[~self._seen[epochs, blocks]], axis=0)
        self._seen[new[:, 0], new[:, 1]] = True
        own = [(epoch, block) for epoch, block in new.tolist() if self._is_own(epoch, block)]
        failed = list(self._verifier.failed(own, pass_damage=True))
        if not failed:
            return None
        message = explain_failure(self._verifier.store, failed)
        if self._strict:
            raise DistillError(f"{message}. {OVERRIDE}")
        return message

    def _is_own(self, epoch: int, block: int) -> bool:
        worker = torch.utils.data.get_worker_info()
        number, count = (worker.id, worker.num_workers) if worker else (0, 1)
        turns = -(-count * self._world // self._verifiers)
        return (self._rank * count + number + epoch + block) % turns == 0


OVERRIDE = "To train nevertheless, set store.check=warn or off"


def explain_failure(store: logitstore.Store, failed: Sequence[tuple[int, int]]) -> str:
    """A message with the proofs that failed and the differences to the teacher's software."""
    blocks = ", ".join(f"epoch {epoch} block {block}" for epoch, block in failed[:5])
    return (
        f"the views of {store.path} do not come out here as the teacher saw them ({len(failed)} proofs fail: {blocks}"
        f"{', ...' if len(failed) > 5 else ''}; {_causes(store)})"
    )


def explain_digest(store: logitstore.Store, *, digest: str, stored: str) -> str:
    """A message that synthetic images render differently from the teacher's."""
    return (
        f"synthetic images under the ViewSpec of {store.path} do not come out here as where the store was made "
        f"(digest {stored} there, {digest} here; {_causes(store)})"
    )


def _causes(store: logitstore.Store) -> str:
    versions, stored = views.software(), dict(recorded.view_software(store))
    stored.pop("digest", None)
    different = [f"{name} {stored.get(name)} there, {versions.get(name)} here" for name in sorted(versions | stored)
                 if versions.get(name) != stored.get(name)]  # fmt: skip
    return "; ".join(different) or "no library version differs, so check the images and the program itself"
