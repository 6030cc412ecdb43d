"""Digests: known answers, sensitivity, never zero."""

import numpy as np
import pytest
import xxhash

from distill.views import block_proof, pixel_digest, software
from distill.views.checks import VERSION


def test_known_answers():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    shape = b"\x02\0\0\0\x04\0\0\0\x03\0\0\0"
    assert pixel_digest(pixels) == xxhash.xxh3_64_intdigest(shape + bytes(range(24))) == 4831462300238428849
    assert block_proof([1, 2, 2**64 - 1]) == 16889976113848226612


def test_every_byte_and_the_shape_count():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    changed = [pixels.copy() for _ in range(24)]
    for place, other in enumerate(changed):
        other.ravel()[place] ^= 1
    digests = {pixel_digest(other) for other in [pixels, pixels.reshape(4, 2, 3), *changed]}
    assert len(digests) == 26


def test_memory_layout_does_not_count():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    wide = np.zeros((2, 8, 3), dtype=np.uint8)
    wide[:, ::2] = pixels
    assert pixel_digest(wide[:, ::2]) == pixel_digest(pixels)


def test_order_and_number_of_rows_count():
    assert len({block_proof(rows) for rows in ([1, 2], [2, 1], [1], [1, 2, 2])}) == 4


def test_digests_are_never_zero(monkeypatch):
    class Zero:
        def __init__(self, data: bytes) -> None: ...
        def update(self, data: bytes) -> None: ...
        def intdigest(self) -> int:
            return 0

    monkeypatch.setattr(xxhash, "xxh3_64", Zero)
    monkeypatch.setattr(xxhash, "xxh3_64_intdigest", lambda data: 0)
    assert pixel_digest(np.zeros((1, 1, 3), dtype=np.uint8)) == 1
    assert block_proof([5]) == 1


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="uint8"):
        pixel_digest(np.zeros((1, 1, 3)))
    with pytest.raises(ValueError, match="at least one"):
        block_proof([])


def test_software_names_what_decides_pixels():
    versions = software()
    assert {"opencv", "libjpeg", "torch", "pillow", "numpy", "xxhash", "machine"} <= set(versions)
    assert versions["views"] == str(VERSION)
    assert all(isinstance(version, str) and version for version in versions.values())
