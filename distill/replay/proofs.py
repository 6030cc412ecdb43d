"""Do views come out here as the teacher saw them? Blocks' first rows are rendered again and held against their proofs,
the pixel digests in the store.

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
from distill.views import Mixing, ViewSpec, block_proof, draw_mix

_LARGEST_COST = 0.01
"""Part of a pass's images that may be rendered for proofs at first reads."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """What a view is mixed with, and how."""

    partner: int
    """Its row; the view's own where it is alone."""
    mixing: Mixing | None


class ProofVerifier:
    """Renders stored views again, at the teacher's size."""

    def __init__(self, store: logitstore.Store, spec: ViewSpec, catalog: Catalog, *, size: int | None = None) -> None:
        """**Arguments:** `size`: another than the teacher's, to look at an image."""
        self.store, self.spec = store, spec
        self._source = StoredViews(store)
        self._views = ViewReader(
            catalog, size=size or int(store.spec.teacher["image_size"]), spec=spec, source=self._source
        )

    def verify(self, epoch: int, block: int, *, pass_damage: bool = False) -> bool:
        """Whether a block's first rows render to the images that the teacher saw; with `pass_damage` also where one
        of them cannot be read, which says nothing about rendering."""
        first = self.store.spec.block_rows(block)[: self.store.spec.proof_rows]
        rows = np.arange(first.start, first.stop)
        epochs = np.full_like(rows, epoch)
        batch = self._views.read(epochs, rows, self._source.seeds(epochs, rows), num_digests=len(rows))
        return (pass_damage and bool(batch.damage)) or block_proof(batch.digests) == self.store.proof(epoch, block)

    def failed(self, blocks: Sequence[tuple[int, int]], *, pass_damage: bool = False) -> Iterator[tuple[int, int]]:
        """Those of some (epoch, block) pairs whose proof differs."""
        return (place for place in blocks if not self.verify(*place, pass_damage=pass_damage))

    def image(self, epoch: int, row: int) -> tuple[npt.NDArray[np.uint8], Mixture | None]:
        """One view's pixels, uint8 (size, size, 3), and how it is mixed, where the spec mixes. **Raises:**
        `DamagedImage`."""
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
    """Verifies each (epoch, block) when a reader meets it first; a reader is a loader worker of one process.

    With few readers every one of them verifies every block that it reads, before the block's first image is used. The
    images of a block's proof (`proof_rows`, twice as many where views are mixed) times the readers stay below 1 % of
    its rows: with more readers than that allows, each block is verified by a part of them, other ones for each block.
    2 rows of 4,096 allow 20 readers; a block costs each 0.05 %.
    """

    def __init__(self, verifier: ProofVerifier, *, rank: int, world: int, strict: bool) -> None:
        spec = verifier.store.spec
        self._verifier, self._rank, self._world, self._strict = verifier, rank, world, strict
        images = max(1, spec.proof_rows) * (2 if verifier.spec.mix else 1)
        self._verifiers = max(1, int(_LARGEST_COST * spec.rows_per_block / images))
        self._seen = np.zeros((spec.num_epochs, spec.num_blocks), np.bool_)

    def __call__(self, epochs: Int64s, rows: Int64s) -> str | None:
        """Looks at the coordinates (b,) of a batch. **Returns:** what failed, or **raises** it when strict."""
        blocks = rows // self._verifier.store.spec.rows_per_block
        new = np.unique(np.stack([epochs, blocks], axis=1)[~self._seen[epochs, blocks]], axis=0)
        self._seen[new[:, 0], new[:, 1]] = True
        mine = [(e, b) for e, b in new.tolist() if self._is_mine(e, b)]
        wrong = list(self._verifier.failed(mine, pass_damage=True))
        if not wrong:
            return None
        message = explain_failure(self._verifier.store, wrong)
        if self._strict:
            raise DistillError(f"{message}. {HOW_TO_GO_ON}")
        return message

    def _is_mine(self, epoch: int, block: int) -> bool:
        worker = torch.utils.data.get_worker_info()
        number, count = (worker.id, worker.num_workers) if worker else (0, 1)
        turns = -(-count * self._world // self._verifiers)
        return (self._rank * count + number + epoch + block) % turns == 0


HOW_TO_GO_ON = "To train all the same, set store.check=warn or off"


def explain_failure(store: logitstore.Store, wrong: Sequence[tuple[int, int]]) -> str:
    """Says which proofs failed and what differs from the teacher's software."""
    places = ", ".join(f"epoch {epoch} block {block}" for epoch, block in wrong[:5])
    return (
        f"the views of {store.path} do not come out here as the teacher saw them ({len(wrong)} proofs fail: {places}"
        f"{', ...' if len(wrong) > 5 else ''}; {_causes(store)})"
    )


def explain_digest(store: logitstore.Store, *, here: str, there: str) -> str:
    """Says that synthetic images render otherwise than at the teacher's."""
    return (
        f"synthetic images under the ViewSpec of {store.path} do not come out here as where the store was made "
        f"(digest {there} there, {here} here; {_causes(store)})"
    )


def _causes(store: logitstore.Store) -> str:
    here, there = views.software(), dict(store.spec.software.get("views", {}))
    there.pop("digest", None)
    differ = [f"{name} {there.get(name)} there, {here.get(name)} here" for name in sorted(here | there)
              if here.get(name) != there.get(name)]  # fmt: skip
    return "; ".join(differ) if differ else "no library version differs, so look at the images and the program itself"
