"""Where everything lies on disk: arrays, shapes, codecs, file names, attributes. Twin of `docs/format.md`.

This module only describes; `shard` turns arrays into bytes, `files` moves bytes. The documents made here are
plain zarr format 3 metadata, so any zarr 3 reader opens the arrays.
"""

import json
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np

from logitstore.spec import INNER_ROWS, StoreSpec

FORMAT_NAME = "logitstore"
FORMAT_VERSION = 1
SAMPLE_SHARD_ROWS = 65_536
"""Rows of one shard of the arrays that do not depend on the epoch."""
LOCK_KEY = "proofs/writer.lock"
"""Lock file of the writing run. Inside an array's folder, where no zarr reader looks for members."""

ROOT_DOCUMENT = "zarr.json"
"""The file that makes a folder a store; written last."""

_DIMENSION_NAMES = {"E": "epoch", "N": "row", "k": "kept", "B": "block"}


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
    """Letters of the dimensions: E, N, k, B."""
    shape: tuple[int, ...]
    shard_shape: tuple[int, ...]
    """One file holds this much."""
    inner_shape: tuple[int, ...]
    """One checksummed (and, but in markers, compressed) piece of a file holds this much."""
    dtype: np.dtype[Any]
    compression: Compression | None
    transposed: bool = False
    """Whether an inner chunk lies on disk kept class by kept class, (k, 1, rows), instead of row by row."""

    @property
    def row_axis(self) -> int:
        """Which axis counts rows (or blocks)."""
        return len(self.dims) - 1 if "k" not in self.dims else len(self.dims) - 2

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
        place = {"E": epoch, "N": block, "B": block, "k": 0}
        return "/".join([self.path, "c", *(str(place[d]) for d in self.dims)])

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
"""The arrays of which one block is four files, in the order of writing."""
SAMPLE_ARRAYS = ("samples/keys", "samples/labels")
MARKERS = "proofs"
BLOCK_FILES = (*BLOCK_ARRAYS, MARKERS)
"""All files of a block, the one that commits it last."""


def arrays(spec: StoreSpec) -> dict[str, ArrayLayout]:
    """Every array of a store, by path."""
    code = np.dtype("u1") if spec.encoding == "log8" else np.dtype("<f2")
    index = np.dtype("<u2") if spec.num_classes <= 65_535 else np.dtype("<u4")
    plain = Compression(shuffle="shuffle", typesize=8)
    narrow = Compression(shuffle="bitshuffle", typesize=index.itemsize)
    values = Compression(shuffle="bitshuffle", typesize=code.itemsize)
    table = [
        _array(spec, "seeds", 1, "EN", np.dtype("<u8"), plain),
        _array(spec, "indices", 2, "ENk", index, narrow),
        _array(spec, "logprobs", 3, "ENk", code, values),
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
    return {array.path: array for array in table}


def _array(
    spec: StoreSpec, path: str, number: int, dims: str, dtype: np.dtype[Any], compression: Compression
) -> ArrayLayout:
    sizes = {"E": spec.num_epochs, "N": spec.num_samples, "k": spec.topk}
    rows, inner = (spec.rows_per_block, spec.inner_rows) if "E" in dims else (SAMPLE_SHARD_ROWS, INNER_ROWS)
    return ArrayLayout(
        path=path,
        number=number,
        dims=tuple(dims),
        shape=tuple(sizes[d] for d in dims),
        shard_shape=tuple({"E": 1, "N": rows, "k": spec.topk}[d] for d in dims),
        inner_shape=tuple({"E": 1, "N": inner, "k": spec.topk}[d] for d in dims),
        dtype=dtype,
        compression=compression,
        transposed=path == "logprobs",
    )


def group_document(attributes: dict[str, Any]) -> dict[str, Any]:
    """A group's `zarr.json`."""
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def spec_checksum(spec: dict[str, Any]) -> str:
    """crc32c, 8 hex digits, of a spec's JSON text with sorted keys, no spaces and ASCII escapes."""
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return f"{google_crc32c.value(text.encode()):08x}"


def documents(spec: StoreSpec) -> dict[str, dict[str, Any]]:
    """All metadata files of a store by key; the root's, which makes it a store, comes last."""
    root = {
        "format": FORMAT_NAME,
        "format_version": FORMAT_VERSION,
        "spec_crc32c": spec_checksum(spec.to_json()),
        "spec": spec.to_json(),
    }
    nodes = {f"{path}/zarr.json": array.document() for path, array in arrays(spec).items()}
    return {**nodes, "samples/zarr.json": group_document({}), ROOT_DOCUMENT: group_document(root)}
