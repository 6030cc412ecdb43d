"""Files that appear whole or not at all, and one clear error where the disk refuses them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distill.errors import DistillError
from logitstore.storage.atomic import write_atomically


@contextmanager
def write_errors(path: Path | str) -> Iterator[None]:
    """Turns an `OSError` within into a `DistillError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise DistillError(f"cannot write {path}: {error.strerror or error}") from None


def write_file(path: Path, data: bytes | str, *, name: str | None = None) -> None:
    """Writes a whole file, text as UTF-8, under a temporary name and renames it; makes its folder.

    **Arguments:** `name`: what a message calls the file, such as `out=page.html`; by default its path.

    **Raises:** `DistillError`.
    """
    with write_errors(name or path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
