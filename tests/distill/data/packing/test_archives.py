"""Packing from archives: however the images come, the same data set comes out, and damage is never silent."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import distill.data.packing.pack
from distill.data.catalog import open_catalog
from distill.data.packing.archives import archives_in
from distill.data.packing.pack import pack
from distill.data.packing.shard_writing import RECORDS, PackedShard, ShardTask, pack_shard
from distill.data.shards import ShardReader
from distill.errors import DamagedImage, DistillError
from distill.pack import main as pack_command
from tests.conftest import WORDNET, write_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """45 images in three folders named by WordNet ids."""
    root = tmp_path_factory.mktemp("folders")
    for path in sorted(write_images(root / "plain", 45).iterdir()):
        path.rename(root / WORDNET[("anchor", "bell", "cup").index(path.name)])
    (root / "plain").rmdir()
    return root


@pytest.fixture(scope="module")
def fingerprint(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return pack(folder, tmp_path_factory.mktemp("packed") / "data", rows_per_shard=20).fingerprint


def files_of(folder: Path) -> list[Path]:
    """In no order that anyone would sort by."""
    return sorted(folder.rglob("*.*g"), key=lambda path: path.name[::-1])


def tar_of(paths: dict[str, Path | bytes], target: Path, **options: object) -> Path:
    with tarfile.open(target, "w", **options) as tar:  # type: ignore[call-overload]
        for name, content in paths.items():
            data = content if isinstance(content, bytes) else content.read_bytes()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return target


def class_tars(folder: Path, target: Path, **options: object) -> Path:
    """A folder of n*.tar, as synsets are published."""
    target.mkdir()
    for synset in WORDNET:
        paths = {path.name: path for path in files_of(folder / synset)}
        tar_of({"._note.jpg": b"of macOS", **paths, "notes.txt": b"no image"}, target / f"{synset}.tar", **options)
    return target


def tar_of_tars(folder: Path, scratch: Path, **options: object) -> Path:
    tars = class_tars(folder, scratch / "tars", **options)
    inner: dict[str, Path | bytes] = {f"winter21_whole/{path.name}": path for path in reversed(archives_in(tars))}
    return tar_of(inner, scratch / "winter21_whole.tar")


def tar_of_folders(folder: Path, scratch: Path) -> Path:
    inner: dict[str, Path | bytes] = {
        f"./imagenet/train/{path.parent.name}/{path.name}": path for path in files_of(folder)
    }
    return tar_of(inner, scratch / "train.tar")


def class_zips(folder: Path, scratch: Path) -> Path:
    (scratch / "zips").mkdir()
    for synset, method in zip(WORDNET, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED), strict=True):
        with zipfile.ZipFile(scratch / "zips" / f"{synset}.zip", "w", method) as archive:
            for path in files_of(folder / synset):
                archive.write(path, f"{synset}/{path.name}")
    return scratch / "zips"


def tar_of_zips(folder: Path, scratch: Path) -> Path:
    return tar_of({path.name: path for path in archives_in(class_zips(folder, scratch))}, scratch / "zips.tar")


def zip_of_folders(folder: Path, scratch: Path) -> Path:
    with zipfile.ZipFile(scratch / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files_of(folder):
            archive.write(path, f"images/{path.parent.name}/{path.name}")
    return scratch / "all.zip"


WAYS: dict[str, Callable[[Path, Path], Path]] = {
    "tar of tars": tar_of_tars,
    "tar of tars in the old format": lambda folder, scratch: tar_of_tars(folder, scratch, format=tarfile.USTAR_FORMAT),
    "folder of tars": lambda folder, scratch: class_tars(folder, scratch / "tars"),
    "tar of folders": tar_of_folders,
    "folder of zips": class_zips,
    "tar of zips": tar_of_zips,
    "zip of folders": zip_of_folders,
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_the_data_set_that_the_folders_give(
    way: str, folder: Path, fingerprint: str, tmp_path: Path
) -> None:
    source = WAYS[way](folder, tmp_path)
    packed = pack(source, tmp_path / "data", rows_per_shard=20, damaged="stop")
    assert packed.fingerprint == fingerprint
    catalog = open_catalog(tmp_path / "data")
    assert catalog.class_names == WORDNET
    with ShardReader(catalog) as shards:
        for row in range(len(catalog)):
            assert shards.read(row) == (folder / catalog.key(row)).read_bytes()


@pytest.mark.slow
def test_processes_give_the_same(folder: Path, fingerprint: str, tmp_path: Path) -> None:
    source = tar_of_tars(folder, tmp_path)
    assert pack(source, tmp_path / "data", rows_per_shard=10, workers=2).fingerprint == fingerprint


def test_a_validation_archive_takes_its_classes_from_any_of_the_lists(tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    images = {
        f"ILSVRC2012_val_{n:08d}.JPEG": path for n, path in enumerate(files_of(write_images(tmp_path / "all", 12)), 1)
    }
    labels = [WORDNET[n * 7 % 3] for n in range(12)]
    flat = tar_of(dict(reversed(images.items())), tmp_path / "ILSVRC2012_img_val.tar")
    with pytest.raises(DistillError, match=r"in no class folder: pass --classes"):
        pack(flat, tmp_path / "none")
    rows = [f"{Path(name).stem},{of} 85 1 499 272" for name, of in zip(images, labels, strict=True)]
    (tmp_path / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows[::-1]]))
    (tmp_path / "synset_labels.txt").write_text("\n".join(labels))
    numbers = {WORDNET[0]: 449, WORDNET[1]: 17, WORDNET[2]: 1}  # As ILSVRC numbers them: in no order.
    meta = np.array(
        [(number, synset, "words") for synset, number in numbers.items()],
        dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")],
    )
    kit = tmp_path / "devkit" / "data"
    kit.mkdir(parents=True)
    scipy_io.savemat(kit / "meta.mat", {"synsets": meta})
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("\n".join(str(numbers[of]) for of in labels))
    with tarfile.open(tmp_path / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as tar:
        tar.add(kit, "ILSVRC2012_devkit_t12/data")
    for number, name in enumerate(
        ("LOC_val_solution.csv", "synset_labels.txt", "devkit", "ILSVRC2012_devkit_t12.tar.gz")
    ):
        pack(flat, tmp_path / f"data{number}", classes=tmp_path / name)
        catalog = open_catalog(tmp_path / f"data{number}")
        expected = {f"{of}/{name}" for name, of in zip(images, labels, strict=True)}
        assert {catalog.key(row) for row in range(12)} == expected
        assert catalog.class_names == WORDNET
    (tmp_path / "numbers.txt").write_text("\n".join(["490"] * 12))
    with pytest.raises(DistillError, match="Bare numbers have other meanings"):
        pack(flat, tmp_path / "wrong", classes=tmp_path / "numbers.txt")
    (tmp_path / "short.txt").write_text("\n".join(labels[:-1]))
    with pytest.raises(DistillError, match="classes of 11 images, the archive has 12"):
        pack(flat, tmp_path / "wrong", classes=tmp_path / "short.txt")
    (tmp_path / "part.csv").write_text("\n".join(rows[:-2]))
    with pytest.raises(DistillError, match=r"no class for ILSVRC2012_val_.* \(2 such"):
        pack(flat, tmp_path / "wrong", classes=tmp_path / "part.csv")
    with pytest.raises(DistillError, match="is not the development kit"):
        pack(flat, tmp_path / "wrong", classes=tmp_path / "all")


def test_a_damaged_image_stops_unless_it_may_be_left_out(folder: Path, tmp_path: Path) -> None:
    paths: dict[str, Path | bytes] = {f"{path.parent.name}/{path.name}": path for path in files_of(folder)}
    victim = next(name for name in paths if name.endswith(".jpg"))
    paths[victim] = (folder / victim).read_bytes()[:-200]
    source = tar_of(paths, tmp_path / "train.tar")
    words = [str(source), str(tmp_path / "data"), "--rows-per-shard", "20", "--workers", "1"]
    stopped = CliRunner().invoke(pack_command, words)
    assert stopped.exit_code == 1
    assert f"1 could not be read: the first is {victim}" in stopped.stderr
    assert "--damaged skip" in stopped.stderr
    with pytest.raises(DistillError, match=r"no catalog/catalog\.json"):
        open_catalog(tmp_path / "data")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").glob("*.tar")}
    skipped = CliRunner().invoke(pack_command, [*words, "--damaged", "skip"])
    assert skipped.exit_code == 0, skipped.output
    assert "44 images of 3 classes" in skipped.output
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data").glob("*.tar")} == times
    assert (tmp_path / "data" / "unreadable.tsv").read_text().startswith(f"{victim}\t")
    assert not (tmp_path / "data" / RECORDS).exists()


def test_a_damaged_archive_is_named_and_its_whole_part_can_be_had(folder: Path, tmp_path: Path) -> None:
    tars = class_tars(folder, tmp_path / "tars")
    victim = tars / f"{WORDNET[1]}.tar"
    whole = victim.read_bytes()
    for harm, data in {"cut": whole[:20_000], "header": whole[:1024] + b"?" * 512 + whole[1536:]}.items():
        victim.write_bytes(data)
        with pytest.raises(DamagedImage, match=rf"{victim}.* is damaged .*--damaged skip"):
            pack(tars, tmp_path / harm, damaged="stop")
        packed = pack(tars, tmp_path / harm, damaged="skip")
        assert packed.num_rows == 30 if harm == "header" else 30 < packed.num_rows < 45
        assert packed.num_classes == 3  # Also where no image of a class was found: other classes keep their numbers.
        assert [key for key, _ in packed.unreadable] == [str(victim)]
    outer = tar_of({path.name: path for path in archives_in(tars)}, tmp_path / "outer.tar")
    outer.write_bytes(outer.read_bytes()[:30_000])
    with pytest.raises(DistillError, match=r"outer\.tar (ends within|is damaged)"):
        pack(outer, tmp_path / "outer")


def test_a_zip_that_was_changed_is_noticed(folder: Path, tmp_path: Path) -> None:
    zips = class_zips(folder, tmp_path)
    victim = zips / f"{WORDNET[0]}.zip"  # Stored: its bytes are the image's.
    data = bytearray(victim.read_bytes())
    data[300] ^= 1
    victim.write_bytes(data)
    with pytest.raises(DamagedImage, match=r"1 could not be read: .*checksum"):
        pack(zips, tmp_path / "data", damaged="stop")


def test_a_packing_that_was_killed_is_resumed(
    folder: Path, fingerprint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tar_of_tars(folder, tmp_path), tmp_path / "data"

    def dying(task: ShardTask) -> PackedShard:
        if task.first == 40:
            raise KeyboardInterrupt
        return pack_shard(task)

    with monkeypatch.context() as patch:
        patch.setattr(distill.data.packing.pack, "pack_shard", dying)
        with pytest.raises(KeyboardInterrupt):
            pack(source, target, rows_per_shard=20)
    (target / "shard-000002.tar.0123abcd.tmp").write_bytes(b"half of one")
    first = (target / "shard-000000.tar").stat().st_mtime_ns
    with pytest.raises(
        DistillError, match=r"unfinished packing of other images or options .*rows_per_shard: 20, now 10"
    ):
        pack(source, target, rows_per_shard=10)
    assert pack(source, target, rows_per_shard=20).fingerprint == fingerprint
    assert (target / "shard-000000.tar").stat().st_mtime_ns == first
    assert sorted(path.name for path in target.iterdir()) == ["catalog", *(f"shard-00000{n}.tar" for n in range(3))]
    with pytest.raises(DistillError, match="is not empty"):
        pack(source, target, rows_per_shard=20)


def test_what_cannot_be_packed_is_refused(folder: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "all.tar.gz", "w:gz") as tar:
        tar.add(folder, "all")
    with pytest.raises(DistillError, match="compressed as a whole"):
        pack(tmp_path / "all.tar.gz", tmp_path / "out")
    (tmp_path / "notes.txt").write_text("no archive")
    with pytest.raises(DistillError, match="neither a folder nor an archive"):
        pack(tmp_path / "notes.txt", tmp_path / "out")
    (tmp_path / "bad.tar").write_bytes(os.urandom(5000))
    with pytest.raises(DistillError, match="is damaged, or not a tar"):
        pack(tmp_path / "bad.tar", tmp_path / "out")
    image = next(iter(files_of(folder)))
    twice = tar_of({"one/n01440764/x.jpg": image, "two/n01440764/x.jpg": image}, tmp_path / "twice.tar")
    with pytest.raises(DistillError, match=r"has n01440764/x\.jpg twice"):
        pack(twice, tmp_path / "out")
    with pytest.raises(DistillError, match="no image in"):
        pack(tar_of({"a.txt": b"text"}, tmp_path / "text.tar"), tmp_path / "out")
    with pytest.raises(DistillError, match="--classes is for archives"):
        pack(folder, tmp_path / "out", classes=tmp_path / "notes.txt")
    assert not (tmp_path / "out").exists()
