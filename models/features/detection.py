"""A TinyViT as the backbone of torchvision's detectors.

    backbone = PyramidBackbone(models.build_features(weights="student.safetensors"))
    detector = torchvision.models.detection.RetinaNet(backbone, num_classes=91, anchor_generator=...)

Lin et al., "Feature Pyramid Networks for Object Detection" (CVPR 2017), with torchvision's operations. `build_detector`
builds a whole detector.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from distill.models.errors import ModelError
from distill.models.features.pyramid import FeaturePyramid
from distill.models.tinyvit.norms import use_norms

KINDS = ("retinanet", "fasterrcnn")
ANCHOR_RATIOS = (0.5, 1.0, 2.0)
ANCHORS_PER_OCTAVE = 3


class PyramidBackbone(nn.Module):
    """A backbone in torchvision's form: a feature pyramid network on the maps of a TinyViT.

    `forward` takes normalised float pixels (B, 3, H, W) and returns an ordered dict of maps (B, out_channels, h, w)
    under `0`, `1`, ..., from fine to coarse, and `pool` (or `p6`, `p7`) for the coarser levels that `extra` adds.
    """

    def __init__(self, features: FeaturePyramid, *, out_channels: int = 256, extra: nn.Module | None = None) -> None:
        """**Arguments:** `extra`: torchvision's block of further levels; None adds none."""
        super().__init__()
        self.features = features
        channels: list[int] = features.feature_info.channels()
        self.fpn = FeaturePyramidNetwork(channels, out_channels, extra_blocks=extra)
        self.out_channels = out_channels

    def forward(self, pixels_bchw: Tensor) -> OrderedDict[str, Tensor]:
        maps = self.features(pixels_bchw)
        levels: OrderedDict[str, Tensor] = self.fpn(
            OrderedDict((str(level), x_bchw) for level, x_bchw in enumerate(maps))
        )
        return levels


def build_detector(
    kind: str,
    features: FeaturePyramid,
    *,
    num_classes: int,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    channels: int = 256,
) -> nn.Module:
    """A torchvision detector on a feature pyramid, in training mode.

    It takes a list of float images (3, H, W) in 0..1, of any sizes, and resizes and normalises them itself. The
    pyramid's BatchNorms become frozen: batches in detection are small.

    **Arguments**

    - `kind`: `retinanet` (Lin et al., ICCV 2017) or `fasterrcnn` (Ren et al., NeurIPS 2015).
    - `features`: with the maps of the last three stages for RetinaNet, of all four for Faster R-CNN.
    - `num_classes`: of objects. In targets and predictions they are numbered from 1; 0 is the background.
    - `image_size`: shorter side after resizing, in pixels; the longer side is at most 5/3 of it, as 800 and 1333.
    - `mean`, `std`: of the RGB values in 0..1.
    - `channels`: of the feature pyramid network.

    **Raises** ModelError for another kind, or maps at other strides.
    """
    if kind not in KINDS:
        raise ModelError(f"unknown kind of detector {kind!r}; known: {', '.join(KINDS)}")
    strides = features.feature_info.reduction()
    required = [8, 16, 32] if kind == "retinanet" else [4, 8, 16, 32]
    if strides != required:
        raise ModelError(f"a {kind} is built on maps at strides {required}, these are at {strides}: see out_indices")
    use_norms(features, "frozen")
    transform = {
        "min_size": image_size, "max_size": image_size * 5 // 3, "image_mean": list(mean), "image_std": list(std),
    }  # fmt: skip
    detector: nn.Module
    if kind == "retinanet":
        extra: nn.Module = LastLevelP6P7(channels, channels)
        backbone = PyramidBackbone(features, out_channels=channels, extra=extra)
        scales = [2 ** (index / ANCHORS_PER_OCTAVE) for index in range(ANCHORS_PER_OCTAVE)]
        anchors = _anchors([[4 * stride * scale for scale in scales] for stride in (*strides, 64, 128)])
        detector = RetinaNet(backbone, num_classes + 1, anchor_generator=anchors, **transform)
        return detector
    backbone = PyramidBackbone(features, out_channels=channels, extra=LastLevelMaxPool())
    pool = MultiScaleRoIAlign(featmap_names=["0", "1", "2", "3"], output_size=7, sampling_ratio=2)
    anchors = _anchors([[8 * stride] for stride in (*strides, 64)])
    detector = FasterRCNN(backbone, num_classes + 1, rpn_anchor_generator=anchors, box_roi_pool=pool, **transform)
    return detector


def _anchors(sizes: list[list[float]]) -> AnchorGenerator:
    """Anchors of the given sides in pixels, level by level, each in three ratios of height to width."""
    rounded = tuple(tuple(round(size) for size in level) for level in sizes)
    return AnchorGenerator(rounded, (ANCHOR_RATIOS,) * len(rounded))
