"""Writes one tar shard, whole or not at all, and keeps what the catalog needs of it until the catalog is made.

    keys, labels, bytes  ->  shard-000000.tar  +  .packing/shard-000000.npz

The tar and then its record appear under their names only when they are whole, so a packing that was killed goes on
where it was: a shard that has its record is done.
"""

from __future__ import annotations

import errno
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import webdataset
import xxhash

from distill.data.catalog import Keys
from distill.data.packing.listing import Images
from distill.data.packing.recode import Recode, is_transparent, recode
from distill.errors import DamagedImage
from distill.views.decode import PNG_START

RECORDS = ".packing"
"""Folder of the records, in the data set's folder, while it is packed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One shard to write."""

    tar: Path
    first: int
    images: Images
    keys: tuple[bytes, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]
    recode: Recode


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One shard written; arrays have an entry for each image in it."""

    tar: Path
    keys: Keys
    labels: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.uint64]
    sizes: npt.NDArray[np.uint32]
    digests: npt.NDArray[np.uint64]
    unreadable: tuple[tuple[str, str], ...]
    """Key and reason of each image left out."""
    num_transparent: int
    """Images whose transparency is dropped when they are read."""


def pack_shard(task: Task) -> Done:
    """Writes one tar, unless that was done before, then reads its index back to learn where each image lies."""
    record = task.tar.parent / RECORDS / f"{task.tar.stem}.npz"
    if record.exists():
        return _load(record, task.tar)
    keys: list[bytes] = []
    labels: list[int] = []
    digests: list[int] = []
    unreadable: list[tuple[str, str]] = []
    num_transparent = 0
    part = task.tar.with_name(f"{task.tar.name}.part")
    with webdataset.TarWriter(str(part), encoder=False, mtime=0.0) as tar:
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
    places = _image_places(part)
    done = Done(
        tar=task.tar,
        keys=Keys.of(keys),
        labels=np.array(labels, np.int32),
        offsets=np.array([offset for offset, _ in places], np.uint64),
        sizes=np.array([size for _, size in places], np.uint32),
        digests=np.array(digests, np.uint64),
        unreadable=tuple(unreadable),
        num_transparent=num_transparent,
    )
    part.rename(task.tar)
    _save(done, record)
    return done


def _save(done: Done, record: Path) -> None:
    part = record.with_name(f"{record.name}.part")
    with part.open("wb") as file:
        np.savez(
            file, text=np.frombuffer(done.keys.text, np.uint8), key_offsets=done.keys.offsets, labels=done.labels,
            offsets=done.offsets, sizes=done.sizes, digests=done.digests,
            unreadable=np.frombuffer(json.dumps(done.unreadable).encode(), np.uint8),
            num_transparent=done.num_transparent,
        )  # fmt: skip
    part.rename(record)


def _load(record: Path, tar: Path) -> Done:
    with np.load(record) as file:
        unreadable = json.loads(file["unreadable"].tobytes())
        return Done(
            tar=tar,
            keys=Keys(file["text"].tobytes(), file["key_offsets"]),
            labels=file["labels"],
            offsets=file["offsets"],
            sizes=file["sizes"],
            digests=file["digests"],
            unreadable=tuple((key, reason) for key, reason in unreadable),
            num_transparent=int(file["num_transparent"]),
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
