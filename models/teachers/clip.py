"""The published teacher: a CLIP visual tower with its projection and a linear head, in a timm ViT.

    pixels -> patches -> LayerNorm -> blocks (pre-norm, QuickGELU) -> class token -> LayerNorm
           -> projection, no bias (1024 -> 768) -> linear head (768 -> 21841)

The shape follows the file: width from the class token, heads of 64 channels, as every CLIP has them. So one function
reads the ViT-L/14 of the paper and any smaller one of the same layout.

**The projection is kept, not folded into the head.** Folded, one matrix of 1024 x 21841 would replace the two; it costs
more (22.4 instead of 17.6 million products a picture, of 81 thousand million in all), and in bfloat16 it would round
elsewhere than the published teacher did. Kept, the arithmetic is the published one at any precision.
"""

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
MARK = "visual.class_embedding"

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
    """Builds the tower that a state dict is for, and loads it.

    **Arguments**

    - `state`: tensors under the published names, `visual.*` and `head.*`.
    - `num_classes`: refuses a head of another number; None takes the file's.
    - `path`: for messages.

    **Returns** a timm ViT in float32 whose `head` is projection and classifier.

    **Raises** WeightsError where a tensor is missing, unexpected, or of another shape than the rest asks for.
    """
    if missing := [name for name in (MARK, "visual.conv1.weight", "head.weight") if name not in state]:
        raise WeightsError(f"{path} is no CLIP visual tower with a linear head: it has no {', '.join(missing)}")
    if num_classes is not None:
        check_classes(state, head="head.weight", num_classes=num_classes, path=path)
    try:
        net = empty_clip(state)
    except (KeyError, IndexError, ModelError) as error:
        raise WeightsError(f"{path} is no CLIP visual tower that can be read: {error}") from None
    load_strictly(net, {to_timm(name): _shaped(name, tensor) for name, tensor in state.items()}, path=path)
    return net


def empty_clip(state: Mapping[str, Tensor]) -> VisionTransformer:
    """The network whose shape a state dict has, freshly initialised. Reads shapes only."""
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
    net.head = head  # type: ignore[assignment]
    net.num_classes = num_classes
    return net


def to_timm(name: str) -> str:
    """The name in the network of `empty_clip` of a tensor of the published layout."""
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _shaped(name: str, tensor: Tensor) -> Tensor:
    """The tensor as timm has it: leading axes of size 1, and the projection as a linear map's (out, in)."""
    if name == MARK:
        return tensor.view(1, 1, -1)
    if name == "visual.positional_embedding":
        return tensor.unsqueeze(0)
    if name == "visual.proj":
        return tensor.T
    return tensor


def side(net: VisionTransformer) -> int:
    """Height and width in pixels of the pictures that the tower takes."""
    size: tuple[int, int] = net.patch_embed.img_size
    return size[0]
