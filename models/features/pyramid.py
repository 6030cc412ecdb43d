# mypy: disable-error-code="no-any-return"
# (torch does not type what a module returns)
"""A TinyViT as a feature pyramid: the maps of its four stages, for detection and segmentation.

    pixels (B, 3, H, W), normalised -> [map of stage 0 (B, c, H/4, W/4), .. 1 at 1/8, .. 2 at 1/16, .. 3 at 1/32]

Sides are rounded up, so a map has ceil(H / stride) rows. The maps are what the classifier computes on its way; names
and conventions are those of timm's `features_only`: a list of maps, `out_indices` and `feature_info`. Torchvision's
detectors take it through `distill.models.features.detection`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from timm.models._features import FeatureInfo
from torch import Tensor, nn

from distill.models.errors import ModelError
from distill.models.tinyvit.config import NUM_STAGES, TinyViTConfig, resolve
from distill.models.tinyvit.input_size import Size, resized
from distill.models.tinyvit.network import TinyViT
from distill.models.weights.load import HEAD, load_weights, read_state
from distill.models.weights.save import describe_weights


class FeaturePyramid(nn.Module):
    """Stem and stages of a TinyViT, shared with it, not copied; parameters keep the classifier's names."""

    def __init__(self, net: TinyViT, *, out_indices: Sequence[int] = (0, 1, 2, 3)) -> None:
        """**Arguments:** `out_indices`: the stages whose maps are returned, in this order; negative ones count from
        the last. Stages after the last of them are left out of the network.

        **Raises** ModelError for an index that is no stage.
        """
        super().__init__()
        self.out_indices = tuple(_stage(index) for index in out_indices)
        if not self.out_indices:
            raise ModelError("out_indices is empty: name stages of 0 to 3")
        self.config = net.config
        self.patch_embed = net.patch_embed
        self.stages = nn.Sequential(*list(net.stages)[: max(self.out_indices) + 1])
        self.feature_info = FeatureInfo(_info(net.config), self.out_indices)
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
        """As `TinyViT.set_input_size`; `windows` has four entries even where not all stages are there."""
        shape, windows = self.config, None if windows is None else tuple(windows)
        if windows is not None and len(self.stages) < NUM_STAGES:
            raise ModelError("give windows to the network before stages are left out of it")
        self.config = resized(self.stages, shape, size, windows=windows)


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
    """Builds a feature pyramid in training mode, with the weights of a classifier or fresh ones.

    **Arguments**

    - `name`, `image_size`, `dimensions`: see `models.build`. Without a name the weights must be a file of
      `save_weights`, which describes its network.
    - `weights`: of a classifier of any number of classes, in any layout that `models.load_weights` reads.
    - `resize_windows`: see `models.load_weights`.

    **Raises** ModelError for a wrong request, WeightsError for a file that cannot be read or does not fit.
    """
    if name is None:
        if weights is None:
            raise ModelError("a feature pyramid needs the name of a model, a file of weights, or both")
        if image_size is not None or dimensions:
            raise ModelError("a file without the name of a model says its own dimensions: give the name to set others")
        config = TinyViTConfig.from_json({**describe_weights(weights)["config"], "drop_path": drop_path})
    else:
        num_classes = 1 if weights is None else _num_classes(weights)
        sizes = {"num_classes": num_classes, "image_size": image_size or 224, "drop_path": drop_path}
        config = resolve(name, dimensions={**dimensions, **sizes})
    net = TinyViT(config)
    if weights is not None:
        load_weights(net, weights, resize_windows=resize_windows)
    return FeaturePyramid(net, out_indices=out_indices)


def _num_classes(weights: str | Path) -> int:
    head = read_state(weights).get(HEAD, torch.empty(1, 0))
    return head.shape[0]


def _stage(index: int) -> int:
    if not -NUM_STAGES <= index < NUM_STAGES:
        raise ModelError(f"out_indices holds {index}, there are {NUM_STAGES} stages: 0 to {NUM_STAGES - 1}")
    return index % NUM_STAGES


def _info(config: TinyViTConfig) -> list[dict[str, Any]]:
    """Of every stage: channels, pixels to a position, and the name of the module."""
    return [
        {"num_chs": dim, "reduction": config.stem_stride * 2**index, "module": f"stages.{index}", "index": index}
        for index, dim in enumerate(config.dims)
    ]
