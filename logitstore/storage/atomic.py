"""Files and folders that appear at once: written under a temporary name beside their own, then renamed.

Whatever kills the process, the final name holds all of the file or what was there before. Used for the files of a
store, and by any program that writes a file which others read. Errors of the disk are `OSError`, as the disk gave them.

    write_atomically(folder / "summary.json", json.dumps(summary))

    with atomic_path(folder / "features.npz") as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
"""

import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = ".tmp"
"""Ending of temporary names. Files that a killed write left have it; they are never read, and can be deleted while
nobody writes."""
_TOKEN = "[0-9a-f]" * 8


@contextmanager
def atomic_path(path: Path, *, sync: bool = False, sole_writer: bool = False, folder: bool = False) -> Iterator[Path]:
    """A temporary path in the folder of `path`, `NAME.xxxxxxxx.tmp`, where an empty file waits for the caller's
    content. At the end it is renamed to `path`; where the block raises, it is removed, and `path` stays as it was. (A
    writer that goes by a file's ending, such as `numpy.save`, is given an open file.)

    The temporary name cannot be guessed, and is made by this call or not at all; a symbolic link at `path` is replaced,
    not followed.

    **Arguments**

    - `path`: its folder must be there. A file of that name is replaced; a folder of that name must be empty.
    - `sync`: flush the file to the disk (fsync) before it is renamed, so that it also survives a power failure.
      For files alone; the folder's own entry is not flushed.
    - `sole_writer`: only one process at a time writes `path`, so what a killed one left there is removed first instead
      of piling up.
    - `folder`: make a folder instead of a file.

    **Raises** `OSError`.
    """
    if sole_writer:
        for left in path.parent.glob(f"{glob.escape(path.name)}.{_TOKEN}{TEMPORARY}"):
            _remove(left)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    if folder:
        temporary.mkdir()
    else:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
    try:
        yield temporary
        if sync:
            sync_file(temporary)
        temporary.replace(path)
    except BaseException:
        _remove(temporary)
        raise


def write_atomically(path: Path, data: bytes | str, *, sync: bool = False, sole_writer: bool = False) -> None:
    """Write a whole file, text as UTF-8, so that it appears at once in place of any file there.

    **Arguments** as those of `atomic_path`. **Raises** `OSError`.
    """
    with atomic_path(path, sync=sync, sole_writer=sole_writer) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def sync_file(path: Path) -> None:
    """Flush a file to the disk (fsync), so that it survives a power failure. **Raises** `OSError`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
