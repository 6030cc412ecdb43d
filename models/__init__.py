"""TinyViT students, teachers and their weights: everything that is a network, nothing that is a store or an image file.

    from distill import models

    net = models.build("tiny_vit_5m", num_classes=1000, image_size=224)
    models.load_weights(net, "file.pth")
    net = models.convert(net, image_size=384)
    models.save_weights(net, "tiny_vit.safetensors")
    models.export_onnx(net, "tiny_vit.onnx", image_size=384)

    teacher = models.build_teacher(kind="efficientnet_lite0")

These names are public and stay. Importing them loads torch, torchvision and timm; the packages of the extra `export`
(onnx, onnxscript, onnxruntime) are imported by `export_onnx`.
"""

from __future__ import annotations

from typing import Any

from distill.models.cost.counting import count_macs, count_params
from distill.models.deploy.folded import for_inference
from distill.models.deploy.onnx import export_onnx
from distill.models.errors import ModelError, WeightsError
from distill.models.features.pyramid import FeaturePyramid, build_features
from distill.models.image_model import ImageModel
from distill.models.teachers.build import build_teacher
from distill.models.teachers.saved import check_saveable, save_teacher
from distill.models.tinyvit.config import IMAGE_SIZE, NUM_CLASSES, TinyViTConfig, resolve_config
from distill.models.tinyvit.network import TinyViT
from distill.models.tinyvit.norms import use_norms
from distill.models.weights.class_maps import ClassMap, match_classes
from distill.models.weights.convert import convert
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
    "convert",
    "count_macs",
    "count_params",
    "describe_weights",
    "export_onnx",
    "for_inference",
    "load_weights",
    "match_classes",
    "resolve_config",
    "save_teacher",
    "save_weights",
    "use_norms",
]


def build(
    name: str,
    *,
    num_classes: int = NUM_CLASSES,
    image_size: int = IMAGE_SIZE,
    drop_path: float = 0.0,
    **dimensions: Any,
) -> TinyViT:
    """Builds a freshly initialised TinyViT in training mode (arXiv 2207.10666).

    **Arguments**

    - `name`: `tiny_vit_5m`, `tiny_vit_11m`, `tiny_vit_21m` (with the attention windows published for 224, 384 and 512
      pixels, at any other size those of 224), or `tiny_vit` with dimensions of your own.
    - `num_classes`: outputs of the classifier.
    - `image_size`: height and width in pixels of the images that the network is meant for; it takes any size.
    - `drop_path`: drop-path rate of the last block; it rises linearly from 0 in the first.
    - `dimensions`: `dims`, `depths`, `heads`, `windows` (four integers each; required for `tiny_vit`), `mlp_ratio`,
      `expand`, `stem_stride` (see `TinyViTConfig`); None counts as not given.

    **Returns** a module from normalised float pixels (B, 3, H, W) to logits (B, num_classes).

    **Raises** ModelError naming the dimension or name that is unknown, missing or contradictory.
    """
    sizes = {"num_classes": num_classes, "image_size": image_size, "drop_path": drop_path}
    return TinyViT(resolve_config(name, dimensions={**dimensions, **sizes}))
