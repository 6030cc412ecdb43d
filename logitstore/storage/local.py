"""A store's folder on a local (or network) disk: whole-file writes that appear all at once, reads of parts.

A write goes to a temporary name in the same folder, is flushed and renamed (`atomic`). Whatever kills the process, a
final name holds a whole file or none.
"""

import errno
import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from logitstore.errors import StoreError, StoreFull
from logitstore.storage.atomic import TEMPORARY, atomic_path, sync_file, write_atomically
from logitstore.storage.interface import ReadRange
from logitstore.untrusted import MAX_JSON_BYTES, BadInput, open_regular, read_regular

_NUMBER = re.compile("0|[1-9][0-9]{0,9}")
"""A file's name as zarr writes a number: `007` is none."""
_FULL = {errno.ENOSPC, errno.EDQUOT}


class LocalStorage:
    """A folder on a local (or network) disk. Whatever its path goes through, nothing below it is followed that is a
    symbolic link, and nothing is opened that is no regular file: a store from elsewhere reaches only its own files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._root = str(path)
        self._plain = {""}
        """Folders that are known to be no links."""

    def __str__(self) -> str:
        return self._root

    @property
    def local_path(self) -> Path:
        return self.path

    def exists(self) -> bool:
        return self.path.exists() or self.path.is_symlink()

    def has(self, key: str) -> bool:
        return self._status(key) is not None

    def read(self, key: str) -> bytes:
        with self._refused(key):
            return read_regular(f"{self._root}/{key}", limit=MAX_JSON_BYTES, follow=False)

    @contextmanager
    def reading(self, key: str) -> Iterator[tuple[ReadRange, int]]:
        with self._refused(key):
            descriptor = open_regular(f"{self._root}/{key}", follow=False)
        try:
            yield lambda offset, length: _read(descriptor, offset, length), os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def file_size(self, key: str) -> int:
        status = self._status(key)
        return status.st_size if status else 0

    def folder_size(self, key: str) -> int:
        self._require_plain(key)
        return sum(path.lstat().st_size for path in Path(self._root, key).rglob("*") if not path.is_dir())

    def list_names(self, key: str = "") -> list[str]:
        self._require_plain(key)
        path = Path(self._root, key)
        with disk_errors(path, "listing"):
            try:
                return sorted(entry.name for entry in path.iterdir())
            except FileNotFoundError:
                return []

    def list_numbers(self, key: str) -> list[int]:
        self._require_plain(key)
        with disk_errors(Path(self._root, key), "listing"):
            try:
                with os.scandir(f"{self._root}/{key}") as entries:
                    return [int(entry.name) for entry in entries if _NUMBER.fullmatch(entry.name)]
            except FileNotFoundError:
                return []

    def list_temporary(self) -> list[str]:
        return sorted(path.relative_to(self.path).as_posix() for path in self.path.rglob(f"*{TEMPORARY}"))

    def _status(self, key: str) -> os.stat_result | None:
        """What lies there, None for nothing."""
        self._require_plain(key.rpartition("/")[0])
        try:
            return Path(self._root, key).lstat()
        except FileNotFoundError:
            return None

    def _require_plain(self, folder: str) -> None:
        """Raises `StoreError` where a folder, or one above it, is a symbolic link. Each is looked at once."""
        if folder in self._plain:
            return
        self._require_plain(folder.rpartition("/")[0])
        try:
            mode = Path(self._root, folder).lstat().st_mode
        except FileNotFoundError:
            return
        if stat.S_ISLNK(mode):
            raise StoreError(
                f"{self._root}/{folder} is a symbolic link, and a store holds none: put what it points to in its place "
                "(cp -RL copies a store so)"
            )
        self._plain.add(folder)

    @contextmanager
    def _refused(self, key: str) -> Iterator[None]:
        """What is no regular file is an `OSError`, as what cannot be read."""
        try:
            self._require_plain(key.rpartition("/")[0])
            yield
        except BadInput as error:
            raise OSError(errno.EINVAL, str(error), f"{self._root}/{key}") from None

    def write(self, key: str, data: bytes) -> None:
        path = self.path / key
        with disk_errors(path, "writing"):
            self._require_plain(key.rpartition("/")[0])
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data, sync=True)

    def write_block(self, files: Sequence[tuple[str, bytes]], *, before: Callable[[], None]) -> None:
        for key, _ in files:
            with disk_errors(self.path / key, "writing"):
                self._require_plain(key.rpartition("/")[0])
        with ExitStack() as renames:
            # Left in the opposite order of entering: the first file is renamed first, the marker last.
            temporary = {key: renames.enter_context(_new_file(self.path / key)) for key, _ in reversed(files)}
            for key, data in files:
                with disk_errors(self.path / key, "writing"):
                    temporary[key].write_bytes(data)
                    sync_file(temporary[key])
            # The marker's folder is the one that every writer of the store has.
            with _renaming_alone(self.path / files[-1][0].split("/")[0]):
                before()
                renames.close()

    read_tries = 1

    def renew(self) -> None:
        self._plain = {""}

    def move(self, key: str, new_key: str) -> None:
        path, target = self.path / key, self.path / new_key
        with disk_errors(path, "moving"):
            for folder in (key.rpartition("/")[0], new_key.rpartition("/")[0]):
                self._require_plain(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)

    def delete(self, key: str) -> None:
        path = self.path / key
        with disk_errors(path, "removing"):
            self._require_plain(key.rpartition("/")[0])
            path.unlink(missing_ok=True)


def _read(descriptor: int, offset: int, length: int) -> bytes:
    """Up to `length` bytes: fewer where the file ends before. One call reads 2 GiB at most."""
    data = os.pread(descriptor, length, offset)
    while 0 < len(data) < length and (more := os.pread(descriptor, length - len(data), offset + len(data))):
        data += more
    return data


@contextmanager
def disk_errors(path: Path, action: str) -> Iterator[None]:
    """Turn `OSError` into `StoreFull` or `StoreError` with a message for the user."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFull(
                f"no space left while {action} {path} ({error.strerror}); what is committed is intact: "
                "free some space and run the same command again"
            ) from error
        raise StoreError(f"{action} {path} failed: {error.strerror or error}") from error


@contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """`atomic_path` of a file in a folder that may not be there yet, with errors for the user."""
    with disk_errors(path, "writing"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            yield temporary


@contextmanager
def _renaming_alone(folder: Path) -> Iterator[None]:
    """One writer at a time renames the files of a block: two writes of the same block never mix.

    The lock is the kernel's, on the folder itself, held for a few renames and released when its process ends. Where a
    file system has no such locks, mixed blocks are still detected by their headers.
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
