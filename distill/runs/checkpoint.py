"""Checkpoints: everything a run needs to go on exactly, in one file that is whole or not there.

A file is what `torch.save` writes, and one line more at its end: `sha256` and the digest of all before it. torch and
zip readers pass over that line. Of a run's checkpoints the newest few stay, and the best.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import torch

from distill.errors import DistillError

_NAME = re.compile(r"step-(\d{8})\.pt")
_DIGEST = re.compile(rb"\nsha256 ([0-9a-f]{64})\n")
_DIGEST_BYTES = 73
_CHUNK_BYTES = 1 << 24


class DamagedCheckpoint(DistillError):
    """The bytes of a checkpoint are not those that were written."""


def checkpoint_path(folder: Path, step: int) -> Path:
    """The file of one step's checkpoint."""
    return folder / f"step-{step:08d}.pt"


def save_checkpoint(folder: Path, state: dict[str, Any], *, step: int, keep: int, best: int | None = None) -> None:
    """Writes the checkpoint of `step` under another name, renames it, then removes all but the newest `keep` and that
    of step `best`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = checkpoint_path(folder, step)
    part = path.with_suffix(".part")
    try:
        with part.open("w+b") as file:
            torch.save(state, file)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.write(b"\nsha256 " + digest.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
        _sync_folder(folder)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError.
        part.unlink(missing_ok=True)
        raise DistillError(
            f"cannot write checkpoint {path} ({error}): make room and start the same command again; it goes on from "
            "the checkpoint before"
        ) from None
    for old in list_checkpoints(folder)[:-keep]:
        if best is None or old != checkpoint_path(folder, best):
            old.unlink()


def _sync_folder(folder: Path) -> None:
    """Makes a rename last through a power cut."""
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
    """A checkpoint's content, on the CPU. **Raises:** `DamagedCheckpoint` that says what is wrong with the file,
    `DistillError` if it is whole and of another version."""
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
        raise DistillError(f"{path} is whole, but this version of torch cannot load it: {error}") from None
    return state


def _check_digest(path: Path, file: Any, size_bytes: int) -> None:
    file.seek(max(0, size_bytes - _DIGEST_BYTES))
    line = _DIGEST.fullmatch(file.read())
    if line is None:
        raise DamagedCheckpoint(f"{path} is cut off: {size_bytes:,} bytes that do not end with their digest")
    digest, left = hashlib.sha256(), size_bytes - _DIGEST_BYTES
    file.seek(0)
    while left:
        chunk = file.read(min(left, _CHUNK_BYTES))
        digest.update(chunk)
        left -= len(chunk)
    if digest.hexdigest() != line[1].decode():
        raise DamagedCheckpoint(
            f"{path} was changed after it was written: sha256 {digest.hexdigest()[:12]}... of its bytes, "
            f"{line[1].decode()[:12]}... on its last line"
        )


def load_newest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that is whole, and its content; None if there is none at all. Damaged ones that are newer
    get `.damaged` after their name, so that they stand in nobody's way.

    **Raises:** `DistillError` if there are checkpoints and none is whole.
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
        raise DistillError(f"no checkpoint in {folder} is whole: remove the run's folder to start it anew")
    return None
