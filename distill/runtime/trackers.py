"""Experiment trackers, by accelerate's names for them: tensorboard, wandb, ...

`metrics.jsonl` is always written and is the run's record; a tracker gets the same lines.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS

from distill.errors import DistillError, UsageError
from distill.files import read_text, write_file
from distill.runtime.processes import Runtime

_PROJECT = "distill"


def check(names: Sequence[str]) -> None:
    """**Raises:** `UsageError` for a tracker that accelerate does not know, `DistillError` for one whose package is not
    installed."""
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise UsageError(f"run.trackers={name}: choose from {', '.join(sorted(LOGGER_TYPE_TO_CLASS))}")
        if find_spec(name) is None:
            raise DistillError(
                f"run.trackers={name}: its package is not installed; pip install {name.replace('_', '-')}"
            )


def start(runtime: Runtime, names: Sequence[str], *, folder: Path, settings: Mapping[str, Any], step: int) -> None:
    """Opens the trackers for a run that starts or resumes at `step`. All processes must call.

    **Arguments:** `folder`: of the trackers, inside the run's; `settings`: hyperparameters to show with the metrics.
    """
    if not names:
        return
    options: dict[str, dict[str, Any]] = {}
    if "tensorboard" in names and step:
        options["tensorboard"] = {"purge_step": step + 1}  # Hides what was logged after the checkpoint.
    if "wandb" in names and runtime.is_main:
        options["wandb"] = {"id": _run_id(folder), "name": folder.parent.name, "dir": str(folder), "resume": "allow"}
    shown = {name: value if isinstance(value, bool | int | float) else str(value) for name, value in settings.items()}
    runtime.accelerator.init_trackers(_PROJECT, config=None if step else shown, init_kwargs=options)


def _run_id(folder: Path) -> str:
    """The run's name at the service, the same whenever the run is resumed."""
    path = folder / "run_id"
    if not path.exists():
        write_file(path, secrets.token_hex(4))
    return read_text(path, limit=100).strip()
