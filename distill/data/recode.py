"""Making pictures smaller when they are packed: less to store, to move and above all to decode."""

from __future__ import annotations

from dataclasses import dataclass

import cv2

from distill.errors import UsageError
from distill.views import decode

DEFAULT_QUALITY = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Recode:
    """What packing may change about a picture; by default nothing."""

    max_side: int | None = None
    """A picture whose longer side is longer is shrunk to this and becomes a JPEG."""
    quality: int | None = None
    """Every picture becomes a JPEG of this quality, unless that is larger; null: only those that are shrunk, of 90."""

    def __post_init__(self) -> None:
        if self.max_side is not None and self.max_side < 16:
            raise UsageError(f"--max-side {self.max_side}: must be at least 16 pixels")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UsageError(f"--quality {self.quality}: must lie in 1 .. 100")

    def options(self) -> dict[str, int]:
        """What was asked for, for the catalog."""
        asked = {"max_side": self.max_side, "quality": self.quality}
        return {name: value for name, value in asked.items() if value is not None}


def recode(data: bytes, how: Recode) -> bytes:
    """The bytes to pack for a picture's bytes: the same, or those of a new JPEG (4:2:0, baseline).

    Shrinking averages over areas and keeps the ratio of the sides, to a pixel. **Raises:** `DamagedImage`.
    """
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
