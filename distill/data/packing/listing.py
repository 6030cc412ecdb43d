"""The images to pack: every image of a source, with its key and label, and access to its bytes.

A source is a folder of class folders, or archives (`archives`): one tar or zip, or a folder of them. From either, the
same images with the same classes have the same keys in the same order, and so the same fingerprint.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from distill.data.catalog import Keys
from distill.data.catalog_files import MAX_IMAGE_BYTES
from distill.data.packing.archives import (
    ARCHIVES,
    COMPRESSED,
    Archive,
    ArchivedImages,
    ArchiveListing,
    archives_in,
    archives_of,
    list_archive,
)
from distill.data.packing.class_lists import classes_by_name
from distill.errors import DamagedImage, DistillError
from logitstore.untrusted import BadInput, read_regular

SUFFIXES = (".jpg", ".jpeg", ".png")


class ImageSource(Protocol):
    """Access to the bytes of the images of a source."""

    def subset(self, rows: npt.NDArray[np.int64]) -> Self:
        """The images of some rows."""

    def read(self, n: int, key: str) -> bytes:
        """The bytes of the n-th image, whose key is given. **Raises:** `DamagedImage`, `OSError`."""


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Files under a folder; their keys are their paths."""

    root: Path

    def subset(self, rows: npt.NDArray[np.int64]) -> ImageFiles:
        return self

    def read(self, n: int, key: str) -> bytes:
        try:
            return read_regular(self.root / key, limit=MAX_IMAGE_BYTES)
        except BadInput as error:
            raise DamagedImage(str(error)) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The images of a source."""

    keys: Keys
    labels: npt.NDArray[np.int32]
    """(N,) index into the class names, -1 without classes."""
    class_names: tuple[str, ...]
    images: ImageSource
    faults: tuple[tuple[str, str], ...] = ()
    """Archives that could not be listed to their end, with the reasons."""


def list_source(source: Path, *, labelled: bool = True, classes: Path | None = None, workers: int = 1) -> Listing:
    """Lists all images of a folder or of archives.

    **Arguments:** `classes`: for archives whose images are in no folders, a file with the class of each.

    **Raises:** `DistillError` for no image, an image without a class, or two images with one key.
    """
    if source.is_dir() and not archives_in(source):
        if classes is not None:
            raise DistillError(f"--classes is for archives whose images are in no class folders; {source} is a folder")
        keys, labels, names = scan(source, labelled=labelled)
        return Listing(keys=keys, labels=labels, class_names=names, images=ImageFiles(source))
    if source.is_file() and not source.name.lower().endswith(ARCHIVES + COMPRESSED):
        raise DistillError(f"{source} is neither a folder nor an archive ({', '.join(ARCHIVES)})")
    if not source.exists():
        raise DistillError(f"{source} is not a folder or an archive: name one")
    return _list_archives(source, labelled=labelled, classes=classes, workers=workers)


def _list_archives(source: Path, *, labelled: bool, classes: Path | None, workers: int) -> Listing:
    archives = archives_of(source)
    listings = list(_in_processes(partial(list_archive, suffixes=SUFFIXES), archives, workers))
    names = np.concatenate([listing.names for listing in listings])
    places = np.concatenate([listing.places for listing in listings])
    pairs = list(zip(archives, listings, strict=True))
    faults = tuple((archive.where, listing.fault) for archive, listing in pairs if listing.fault)
    if not len(names):
        notes = "".join(f"; {fault}" for _, fault in faults)
        raise DistillError(f"no image in {source}: looked for {', '.join(SUFFIXES)} in any letter case{notes}")
    if labelled and classes is not None:
        names = _with_classes(names, classes)
    order = np.argsort(names, kind="stable")
    names = names[order]
    keys = Keys.of(name.replace(b"\0", b"/") for name in names)
    _require_unique(keys, names, source)
    class_names: tuple[str, ...] = ()
    labels = np.full(len(keys), -1, np.int32)
    if labelled:
        stray = next((keys[n] for n in range(len(keys)) if b"/" not in keys[n]), None)
        if stray is not None:
            raise DistillError(
                f"{os.fsdecode(stray)} in {source} is in no class folder: pass --classes FILE with the class of each "
                "image, or --no-labels"
            )
        damaged = {archive.synset for archive, listing in pairs if archive.synset and listing.fault}
        labels, class_names = _labels(keys, also=damaged)
    paths = {archive.number: archive.path for archive in archives}
    return Listing(
        keys=keys,
        labels=labels,
        class_names=class_names,
        images=ArchivedImages(archives=tuple(paths[n] for n in sorted(paths)), places=places[order]),
        faults=faults,
    )


def _with_classes(names: npt.NDArray[np.bytes_], classes: Path) -> npt.NDArray[np.bytes_]:
    """The names with the class folders from a class list."""
    files = [name.split(b"\0")[-1].decode() for name in names]
    pairs = zip(classes_by_name(classes, files), files, strict=True)
    return np.array([f"{folder}\0{file}".encode() for folder, file in pairs], np.bytes_)


def _require_unique(keys: Keys, sorted_names: npt.NDArray[np.bytes_], source: Path) -> None:
    duplicates = np.flatnonzero(sorted_names[1:] == sorted_names[:-1])
    if duplicates.size:
        raise DistillError(
            f"{source} has {os.fsdecode(keys[int(duplicates[0])])} twice ({duplicates.size} such images): every key "
            "must name one image. Leave out one of the archives, or pack them into separate data sets"
        )


def _labels(keys: Keys, also: Iterable[str] = ()) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """The label of each key, from its first folder, and the class names, sorted.

    **Arguments:** `also`: classes that get a label even without an image.
    """
    names = sorted({keys[n].split(b"/", 1)[0] for n in range(len(keys))} | set(map(os.fsencode, also)))
    number = {name: label for label, name in enumerate(names)}
    labels = np.fromiter((number[keys[n].split(b"/", 1)[0]] for n in range(len(keys))), np.int32, len(keys))
    return labels, tuple(os.fsdecode(name) for name in names)


def _in_processes(work: partial[ArchiveListing], archives: Sequence[Archive], workers: int) -> Iterable[ArchiveListing]:
    if workers == 1 or len(archives) == 1:
        return map(work, archives)
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        return list(pool.map(work, archives, chunksize=16))


def scan(source: Path, *, labelled: bool = True) -> tuple[Keys, npt.NDArray[np.int32], tuple[str, ...]]:
    """Lists the images under a folder: keys (paths relative to it) folder by folder in sorted order, the label of
    each, and the class names."""
    if not source.is_dir():
        raise DistillError(f"{source} is not a folder: name a folder with one sub-folder of images per class")
    files = Keys.of(_image_paths(source))
    if not len(files):
        raise DistillError(f"no image under {source}: looked for {', '.join(SUFFIXES)} in any letter case")
    if not labelled:
        return files, np.full(len(files), -1, np.int32), ()
    stray = next((key for key in (files[n] for n in range(len(files))) if b"/" not in key), None)
    if stray is not None:
        raise DistillError(
            f"{source / os.fsdecode(stray)} is in no class folder: give each class a sub-folder, or pass --no-labels"
        )
    return files, *_labels(files)


def _image_paths(source: Path) -> Iterator[bytes]:
    root = os.fsencode(source)
    for folder, folders, names in os.walk(root, followlinks=True):
        folders.sort()
        inner = os.path.relpath(folder, root)
        for name in sorted(names):
            if name.lower().endswith(tuple(os.fsencode(suffix) for suffix in SUFFIXES)):
                yield name if inner == b"." else inner + b"/" + name
