"""The files of blocks and of sample columns, read and verified: from names to arrays as stored.

Every byte handed out has passed its checksum, lies where its header says it was written, and belongs to the act of
writing that the block's marker vouches for. `store` decodes what comes from here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitstore.errors import DamagedBlock
from logitstore.format import codec, shard
from logitstore.format.layout import BLOCK_ARRAYS, BLOCK_FILES, MARKERS, ArrayLayout, arrays, once_arrays
from logitstore.spec import StoreSpec
from logitstore.storage.folder import Folder, Read

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """What commits a block."""

    proof: int
    """Digest of the block's first views, not 0."""
    writing: int
    """The act of writing whose four files it vouches for."""


class BlockFiles:
    """Reads files of one store. Holds nothing open."""

    def __init__(self, folder: Folder, *, spec: StoreSpec) -> None:
        self.folder = folder
        self.spec = spec
        self.layouts = arrays(spec)

    def marker(self, epoch: int, block: int) -> Marker | None:
        """The block's marker, None where the block is absent. Raises `DamagedBlock`."""
        layout = self.layouts[MARKERS]
        with self._reporting(layout, epoch, block):
            try:
                data = self.folder.read(layout.key(epoch, block))  # One small file: one read, not one for each part.
            except FileNotFoundError:
                return None
            writing, chunks = self._decode(layout, epoch, block, _reader(data), len(data), [0])
        proof = int(chunks[0][0])
        if proof == 0:
            raise self.damaged(layout, epoch, block, "the marker is there but holds 0")
        return Marker(proof=proof, writing=writing)

    def shard(self, name: str, epoch: int, block: int, slots: list[int]) -> tuple[int, dict[int, Array]]:
        """Inner chunks of one file as stored, with its act of writing. Raises `DamagedBlock`."""
        layout = self.layouts[name]
        with self._reporting(layout, epoch, block), self.folder.reading(layout.key(epoch, block)) as (read, size):
            return self._decode(layout, epoch, block, read, size, slots)

    def raw(self, epoch: int, block: int) -> dict[str, bytes]:
        """The files of a committed block as they lie there, by array, every byte verified. Raises `DamagedBlock`."""
        found, writings = {}, {}
        for name in BLOCK_FILES:
            layout = self.layouts[name]
            slots = [0] if name == MARKERS else self.slots(block)
            with self._reporting(layout, epoch, block):
                data = self.folder.read(layout.key(epoch, block))
                writings[name], _ = self._decode(layout, epoch, block, _reader(data), len(data), slots)
            found[name] = data
        for name in BLOCK_ARRAYS:
            if writings[name] != writings[MARKERS]:
                raise self.foreign(name, epoch, block)
        return found

    def once_parts(self, name: str) -> Iterator[Array]:
        """An array that is written at creation, part by part. Raises `DamagedBlock`."""
        layout = self.layouts[name]
        total = layout.shape[layout.row_axis]
        for part, first in enumerate(range(0, total, layout.shard_rows)):
            used = -(-min(layout.shard_rows, total - first) // layout.inner_rows)
            _, chunks = self.shard(name, 0, part, list(range(used)))
            yield np.concatenate([chunks[slot] for slot in range(used)])

    def _decode(
        self, layout: ArrayLayout, epoch: int, block: int, read: Read, size: int, slots: list[int]
    ) -> tuple[int, dict[int, Array]]:
        rows = 1 if layout.path == MARKERS else layout.shard_rows
        if layout.path != MARKERS:
            rows = min(rows, layout.shape[layout.row_axis] - block * rows)
        place = shard.Place(number=layout.number, epoch=epoch, block=block, writing=0)
        return shard.decode_shard(read, size, layout=layout, place=place, rows=rows, slots=slots)

    @contextmanager
    def _reporting(self, layout: ArrayLayout, epoch: int, block: int) -> Iterator[None]:
        """Say of a file that cannot be read which one it is."""
        try:
            yield
        except FileNotFoundError:
            raise self.damaged(layout, epoch, block, "the file is missing") from None
        except OSError as error:
            raise self.damaged(layout, epoch, block, f"cannot be read ({error.strerror})") from None
        except shard.BadBytes as error:
            raise self.damaged(layout, epoch, block, str(error)) from None

    def block(self, epoch: int, block: int, slots: list[int], *, writing: int) -> dict[int, tuple[Array, ...]]:
        """Inner chunks of a committed block by slot: seeds, class numbers, codes, tail codes.

        **Arguments** writing: as the block's marker has it.

        Raises `DamagedBlock`, also where a file is of another act of writing.
        """
        stored = {}
        for name in BLOCK_ARRAYS:
            found, stored[name] = self.shard(name, epoch, block, slots)
            if found != writing:
                raise self.foreign(name, epoch, block)
        chunks: dict[int, tuple[Array, ...]] = {}
        for slot in slots:
            seeds, indices, values, tail = (stored[name][slot] for name in BLOCK_ARRAYS)
            chunks[slot] = (seeds, *codec.decode_kept(indices, values, spec=self.spec), tail)
        return chunks

    def slots(self, block: int) -> list[int]:
        """All inner chunks that a block has."""
        return list(range(-(-len(self.spec.block_rows(block)) // self.spec.inner_rows)))

    def foreign(self, name: str, epoch: int, block: int) -> DamagedBlock:
        """The error for a file that its block's marker does not vouch for."""
        what = "the file and the block's marker come from different acts of writing"
        return self.damaged(self.layouts[name], epoch, block, what)

    def damaged(self, layout: ArrayLayout, epoch: int, block: int, what: str) -> DamagedBlock:
        """The error for a harmed file: what is wrong, where, and what mends it."""
        where = f"{self.folder}: array {layout.path}, "
        where += f"epoch {epoch}, block {block}" if "E" in layout.dims else f"part {block}"
        if layout.path in once_arrays(self.spec):
            advice = "this array is written once, at creation: restore the file from a copy"
        else:
            advice = "`logitstore repair` drops the block, then run the teacher pass again to redo it"
        return DamagedBlock(f"{where}: {what} ({layout.key(epoch, block)}); {advice}")


def _reader(data: bytes) -> Read:
    return lambda offset, length: data[offset : offset + length]
