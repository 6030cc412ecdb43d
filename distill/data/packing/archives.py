"""Images inside archives, listed without unpacking: each is a byte range of an existing file.

    train.tar ( n01440764.tar ( n01440764_18.JPEG ... ) ... )  ->  class n01440764, archive, offset, size

A tar stores its members one after the other, unchanged, so an image of a tar in a tar is a byte range of the outer
file. A zip has a directory of offsets. Listing reads only headers, archive by archive in processes;
`ArchivedImages.read` is a positioned read of one image. In memory an image takes its key and some 30 bytes.

The class of an image: in an archive of one synset (n01440764.tar or .zip, in a folder or in an outer tar) the name of
the archive, else the folder that the image is in.
"""

from __future__ import annotations

import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from distill.data.catalog_files import MAX_IMAGE_BYTES
from distill.data.packing.file_window import FileWindow
from distill.errors import DamagedImage, DistillError
from logitstore.untrusted import printable

ARCHIVES = (".tar", ".zip")
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_UNCOMPRESSED, _ZIP_STORED, _ZIP_DEFLATED = 0, 1, 2
_MAX_NAME = 4096
"""Characters of the longest name: all are held in an array of one width."""
_FAULTS = (
    tarfile.TarError, zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, OverflowError, RecursionError,
    struct.error, MemoryError,
)  # fmt: skip
"""What the libraries raise for archives that are damaged, or made to harm."""
_LOCAL_HEADER = 30
"""Bytes of a zip's local header before name and extra field, whose lengths are its last four (APPNOTE.TXT, 4.3.7)."""

_DTYPE = np.dtype(
    [("archive", "<u4"), ("kind", "u1"), ("offset", "<u8"), ("size", "<u8"), ("stored", "<u8"), ("crc", "<u4")]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedImages:
    """Images in archives; `places` has one entry, `_DTYPE`, per image."""

    archives: tuple[Path, ...]
    places: npt.NDArray[np.void]

    def subset(self, rows: npt.NDArray[np.int64]) -> ArchivedImages:
        """The images of some rows."""
        places = self.places[rows]
        used, places["archive"] = np.unique(places["archive"], return_inverse=True)
        return ArchivedImages(archives=tuple(self.archives[n] for n in used), places=places)

    def read(self, n: int, key: str) -> bytes:
        """The bytes of the n-th image.

        **Raises:** `DamagedImage` where they are incomplete or wrong in the archive; `OSError`.
        """
        place = self.places[n]
        path = self.archives[int(place["archive"])]
        if max(int(place["size"]), int(place["stored"])) > MAX_IMAGE_BYTES:
            raise DamagedImage(f"has {int(place['size']):,} bytes in {path}, {MAX_IMAGE_BYTES:,} are the most")
        file = os.open(path, os.O_RDONLY)
        try:
            data = _stored_bytes(file, place)
        finally:
            os.close(file)
        if len(data) != int(place["stored"]):
            raise DamagedImage(f"{path} ends within the image")
        if place["kind"] == _ZIP_DEFLATED:
            try:
                # One byte more than the directory says shows that it lies, and no more is made of it.
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, int(place["size"]) + 1)
            except zlib.error as error:
                raise DamagedImage(f"cannot be decompressed from {path} ({error})") from None
        if place["kind"] != _UNCOMPRESSED and (
            len(data) != int(place["size"]) or zlib.crc32(data) != int(place["crc"])
        ):
            raise DamagedImage(f"differs from its checksum in the directory of {path}")
        return data


def _stored_bytes(file: int, place: np.void) -> bytes:
    offset = int(place["offset"])
    if place["kind"] != _UNCOMPRESSED:
        header = os.pread(file, _LOCAL_HEADER, offset)
        offset += _LOCAL_HEADER + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return os.pread(file, int(place["stored"]), offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """An archive to be listed: a file, or a member of a tar."""

    number: int
    """Index of the file among those that are packed."""
    path: Path
    begin: int
    size: int
    synset: str | None
    """The class of all its images, from its name; None: their folders are their classes."""

    @property
    def where(self) -> str:
        return str(self.path) if self.begin == 0 else f"{self.synset} in {self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveListing:
    """The images of one archive; the arrays have one entry per image."""

    names: npt.NDArray[np.bytes_]
    """Folder and file name in UTF-8, separated by a zero byte, which sorts before every character of a name. A file in
    no folder has its bare name."""
    places: npt.NDArray[np.void]
    fault: str | None = None
    """The damage after which no more images could be listed."""


def archives_of(source: Path) -> tuple[Archive, ...]:
    """The archives to list: `source` itself, or those in the folder `source`; for a tar of tars the inner ones.

    **Raises:** `DistillError` for an archive that is compressed as a whole, or damaged.
    """
    files = [source] if source.is_file() else archives_in(source)
    archives: list[Archive] = []
    for number, path in enumerate(files):
        if path.name.lower().endswith(COMPRESSED):
            raise DistillError(
                f"{path} is compressed as a whole, so that no image can be read without all before it: decompress it "
                "first (for example with `pigz -d`; JPEGs hardly compress, so it takes no more space)"
            )
        synset = path.stem if source.is_dir() else None
        whole = Archive(number=number, path=path, begin=0, size=path.stat().st_size, synset=synset)
        archives += _inner(whole) if path.suffix.lower() == ".tar" and not source.is_dir() else [whole]
    return tuple(archives)


def archives_in(folder: Path) -> list[Path]:
    """Archives in a folder, in sorted order."""
    endings = ARCHIVES + COMPRESSED
    return sorted(path for path in folder.iterdir() if path.name.lower().endswith(endings) and path.is_file())


def _inner(archive: Archive) -> list[Archive]:
    """The tars or zips in a tar; the tar itself if its first file is not an archive."""
    inner: list[Archive] = []
    try:
        with archive.path.open("rb") as file:
            for member in _tar_members(_window(file, archive)):
                name = PurePosixPath(member.name)
                if name.suffix.lower() not in ARCHIVES:
                    if inner or _is_hidden(member.name):
                        continue
                    return [archive]
                inner.append(
                    Archive(
                        number=archive.number,
                        path=archive.path,
                        begin=member.offset_data,
                        size=member.size,
                        synset=name.stem,
                    )
                )
    except _FAULTS as error:
        raise DistillError(f"{archive.path} is damaged, or not a tar ({error}): fetch it again") from None
    if inner and inner[-1].begin + inner[-1].size > archive.size:
        raise DistillError(f"{archive.path} ends within {inner[-1].synset}: fetch it again")
    return inner or [archive]


def list_archive(archive: Archive, suffixes: Sequence[str]) -> ArchiveListing:
    """Every image of one archive, in its order."""
    names: list[bytes] = []
    places: list[tuple[int, int, int, int, int, int]] = []
    fault = None
    with archive.path.open("rb") as file:
        window = _window(file, archive)
        list_members = _list_zip if _is_zip(archive) else _list_tar
        try:
            for name, (kind, offset, size, stored, crc) in list_members(window, archive):
                if name.lower().endswith(tuple(suffixes)) and not _is_hidden(name):
                    if not (0 <= offset <= archive.size and 0 <= size < 2**63 and 0 <= stored < 2**63):
                        raise tarfile.ReadError(f"{name[:80]} lies outside it")
                    if ".." in PurePosixPath(name).parts:
                        raise tarfile.ReadError(f"{name[:80]} leads out of it")
                    if len(name) > _MAX_NAME:
                        raise tarfile.ReadError(f"a name has {len(name)} characters")
                    names.append(_sortable(name, archive.synset))
                    places.append((archive.number, kind, archive.begin + offset, size, stored, crc))
        except _FAULTS as error:
            fault = f"{archive.where} is damaged ({printable(str(error))[:300] or type(error).__name__})"
    return ArchiveListing(names=np.array(names, np.bytes_), places=np.array(places, _DTYPE), fault=fault)


def _window(file: BinaryIO, archive: Archive) -> BinaryIO:
    return cast(BinaryIO, FileWindow(file, archive.begin, archive.size))


Place = tuple[int, int, int, int, int]


def _list_tar(window: BinaryIO, archive: Archive) -> Iterator[tuple[str, Place]]:
    for member in _tar_members(window):
        if member.offset_data + member.size > archive.size:
            raise tarfile.ReadError(f"it ends within {member.name}")
        yield member.name, (_UNCOMPRESSED, member.offset_data, member.size, member.size, 0)


def _list_zip(window: BinaryIO, archive: Archive) -> Iterator[tuple[str, Place]]:
    with zipfile.ZipFile(window) as directory:
        for member in directory.infolist():
            if not member.filename or member.is_dir():
                continue
            kind = {zipfile.ZIP_STORED: _ZIP_STORED, zipfile.ZIP_DEFLATED: _ZIP_DEFLATED}.get(member.compress_type)
            if kind is None or member.flag_bits & 1:
                raise NotImplementedError(
                    f"{member.filename} is encrypted, or compressed by another method than deflate"
                )
            yield member.filename, (kind, member.header_offset, member.file_size, member.compress_size, member.CRC)


def _tar_members(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """The files in a tar, one at a time; no list of them is held in memory."""
    with tarfile.open(fileobj=file, mode="r:") as tar:
        while (member := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]
            if member.size < 0:  # It would be read for ever.
                raise tarfile.ReadError(f"{member.name[:80]} has {member.size} bytes")
            if member.isreg() and not member.issparse():
                yield member
        # tarfile reads a broken header as the end, without an error.
        file.seek(tar.offset)
        end = file.read(tarfile.BLOCKSIZE)
        if len(end) < tarfile.BLOCKSIZE or any(end):
            raise tarfile.ReadError(f"at byte {tar.offset} there is neither a file nor the end of the archive")


def _is_zip(archive: Archive) -> bool:
    with archive.path.open("rb") as file:
        file.seek(archive.begin)
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _is_hidden(name: str) -> bool:
    """Whether a member is metadata of the operating system (`._x.JPEG` of macOS) and not an image."""
    path = PurePosixPath(name)
    return path.name.startswith(".") or "__MACOSX" in path.parts


def _sortable(name: str, synset: str | None) -> bytes:
    """The entry of `ArchiveListing.names`: the image's class folder and file name."""
    path = PurePosixPath(name)
    folder = path.parent.name if synset is None else synset
    return (f"{folder}\0{path.name}" if folder else path.name).encode("utf-8", "surrogateescape")
