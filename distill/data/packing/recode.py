"""What packing may change about an image: smaller ones are less to store, to move and above all to decode; transparent
ones are laid on a background, because whoever drew them left the colour under their transparent parts to chance."""

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
    """What packing may change about an image; by default nothing."""

    max_side: int | None = None
    """An image whose longer side is longer is shrunk to this and becomes a JPEG."""
    quality: int | None = None
    """Every image becomes a JPEG of this quality, unless that is larger; null: only those that are shrunk, of 90."""
    background: str | None = None
    """What transparent images are laid on, of `BACKGROUNDS`; null: nothing, transparency is dropped on reading."""

    def __post_init__(self) -> None:
        if self.max_side is not None and self.max_side < 16:
            raise UsageError(f"--max-side {self.max_side}: must be at least 16 pixels")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UsageError(f"--quality {self.quality}: must lie in 1 .. 100")
        if self.background not in (None, *BACKGROUNDS):
            raise UsageError(f"--background {self.background}: must be one of {', '.join(BACKGROUNDS)}")

    def options(self) -> dict[str, int | str]:
        """What was asked for, for the catalog."""
        asked = {"max_side": self.max_side, "quality": self.quality, "background": self.background}
        return {name: value for name, value in asked.items() if value is not None}


def recode(data: bytes, how: Recode) -> bytes:
    """The bytes to pack for an image's bytes: the same, or those of a new JPEG (4:2:0, baseline).

    A transparent image that is laid on a background and not shrunk is a PNG as before. Shrinking averages over areas
    and keeps the ratio of the sides, to a pixel. **Raises:** `DamagedImage`.
    """
    if how.background is not None and is_transparent(data):
        data = _on_background(data, BACKGROUNDS[how.background])
    pixels = decode(data)
    height, width = pixels.shape[:2]
    scale = (how.max_side or max(height, width)) / max(height, width)
    if scale >= 1 and how.quality is None:
        return data
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    flags = [cv2.IMWRITE_JPEG_QUALITY, how.quality or DEFAULT_QUALITY]
    ok, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), flags)
    assert ok
    return data if scale >= 1 and len(encoded) >= len(data) else bytes(encoded)


def is_transparent(data: bytes) -> bool:
    """Whether an image is a PNG that is transparent in some place. Damaged ones are not."""
    if not data.startswith(PNG_START) or not (data[25:26] in (b"\4", b"\6") or b"tRNS" in data[: data.find(b"IDAT")]):
        return False  # The type of colour has no alpha, and no colour is said to be transparent.
    try:
        return bool(decode_rgba(data)[..., 3].min() < 255)
    except DamagedImage:
        return False


def _on_background(data: bytes, grey: int) -> bytes:
    """The image over one grey level, as a PNG without transparency."""
    pixels_hwc = decode_rgba(data).astype(np.uint16)
    alpha_hw1 = pixels_hwc[..., 3:]
    whole_hwc = (pixels_hwc[..., :3] * alpha_hw1 + grey * (255 - alpha_hw1) + 127) // 255
    ok, encoded = cv2.imencode(".png", cv2.cvtColor(whole_hwc.astype(np.uint8), cv2.COLOR_RGB2BGR))
    assert ok
    return bytes(encoded)
