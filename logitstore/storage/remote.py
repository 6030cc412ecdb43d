"""Files behind an fsspec URL: `s3://`, `gs://`, `hf://`, `memory://` and the like.

`RemoteFiles` reads files with retries, pauses and time limits; it knows nothing of stores, and packed data sets are
read through it too. `RemoteStorage` is a store's folder, on top of it. fsspec is imported when the first URL is opened.

Objects appear whole or not at all, which is all that the order of writing (marker last) needs. There are no renames,
no temporary names and no locks here: whoever starts the writers must see to it that no two write the same blocks.
"""

import errno
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

from logitstore.errors import StoreError, StoreUnreachable
from logitstore.storage.atomic import TEMPORARY
from logitstore.storage.interface import ReadRange
from logitstore.untrusted import printable

RETRIES = int(os.environ.get("LOGITSTORE_RETRIES", "5"))
"""Further tries of a read that fails or takes too long."""
SILENCE_S = 60.0
"""Seconds after which an address that has never answered is given up, whatever tries are left."""
TIMEOUT_S = float(os.environ.get("LOGITSTORE_TIMEOUT_S", "30"))
"""Seconds that one try of a read of at most `PIECE_BYTES` may take."""
DOUBTS = 2
"""Further readings, by other connections, of what arrives and is damaged, before it is called so."""
PAUSE_S = 0.5
"""Seconds before the first retry. The pause before the n-th is 2^(n-1) times that, but not above `LONGEST_PAUSE_S`."""
LONGEST_PAUSE_S = 30.0
PIECE_BYTES = 8 * 2**20
"""The most that is read in one request of a range."""
WHOLE_BYTES = 64 * 1024
"""Files of a store up to this size are fetched in one piece; of larger ones, the parts that are needed."""

T = TypeVar("T")


def is_url(path: str | Path) -> bool:
    """Whether a path names remote storage. `file://` is as good as a path only for fsspec, and counts as a URL."""
    return isinstance(path, str) and "://" in path


class RemoteFiles:
    """Reads files below an fsspec URL, with retries.

    Safe in forked workers, and can be pickled: each process opens a driver of its own. Names are relative to the URL,
    with slashes.
    """

    def __init__(
        self, url: str, *, retries: int | None = None, timeout: float | None = None, pause: float | None = None
    ) -> None:
        """**Arguments**: `retries`: further tries of a read that fails; `timeout`: seconds that one try may take;
        `pause`: seconds before the first retry, doubled before each further one. None: `RETRIES`, `TIMEOUT_S`,
        `PAUSE_S`."""
        self.url = url.rstrip("/")
        self.retries = RETRIES if retries is None else retries
        self.timeout = TIMEOUT_S if timeout is None else timeout
        self.pause = PAUSE_S if pause is None else pause
        self._opened: tuple[int, Any, str] | None = None
        self._fresh = self._answered = False

    def __str__(self) -> str:
        return self.url

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def filesystem(self) -> tuple[Any, str]:
        """fsspec's driver, and the name that the URL's folder has to it.

        Opened anew in a forked child, whose event loop is another. Raises `StoreError` where the scheme is unknown or
        its driver is not installed.
        """
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                import fsspec

                options = {"skip_instance_cache": True} if self._fresh else {}
                driver, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False, **options)
            except ImportError as error:
                raise StoreError(f"{self.url}: {error}; install the driver, for s3: pip install distill[s3]") from None
            except ValueError as error:
                raise StoreError(f"{self.url}: {error}") from None
            self._opened = (os.getpid(), driver, str(root).rstrip("/"))
        return self._opened[1], self._opened[2]

    def renew(self) -> None:
        """Use a driver of its own from the next request on, not one that has connections open or remembers answers."""
        self._opened, self._fresh = None, True

    def read(self, name: str, *, size: int | None = None) -> bytes:
        """A whole file in one request; for small ones. Raises as `retry` does.

        **Arguments** `size`: of the file in bytes, where it is known: an answer of another length counts as failed.
        """

        def whole(driver: Any, path: str) -> bytes:
            data = bytes(driver.cat_file(path))
            if size is not None and len(data) != size:
                raise OSError(f"{size} bytes were asked for, {len(data)} came")
            return data

        return self.retry(name, whole)

    def read_range(self, name: str, start: int, stop: int, *, on_try: Callable[[], None] | None = None) -> bytes:
        """Bytes `start` to `stop` of a file that has them, in requests of at most `PIECE_BYTES`; a request that brings
        fewer bytes counts as failed.

        **Arguments** `on_try`: called before each try, for what must not seem idle while a read is repeated.

        Raises as `retry` does.
        """
        pieces = []
        for begin in range(start, stop, PIECE_BYTES):
            end = min(begin + PIECE_BYTES, stop)

            def piece(driver: Any, path: str, begin: int = begin, end: int = end) -> bytes:
                if on_try is not None:
                    on_try()
                data = bytes(driver.cat_file(path, start=begin, end=end))
                if len(data) != end - begin:
                    raise OSError(f"bytes {begin} to {end} were asked for, {len(data)} came")
                return data

            pieces.append(self.retry(name, piece))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def size(self, name: str) -> int:
        """Bytes of a file. Raises as `retry` does; `FileNotFoundError` also for a folder."""
        about = self.retry(name, lambda driver, path: driver.info(path))
        if about.get("type") != "file":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return int(about["size"])

    def retry(self, name: str, work: Callable[[Any, str], T], *, timed: bool = True) -> T:
        """The result of `work(driver, full name)`, tried again while it fails.

        **Arguments** `timed`: a try may take `timeout` seconds; False for what takes long with many files.

        Raises what cannot be helped by trying again as it is (`FileNotFoundError`, `PermissionError`, `StoreError`);
        `StoreUnreachable` after the last try, with the last error as its cause.
        """
        driver, root = self.filesystem()
        path = f"{root}/{name}" if name else root
        attempt, began = 0, monotonic()
        while True:
            try:
                result = within(self.timeout, lambda: work(driver, path)) if timed else work(driver, path)
                self._answered = True
                return result
            except (FileNotFoundError, NotADirectoryError, PermissionError, StoreError):
                self._answered = True
                raise
            except Exception as caught:  # Every driver has errors of its own.
                error = caught
            attempt += 1
            silent = not self._answered and monotonic() - began > SILENCE_S
            if attempt > self.retries or silent:
                raise unreachable(self._where(name), error, tries=attempt) from error
            reason = printable(f"{type(error).__name__}: {error}")[:200]
            tries = f"try {attempt} of {self.retries + 1}"
            print(f"{self._where(name)}: {tries} failed ({reason})", file=sys.stderr, flush=True)
            sleep(min(LONGEST_PAUSE_S, self.pause * 2 ** (attempt - 1)))

    def once(self, name: str, work: Callable[[Any, str], T]) -> T:
        """The result of `work(driver, full name)`, tried once: for what writes. Raises as `retry` does."""
        driver, root = self.filesystem()
        try:
            return work(driver, f"{root}/{name}")
        except (FileNotFoundError, PermissionError, StoreError):
            raise
        except Exception as error:
            raise unreachable(self._where(name), error) from error

    def _where(self, name: str) -> str:
        return f"{self.url}/{name}" if name else self.url


def unreachable(where: str, error: Exception, *, tries: int = 1) -> StoreUnreachable:
    """The error for a remote file that cannot be reached, for the user."""
    in_tries = f" in {tries} tries" if tries > 1 else ""
    return StoreUnreachable(
        f"{where} cannot be reached{in_tries} ({type(error).__name__}: {error}): check the network, the address and "
        "the credentials, and run the same command again"
    )


def within(seconds: float, work: Callable[[], T]) -> T:
    """The result of `work`, run in a thread that is left behind if it takes longer than `seconds`.

    Raises what `work` raises, or `TimeoutError`.
    """
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
        with self._permitted(key):
            self.files.once(key, lambda driver, path: driver.pipe_file(path, data))

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
