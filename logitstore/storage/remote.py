"""A store's folder behind an fsspec URL.

Objects appear whole or not at all, which is all that the order of writing (marker last) needs. There are no renames,
no temporary names and no locks here: whoever starts the writers must see to it that no two write the same blocks.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from logitstore.errors import StoreError
from logitstore.storage.atomic import TEMPORARY
from logitstore.storage.interface import ReadRange
from logitstore.storage.remote_files import RemoteFiles, unreachable

DOUBTS = 2
"""Further readings, by other connections, of what arrives and is damaged, before it is called so."""
WHOLE_BYTES = 64 * 1024
"""Files of a store up to this size are fetched in one piece; of larger ones, the parts that are needed."""


class RemoteStorage:
    """A store's folder behind an fsspec URL. Reads are retried, writes are not."""

    local_path = None

    def __init__(self, url: str) -> None:
        self.files = RemoteFiles(url)
        self.files.filesystem()  # A scheme or driver that is missing is reported now.

    def __str__(self) -> str:
        return self.files.url

    def exists(self) -> bool:
        return bool(self.list_names())

    def has(self, key: str) -> bool:
        try:
            self._size(key)
        except FileNotFoundError:
            return False
        return True

    def read(self, key: str) -> bytes:
        with self._permitted(key):
            return self.files.read(key)

    @contextmanager
    def reading(self, key: str) -> Iterator[tuple[ReadRange, int]]:
        size = self._size(key)
        if size <= WHOLE_BYTES:
            with self._permitted(key):
                data = self.files.read(key, size=size)
            yield lambda offset, length: data[offset : offset + length], len(data)
        else:
            yield lambda offset, length: self._range(key, offset, length), size

    def _size(self, key: str) -> int:
        with self._permitted(key):
            return self.files.size(key)

    def _range(self, key: str, offset: int, length: int) -> bytes:
        with self._permitted(key):
            return self.files.read_range(key, offset, offset + length)

    def file_size(self, key: str) -> int:
        try:
            return self._size(key)
        except FileNotFoundError:
            return 0

    def folder_size(self, key: str) -> int:
        return sum(int(about["size"]) for about in self._find(key).values())

    def list_names(self, key: str = "") -> list[str]:
        def names(driver: Any, path: str) -> set[str]:
            driver.invalidate_cache(path)
            listed = (str(entry).strip("/") for entry in driver.ls(path, detail=False))
            return {entry.rpartition("/")[2] for entry in listed if entry != path.strip("/")} - {""}

        try:
            with self._permitted(key):
                return sorted(self.files.retry(key, names, timed=False))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def list_numbers(self, key: str) -> list[int]:
        return [int(name) for name in self.list_names(key) if name.isascii() and name.isdigit()]

    def list_temporary(self) -> list[str]:
        """Nothing is ever written under a temporary name here, but a copied folder may bring some along."""
        root = self.files.filesystem()[1]
        return sorted(str(name)[len(root) + 1 :] for name in self._find("") if str(name).endswith(TEMPORARY))

    def _find(self, key: str) -> dict[str, dict[str, Any]]:
        """What fsspec says of all files below a folder, by full name."""

        def found(driver: Any, path: str) -> dict[str, dict[str, Any]]:
            return dict(driver.find(path, detail=True))

        try:
            with self._permitted(key):
                return self.files.retry(key, found, timed=False)
        except FileNotFoundError:
            return {}

    def write(self, key: str, data: bytes) -> None:
        try:
            with self._permitted(key):
                self.files.once(key, lambda driver, path: driver.pipe_file(path, data))
        except FileNotFoundError as error:
            raise StoreError(
                f"{self}/{key} cannot be written ({error}): make the bucket first, or check the address"
            ) from None

    def write_block(self, files: Sequence[tuple[str, bytes]], *, before: Callable[[], None]) -> None:
        before()
        for key, data in files:
            self.write(key, data)

    @property
    def read_tries(self) -> int:
        return DOUBTS + 1

    def renew(self) -> None:
        self.files.renew()

    def move(self, key: str, new_key: str) -> None:
        data = self._whole(key)
        self.write(new_key, data)
        self.renew()
        if self._whole(new_key) != data or self._whole(key) != data:
            raise StoreError(f"{self}/{key} could not be copied to {new_key} unchanged: nothing was deleted; try again")
        self.delete(key)

    def _whole(self, key: str) -> bytes:
        with self.reading(key) as (read, size):
            return read(0, size)

    def delete(self, key: str) -> None:
        try:
            with self._permitted(key):
                self.files.once(key, lambda driver, path: driver.rm_file(path))
        except FileNotFoundError:
            pass

    @contextmanager
    def _permitted(self, key: str) -> Iterator[None]:
        """A refusal is `StoreUnreachable`: it says nothing about the store."""
        try:
            yield
        except PermissionError as error:
            raise unreachable(f"{self}/{key}" if key else str(self), error) from error
