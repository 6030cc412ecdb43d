"""Files behind an fsspec URL (`s3://`, `gs://`, `hf://`, `memory://` ...), read with retries, pauses and time limits.

Knows nothing of stores: packed data sets are read through it too. fsspec is imported when the first URL is opened.
"""

import errno
import os
import queue
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

from logitstore.errors import StoreError, StoreUnreachable
from logitstore.untrusted import printable

RETRIES = int(os.environ.get("LOGITSTORE_RETRIES", "5"))
"""Further tries of a read that fails or takes too long."""
SILENCE_S = 60.0
"""Seconds after which an address that has never answered is given up, whatever tries are left."""
TIMEOUT_S = float(os.environ.get("LOGITSTORE_TIMEOUT_S", "30"))
"""Seconds that one try of a read of at most `PIECE_BYTES` may take."""
PAUSE_S = 0.5
"""Seconds before the first retry. The pause before the n-th is 2^(n-1) times that, but not above `LONGEST_PAUSE_S`."""
LONGEST_PAUSE_S = 30.0
PIECE_BYTES = 8 * 2**20
"""The most that is read in one request of a range."""

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
