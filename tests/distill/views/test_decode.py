"""Decoding: every kind of JPEG and PNG, damaged files, and sizes from headers."""

import io
import os
import tracemalloc
import zlib
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image

from distill.errors import DamagedImage
from distill.views import decode, image_size
from distill.views.decode import decode_rgba
from distill.views.jpeg import parse_frame, truncate_height

IMAGE = np.ascontiguousarray(skimage.data.astronaut()[:120, :170])
CJPEGS = Path(__file__).parent / "jpegs"
"""Kinds that neither Pillow nor OpenCV writes; made by libjpeg-turbo's `cjpeg -arithmetic`, `-progressive`, `-scans`,
with `-sample` as the name says, of a part of scikit-image's `coffee`."""


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rotated_by_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def transparent() -> Image.Image:
    alpha = np.random.default_rng(0).integers(0, 256, IMAGE.shape[:2], dtype=np.uint8)
    return Image.fromarray(np.dstack([IMAGE, alpha]))


RGB = Image.fromarray(IMAGE)
GREY_16 = (np.arange(120 * 170, dtype=np.uint16) * 3).reshape(120, 170)
FILES = {
    "jpeg": encode(RGB, "JPEG"),
    "jpeg 4:4:4": encode(RGB, "JPEG", subsampling=0),
    "progressive": encode(RGB, "JPEG", progressive=True),
    "grey jpeg": encode(RGB.convert("L"), "JPEG"),
    "exif": encode(RGB, "JPEG", exif=rotated_by_exif()),
    "restarts": encode(RGB, "JPEG", restart_marker_blocks=4),
    "png": encode(RGB, "PNG"),
    "grey png": encode(RGB.convert("L"), "PNG"),
    "palette": encode(RGB.quantize(64), "PNG"),
    "palette with transparency": encode(RGB.quantize(64), "PNG", transparency=3),
    "alpha": encode(transparent(), "PNG"),
    "grey and alpha": encode(RGB.convert("LA"), "PNG"),
    "one bit": encode(RGB.convert("1"), "PNG"),
}


@pytest.mark.parametrize("kind", FILES)
def test_decoding_is_pillows(kind):
    expected = np.asarray(Image.open(io.BytesIO(FILES[kind])).convert("RGB"))
    pixels = decode(FILES[kind])
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.shape == (120, 170, 3)
    assert np.abs(pixels.astype(int) - expected).max() == 0
    assert image_size(FILES[kind]) == (120, 170)


def test_cmyk_is_close_to_the_colours_it_was_made_of():
    data = encode(RGB.convert("CMYK"), "JPEG", quality=95)
    assert np.abs(decode(data).astype(int) - IMAGE).mean() < 3
    assert image_size(data) == (120, 170)


def test_sixteen_bits_keep_the_upper_eight():
    grey = encode(Image.fromarray(GREY_16), "PNG")
    assert (decode(grey) == (GREY_16 >> 8).astype(np.uint8)[..., None]).all()
    colour = cv2.imencode(".png", IMAGE[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    assert (decode(colour) == IMAGE).all()
    assert image_size(grey) == image_size(colour) == (120, 170)


def test_other_formats_are_read_by_pillow():
    data = encode(RGB, "BMP")
    assert (decode(data) == IMAGE).all()
    assert image_size(data) == (120, 170)


def test_bytes_after_the_end_do_no_harm():
    for kind in ("jpeg", "png"):
        assert (decode(FILES[kind] + b"trailing bytes") == decode(FILES[kind])).all()


@pytest.mark.parametrize("kind", ["jpeg", "progressive", "grey jpeg", "exif"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.3, 0.5, 0.9, 0.99])
def test_truncated_jpegs_are_damaged(kind, share):
    data = FILES[kind]
    with pytest.raises(DamagedImage):
        decode(data[: int(len(data) * share)])


@pytest.mark.parametrize("missing", [1, 2, 3, 40])
def test_the_last_bytes_of_a_jpeg_count(missing):
    with pytest.raises(DamagedImage):
        decode(FILES["jpeg"][:-missing])


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.99])
def test_truncated_pngs_are_damaged(share):
    with pytest.raises(DamagedImage):
        decode(FILES["png"][: int(len(FILES["png"]) * share)])


def test_a_decoder_that_fills_in_silently_is_not_believed(monkeypatch):
    """OpenCV before 5 returns an image, grey below the cut, for a JPEG that ends early."""
    monkeypatch.setattr(import_module("distill.views.decode"), "simplejpeg", None)
    monkeypatch.setattr(cv2, "imdecode", lambda data, flags: np.full((120, 170, 3), 128, dtype=np.uint8))
    assert decode(FILES["jpeg"]).shape == (120, 170, 3)
    for kind in ("jpeg", "png"):
        with pytest.raises(DamagedImage):
            decode(FILES[kind][: len(FILES[kind]) // 2])


def test_a_flipped_byte_in_a_png_is_damage():
    data = bytearray(FILES["png"])
    data[len(data) // 2] ^= 255
    with pytest.raises(DamagedImage):
        decode(bytes(data))


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"hello, I am a text file\n" * 20, b"\xff\xd8\xff", FILES["jpeg"][:20], FILES["png"][:20]]
)
def test_what_is_no_image_is_damaged(data):
    with pytest.raises(DamagedImage):
        decode(data)
    with pytest.raises(DamagedImage):
        image_size(data)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (33, 65)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_sizes_from_headers(shape, kind):
    data = encode(Image.fromarray(np.zeros((*shape, 3), dtype=np.uint8)), kind)
    assert image_size(data) == decode(data).shape[:2] == shape


def test_size_is_found_behind_other_segments_and_fill_bytes():
    jpeg = FILES["jpeg"]
    thumbnail = b"\xff\xe1" + (2 + len(jpeg)).to_bytes(2) + jpeg if len(jpeg) < 65000 else b""
    comment = b"\xff\xff\xff\xfe\x00\x04hi"
    data = jpeg[:2] + thumbnail + comment + jpeg[2:]
    assert image_size(data) == (120, 170)
    assert (decode(data) == decode(jpeg)).all()


@pytest.mark.parametrize("kind", [kind for kind in FILES if FILES[kind].startswith(b"\xff\xd8")])
def test_decoding_the_upper_rows_gives_those_of_the_whole(kind):
    data, whole = FILES[kind], decode(FILES[kind])
    for rows in range(1, 121):
        assert (decode(data, rows=rows)[:rows] == whole[:rows]).all(), rows


def test_simplejpeg_decodes_as_opencv_does(monkeypatch):
    pytest.importorskip("simplejpeg")
    files = [encode(RGB, "JPEG", quality=quality, subsampling=way) for quality in (30, 75, 95) for way in (0, 1, 2)]
    files += [FILES[kind] for kind in ("progressive", "grey jpeg", "exif", "restarts")]
    files.append(encode(RGB.convert("CMYK"), "JPEG"))
    files.append(FILES["jpeg"][:3000] + b"\x12" * 40 + FILES["jpeg"][3040:])  # damaged in the middle
    pixels = [decode(data) for data in files]
    monkeypatch.setattr(import_module("distill.views.decode"), "simplejpeg", None)
    for data, found in zip(files, pixels, strict=True):
        assert (decode(data) == found).all()


def test_a_header_that_promises_fewer_rows():
    for kind, unit in (("jpeg", 16), ("jpeg 4:4:4", 8), ("progressive", 16), ("grey jpeg", 8)):
        data = FILES[kind]
        frame = parse_frame(data)
        assert frame is not None
        assert (frame.height, frame.width) == (120, 170)
        below = (3 if kind == "progressive" else 1) * unit
        for rows in (1, 8, 9, 60):
            shorter = parse_frame(bytes(truncate_height(data, frame, rows=rows)))
            assert shorter is not None
            assert (shorter.height, shorter.width) == (-(-rows // unit) * unit + below, 170)
        assert truncate_height(data, frame, rows=115) is data
        assert len(truncate_height(data, frame, rows=30)) == len(data)


def test_no_file_starts_a_program(tmp_path, monkeypatch):
    """Pillow gives EPS to Ghostscript, if it may."""
    mark = tmp_path / "started"
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {mark}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for data in (encode(RGB, "EPS"), encode(RGB, "PDF"), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n" * 9):
        with pytest.raises(DamagedImage):
            decode(data)
        with pytest.raises(DamagedImage):
            decode_rgba(data)
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["TGA", "PCX", "ICO", "DDS", "SGI", "IM", "JPEG2000", "ICNS", "XBM"])
def test_formats_that_are_not_named_are_refused(kind):
    with pytest.raises(DamagedImage, match="not a readable image"):
        decode(encode(RGB.convert("1") if kind == "XBM" else RGB, kind))


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)


def test_sizes_are_held_against_a_bound_before_decoding():
    header = (30_000).to_bytes(4) * 2 + b"\x08\x02\x00\x00\x00"
    pixels = zlib.compress(bytes(10**7), 9)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    frame = parse_frame(FILES["jpeg"])
    assert frame is not None
    jpeg = bytearray(FILES["jpeg"])
    jpeg[frame.offset + 5 : frame.offset + 9] = (65_500).to_bytes(2) * 2
    bmp = bytearray(encode(RGB, "BMP"))
    bmp[18:26] = (40_000).to_bytes(4, "little") * 2
    tracemalloc.start()
    for data in (png, bytes(jpeg), bytes(bmp)):
        with pytest.raises(DamagedImage, match=r"pixels|bomb"):
            decode(data)
    assert tracemalloc.get_traced_memory()[1] < 10**8
    tracemalloc.stop()


def parts_of_progressive(data: bytes) -> list[bytes]:
    """A progressive file without its last scan, its last two and so on, each with an end marker."""
    starts, at = [], 2
    while at + 4 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF or marker in (0x00, *range(0xD0, 0xDA)):
            at += 1  # Coded data, or a marker without a length.
            continue
        if marker == 0xDA:
            starts.append(at)
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return [data[:start] + b"\xff\xd9" for start in starts[1:]]


def kinds_of_jpegs() -> dict[str, bytes]:
    image = np.ascontiguousarray(skimage.data.coffee()[100:177, 60:121])
    kinds = {path.stem: path.read_bytes() for path in sorted(CJPEGS.glob("*.jpg"))}
    assert len(kinds) == 9
    for sampling in (411, 420, 422, 440, 444):
        factors = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{sampling}")]
        for name, options in {
            "baseline": [],
            "restarts": [cv2.IMWRITE_JPEG_RST_INTERVAL, 1],
            "progressive": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
        }.items():
            data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60, *factors, *options])[1].tobytes()
            kinds[f"{name} {sampling}"] = data
            if name == "progressive":
                kinds |= {f"{name} {sampling}, {n} cut": part for n, part in enumerate(parts_of_progressive(data))}
    return kinds


@pytest.mark.parametrize("library", ["simplejpeg", "OpenCV"])
def test_a_part_of_a_jpeg_equals_that_of_the_whole(library, monkeypatch):
    """Whichever library decodes, however much of the file, and as Pillow does."""
    if library == "OpenCV":
        monkeypatch.setattr(import_module("distill.views.decode"), "simplejpeg", None)
    kinds = kinds_of_jpegs()
    assert len(kinds) > 50
    for kind, data in kinds.items():
        with Image.open(io.BytesIO(data)) as image:
            expected = np.asarray(image.convert("RGB"))
        assert (decode(data) == expected).all(), kind
        for rows in range(1, len(expected) + 1):
            assert (decode(data, rows=rows)[:rows] == expected[:rows]).all(), (kind, rows)
