"""Files of a data set on a URL, through a bounded local cache.

    s3://bucket/train  ->  CACHE/<digest of URL and catalog>/shard-000000.tar ...  ->  read like local shards

Whole shards are fetched, because nearly all of a shard's images are wanted within one window of the order. A worker
fetches the shards of the window after the one it reads from in a thread; a shard that is not there in time is fetched
while the reader waits. Any URL that fsspec knows will do (`s3://`, `gs://`, `hf://`, `http://`, `file://`, `memory://`);
requests, retries and time limits are those of `logitstore.storage.remote_files`.

Several processes share one cache folder without locks. A file appears under its name only when it is whole
(`atomic_path`). A `.claim` that only one process can create keeps the others from fetching the same file; it is a
courtesy, so a claim whose holder seems dead (no change for a while) is just removed. Files read longest ago are removed
to stay within the bound; a reader that has such a file open can go on reading.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from distill.errors import DistillError
from logitstore import StoreError, StoreUnreachable
from logitstore.storage import remote_files
from logitstore.storage.atomic import atomic_path

_POLL = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardCache:
    """Where fetched files are kept, and how patiently they are fetched."""

    folder: Path
    limit_bytes: int = 50 * 10**9
    """Of all files in the folder, those being fetched included."""
    retries: int = remote_files.RETRIES
    """Further tries of a read that fails or is too slow; the pause before the n-th is 2^(n-1) * `pause`."""
    timeout: float = remote_files.TIMEOUT_S
    """Seconds that one read of at most 8 MiB may take."""
    pause: float = remote_files.PAUSE_S
    """Seconds before the first retry; pauses double, up to 30 s."""


def default_folder() -> Path:
    """`$XDG_CACHE_HOME/distill`, or `~/.cache/distill`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distill"


class Remote:
    """A folder on a URL. Safe in forked workers: each process makes its own connection."""

    def __init__(self, url: str, cache: ShardCache) -> None:
        self.cache = cache
        self._files = remote_files.RemoteFiles(url, retries=cache.retries, timeout=cache.timeout, pause=cache.pause)
        self.url = self._files.url
        self._pid = 0
        self._ahead: queue.Queue[tuple[str, Path, int]] | None = None

    def __reduce__(self) -> tuple[type[Remote], tuple[str, ShardCache]]:
        """Pickled as its address: a worker started by spawn makes its own connection too."""
        return Remote, (self.url, self.cache)

    def read(self, name: str) -> bytes:
        """A small file, whole. **Raises:** `FileNotFoundError`; `DistillError` after the last retry."""
        with self._reported(name):
            return self._files.read(name)

    def size(self, name: str) -> int:
        """Bytes of a file. **Raises:** as `read` does."""
        with self._reported(name):
            return self._files.size(name)

    def fetch(self, name: str, target: Path, *, size_bytes: int | None = None, waits: bool = True) -> None:
        """Puts a file at `target`, unless it is there. With `waits=False` a file that another process is fetching is
        left to it.

        **Raises:** `DistillError` after the last retry, or where the file has another size.
        """
        size_bytes = self.size(name) if size_bytes is None else size_bytes
        claim = target.with_name(f"{target.name}.claim")
        target.parent.mkdir(parents=True, exist_ok=True)
        while not target.exists():
            try:
                os.close(os.open(claim, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                if not waits:
                    return
                self._wait(target, claim)
                continue
            try:
                with atomic_path(target) as part, part.open("wb") as file:
                    self._download(name, file, size_bytes, alive=(claim, part))
            finally:
                claim.unlink(missing_ok=True)

    def fetch_ahead(self, wanted: Sequence[tuple[str, Path, int]]) -> None:
        """Fetches (name, target, size) in a thread of this process; failures are left to the reader's own fetch."""
        if self._ahead is None or self._pid != os.getpid():
            with self._reported(""):
                self._files.filesystem()  # Opened in this thread, before both use it.
            self._ahead, self._pid = queue.Queue(), os.getpid()
            threading.Thread(target=self._work, args=(self._ahead,), name="fetch ahead", daemon=True).start()
        for item in wanted:
            self._ahead.put(item)

    def _work(self, wanted: queue.Queue[tuple[str, Path, int]]) -> None:
        while True:
            name, target, size_bytes = wanted.get()
            with contextlib.suppress(DistillError, OSError):
                self.fetch(name, target, size_bytes=size_bytes, waits=False)

    def _download(self, name: str, file: BinaryIO, size_bytes: int, *, alive: Sequence[Path]) -> None:
        """Writes a remote file's bytes into `file`; `alive` are touched before each try of a read."""

        def touch() -> None:
            for path in alive:
                with contextlib.suppress(FileNotFoundError):
                    os.utime(path)

        make_room(self.cache, size_bytes, name=name)
        file.truncate(size_bytes)  # So that others count it in full.
        for begin in range(0, size_bytes, remote_files.PIECE_BYTES):
            end = min(begin + remote_files.PIECE_BYTES, size_bytes)
            with self._reported(name):
                piece = self._files.read_range(name, begin, end, on_try=touch)
            file.write(piece)

    def _wait(self, target: Path, claim: Path) -> None:
        """Waits until another process has fetched a file or gives up; removes its claim if it seems to have died."""
        while claim.exists() and not target.exists():
            with contextlib.suppress(FileNotFoundError):
                if _seems_dead(claim, self.cache):
                    claim.unlink()
            time.sleep(_POLL)

    @contextlib.contextmanager
    def _reported(self, name: str) -> Iterator[None]:
        """Errors of the driver, of the network and of the address become `DistillError`."""
        try:
            yield
        except StoreUnreachable as error:
            last = error.__cause__
            raise DistillError(
                f"{self.url}/{name} could not be read in {self.cache.retries + 1} tries; the last failed with "
                f"{type(last).__name__}: {last}. See to the connection, or raise data.retries or data.timeout"
            ) from None
        except StoreError as error:
            raise DistillError(str(error)) from None


def _seems_dead(path: Path, cache: ShardCache) -> bool:
    """Whether nothing was done about a claim or a temporary file for longer than a try and the pause after it can
    last."""
    return time.time() - path.stat().st_mtime > cache.timeout + remote_files.LONGEST_PAUSE_S + 10


def make_room(cache: ShardCache, size_bytes: int, *, name: str) -> None:
    """Removes the shards read longest ago until `size_bytes` more fit the bound. Catalogs are never removed.

    Processes that fetch at the same moment do not see one another's choice, so the bound may be passed by a shard for
    each of them until the next fetch.

    **Raises:** `DistillError` if the file alone is larger than the bound.
    """
    if size_bytes > cache.limit_bytes:
        raise DistillError(
            f"{name} has {size_bytes} bytes and data.cache_bytes={cache.limit_bytes}: raise "
            "it, to the size of two windows of shards at least"
        )
    shards: list[tuple[float, int, Path]] = []
    for path in cache.folder.glob("*/*.tar*"):
        with contextlib.suppress(FileNotFoundError):
            if path.suffix != ".tar" and _seems_dead(path, cache):  # Left by a process that was killed.
                path.unlink()
                continue
            status = path.stat()
            shards.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in shards)
    for _, size, path in sorted(shards):
        if total + size_bytes <= cache.limit_bytes:
            break
        if path.suffix == ".tar":
            path.unlink(missing_ok=True)
            total -= size
