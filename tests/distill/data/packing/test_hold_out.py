"""Holding images out: a fraction of each class, always the same images, none in both data sets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import distill.data.packing.pack
from distill.data.catalog import Keys, open_catalog
from distill.data.packing.hold_out import HoldOut, held_out
from distill.data.packing.pack import pack
from distill.data.packing.shard_writing import PackedShard, ShardTask, pack_shard
from distill.errors import DistillError, UsageError
from distill.pack import main as pack_command


def test_a_fraction_of_each_class_is_held_out_but_never_all() -> None:
    labels = np.array([0] * 200 + [1] * 3 + [2], np.int32)
    keys = Keys.of(f"{label}/{n}.png".encode() for n, label in enumerate(labels))
    held = held_out(keys, labels, fraction=0.1, seed=0)
    assert [int(held[labels == label].sum()) for label in range(3)] == [20, 1, 0]
    assert (held_out(keys, labels, fraction=0.1, seed=0) == held).all()
    assert (held_out(keys, labels, fraction=0.1, seed=1) != held).any()
    assert int(held_out(keys, labels, fraction=0.99, seed=0).sum()) == 198 + 2


def test_another_file_changes_few_choices() -> None:
    labels = np.zeros(500, np.int32)
    keys = [f"a/{n}.png".encode() for n in range(500)]
    before = held_out(Keys.of(keys), labels, fraction=0.2, seed=0)
    after = held_out(Keys.of([b"a/new.png", *keys]), np.zeros(501, np.int32), fraction=0.2, seed=0)[1:]
    assert int((before != after).sum()) <= 1


def test_both_data_sets_have_the_same_classes(image_folder: Path, tmp_path: Path) -> None:
    words = [str(image_folder), str(tmp_path / "train"), "--hold-out", str(tmp_path / "val"), "--share", "0.2"]
    result = CliRunner().invoke(pack_command, [*words, "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert "train: 120 images of 3 classes" in result.output and "val: 30 images of 3 classes" in result.output
    parts = [open_catalog(tmp_path / name) for name in ("train", "val")]
    keys = [{part.key(row) for row in range(len(part))} for part in parts]
    assert not keys[0] & keys[1] and len(keys[0] | keys[1]) == 150
    assert parts[0].class_names == parts[1].class_names == ("anchor", "bell", "cup")
    assert np.bincount(parts[1].labels).tolist() == [10, 10, 10]
    assert list(parts[0].labels) != sorted(parts[0].labels)
    for part, name in zip(parts, ("training", "held out"), strict=True):
        options = json.loads((part.path / "catalog" / "catalog.json").read_text())["options"]
        assert options == {"seed": 0, "rows_per_shard": 1000, "hold_out": 0.2, "part": name}


def test_nothing_is_written_if_one_data_set_cannot_be(image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "precious.txt").write_text("keep me")
    with pytest.raises(DistillError, match="val is not empty"):
        pack(image_folder, tmp_path / "train", hold_out=HoldOut(target=tmp_path / "val"))
    with pytest.raises(UsageError, match="another folder"):
        pack(image_folder, tmp_path / "train", hold_out=HoldOut(target=tmp_path / "train"))
    with pytest.raises(UsageError, match="between 0 and 1"):
        HoldOut(target=tmp_path / "val", fraction=1.0)
    (tmp_path / "one" / "a").mkdir(parents=True)
    shutil.copy(next(image_folder.rglob("*.png")), tmp_path / "one" / "a")
    with pytest.raises(DistillError, match="two images"):
        pack(tmp_path / "one", tmp_path / "train", hold_out=HoldOut(target=tmp_path / "held"))
    assert not (tmp_path / "train").exists()


def test_a_packing_stopped_in_its_second_data_set_is_resumed(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_out = HoldOut(target=tmp_path / "val", fraction=0.2)
    whole = pack(image_folder, tmp_path / "a", hold_out=HoldOut(target=tmp_path / "b", fraction=0.2), rows_per_shard=50)
    with monkeypatch.context() as patch:

        def failing(task: ShardTask) -> PackedShard:
            if task.tar.parent == hold_out.target:
                raise KeyboardInterrupt
            return pack_shard(task)

        patch.setattr(distill.data.packing.pack, "pack_shard", failing)
        with pytest.raises(KeyboardInterrupt):
            pack(image_folder, tmp_path / "train", hold_out=hold_out, rows_per_shard=50)
    again = pack(image_folder, tmp_path / "train", hold_out=hold_out, rows_per_shard=50)
    assert again == whole
