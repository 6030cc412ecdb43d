"""What a store asks of the place where it lies: a folder of whole files under keys.

Two places exist: the local disk (`files`) and object storage behind a URL (`remote`).
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

TEMPORARY = ".tmp"
"""Ending of what a killed write leaves behind; never read."""

Read = Callable[[int, int], bytes]
"""(offset, length) -> bytes of an open file."""


class Folder(Protocol):
    """Where a store lies. Keys are relative, with slashes. `str()` gives the path or URL for messages.

    Reads raise `OSError` (`FileNotFoundError` where there is nothing), or `StoreUnreachable` where the network
    or its permissions fail; writes raise `StoreError`.
    """

    @property
    def local(self) -> Path | None:
        """The folder on the local disk, None on object storage."""

    def exists(self) -> bool:
        """Whether anything is there."""

    def has(self, key: str) -> bool:
        """Whether there is such a file."""

    def read(self, key: str) -> bytes:
        """A whole file."""

    def reading(self, key: str) -> AbstractContextManager[tuple[Read, int]]:
        """A file opened for reading parts, and its size in bytes."""

    def length(self, key: str) -> int:
        """Bytes of a file, 0 where there is none."""

    def numbered(self, key: str) -> list[int]:
        """The names in a folder that are plain numbers, in no order; empty when there is no folder."""

    def names(self, key: str = "") -> list[str]:
        """Names directly in a folder, sorted; empty when there is no folder."""

    def size_bytes(self, key: str) -> int:
        """Bytes of all files below a folder."""

    def temporary(self) -> list[str]:
        """Keys of files left by killed writes, sorted."""

    def write(self, key: str, data: bytes) -> None:
        """Write a whole file so that it appears at once."""

    def write_block(self, files: Sequence[tuple[str, bytes]], *, before: Callable[[], None]) -> None:
        """Write several files, the last one (the marker) last, after `before()` has agreed."""

    def delete(self, key: str) -> None:
        """Delete a file, if it is there."""
