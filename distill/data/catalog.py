"""The catalog: the ordered list of all samples of a packed data set.

A catalog is a folder of flat arrays that are memory-mapped, so that opening one costs the same for a thousand
images and for fourteen million, and loader workers have the pages in common. Row `n` of every array describes sample
`n`; the rows of one tar shard are consecutive. The folder `catalog/` beside the shards holds

    catalog.json      version, number of samples, class names, shards, fingerprint, packing options, checksums
    keys.bin          all keys, UTF-8, one after the other
    key_offsets.npy   (N + 1,) uint64   key n is keys.bin[key_offsets[n]:key_offsets[n + 1]]
    labels.npy        (N,) int32        index into the class names
    offsets.npy       (N,) uint64       offset of the image's bytes in their shard
    sizes.npy         (N,) uint32       number of bytes
    digests.npy       (N,) uint64       XXH3-64 of the bytes

The fingerprint covers class names, keys, labels and image bytes in their order, but not how they are divided into
shards. `pack` writes catalogs, `shards` reads images through them; `catalog_files` holds all files against their
checksums when a catalog is opened.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from distill.data.catalog_files import (
    ARRAYS,
    FILES,
    FOLDER,
    HEAD,
    DamagedCatalog,
    Shard,
    map_arrays,
    read_head,
    verify,
    write_head,
)
from distill.data.remote import Remote, ShardCache, default_folder
from distill.errors import DistillError
from distill.files import refuse_links, write_file
from logitstore.storage import is_url

_FINGERPRINT_VERSION = 1
"""Of what the fingerprint covers; not of the files."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Many strings without a Python object for each: one text and the offset of each string."""

    text: bytes
    """All strings in UTF-8, one after the other."""
    offsets: npt.NDArray[np.uint64]
    """(N + 1,) string n is text[offsets[n]:offsets[n + 1]]."""

    @classmethod
    def of(cls, strings: Iterable[bytes]) -> Keys:
        text, ends = bytearray(), array("Q", [0])
        for string in strings:
            text += string
            ends.append(len(text))
        return cls(bytes(text), np.frombuffer(ends, np.uint64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, n: int) -> bytes:
        return self.text[int(self.offsets[n]) : int(self.offsets[n + 1])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """An opened data set. Arrays are memory maps with one entry per row; none is copied into memory."""

    path: Path
    """The data set's folder: tar shards and `catalog/`. Of a remote data set, its folder in the cache."""
    class_names: tuple[str, ...]
    shards: tuple[Shard, ...]
    starts: npt.NDArray[np.int64]
    """(S + 1,) first row of each shard, and N."""
    fingerprint: str
    labels: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.uint64]
    sizes: npt.NDArray[np.uint32]
    digests: npt.NDArray[np.uint64]
    key_offsets: npt.NDArray[np.uint64]
    key_bytes: npt.NDArray[np.uint8]
    remote: Remote | None = None
    """The source of shards that are not in `path`."""

    def __len__(self) -> int:
        return len(self.labels)

    def __reduce__(self) -> tuple[Callable[..., Catalog], tuple[Any, ...]]:
        """Pickled as its path: a worker started by spawn maps the arrays again and copies none."""
        return _reopened, (self.path, self.remote, self.class_names, self.fingerprint)

    @property
    def where(self) -> str:
        """The folder or URL of the data set, for messages."""
        return self.remote.url if self.remote else str(self.path)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def key(self, row: int) -> str:
        """The key of one row: its path relative to the folder that was packed."""
        begin, end = int(self.key_offsets[row]), int(self.key_offsets[row + 1])
        return bytes(self.key_bytes[begin:end]).decode()

    def shard_of(self, row: int) -> int:
        """Index of the shard that holds a row."""
        return int(np.searchsorted(self.starts, row, side="right")) - 1

    def key_hashes(self) -> npt.NDArray[np.uint64]:
        """(N,) uint64 XXH3-64 of every key, as in stores."""
        hashes = np.empty(len(self), np.uint64)
        for row in range(len(self)):
            begin, end = int(self.key_offsets[row]), int(self.key_offsets[row + 1])
            hashes[row] = xxhash.xxh3_64_intdigest(self.key_bytes[begin:end].tobytes())
        return hashes


def open_catalog(path: str | Path, *, cache: ShardCache | None = None) -> Catalog:
    """Opens the catalog of the data set packed at `path`, a folder or a URL, and compares its files with their
    checksums. A remote catalog is fetched into `cache` (default: `ShardCache` in `default_folder()`), its shards when
    they are read. What is damaged in the cache is fetched once more.

    **Raises:** `DistillError` if there is none, if it is of a newer version, or if its parts disagree.
    """
    if not is_url(path):
        return _open(Path(path))
    remote = Remote(str(path), cache or ShardCache(folder=default_folder()))
    folder = _fetched(remote)
    try:
        catalog = _open(folder)
    except DamagedCatalog as error:
        print(f"{error}. It is fetched once more", flush=True)
        for name in FILES:
            (folder / FOLDER / name).unlink(missing_ok=True)
        catalog = _open(_fetched(remote))
    return replace(catalog, remote=remote)


def _fetched(remote: Remote) -> Path:
    """The folder of the cache with the remote data set's catalog. Another catalog at the same URL has another folder,
    so that old files are never used for new data."""
    try:
        head = remote.read(f"{FOLDER}/{HEAD}")
        folder = remote.cache.folder / xxhash.xxh3_128(remote.url.encode() + b"\0" + head).hexdigest()
        refuse_links(folder)
        for name in FILES:
            remote.fetch(f"{FOLDER}/{name}", folder / FOLDER / name)
    except (FileNotFoundError, PermissionError) as error:
        raise DistillError(
            f"{remote.url} has no {FOLDER}/ that can be read ({error}): name the URL of a packed data set"
        ) from None
    except OSError as error:
        raise DistillError(f"cannot write the cache {remote.cache.folder} ({error}): set data.cache") from None
    write_file(folder / FOLDER / HEAD, head)
    return folder


def _open(path: Path, *, verified: bool = False) -> Catalog:
    """**Arguments:** `verified`: this process, or the one that started it, has compared the files already."""
    folder = path / FOLDER
    if not path.is_dir():
        raise DistillError(f"no data set at {path}: pack an image folder with `python -m distill.pack SRC {path}`")
    try:
        head = read_head(folder)
    except FileNotFoundError:
        raise DistillError(
            f"{path} has no {FOLDER}/{HEAD}: it is not a packed data set, or its packing did not finish. "
            "Start the same `python -m distill.pack SRC DST` again, which resumes it, or pack into a new folder"
        ) from None
    starts = np.concatenate([[0], np.cumsum([shard.num_rows for shard in head.shards], dtype=np.int64)])
    if starts[-1] != head.num_samples:
        raise DamagedCatalog(f"catalog {folder} is inconsistent: {head.num_samples} samples, shards hold {starts[-1]}")
    keys, arrays = map_arrays(folder, head)
    if not verified:
        found = ""
        if head.version == 1:
            found = _fingerprint(
                keys.data, arrays["key_offsets"], arrays["labels"], arrays["digests"], head.class_names
            )
        verify(folder, head, keys, arrays, fingerprint=found)
    return Catalog(
        path=path,
        class_names=head.class_names,
        shards=head.shards,
        starts=starts.astype(np.int64),
        fingerprint=head.fingerprint,
        key_bytes=keys,
        labels=arrays["labels"],
        offsets=arrays["offsets"],
        sizes=arrays["sizes"],
        digests=arrays["digests"],
        key_offsets=arrays["key_offsets"],
    )


def _reopened(path: Path, remote: Remote | None, class_names: tuple[str, ...], fingerprint: str) -> Catalog:
    catalog = _open(path, verified=True)
    if catalog.fingerprint != fingerprint:
        raise DistillError(f"{path} was replaced by another data set while it was in use")
    return replace(catalog, remote=remote, class_names=class_names)


def write_catalog(
    path: Path,
    *,
    keys: Keys,
    labels: npt.NDArray[np.int32],
    offsets: npt.NDArray[np.uint64],
    sizes: npt.NDArray[np.uint32],
    digests: npt.NDArray[np.uint64],
    class_names: Sequence[str],
    shards: Sequence[Shard],
    options: dict[str, Any],
) -> str:
    """Writes the catalog folder under `path`, `catalog.json` last, and returns the fingerprint.

    **Arguments:** `keys` and every array have one entry per row; `options` is a record of how the data set was packed.
    """
    folder = path / FOLDER
    folder.mkdir()
    (folder / "keys.bin").write_bytes(keys.text)
    np.save(folder / "key_offsets.npy", keys.offsets)
    arrays = {"labels": labels, "offsets": offsets, "sizes": sizes, "digests": digests}
    for name, dtype in ARRAYS.items():
        np.save(folder / f"{name}.npy", np.asarray(arrays[name]).astype(dtype))
    fingerprint = _fingerprint(keys.text, keys.offsets, labels, digests, class_names)
    values = {
        "num_samples": len(keys), "fingerprint": fingerprint, "class_names": list(class_names), "options": options,
    }  # fmt: skip
    write_file(folder / HEAD, write_head(values, shards, folder))
    return fingerprint


def _fingerprint(
    key_text: bytes | memoryview,
    key_offsets: npt.NDArray[np.uint64],
    labels: npt.NDArray[np.int32],
    digests: npt.NDArray[np.uint64],
    class_names: Sequence[str],
) -> str:
    """XXH3-128 in hexadecimal over class names, keys, labels and image digests in the order of the rows."""
    state = xxhash.xxh3_128()
    state.update(json.dumps(["distill catalog", _FINGERPRINT_VERSION, len(labels), list(class_names)]).encode())
    state.update(key_text)
    state.update(key_offsets.astype("<u8").tobytes())
    state.update(labels.astype("<i4").tobytes())
    state.update(digests.astype("<u8").tobytes())
    return state.hexdigest()
