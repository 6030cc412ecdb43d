"""Checkpoints: everything a run needs to go on exactly, in one file that is whole or not there."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch

from distill.errors import DistillError

_NAME = re.compile(r"step-(\d{8})\.pt")


def save_checkpoint(folder: Path, state: dict[str, Any], *, step: int, keep: int) -> None:
    """Writes `folder/step-STEP.pt` under another name, renames it, then removes all but the newest `keep`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:08d}.pt"
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError.
        part.unlink(missing_ok=True)
        raise DistillError(
            f"cannot write checkpoint {path} ({error}): make room and start the same command again; it goes on from "
            "the checkpoint before"
        ) from None
    for old in list_checkpoints(folder)[:-keep]:
        old.unlink()


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def load_newest(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read, on the CPU; None if there is none at all.

    **Raises:** `DistillError` if there are checkpoints and none can be read.
    """
    paths = list_checkpoints(folder)
    for path in reversed(paths):
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises many kinds for a damaged file.
            print(f"warning: checkpoint {path} cannot be read ({error}); trying the one before", flush=True)
        else:
            return state
    if paths:
        raise DistillError(f"no checkpoint in {folder} can be read: remove the folder to start the run anew")
    return None
