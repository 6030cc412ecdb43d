"""A run's folder: the settings it was started with, and whether they are the same now.

config.yaml   metrics.jsonl   checkpoints/   best.json    during the run (`requeue` where it was stopped)
student.safetensors   student_ema.safetensors   best.safetensors   summary.json   summary.md   curves.png   at the end
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from distill.config import ContractConfig, TrainStudentConfig, former
from distill.errors import DistillError, UsageError
from distill.files import read_json_object, read_yaml_mapping, refuse_links, write_file
from distill.models.weights.tensor_files import file_sha256
from distill.runs.checkpoint import list_checkpoints
from logitstore.untrusted import printable

CONFIG, METRICS, CHECKPOINTS, BEST, TRACKERS = "config.yaml", "metrics.jsonl", "checkpoints", "best.json", "trackers"
WEIGHTS, EMA_WEIGHTS, BEST_WEIGHTS = "student.safetensors", "student_ema.safetensors", "best.safetensors"
WEIGHTS_DIGEST = "weights_sha256"
"""In the summary, the SHA-256 of the weights that it is of."""
SUMMARY, REPORT, CURVES = "summary.json", "summary.md", "curves.png"

_SHOWN = 12
# Settings that may differ when a run is resumed: none of them changes a step.
_FREE = (
    "data.path", "data.val_path", "data.workers", "data.prefetch", "data.damaged", "data.cache", "data.retries",
    "data.timeout",
    "store.path", "store.check", "eval.", "compute.compile", "compute.threads", "run.",
    "train.grad_checkpoint",
)  # fmt: skip
# Settings that may differ once there is a checkpoint, which has the rows of a step: see `run_state.check_division`.
_DIVISION = ("train.batch_size", "train.accumulate", "train.global_batch")


def is_there(config: TrainStudentConfig | ContractConfig) -> bool:
    """Whether the folder already holds this run; changes nothing.

    **Raises:** `DistillError` that names each setting that differs, or if the folder holds something else.
    """
    assert config.run.dir
    folder = Path(config.run.dir)
    saved = folder / CONFIG
    if saved.exists() or saved.is_symlink():
        free = _FREE + (_DIVISION if list_checkpoints(folder / CHECKPOINTS) else ())
        if different := _differences(_read_saved(folder), asdict(config), free):
            more = [f"and in {len(different) - _SHOWN} more"] if len(different) > _SHOWN else []
            raise DistillError(
                f"{folder} holds a run with other settings, and nothing in it was changed. Take another run.dir, or "
                "the settings that the run was started with. They differ in\n  "
                + "\n  ".join([*different[:_SHOWN], *more])
            )
        return True
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DistillError(f"{folder} exists and is not the folder of a run: take another run.dir")
    return False


def prepare(config: TrainStudentConfig | ContractConfig) -> Path:
    """Makes the folder and saves the configuration in it, unless the run `is_there`.

    **Raises:** `DistillError` as `is_there` does, or if the folder cannot be written.
    """
    assert config.run.dir
    folder = Path(config.run.dir)
    saved = folder / CONFIG
    if is_there(config):
        return folder
    write_file(saved, yaml.safe_dump(asdict(config), sort_keys=False))
    return folder


def read_config(folder: Path) -> TrainStudentConfig:
    """The configuration of the run in `folder`, which an earlier version, or somebody else, may have written. Where it
    has a setting's value that was removed, the default stands in its place.

    **Raises:** `DistillError` if there is none, or it is not one of this program.
    """
    saved = former.without_removed_values(_read_saved(folder))
    try:
        merged = OmegaConf.merge(OmegaConf.structured(TrainStudentConfig), saved)
        config = OmegaConf.to_object(merged)
    except (OmegaConfBaseException, UsageError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise DistillError(f"{folder / CONFIG} is not the configuration of a run: {printable(reason)}") from None
    assert isinstance(config, TrainStudentConfig)
    return config


def finished_weights(folder: Path) -> Path:
    """The weights that a finished run leaves. **Raises:** `DistillError` if it is no run, or not finished."""
    read_config(folder)
    weights = folder / WEIGHTS
    if not weights.exists():
        raise DistillError(f"{folder} has no {WEIGHTS} yet: let `distill.train_student` finish the run")
    try:
        digest = read_json_object(folder / SUMMARY, allow_nan=True).get(WEIGHTS_DIGEST)
    except FileNotFoundError:
        return weights
    if digest is not None and digest != file_sha256(weights):
        raise DistillError(f"{weights} is not what the run left: its SHA-256 differs from that in {SUMMARY}")
    return weights


def settings_digest(config: TrainStudentConfig) -> str:
    """A digest of all settings that must be the same when a run is resumed."""
    settings = [(name, value) for name, value in leaves(asdict(config)) if not name.startswith(_FREE + _DIVISION)]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _read_saved(folder: Path) -> dict[str, Any]:
    """The saved configuration in today's form, plain values. **Raises:** `DistillError`."""
    refuse_links(folder)
    path = folder / CONFIG
    try:
        saved = read_yaml_mapping(path)
    except FileNotFoundError:
        raise DistillError(f"{folder} is not the folder of a run: it has no {CONFIG}") from None
    for name, value in leaves(saved):
        if "${" in str(value) or "${" in name:
            raise DistillError(f"{path}: {printable(name)} holds '${{', which is not resolved here: write the value")
    groups = {field.name for field in fields(TrainStudentConfig)} | {field.name for field in fields(ContractConfig)}
    wrong = [name for name, value in saved.items() if name in groups and not isinstance(value, dict | None)]
    if wrong:
        raise DistillError(f"{path} is not the configuration of a run: {printable(wrong[0])} is no group of settings")
    # An empty group is as good as none.
    return former.up_to_date({name: value for name, value in saved.items() if value is not None or name not in groups})


def _differences(old: dict[str, Any], new: dict[str, Any], free: tuple[str, ...]) -> list[str]:
    before, now = dict(leaves(old)), dict(leaves(new))
    names = [name for name in before | now if not name.startswith(free) and before.get(name) != now.get(name)]
    lines = []
    for name in sorted(names):
        removed = former.removed(name, before.get(name))
        note = f" ({removed})" if removed else ""
        line = f"{name}: {before.get(name)!s:.100} there, {now.get(name)!s:.100} now{note}"
        lines.append(printable(line))
    return lines


def leaves(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Every setting of a nested configuration by its dotted name."""
    found: list[tuple[str, Any]] = []
    for name, value in tree.items():
        found += leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return found
