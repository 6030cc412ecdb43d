"""Archives that lie about sizes, or are made to recurse: one error or a listed image, bounded memory and time."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from distill.data.packing.pack import pack
from distill.errors import DistillError

IMAGE = cv2.imencode(".jpg", np.zeros((20, 30, 3), np.uint8))[1].tobytes()


def member(name: str, data: bytes = IMAGE) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info, data


def tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as file:
        for info, data in members:
            file.addfile(info, io.BytesIO(data))
    return path


def sized(size: int) -> bytes:
    """A header of a tar whose size field says anything, in GNU's binary form."""
    header = bytearray(tarfile.TarInfo("a/b.jpg").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\x80" + size.to_bytes(11) if size >= 0 else b"\xff" + size.to_bytes(11, signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize("size", [-1, -512, 2**62, 2**70, 10**12])
def test_sizes_in_a_tar(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(sized(size) + IMAGE.ljust(1024, b"\0") + bytes(1024))
    with pytest.raises(DistillError):
        pack(path, tmp_path / "data", damaged="stop")


def test_a_chain_of_headers(tmp_path: Path) -> None:
    link = tarfile.TarInfo("././@LongLink")
    link.type, link.size = tarfile.GNUTYPE_LONGNAME, 10
    path = tmp_path / "x.tar"
    path.write_bytes((link.tobuf(tarfile.GNU_FORMAT) + b"a/b.jpg\0".ljust(512, b"\0")) * 5000 + bytes(1024))
    with pytest.raises(DistillError, match="is damaged"):
        pack(path, tmp_path / "data", damaged="stop")


def test_links_devices_and_sparse_files_are_no_images(tmp_path: Path) -> None:
    special = []
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        info = tarfile.TarInfo(f"a/{kind.decode()}.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        special.append((info, b""))
    path = tar(tmp_path / "x.tar", *special, member("a/real.jpg"), member("/etc/abs.jpg"))
    assert pack(path, tmp_path / "data").num_rows == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "x.tar"]
    path = tar(tmp_path / "y.tar", member("a/real.jpg"), member("../up.jpg"))
    with pytest.raises(DistillError, match="leads out of it"):
        pack(path, tmp_path / "y", damaged="stop")


def test_names_without_end(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", member("a/" + "x" * 10**6 + ".jpg"), member("a/b.jpg"))
    with pytest.raises(DistillError, match="characters"):
        pack(path, tmp_path / "data", damaged="stop")


def zip_of(path: Path, data: bytes, *, claimed: int) -> Path:
    """A zip whose one image is `data`, deflated, and whose directory claims another size."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/b.jpg", data)
        file.writestr("a/c.jpg", IMAGE)
    content = path.read_bytes()
    at = content.index(b"PK\x01\x02")
    path.write_bytes(content[: at + 24] + struct.pack("<I", claimed) + content[at + 28 :])
    return path


@pytest.mark.parametrize("claimed", [100, 2**28 - 1, 2**32 - 2])
def test_a_zip_that_grows(tmp_path: Path, claimed: int) -> None:
    path = zip_of(tmp_path / "x.zip", bytes(300 * 2**20), claimed=claimed)
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    packed = pack(path, tmp_path / "data", damaged="skip")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert packed.num_rows == 1 and len(packed.unreadable) == 1
    assert peak < 700 * 2**20


@pytest.mark.parametrize("harm", ["offset", "count", "directory"])
def test_a_zip_whose_directory_lies(tmp_path: Path, harm: str) -> None:
    path = zip_of(tmp_path / "x.zip", IMAGE, claimed=len(IMAGE))
    data = bytearray(path.read_bytes())
    at, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    if harm == "offset":
        data[at + 42 : at + 46] = b"\xff\xff\xff\x7f"
    elif harm == "count":
        data[end + 8 : end + 12] = b"\xff" * 4
    else:
        data[end + 12 : end + 20] = b"\xff\xff\xff\x7f" * 2
    path.write_bytes(data)
    try:
        packed = pack(path, tmp_path / "data", damaged="skip")
    except DistillError:
        return
    assert packed.num_rows <= 2


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "images/a").mkdir(parents=True)
    (tmp_path / "images/a/0.jpg").write_bytes(IMAGE)
    os.mkfifo(tmp_path / "images/a/1.jpg")
    packed = pack(tmp_path / "images", tmp_path / "data")
    assert packed.num_rows == 1
    assert [key for key, _ in packed.unreadable] == ["a/1.jpg"]


def test_a_class_list_that_grows(tmp_path: Path) -> None:
    archive = tar(tmp_path / "val.tar", member("ILSVRC2012_val_00000001.JPEG"))
    kit = tmp_path / "kit.tar.gz"
    bomb = zlib.compressobj(9, wbits=31)
    kit.write_bytes(b"".join(bomb.compress(bytes(2**24)) for _ in range(40)) + bomb.flush())
    with pytest.raises(DistillError, match="development kit"):
        pack(archive, tmp_path / "data", classes=kit)
