"""The tensor names of published TinyViT weights, and their conversion to ours and back.

Tensors are the same everywhere; only names differ. Our names are timm's. The published code and mmpretrain have patch
merging at the end of a stage; timm and this package have it at the start of the next one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# layout -> (a name that only this layout has, substitutions to our names, substitutions from our names), in their order
_Substitutions = tuple[tuple[str, str], ...]
_LAYOUTS: dict[str, tuple[str, _Substitutions, _Substitutions]] = {
    "ours and timm": ("patch_embed.conv1.conv.weight", (), ()),
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
        (
            (r"^patch_embed\.conv1\.", "patch_embed.seq.0."),
            (r"^patch_embed\.conv2\.", "patch_embed.seq.2."),
            (r"^stages\.", "layers."),
            (r"\.conv\.weight$", ".c.weight"),
            (r"^head\.norm\.", "norm_head."),
            (r"^head\.fc\.", "head."),
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
        (
            (r"^head\.norm\.", "norm3."),
            (r"\.bn\.", ".bn2d."),
            (r"\.conv\.weight$", ".conv2d.weight"),
            (r"^patch_embed\.conv1\.", "patch_embed.seq.0."),
            (r"^patch_embed\.conv2\.", "patch_embed.seq.2."),
            (r"^(?!head\.)", "backbone."),
        ),
    ),
}
INDEX_BUFFERS = ".attention_bias_idxs"
"""Ending of the names of buffers that hold the bias-table index of each pair of positions."""

_MERGING = re.compile(r"^stages\.(\d+)\.downsample\.")


def recognise(names: Iterable[str]) -> str | None:
    """The layout with these names: `ours and timm`, `official`, `mmpretrain`, or None."""
    names = set(names)
    return next((layout for layout, (own_name, _, _) in _LAYOUTS.items() if own_name in names), None)


def to_ours(name: str, *, layout: str) -> str:
    """Our name of the tensor that `layout` calls `name`; a name that is in no layout is in none afterwards."""
    _, substitutions, _ = _LAYOUTS[layout]
    for pattern, replacement in substitutions:
        name = re.sub(pattern, replacement, name)
    return _move_merging(name, 1) if substitutions else name


def from_ours(name: str, *, layout: str) -> str:
    """The name in `layout` of the tensor that we call `name`: the inverse of `to_ours`.

    For tests and `scripts/prove/weights.py`, which write files in the published layouts.
    """
    _, _, substitutions = _LAYOUTS[layout]
    name = _move_merging(name, -1) if substitutions else name
    for pattern, replacement in substitutions:
        name = re.sub(pattern, replacement, name)
    return name


def _move_merging(name: str, step: int) -> str:
    """The name with patch merging moved by `step` stages."""
    return _MERGING.sub(lambda match: f"stages.{int(match[1]) + step}.downsample.", name)
