"""Full fine-tuning of a TinyViT on the training data: a student pass, in this process, from the probed model's weights.

The run is in OUT/finetune/NAME and is a run like any other: stopped or killed, it goes on when the same command is
started again; finished, it is not repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState

from distill.config import TrainStudentConfig, TransferConfig, command
from distill.errors import UsageError
from distill.files import read_json_object
from distill.probes.probed_model import ProbedModel
from distill.runs import run_dir
from distill.runtime.processes import Runtime


def check(config: TransferConfig, probed: ProbedModel, runtime: Runtime) -> None:
    """**Raises:** `UsageError` for a model that cannot be fine-tuned, several processes, or unknown settings."""
    if probed.config is None or probed.weights is None:
        raise UsageError(
            f"methods=[finetune]: the student pass trains TinyViTs, and {probed.name} is none. The other methods "
            "take every model"
        )
    if runtime.world > 1:
        raise UsageError(
            "methods=[finetune] is started with one process; on several, fine-tune by `torchrun -m "
            "distill.train_student` with student.init"
        )
    student_pass(config, probed)  # So that wrong settings are refused before the probes run.


def student_pass(config: TransferConfig, probed: ProbedModel) -> TrainStudentConfig:
    """The settings of the student pass. **Raises:** `UsageError` for those of `finetune` that are wrong."""
    architecture, data, compute = probed.config, config.data, config.compute
    assert architecture and probed.weights and config.out
    settings: dict[str, Any] = {
        "data.path": data.path, "data.val_path": data.val_path, "data.rows": data.rows,
        "data.workers": data.workers, "data.damaged": data.damaged, "data.cache": data.cache,
        "run.dir": str(Path(config.out) / "finetune" / probed.name),
        "student": "tiny_vit_micro", "student.name": "tiny_vit",
        "student.init": str(probed.weights), "student.init_classes": "new",
        "student.image_size": probed.model.image_size, "student.dims": list(architecture.dims),
        "student.depths": list(architecture.depths), "student.heads": list(architecture.heads),
        "student.windows": list(architecture.windows), "student.mlp_ratio": architecture.mlp_ratio,
        "student.expand": architecture.expand, "student.stem_stride": architecture.stem_stride,
        "student.mean": list(probed.model.mean), "student.std": list(probed.model.std),
        "eval.crop": probed.view.crop, "eval.interpolation": probed.view.interpolation,
        "eval.full": probed.view.full, "eval.every": 0,
        "compute.precision": compute.precision, "compute.channels_last": compute.channels_last,
        "compute.threads": compute.threads,
    }  # fmt: skip
    settings |= config.finetune.all()
    choices = [f"{key}={value}" for key, value in settings.items() if "." not in key]  # Names of files in conf/.
    values = {key: value for key, value in settings.items() if "." in key}
    return command.load("train_student", TrainStudentConfig, choices, values=values)


def score(
    config: TransferConfig, probed: ProbedModel, *, train_student: Callable[[TrainStudentConfig], None]
) -> dict[str, Any]:
    """Runs the student pass to its end, or finds it finished. **Returns** its scores, as JSON values.

    **Arguments:** `train_student`: the program's `main`.

    **Raises:** as the student pass does; `Stopped` if a signal or a time limit stopped it.
    """
    settings = student_pass(config, probed)
    AcceleratorState._reset_state(reset_partial_state=True)  # Else the precision of the features would be kept.
    train_student(settings)
    assert settings.run.dir
    summary = read_json_object(Path(settings.run.dir) / run_dir.SUMMARY)
    return {name: summary[name] for name in ("top1", "top5", "steps", "seconds")} | {"settings": config.finetune.all()}
