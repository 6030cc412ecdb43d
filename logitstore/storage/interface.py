"""What a store asks of its storage: a folder of whole files, named by keys.

There are two: the local disk (`local`) and object storage behind a URL (`remote`).
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

ReadRange = Callable[[int, int], bytes]
"""(offset, length) -> bytes of an open file."""


class Storage(Protocol):
    """The folder of one store. Keys are paths relative to it, with slashes. `str()` gives the path or URL for messages.

    Reads raise `OSError` (`FileNotFoundError` where there is no such file), or `StoreUnreachable` where the network
    or its permissions fail; writes raise `StoreError`.
    """

    @property
    def local_path(self) -> Path | None:
        """The folder on the local disk, None on object storage."""

    def exists(self) -> bool:
        """Whether anything is there."""

    def has(self, key: str) -> bool:
        """Whether there is such a file."""

    def read(self, key: str) -> bytes:
        """A whole file; for small ones."""

    def reading(self, key: str) -> AbstractContextManager[tuple[ReadRange, int]]:
        """A file opened for reading parts, and its size in bytes."""

    def file_size(self, key: str) -> int:
        """Bytes of a file, 0 where there is none."""

    def folder_size(self, key: str) -> int:
        """Bytes of all files below a folder."""

    def list_names(self, key: str = "") -> list[str]:
        """Names directly in a folder, sorted; empty when there is no folder."""

    def list_numbers(self, key: str) -> list[int]:
        """The names in a folder that are plain numbers, in no order; empty when there is no folder."""

    def list_temporary(self) -> list[str]:
        """Keys of the files that killed writes left, sorted."""

    def write(self, key: str, data: bytes) -> None:
        """Write a whole file so that it appears at once."""

    def write_block(self, files: Sequence[tuple[str, bytes]], *, before: Callable[[], None]) -> None:
        """Write several files, the last one (the marker) last, after `before()` has returned."""

    def delete(self, key: str) -> None:
        """Delete a file, if it is there."""

    def move(self, key: str, new_key: str) -> None:
        """Give a file another key. Where that is not one step, the copy is verified before the file goes."""

    def renew(self) -> None:
        """Use another connection from now on."""

    @property
    def read_tries(self) -> int:
        """How often to read what seems damaged before that is believed."""
