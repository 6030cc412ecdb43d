"""Networks with another classifier: saved, read, and compared with features times its weight."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch

from distill import models
from distill.models.features.embedding import remove_classifier
from distill.models.weights.tensor_files import read_tensors

NAMES = ("ant", "bee", "cat")


def save(teacher: models.ImageModel, path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Saves it with three classes of its own; **returns** pixels and the expected logits."""
    pixels = torch.randn(2, 3, teacher.image_size, teacher.image_size)
    before = {name: tensor.clone() for name, tensor in teacher.net.state_dict().items()}
    with torch.no_grad():
        width = feature_width(teacher)
        weight, bias = torch.randn(3, width), torch.randn(3)
        models.save_teacher(teacher, path, weight_cd=weight, bias_c=bias, class_names=NAMES)
        after = teacher.net.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before), "what is saved is left as it was"
        remove_classifier(teacher.net, name=teacher.name)
        return pixels, teacher.net(pixels).flatten(1) @ weight.T + bias


def feature_width(teacher: models.ImageModel) -> int:
    net: Any = teacher.net
    classifier = net.head.fc if isinstance(net, models.TinyViT) else net.get_classifier()  # Conv2d: (out, in, 1, 1)
    return int(classifier.weight.shape[1])


@pytest.mark.parametrize(
    ("name", "size"),
    [("test_vit", 96), ("test_convnext", 160), ("test_efficientnet", 64), ("mobilenetv3_small_050", 64),
     ("tiny_vit_5m_224", 224)],
)  # fmt: skip
def test_timms_models_return_the_logits_of_the_new_classifier(name: str, size: int, tmp_path: Path) -> None:
    options: dict[str, Any] = {"img_size": size} if name == "test_vit" else {}
    torch.save(timm.create_model(name, num_classes=7, **options).state_dict(), tmp_path / "a.pth")
    teacher = models.build_teacher(
        kind="timm", name=name, weights=tmp_path / "a.pth", num_classes=7, image_size=size, crop=0.9
    )
    pixels, expected = save(teacher, tmp_path / "saved.safetensors")
    loaded = models.build_teacher(kind="saved", weights=tmp_path / "saved.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(loaded.net(pixels), expected, rtol=1e-4, atol=1e-4)
    assert (loaded.kind, loaded.name, loaded.class_names) == ("saved", name, NAMES)
    assert (loaded.num_classes, loaded.image_size, loaded.crop, loaded.mean) == (3, size, 0.9, teacher.mean)
    again = tmp_path / "again.safetensors"
    pixels, expected = save(loaded, again)  # what was saved once can be saved with other classes
    with torch.no_grad():
        logits = models.build_teacher(kind="saved", weights=again).net(pixels)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_a_lite_teacher_is_saved_under_the_names_of_timm(tmp_path: Path) -> None:
    teacher = models.build_teacher(kind="efficientnet_lite0", image_size=64)
    pixels, expected = save(teacher, tmp_path / "saved.safetensors")
    loaded = models.build_teacher(kind="saved", weights=tmp_path / "saved.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(loaded.net(pixels), expected, rtol=1e-4, atol=1e-4)
    theirs = timm.create_model("tf_efficientnet_lite0", num_classes=3, checkpoint_path=tmp_path / "saved.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(pixels), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [32, 40])
def test_a_tiny_vit_is_saved_as_any_tiny_vit(size: int, small: models.TinyViT, tmp_path: Path) -> None:
    metadata = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "crop": 1.0, "interpolation": "bilinear"}
    path = tmp_path / "a.safetensors"
    models.save_weights(small, path, metadata={key: json.dumps(value) for key, value in metadata.items()})
    teacher = models.build_teacher(kind="tiny_vit", weights=path, image_size=size)
    pixels, expected = save(teacher, tmp_path / "saved.safetensors")
    for kind in ("saved", "tiny_vit"):
        loaded = models.build_teacher(kind=kind, weights=tmp_path / "saved.safetensors")
        with torch.no_grad():
            torch.testing.assert_close(loaded.net(pixels), expected, rtol=1e-4, atol=1e-4)
        assert (loaded.class_names, loaded.std, loaded.interpolation) == (NAMES, (0.4, 0.5, 0.6), "bilinear")
        assert loaded.image_size == size


def test_networks_that_cannot_be_saved_are_refused(tmp_path: Path) -> None:
    teacher = models.build_teacher(kind="efficientnet_lite0", image_size=64)
    with pytest.raises(models.ModelError, match="neither a TinyViT nor a model of timm's"):
        models.check_saveable(torch.nn.Linear(2, 2), name="x")
    with pytest.raises(models.WeightsError, match=r"classifier\.weight"):
        models.save_teacher(
            teacher, tmp_path / "a.safetensors", weight_cd=torch.zeros(3, 5), bias_c=torch.zeros(3), class_names=NAMES
        )
    good: dict[str, Any] = {
        "weight_cd": torch.zeros(3, feature_width(teacher)),
        "bias_c": torch.zeros(3),
        "class_names": NAMES,
    }
    with pytest.raises(models.WeightsError, match="cannot write weights to"):
        models.save_teacher(teacher, tmp_path / "none" / "a.safetensors", **good)
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_saved_teacher_are_refused(tmp_path: Path) -> None:
    def build(**options: Any) -> models.ImageModel:
        return models.build_teacher(kind="saved", **options)

    with pytest.raises(models.ModelError, match="needs weights=FILE"):
        build()
    with pytest.raises(models.WeightsError, match="no weights file at"):
        build(weights=tmp_path / "none.safetensors")
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(models.WeightsError, match="does not describe its model"):
        build(weights=path)
    teacher = models.build_teacher(kind="efficientnet_lite0", image_size=64)
    save(teacher, path)
    with pytest.raises(models.WeightsError, match="are for 3 classes, not for 5"):
        build(weights=path, num_classes=5)
    with pytest.raises(models.ModelError, match="says its name: it takes no other"):
        build(weights=path, name="resnet18")
    header, tensors = read(path)
    safetensors.torch.save_file(tensors, path, metadata=header | {"format_version": "2"})
    with pytest.raises(models.WeightsError, match=r"format_version=2"):
        build(weights=path)
    safetensors.torch.save_file(tensors, path, metadata={k: v for k, v in header.items() if k != "architecture"})
    with pytest.raises(models.WeightsError, match="does not say its 'architecture'"):
        build(weights=path)
    safetensors.torch.save_file(tensors, path, metadata=header | {"architecture": '"no_such_net"'})
    with pytest.raises(models.WeightsError, match="is of 'no_such_net', which is no architecture of timm"):
        build(weights=path)


def read(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    with safetensors.safe_open(path, framework="pt") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("architecture", "hf-hub:timm/resnet18.a1_in1k"), ("architecture", "hf_hub:x/y"),
        ("architecture", "local-dir:/tmp"),
        ("architecture", "../../x"), ("architecture", None), ("architecture", ["resnet18"]),
        ("architecture", "vit_giant_patch14_224"), ("num_classes", 2**40), ("num_classes", -1), ("num_classes", 3.0),
        ("image_size", 10**7), ("image_size", "64"), ("class_names", "abc"), ("mean", "x"), ("std", [0, 0, 0]),
        ("crop", "all"), ("name", None), ("interpolation", 3),
    ],
)  # fmt: skip
def test_headers_that_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: object) -> None:
    """One error, no network, and no network of a billion parameters for a file of some."""

    def no_network(*_: object, **__: object) -> None:
        pytest.fail("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    path = tmp_path / "a.safetensors"
    save(models.build_teacher(kind="efficientnet_lite0", image_size=64), path)
    header, tensors = read(path)
    safetensors.torch.save_file(tensors, path, metadata=header | {key: json.dumps(value)})
    try:
        models.build_teacher(kind="saved", weights=path)
    except (models.WeightsError, models.ModelError):
        return
    assert key in ("name", "interpolation", "class_names")  # Text that is shown, and nothing more.


@pytest.mark.parametrize("length", [2**62, 2**31, 10**9, 0, 7])
def test_a_header_whose_length_lies(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b"{}" * 50)
    for build in (lambda: models.build_teacher(kind="saved", weights=path), lambda: read_tensors(path)):
        with pytest.raises(models.WeightsError):
            build()
