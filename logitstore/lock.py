"""One writing run per store, or one per range of blocks: an advisory lock that ends with its process.

Byte b of the lock file stands for block b, in every epoch. A run locks the bytes of the blocks that it writes; one that
may write any block, or that changes the store's metadata, locks the whole file. So runs that share a store cannot write
the same blocks, and a run that needs the whole store is refused while any other writes. (Locks may lie past a file's
end.)

A POSIX record lock (`lockf`) belongs to a process: children made by fork do not hold it, and the kernel releases it
when the process ends, however it ends. Closing any descriptor of the file releases it too; so the lock file is opened
nowhere else while this process holds it.
"""

import errno
import fcntl
import os
import re
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from logitstore.errors import StoreLocked
from logitstore.format.layout import LOCK_KEY
from logitstore.storage import Storage
from logitstore.storage.local import disk_errors

_held: dict[Path, int] = {}
"""Lock files that this process holds, and its pid: record locks do not exclude their own process."""


class Lock:
    """Exclusive right to write a store, or some consecutive blocks of it (at least one), from construction to
    `release`.

    Raises `StoreLocked`, naming the holder.
    """

    def __init__(self, path: Path, *, blocks: range | None = None) -> None:
        self.path = path.resolve()
        if _held.get(self.path) == os.getpid():
            raise StoreLocked(_message(self.path, "this very process"))
        with disk_errors(path, "locking"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = _opened(path)
            try:
                first, count = (blocks.start, len(blocks)) if blocks else (0, 0)  # 0 bytes: to the end of any file.
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, count, first)
            except (BlockingIOError, PermissionError):
                self._file.seek(0)
                holder = _holder(self._file.read(), blocks)
                self._file.close()
                raise StoreLocked(_message(self.path, holder)) from None
            except OSError:
                self._file.close()
                raise
            try:
                scope = f"blocks {blocks.start}..{blocks.stop - 1}: " if blocks else ""
                if not blocks:
                    self._file.truncate(0)
                self._file.write(f"{scope}pid {os.getpid()} on host {socket.gethostname()}\n")
                self._file.flush()
            except OSError:
                # The disk is full: whoever is refused then reads no name; the lock itself needs no space.
                if not blocks:
                    self._file.truncate(0)
        _held[self.path] = os.getpid()

    def release(self) -> None:
        """Let others write. Has no effect in a forked child, which does not hold the lock."""
        if _held.get(self.path) == os.getpid():
            del _held[self.path]
        self._file.close()


@contextmanager
def locked(storage: Storage) -> Iterator[None]:
    """Hold the lock of a whole store within the block. Object storage has none: see that nobody else writes."""
    if storage.local_path is None or not storage.local_path.is_dir():
        yield
        return
    lock = Lock(storage.local_path / LOCK_KEY)
    try:
        yield
    finally:
        lock.release()


def _opened(path: Path) -> TextIO:
    """The lock file, made where it is not there. Raises `OSError` where something else lies in its place."""
    if path.parent.is_symlink():
        raise OSError(errno.ELOOP, "its folder is a symbolic link, and a store holds none")
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file")
    return os.fdopen(descriptor, "a+", encoding="utf-8")


def _holder(names: str, blocks: range | None) -> str:
    """The last run that wrote its name for any of the blocks. (One of several that has ended may be named.)"""
    for line in reversed(names.splitlines()):
        scope = re.match(r"blocks (\d+)\.\.(\d+): ", line)
        if not blocks or not scope or (int(scope[1]) < blocks.stop and int(scope[2]) >= blocks.start):
            return line
    return "another process"


def _message(path: Path, holder: str) -> str:
    return (
        f"{path.parent.parent} is being written by {holder}: wait for it or stop it "
        "(the lock ends with its process, there is no file to delete)"
    )
