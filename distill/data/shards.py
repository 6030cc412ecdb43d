"""Reads images out of tar shards by row.

The catalog knows where each image's bytes lie in its shard, so a read is one positioned read, in any order, from
any process. Every read is held against the digest taken when the data set was packed: damage on disk is found
here, named, and never becomes an image. Shards of a remote data set are fetched into the cache first.
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
        data = self._bytes(row)
        if self.catalog.remote and xxhash.xxh3_64_intdigest(data) != int(self.catalog.digests[row]):
            self._forget(self.catalog.shard_of(row))  # The cache may be damaged: fetch once more.
            data = self._bytes(row)
        catalog, size = self.catalog, int(self.catalog.sizes[row])
        if len(data) != size:
            raise DamagedImage(f"{self.where(row)}: the shard ends after {len(data)} of the image's {size} bytes")
        if xxhash.xxh3_64_intdigest(data) != int(catalog.digests[row]):
            raise DamagedImage(f"{self.where(row)}: the {size} bytes differ from those that were packed")
        return data

    def fetch_ahead(self, ranges: list[tuple[int, int]]) -> None:
        """Begins to fetch the shards that hold some ranges of rows, in a thread; of a remote data set only."""
        catalog = self.catalog
        if not catalog.remote:
            return
        shards = {s for first, end in ranges for s in range(catalog.shard_of(first), catalog.shard_of(end - 1) + 1)}
        wanted = [catalog.shards[s] for s in sorted(shards) if not (catalog.path / catalog.shards[s].name).exists()]
        # Each worker begins elsewhere, so that together they fetch different ones.
        turn = os.getpid() % max(1, len(wanted))
        wanted = wanted[turn:] + wanted[:turn]
        catalog.remote.fetch_ahead([(shard.name, catalog.path / shard.name, shard.size_bytes) for shard in wanted])

    def where(self, row: int) -> str:
        """Names a row for messages: row, key and shard."""
        catalog = self.catalog
        return f"row {row} ({catalog.key(row)}) in {catalog.where}/{catalog.shards[catalog.shard_of(row)].name}"

    def _bytes(self, row: int) -> bytes:
        try:
            file = self._file(self.catalog.shard_of(row))
        except DistillError as error:
            raise DistillError(f"{self.where(row)}: {error}") from None
        return os.pread(file, int(self.catalog.sizes[row]), int(self.catalog.offsets[row]))

    def _forget(self, shard: int) -> None:
        if shard in self._files:
            os.close(self._files.pop(shard))
        (self.catalog.path / self.catalog.shards[shard].name).unlink(missing_ok=True)

    def _file(self, shard: int) -> int:
        if self._pid != os.getpid():  # A fork shares no descriptors with its parent.
            self._files, self._pid = OrderedDict(), os.getpid()
        if shard in self._files:
            self._files.move_to_end(shard)
            return self._files[shard]
        self._files[shard] = self._fetched(shard) if self.catalog.remote else self._opened(shard)
        if len(self._files) > _MAX_OPEN:
            os.close(self._files.popitem(last=False)[1])
        return self._files[shard]

    def _opened(self, shard: int) -> int:
        path = self.catalog.path / self.catalog.shards[shard].name
        try:
            return os.open(path, os.O_RDONLY)
        except OSError as error:
            raise DistillError(f"cannot open shard {path} ({error.strerror}): restore it or pack again") from None

    def _fetched(self, shard: int) -> int:
        """A remote shard, opened in the cache; it may be removed there between fetching and opening."""
        assert self.catalog.remote
        about = self.catalog.shards[shard]
        path = self.catalog.path / about.name
        while True:
            try:
                self.catalog.remote.fetch(about.name, path, size_bytes=about.size_bytes)
                os.utime(path)  # Read just now.
                return os.open(path, os.O_RDONLY)
            except FileNotFoundError as error:
                if str(error.filename) != str(path):
                    raise DistillError(f"the shard is not there ({error}): publish it again") from None
            except OSError as error:
                raise DistillError(f"the shard cannot be fetched into {path}: {error}") from None

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
