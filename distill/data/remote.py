"""Files of a data set on a URL, through a bounded local cache.

    s3://bucket/train  ->  CACHE/<digest of URL and catalog>/shard-000000.tar ...  ->  read like local shards

Whole shards are fetched, because nearly all of a shard's images are wanted within one window of the order. A worker
fetches the shards of the window after the one it reads from in a thread; a shard that is not there in time is fetched
while the reader waits. Any URL that fsspec knows will do (`s3://`, `gs://`, `hf://`, `http://`, `file://`, `memory://`).

Several processes share one cache folder without locks. A file appears under its name only when it is whole: each
process writes a `.part` of its own and renames it. A `.claim` that only one process can create keeps the others from
fetching the same file; it is a courtesy, so a claim whose holder seems dead (no change for a while) is just removed.
Files read longest ago are removed to stay within the bound; a reader that has such a file open can go on reading.
"""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import fsspec

from distill.errors import DistillError

T = TypeVar("T")

_CHUNK = 8 * 2**20
_LONGEST_PAUSE = 30.0
_POLL = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """Where fetched files are kept, and how patiently they are fetched."""

    folder: Path
    limit_bytes: int = 50 * 10**9
    """Of all files in the folder, those being fetched included."""
    retries: int = 5
    """Further tries of a read that fails or is too slow; the pause before the n-th is 2^(n-1) * `pause`."""
    timeout: float = 60.0
    """Seconds that one read of at most 8 MiB may take."""
    pause: float = 0.5
    """Seconds before the first retry; pauses double, up to 30 s."""


def default_folder() -> Path:
    """`$XDG_CACHE_HOME/distill`, or `~/.cache/distill`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distill"


def is_url(path: str | Path) -> bool:
    return "://" in str(path)


class Remote:
    """A folder on a URL. Safe in forked workers: each process makes its own connection."""

    def __init__(self, url: str, cache: Cache) -> None:
        self.url, self.cache = url.rstrip("/"), cache
        self._pid = 0
        self._files: Any = None
        self._root = ""
        self._ahead: queue.Queue[tuple[str, Path, int]] | None = None

    def __reduce__(self) -> tuple[type[Remote], tuple[str, Cache]]:
        """Pickled as its address: a worker started by spawn makes its own connection too."""
        return Remote, (self.url, self.cache)

    def read(self, name: str) -> bytes:
        """A small file, whole. **Raises:** `FileNotFoundError`; `DistillError` after the last retry."""
        files, root = self._filesystem()
        return self._patiently(name, lambda: bytes(files.cat_file(f"{root}/{name}")))

    def size(self, name: str) -> int:
        files, root = self._filesystem()
        return self._patiently(name, lambda: int(files.info(f"{root}/{name}")["size"]))

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
            part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
            try:
                with part.open("wb") as file:
                    self._download(name, file, size_bytes, alive=claim)
                part.rename(target)
            finally:
                part.unlink(missing_ok=True)
                claim.unlink(missing_ok=True)

    def fetch_ahead(self, wanted: Sequence[tuple[str, Path, int]]) -> None:
        """Fetches (name, target, size) in a thread of this process; failures are left to the reader's own fetch."""
        if self._ahead is None or self._pid != os.getpid():
            self._filesystem()
            self._ahead = queue.Queue()
            threading.Thread(target=self._work, args=(self._ahead,), name="fetch ahead", daemon=True).start()
        for item in wanted:
            self._ahead.put(item)

    def _work(self, wanted: queue.Queue[tuple[str, Path, int]]) -> None:
        while True:
            name, target, size_bytes = wanted.get()
            with contextlib.suppress(DistillError, OSError):
                self.fetch(name, target, size_bytes=size_bytes, waits=False)

    def _filesystem(self) -> tuple[Any, str]:
        if self._pid != os.getpid():
            self._files, self._root = connect(self.url)
            self._pid = os.getpid()
        return self._files, self._root

    def _download(self, name: str, file: BinaryIO, size_bytes: int, *, alive: Path) -> None:
        files, root = self._filesystem()
        make_room(self.cache, size_bytes, name=name)
        file.truncate(size_bytes)  # So that others count it in full.
        for begin in range(0, size_bytes, _CHUNK):
            end = min(begin + _CHUNK, size_bytes)

            def piece(begin: int = begin, end: int = end) -> bytes:
                for path in (alive, file.name):
                    with contextlib.suppress(FileNotFoundError):
                        os.utime(path)
                data = bytes(files.cat_file(f"{root}/{name}", start=begin, end=end))
                if len(data) != end - begin:
                    raise OSError(f"bytes {begin} to {end} were asked for, {len(data)} came")
                return data

            file.write(self._patiently(name, piece))

    def _wait(self, target: Path, claim: Path) -> None:
        """Waits until another process has fetched a file or gives up; removes its claim if it seems to have died."""
        while claim.exists() and not target.exists():
            with contextlib.suppress(FileNotFoundError):
                if _seems_dead(claim, self.cache):
                    claim.unlink()
            time.sleep(_POLL)

    def _patiently(self, name: str, work: Callable[[], T]) -> T:
        for attempt in range(self.cache.retries + 1):
            if attempt:
                time.sleep(min(_LONGEST_PAUSE, self.cache.pause * 2 ** (attempt - 1)))
            try:
                return within(self.cache.timeout, work)
            except (FileNotFoundError, PermissionError):
                raise
            except Exception as caught:  # Each file system has its own errors.
                error = caught
        raise DistillError(
            f"{self.url}/{name} could not be read in {self.cache.retries + 1} tries; the last failed with "
            f"{type(error).__name__}: {error}. See to the connection, or raise data.retries or data.timeout"
        )


def connect(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL, and the path on it. **Raises:** `DistillError` where it cannot be had."""
    try:
        files, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise DistillError(f"{url}: {error} (for s3:// URLs: pip install 'distill[s3]')") from None
    return files, str(root).rstrip("/")


def within(seconds: float, work: Callable[[], T]) -> T:
    """The result of `work`, in a thread that is left behind if it takes longer. **Raises:** what `work` raises, or
    `TimeoutError`."""
    result: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(1)

    def run() -> None:
        try:
            result.put((work(), None))
        except BaseException as error:
            result.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        value, error = result.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


def _seems_dead(path: Path, cache: Cache) -> bool:
    """Whether nothing was done about a claim or part for longer than a try and the pause after it can last."""
    return time.time() - path.stat().st_mtime > cache.timeout + _LONGEST_PAUSE + 10


def make_room(cache: Cache, size_bytes: int, *, name: str) -> None:
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
            if path.suffix == ".part" and _seems_dead(path, cache):  # Left by a process that was killed.
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
