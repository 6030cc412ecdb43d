"""The header of a Blosc frame, checked before the frame is decoded.

A frame states its own sizes, and the decoder believes them: one that states fewer bytes than are expected leaves the
rest of the output as it was, one that states more bytes than there are is read past its end. So all that a frame says
must agree with what the array's layout and the file say. Layout of a frame of c-blosc 1: format version, version of
the compressor's format, flags, bytes per element; then uncompressed bytes, bytes of a block and bytes of the frame,
each uint32; then, unless the data was merely copied, the offset of each block in the frame, int32.
"""

import struct

_HEADER = struct.Struct("<BBBBIII")
_VERSION = 2
_COPIED = 0x02
_COMPRESSOR_SHIFT, _ZSTD = 5, 4
_OFFSET = struct.Struct("<i")


def require_frame(frame: bytes, *, num_bytes: int, typesize: int) -> None:
    """Raises `ValueError` unless a frame says what a correct writer's would.

    **Arguments** num_bytes: of the decoded data; typesize: bytes of one shuffled element.
    """
    if len(frame) < _HEADER.size:
        raise ValueError(f"a frame of {len(frame)} bytes")
    version, _, flags, element, uncompressed, block, compressed = _HEADER.unpack_from(frame)
    if (version, element) != (_VERSION, typesize):
        raise ValueError(f"frame version {version} with elements of {element} bytes")
    if (uncompressed, compressed) != (num_bytes, len(frame)):
        raise ValueError(
            f"the frame says that its {compressed} bytes hold {uncompressed}, where {len(frame)} hold {num_bytes}"
        )
    if flags & _COPIED:
        if compressed != uncompressed + _HEADER.size:
            raise ValueError(f"{compressed} bytes of copied data where {uncompressed} belong")
        return
    if flags >> _COMPRESSOR_SHIFT != _ZSTD:
        raise ValueError(f"compressor {flags >> _COMPRESSOR_SHIFT} is not zstd")
    if not 0 < block <= max(uncompressed, 1):
        raise ValueError(f"blocks of {block} bytes")
    _require_blocks(frame, num_blocks=-(-uncompressed // block))


def _require_blocks(frame: bytes, *, num_blocks: int) -> None:
    """Every block must lie in the frame. (zstd's are in one piece.)"""
    first = _HEADER.size + num_blocks * _OFFSET.size
    if first > len(frame):
        raise ValueError(f"{num_blocks} blocks in {len(frame)} bytes")
    for number in range(num_blocks):
        (at,) = _OFFSET.unpack_from(frame, _HEADER.size + number * _OFFSET.size)
        if not first <= at <= len(frame) - _OFFSET.size:
            raise ValueError(f"block {number} begins at byte {at} of {len(frame)}")
        (length,) = _OFFSET.unpack_from(frame, at)
        if not 0 < length <= len(frame) - at - _OFFSET.size:
            raise ValueError(f"block {number} has {length} bytes")
