"""The header of a JPEG: the image size, and a copy of the file whose header states fewer rows.

A decoder works from the top row down, so a file whose header states fewer rows is decoded that far and no further, and
at the cost of those rows. The copy has some rows of blocks more than needed: smooth upsampling of chroma reads one, and
of a progressive file whose last scans are missing libjpeg smooths the blocks first, by the two rows of blocks below.
"""

from __future__ import annotations

from dataclasses import dataclass

# Start-of-frame markers, which have the size; C4, C8 and CC among them mean other things.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))
_TRUNCATABLE = frozenset((0xC0, 0xC1, 0xC2))
"""Baseline, extended and progressive, all Huffman-coded: decoded row by row."""
_PROGRESSIVE = 0xC2
_BLOCK = 8


@dataclass(frozen=True, slots=True)
class Frame:
    """The start-of-frame segment: ITU-T T.81, B.2.2."""

    offset: int
    """Of the marker, in bytes."""
    marker: int
    """The marker's second byte: 0xC0 baseline, 0xC1 extended, 0xC2 progressive, ..."""
    height: int
    width: int
    max_vertical_sampling: int
    """Largest vertical sampling factor of the components; 0 where the segment is cut short."""


def parse_frame(data: bytes) -> Frame | None:
    """The frame of a JPEG; None where none is found. Reads only the segments before it."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # Fill byte.
            at += 1
        elif marker in _FRAMES:
            components = data[at + 9] if at + 9 < len(data) else 0
            sampling = data[at + 11 : at + 11 + 3 * components : 3] if len(data) >= at + 10 + 3 * components else b""
            return Frame(
                offset=at,
                marker=marker,
                height=int.from_bytes(data[at + 5 : at + 7]),
                width=int.from_bytes(data[at + 7 : at + 9]),
                max_vertical_sampling=max((factors & 15 for factors in sampling), default=0),
            )
        elif marker in _WITHOUT_LENGTH:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return None


def truncate_height(data: bytes, frame: Frame, *, rows: int) -> bytes | bytearray:
    """The file with a header that states `rows` rows and those below that their pixels depend on; `data` if it has no
    more."""
    if frame.marker not in _TRUNCATABLE or not frame.max_vertical_sampling:
        return data
    unit = _BLOCK * frame.max_vertical_sampling
    height = -(-rows // unit) * unit + unit * (3 if frame.marker == _PROGRESSIVE else 1)
    if height >= frame.height:
        return data
    shorter = bytearray(data)
    shorter[frame.offset + 5 : frame.offset + 7] = height.to_bytes(2)
    return shorter
