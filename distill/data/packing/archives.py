"""Images inside archives, found without unpacking: each is some bytes of a file that is already there.

    train.tar ( n01440764.tar ( n01440764_18.JPEG ... ) ... )  ->  class n01440764, archive, offset, size

A tar stores its members one after the other as they are, so an image of a tar in a tar has a place in the outer file.
A zip has a directory of places. Only headers are read here, archive by archive in processes; `Members.read` is a
positioned read of one image. What is kept of an image is its key and some 30 bytes.

Which class an image is of: in an archive of one synset (n01440764.tar or .zip, in a folder or in an outer tar) the
archive's name; else the folder in which it lies.
"""

from __future__ import annotations

import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from distill.data.packing.file_window import Window
from distill.errors import DamagedImage, DistillError

ARCHIVES = (".tar", ".zip")
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_AS_IT_IS, _ZIP_STORED, _ZIP_DEFLATED = 0, 1, 2
_LOCAL_HEADER = 30
"""Bytes of a zip's local header before name and extra field, whose lengths are its last four (APPNOTE.TXT, 4.3.7)."""

_DTYPE = np.dtype(
    [("archive", "<u4"), ("kind", "u1"), ("offset", "<u8"), ("size", "<u8"), ("stored", "<u8"), ("crc", "<u4")]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """Places of images in archives; `places` has an entry for each."""

    archives: tuple[Path, ...]
    places: npt.NDArray[np.void]

    def part(self, rows: npt.NDArray[np.int64]) -> Members:
        """Those of some rows."""
        places = self.places[rows]
        used, places["archive"] = np.unique(places["archive"], return_inverse=True)
        return Members(archives=tuple(self.archives[n] for n in used), places=places)

    def read(self, n: int, key: str) -> bytes:
        """The bytes of the n-th image.

        **Raises:** `DamagedImage` where the archive does not hold them whole; `OSError`.
        """
        place = self.places[n]
        path = self.archives[int(place["archive"])]
        file = os.open(path, os.O_RDONLY)
        try:
            data = _stored_bytes(file, place)
        finally:
            os.close(file)
        if len(data) != int(place["stored"]):
            raise DamagedImage(f"{path} ends within it")
        if place["kind"] == _ZIP_DEFLATED:
            try:
                data = zlib.decompress(data, wbits=-zlib.MAX_WBITS)
            except zlib.error as error:
                raise DamagedImage(f"cannot be decompressed out of {path} ({error})") from None
        if place["kind"] != _AS_IT_IS and (len(data) != int(place["size"]) or zlib.crc32(data) != int(place["crc"])):
            raise DamagedImage(f"is not what the directory of {path} says (checksum)")
        return data


def _stored_bytes(file: int, place: np.void) -> bytes:
    offset = int(place["offset"])
    if place["kind"] != _AS_IT_IS:
        header = os.pread(file, _LOCAL_HEADER, offset)
        offset += _LOCAL_HEADER + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return os.pread(file, int(place["stored"]), offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """An archive to be listed: a file, or a member of a tar."""

    number: int
    """Of the file among those that are packed."""
    path: Path
    begin: int
    size: int
    synset: str | None
    """The class that its name gives to all images in it; None: their folders do."""

    @property
    def where(self) -> str:
        return str(self.path) if self.begin == 0 else f"{self.synset} in {self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The images of a piece, an entry each."""

    names: npt.NDArray[np.bytes_]
    """Folder and file in UTF-8, with a zero byte between: it sorts before all that a name may hold, as the end of a
    folder's name should. A file in no folder has its bare name."""
    places: npt.NDArray[np.void]
    fault: str | None = None
    """What is wrong with the archive after those that were found."""


def pieces_of(source: Path) -> tuple[Piece, ...]:
    """The archives to list: `source` itself, or those in the folder `source`; of a tar of tars the inner ones.

    **Raises:** `DistillError` for what is compressed as a whole, or is damaged.
    """
    files = [source] if source.is_file() else archives_in(source)
    pieces: list[Piece] = []
    for number, path in enumerate(files):
        if path.name.lower().endswith(COMPRESSED):
            raise DistillError(
                f"{path} is compressed as a whole, so that no image can be read without all before it: decompress it "
                "first (`pigz -d` and the like; JPEGs hardly shrink, so it takes no more room)"
            )
        synset = path.stem if source.is_dir() else None
        whole = Piece(number=number, path=path, begin=0, size=path.stat().st_size, synset=synset)
        pieces += _inner(whole) if path.suffix.lower() == ".tar" and not source.is_dir() else [whole]
    return tuple(pieces)


def archives_in(folder: Path) -> list[Path]:
    """Archives that lie in a folder, in sorted order."""
    endings = ARCHIVES + COMPRESSED
    return sorted(path for path in folder.iterdir() if path.name.lower().endswith(endings) and path.is_file())


def _inner(piece: Piece) -> list[Piece]:
    """The tars or zips in a tar, each a piece; the tar itself if its first file is none."""
    inner: list[Piece] = []
    try:
        with piece.path.open("rb") as file:
            for member in _tar_members(file):
                name = PurePosixPath(member.name)
                if name.suffix.lower() not in ARCHIVES:
                    if inner or _is_hidden(member.name):
                        continue
                    return [piece]
                inner.append(
                    Piece(
                        number=piece.number,
                        path=piece.path,
                        begin=member.offset_data,
                        size=member.size,
                        synset=name.stem,
                    )
                )
    except tarfile.TarError as error:
        raise DistillError(f"{piece.path} is damaged, or no tar ({error}): fetch it again") from None
    if inner and inner[-1].begin + inner[-1].size > piece.size:
        raise DistillError(f"{piece.path} ends within {inner[-1].synset}: fetch it again")
    return inner or [piece]


def list_piece(piece: Piece, suffixes: Sequence[str]) -> Found:
    """Every image of one archive, in its order."""
    names: list[bytes] = []
    places: list[tuple[int, int, int, int, int, int]] = []
    fault = None
    with piece.path.open("rb") as file:
        window = cast(BinaryIO, Window(file, piece.begin, piece.size))
        list_one = _list_zip if _is_zip(piece) else _list_tar
        try:
            for name, (kind, offset, size, stored, crc) in list_one(window, piece):
                if name.lower().endswith(tuple(suffixes)) and not _is_hidden(name):
                    names.append(_sortable(name, piece.synset))
                    places.append((piece.number, kind, piece.begin + offset, size, stored, crc))
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, NotImplementedError) as error:
            fault = f"{piece.where} is damaged ({error})"
    return Found(names=np.array(names, np.bytes_), places=np.array(places, _DTYPE), fault=fault)


Place = tuple[int, int, int, int, int]


def _list_tar(window: BinaryIO, piece: Piece) -> Iterator[tuple[str, Place]]:
    for member in _tar_members(window):
        if member.offset_data + member.size > piece.size:
            raise tarfile.ReadError(f"it ends within {member.name}")
        yield member.name, (_AS_IT_IS, member.offset_data, member.size, member.size, 0)


def _list_zip(window: BinaryIO, piece: Piece) -> Iterator[tuple[str, Place]]:
    with zipfile.ZipFile(window) as archive:
        for member in archive.infolist():
            if member.is_dir():
                continue
            kind = {zipfile.ZIP_STORED: _ZIP_STORED, zipfile.ZIP_DEFLATED: _ZIP_DEFLATED}.get(member.compress_type)
            if kind is None or member.flag_bits & 1:
                raise NotImplementedError(f"{member.filename} is encrypted, or compressed by other means than deflate")
            yield member.filename, (kind, member.header_offset, member.file_size, member.compress_size, member.CRC)


def _tar_members(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """The files in a tar, one at a time; nothing is kept of them."""
    with tarfile.open(fileobj=file, mode="r:") as tar:
        while (member := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]
            if member.isreg():
                yield member
        # tarfile takes a broken header for the end, and says nothing.
        file.seek(tar.offset)
        end = file.read(tarfile.BLOCKSIZE)
        if len(end) < tarfile.BLOCKSIZE or any(end):
            raise tarfile.ReadError(f"no file begins at byte {tar.offset}, and it does not end there")


def _is_zip(piece: Piece) -> bool:
    with piece.path.open("rb") as file:
        file.seek(piece.begin)
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _is_hidden(name: str) -> bool:
    """Whether a member is a system's note about another (`._x.JPEG` of macOS) and not an image."""
    path = PurePosixPath(name)
    return path.name.startswith(".") or "__MACOSX" in path.parts


def _sortable(name: str, synset: str | None) -> bytes:
    """As in `Found.names`: the class folder that the image would lie in, and its file name."""
    path = PurePosixPath(name)
    folder = path.parent.name if synset is None else synset
    return (f"{folder}\0{path.name}" if folder else path.name).encode()
