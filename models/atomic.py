"""Files that appear whole or not at all, for libraries that write to a path of their own."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file under a name that cannot be guessed, for a library that writes to a path; renamed to `path` at the end,
    with the permissions of any new file, and removed where the block raises. A link at `path` is replaced, not
    followed.

    **Raises** OSError.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    mode = os.fstat(descriptor).st_mode
    os.close(descriptor)
    try:
        yield partial
        partial.chmod(mode & 0o777)  # Some libraries put a file of their own, for its owner alone, in the place.
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
