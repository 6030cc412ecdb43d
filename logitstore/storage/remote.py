"""A store's folder on object storage, through fsspec: `s3://`, `gs://`, `hf://`, `memory://` and their like.

Objects appear whole or not at all, which is all that the order of writing (marker last) needs. There are no renames,
no temporary names and no locks here: that one run writes at a time is up to whoever starts it.
"""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from logitstore.errors import StoreError, StoreUnreachable
from logitstore.storage.folder import TEMPORARY, Read

WHOLE_BYTES = 64 * 1024
"""Objects up to this size are fetched in one piece; of larger ones, the parts that are asked for."""


class RemoteFolder:
    """A folder behind an fsspec URL."""

    local = None

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._opened: tuple[int, Any, str] | None = None
        self._filesystem()  # A scheme or driver that is missing is said now.

    def __str__(self) -> str:
        return self.url

    def __reduce__(self) -> tuple[Callable[..., "RemoteFolder"], tuple[str]]:
        return RemoteFolder, (self.url,)

    def _filesystem(self) -> tuple[Any, str]:
        """The driver and the folder's name to it; opened anew in a forked child, whose event loop is another."""
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                import fsspec

                driver, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
            except ImportError as error:
                raise StoreError(f"{self.url}: {error}; install the driver, for s3: pip install distill[s3]") from None
            except ValueError as error:
                raise StoreError(f"{self.url}: {error}") from None
            self._opened = (os.getpid(), driver, root.rstrip("/"))
        return self._opened[1], self._opened[2]

    @contextmanager
    def _reaching(self, key: str = "") -> Iterator[tuple[Any, str]]:
        """Driver and full name of a key. What is absent is `FileNotFoundError`; all else is `StoreUnreachable`."""
        driver, root = self._filesystem()
        try:
            yield driver, f"{root}/{key}" if key else root
        except (FileNotFoundError, StoreError):
            raise
        except Exception as error:  # Every driver has errors of its own.
            where = f"{self.url}/{key}" if key else self.url
            raise StoreUnreachable(
                f"{where} cannot be reached ({type(error).__name__}: {error}): check the network, the address and "
                "the credentials, and run the same command again"
            ) from error

    def exists(self) -> bool:
        return bool(self.names())

    def has(self, key: str) -> bool:
        with self._reaching(key) as (driver, name):
            return bool(driver.isfile(name))

    def read(self, key: str) -> bytes:
        with self._reaching(key) as (driver, name):
            return bytes(driver.cat_file(name))

    @contextmanager
    def reading(self, key: str) -> Iterator[tuple[Read, int]]:
        size = self._size(key)
        if size <= WHOLE_BYTES:
            data = self.read(key)
            yield lambda offset, length: data[offset : offset + length], len(data)
        else:
            yield lambda offset, length: self._part(key, offset, length), size

    def _size(self, key: str) -> int:
        with self._reaching(key) as (driver, name):
            about = driver.info(name)
        if about.get("type") != "file":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return int(about["size"])

    def _part(self, key: str, offset: int, length: int) -> bytes:
        with self._reaching(key) as (driver, name):
            return bytes(driver.cat_file(name, start=offset, end=offset + length)) if length else b""

    def length(self, key: str) -> int:
        try:
            return self._size(key)
        except FileNotFoundError:
            return 0

    def numbered(self, key: str) -> list[int]:
        return [int(name) for name in self.names(key) if name.isascii() and name.isdigit()]

    def names(self, key: str = "") -> list[str]:
        try:
            with self._reaching(key) as (driver, name):
                driver.invalidate_cache(name)
                listed = driver.ls(name, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        last = (
            str(entry).rstrip("/").rpartition("/")[2] for entry in listed if str(entry).strip("/") != name.strip("/")
        )
        return sorted(set(last) - {""})

    def size_bytes(self, key: str) -> int:
        try:
            with self._reaching(key) as (driver, name):
                found = driver.find(name, detail=True)
        except FileNotFoundError:
            return 0
        return sum(int(about["size"]) for about in found.values())

    def temporary(self) -> list[str]:
        """Nothing is ever written under a temporary name here, but a copied folder may bring some along."""
        driver, root = self._filesystem()
        with self._reaching():
            return sorted(str(name)[len(root) + 1 :] for name in driver.find(root) if str(name).endswith(TEMPORARY))

    def write(self, key: str, data: bytes) -> None:
        with self._reaching(key) as (driver, name):
            driver.pipe_file(name, data)

    def write_block(self, files: Sequence[tuple[str, bytes]], *, before: Callable[[], None]) -> None:
        before()
        for key, data in files:
            self.write(key, data)

    def delete(self, key: str) -> None:
        try:
            with self._reaching(key) as (driver, name):
                driver.rm_file(name)
        except FileNotFoundError:
            pass
