"""Checkpoints: all that a run needs to resume bitwise, each in one file that is complete or absent.

A file is what `torch.save` writes, followed by one more line: `sha256` and the digest of all bytes before it. Readers
of torch and zip files ignore that line. The newest checkpoints are kept, and the one with the best top-1.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import torch

from distill.errors import DistillError
from logitstore.storage.atomic import atomic_path

_NAME = re.compile(r"step-(\d{8})\.pt")
_DIGEST = re.compile(rb"\nsha256 ([0-9a-f]{64})\n")
_DIGEST_BYTES = 73
_CHUNK_BYTES = 1 << 24


class DamagedCheckpoint(DistillError):
    """The bytes of a checkpoint are not the ones that were written."""


def checkpoint_path(folder: Path, step: int) -> Path:
    """The file of one step's checkpoint."""
    return folder / f"step-{step:08d}.pt"


def save_checkpoint(folder: Path, state: dict[str, Any], *, step: int, keep: int, best: int | None = None) -> None:
    """Writes the checkpoint of `step` under a temporary name, renames it, then deletes all but the newest `keep` and
    that of step `best`.

    **Raises:** `DistillError` if it cannot be written; the older checkpoints are then untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = checkpoint_path(folder, step)
    try:
        with atomic_path(path, sync=True, sole_writer=True) as temporary, temporary.open("w+b") as file:
            torch.save(state, file)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.write(b"\nsha256 " + digest.encode() + b"\n")
        _sync_folder(folder)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError.
        raise DistillError(
            f"cannot write checkpoint {path} ({error}): free some space and start the same command again; it "
            "resumes from the previous checkpoint"
        ) from None
    for old in list_checkpoints(folder)[:-keep]:
        if best is None or old != checkpoint_path(folder, best):
            old.unlink()


def _sync_folder(folder: Path) -> None:
    """Makes a rename survive a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, on the CPU.

    **Raises:** `DamagedCheckpoint` that says what is wrong with the file; `DistillError` if the file is undamaged and
    torch cannot load it.
    """
    try:
        with path.open("rb") as file:
            size_bytes = file.seek(0, os.SEEK_END)
            _check_digest(path, file, size_bytes)
            file.seek(0)
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise DamagedCheckpoint(f"{path} cannot be read: {error.strerror}") from None
    except DamagedCheckpoint:
        raise
    except Exception as error:
        raise DistillError(f"{path} is undamaged, but this version of torch cannot load it: {error}") from None
    return state


def _check_digest(path: Path, file: Any, size_bytes: int) -> None:
    file.seek(max(0, size_bytes - _DIGEST_BYTES))
    line = _DIGEST.fullmatch(file.read())
    if line is None:
        raise DamagedCheckpoint(f"{path} is truncated: {size_bytes:,} bytes that do not end with their digest")
    digest, remaining = hashlib.sha256(), size_bytes - _DIGEST_BYTES
    file.seek(0)
    while remaining:
        chunk = file.read(min(remaining, _CHUNK_BYTES))
        digest.update(chunk)
        remaining -= len(chunk)
    if digest.hexdigest() != line[1].decode():
        raise DamagedCheckpoint(
            f"{path} was changed after it was written: sha256 {digest.hexdigest()[:12]}... of its bytes, "
            f"{line[1].decode()[:12]}... on its last line"
        )


def load_newest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest undamaged checkpoint and its content; None if there is no checkpoint. Newer ones that are damaged are
    renamed to end in `.damaged`.

    **Raises:** `DistillError` if there are checkpoints and all are damaged.
    """
    paths = list_checkpoints(folder)
    for path in reversed(paths):
        try:
            return path, load_checkpoint(path)
        except DamagedCheckpoint as error:
            aside = path.with_name(f"{path.name}.damaged")
            path.rename(aside)
            print(f"warning: {error}. It is now {aside.name}; trying the one before", flush=True)
    if paths or any(folder.glob("step-*.pt.damaged")):
        raise DistillError(f"all checkpoints in {folder} are damaged: remove the run's folder to start the run again")
    return None
