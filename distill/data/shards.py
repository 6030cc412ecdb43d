"""Reads images out of tar shards by row.

The catalog has the offset of each image in its shard, so an image is one positioned read, in any order, from any
process. Every read is compared with the digest from packing, so damage on disk is an error that names the image and
never reaches training. Shards of a remote data set are first fetched into the cache.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from types import TracebackType
from typing import Self

import xxhash

from distill.data.catalog import Catalog
from distill.errors import DamagedImage, DistillError
from logitstore.untrusted import BadInput, open_regular, printable

_MAX_OPEN = 64


class ShardReader:
    """Open tar shards of one data set, at most 64 at a time. Files are opened at first use, so a reader made before a
    loader forks is safe in every worker. Not thread-safe."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._files: OrderedDict[int, int] = OrderedDict()
        self._pid = os.getpid()

    def read(self, row: int) -> bytes:
        """The bytes of row `row`'s image as they were packed.

        **Raises:** `DamagedImage` if they have changed; `DistillError` if the shard cannot be opened.
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
        """Starts fetching the shards of some ranges of rows, in a thread; does nothing for local data."""
        catalog = self.catalog
        if not catalog.remote:
            return
        shards = {s for first, end in ranges for s in range(catalog.shard_of(first), catalog.shard_of(end - 1) + 1)}
        absent = [catalog.shards[s] for s in sorted(shards) if not (catalog.path / catalog.shards[s].name).exists()]
        # Each worker starts at another shard, so that together they fetch different ones.
        first = os.getpid() % max(1, len(absent))
        absent = absent[first:] + absent[:first]
        catalog.remote.fetch_ahead([(shard.name, catalog.path / shard.name, shard.size_bytes) for shard in absent])

    def where(self, row: int) -> str:
        """Names a row for messages: row, key and shard."""
        catalog = self.catalog
        return (
            f"row {row} ({printable(catalog.key(row))}) in {catalog.where}/{catalog.shards[catalog.shard_of(row)].name}"
        )

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
            return open_regular(path)
        except BadInput as error:
            raise DistillError(f"cannot open shard {path} ({error}): restore it or pack again") from None
        except OSError as error:
            raise DistillError(f"cannot open shard {path} ({error.strerror}): restore it or pack again") from None

    def _fetched(self, shard: int) -> int:
        """A remote shard, opened in the cache; it may be removed there between fetching and opening."""
        assert self.catalog.remote
        entry = self.catalog.shards[shard]
        path = self.catalog.path / entry.name
        while True:
            try:
                self.catalog.remote.fetch(entry.name, path, size_bytes=entry.size_bytes)
                os.utime(path)  # The cache removes the files that were read longest ago.
                return open_regular(path, follow=False)
            except FileNotFoundError as error:
                if str(error.filename) != str(path):
                    raise DistillError(f"the shard does not exist ({error}): publish it again") from None
            except (OSError, BadInput) as error:
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
