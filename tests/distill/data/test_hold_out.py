"""Holding pictures out: of each class its share, the same ones again, none in both parts; transparent ones are said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import distill.data.packing.pack
from distill.data.catalog import Keys, open_catalog
from distill.data.packing.hold_out import HoldOut, held_out
from distill.data.packing.pack import pack
from distill.data.packing.recode import Recode, is_transparent, recode
from distill.data.packing.shard_writing import Done, Task, pack_shard
from distill.data.shards import ShardReader
from distill.errors import DamagedImage, DistillError, UsageError
from distill.pack import main as pack_command
from distill.views import decode


def test_each_class_gives_its_share_and_keeps_one() -> None:
    labels = np.array([0] * 200 + [1] * 3 + [2], np.int32)
    keys = Keys.of(f"{label}/{n}.png".encode() for n, label in enumerate(labels))
    held = held_out(keys, labels, share=0.1, seed=0)
    assert [int(held[labels == label].sum()) for label in range(3)] == [20, 1, 0]
    assert (held_out(keys, labels, share=0.1, seed=0) == held).all()
    assert (held_out(keys, labels, share=0.1, seed=1) != held).any()
    assert int(held_out(keys, labels, share=0.99, seed=0).sum()) == 198 + 2


def test_a_file_more_moves_few_choices() -> None:
    labels = np.zeros(500, np.int32)
    keys = [f"a/{n}.png".encode() for n in range(500)]
    before = held_out(Keys.of(keys), labels, share=0.2, seed=0)
    after = held_out(Keys.of([b"a/new.png", *keys]), np.zeros(501, np.int32), share=0.2, seed=0)[1:]
    assert int((before != after).sum()) <= 1


def test_both_parts_are_packed_with_the_same_classes(image_folder: Path, tmp_path: Path) -> None:
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


def test_nothing_is_written_where_a_part_cannot_be(image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "precious.txt").write_text("keep me")
    with pytest.raises(DistillError, match="val is not empty"):
        pack(image_folder, tmp_path / "train", hold_out=HoldOut(target=tmp_path / "val"))
    with pytest.raises(UsageError, match="another folder"):
        pack(image_folder, tmp_path / "train", hold_out=HoldOut(target=tmp_path / "train"))
    with pytest.raises(UsageError, match="between 0 and 1"):
        HoldOut(target=tmp_path / "val", share=1.0)
    (tmp_path / "one" / "a").mkdir(parents=True)
    shutil.copy(next(image_folder.rglob("*.png")), tmp_path / "one" / "a")
    with pytest.raises(DistillError, match="two pictures"):
        pack(tmp_path / "one", tmp_path / "train", hold_out=HoldOut(target=tmp_path / "held"))
    assert not (tmp_path / "train").exists()


def test_a_packing_stopped_in_its_second_part_goes_on(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_out = HoldOut(target=tmp_path / "val", share=0.2)
    whole = pack(image_folder, tmp_path / "a", hold_out=HoldOut(target=tmp_path / "b", share=0.2), rows_per_shard=50)
    with monkeypatch.context() as patch:

        def failing(task: Task) -> Done:
            if task.tar.parent == hold_out.target:
                raise KeyboardInterrupt
            return pack_shard(task)

        patch.setattr(distill.data.packing.pack, "pack_shard", failing)
        with pytest.raises(KeyboardInterrupt):
            pack(image_folder, tmp_path / "train", hold_out=hold_out, rows_per_shard=50)
    again = pack(image_folder, tmp_path / "train", hold_out=hold_out, rows_per_shard=50)
    assert again == whole


@pytest.fixture
def drawings(tmp_path: Path) -> Path:
    """A black disc on nothing, in each way that a PNG can be transparent, and one picture that is not."""
    rows, columns = np.mgrid[0:40, 0:60]
    inside = (rows - 20) ** 2 + (columns - 30) ** 2 < 150
    rgba = np.zeros((40, 60, 4), np.uint8)
    rgba[inside, 3] = 255
    folder = tmp_path / "images" / "disc"
    folder.mkdir(parents=True)
    Image.fromarray(rgba).save(folder / "rgba.png")
    Image.fromarray(rgba).convert("LA").save(folder / "grey.png")
    palette = Image.fromarray(np.where(inside, 1, 0).astype(np.uint8), mode="P")
    palette.putpalette([0, 0, 0, 0, 0, 0])
    palette.save(folder / "palette.png", transparency=0)
    opaque = rgba.copy()
    opaque[..., 3] = 255
    Image.fromarray(opaque).save(folder / "opaque.png")
    return tmp_path / "images"


def test_transparent_pictures_are_laid_on_a_background(drawings: Path, tmp_path: Path) -> None:
    said = CliRunner().invoke(pack_command, [str(drawings), str(tmp_path / "as_is"), "--workers", "1"])
    assert "3 pictures are transparent in places" in said.output and "--background white" in said.output
    words = [str(drawings), str(tmp_path / "white"), "--background", "white", "--workers", "1"]
    result = CliRunner().invoke(pack_command, words)
    assert result.exit_code == 0 and "in places" not in result.output
    for name, corner in (("as_is", 0), ("white", 255)):
        catalog = open_catalog(tmp_path / name)
        with ShardReader(catalog) as shards:
            for row in range(len(catalog)):
                pixels = decode(shards.read(row))
                assert pixels[0, 0].tolist() == [0 if catalog.key(row) == "disc/opaque.png" else corner] * 3
                assert pixels[20, 30].tolist() == [0, 0, 0]
                assert shards.read(row) == (drawings / catalog.key(row)).read_bytes() or corner == 255
    options = json.loads((tmp_path / "white" / "catalog" / "catalog.json").read_text())["options"]
    assert options["background"] == "white"


def test_a_background_goes_with_shrinking(drawings: Path, tmp_path: Path) -> None:
    pack(drawings, tmp_path / "small", smaller=Recode(max_side=30, background="white"))
    catalog = open_catalog(tmp_path / "small")
    with ShardReader(catalog) as shards:
        for row in range(len(catalog)):
            pixels = decode(shards.read(row))
            assert pixels.shape == (20, 30, 3) and not is_transparent(shards.read(row))
            assert catalog.key(row) == "disc/opaque.png" or pixels[0, 0].min() > 240
    with pytest.raises(UsageError, match="--background pink"):
        Recode(background="pink")


def test_partial_transparency_is_blended_and_damaged_pictures_are_none(tmp_path: Path) -> None:
    pixels = np.zeros((2, 4, 4), np.uint8)
    pixels[..., 0], pixels[..., 3] = 200, (0, 51, 128, 255)  # BGRA: blue, more and more opaque
    data = cv2.imencode(".png", pixels)[1].tobytes()
    assert is_transparent(data)
    blended = decode(recode(data, Recode(background="white")))
    exact = np.array([(0, 0, 200)]) * pixels[0, :, 3:] / 255 + 255 - pixels[0, :, 3:].astype(float)
    assert np.abs(blended[0] - exact).max() <= 0.5
    for cut in (4, 10, 20, 26, len(data) // 2):
        assert not is_transparent(data[:cut])
        with pytest.raises(DamagedImage):
            recode(data[:cut], Recode(background="white"))
