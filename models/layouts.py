"""The names under which TinyViT weights are published, and the way from each to ours.

Tensors are the same everywhere; only names differ. Our names are timm's. The published code and mmpretrain
keep the merging at the end of the stage before; we, like timm, at the start of the stage that it leads to.
"""

import re
from collections.abc import Iterable

# layout -> (a name that only this layout has, substitutions applied in order)
_LAYOUTS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "ours and timm": ("patch_embed.conv1.conv.weight", ()),
    "official": (
        "patch_embed.seq.0.c.weight",
        (
            (r"^patch_embed\.seq\.0\.", "patch_embed.conv1."),
            (r"^patch_embed\.seq\.2\.", "patch_embed.conv2."),
            (r"^layers\.", "stages."),
            (r"\.c\.weight$", ".conv.weight"),
            (r"^norm_head\.", "head.norm."),
            (r"^head\.(?=weight$|bias$)", "head.fc."),
        ),
    ),
    "mmpretrain": (
        "backbone.patch_embed.seq.0.conv2d.weight",
        (
            (r"^backbone\.", ""),
            (r"^patch_embed\.seq\.0\.", "patch_embed.conv1."),
            (r"^patch_embed\.seq\.2\.", "patch_embed.conv2."),
            (r"\.conv2d\.weight$", ".conv.weight"),
            (r"\.bn2d\.", ".bn."),
            (r"^norm3\.", "head.norm."),
        ),
    ),
}
INDEX_BUFFERS = ".attention_bias_idxs"
"""How names of the buffers end that only say which table entry belongs to which pair of positions."""

_MERGING = re.compile(r"^stages\.(\d+)\.downsample\.")


def recognise(names: Iterable[str]) -> str | None:
    """The layout with these names: `ours and timm`, `official`, `mmpretrain`, or None."""
    names = set(names)
    return next((layout for layout, (mark, _) in _LAYOUTS.items() if mark in names), None)


def to_ours(name: str, *, layout: str) -> str:
    """Our name of a tensor that `layout` calls `name`; a name that is in no layout stays one."""
    _, substitutions = _LAYOUTS[layout]
    for pattern, replacement in substitutions:
        name = re.sub(pattern, replacement, name)
    if substitutions:
        name = _MERGING.sub(lambda match: f"stages.{int(match[1]) + 1}.downsample.", name)
    return name
