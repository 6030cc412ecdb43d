"""Files of one store on a local disk: whole-file writes that appear all at once, reads of parts.

A write goes to a temporary name in the same folder, is flushed to the disk and renamed. Whatever kills the
process, a final name holds a whole file or none. What a killed write leaves behind ends in `.tmp` and is
never read.
"""

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from logitstore.errors import StoreError, StoreFull

TEMPORARY = ".tmp"
_FULL = {errno.ENOSPC, errno.EDQUOT}


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


@contextmanager
def reading(path: Path) -> Iterator[tuple[Callable[[int, int], bytes], int]]:
    """Open for reading parts: a function (offset, length) -> bytes, and the file's size. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield lambda offset, length: os.pread(descriptor, length, offset), os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def numbered(folder: Path) -> list[int]:
    """The names in a folder that are plain numbers, in no order; empty when there is no folder."""
    try:
        return [int(entry.name) for entry in os.scandir(folder) if entry.name.isascii() and entry.name.isdigit()]
    except FileNotFoundError:
        return []


def size_bytes(folder: Path) -> int:
    """Bytes of all files below a folder (their lengths, not the disk's blocks)."""
    total = 0
    for entry in os.scandir(folder):
        total += size_bytes(Path(entry.path)) if entry.is_dir(follow_symlinks=False) else entry.stat().st_size
    return total


def temporary(root: Path) -> list[str]:
    """Files left by killed writes, relative to `root`, sorted."""
    return sorted(path.relative_to(root).as_posix() for path in root.rglob(f"*{TEMPORARY}"))


def length(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
