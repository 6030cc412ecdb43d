"""The files of a catalog, read with suspicion: every one has a checksum, and what they say must agree.

`catalog.json` holds the checksum of each other file, and of itself. (Version 1, of the first programs, has only the
fingerprint, which covers class names, keys, labels and image digests, but not offsets and sizes: where those are wrong,
the images' digests notice when they are read.) All files are read once when a catalog is opened, at some gigabytes a
second; `catalog` maps them into memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from distill.errors import DistillError
from distill.files import read_json_object
from logitstore.untrusted import BadInput, open_regular, plain_path, printable

VERSION = 2
FOLDER = "catalog"
HEAD = "catalog.json"
KEYS, KEY_OFFSETS = "keys.bin", "key_offsets.npy"
ARRAYS = {"labels": "<i4", "offsets": "<u8", "sizes": "<u4", "digests": "<u8"}
FILES = (KEYS, KEY_OFFSETS, *(f"{name}.npy" for name in ARRAYS))
MAX_IMAGE_BYTES = 2**28
"""The largest image file that is packed or read."""
_MAX_ROWS = 2**34
_MAX_SHARD_BYTES = 2**46
_CHUNK = 1 << 20
"""Rows, or bytes, that are looked at together."""
_KEYS_V1 = {"version", "num_samples", "fingerprint", "class_names", "shards", "options"}
_CHECKSUM, _CHECKSUMS = "checksum", "checksums"


class DamagedCatalog(DistillError):
    """The files of a catalog are not what was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One tar file of the data set."""

    name: str
    """File name relative to the data set's folder."""
    num_rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What `catalog.json` says."""

    version: int
    num_samples: int
    fingerprint: str
    class_names: tuple[str, ...]
    shards: tuple[Shard, ...]
    checksums: Mapping[str, str]
    """File -> XXH3-128 of its bytes in hexadecimal; empty in version 1."""


def write_head(values: Mapping[str, Any], shards: Sequence[Shard], folder: Path) -> str:
    """The text of `catalog.json` for the files that lie in `folder`."""
    head = {
        "version": VERSION,
        **values,
        "shards": [asdict(shard) for shard in shards],
        _CHECKSUMS: {name: _file_checksum(folder / name) for name in FILES},
    }
    return json.dumps({**head, _CHECKSUM: _head_checksum(head)}, indent=1)


def read_head(folder: Path) -> Head:
    """**Raises:** `FileNotFoundError`; `DamagedCatalog` for anything that `write_head` has not written; `DistillError`
    for a newer version."""
    path = folder / HEAD
    try:
        values = read_json_object(path)
    except DistillError as error:
        raise DamagedCatalog(f"{error}: pack the data set again, or restore the file") from None
    version = values.get("version")
    if type(version) is int and version > VERSION:
        raise DistillError(f"catalog {folder} has version {version}, this program reads up to {VERSION}")
    expected = _KEYS_V1 if version == 1 else _KEYS_V1 | {_CHECKSUM, _CHECKSUMS}
    try:
        if type(version) is not int or version < 1:
            raise BadInput(f"version is {version!r:.40}")
        if set(values) != expected:
            raise BadInput(f"its keys are {', '.join(map(str, values)):.200}")
        if version > 1 and values[_CHECKSUM] != _head_checksum({k: v for k, v in values.items() if k != _CHECKSUM}):
            raise BadInput("it differs from its checksum")
        return Head(
            version=version,
            num_samples=_count("num_samples", values["num_samples"], _MAX_ROWS),
            fingerprint=_text("fingerprint", values["fingerprint"]),
            class_names=tuple(_text("a class name", name) for name in _list("class_names", values["class_names"])),
            shards=_shards(values["shards"]),
            checksums=_checksums(values.get(_CHECKSUMS, {}), version),
        )
    except BadInput as error:
        raise DamagedCatalog(f"{path} is damaged: {error}. Restore it, or pack the data set again") from None


def map_arrays(folder: Path, head: Head) -> tuple[npt.NDArray[np.uint8], dict[str, npt.NDArray[Any]]]:
    """The bytes of all keys, and the arrays by name, `key_offsets` among them, mapped into memory.

    **Raises:** `DamagedCatalog` where one is no array of its type and length.
    """
    arrays = {}
    for name, dtype in {**ARRAYS, "key_offsets": "<u8"}.items():
        path = folder / f"{name}.npy"
        try:
            with os.fdopen(open_regular(path), "rb"):
                array = np.load(path, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # What numpy's reader raises for a header that is none has any type.
            raise DamagedCatalog(_damaged(path, f"it is no array ({printable(str(error)):.200})")) from None
        length = head.num_samples + (name == "key_offsets")
        if not isinstance(array, np.ndarray) or array.dtype != np.dtype(dtype) or array.shape != (length,):
            raise DamagedCatalog(_damaged(path, f"it holds {array.dtype} {array.shape}, not {length} {dtype}"))
        arrays[name] = array
    path = folder / KEYS
    try:
        with os.fdopen(open_regular(path), "rb"):
            size = path.stat().st_size
            keys = np.memmap(path, np.uint8, "r") if size else np.zeros(0, np.uint8)
    except (OSError, ValueError) as error:
        raise DamagedCatalog(_damaged(path, f"it cannot be read ({error})")) from None
    return keys, arrays


def verify(
    folder: Path, head: Head, keys: npt.NDArray[np.uint8], arrays: Mapping[str, npt.NDArray[Any]], *, fingerprint: str
) -> None:
    """Compares all files with their checksums, and with one another.

    **Arguments:** `fingerprint`: of what the arrays hold; compared for version 1, which has no checksums.

    **Raises:** `DamagedCatalog`.
    """
    for name, checksum in head.checksums.items():
        if _file_checksum(folder / name) != checksum:
            raise DamagedCatalog(_damaged(folder / name, "it differs from its checksum"))
    if head.version == 1 and fingerprint != head.fingerprint:
        raise DamagedCatalog(_damaged(folder, "keys, labels or digests differ from the data set's fingerprint"))
    if int(arrays["key_offsets"][0]) != 0 or int(arrays["key_offsets"][-1]) != len(keys):
        raise DamagedCatalog(_damaged(folder / KEY_OFFSETS, f"it does not end with {KEYS}"))
    ends = np.cumsum([shard.num_rows for shard in head.shards], dtype=np.int64)
    sizes_of = np.array([shard.size_bytes for shard in head.shards], np.uint64)
    for first in range(0, head.num_samples, _CHUNK):
        rows = slice(first, min(first + _CHUNK, head.num_samples))
        labels, sizes = arrays["labels"][rows], arrays["sizes"][rows]
        offsets = arrays["key_offsets"][rows.start : rows.stop + 1]
        shard = np.searchsorted(ends, np.arange(rows.start, rows.stop), side="right")
        faults = {
            "key_offsets": (offsets[1:] < offsets[:-1]).any(),
            "labels": ((labels < -1) | (labels >= len(head.class_names))).any(),
            "sizes": (sizes > MAX_IMAGE_BYTES).any(),
            "offsets": (arrays["offsets"][rows] > sizes_of[shard] - np.minimum(sizes_of[shard], sizes)).any(),
        }
        for name, wrong in faults.items():
            if wrong:
                raise DamagedCatalog(_damaged(folder / f"{name}.npy", "it holds numbers that are out of range"))


def _damaged(path: Path, reason: str) -> str:
    return f"{path} is damaged: {reason}. Restore it from a copy, or pack the data set again"


def _head_checksum(head: Mapping[str, Any]) -> str:
    text = json.dumps(head, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return xxhash.xxh3_128_hexdigest(text.encode())


def _file_checksum(path: Path) -> str:
    state = xxhash.xxh3_128()
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            while data := file.read(_CHUNK):
                state.update(data)
    except (OSError, BadInput) as error:
        raise DamagedCatalog(_damaged(path, f"it cannot be read ({error})")) from None
    return state.hexdigest()


def _count(name: str, value: object, limit: int) -> int:
    if type(value) is not int or not 0 < value <= limit:
        raise BadInput(f"{name} is {value!r:.40}")
    return value


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise BadInput(f"{name} is {value!r:.40}")
    return value


def _list(name: str, value: object) -> list[Any]:
    if not isinstance(value, list):
        raise BadInput(f"{name} is {value!r:.40}")
    return value


def _shards(values: object) -> tuple[Shard, ...]:
    shards = []
    for value in _list("shards", values):
        if not isinstance(value, dict) or set(value) != {"name", "num_rows", "size_bytes"}:
            raise BadInput(f"a shard is {value!r:.80}")
        shards.append(
            Shard(
                name=plain_path(value["name"]),
                num_rows=_count("num_rows", value["num_rows"], _MAX_ROWS),
                size_bytes=_count("size_bytes", value["size_bytes"], _MAX_SHARD_BYTES),
            )
        )
    names = {shard.name for shard in shards}
    if len(names) < len(shards):
        raise BadInput("two shards have one name")
    if any(name.split("/")[0] == FOLDER for name in names):
        raise BadInput("a shard lies in the catalog's folder")
    return tuple(shards)


def _checksums(values: object, version: int) -> Mapping[str, str]:
    if version == 1:
        return {}
    if not isinstance(values, dict) or set(values) != set(FILES):
        raise BadInput(f"checksums are {values!r:.80}")
    return {name: _text("a checksum", checksum) for name, checksum in values.items()}
