"""The published teacher: a CLIP visual tower with its projection and a linear head, in a timm ViT.

    pixels -> patches -> LayerNorm -> blocks (pre-norm, QuickGELU) -> class token -> LayerNorm
           -> projection, no bias (1024 -> 768) -> linear head (768 -> 21841)

All dimensions are read from the file; heads have 64 channels, as in every CLIP. So one function reads the ViT-L/14 of
the paper and any smaller tower of the same layout.

**Projection and head stay two matrices.** Multiplied into one of 1024 x 21841 they would take more arithmetic (22.4
instead of 17.6 M multiply-accumulates per image, of 81 G in all) and round differently in bfloat16. As two matrices the
arithmetic is that of the published teacher at any precision.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from pathlib import Path

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from distill.models.errors import ModelError, WeightsError
from distill.models.weights.load import check_classes, load_strictly

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
HEAD_CHANNELS = 64
CLASS_TOKEN = "visual.class_embedding"

_NAMES = (
    (r"^head\.", "head.1."),
    (r"^visual\.proj$", "head.0.weight"),
    (r"^visual\.class_embedding$", "cls_token"),
    (r"^visual\.positional_embedding$", "pos_embed"),
    (r"^visual\.conv1\.", "patch_embed.proj."),
    (r"^visual\.ln_pre\.", "norm_pre."),
    (r"^visual\.ln_post\.", "norm."),
    (r"^visual\.transformer\.resblocks\.", "blocks."),
    (r"\.attn\.in_proj_(weight|bias)$", r".attn.qkv.\1"),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)


def build_clip(state: Mapping[str, Tensor], *, num_classes: int | None, path: str | Path) -> VisionTransformer:
    """Builds the tower of a state dict and loads it.

    **Arguments**

    - `state`: tensors under the published names, `visual.*` and `head.*`.
    - `num_classes`: that the head must have; None takes any.
    - `path`: for messages.

    **Returns** a timm ViT in float32 whose `head` is projection and classifier.

    **Raises** WeightsError where a tensor is missing, unexpected, or of a shape that does not fit the others.
    """
    if missing := [name for name in (CLASS_TOKEN, "visual.conv1.weight", "head.weight") if name not in state]:
        raise WeightsError(f"{path} is no CLIP visual tower with a linear head: it has no {', '.join(missing)}")
    if num_classes is not None:
        check_classes(state, head="head.weight", num_classes=num_classes, path=path)
    try:
        net = create_clip(state)
    except (KeyError, IndexError, ModelError) as error:
        raise WeightsError(f"{path} is no CLIP visual tower that can be read: {error}") from None
    load_strictly(net, {to_timm(name): _timm_shape(name, tensor) for name, tensor in state.items()}, path=path)
    return net


def create_clip(state: Mapping[str, Tensor]) -> VisionTransformer:
    """The network for the shapes of a state dict, freshly initialised; values are not read."""
    width, _, patch, _ = state["visual.conv1.weight"].shape
    grid = math.isqrt(state["visual.positional_embedding"].shape[0] - 1)
    embed = state["visual.proj"].shape[1]
    depth = len({name.split(".")[3] for name in state if name.startswith("visual.transformer.resblocks.")})
    if width % HEAD_CHANNELS:
        raise ModelError(f"a width of {width} is no multiple of {HEAD_CHANNELS}, the channels of a head")
    net = VisionTransformer(
        img_size=grid * patch,
        patch_size=patch,
        embed_dim=width,
        depth=depth,
        num_heads=width // HEAD_CHANNELS,
        pre_norm=True,
        norm_layer=functools.partial(nn.LayerNorm, eps=1e-5),
        act_layer="quick_gelu",
        num_classes=0,
    )
    num_classes = state["head.weight"].shape[0]
    head = nn.Sequential(nn.Linear(width, embed, bias=False), nn.Linear(embed, num_classes))
    net.add_module("head", head)
    net.num_classes = num_classes
    return net


def to_timm(name: str) -> str:
    """The name that a tensor of the published layout has in the network of `create_clip`."""
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _timm_shape(name: str, tensor: Tensor) -> Tensor:
    """The tensor in timm's shape: leading axes of size 1, and the projection as the (out, in) of a linear map."""
    if name == CLASS_TOKEN:
        return tensor.view(1, 1, -1)
    if name == "visual.positional_embedding":
        return tensor.unsqueeze(0)
    if name == "visual.proj":
        return tensor.T
    return tensor


def clip_image_size(net: VisionTransformer) -> int:
    """Height and width, in pixels, of the images that the tower takes."""
    size: tuple[int, int] = net.patch_embed.img_size
    return size[0]
