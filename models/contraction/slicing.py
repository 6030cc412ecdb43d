"""Structured pruning of a large TinyViT to a smaller one: how a contracted network inherits its parent's weights.

**Rule.** The axes of all tensors fall into channel groups: the residual channels of a stage (written by the patch
merging before it, read by the one after it), the hidden channels of each block, the heads of each attention. Of each
group as many channels are kept as the child has: the first ones, or the most important ones, in their order. The
importance of a channel is the L2 norm of all weights of convolutions and linear maps that write or read it; that of a
head is the norm of the rows and columns of its q, k, v and output. Of a stage with fewer blocks the first ones are
kept. A smaller window keeps the biases of the offsets that it still has. Heads of fewer channels are slices of the
parent's heads, with their bias tables; where slices do not divide a head evenly the last one overlaps the one before.
Normalisation layers keep scale, shift and statistics of the kept channels. The classifier keeps its classes.

Letters: d channels of a head, h heads.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor

from distill.models.contraction.space import head_dim_of, levels
from distill.models.errors import ModelError
from distill.models.tinyvit.config import NUM_STAGES, TinyViTConfig
from distill.models.tinyvit.network import TinyViT

CHANNELS = ("importance", "first")
ChannelGroups = dict[str, tuple[str | None, ...]]
"""For each tensor, by name, the channel group of every axis; None for an axis that is not sliced."""


def slice_weights(parent: TinyViT, child: TinyViTConfig, *, channels: str = "importance") -> dict[str, Tensor]:
    """Slices the weights of a network to a smaller architecture.

    **Arguments**

    - `child`: in no dimension larger than the parent, with the same classes and stem stride.
    - `channels`: which channels are kept: `importance` (largest L2 norm of their weights) or `first`.

    **Returns** a state dict for `TinyViT(child).load_state_dict`; all tensors are copies. An equal architecture gets
    equal weights.

    **Raises** ModelError where the child is larger in some dimension.
    """
    assert channels in CHANNELS, channels
    _check(parent.config, child)
    state = {name: tensor.detach() for name, tensor in parent.state_dict().items()}
    groups = _channel_groups(child)
    kept = _kept_channels(state, groups, parent.config, child, by_importance=channels == "importance")
    sliced = {}
    for name, axes in groups.items():
        tensor = state[name]
        for axis, group in enumerate(axes):
            if group is not None:
                tensor = tensor.index_select(axis, kept[group].to(tensor.device))
        sliced[name] = tensor.clone()
    return sliced


def _check(parent: TinyViTConfig, child: TinyViTConfig) -> None:
    if (parent.num_classes, parent.stem_stride) != (child.num_classes, child.stem_stride):
        raise ModelError("weights can be sliced only for the same number of classes and the same stem stride")
    parent_levels, child_levels = levels(parent), levels(child)
    if larger := [name for name in parent_levels if child_levels[name] > parent_levels[name]]:
        shown = ", ".join(f"{name}: parent {parent_levels[name]:g}, child {child_levels[name]:g}" for name in larger)
        raise ModelError(f"weights can only be sliced to smaller sizes, and the child is larger in {shown}")


def _channel_groups(child: TinyViTConfig) -> ChannelGroups:
    """The tensors of the child, which have the same names in the parent, and the channel groups of their axes."""
    groups: ChannelGroups = {}

    def conv_norm(name: str, out: str, into: str | None) -> None:
        groups[f"{name}.conv.weight"] = (out, into, None, None)
        groups.update({f"{name}.bn.{tensor}": (out,) for tensor in ("weight", "bias", "running_mean", "running_var")})
        groups[f"{name}.bn.num_batches_tracked"] = ()

    def layer_norm(name: str, group: str) -> None:
        groups.update({f"{name}.weight": (group,), f"{name}.bias": (group,)})

    def linear(name: str, out: str | None, into: str) -> None:
        groups.update({f"{name}.weight": (out, into), f"{name}.bias": (out,)})

    conv_norm("patch_embed.conv1", "stem", None)
    conv_norm("patch_embed.conv2", "stage0", "stem")
    for stage in range(NUM_STAGES):
        residual = f"stage{stage}"
        if stage:
            downsample, hidden = f"stages.{stage}.downsample", f"merge{stage}"
            conv_norm(f"{downsample}.conv1", hidden, f"stage{stage - 1}")
            conv_norm(f"{downsample}.conv2", hidden, None)
            conv_norm(f"{downsample}.conv3", residual, hidden)
        for index in range(child.depths[stage]):
            block = f"stages.{stage}.blocks.{index}"
            if stage == 0:
                conv_norm(f"{block}.conv1", f"{block} hidden", residual)
                conv_norm(f"{block}.conv2", f"{block} hidden", None)
                conv_norm(f"{block}.conv3", residual, f"{block} hidden")
                continue
            layer_norm(f"{block}.attn.norm", residual)
            linear(f"{block}.attn.qkv", f"{block} qkv", residual)
            linear(f"{block}.attn.proj", residual, f"{block} values")
            groups[f"{block}.attn.attention_biases"] = (f"{block} heads", f"window{stage}")
            conv_norm(f"{block}.local_conv", residual, None)
            layer_norm(f"{block}.mlp.norm", residual)
            linear(f"{block}.mlp.fc1", f"{block} hidden", residual)
            linear(f"{block}.mlp.fc2", residual, f"{block} hidden")
    layer_norm("head.norm", "stage3")
    linear("head.fc", None, "stage3")
    return groups


def _kept_channels(
    state: Mapping[str, Tensor],
    groups: ChannelGroups,
    parent: TinyViTConfig,
    child: TinyViTConfig,
    *,
    by_importance: bool,
) -> dict[str, Tensor]:
    """The indices that are kept of each group, ascending; of the groups of heads, those of the kept slices."""
    squares = _squared_norms(state, groups)
    sizes = _sizes(child)
    kept: dict[str, Tensor] = {}
    for group, sums in squares.items():
        if group in sizes:
            kept[group] = _select(sums, sizes[group], by_importance=by_importance)
        elif group.endswith(" qkv"):
            block = group.removesuffix(" qkv")
            stage = int(block.split(".")[1])
            head_hd = sums.view(parent.heads[stage], 3, -1).sum(dim=1)
            head_hd = head_hd + squares[f"{block} values"].view_as(head_hd)
            heads, d = child.heads[stage], head_dim_of(child)
            kept.update(_kept_heads(block, head_hd, heads=heads, d=d, by_importance=by_importance))
    for stage in range(1, NUM_STAGES):
        offsets = torch.arange(parent.windows[stage] ** 2).view(parent.windows[stage], -1)
        side = child.windows[stage]
        kept[f"window{stage}"] = offsets[:side, :side].flatten()
    return kept


def _squared_norms(state: Mapping[str, Tensor], groups: ChannelGroups) -> dict[str, Tensor]:
    """For each group, the sum of squares per channel over all weights of convolutions and linear maps."""
    squares: dict[str, Tensor] = {}
    for name, axes in groups.items():
        if not name.endswith(("conv.weight", "qkv.weight", "proj.weight", "fc1.weight", "fc2.weight", "fc.weight")):
            continue
        for axis, group in enumerate(axes):
            if group is not None:
                other_axes = [n for n in range(len(axes)) if n != axis]
                sums = state[name].double().square().sum(dim=other_axes).cpu()
                squares[group] = squares.get(group, torch.zeros_like(sums)) + sums
    return squares


def _sizes(child: TinyViTConfig) -> dict[str, int]:
    """Channels of every group in the child, except those of attention heads."""
    sizes = {"stem": child.dims[0] // 2}
    for stage, d in enumerate(child.dims):
        hidden = int(d * (child.mlp_ratio if stage else child.expand))
        sizes |= {f"stage{stage}": d, f"merge{stage}": d}
        sizes |= {f"stages.{stage}.blocks.{block} hidden": hidden for block in range(child.depths[stage])}
    return sizes


def _select(importance: Tensor, count: int, *, by_importance: bool) -> Tensor:
    """(count,) ascending indices of the largest entries, of equal ones the first; or the first `count` indices."""
    if not by_importance:
        return torch.arange(count)
    return importance.argsort(descending=True, stable=True)[:count].sort().values


def _kept_heads(block: str, importance_hd: Tensor, *, heads: int, d: int, by_importance: bool) -> dict[str, Tensor]:
    """The slices of the parent's heads that become the child's heads.

    **Arguments:** `importance_hd`: sum of squares of every channel of the parent's heads; `heads`, `d`: of the child.

    **Returns** indices of the rows of qkv (head by head: q, k, v), the columns of proj, and the rows of the bias table.
    """
    parent_heads, parent_d = importance_hd.shape
    starts = [min(n * d, parent_d - d) for n in range(-(-parent_d // d))]
    slices = list(itertools.product(range(parent_heads), starts))
    importance = torch.stack([importance_hd[head, start : start + d].sum() for head, start in slices])
    kept = [slices[n] for n in _select(importance, heads, by_importance=by_importance).tolist()]
    offsets = torch.arange(d)
    return {
        f"{block} qkv": torch.cat([head * 3 * parent_d + qkv * parent_d + start + offsets
                                   for head, start in kept for qkv in range(3)]),
        f"{block} values": torch.cat([head * parent_d + start + offsets for head, start in kept]),
        f"{block} heads": torch.tensor([head for head, _ in kept]),
    }  # fmt: skip
