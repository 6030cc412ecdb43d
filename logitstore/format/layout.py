"""Where everything lies on disk: arrays, shapes, codecs, file names, attributes. Twin of `docs/format.md`.

This module only describes; `shard` turns arrays into bytes, `storage` moves bytes. The documents made here are
plain zarr format 3 metadata, so any zarr 3 reader opens the arrays.
"""

import json
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np

from logitstore.format.identity import VERSION_1, Identity
from logitstore.spec import StoreSpec

FORMAT_NAME = "logitstore"
FORMAT_VERSION = 2
SAMPLE_SHARD_ROWS = 65_536
SAMPLE_INNER_ROWS = 1024
"""Rows of one shard, and of one chunk, of `samples/keys` and `samples/labels`."""
FEW_CLASSES = 32
"""Up to so many classes per view, class numbers lie row by row and byte-shuffled: this compresses skewed classes
better."""
_TAIL_INNER_ROWS = 16
LOCK_KEY = "proofs/writer.lock"
"""Lock file of the writing run. Inside an array's folder, where no zarr reader looks for members."""

DROPPED = "dropped"
"""Folder of what repairs took out; no part of the store."""
ROOT_DOCUMENT = "zarr.json"
"""The file that makes a folder a store; written last."""

# "kept" is part of the format; elsewhere these are the selected classes.
_DIMENSION_NAMES = {"E": "epoch", "N": "row", "k": "kept", "B": "block", "G": "group", "C": "class"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """A blosc frame: zstd inside, bits or bytes shuffled first."""

    shuffle: str
    """`noshuffle`, `shuffle` or `bitshuffle`."""
    typesize: int
    """Bytes of one shuffled element."""
    level: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayLayout:
    """One zarr array of the store."""

    path: str
    number: int
    """Identity in shard headers."""
    dims: tuple[str, ...]
    """Letters of the dimensions: E, N, k, B, G, C."""
    shape: tuple[int, ...]
    shard_shape: tuple[int, ...]
    """One file holds this much."""
    inner_shape: tuple[int, ...]
    """One checksummed (and, but in markers, compressed) piece of a file holds this much."""
    dtype: np.dtype[Any]
    compression: Compression | None
    transposed: bool = False
    """Whether an inner chunk lies on disk class by class, (k, 1, rows), instead of row by row."""

    @property
    def row_axis(self) -> int:
        """Which axis counts rows (or blocks, groups, classes): the first that is not the epoch's."""
        return int(self.dims[0] == "E")

    @property
    def row_shape(self) -> tuple[int, ...]:
        """What one row holds: () or (k,)."""
        return self.shape[self.row_axis + 1 :]

    @property
    def inner_rows(self) -> int:
        """Rows of an inner chunk."""
        return self.inner_shape[self.row_axis]

    @property
    def shard_rows(self) -> int:
        """Rows of a file."""
        return self.shard_shape[self.row_axis]

    def key(self, epoch: int, block: int) -> str:
        """File of one shard relative to the store, e.g. `indices/c/0/12/0`; epoch 0 where there is none."""
        place = [epoch] * self.row_axis + [block] + [0] * (len(self.dims) - self.row_axis - 1)
        return "/".join([self.path, "c", *(str(n) for n in place)])

    def codecs(self) -> list[dict[str, Any]]:
        """Codecs of an inner chunk, zarr metadata."""
        chain: list[dict[str, Any]] = []
        if self.transposed:
            chain.append({"name": "transpose", "configuration": {"order": [2, 0, 1]}})
        chain.append(_BYTES if self.dtype.itemsize > 1 else {"name": "bytes"})
        if self.compression is not None:
            configuration = {
                "cname": "zstd",
                "clevel": self.compression.level,
                "shuffle": self.compression.shuffle,
                "typesize": self.compression.typesize,
                "blocksize": 0,
            }
            chain.append({"name": "blosc", "configuration": configuration})
        return [*chain, {"name": "crc32c"}]

    def document(self) -> dict[str, Any]:
        """The array's `zarr.json`."""
        sharding = {
            "chunk_shape": list(self.inner_shape),
            "codecs": self.codecs(),
            "index_codecs": [_BYTES, {"name": "crc32c"}],
            "index_location": "end",
        }
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": self.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(self.shard_shape)}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0.0 if self.dtype.kind == "f" else 0,
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
            "attributes": {},
            "dimension_names": [_DIMENSION_NAMES[d] for d in self.dims],
            "storage_transformers": [],
        }


_BYTES: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}

BLOCK_ARRAYS = ("seeds", "indices", "logprobs", "tail")
"""The arrays with one file per block, in the order of writing."""
SAMPLE_ARRAYS = ("samples/keys", "samples/labels")
TAIL_ARRAYS = ("tail_model/groups", "tail_model/logprobs")
MARKERS = "proofs"
BLOCK_FILES = (*BLOCK_ARRAYS, MARKERS)
"""All files of a block, the one that commits it last."""


def static_arrays(spec: StoreSpec) -> tuple[str, ...]:
    """Paths of the arrays that are written at creation and never again."""
    return (*SAMPLE_ARRAYS, *TAIL_ARRAYS) if spec.tail_groups else SAMPLE_ARRAYS


def arrays(spec: StoreSpec) -> dict[str, ArrayLayout]:
    """Every array of a store, by path."""
    code = np.dtype("<f2") if spec.encoding == "float16" else np.dtype("u1")
    index = np.dtype("<u2") if spec.num_classes <= 65_535 else np.dtype("<u4")
    plain = Compression(shuffle="shuffle", typesize=8)
    few = spec.topk <= FEW_CLASSES
    narrow = Compression(shuffle="shuffle" if few else "bitshuffle", typesize=index.itemsize, level=7)
    values = Compression(shuffle="bitshuffle", typesize=code.itemsize)
    table = [
        _array(spec, "seeds", 1, "EN", np.dtype("<u8"), plain),
        _array(spec, "indices", 2, "ENk", index, narrow, transposed=not few),
        _array(spec, "logprobs", 3, "ENk", code, values, transposed=True),
        _array(spec, "tail", 4, "EN", code, values),
        _array(spec, "samples/keys", 5, "N", np.dtype("<u8"), plain),
        _array(spec, "samples/labels", 6, "N", np.dtype("<i4"), Compression(shuffle="shuffle", typesize=4)),
        ArrayLayout(
            path=MARKERS,
            number=7,
            dims=("E", "B"),
            shape=(spec.num_epochs, spec.num_blocks),
            shard_shape=(1, 1),
            inner_shape=(1, 1),
            dtype=np.dtype("<u8"),
            compression=None,
        ),
    ]
    if spec.tail_groups:
        half = np.dtype("<f2")
        table += [
            _array(spec, TAIL_ARRAYS[0], 8, "C", np.dtype("<u2"), Compression(shuffle="shuffle", typesize=2)),
            _array(spec, TAIL_ARRAYS[1], 9, "GC", half, Compression(shuffle="bitshuffle", typesize=2)),
        ]
    return {array.path: array for array in table}


def _array(
    spec: StoreSpec,
    path: str,
    number: int,
    dims: str,
    dtype: np.dtype[Any],
    compression: Compression,
    *,
    transposed: bool = False,
) -> ArrayLayout:
    sizes = {
        "E": spec.num_epochs, "N": spec.num_samples, "k": spec.topk, "G": spec.tail_groups, "C": spec.num_classes,
    }  # fmt: skip
    shape = tuple(sizes[d] for d in dims)
    axis = int(dims[0] == "E")
    if axis:
        rows, inner = spec.rows_per_block, spec.inner_rows
    elif dims == "N":
        rows, inner = SAMPLE_SHARD_ROWS, SAMPLE_INNER_ROWS
    else:  # The tail model: one file per array.
        inner = SAMPLE_INNER_ROWS if dims == "C" else _TAIL_INNER_ROWS
        rows = -(-shape[0] // inner) * inner
    before, after = (1,) * axis, shape[axis + 1 :]
    return ArrayLayout(
        path=path,
        number=number,
        dims=tuple(dims),
        shape=shape,
        shard_shape=(*before, rows, *after),
        inner_shape=(*before, inner, *after),
        dtype=dtype,
        compression=compression,
        transposed=transposed,
    )


def group_document(attributes: dict[str, Any]) -> dict[str, Any]:
    """A group's `zarr.json`."""
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def json_checksum(value: dict[str, Any]) -> str:
    """crc32c, 8 hex digits, of a value's JSON text with sorted keys, no spaces and ASCII escapes."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return f"{google_crc32c.value(text.encode()):08x}"


def root_attributes(spec: dict[str, Any], *, version: int, store_id: int) -> dict[str, Any]:
    """The root's attributes. In version 2 the checksum covers all others, in version 1 the spec alone."""
    attributes = {"format": FORMAT_NAME, "format_version": version}
    if version == VERSION_1.version:
        return {**attributes, "spec_crc32c": json_checksum(spec), "spec": spec}
    attributes |= {"store_id": f"{store_id:016x}", "spec": spec}
    return {**attributes, "crc32c": json_checksum(attributes)}


def documents(spec: StoreSpec, identity: Identity) -> dict[str, dict[str, Any]]:
    """All metadata files of a store by key; the root's, which makes it a store, comes last."""
    root = root_attributes(spec.to_json(), version=identity.version, store_id=identity.store_id)
    nodes = {f"{path}/zarr.json": array.document() for path, array in arrays(spec).items()}
    groups = sorted({name.partition("/")[0] for name in static_arrays(spec)})
    return {
        **nodes,
        **{f"{name}/zarr.json": group_document({}) for name in groups},
        ROOT_DOCUMENT: group_document(root),
    }
