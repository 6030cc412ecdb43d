"""Options of training: EMA, checkpointing, compilation, accumulation, all of them over a resumed run."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from timm.utils.model_ema import ModelEmaV3

import distill.student.loop
from distill import models
from distill.config import TrainConfig
from distill.errors import UsageError
from distill.runs.metric_log import read_metrics
from tests.conftest import TINY
from tests.programs import call, student_arguments

# Every option whose state a resumed run must restore, on mixed views.
EVERYTHING = (
    "view=randaugment_mix", "view.mix.group_size=16", "train.global_batch=32", "train.batch_size=8",
    "train.partial_step=true", "train.ema_decay=0.8", "train.label_smoothing=0.1", "optim.layer_decay=0.7",
    "student.drop_path=0.3", "run.save_every=2",
)  # fmt: skip


def numbers(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics without those that depend on the clock."""
    clock = ("images_per_s", "data_wait")
    return [{k: v for k, v in line.items() if k not in clock} for line in read_metrics(folder / "metrics.jsonl")]


def weights(folder: Path, name: str = "student") -> dict[str, torch.Tensor]:
    return load_file(folder / f"{name}.safetensors")


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert list(ours) == list(theirs)
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_an_ema_moves_towards_the_weights_and_copies_counters() -> None:
    net = models.build("tiny_vit", num_classes=3, image_size=32, **TINY)
    ema = ModelEmaV3(net, decay=0.9).requires_grad_(False)
    expected = copy.deepcopy(net.state_dict())
    for step in range(3):
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(torch.randn_like(parameter))
        net(torch.randn(4, 3, 32, 32))
        ema.update(net)
        for name, tensor in net.state_dict().items():
            floats = tensor.is_floating_point()
            expected[name] = 0.9 * expected[name] + 0.1 * tensor if floats else torch.tensor(step + 1)
    for name, tensor in ema.module.state_dict().items():
        torch.testing.assert_close(tensor, expected[name])
    assert not any(parameter.requires_grad for parameter in ema.module.parameters())
    assert not ema.module.training


def test_a_run_with_all_options_resumes_exactly(
    data_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = distill.student.loop._step

    def failing_step(training: Any, *args: Any, **kwargs: Any) -> float:
        if training.step == 7:
            raise KeyboardInterrupt
        return step(training, *args, **kwargs)

    for name in ("whole", "broken"):
        words = student_arguments(data_path, tmp_path / name, f"data.val_path={data_path}", *EVERYTHING)
        if name == "broken":
            with monkeypatch.context() as patch:
                patch.setattr(distill.student.loop, "_step", failing_step)
                with pytest.raises(KeyboardInterrupt):
                    call("train_student", words)
        call("train_student", words)
    assert len([line for line in numbers(tmp_path / "whole") if "lr" in line]) == 10
    assert numbers(tmp_path / "broken") == numbers(tmp_path / "whole")
    for name in ("student", "student_ema"):
        assert_same(weights(tmp_path / "broken", name), weights(tmp_path / "whole", name))
    scores = json.loads((tmp_path / "whole" / "summary.json").read_text())
    assert scores["num_images"] == 150
    assert {"top1", "ema_top1", "ema_top5", "ema_loss"} <= scores.keys()
    assert scores["ema_loss"] != scores["loss"]


def test_the_ema_can_be_the_result_of_a_run(data_path: Path, tmp_path: Path) -> None:
    words = (f"data.val_path={data_path}", "train.ema_decay=0.5", "train.steps=3")
    for option in ("both", "ema"):
        call("train_student", student_arguments(data_path, tmp_path / option, *words, f"eval.weights={option}"))
    assert_same(weights(tmp_path / "ema"), weights(tmp_path / "both", "student_ema"))
    assert not (tmp_path / "ema" / "student_ema.safetensors").exists()
    both, ema = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("both", "ema"))
    assert ema["loss"] == both["ema_loss"] and "ema_loss" not in ema
    with pytest.raises(UsageError, match=r"there is no EMA without train\.ema_decay"):
        call("train_student", student_arguments(data_path, tmp_path / "none", "eval.weights=ema"))


def test_checkpointing_changes_no_number(data_path: Path, tmp_path: Path) -> None:
    for name in ("false", "true"):
        more = (f"train.grad_checkpoint={name}", "student.drop_path=0.4", "train.steps=3")
        call("train_student", student_arguments(data_path, tmp_path / name, *more))
    assert numbers(tmp_path / "true") == numbers(tmp_path / "false")
    assert_same(weights(tmp_path / "true"), weights(tmp_path / "false"))


@pytest.mark.slow
def test_a_compiled_model_trains_as_the_plain_one(
    data_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a backend that needs no compiler."""
    compiled = functools.partialmethod(torch.nn.Module.compile, backend="aot_eager")
    monkeypatch.setattr(torch.nn.Module, "compile", compiled)
    more = ("train.batchnorm=frozen", "train.grad_checkpoint=true", "train.ema_decay=0.9", "train.steps=2")
    for name in ("false", "true"):
        words = (f"compute.compile={name}", *more)
        call("train_student", student_arguments(data_path, tmp_path / name, *words))
    for ours, theirs in zip(numbers(tmp_path / "true"), numbers(tmp_path / "false"), strict=True):
        assert ours.get("loss") == pytest.approx(theirs.get("loss"), rel=1e-3)


def test_accumulation_follows_from_the_global_batch() -> None:
    config = TrainConfig(batch_size=32, global_batch=1024)
    assert [config.accumulation(world) for world in (1, 8, 32)] == [32, 4, 1]
    assert TrainConfig(accumulate=3).accumulation(7) == 3
    with pytest.raises(UsageError, match=r"global_batch=1024 is no multiple of train\.batch_size=32 x 3 processes"):
        config.accumulation(3)
    with pytest.raises(UsageError, match=r"accumulate follows from train\.global_batch"):
        TrainConfig(global_batch=64, accumulate=2)
    for wrong in ({"batchnorm": "none"}, {"ema_decay": 1.0}):
        with pytest.raises(UsageError):
            TrainConfig(**wrong)
