"""Writes one tar shard atomically, and a record of its rows for the catalog, which is written last.

    keys, labels, bytes  ->  shard-000000.tar  +  .packing/shard-000000.npz

The tar and then its record get their names only when they are complete. So a packing that was killed is resumed: a
shard with a record is done.
"""

from __future__ import annotations

import errno
import json
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import webdataset
import xxhash

from distill.data.catalog import Keys
from distill.data.packing.listing import ImageSource
from distill.data.packing.recode import Recode, is_transparent, recode
from distill.errors import DamagedImage
from distill.views.decode import PNG_START
from logitstore.storage.atomic import atomic_path
from logitstore.untrusted import parse_json

RECORDS = ".packing"
"""Folder of the records in the data set's folder, until its packing has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardTask:
    """One shard to write."""

    tar: Path
    first: int
    """Position of its first image in the order of packing."""
    images: ImageSource
    keys: tuple[bytes, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]
    recode: Recode


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedShard:
    """One written shard; `keys` and the arrays have one entry per image."""

    tar: Path
    keys: Keys
    labels: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.uint64]
    sizes: npt.NDArray[np.uint32]
    digests: npt.NDArray[np.uint64]
    unreadable: tuple[tuple[str, str], ...]
    """Key and reason of each image that was left out."""
    num_transparent: int
    """Images whose transparency is dropped when they are read."""


def pack_shard(task: ShardTask) -> PackedShard:
    """Writes one tar and its record, unless that was done before."""
    record = task.tar.parent / RECORDS / f"{task.tar.stem}.npz"
    if record.exists() and (written := _load(record, task)):
        return written
    with atomic_path(task.tar, sole_writer=True) as temporary:
        shard = _write_tar(task, temporary)
    _save(shard, record)
    return shard


def _write_tar(task: ShardTask, path: Path) -> PackedShard:
    """Writes the tar to `path`, and reads the offset of each image back from it."""
    keys: list[bytes] = []
    labels: list[int] = []
    digests: list[int] = []
    unreadable: list[tuple[str, str]] = []
    num_transparent = 0
    with webdataset.TarWriter(str(path), encoder=False, mtime=0.0) as tar:
        for n, (key, label) in enumerate(zip(task.keys, task.labels, strict=True)):
            try:
                text = key.decode()
                data = recode(task.images.read(n, text), task.recode)
                num_transparent += is_transparent(data)
            except UnicodeDecodeError:
                unreadable.append((repr(key), "its name is not UTF-8"))
                continue
            except (DamagedImage, OSError) as error:
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE):
                    raise
                unreadable.append((text, str(error)))
                continue
            tar.write(_members(task.first + n, text, label, data, task.class_names))
            keys.append(key)
            labels.append(label)
            digests.append(xxhash.xxh3_64_intdigest(data))
    ranges = _image_ranges(path)
    return PackedShard(
        tar=task.tar,
        keys=Keys.of(keys),
        labels=np.array(labels, np.int32),
        offsets=np.array([offset for offset, _ in ranges], np.uint64),
        sizes=np.array([size for _, size in ranges], np.uint32),
        digests=np.array(digests, np.uint64),
        unreadable=tuple(unreadable),
        num_transparent=num_transparent,
    )


def _save(shard: PackedShard, record: Path) -> None:
    with atomic_path(record, sole_writer=True) as temporary, temporary.open("wb") as file:
        np.savez(
            file, text=np.frombuffer(shard.keys.text, np.uint8), key_offsets=shard.keys.offsets, labels=shard.labels,
            offsets=shard.offsets, sizes=shard.sizes, digests=shard.digests,
            unreadable=np.frombuffer(json.dumps(shard.unreadable).encode(), np.uint8),
            num_transparent=shard.num_transparent,
        )  # fmt: skip


def _load(record: Path, task: ShardTask) -> PackedShard | None:
    """The shard of a record; None for a record that is damaged, or of another task: the shard is written again."""
    try:
        with np.load(record, allow_pickle=False) as file:
            unreadable = parse_json(file["unreadable"].tobytes())
            shard = PackedShard(
                tar=task.tar,
                keys=Keys(file["text"].tobytes(), file["key_offsets"]),
                labels=file["labels"],
                offsets=file["offsets"],
                sizes=file["sizes"],
                digests=file["digests"],
                unreadable=tuple((str(key), str(reason)) for key, reason in unreadable),
                num_transparent=int(file["num_transparent"]),
            )
            keys = [shard.keys[n] for n in range(len(shard.keys))]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
    lengths = {len(array) for array in (keys, shard.labels, shard.offsets, shard.sizes, shard.digests)}
    whole = len(keys) + len(unreadable) == len(task.keys) and set(keys) <= set(task.keys)
    return shard if whole and lengths == {len(keys)} and task.tar.is_file() else None


def _members(position: int, key: str, label: int, data: bytes, class_names: tuple[str, ...]) -> dict[str, str | bytes]:
    suffix = "png" if data.startswith(PNG_START) else "jpg"
    entry: dict[str, str | int] = {"key": key, "label": label}
    members: dict[str, str | bytes] = {"__key__": f"{position:09d}", suffix: data}
    if label >= 0:
        entry["class"] = class_names[label]
        members["cls"] = str(label).encode()
    members["json"] = json.dumps(entry).encode()
    return members


def _image_ranges(path: Path) -> list[tuple[int, int]]:
    """Offset and size of each image in a tar, in order."""
    with tarfile.open(path) as tar:
        return [(member.offset_data, member.size) for member in tar if member.name.endswith((".jpg", ".png"))]
