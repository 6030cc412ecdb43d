"""NaN is not a number that passes: not out of a training, into one, into scores or into files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

from distill import models
from distill.errors import DistillError, LossNotFinite
from distill.models.deploy.onnx import compare
from tests.conftest import TINY
from tests.programs import call, student_arguments

VALUES = [float("nan"), float("inf")]


def spoilt(source: Path, target: Path, value: float) -> Path:
    """The weights with one number changed."""
    with safetensors.safe_open(source, framework="pt") as file:
        metadata = file.metadata()
    tensors = safetensors.torch.load_file(source)
    tensors["head.fc.weight"].view(-1)[0] = value
    safetensors.torch.save_file(tensors, target, metadata=metadata)
    return target


@pytest.mark.parametrize("more", [[], ["train.ema_decay=0.9"], ["train.accumulate=2"]], ids=["", "EMA", "accumulated"])
def test_a_last_step_that_diverges_ends_the_run(data_path: Path, tmp_path: Path, more: list[str]) -> None:
    settings = ["train.steps=1", "optim.lr=1e38", "optim.warmup_epochs=0", *more]
    words = student_arguments(data_path, tmp_path / "run", *settings)
    with pytest.raises(LossNotFinite, match=r"after step 1 .* tensors of the student are not finite"):
        call("train_student", [word for word in words if word != "optim.lr=2e-3"])
    assert not list((tmp_path / "run").rglob("*.safetensors")) and not list((tmp_path / "run").rglob("*.pt"))
    assert not (tmp_path / "run/summary.json").exists()


@pytest.mark.parametrize("value", VALUES)
def test_weights_that_are_not_finite_are_neither_scored_nor_used_nor_exported(
    data_path: Path, teacher_weights: Path, tmp_path: Path, value: float
) -> None:
    bad = spoilt(teacher_weights, tmp_path / "bad.safetensors", value)
    with pytest.raises(models.WeightsError, match=r"1 of the \d+ tensors .* head\.fc\.weight"):
        models.build_teacher(kind="tiny_vit", weights=bad)
    teacher = ["teacher=tiny_vit", f"teacher.weights={bad}"]
    for program, words in {
        "evaluate": [f"data.val_path={data_path}", *teacher, "data.workers=0"],
        "save_logits": [f"data.path={data_path}", *teacher, f"store.path={tmp_path / 't.zarr'}", "data.workers=0"],
        "train_student": student_arguments(data_path, tmp_path / "run", f"student.init={bad}"),
        "export": [f"weights={bad}", "format=safetensors", f"out={tmp_path / 'o.safetensors'}"],
    }.items():
        with pytest.raises((models.WeightsError, DistillError), match="not finite"):
            call(program, words)
    assert not (tmp_path / "o.safetensors").exists() and not (tmp_path / "t.zarr").exists()
    net = models.build_teacher(kind="tiny_vit", weights=teacher_weights).net
    with torch.no_grad():
        next(iter(net.parameters())).view(-1)[0] = value
    with pytest.raises(models.WeightsError, match="not finite"):
        models.save_weights(net, tmp_path / "o.safetensors")  # type: ignore[arg-type]


def test_logits_that_are_not_finite_are_no_scores(
    data_path: Path, teacher_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights may be finite, and too large for what is computed with them."""
    real = models.TinyViT.forward

    def overflowing(self: models.TinyViT, pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = real(self, pixels)
        logits[0, 1] = float("nan")
        return logits

    monkeypatch.setattr(models.TinyViT, "forward", overflowing)
    words = [f"data.val_path={data_path}", "teacher=tiny_vit", f"teacher.weights={teacher_weights}", "data.workers=0"]
    with pytest.raises(DistillError, match=r"logits of \d+ images of .* are not finite"):
        call("evaluate", [*words, "eval.batch_size=50", f"json={tmp_path / 'a.json'}"])
    assert not (tmp_path / "a.json").exists()


def test_nan_is_a_difference_to_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    net = models.build("tiny_vit", num_classes=3, image_size=32, **TINY)
    path = tmp_path / "a.onnx"
    assert models.export_onnx(net, path, image_size=32) < 1e-4
    with torch.no_grad():
        net.head.fc.bias[0] = float("nan")
    assert not compare(net, path, image_size=32) <= 1e-4


def test_a_summary_says_whose_weights_it_is_of(data_path: Path, teacher_weights: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    call("train_student", student_arguments(data_path, run, "train.steps=2", "train.epochs=1"))
    words = [f"data.val_path={data_path}", f"run.dir={run}", "data.workers=0"]
    call("evaluate", words)
    (run / "student.safetensors").write_bytes(teacher_weights.read_bytes())
    with pytest.raises(DistillError, match=r"is not what the run left"):
        call("evaluate", words)
    summary = json.loads((run / "summary.json").read_text())
    del summary["weights_sha256"]  # As runs of earlier versions have it.
    (run / "summary.json").write_text(json.dumps(summary))
    call("evaluate", words)
