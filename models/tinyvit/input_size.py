"""Pictures of another size, without building anew: what a network is told, and what it makes of its windows.

A TinyViT takes pictures of any height and width. Its convolutions halve a map of any side to the next whole number, and
attention pads maps to whole windows with zeros (`distill.models.tinyvit.attention`), maps smaller than one window
included; timm's TinyViT does the same. So nothing has to be changed for another size. What can be changed is the
window: weights trained with windows of 7 positions for 224 pixels may get those of 12 for 384, as in the published
fine-tuning.
"""

import dataclasses
from collections.abc import Sequence

from torch import nn

from distill.models.errors import ModelError
from distill.models.tinyvit.attention import WindowAttention
from distill.models.tinyvit.config import TinyViTConfig

Size = int | Sequence[int]
"""Side of a square, or height and width, in pixels."""
LEAST = 8


def height_and_width(size: Size) -> tuple[int, int]:
    """(height, width) in pixels of a size. **Raises** ModelError for anything but positive integers, at least 8."""
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(isinstance(side, int) and side >= LEAST for side in sides):
        raise ModelError(f"a size must be a side, or height and width, in pixels of at least {LEAST}, got {size!r}")
    return sides[0], sides[1]


def resized(
    stages: nn.Module, config: TinyViTConfig, size: Size, *, windows: Sequence[int] | None = None
) -> TinyViTConfig:
    """The config for pictures of `size`; the bias tables in `stages` get the size of `windows` where these are given.

    **Returns** a config with the new windows, and with the new picture size if that is a square: a rectangle has no
    place in it, and it keeps the size it had.

    **Raises** ModelError for a wrong size or wrong windows; nothing is then changed.
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
