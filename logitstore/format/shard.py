"""One file of a sharded array: rows to bytes and back.

The bytes are a zarr 3 `sharding_indexed` shard with its index at the end, put together here rather than by a
zarr library for three reasons: a library reads an absent chunk as zeros, where a store must say that it is
absent; a shard begins with a header that no zarr index points to, which names its store, array, epoch, block and write;
and a window of rows costs a few system calls and no event loop or thread.
"""

import secrets
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import Blosc, blosc
from numpy.typing import NDArray

from logitstore.format.blosc_frame import require_frame
from logitstore.format.identity import DIGEST_BYTES, Identity
from logitstore.format.layout import ArrayLayout

MAGIC = {1: b"LOGITSH1", 2: b"LOGITSH2"}
_FIELDS = {1: struct.Struct("<8sIIIQ"), 2: struct.Struct(f"<8sIIIQQ{DIGEST_BYTES}s")}
"""By format version: magic, array number, epoch, block, write id; store id and digest of the spec."""
_CRC = struct.Struct("<I")
HEADER_BYTES = {version: fields.size + _CRC.size for version, fields in _FIELDS.items()}
_ABSENT = 2**64 - 1
"""Offset and length of a chunk that a shard does not hold, as zarr's index has them."""
_SHUFFLES = {"noshuffle": Blosc.NOSHUFFLE, "shuffle": Blosc.SHUFFLE, "bitshuffle": Blosc.BITSHUFFLE}
# Blosc's own threads do not survive a fork; zarr turns them off for the same reason.
blosc.use_threads = False

Array = NDArray[Any]


def new_write_id() -> int:
    """The identity of one write: random 64 bits, not 0."""
    return secrets.randbits(64) or 1


class BadBytes(Exception):
    """Bytes contradict the format; the caller knows the array, epoch and block and tells the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Which shard a file is, and which write made it."""

    array_number: int
    """`ArrayLayout.number`."""
    epoch: int
    block: int
    write_id: int
    """Random 64 bits, not 0, the same in all files of one written block, its marker included."""
    identity: Identity
    """Of the store."""

    def encode(self) -> bytes:
        """The bytes at the start of a file, with their checksum."""
        identity = self.identity
        fields = [MAGIC[identity.version], self.array_number, self.epoch, self.block, self.write_id]
        if identity.version > 1:
            fields += [identity.store_id, identity.spec_digest]
        return _with_crc(_FIELDS[identity.version].pack(*fields))


def encode_shard(values: Array, *, layout: ArrayLayout, header: Header) -> bytes:
    """Rows of one shard to the bytes of its file.

    **Arguments** values: (n,) or (n, k) of the layout's dtype, 1 <= n <= shard_rows; rows past n are stored
    as 0 up to the end of their inner chunk, and not at all beyond it.
    """
    assert values.dtype == layout.dtype, (values.dtype, layout.dtype)
    rows, slots = layout.inner_rows, layout.shard_rows // layout.inner_rows
    index = np.full((slots, 2), _ABSENT, dtype="<u8")
    parts = [header.encode()]
    offset = len(parts[0])
    for slot in range(-(-len(values) // rows)):
        chunk = values[slot * rows : (slot + 1) * rows]
        if len(chunk) < rows:
            chunk = np.concatenate([chunk, np.zeros((rows - len(chunk), *chunk.shape[1:]), chunk.dtype)])
        parts.append(encode_chunk(chunk, layout=layout))
        index[slot] = offset, len(parts[-1])
        offset += len(parts[-1])
    return b"".join([*parts, _with_crc(index.tobytes())])


def encode_chunk(values: Array, *, layout: ArrayLayout) -> bytes:
    """One inner chunk to compressed, checksummed bytes."""
    raw = np.ascontiguousarray(values.T if layout.transposed else values)
    if layout.compression is None:
        return _with_crc(raw.tobytes())
    packed = Blosc(
        cname="zstd",
        clevel=layout.compression.level,
        shuffle=_SHUFFLES[layout.compression.shuffle],
        blocksize=0,
    ).encode(raw)
    return _with_crc(bytes(packed))


def decode_chunk(data: bytes, *, layout: ArrayLayout, rows: int) -> Array:
    """Inverse of `encode_chunk`: (rows,) or (rows, k) of the layout's dtype. Raises `BadBytes`."""
    body = _checked(data)
    shape = (rows, *layout.row_shape)
    values = np.zeros(shape[::-1] if layout.transposed else shape, dtype=layout.dtype)
    if layout.compression is None:
        if len(body) != values.nbytes:
            raise BadBytes(f"{len(body)} bytes where {values.nbytes} belong")
        values = np.frombuffer(body, dtype=layout.dtype).reshape(values.shape)
    else:
        try:
            require_frame(body, num_bytes=values.nbytes, typesize=layout.compression.typesize)
            Blosc.decode(Blosc(), body, values)
        except (RuntimeError, ValueError) as error:
            raise BadBytes(f"cannot be decompressed: {error}") from None
    return values.T if layout.transposed else values


def decode_shard(
    read: Callable[[int, int], bytes],
    size: int,
    *,
    layout: ArrayLayout,
    header: Header,
    rows: int,
    slots: Iterable[int],
) -> tuple[int, dict[int, Array]]:
    """Some inner chunks of one shard.

    **Arguments**

    - `read`: (offset, length) -> up to so many bytes
    - `size`: bytes of the file
    - `header`: what the file's header must say (its `write_id` is not compared)
    - `rows`: how many rows the shard holds
    - `slots`: which inner chunks

    **Returns** the write id of the file's header, and the chunks by slot, cut to the rows that exist.

    Raises `BadBytes`.
    """
    index_size = 16 * (layout.shard_rows // layout.inner_rows) + _CRC.size
    header_size = HEADER_BYTES[header.identity.version]
    if size < header_size + index_size:
        raise BadBytes(f"the file has only {size} bytes")
    write_id = _check_header(read(0, header_size), header)
    index = np.frombuffer(_checked(read(size - index_size, index_size)), dtype="<u8").reshape(-1, 2)
    used = -(-rows // layout.inner_rows)
    _check_index(index, used=used, start=header_size, end=size - index_size)
    chunks = {}
    for slot in slots:
        offset, length = (int(x) for x in index[slot])
        chunk = decode_chunk(read(offset, length), layout=layout, rows=layout.inner_rows)
        chunks[slot] = chunk[: rows - slot * layout.inner_rows]
    return write_id, chunks


def readdressed(data: bytes, *, layout: ArrayLayout, header: Header) -> bytes:
    """A verified file with another header: the same chunks in a store of another identity.

    **Arguments** header: the new one; its version may be another than the file's.
    """
    old = next(version for version, magic in MAGIC.items() if data.startswith(magic))
    start = header.encode()
    shift = len(start) - HEADER_BYTES[old]
    index_size = 16 * (layout.shard_rows // layout.inner_rows) + _CRC.size
    index = np.frombuffer(_checked(data[-index_size:]), dtype="<u8").reshape(-1, 2).copy()
    present = index[:, 0] != _ABSENT
    index[present, 0] += np.uint64(shift % 2**64)
    return b"".join([start, data[HEADER_BYTES[old] : -index_size], _with_crc(index.tobytes())])


def _check_header(data: bytes, expected: Header) -> int:
    """The write id."""
    identity = expected.identity
    if data[: len(MAGIC[1])] != MAGIC[identity.version]:
        raise BadBytes(f"the file does not begin as a shard of format version {identity.version}")
    _, number, epoch, block, write_id, *of_store = _FIELDS[identity.version].unpack(_checked(data))
    if of_store and of_store[0] != identity.store_id:
        raise BadBytes(
            f"the file is of another store, {of_store[0]:016x}, not of {identity.store_id:016x} (`merge` joins stores)"
        )
    if of_store and of_store[1] != identity.spec_digest:
        raise BadBytes("the file was written under another spec than the store has now")
    if (number, epoch, block) != (expected.array_number, expected.epoch, expected.block):
        raise BadBytes(
            f"the file was written as array {number}, epoch {epoch}, block {block}, "
            f"but lies at array {expected.array_number}, epoch {expected.epoch}, block {expected.block}"
        )
    return int(write_id)


def _check_index(index: Array, *, used: int, start: int, end: int) -> None:
    """The chunks must fill the file from header to index without a gap, so that every byte is checksummed."""
    if not (index[used:] == _ABSENT).all():
        raise BadBytes("the index names chunks past the last row")
    ends = start + np.cumsum(index[:used, 1])
    starts = ends - index[:used, 1]
    if not (index[:used, 0] == starts).all() or int(ends[-1]) != end:
        raise BadBytes("the index does not match the file's length")


def _with_crc(body: bytes) -> bytes:
    return body + _CRC.pack(google_crc32c.value(body))


def _checked(data: bytes) -> bytes:
    """The bytes without their checksum."""
    body, crc = data[: -_CRC.size], data[-_CRC.size :]
    if len(crc) != _CRC.size or _CRC.unpack(crc)[0] != google_crc32c.value(body):
        raise BadBytes("the checksum does not match")
    return body
