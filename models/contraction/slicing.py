"""Weights of a large TinyViT cut down to those of a smaller one: how a contracted network inherits from its parent.

**What is kept.** Every tensor is an array over channel spaces: the channels of a stage that its residuals add up
(written by the merging before, read by the one after), the hidden channels of each block, the heads of each attention.
Of each space as many channels stay as the child has: the first ones, or those of largest importance, in their order.
The importance of a channel is the L2 norm of all weights of convolutions and linear maps that write it or read it; that
of a head, of the rows and columns of its q, k, v and output. Of a stage with fewer blocks, the first ones stay. A
smaller window keeps the biases of the offsets that it still has. Heads of fewer channels are pieces of the parent's
heads, with their bias tables; where pieces do not come out even the last one overlaps the one before. Normalisation
keeps scale, shift and statistics of the channels that stay. The classifier keeps its classes.

Legend: d channels of a head, h heads.
"""

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor

from distill.models.contraction.space import head_dim_of, levels
from distill.models.errors import ModelError
from distill.models.tinyvit.config import NUM_STAGES, TinyViTConfig
from distill.models.tinyvit.network import TinyViT

CHANNELS = ("importance", "first")
Spaces = dict[str, tuple[str | None, ...]]
"""Names of a tensor's axes, by the name of the tensor; None for an axis that is not cut."""


def slice_weights(parent: TinyViT, child: TinyViTConfig, *, channels: str = "importance") -> dict[str, Tensor]:
    """Cuts a network's weights down to those of a smaller architecture.

    **Arguments**

    - `child`: nowhere larger than the parent, of the same classes and stem stride.
    - `channels`: `importance` or `first`: which channels stay; see above.

    **Returns** a state for `TinyViT(child).load_state_dict`, copies all. An equal architecture gets equal weights.

    **Raises** ModelError where the child is larger in something.
    """
    assert channels in CHANNELS, channels
    _check(parent.config, child)
    state = {name: tensor.detach() for name, tensor in parent.state_dict().items()}
    spaces = _spaces(parent.config, child)
    kept = _kept_channels(state, spaces, parent.config, child, by_importance=channels == "importance")
    sliced = {}
    for name, axes in spaces.items():
        tensor = state[name]
        for axis, space in enumerate(axes):
            if space is not None:
                tensor = tensor.index_select(axis, kept[space].to(tensor.device))
        sliced[name] = tensor.clone()
    return sliced


def _check(parent: TinyViTConfig, child: TinyViTConfig) -> None:
    if (parent.num_classes, parent.stem_stride) != (child.num_classes, child.stem_stride):
        raise ModelError("weights are cut down for the same number of classes and the same stem stride alone")
    above, below = levels(parent), levels(child)
    if larger := [name for name in above if below[name] > above[name]]:
        shown = ", ".join(f"{name} {above[name]:g} there, {below[name]:g} wanted" for name in larger)
        raise ModelError(f"weights can be cut down only, and the parent is smaller in {shown}")


def _spaces(parent: TinyViTConfig, child: TinyViTConfig) -> Spaces:
    """The tensors that the child has, under the parent's names, which are the same."""
    spaces: Spaces = {}

    def conv_norm(name: str, out: str, into: str | None) -> None:
        spaces[f"{name}.conv.weight"] = (out, into, None, None)
        spaces.update({f"{name}.bn.{part}": (out,) for part in ("weight", "bias", "running_mean", "running_var")})
        spaces[f"{name}.bn.num_batches_tracked"] = ()

    def affine(name: str, space: str) -> None:
        spaces.update({f"{name}.{part}": (space,) for part in ("weight", "bias")})

    def linear(name: str, out: str | None, into: str) -> None:
        spaces.update({f"{name}.weight": (out, into), f"{name}.bias": (out,)})

    conv_norm("patch_embed.conv1", "stem", None)
    conv_norm("patch_embed.conv2", "stage0", "stem")
    for stage in range(NUM_STAGES):
        stream = f"stage{stage}"
        if stage:
            at, hidden = f"stages.{stage}.downsample", f"merge{stage}"
            conv_norm(f"{at}.conv1", hidden, f"stage{stage - 1}")
            conv_norm(f"{at}.conv2", hidden, None)
            conv_norm(f"{at}.conv3", stream, hidden)
        for block in range(child.depths[stage]):
            at = f"stages.{stage}.blocks.{block}"
            if stage == 0:
                conv_norm(f"{at}.conv1", f"{at} hidden", stream)
                conv_norm(f"{at}.conv2", f"{at} hidden", None)
                conv_norm(f"{at}.conv3", stream, f"{at} hidden")
                continue
            affine(f"{at}.attn.norm", stream)
            linear(f"{at}.attn.qkv", f"{at} qkv", stream)
            linear(f"{at}.attn.proj", stream, f"{at} values")
            spaces[f"{at}.attn.attention_biases"] = (f"{at} heads", f"window{stage}")
            conv_norm(f"{at}.local_conv", stream, None)
            affine(f"{at}.mlp.norm", stream)
            linear(f"{at}.mlp.fc1", f"{at} hidden", stream)
            linear(f"{at}.mlp.fc2", stream, f"{at} hidden")
    affine("head.norm", "stage3")
    linear("head.fc", None, "stage3")
    return spaces


def _kept_channels(
    state: Mapping[str, Tensor], spaces: Spaces, parent: TinyViTConfig, child: TinyViTConfig, *, by_importance: bool
) -> dict[str, Tensor]:
    """Which indices of each space stay, ascending; of heads, which pieces."""
    squares: dict[str, Tensor] = {}
    for name, axes in spaces.items():
        if not name.endswith(("conv.weight", "qkv.weight", "proj.weight", "fc1.weight", "fc2.weight", "fc.weight")):
            continue
        for axis, space in enumerate(axes):
            if space is not None:
                others = [n for n in range(len(axes)) if n != axis]
                sums = state[name].double().square().sum(dim=others).cpu()
                squares[space] = squares.get(space, torch.zeros_like(sums)) + sums
    sizes = _sizes(child)
    kept: dict[str, Tensor] = {}
    for space, sums in squares.items():
        if space in sizes:
            kept[space] = _chosen(sums, sizes[space], best=by_importance)
        elif space.endswith(" qkv"):
            block = space.removesuffix(" qkv")
            stage = int(block.split(".")[1])
            each_hd = sums.view(parent.heads[stage], 3, -1).sum(dim=1)
            each_hd = each_hd + squares[f"{block} values"].view_as(each_hd)
            kept.update(_kept_heads(block, each_hd, heads=child.heads[stage], d=head_dim_of(child), best=by_importance))
    for stage in range(1, NUM_STAGES):
        offsets = torch.arange(parent.windows[stage] ** 2).view(parent.windows[stage], -1)
        side = child.windows[stage]
        kept[f"window{stage}"] = offsets[:side, :side].flatten()
    return kept


def _sizes(child: TinyViTConfig) -> dict[str, int]:
    """Channels of every space in the child, but for attention's."""
    sizes = {"stem": child.dims[0] // 2}
    for stage, d in enumerate(child.dims):
        hidden = int(d * (child.mlp_ratio if stage else child.expand))
        sizes |= {f"stage{stage}": d, f"merge{stage}": d}
        sizes |= {f"stages.{stage}.blocks.{block} hidden": hidden for block in range(child.depths[stage])}
    return sizes


def _chosen(importance: Tensor, count: int, *, best: bool) -> Tensor:
    """(count,) ascending indices of the largest entries, or the first ones; of equal entries the first."""
    if not best:
        return torch.arange(count)
    return importance.argsort(descending=True, stable=True)[:count].sort().values


def _kept_heads(block: str, importance_hd: Tensor, *, heads: int, d: int, best: bool) -> dict[str, Tensor]:
    """The pieces of heads that become the child's: rows of qkv (head by head: q, k, v), columns of the output map, and
    rows of the bias table.

    **Arguments:** `importance_hd` squares of every channel of the parent's heads; `heads` and `d` of the child.
    """
    parent_heads, parent_d = importance_hd.shape
    starts = [min(n * d, parent_d - d) for n in range(-(-parent_d // d))]
    pieces = list(itertools.product(range(parent_heads), starts))
    weights = torch.stack([importance_hd[head, start : start + d].sum() for head, start in pieces])
    kept = [pieces[n] for n in _chosen(weights, heads, best=best).tolist()]
    inside = torch.arange(d)
    return {
        f"{block} qkv": torch.cat([head * 3 * parent_d + part * parent_d + start + inside
                                   for head, start in kept for part in range(3)]),
        f"{block} values": torch.cat([head * parent_d + start + inside for head, start in kept]),
        f"{block} heads": torch.tensor([head for head, _ in kept]),
    }  # fmt: skip
