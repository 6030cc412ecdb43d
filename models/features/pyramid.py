"""A TinyViT as a feature pyramid: the maps of its four stages, for detection and segmentation.

    pixels (B, 3, H, W), normalised -> [map of stage 0 (B, c, H/4, W/4), .. 1 at 1/8, .. 2 at 1/16, .. 3 at 1/32]

Sides are rounded up: a map has height ceil(H / stride). The maps are the classifier's outputs of each stage; names and
conventions are those of timm's `features_only`: a list of maps, `out_indices` and `feature_info`. Torchvision's
detectors use it through `distill.models.features.detection`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from timm.models._features import FeatureInfo
from torch import Tensor, nn

from distill.models.errors import ModelError
from distill.models.tinyvit.config import IMAGE_SIZE, NUM_STAGES, TinyViTConfig, resolve_config
from distill.models.tinyvit.input_size import Size, change_input_size
from distill.models.tinyvit.network import TinyViT
from distill.models.weights.load import HEAD, load_weights, read_state
from distill.models.weights.save import describe_weights


class FeaturePyramid(nn.Module):
    """Stem and stages of a TinyViT as a feature extractor; made by `distill.models.build_features`.

    Modules are shared with the network, not copied; parameters keep its names. `forward` takes normalised float pixels
    (B, 3, H, W), H and W of any size, and returns a list of maps (B, c, h, w).
    """

    def __init__(self, net: TinyViT, *, out_indices: Sequence[int] = (0, 1, 2, 3)) -> None:
        """**Arguments:** `out_indices`: the stages whose maps are returned, in this order; negative ones count from
        the end. Stages after the last one returned are left out.

        **Raises** ModelError for an index without a stage.
        """
        super().__init__()
        self.out_indices = tuple(_stage_index(index) for index in out_indices)
        if not self.out_indices:
            raise ModelError("out_indices is empty: name stages of 0 to 3")
        self.config = net.config
        self.patch_embed = net.patch_embed
        self.stages = nn.Sequential(*list(net.stages)[: max(self.out_indices) + 1])
        self.feature_info = FeatureInfo(_stage_info(net.config), self.out_indices)
        self.train(net.training)

    def forward(self, pixels_bchw: Tensor) -> list[Tensor]:
        """Normalised float pixels (B, 3, H, W), H and W of any size -> a map (B, c, h, w) for each of `out_indices`."""
        x_bchw = self.patch_embed(pixels_bchw)
        maps = []
        for stage in self.stages:
            x_bchw = stage(x_bchw)
            maps.append(x_bchw)
        return [maps[index] for index in self.out_indices]

    def set_input_size(self, size: Size, *, windows: Sequence[int] | None = None) -> None:
        """As `TinyViT.set_input_size`. **Raises** ModelError also for `windows` where stages are left out."""
        if windows is not None and len(self.stages) < NUM_STAGES:
            raise ModelError("set the windows of the network before stages are left out of it")
        self.config = change_input_size(self.stages, self.config, size, windows=windows)


def build_features(
    name: str | None = None,
    *,
    weights: str | Path | None = None,
    out_indices: Sequence[int] = (0, 1, 2, 3),
    image_size: int | None = None,
    drop_path: float = 0.0,
    resize_windows: bool = False,
    **dimensions: Any,
) -> FeaturePyramid:
    """Builds a feature pyramid in training mode, with the weights of a classifier or freshly initialised.

    **Arguments**

    - `name`, `image_size`, `drop_path`, `dimensions`: see `build`. Without a name `weights` must be a file of
      `save_weights`, which describes its network.
    - `weights`: file of a classifier with any number of classes, in any layout that `load_weights` reads; None
      initialises the network.
    - `out_indices`: the stages whose maps are returned: 0 to 3, at strides 4, 8, 16 and 32.
    - `resize_windows`: see `load_weights`.

    **Returns** a module from normalised float pixels (B, 3, H, W) to a list of maps (B, c, h, w), as timm's
    `features_only`.

    **Raises** ModelError for wrong arguments, WeightsError for a file that cannot be read or does not fit.
    """
    if name is None:
        if weights is None:
            raise ModelError("a feature pyramid needs the name of a model, a file of weights, or both")
        if image_size is not None or dimensions:
            raise ModelError("a file without the name of a model says its own dimensions: add the name to set others")
        config = TinyViTConfig.from_json({**describe_weights(weights)["config"], "drop_path": drop_path})
    else:
        num_classes = 1 if weights is None else _num_classes(weights)
        sizes = {"num_classes": num_classes, "image_size": image_size or IMAGE_SIZE, "drop_path": drop_path}
        config = resolve_config(name, dimensions={**dimensions, **sizes})
    net = TinyViT(config)
    if weights is not None:
        load_weights(net, weights, resize_windows=resize_windows)
    return FeaturePyramid(net, out_indices=out_indices)


def _num_classes(weights: str | Path) -> int:
    head = read_state(weights).get(HEAD, torch.empty(1, 0))
    return head.shape[0]


def _stage_index(index: int) -> int:
    if not -NUM_STAGES <= index < NUM_STAGES:
        raise ModelError(f"out_indices holds {index}, there are {NUM_STAGES} stages: 0 to {NUM_STAGES - 1}")
    return index % NUM_STAGES


def _stage_info(config: TinyViTConfig) -> list[dict[str, Any]]:
    """timm's description of each stage: channels, stride in pixels per position, and name of the module."""
    return [
        {"num_chs": dim, "reduction": config.stem_stride * 2**index, "module": f"stages.{index}", "index": index}
        for index, dim in enumerate(config.dims)
    ]
