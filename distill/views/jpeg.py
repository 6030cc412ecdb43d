"""The marker segments in front of a JPEG's data: its size, and a copy that claims to be less high.

A decoder works from the top row down, so a file whose header promises fewer rows is decoded that far and no further,
at the cost of those rows. One row of blocks more than asked for is kept: the smooth upsampling of colour looks at it.
"""

# Start-of-frame markers carry the size; C4, C8 and CC in their midst mean other things.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))
_ROW_BY_ROW = frozenset((0xC0, 0xC1, 0xC2))
"""Baseline, extended and progressive, all Huffman-coded."""
_BLOCK = 8


def jpeg_size(data: bytes) -> tuple[int, int]:
    """(height, width) from the start-of-frame segment, (0, 0) when there is none to be found."""
    at = _frame(data)
    if at is None:
        return 0, 0
    return int.from_bytes(data[at + 5 : at + 7]), int.from_bytes(data[at + 7 : at + 9])


def less_high(data: bytes, *, rows: int) -> bytes | bytearray:
    """The file with a header that promises `rows` rows and up to two rows of blocks more; `data` if it has no more."""
    at = _frame(data)
    if at is None or data[at + 1] not in _ROW_BY_ROW or len(data) < at + 10 + 3 * data[at + 9]:
        return data
    most = max((data[at + 11 + 3 * number] & 15 for number in range(data[at + 9])), default=1)
    unit = _BLOCK * max(1, most)
    promised = -(-rows // unit) * unit + unit
    if promised >= int.from_bytes(data[at + 5 : at + 7]):
        return data
    shorter = bytearray(data)
    shorter[at + 5 : at + 7] = promised.to_bytes(2)
    return shorter


def _frame(data: bytes) -> int | None:
    """Where the start-of-frame marker stands."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _FRAMES:
            return at
        elif marker in _WITHOUT_LENGTH:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return None
