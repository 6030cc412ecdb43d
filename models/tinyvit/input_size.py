"""Images of another size without building a network anew: the size in its config, and the windows of its attention.

A TinyViT takes images of any height and width. Its convolutions halve the sides of a map, rounding up, and attention
pads maps with zeros to whole windows (`distill.models.tinyvit.attention`), maps smaller than one window included;
timm's TinyViT does the same. So nothing has to change for another size. The windows may change: weights trained with
windows of 7 positions at 224 pixels can be given windows of 12 at 384, as in the published fine-tuning.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from torch import nn

from distill.models.errors import ModelError
from distill.models.tinyvit.attention import WindowAttention
from distill.models.tinyvit.config import MIN_IMAGE_SIZE, TinyViTConfig

Size = int | Sequence[int]
"""Side of a square, or height and width, in pixels."""


def height_and_width(size: Size) -> tuple[int, int]:
    """(height, width) of a size, in pixels. **Raises** ModelError for anything but integers of at least 8."""
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(isinstance(side, int) and side >= MIN_IMAGE_SIZE for side in sides):
        raise ModelError(
            f"a size must be a side, or height and width, in pixels of at least {MIN_IMAGE_SIZE}, got {size!r}"
        )
    return sides[0], sides[1]


def change_input_size(
    stages: nn.Module, config: TinyViTConfig, size: Size, *, windows: Sequence[int] | None = None
) -> TinyViTConfig:
    """Sets the windows of `stages`, resizing their bias tables, and makes the config for images of `size`.

    **Arguments:** `windows`: sides in positions, one for each of `stages`; None leaves the stages as they are.

    **Returns** the config with the new windows, and with the new image size if `size` is a square. A config holds
    square sizes only, so with a rectangle its image size stays.

    **Raises** ModelError for a wrong size or wrong windows; nothing is changed then.
    """
    height, width = height_and_width(size)
    changed = config if height != width else dataclasses.replace(config, image_size=height)
    if windows is not None:
        changed = dataclasses.replace(changed, windows=tuple(windows))
        for stage, side in zip(stages.children(), changed.windows, strict=True):
            for module in stage.modules():
                if isinstance(module, WindowAttention):
                    module.set_window(side)
    return changed
