"""Full fine-tuning of a TinyViT on the data to learn from: a student pass of its own, from the subject's weights.

The run lies in OUT/finetune/NAME and is a run like any other: stopped or killed it goes on when the same is asked
again, and finished it is not repeated.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import distill.config.command
from distill.config import TrainStudentConfig, TransferConfig
from distill.errors import DistillError, Stopped, UsageError
from distill.probes.probed_model import Subject
from distill.runs import run_dir
from distill.runtime.processes import Runtime


def check(config: TransferConfig, subject: Subject, runtime: Runtime) -> None:
    """**Raises:** `UsageError` for what cannot be fine-tuned, or for settings that are none."""
    if subject.config is None or subject.weights is None:
        raise UsageError(
            f"methods=[finetune]: the student pass trains TinyViTs, and {subject.name} is none. The other methods "
            "take every model"
        )
    if runtime.world > 1:
        raise UsageError(
            "methods=[finetune] is started with one process; on several, fine-tune by `torchrun -m "
            "distill.train_student` with student.init"
        )
    # Refused now and not after the probes.
    distill.config.command.load("train_student", TrainStudentConfig, words(config, subject))


def words(config: TransferConfig, subject: Subject) -> list[str]:
    """The words of the student pass."""
    shape, data, compute = subject.config, config.data, config.compute
    assert shape and subject.weights and config.out
    fixed: dict[str, Any] = {
        "data.path": data.path, "data.val_path": data.val_path, "data.rows": data.rows,
        "data.workers": data.workers, "data.damaged": data.damaged, "data.cache": data.cache,
        "run.dir": folder(config, subject),
        "student.name": "tiny_vit", "student.init": subject.weights, "student.init_classes": "new",
        "student.image_size": subject.model.image_size, "student.dims": list(shape.dims),
        "student.depths": list(shape.depths), "student.heads": list(shape.heads),
        "student.windows": list(shape.windows), "student.mlp_ratio": shape.mlp_ratio,
        "student.expand": shape.expand, "student.stem_stride": shape.stem_stride,
        "student.mean": list(subject.model.mean), "student.std": list(subject.model.std),
        "eval.crop": subject.view.crop, "eval.interpolation": subject.view.interpolation,
        "eval.full": subject.view.full, "eval.every": 0,
        "compute.precision": compute.precision, "compute.channels_last": compute.channels_last,
        "compute.threads": compute.threads,
    }  # fmt: skip
    chosen = {"student": "tiny_vit_micro", **fixed, **config.finetune.all()}
    # ++: the choices in conf/ do not have every key; the program's dataclasses refuse what is none. Groups have no dot.
    return [f"{'++' if '.' in key else ''}{key}={_word(value)}" for key, value in chosen.items()]


def folder(config: TransferConfig, subject: Subject) -> Path:
    """Of the run."""
    assert config.out
    return Path(config.out) / "finetune" / subject.name


def score(config: TransferConfig, subject: Subject) -> dict[str, Any]:
    """Runs the student pass to its end, or finds it done, and returns its scores.

    **Raises:** `DistillError` if it fails, `Stopped` if it is stopped in good order.
    """
    command = [sys.executable, "-m", "distill.train_student", *words(config, subject)]
    code = subprocess.run(command, check=False).returncode
    run = folder(config, subject)
    if code == distill.config.command.STOPPED:
        raise Stopped(f"the fine-tuning in {run}; the same command goes on from there")
    if code:
        raise DistillError(f"the fine-tuning in {run} ended with exit code {code}; its message is above")
    summary = json.loads((run / run_dir.SUMMARY).read_text())
    return {name: summary[name] for name in ("top1", "top5", "steps", "seconds")} | {"settings": config.finetune.all()}


def _word(value: Any) -> str:
    """A value as Hydra reads it."""
    if value is None:
        return "null"
    if isinstance(value, (bool, list)):
        return json.dumps(value)
    if isinstance(value, (str, Path)):
        return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"
    return str(value)
