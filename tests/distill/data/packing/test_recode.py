"""Re-encoding while packing: transparent images over a background."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from distill.data.catalog import open_catalog
from distill.data.packing.pack import pack
from distill.data.packing.recode import Recode, is_transparent, recode
from distill.data.shards import ShardReader
from distill.errors import DamagedImage, UsageError
from distill.pack import main as pack_command
from distill.views import decode


@pytest.fixture
def drawings(tmp_path: Path) -> Path:
    """A black disc on nothing, in each way that a PNG can be transparent, and one image that is not."""
    rows, columns = np.mgrid[0:40, 0:60]
    inside = (rows - 20) ** 2 + (columns - 30) ** 2 < 150
    rgba = np.zeros((40, 60, 4), np.uint8)
    rgba[inside, 3] = 255
    folder = tmp_path / "images" / "disc"
    folder.mkdir(parents=True)
    Image.fromarray(rgba).save(folder / "rgba.png")
    Image.fromarray(rgba).convert("LA").save(folder / "grey.png")
    palette = Image.fromarray(np.where(inside, 1, 0).astype(np.uint8), mode="P")
    palette.putpalette([0, 0, 0, 0, 0, 0])
    palette.save(folder / "palette.png", transparency=0)
    opaque = rgba.copy()
    opaque[..., 3] = 255
    Image.fromarray(opaque).save(folder / "opaque.png")
    return tmp_path / "images"


def test_transparent_images_are_composited(drawings: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(pack_command, [str(drawings), str(tmp_path / "as_is"), "--workers", "1"])
    assert "3 images have transparent pixels" in result.output and "--background white" in result.output
    words = [str(drawings), str(tmp_path / "white"), "--background", "white", "--workers", "1"]
    result = CliRunner().invoke(pack_command, words)
    assert result.exit_code == 0 and "transparent pixels" not in result.output
    for name, corner in (("as_is", 0), ("white", 255)):
        catalog = open_catalog(tmp_path / name)
        with ShardReader(catalog) as shards:
            for row in range(len(catalog)):
                pixels = decode(shards.read(row))
                assert pixels[0, 0].tolist() == [0 if catalog.key(row) == "disc/opaque.png" else corner] * 3
                assert pixels[20, 30].tolist() == [0, 0, 0]
                assert shards.read(row) == (drawings / catalog.key(row)).read_bytes() or corner == 255
    options = json.loads((tmp_path / "white" / "catalog" / "catalog.json").read_text())["options"]
    assert options["background"] == "white"


def test_a_background_and_shrinking_together(drawings: Path, tmp_path: Path) -> None:
    pack(drawings, tmp_path / "small", recode=Recode(max_side=30, background="white"))
    catalog = open_catalog(tmp_path / "small")
    with ShardReader(catalog) as shards:
        for row in range(len(catalog)):
            pixels = decode(shards.read(row))
            assert pixels.shape == (20, 30, 3) and not is_transparent(shards.read(row))
            assert catalog.key(row) == "disc/opaque.png" or pixels[0, 0].min() > 240
    with pytest.raises(UsageError, match="--background pink"):
        Recode(background="pink")


def test_partial_transparency_is_blended_and_damaged_images_are_none(tmp_path: Path) -> None:
    pixels = np.zeros((2, 4, 4), np.uint8)
    pixels[..., 0], pixels[..., 3] = 200, (0, 51, 128, 255)  # BGRA: blue, more and more opaque
    data = cv2.imencode(".png", pixels)[1].tobytes()
    assert is_transparent(data)
    blended = decode(recode(data, Recode(background="white")))
    exact = np.array([(0, 0, 200)]) * pixels[0, :, 3:] / 255 + 255 - pixels[0, :, 3:].astype(float)
    assert np.abs(blended[0] - exact).max() <= 0.5
    for cut in (4, 10, 20, 26, len(data) // 2):
        assert not is_transparent(data[:cut])
        with pytest.raises(DamagedImage):
            recode(data[:cut], Recode(background="white"))
