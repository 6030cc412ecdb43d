"""Packs an image folder into webdataset tar shards with a catalog.

    folder/class/image.jpg  ->  shuffled once  ->  shard-000000.tar ...  +  catalog/

Each process packs whole shards: it reads a file, decodes it to see that it can be, and puts its bytes into the tar
unchanged (or shrunk and re-encoded, where asked to), beside a `.cls` member (the label) and a `.json` member (key,
label and class name), so that a shard explains itself to any webdataset reader. What cannot be decoded is listed in
`unreadable.tsv` and left out.
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import tarfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import webdataset
import xxhash

from distill.data.catalog import Keys, Shard, write_catalog
from distill.data.hold_out import HoldOut, held_out
from distill.data.order import permutation
from distill.data.recode import Recode, is_transparent, recode
from distill.errors import DamagedImage, DistillError, UsageError
from distill.views.decode import PNG_START

SUFFIXES = (".jpg", ".jpeg", ".png")
_PACKING = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What a packing did."""

    num_rows: int
    num_classes: int
    num_shards: int
    size_bytes: int
    fingerprint: str
    unreadable: tuple[tuple[str, str], ...]
    """Key and reason of each file left out."""
    num_transparent: int = 0
    """Pictures packed whose transparency is dropped when they are read."""
    held_out: Packed | None = None
    """The part that was packed elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    """The images found, and how they are to be packed."""

    source: Path
    keys: Keys
    labels: npt.NDArray[np.int32]
    class_names: tuple[str, ...]
    rows_per_shard: int
    workers: int
    recode: Recode


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """One shard to write."""

    source: Path
    tar: Path
    first: int
    keys: tuple[bytes, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]
    recode: Recode


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """One shard written; arrays have an entry for each image in it."""

    tar: Path
    keys: Keys
    labels: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.uint64]
    sizes: npt.NDArray[np.uint32]
    digests: npt.NDArray[np.uint64]
    unreadable: tuple[tuple[str, str], ...]
    num_transparent: int


def pack(
    source: Path,
    target: Path,
    *,
    rows_per_shard: int = 1000,
    seed: int = 0,
    workers: int = 1,
    labelled: bool = True,
    smaller: Recode | None = None,
    hold_out: HoldOut | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Packed:
    """Packs every JPEG and PNG under `source` into `target`, which must be empty or new.

    **Arguments:** `labelled`: the first folder of a file's path is its class, classes are numbered in sorted order;
    otherwise all labels are -1. `smaller`: how to shrink and re-encode; not at all by default. `hold_out`: a share of
    each class that is packed elsewhere, with the same numbers of classes. `progress(files done, files in all)` is
    called as shards are finished.

    **Raises:** `DistillError` for a missing or empty source, a target that is not empty, a full disk.
    """
    if rows_per_shard < 1:
        raise UsageError(f"rows per shard must be at least 1, not {rows_per_shard}")
    for folder in (target, hold_out.target) if hold_out else (target,):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DistillError(f"{folder} is not empty: nothing is overwritten; name a new folder or remove that one")
    if hold_out and target.resolve() == hold_out.target.resolve():
        raise UsageError(f"{target} is to hold both parts: name another folder for the pictures held out")
    keys, labels, class_names = scan(source, labelled=labelled)
    smaller = smaller or Recode()
    listing = _Listing(
        source=source, keys=keys, labels=labels, class_names=class_names, rows_per_shard=rows_per_shard,
        workers=workers, recode=smaller,
    )  # fmt: skip
    order = permutation(len(keys), key=(seed, _PACKING))
    options: dict[str, Any] = {"seed": seed, "rows_per_shard": rows_per_shard} | smaller.options()
    if hold_out is None:
        return _pack_rows(listing, target, order, options, 0, progress)
    held = held_out(keys, labels, share=hold_out.share, seed=seed)[order]
    if not held.any():
        raise DistillError(f"no class under {source} has two pictures, of which one could be held out")
    options |= {"hold_out": hold_out.share}
    packed = _pack_rows(listing, target, order[~held], options | {"part": "training"}, 0, progress)
    other = options | {"part": "held out"}
    return replace(packed, held_out=_pack_rows(listing, hold_out.target, order[held], other, (~held).sum(), progress))


def _pack_rows(
    listing: _Listing, target: Path, rows: npt.NDArray[np.int64], options: dict[str, Any], before: int,
    progress: Callable[[int, int], None] | None,
) -> Packed:  # fmt: skip
    """Packs some of the images, in the order given. `before`: files that are done already, for the progress."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        done = []
        for shard in _packed(_tasks(listing, target, rows), listing.workers):
            done.append(shard)
            before += len(shard.keys) + len(shard.unreadable)
            if progress:
                progress(before, len(listing.keys))
        return _finish(target, done, listing.class_names, options)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DistillError(
                f"the disk is full while packing into {target}: remove that folder, make room, pack again"
            ) from None
        raise


def scan(source: Path, *, labelled: bool = True) -> tuple[Keys, npt.NDArray[np.int32], tuple[str, ...]]:
    """Lists the images under a folder: keys (paths relative to it) folder by folder in sorted order, the label of
    each, and the class names."""
    if not source.is_dir():
        raise DistillError(f"{source} is not a folder: name a folder with one sub-folder of images a class")
    files = Keys.of(_walk(source))
    if not len(files):
        raise DistillError(f"no image under {source}: looked for {', '.join(SUFFIXES)} in any letter case")
    if not labelled:
        return files, np.full(len(files), -1, np.int32), ()
    stray = next((key for key in (files[n] for n in range(len(files))) if b"/" not in key), None)
    if stray is not None:
        raise DistillError(
            f"{source / os.fsdecode(stray)} is in no class folder: give each class a sub-folder, or pass --no-labels"
        )
    names = sorted({files[n].split(b"/", 1)[0] for n in range(len(files))})
    number = {name: label for label, name in enumerate(names)}
    labels = np.fromiter((number[files[n].split(b"/", 1)[0]] for n in range(len(files))), np.int32, len(files))
    return files, labels, tuple(os.fsdecode(name) for name in names)


def _walk(source: Path) -> Iterator[bytes]:
    root = os.fsencode(source)
    for folder, folders, names in os.walk(root, followlinks=True):
        folders.sort()
        inner = os.path.relpath(folder, root)
        for name in sorted(names):
            if name.lower().endswith(tuple(os.fsencode(suffix) for suffix in SUFFIXES)):
                yield name if inner == b"." else inner + b"/" + name


def _tasks(listing: _Listing, target: Path, rows: npt.NDArray[np.int64]) -> Iterator[_Task]:
    for shard, first in enumerate(range(0, len(rows), listing.rows_per_shard)):
        some = rows[first : first + listing.rows_per_shard]
        yield _Task(
            source=listing.source,
            tar=target / f"shard-{shard:06d}.tar",
            first=first,
            keys=tuple(listing.keys[n] for n in some),
            labels=tuple(int(listing.labels[n]) for n in some),
            class_names=listing.class_names,
            recode=listing.recode,
        )


def _packed(tasks: Iterator[_Task], workers: int) -> Iterator[_Done]:
    """Runs the tasks, in processes when there are several workers, and yields their results in order."""
    return _in_processes(tasks, workers) if workers > 1 else map(_pack_shard, tasks)


def _in_processes(tasks: Iterator[_Task], workers: int) -> Iterator[_Done]:
    """Results in the order of the tasks, with no more than two tasks a worker waiting."""
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        waiting: deque[Future[_Done]] = deque()
        for task in tasks:
            waiting.append(pool.submit(_pack_shard, task))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _pack_shard(task: _Task) -> _Done:
    """Writes one tar, then reads its index back to learn where each image lies."""
    keys: list[bytes] = []
    labels: list[int] = []
    digests: list[int] = []
    unreadable: list[tuple[str, str]] = []
    num_transparent = 0
    with webdataset.TarWriter(str(task.tar), encoder=False, mtime=0.0) as tar:
        for position, (key, label) in enumerate(zip(task.keys, task.labels, strict=True), task.first):
            try:
                text = key.decode()
                data = recode((task.source / text).read_bytes(), task.recode)
                num_transparent += is_transparent(data)
            except UnicodeDecodeError:
                unreadable.append((repr(key), "its name is not UTF-8"))
                continue
            except (DamagedImage, OSError) as error:
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE):
                    raise
                unreadable.append((text, str(error)))
                continue
            tar.write(_members(position, text, label, data, task.class_names))
            keys.append(key)
            labels.append(label)
            digests.append(xxhash.xxh3_64_intdigest(data))
    places = _image_places(task.tar)
    return _Done(
        tar=task.tar,
        keys=Keys.of(keys),
        labels=np.array(labels, np.int32),
        offsets=np.array([offset for offset, _ in places], np.uint64),
        sizes=np.array([size for _, size in places], np.uint32),
        digests=np.array(digests, np.uint64),
        unreadable=tuple(unreadable),
        num_transparent=num_transparent,
    )


def _members(position: int, key: str, label: int, data: bytes, class_names: tuple[str, ...]) -> dict[str, str | bytes]:
    suffix = "png" if data.startswith(PNG_START) else "jpg"
    about: dict[str, str | int] = {"key": key, "label": label}
    members: dict[str, str | bytes] = {"__key__": f"{position:09d}", suffix: data}
    if label >= 0:
        about["class"] = class_names[label]
        members["cls"] = str(label).encode()
    members["json"] = json.dumps(about).encode()
    return members


def _image_places(path: Path) -> list[tuple[int, int]]:
    """Offset and size of each image in a tar, in order."""
    with tarfile.open(path) as tar:
        return [(member.offset_data, member.size) for member in tar if member.name.endswith((".jpg", ".png"))]


def _finish(target: Path, done: list[_Done], class_names: tuple[str, ...], options: dict[str, Any]) -> Packed:
    """Drops empty shards, writes `unreadable.tsv` and the catalog."""
    unreadable = tuple(entry for shard in done for entry in shard.unreadable)
    if unreadable:
        lines = [f"{key}\t{reason}\n" for key, reason in unreadable]
        (target / "unreadable.tsv").write_text("".join(lines))
    for shard in done:
        if not len(shard.keys):
            shard.tar.unlink()
    done = [shard for shard in done if len(shard.keys)]
    if not done:
        raise DistillError(f"none of the files could be decoded: {target / 'unreadable.tsv'} lists them")
    shards = [Shard(name=s.tar.name, num_rows=len(s.keys), size_bytes=s.tar.stat().st_size) for s in done]
    fingerprint = write_catalog(
        target,
        keys=Keys.of(shard.keys[n] for shard in done for n in range(len(shard.keys))),
        labels=np.concatenate([shard.labels for shard in done]),
        offsets=np.concatenate([shard.offsets for shard in done]),
        sizes=np.concatenate([shard.sizes for shard in done]),
        digests=np.concatenate([shard.digests for shard in done]),
        class_names=class_names,
        shards=shards,
        options=options,
    )
    return Packed(
        num_rows=sum(shard.num_rows for shard in shards),
        num_classes=len(class_names),
        num_shards=len(shards),
        size_bytes=sum(shard.size_bytes for shard in shards),
        fingerprint=fingerprint,
        unreadable=unreadable,
        num_transparent=sum(shard.num_transparent for shard in done),
    )
