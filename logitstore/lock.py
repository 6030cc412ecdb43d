"""One writing run a store, or one a range of blocks: an advisory lock that dies with its process.

Byte b of the lock file stands for block b, in every epoch. A run locks the bytes of the blocks that it writes; one that
may write any block, or that changes the store's metadata, locks the whole file. So runs that share a store keep out of
each other's blocks, and whatever wants the store for itself waits for all of them. (Locks may lie past a file's end.)

A POSIX record lock (`lockf`) belongs to a process: children made by fork do not hold it, and the kernel drops
it when the process ends however it ends. Its one weakness, that closing any descriptor of the file drops it,
is met by opening the lock file nowhere else while this process holds it.
"""

import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from logitstore.errors import StoreLocked
from logitstore.format.layout import LOCK_KEY
from logitstore.storage.folder import Folder
from logitstore.storage.local import disk_errors

_held: dict[Path, int] = {}
"""Lock files this process holds and its pid: record locks do not exclude their own process."""


class Lock:
    """Exclusive right to write, from construction to `release`: all of a store, or some consecutive blocks (at least
    one). Raises `StoreLocked`, naming the holder."""

    def __init__(self, path: Path, *, blocks: range | None = None) -> None:
        self.path = path.resolve()
        if _held.get(self.path) == os.getpid():
            raise StoreLocked(_message(self.path, "this very process"))
        with disk_errors(path, "locking"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+", encoding="utf-8")
            try:
                first, count = (blocks.start, len(blocks)) if blocks else (0, 0)  # 0 bytes: to the end, wherever.
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
                part = f"blocks {blocks.start}..{blocks.stop - 1}: " if blocks else ""
                if not blocks:
                    self._file.truncate(0)
                self._file.write(f"{part}pid {os.getpid()} on host {socket.gethostname()}\n")
                self._file.flush()
            except OSError:
                # Whoever is refused then reads no name; the lock itself needs no room.
                if not blocks:
                    self._file.truncate(0)
        _held[self.path] = os.getpid()

    def release(self) -> None:
        """Let others write. Does nothing in a forked child, which holds nothing."""
        if _held.get(self.path) == os.getpid():
            del _held[self.path]
        self._file.close()


@contextmanager
def writing_alone(folder: Folder) -> Iterator[None]:
    """Hold a store's lock for a while. Object storage has none: there it is up to whoever starts the work."""
    if folder.local is None or not folder.local.is_dir():
        yield
        return
    lock = Lock(folder.local / LOCK_KEY)
    try:
        yield
    finally:
        lock.release()


def _holder(names: str, blocks: range | None) -> str:
    """The last that wrote its name for any of the wanted blocks. (Of several, one that has ended may be meant.)"""
    for line in reversed(names.splitlines()):
        theirs = re.match(r"blocks (\d+)\.\.(\d+): ", line)
        if not blocks or not theirs or (int(theirs[1]) < blocks.stop and int(theirs[2]) >= blocks.start):
            return line
    return "another process"


def _message(path: Path, holder: str) -> str:
    return (
        f"{path.parent.parent} is being written by {holder}: wait for it or stop it "
        "(the lock ends with its process, there is no file to delete)"
    )
