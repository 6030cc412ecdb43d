"""A run's folder: what it was asked to do, and whether the same is asked now.

config.yaml   metrics.jsonl   checkpoints/   student.safetensors   student_ema.safetensors   summary.json
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from distill.config import TrainStudentConfig
from distill.errors import DistillError

CONFIG, METRICS, CHECKPOINTS, WEIGHTS, SUMMARY = (
    "config.yaml", "metrics.jsonl", "checkpoints", "student.safetensors", "summary.json",
)  # fmt: skip
AVERAGE = "student_ema.safetensors"

# What may differ when a run goes on: nothing here changes a step.
_FREE = (
    "data.path", "data.val_path", "data.workers", "data.prefetch", "data.digests", "data.damaged",
    "data.cache", "data.retries", "data.timeout",
    "store.path", "store.check", "eval.", "compute.compile", "compute.threads", "run.",
    "train.grad_checkpoint",
)  # fmt: skip


def prepare(config: TrainStudentConfig) -> Path:
    """Makes the folder and saves the configuration in it, or sees that the run in it is the one asked for.

    **Raises:** `DistillError` naming each setting that differs, or if the folder holds something else.
    """
    assert config.run.dir
    folder = Path(config.run.dir)
    saved = folder / CONFIG
    if saved.exists():
        if different := _differences(yaml.safe_load(saved.read_text()), asdict(config)):
            raise DistillError(
                f"{folder} holds another run, and nothing in it was changed. Take another run.dir, or the settings "
                "it was started with. It differs in\n  " + "\n  ".join(different)
            )
        return folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DistillError(f"{folder} is there and is not the folder of a run: take another run.dir")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = saved.with_suffix(".part")
        part.write_text(yaml.safe_dump(asdict(config), sort_keys=False))
        part.rename(saved)
    except OSError as error:
        raise DistillError(f"cannot write {saved}: {error.strerror}") from None
    return folder


def read_config(folder: Path) -> TrainStudentConfig:
    """The configuration of the run in `folder`. **Raises:** `DistillError` if there is none."""
    path = folder / CONFIG
    if not path.exists():
        raise DistillError(f"{folder} is not the folder of a run: it has no {CONFIG}")
    merged = OmegaConf.merge(OmegaConf.structured(TrainStudentConfig), OmegaConf.load(path))
    config = OmegaConf.to_object(merged)
    assert isinstance(config, TrainStudentConfig)
    return config


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    before, now = dict(_leaves(old)), dict(_leaves(new))
    names = [name for name in before | now if not name.startswith(_FREE) and before.get(name) != now.get(name)]
    return [f"{name}: {before.get(name)} there, {now.get(name)} now" for name in sorted(names)]


def _leaves(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for name, value in tree.items():
        inner = _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
        leaves.extend(inner)
    return leaves
