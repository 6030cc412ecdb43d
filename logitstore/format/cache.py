"""Recently used inner chunks, bounded in bytes."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from numpy.typing import NDArray

Entry = tuple[NDArray[Any], ...]


class ChunkCache:
    """Least recently used entries go first once the sum of their bytes passes the limit."""

    def __init__(self, *, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.size_bytes = 0
        self._entries: OrderedDict[Hashable, Entry] = OrderedDict()

    def holds(self, key: Hashable) -> bool:
        """Whether the entry is there; does not count as use."""
        return key in self._entries

    def get(self, key: Hashable) -> Entry | None:
        """The entry, now the most recently used, or None where there is none."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: Hashable, entry: Entry) -> None:
        """Add an entry, dropping old ones as needed; one larger than the limit is not added."""
        self._drop(key)
        size = _size_bytes(entry)
        if size > self.limit_bytes:
            return
        while self.size_bytes + size > self.limit_bytes:
            self._drop(next(iter(self._entries)))
        self._entries[key] = entry
        self.size_bytes += size

    def _drop(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size_bytes -= _size_bytes(entry)


def _size_bytes(entry: Entry) -> int:
    return sum(array.nbytes for array in entry)
