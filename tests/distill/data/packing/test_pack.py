"""Packing: bytes are kept, labels and keys are right, damage is listed, nothing is overwritten."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import webdataset
from click.testing import CliRunner
from PIL import Image

from distill.data.catalog import Catalog, open_catalog
from distill.data.packing.pack import pack
from distill.data.packing.recode import Recode
from distill.data.shards import ShardReader
from distill.errors import DamagedImage, DistillError, UsageError
from distill.pack import main as pack_command
from distill.views import decode, image_size


def test_every_file_is_there_with_its_bytes_and_label(image_folder: Path, catalog: Catalog) -> None:
    files = sorted(str(path.relative_to(image_folder)) for path in image_folder.rglob("*.*g"))
    assert sorted(catalog.key(row) for row in range(len(catalog))) == files
    assert catalog.class_names == ("anchor", "bell", "cup")
    with ShardReader(catalog) as shards:
        for row in range(len(catalog)):
            assert shards.read(row) == (image_folder / catalog.key(row)).read_bytes()
            assert catalog.class_names[catalog.labels[row]] == catalog.key(row).split("/")[0]


def test_rows_are_shuffled_once_by_the_seed(image_folder: Path, catalog: Catalog, tmp_path: Path) -> None:
    keys = [catalog.key(row) for row in range(len(catalog))]
    assert keys != sorted(keys)
    again = pack(image_folder, tmp_path / "again", rows_per_shard=20)
    assert again.fingerprint == catalog.fingerprint
    other = pack(image_folder, tmp_path / "other", rows_per_shard=20, seed=1)
    assert other.fingerprint != catalog.fingerprint


def test_the_fingerprint_is_of_the_data_and_not_of_the_shards(
    image_folder: Path, catalog: Catalog, tmp_path: Path
) -> None:
    packed = pack(image_folder, tmp_path / "data", rows_per_shard=1000, workers=2)
    assert (packed.num_rows, packed.num_shards) == (150, 1)
    assert packed.fingerprint == catalog.fingerprint


def test_any_webdataset_reader_can_read_the_shards(catalog: Catalog) -> None:
    urls = [str(catalog.path / shard.name) for shard in catalog.shards]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert len(samples) == len(catalog)
    for row, sample in enumerate(samples):
        assert int(sample["cls"]) == catalog.labels[row]
        assert json.loads(sample["json"])["key"] == catalog.key(row)


def test_odd_files_are_packed_and_damaged_ones_listed(tmp_path: Path) -> None:
    source = tmp_path / "images"
    (source / "a").mkdir(parents=True)
    (source / "b" / "inner").mkdir(parents=True)
    image = np.arange(40 * 50, dtype=np.uint8).reshape(40, 50)
    Image.fromarray(image).save(source / "a" / "grey.v1.JPG")
    Image.new("CMYK", (30, 20), (10, 200, 30, 5)).save(source / "a" / "cmyk.jpeg")
    Image.fromarray(image).convert("P").save(source / "b" / "inner" / "palette.png")
    Image.new("RGBA", (1, 1)).save(source / "b" / "ümläut one.png")
    whole = (source / "a" / "grey.v1.JPG").read_bytes()
    (source / "a" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (source / "a" / "empty.jpg").touch()
    (source / "b" / "text.png").write_text("not an image")
    (source / "b" / "notes.txt").write_text("not an image file")
    packed = pack(source, tmp_path / "packed", rows_per_shard=3)
    assert packed.num_rows == 4
    listed = {line.split("\t")[0] for line in (tmp_path / "packed" / "unreadable.tsv").read_text().splitlines()}
    assert listed == {"a/cut.jpg", "a/empty.jpg", "b/text.png"} == {key for key, _ in packed.unreadable}
    catalog = open_catalog(tmp_path / "packed")
    keys = {catalog.key(row) for row in range(4)}
    assert keys == {"a/grey.v1.JPG", "a/cmyk.jpeg", "b/inner/palette.png", "b/ümläut one.png"}


def test_without_labels_images_may_lie_anywhere(image_folder: Path, tmp_path: Path) -> None:
    packed = pack(image_folder / "bell", tmp_path / "data", labelled=False)
    assert packed.num_classes == 0
    assert set(open_catalog(tmp_path / "data").labels.tolist()) == {-1}
    with pytest.raises(DistillError, match="--no-labels"):
        pack(image_folder / "bell", tmp_path / "labelled")


def test_a_target_that_is_not_empty_is_refused(image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("keep me")
    with pytest.raises(DistillError, match="not empty"):
        pack(image_folder, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_bad_requests_are_refused(tmp_path: Path, image_folder: Path) -> None:
    with pytest.raises(DistillError, match="not a folder"):
        pack(tmp_path / "nothing", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DistillError, match="no image under"):
        pack(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(UsageError, match="at least 1"):
        pack(image_folder, tmp_path / "out", rows_per_shard=0)
    (tmp_path / "bad" / "a").mkdir(parents=True)
    (tmp_path / "bad" / "a" / "x.jpg").write_text("no")
    with pytest.raises(DistillError, match="none of the files"):
        pack(tmp_path / "bad", tmp_path / "out2")


def test_the_command_packs_and_reports(image_folder: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(pack_command, [str(image_folder), str(tmp_path / "data"), "--workers", "1"])
    assert result.exit_code == 0
    assert "150 images of 3 classes" in result.output
    again = CliRunner().invoke(pack_command, [str(image_folder), str(tmp_path / "data"), "--workers", "1"])
    assert again.exit_code == 1
    assert "error: " in again.stderr
    assert "not empty" in again.stderr


def copy_of(data_path: Path, target: Path) -> Path:
    target.mkdir()
    (target / "catalog").symlink_to(data_path / "catalog")
    for tar in data_path.glob("*.tar"):
        (target / tar.name).write_bytes(tar.read_bytes())
    return target


def test_damage_to_a_shard_is_found_by_row(data_path: Path, catalog: Catalog, tmp_path: Path) -> None:
    damaged = open_catalog(copy_of(data_path, tmp_path / "copy"))
    tar = damaged.path / damaged.shards[1].name
    data = bytearray(tar.read_bytes())
    data[int(damaged.offsets[23]) + 100] ^= 1
    tar.write_bytes(data[: int(damaged.offsets[38]) + 50])
    with ShardReader(damaged) as shards:
        assert shards.read(22) == ShardReader(catalog).read(22)
        with pytest.raises(DamagedImage, match=r"row 23 .*shard-000001\.tar: the \d+ bytes differ"):
            shards.read(23)
        with pytest.raises(DamagedImage, match=r"row 38 .* ends after 50 of"):
            shards.read(38)
    tar.unlink()
    with ShardReader(damaged) as shards, pytest.raises(DistillError, match="cannot open shard"):
        shards.read(22)


def test_catalogs_that_are_not_right_are_refused(data_path: Path, tmp_path: Path) -> None:
    with pytest.raises(DistillError, match="no data set at"):
        open_catalog(tmp_path / "nothing")
    with pytest.raises(DistillError, match=r"no catalog/catalog\.json"):
        open_catalog(tmp_path)
    folder = tmp_path / "data" / "catalog"
    folder.mkdir(parents=True)
    for file in (data_path / "catalog").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    head = json.loads((folder / "catalog.json").read_text())
    (folder / "catalog.json").write_text(json.dumps(head | {"version": 3}))
    with pytest.raises(DistillError, match="version 3"):
        open_catalog(tmp_path / "data")
    (folder / "catalog.json").write_text(json.dumps(head | {"num_samples": 149}))
    with pytest.raises(DistillError, match="differs from its checksum"):
        open_catalog(tmp_path / "data")
    (folder / "catalog.json").write_text("{")
    with pytest.raises(DistillError, match="not valid JSON"):
        open_catalog(tmp_path / "data")


def test_shards_are_plain_tars(catalog: Catalog) -> None:
    with tarfile.open(catalog.path / catalog.shards[0].name) as tar:
        names = tar.getnames()
    assert len(names) == 3 * catalog.shards[0].num_rows
    assert cv2.imdecode(np.frombuffer(ShardReader(catalog).read(0), np.uint8), cv2.IMREAD_COLOR) is not None


def test_images_can_be_shrunk_and_re_encoded(image_folder: Path, catalog: Catalog, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        pack_command, [str(image_folder), str(tmp_path / "small"), "--max-side", "40", "--workers", "1"]
    )
    assert result.exit_code == 0, result.output
    small = open_catalog(tmp_path / "small")
    options = json.loads((tmp_path / "small" / "catalog" / "catalog.json").read_text())["options"]
    assert options == {"seed": 0, "rows_per_shard": 1000, "max_side": 40}
    assert small.fingerprint != catalog.fingerprint
    shrunk = 0
    with ShardReader(small) as shards, ShardReader(catalog) as whole:
        for row in range(len(catalog)):
            assert small.key(row) == catalog.key(row)
            before, after = whole.read(row), shards.read(row)
            size, new = image_size(before), image_size(after)
            if max(size) <= 40:
                assert after == before
                continue
            shrunk += 1
            assert max(new) == 40
            assert new[0] / new[1] == pytest.approx(size[0] / size[1], rel=0.05)
            reference = cv2.resize(decode(before), new[::-1], interpolation=cv2.INTER_AREA).astype(int)
            assert np.abs(decode(after) - reference).mean() < 12
    assert 20 < shrunk < 150


def test_a_quality_re_encodes_every_image_that_gets_smaller(
    image_folder: Path, catalog: Catalog, tmp_path: Path
) -> None:
    pack(image_folder, tmp_path / "small", rows_per_shard=20, recode=Recode(quality=30))
    small = open_catalog(tmp_path / "small")
    assert (small.sizes <= catalog.sizes).all()
    assert (small.sizes < catalog.sizes).mean() > 0.9
    with ShardReader(small) as shards:
        assert [image_size(shards.read(row)) for row in range(5)] == [
            image_size(ShardReader(catalog).read(row)) for row in range(5)
        ]
    with tarfile.open(small.path / small.shards[0].name) as tar:
        names = {Path(name).suffix for name in tar.getnames()}
    assert names == {".jpg", ".cls", ".json"}
    with pytest.raises(UsageError, match="--"):
        Recode(quality=0)
    with pytest.raises(UsageError, match="--"):
        Recode(max_side=3)
