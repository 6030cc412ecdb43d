"""TinyViT students, teachers and their weights: all that is a network, nothing that is a store or a picture.

net = models.build("tiny_vit_5m", num_classes=1000, image_size=224)
models.load_weights(net, "file.pth")
teacher = models.build_teacher(kind="efficientnet_lite0")
"""

from typing import Any

from distill.models.cost.counting import count_macs, count_params
from distill.models.deploy.folded import for_inference
from distill.models.errors import ModelError, WeightsError
from distill.models.features.pyramid import FeaturePyramid, build_features
from distill.models.image_model import ImageModel
from distill.models.teachers.build import build_teacher
from distill.models.teachers.saved import check_saveable, save_teacher
from distill.models.tinyvit.config import TinyViTConfig, resolve
from distill.models.tinyvit.network import TinyViT
from distill.models.tinyvit.norms import use_norms
from distill.models.weights.class_maps import ClassMap, match_classes
from distill.models.weights.load import load_weights
from distill.models.weights.save import describe_weights, save_weights

__all__ = [
    "ClassMap",
    "FeaturePyramid",
    "ImageModel",
    "ModelError",
    "TinyViT",
    "TinyViTConfig",
    "WeightsError",
    "build",
    "build_features",
    "build_teacher",
    "check_saveable",
    "count_macs",
    "count_params",
    "describe_weights",
    "for_inference",
    "load_weights",
    "match_classes",
    "resolve",
    "save_teacher",
    "save_weights",
    "use_norms",
]


def build(
    name: str, *, num_classes: int = 1000, image_size: int = 224, drop_path: float = 0.0, **dimensions: Any
) -> TinyViT:
    """Builds a freshly initialised TinyViT in training mode.

    **Arguments**

    - `name`: `tiny_vit_5m`, `tiny_vit_11m`, `tiny_vit_21m` (windows as published for 224, 384 and 512
      pixels, those of 224 at any other size), or `tiny_vit` with dimensions of your own.
    - `image_size`: height and width in pixels.
    - `drop_path`: rate of dropped residual branches in the last block, rising linearly from 0 in the first.
    - `dimensions`: `dims`, `depths`, `heads`, `windows` (four integers each; required for `tiny_vit`),
      `mlp_ratio`, `expand`, `stem_stride`; None counts as not given.

    **Raises** ModelError naming what is unknown, missing or contradictory.
    """
    sizes = {"num_classes": num_classes, "image_size": image_size, "drop_path": drop_path}
    return TinyViT(resolve(name, dimensions={**dimensions, **sizes}))
