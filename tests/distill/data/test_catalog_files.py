"""No catalog that is damaged, of other data or forged is opened: one error, and never a wrong label or key."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.data.catalog import Catalog, open_catalog
from distill.data.catalog_files import FILES, _head_checksum
from distill.data.remote import ShardCache
from distill.data.shards import ShardReader
from distill.errors import DistillError


@pytest.fixture
def packed(data_path: Path, tmp_path: Path) -> Path:
    """A data set that the test may damage."""
    return Path(shutil.copytree(data_path, tmp_path / "data"))


def rewrite_head(folder: Path, change: Callable[[dict[str, Any]], object], *, forge: bool = True) -> None:
    """Changes catalog.json, and by default its own checksum with it."""
    path = folder / "catalog/catalog.json"
    head = json.loads(path.read_text())
    del head["checksum"]
    change(head)
    path.write_text(json.dumps({**head, "checksum": _head_checksum(head)} if forge else head))


def read_all(folder: Path) -> list[bytes]:
    catalog = open_catalog(folder)
    with ShardReader(catalog) as shards:
        return [shards.read(row) for row in range(len(catalog))]


def to_version_1(folder: Path) -> None:
    path = folder / "catalog/catalog.json"
    head = json.loads(path.read_text())
    del head["checksum"], head["checksums"]
    path.write_text(json.dumps(head | {"version": 1}))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit(packed: Path, name: str, version: int) -> None:
    path = packed / "catalog" / name
    if version == 1:
        to_version_1(packed)
    data = bytearray(path.read_bytes())
    for at in (0, 70, len(data) // 2, len(data) - 1):
        flipped = bytearray(data)
        flipped[at] ^= 1
        path.write_bytes(flipped)
        if version == 2 or name not in ("offsets.npy", "sizes.npy"):
            with pytest.raises(DistillError, match="damaged"):
                open_catalog(packed)
            continue
        with pytest.raises(DistillError):  # Version 1 has no checksum of these: the images' digests notice.
            read_all(packed)


def test_version_1_opens_as_before(packed: Path, catalog: Catalog) -> None:
    to_version_1(packed)
    old = open_catalog(packed)
    assert (old.fingerprint, old.class_names) == (catalog.fingerprint, catalog.class_names)
    assert (old.labels == catalog.labels).all() and old.key(17) == catalog.key(17)


@pytest.mark.parametrize(
    "change",
    [
        lambda head: head.update(num_samples=10**15),
        lambda head: head.update(num_samples=-1),
        lambda head: head.update(num_samples=150.0),
        lambda head: head.update(num_samples=True),
        lambda head: head.update(version=None),
        lambda head: head.update(version=0),
        lambda head: head.update(class_names="abc"),
        lambda head: head.update(class_names=[1, 2, 3]),
        lambda head: head.update(class_names=["only one"]),
        lambda head: head.update(fingerprint=7),
        lambda head: head.update(shards=None),
        lambda head: head.update(extra=1),
        lambda head: head.pop("shards"),
        lambda head: head["shards"].append(head["shards"][0]),
        lambda head: head["shards"].pop(),
        lambda head: head["shards"][0].update(name="../../x.tar"),
        lambda head: head["shards"][0].update(name="/home/u/.bashrc"),
        lambda head: head["shards"][0].update(name="catalog/labels.npy"),
        lambda head: head["shards"][0].update(name="\x1b[2J"),
        lambda head: head["shards"][0].update(num_rows=-3),
        lambda head: head["shards"][0].update(num_rows=10**18),
        lambda head: head["shards"][0].update(size_bytes=100),
        lambda head: head["shards"][0].update(size_bytes=2**62),
        lambda head: head["checksums"].pop("labels.npy"),
        lambda head: head["checksums"].update({"labels.npy": "0" * 32}),
        lambda head: head["checksums"].update({"../x": "0" * 32}),
    ],
)
def test_a_forged_head(packed: Path, change: Callable[[dict[str, Any]], object]) -> None:
    rewrite_head(packed, change)
    with pytest.raises(DistillError) as caught:
        open_catalog(packed)
    assert len(str(caught.value)) < 600 and "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", "[" * 100_000, '{"version": 1e400}', "\udcff", '{"version": NaN}', '{"a": ' * 9000]
)
def test_what_is_no_head(packed: Path, text: str) -> None:
    (packed / "catalog/catalog.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DistillError):
        open_catalog(packed)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["missing", "pipe", "folder", "empty", "other array", "longer claim", "objects"])
def test_what_is_no_array(packed: Path, name: str, kind: str) -> None:
    path = packed / "catalog" / name
    before = path.read_bytes()
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "other array":
        np.save(path.with_suffix(""), np.zeros((5, 3), "f4"))
        path.with_suffix("").with_suffix(".npy").replace(path)
    elif kind == "longer claim":
        path.write_bytes(before.replace(b"(15", b"(99") if name.endswith(".npy") else before + b"x")
    elif kind == "objects":
        header = b"{'descr': '|O', 'fortran_order': False, 'shape': (150,), }"
        path.write_bytes(b"\x93NUMPY\x01\x00v\x00" + header.ljust(118))
    with pytest.raises(DistillError):
        open_catalog(packed)


def test_files_of_another_data_set(packed: Path, image_folder: Path, tmp_path: Path) -> None:
    from distill.data.packing.pack import pack

    pack(image_folder, tmp_path / "other", rows_per_shard=20, seed=1)
    for name in (*FILES, "catalog.json"):
        path = packed / "catalog" / name
        before = path.read_bytes()
        shutil.copy(tmp_path / "other/catalog" / name, path)
        with pytest.raises(DistillError):
            open_catalog(packed)
        path.write_bytes(before)
    assert len(open_catalog(packed)) == 150
    shutil.rmtree(packed / "catalog")
    shutil.copytree(tmp_path / "other/catalog", packed / "catalog")  # A whole catalog beside other shards.
    open_catalog(packed)
    with pytest.raises(DistillError):
        read_all(packed)


def test_what_is_damaged_in_the_cache_is_fetched_anew(
    packed: Path, catalog: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = ShardCache(folder=tmp_path / "cache", pause=0.01)
    url = f"file://{packed}"
    folder = open_catalog(url, cache=cache).path
    for name in FILES:
        path = folder / "catalog" / name
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        again = open_catalog(url, cache=cache)
        assert (again.labels == catalog.labels).all()
        assert "It is fetched once more" in capsys.readouterr().out
    (packed / "catalog/labels.npy").write_bytes(b"damaged at its source")
    shutil.rmtree(cache.folder)
    with pytest.raises(DistillError, match=r"labels\.npy is damaged"):
        open_catalog(url, cache=cache)


@pytest.mark.parametrize("place", ["catalog", "catalog/labels.npy", "shard-000000.tar"])
def test_the_cache_follows_no_link(packed: Path, tmp_path: Path, place: str) -> None:
    cache = ShardCache(folder=tmp_path / "cache", pause=0.01)
    url = f"file://{packed}"
    catalog = open_catalog(url, cache=cache)
    with ShardReader(catalog) as shards:
        shards.read(0)
    foreign = tmp_path / "foreign"
    (catalog.path / place).rename(foreign)
    (catalog.path / place).symlink_to(foreign)
    before = foreign.stat().st_mtime_ns
    with pytest.raises(DistillError, match="is a symbolic link"):
        open_catalog(url, cache=cache)
    assert foreign.stat().st_mtime_ns == before


def test_a_remote_catalog_reaches_only_its_cache(packed: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".bashrc").write_text("precious")
    (packed / "bashrc").write_text("echo got you")
    for name in (str(home / ".bashrc"), "../../home/.bashrc"):
        rewrite_head(packed, lambda head, name=name: head["shards"][0].update(name=name))  # type: ignore[misc]
        with pytest.raises(DistillError, match="cannot be used"):
            open_catalog(f"file://{packed}", cache=ShardCache(folder=tmp_path / "cache"))
    assert (home / ".bashrc").read_text() == "precious"
