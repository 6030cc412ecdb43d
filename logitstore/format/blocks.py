"""The files of blocks and of sample columns, read and verified: from keys to arrays as stored.

Every byte handed out has passed its checksum, lies where its header says it was written, and belongs to the write that
the block's marker commits. `store` decodes what comes from here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import sleep
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from logitstore.errors import DamagedBlock
from logitstore.format import codec, shard
from logitstore.format.identity import Identity
from logitstore.format.layout import BLOCK_ARRAYS, BLOCK_FILES, MARKERS, ArrayLayout, arrays, static_arrays
from logitstore.format.shard import Header
from logitstore.spec import StoreSpec
from logitstore.storage import Storage
from logitstore.storage.interface import ReadRange

Array = NDArray[Any]
T = TypeVar("T")

_DOUBT_PAUSE_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """What commits a block."""

    proof: int
    """Digest of the block's first views, not 0."""
    write_id: int
    """Of the write whose four files it commits."""


class BlockFiles:
    """Reads files of one store. Holds nothing open."""

    def __init__(self, storage: Storage, *, spec: StoreSpec, identity: Identity) -> None:
        self.storage = storage
        self.spec = spec
        self.identity = identity
        self.layouts = arrays(spec)

    def marker(self, epoch: int, block: int) -> Marker | None:
        """The block's marker, None where the block is absent. Raises `DamagedBlock`."""
        layout = self.layouts[MARKERS]

        def read() -> tuple[int, dict[int, Array]] | None:
            try:
                data = self.storage.read(layout.key(epoch, block))  # A small file: one read, not one for each part.
            except FileNotFoundError:
                # Object storage may say so of a file that is there: it must not be listed either.
                if self.storage.read_tries > 1 and block in self.storage.list_numbers(f"{MARKERS}/c/{epoch}"):
                    raise
                return None
            return self._decode(layout, epoch, block, _range_of(data), len(data), [0])

        found = self._patiently(layout, epoch, block, read)
        if found is None:
            return None
        write_id, chunks = found
        proof = int(chunks[0][0])
        if proof == 0:
            raise self.damaged(layout, epoch, block, "the marker is there but holds 0")
        return Marker(proof=proof, write_id=write_id)

    def shard(self, name: str, epoch: int, block: int, slots: list[int]) -> tuple[int, dict[int, Array]]:
        """The write id of one file, and some of its inner chunks as stored. Raises `DamagedBlock`."""
        layout = self.layouts[name]

        def read() -> tuple[int, dict[int, Array]]:
            with self.storage.reading(layout.key(epoch, block)) as (range_, size):
                return self._decode(layout, epoch, block, range_, size, slots)

        return self._patiently(layout, epoch, block, read)

    def raw(self, epoch: int, block: int) -> tuple[int, dict[str, bytes]]:
        """The write id of a committed block, and its files as they are, by array, every byte verified.

        Raises `DamagedBlock`.
        """
        contents, write_ids = {}, {}
        for name in BLOCK_FILES:
            layout = self.layouts[name]
            read = partial(self._read_whole, layout, epoch, block)
            write_ids[name], contents[name] = self._patiently(layout, epoch, block, read)
        for name in BLOCK_ARRAYS:
            if write_ids[name] != write_ids[MARKERS]:
                raise self.mixed(name, epoch, block)
        return write_ids[MARKERS], contents

    def block(self, epoch: int, block: int, slots: list[int], *, write_id: int) -> dict[int, tuple[Array, ...]]:
        """Inner chunks of a committed block by slot: seeds, class numbers, codes, tail codes.

        **Arguments** write_id: as the block's marker has it.

        Raises `DamagedBlock`, also where a file is of another write.
        """
        stored = {}
        for name in BLOCK_ARRAYS:
            file_write_id, stored[name] = self.shard(name, epoch, block, slots)
            if file_write_id != write_id:
                raise self.mixed(name, epoch, block)
        chunks: dict[int, tuple[Array, ...]] = {}
        for slot in slots:
            seeds, indices, values, tail = (stored[name][slot] for name in BLOCK_ARRAYS)
            classes, codes = codec.decode_classes(indices, values, spec=self.spec)
            if fault := codec.fault(classes, codes, tail, spec=self.spec):
                raise self.damaged(self.layouts["indices"], epoch, block, fault)
            chunks[slot] = (seeds, classes, codes, tail)
        return chunks

    def static_parts(self, name: str) -> Iterator[Array]:
        """An array that is written at creation, shard by shard. Raises `DamagedBlock`."""
        for part in range(self.num_static_parts(name)):
            yield self.static_part(name, part)

    def num_static_parts(self, name: str) -> int:
        """Shards of an array that is written at creation."""
        layout = self.layouts[name]
        return -(-layout.shape[layout.row_axis] // layout.shard_rows)

    def static_part(self, name: str, part: int) -> Array:
        """One shard of an array that is written at creation. Raises `DamagedBlock`."""
        layout = self.layouts[name]
        rows = min(layout.shard_rows, layout.shape[layout.row_axis] - part * layout.shard_rows)
        slots = list(range(-(-rows // layout.inner_rows)))
        _, chunks = self.shard(name, 0, part, slots)
        return np.concatenate([chunks[slot] for slot in slots])

    def header(self, layout: ArrayLayout, epoch: int, block: int, *, write_id: int) -> Header:
        """The header that a file of this store has."""
        return Header(array_number=layout.number, epoch=epoch, block=block, write_id=write_id, identity=self.identity)

    def slots(self, block: int) -> list[int]:
        """All inner chunks that a block has."""
        return list(range(-(-len(self.spec.block_rows(block)) // self.spec.inner_rows)))

    def mixed(self, name: str, epoch: int, block: int) -> DamagedBlock:
        """The error for a file that is not of the write that the block's marker commits."""
        return self.damaged(
            self.layouts[name], epoch, block, "the file and the block's marker come from different writes"
        )

    def damaged(self, layout: ArrayLayout, epoch: int, block: int, fault: str) -> DamagedBlock:
        """The error for a damaged file: what is wrong, where, and how to fix it."""
        where = f"{self.storage}: array {layout.path}, "
        where += f"epoch {epoch}, block {block}" if "E" in layout.dims else f"part {block}"
        if layout.path in static_arrays(self.spec):
            advice = "this array is written once, at creation: restore the file from a copy"
        else:
            advice = (
                "`logitstore repair` reads it again, and moves the block aside if it stays so; the teacher pass then "
                "redoes it"
            )
        return DamagedBlock(f"{where}: {fault} ({layout.key(epoch, block)}); {advice}")

    def _decode(
        self, layout: ArrayLayout, epoch: int, block: int, read: ReadRange, size: int, slots: list[int]
    ) -> tuple[int, dict[int, Array]]:
        rows = 1 if layout.path == MARKERS else layout.shard_rows
        if layout.path != MARKERS:
            rows = min(rows, layout.shape[layout.row_axis] - block * rows)
        header = self.header(layout, epoch, block, write_id=0)
        return shard.decode_shard(read, size, layout=layout, header=header, rows=rows, slots=slots)

    def _read_whole(self, layout: ArrayLayout, epoch: int, block: int) -> tuple[int, bytes]:
        """The write id and the bytes of one file, every byte verified."""
        slots = [0] if layout.path == MARKERS else self.slots(block)
        with self.storage.reading(layout.key(epoch, block)) as (read, size):
            data = read(0, size)
        return self._decode(layout, epoch, block, _range_of(data), len(data), slots)[0], data

    def _patiently(self, layout: ArrayLayout, epoch: int, block: int, read: Callable[[], T]) -> T:
        """What `read` returns; read again where it seems damaged and the storage is one that may be wrong about it."""
        for doubt in range(1, self.storage.read_tries):
            try:
                with self._naming(layout, epoch, block):
                    return read()
            except DamagedBlock:
                sleep(_DOUBT_PAUSE_S * doubt)
                self.storage.renew()
        with self._naming(layout, epoch, block):
            return read()

    @contextmanager
    def _naming(self, layout: ArrayLayout, epoch: int, block: int) -> Iterator[None]:
        """Errors of a file that cannot be read name its array, epoch and block."""
        try:
            yield
        except FileNotFoundError:
            raise self.damaged(layout, epoch, block, "the file is missing") from None
        except OSError as error:
            raise self.damaged(layout, epoch, block, f"cannot be read ({error.strerror})") from None
        except shard.BadBytes as error:
            raise self.damaged(layout, epoch, block, str(error)) from None


def _range_of(data: bytes) -> ReadRange:
    return lambda offset, length: data[offset : offset + length]
