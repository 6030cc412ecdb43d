"""Changes to images while packing. Smaller images take less time to store, to transfer and above all to decode.
Transparent images can be composited over a background, because the colour of transparent pixels is arbitrary."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from distill.errors import DamagedImage, UsageError
from distill.views import decode
from distill.views.decode import PNG_START, decode_rgba

DEFAULT_QUALITY = 90
BACKGROUNDS = {"white": 255, "grey": 128, "black": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recode:
    """Changes to the images; none by default."""

    max_side: int | None = None
    """Images whose longer side is longer are shrunk to this many pixels and become JPEGs."""
    quality: int | None = None
    """Every image becomes a JPEG of this quality, unless that is larger; None: only shrunk ones, of quality 90."""
    background: str | None = None
    """Background of transparent images, of `BACKGROUNDS`; None: transparency is dropped on reading."""

    def __post_init__(self) -> None:
        if self.max_side is not None and self.max_side < 16:
            raise UsageError(f"--max-side {self.max_side}: must be at least 16 pixels")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UsageError(f"--quality {self.quality}: must lie in 1 .. 100")
        if self.background not in (None, *BACKGROUNDS):
            raise UsageError(f"--background {self.background}: must be one of {', '.join(BACKGROUNDS)}")

    def options(self) -> dict[str, int | str]:
        """The settings that are not None, for the catalog."""
        settings = {"max_side": self.max_side, "quality": self.quality, "background": self.background}
        return {name: value for name, value in settings.items() if value is not None}


def recode(data: bytes, settings: Recode) -> bytes:
    """The bytes to pack for an image file: the same, or a new JPEG (4:2:0, baseline).

    A transparent image that is composited and not shrunk stays a PNG. Shrinking averages over areas and preserves the
    aspect ratio up to a pixel.

    **Raises:** `DamagedImage`.
    """
    if settings.background is not None and is_transparent(data):
        data = _on_background(data, BACKGROUNDS[settings.background])
    pixels = decode(data)
    height, width = pixels.shape[:2]
    scale = (settings.max_side or max(height, width)) / max(height, width)
    if scale >= 1 and settings.quality is None:
        return data
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    flags = [cv2.IMWRITE_JPEG_QUALITY, settings.quality or DEFAULT_QUALITY]
    ok, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), flags)
    assert ok
    return data if scale >= 1 and len(encoded) >= len(data) else bytes(encoded)


def is_transparent(data: bytes) -> bool:
    """Whether the file is a PNG with a transparent pixel. False for damaged files."""
    if not data.startswith(PNG_START) or not (data[25:26] in (b"\4", b"\6") or b"tRNS" in data[: data.find(b"IDAT")]):
        return False  # Neither an alpha channel nor a transparent colour.
    try:
        return bool(decode_rgba(data)[..., 3].min() < 255)
    except DamagedImage:
        return False


def _on_background(data: bytes, grey: int) -> bytes:
    """The image over a grey background, as a PNG without transparency."""
    pixels_hwc = decode_rgba(data).astype(np.uint16)
    alpha_hw1 = pixels_hwc[..., 3:]
    opaque_hwc = (pixels_hwc[..., :3] * alpha_hw1 + grey * (255 - alpha_hw1) + 127) // 255
    ok, encoded = cv2.imencode(".png", cv2.cvtColor(opaque_hwc.astype(np.uint8), cv2.COLOR_RGB2BGR))
    assert ok
    return bytes(encoded)
