"""Runs of earlier versions: their configurations are read, and their settings compared with today's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from distill.config import TrainConfig, TrainStudentConfig, command, former
from distill.errors import DistillError, UsageError
from distill.runs import run_dir
from tests.programs import call, student_arguments

OLD: dict[str, dict[str, Any]] = {
    "compute": {"compile_backend": "inductor"},
    "data": {"digests": None},
    "train": {"batchnorm": "own"},
}
"""What an earlier version wrote and this one does not."""


def make_old(folder: Path, changes: dict[str, dict[str, Any]]) -> None:
    """Makes a run's configuration one of an earlier version."""
    path = folder / "config.yaml"
    settings = yaml.safe_load(path.read_text())
    for group, values in changes.items():
        settings[group] |= values
    path.write_text(yaml.safe_dump(settings, sort_keys=False))


def test_an_old_run_is_resumed_evaluated_and_exported(
    data_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = student_arguments(data_path, tmp_path / "run", "view=crop_flip", "train.steps=2")
    call("train_student", words)
    config = run_dir.read_config(tmp_path / "run")
    make_old(tmp_path / "run", OLD)
    capsys.readouterr()
    for more in ([], ["train.batchnorm=local"], ["train.batchnorm=own"]):
        call("train_student", [*words, *more])
        assert "is a finished run" in capsys.readouterr().out
    with pytest.raises(DistillError, match=r"train\.batchnorm: local there, frozen now"):
        call("train_student", [*words, "train.batchnorm=frozen"])
    assert run_dir.read_config(tmp_path / "run") == config
    call("evaluate", [f"data.val_path={data_path}", f"run.dir={tmp_path / 'run'}", "data.workers=0"])
    call("export", [f"run.dir={tmp_path / 'run'}", "format=safetensors"])
    # What changed no step may have been anything.
    make_old(tmp_path / "run", {"compute": {"compile_backend": "eager"}, "data": {"digests": "d"}})
    call("train_student", words)


def test_a_run_with_a_removed_value_is_read_and_not_resumed(data_path: Path, tmp_path: Path) -> None:
    words = student_arguments(data_path, tmp_path / "run", "view=crop_flip", "train.steps=1")
    call("train_student", words)
    make_old(tmp_path / "run", {"loss": {"tail": "dropped"}})
    with pytest.raises(DistillError, match=r"loss\.tail: dropped there, stored now \(loss\.tail=dropped was removed: "):
        call("train_student", words)
    with pytest.raises(UsageError, match=r"loss\.tail=dropped was removed: "):
        call("train_student", [*words, "loss.tail=dropped"])
    assert run_dir.read_config(tmp_path / "run").loss.tail == "stored"
    call("evaluate", [f"data.val_path={data_path}", f"run.dir={tmp_path / 'run'}", "data.workers=0"])


def test_an_old_name_is_accepted_and_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    former._say_once.cache_clear()
    assert [TrainConfig(batchnorm="own").batchnorm for _ in range(2)] == ["local", "local"]
    note = "note: train.batchnorm=own is now called train.batchnorm=local; the old name is still accepted\n"
    assert capsys.readouterr().err == note
    words = ["data.path=x", "run.dir=y", "train.batchnorm=own"]
    assert "batchnorm: local" in command.to_yaml(command.load("train_student", TrainStudentConfig, words))


@pytest.mark.parametrize("key", former.REMOVED)
def test_a_removed_setting_says_so(key: str) -> None:
    with pytest.raises(UsageError, match=rf"{key} was removed: "):
        command.load("train_student", TrainStudentConfig, ["data.path=x", "run.dir=y", f"{key}=1"])
