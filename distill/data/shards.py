"""Reads images out of tar shards by row.

The catalog knows where each image's bytes lie in its shard, so a read is one positioned read, in any order, from
any process. Every read is held against the digest taken when the data set was packed: damage on disk is found
here, named, and never becomes a picture.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from types import TracebackType
from typing import Self

import xxhash

from distill.data.catalog import Catalog
from distill.errors import DamagedImage, DistillError

_MAX_OPEN = 64


class ShardReader:
    """Open tar shards of one data set. Keeps at most 64 files open; opens them on first use, so that a reader made
    before a loader forks is safe in every worker. Not for use by two threads at once."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._files: OrderedDict[int, int] = OrderedDict()
        self._pid = os.getpid()

    def read(self, row: int) -> bytes:
        """The bytes of row `row`'s image as they were packed.

        **Raises:** `DamagedImage` if they are not; `DistillError` if the shard cannot be opened.
        """
        catalog = self.catalog
        shard = catalog.shard_of(row)
        size = int(catalog.sizes[row])
        data = os.pread(self._file(shard), size, int(catalog.offsets[row]))
        if len(data) != size:
            raise DamagedImage(f"{self.where(row)}: the shard ends after {len(data)} of the image's {size} bytes")
        if xxhash.xxh3_64_intdigest(data) != int(catalog.digests[row]):
            raise DamagedImage(f"{self.where(row)}: the {size} bytes differ from those that were packed")
        return data

    def where(self, row: int) -> str:
        """Names a row for messages: row, key and shard."""
        catalog = self.catalog
        return f"row {row} ({catalog.key(row)}) in {catalog.path / catalog.shards[catalog.shard_of(row)].name}"

    def _file(self, shard: int) -> int:
        if self._pid != os.getpid():  # A fork shares no descriptors with its parent.
            self._files, self._pid = OrderedDict(), os.getpid()
        if shard in self._files:
            self._files.move_to_end(shard)
            return self._files[shard]
        path = self.catalog.path / self.catalog.shards[shard].name
        try:
            self._files[shard] = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise DistillError(f"cannot open shard {path} ({error.strerror}): restore it or pack again") from None
        if len(self._files) > _MAX_OPEN:
            os.close(self._files.popitem(last=False)[1])
        return self._files[shard]

    def close(self) -> None:
        if self._pid == os.getpid():
            while self._files:
                os.close(self._files.popitem()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
