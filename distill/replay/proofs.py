"""Proof that views come out here as the teacher saw them: blocks' first rows rendered again and held against the
digests in the store.

`replay` proves a few blocks before a run begins, `verify_logits` all of them, and `VerifyFirstReads` each block when
training first reads it, in the loader's workers.
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
from distill.data.images import Pictures
from distill.data.pairs import Pairs, Rows, pairs_of
from distill.errors import DamagedImage, DistillError
from distill.views import Mixing, ViewSpec, block_proof, draw_mix

_LARGEST_COST = 0.01
"""Part of a pass's pictures that may be rendered for proofs at first reads."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """What a view is mixed with, and how."""

    partner: int
    """Its row; the view's own where it is alone."""
    mixing: Mixing | None


class ProofVerifier:
    """Renders stored views again, at the teacher's size."""

    def __init__(self, store: logitstore.Store, spec: ViewSpec, catalog: Catalog, *, size: int | None = None) -> None:
        """**Arguments:** `size`: another than the teacher's, to look at a picture."""
        self.store, self.spec = store, spec
        self._pictures = Pictures(catalog, size=size or int(store.spec.teacher["image_size"]))
        self._pairs: Pairs | None = pairs_of(spec, num_rows=len(catalog), seeds_of=self._seeds)

    def verify(self, epoch: int, block: int, *, pass_damage: bool = False) -> bool:
        """Whether a block's first rows render to the pictures that the teacher saw; with `pass_damage` also where one
        of them cannot be read, which says nothing about rendering."""
        first = self.store.spec.block_rows(block)[: self.store.spec.proof_rows]
        rows = np.arange(first.start, first.stop)
        fields = self._pictures.augmented(
            np.full(len(rows), epoch), rows, spec=self.spec, seeds_of=self._seeds, pairs=self._pairs,
            num_digests=len(rows),
        )  # fmt: skip
        skipped = pass_damage and bool(fields["damage"])
        return skipped or block_proof(fields["digests"]) == self.store.proof(epoch, block)

    def failed(self, blocks: Sequence[tuple[int, int]], *, pass_damage: bool = False) -> Iterator[tuple[int, int]]:
        """Those of some (epoch, block) pairs whose proof differs."""
        return (place for place in blocks if not self.verify(*place, pass_damage=pass_damage))

    def picture(self, epoch: int, row: int) -> tuple[npt.NDArray[np.uint8], Mixture | None]:
        """One view's pixels, uint8 (size, size, 3), and how it is mixed, where the spec mixes. **Raises:**
        `DamagedImage`."""
        rows = np.array([row])
        fields = self._pictures.augmented(
            np.array([epoch]), rows, spec=self.spec, seeds_of=self._seeds, pairs=self._pairs
        )
        for _, _, message in fields["damage"]:
            raise DamagedImage(message)
        pixels = fields["pixels_bhwc"][0].numpy()
        if self._pairs is None:
            return pixels, None
        partner = int(self._pairs.partners(epoch, rows)[0])
        seed = int(self._seeds(epoch, np.array([min(row, partner)]))[0])
        return pixels, Mixture(partner, draw_mix(self._pairs.spec, seed) if partner != row else None)

    def _seeds(self, epoch: int, rows: Rows) -> npt.NDArray[np.uint64]:
        return self.store.read(epoch=epoch, rows=rows).seeds


class VerifyFirstReads:
    """Proves each (epoch, block) when a reader meets it first; a reader is a loader worker of one process.

    With few readers every one of them proves every block that it reads, before the block's first picture is used. The
    pictures of a block's proof (`proof_rows`, twice as many where views are mixed) times the readers are kept below
    1 % of its rows: with more readers than that allows, each block is proved by a part of them, other ones for each
    block. 2 rows of 4,096 allow 20 readers; a block costs each 0.05 %.
    """

    def __init__(self, prover: ProofVerifier, *, rank: int, world: int, strict: bool) -> None:
        spec = prover.store.spec
        self._prover, self._rank, self._world, self._strict = prover, rank, world, strict
        pictures = max(1, spec.proof_rows) * (2 if prover.spec.mix else 1)
        self._provers = max(1, int(_LARGEST_COST * spec.rows_per_block / pictures))
        self._seen = np.zeros((spec.num_epochs, spec.num_blocks), np.bool_)

    def __call__(self, epochs: Rows, rows: Rows) -> str | None:
        """Looks at the coordinates (b,) of a batch. **Returns:** what failed, or **raises** it when strict."""
        blocks = rows // self._prover.store.spec.rows_per_block
        new = np.unique(np.stack([epochs, blocks], axis=1)[~self._seen[epochs, blocks]], axis=0)
        self._seen[new[:, 0], new[:, 1]] = True
        mine = [(e, b) for e, b in new.tolist() if self._is_mine(e, b)]
        wrong = list(self._prover.failed(mine, pass_damage=True))
        if not wrong:
            return None
        message = explain_failure(self._prover.store, wrong)
        if self._strict:
            raise DistillError(f"{message}. {HOW_TO_GO_ON}")
        return message

    def _is_mine(self, epoch: int, block: int) -> bool:
        worker = torch.utils.data.get_worker_info()
        number, count = (worker.id, worker.num_workers) if worker else (0, 1)
        turns = -(-count * self._world // self._provers)
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
    """Says that synthetic pictures render otherwise than at the teacher's."""
    return (
        f"synthetic pictures under the ViewSpec of {store.path} do not come out here as where the store was made "
        f"(digest {there} there, {here} here; {_causes(store)})"
    )


def _causes(store: logitstore.Store) -> str:
    here, there = views.software(), dict(store.spec.software.get("views", {}))
    there.pop("digest", None)
    differ = [f"{name} {there.get(name)} there, {here.get(name)} here" for name in sorted(here | there)
              if here.get(name) != there.get(name)]  # fmt: skip
    return "; ".join(differ) if differ else "no library version differs, so look at the images and the program itself"
