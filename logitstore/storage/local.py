"""Files of one store: whole-file writes that appear all at once, reads of parts.

A store's folder is on a local disk (here) or on object storage behind a URL (`remote`); the rest of the package
asks `at` for it and names files by keys relative to it. On a disk a write goes to a temporary name in the same
folder, is flushed and renamed. Whatever kills the process, a final name holds a whole file or none. What a killed
write leaves behind ends in `.tmp` and is never read.
"""

import errno
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from logitstore.errors import StoreError, StoreFull
from logitstore.storage.folder import TEMPORARY, Folder, Read
from logitstore.storage.remote import RemoteFolder

_FULL = {errno.ENOSPC, errno.EDQUOT}


def at(path: str | Path) -> Folder:
    """The folder at a local path or an fsspec URL such as `s3://bucket/name.zarr`."""
    if is_url(path):
        return RemoteFolder(str(path))
    return LocalFolder(Path(path))


def is_url(path: str | Path) -> bool:
    """Whether a path names object storage; `file://` is as good as a path only for fsspec, and counts as a URL."""
    return isinstance(path, str) and "://" in path


class LocalFolder:
    """A folder on a local (or network) disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._root = str(path)

    def __str__(self) -> str:
        return self._root

    @property
    def local(self) -> Path:
        return self.path

    def exists(self) -> bool:
        return self.path.exists() or self.path.is_symlink()

    def has(self, key: str) -> bool:
        return Path(self._root, key).exists()

    def read(self, key: str) -> bytes:
        return Path(self._root, key).read_bytes()

    @contextmanager
    def reading(self, key: str) -> Iterator[tuple[Read, int]]:
        descriptor = os.open(f"{self._root}/{key}", os.O_RDONLY)
        try:
            yield lambda offset, length: os.pread(descriptor, length, offset), os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def length(self, key: str) -> int:
        try:
            return Path(self._root, key).stat().st_size
        except FileNotFoundError:
            return 0

    def numbered(self, key: str) -> list[int]:
        try:
            with os.scandir(f"{self._root}/{key}") as entries:
                return [int(entry.name) for entry in entries if entry.name.isascii() and entry.name.isdigit()]
        except FileNotFoundError:
            return []

    def names(self, key: str = "") -> list[str]:
        try:
            return sorted(path.name for path in Path(self._root, key).iterdir())
        except FileNotFoundError:
            return []

    def size_bytes(self, key: str) -> int:
        return sum(path.stat().st_size for path in Path(self._root, key).rglob("*") if path.is_file())

    def temporary(self) -> list[str]:
        return sorted(path.relative_to(self.path).as_posix() for path in self.path.rglob(f"*{TEMPORARY}"))

    def write(self, key: str, data: bytes) -> None:
        write(self.path / key, data)

    def write_block(self, files: Sequence[tuple[str, bytes]], *, before: Callable[[], None]) -> None:
        staged: list[tuple[Path, Path]] = []
        try:
            for key, data in files:
                target = self.path / key
                staged.append((stage(target, data), target))
            # The marker's folder is the one that every writer of the store has.
            with _publishing(self.path / files[-1][0].split("/")[0]):
                before()
                while staged:
                    publish(*staged[0])
                    staged.pop(0)
        finally:
            for temporary, _ in staged:
                temporary.unlink(missing_ok=True)

    def delete(self, key: str) -> None:
        path = self.path / key
        with disk_errors(path, "removing"):
            path.unlink(missing_ok=True)


@contextmanager
def _publishing(folder: Path) -> Iterator[None]:
    """One writer at a time renames the files of a block: two of the same block never mix.

    The lock is the kernel's, on the folder itself, held for a few renames and gone with its process. Where a file
    system has no such locks, mixed blocks are still noticed by their headers.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            yield
            return
        try:
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # A child forked meanwhile holds the descriptor too.
    finally:
        os.close(descriptor)


@contextmanager
def disk_errors(path: Path, action: str) -> Iterator[None]:
    """Turn `OSError` into `StoreFull` or `StoreError` with a message for the user."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFull(
                f"no room left while {action} {path} ({error.strerror}); what is committed is intact: "
                "free some space and run the same command again"
            ) from error
        raise StoreError(f"{action} {path} failed: {error.strerror or error}") from error


def stage(path: Path, data: bytes) -> Path:
    """Write `data` beside `path` under a temporary name and flush it; `publish` makes it appear.

    Raises `StoreFull` or `StoreError`, leaving nothing behind.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    with disk_errors(path, "writing"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return temporary


def publish(temporary: Path, path: Path) -> None:
    """Give a staged file its final name, in place of any file there."""
    with disk_errors(path, "writing"):
        temporary.replace(path)


def write(path: Path, data: bytes) -> None:
    """Write a whole file so that it appears at once. Raises `StoreFull` or `StoreError`."""
    temporary = stage(path, data)
    try:
        publish(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
