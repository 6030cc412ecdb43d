"""Fine-tuning: weights to start from, a new head, other windows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distill import models
from distill.models.tinyvit.bias_tables import resize_table
from distill.models.weights import class_maps
from tests.conftest import WORDNET
from tests.distill.student.test_setup import assert_same, weights
from tests.programs import call, student_arguments


def test_fine_tuning_starts_from_the_weights_of_a_file(data_path: Path, teacher_weights: Path, tmp_path: Path) -> None:
    """With a learning rate of 0 nothing changes; with frozen BatchNorm not even its statistics."""
    words = [f"student.init={teacher_weights}", "train.steps=2", "optim.lr=0", "optim.warmup_lr=0", "optim.min_lr=0"]
    call("train_student", student_arguments(data_path, tmp_path / "frozen", *words, "train.batchnorm=frozen"))
    assert_same(weights(tmp_path / "frozen"), load_file(teacher_weights))
    call("train_student", student_arguments(data_path, tmp_path / "own", *words))
    moved = [
        name for name, tensor in weights(tmp_path / "own").items() if (tensor != load_file(teacher_weights)[name]).any()
    ]
    assert moved and all(".bn." in name for name in moved)
    call("train_student", student_arguments(data_path, tmp_path / "on", *words[:2], "train.batchnorm=frozen"))
    tuned = weights(tmp_path / "on")
    assert all(torch.equal(t, load_file(teacher_weights)[n]) for n, t in tuned.items() if "running" in n)
    assert not torch.equal(
        tuned["patch_embed.conv1.bn.weight"], load_file(teacher_weights)["patch_embed.conv1.bn.weight"]
    )


def test_fine_tuning_takes_the_classes_of_the_data_and_other_windows(
    wordnet_path: Path, pretrained: Path, tmp_path: Path
) -> None:
    """Heads are mapped by WordNet ids, tables resized from windows of 4 to 2; all else is as in the file."""
    words = (
        f"student.init={pretrained}", "student.init_classes=map", "student.init_windows=resize",
        "student.windows=[4,4,2,4]", "train.batchnorm=frozen", "train.steps=1", "optim.lr=0", "optim.warmup_lr=0",
        "optim.min_lr=0",
    )  # fmt: skip
    call("train_student", student_arguments(wordnet_path, tmp_path / "run", *words))
    ours, theirs = weights(tmp_path / "run"), load_file(pretrained)
    ids = class_maps.synset_ids("imagenet_22k")
    rows = [ids.index(synset) for synset in WORDNET]
    expected = {name: theirs[name][rows] for name in ("head.fc.weight", "head.fc.bias")}
    table = "stages.2.blocks.0.attn.attention_biases"
    expected[table] = resize_table(theirs[table], side=2)
    assert expected[table].shape == (2, 4)
    assert_same(ours, {name: expected.get(name, tensor) for name, tensor in theirs.items()})


def test_initial_weights_that_do_not_fit_are_refused(data_path: Path, teacher_weights: Path, tmp_path: Path) -> None:
    for words, message in (
        ([f"student.init={tmp_path / 'no.pth'}"], "no weights file at"),
        ([f"student.init={teacher_weights}", "student.windows=[4,4,2,4]"], "other attention windows"),
        ([f"student.init={teacher_weights}", "student.depths=[1,1,2,1]"], "missing stages"),
        ([f"student.init={teacher_weights}", "student.init_classes=map"], "WordNet ids are known for"),
    ):
        with pytest.raises((models.WeightsError, models.ModelError), match=message):
            call("train_student", student_arguments(data_path, tmp_path / "run", *words))
