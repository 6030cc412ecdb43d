"""Loading weights: published layouts, round trips through timm, and files that are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from distill import models
from distill.models.weights import layouts

LAYOUTS = Path(__file__).parent / "layouts"
METADATA = {"mean": "[0.5, 0.4, 0.3]", "std": "[0.2, 0.2, 0.2]", "note": "not JSON"}


def copy_of(net: models.TinyViT) -> models.TinyViT:
    return models.TinyViT(net.config).eval()


def same_state(one: nn.Module, other: nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def renamed(net: models.TinyViT, layout: str) -> dict[str, Tensor]:
    """The state of a 5M network under published names, in the order of published files."""
    names = [line.split("\t")[0] for line in (LAYOUTS / f"{layout}.tsv").read_text().splitlines()]
    return {name: net.state_dict()[layouts.to_ours(name, layout=layout)] for name in names}


def refuse(net: models.TinyViT, path: Path, message: str) -> None:
    """Loading must fail with the message and leave the network as it was."""
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(models.WeightsError, match=message):
        models.load_weights(net, path)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("wrap", ["", "model", "state_dict"])
@pytest.mark.parametrize("layout", ["official", "mmpretrain", "timm"])
def test_published_layouts_load(layout: str, wrap: str, tmp_path: Path, fill: Callable[[nn.Module], None]) -> None:
    net = models.build("tiny_vit_5m")
    fill(net)
    if layout == "timm":
        theirs = timm.create_model("tiny_vit_5m_224", num_classes=1000)
        theirs.load_state_dict(net.state_dict())
        state: dict[str, Any] = theirs.state_dict()
    else:
        state = renamed(net, layout)
        index_name = next(name for name in state if name.endswith("attention_biases")) + "_idxs"
        state[index_name.replace("biases_idxs", "bias_idxs")] = torch.zeros(49, 49, dtype=torch.int64)
    if wrap == "model":
        state = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save({wrap: state, "epoch": 3} if wrap else state, tmp_path / "a.pth")
    other = models.build("tiny_vit_5m")
    models.load_weights(other, tmp_path / "a.pth")
    assert same_state(other, net)


@pytest.mark.parametrize("layout", ["official", "mmpretrain"])
def test_round_trip_through_timm_keeps_the_outputs(
    layout: str, tmp_path: Path, fill: Callable[[nn.Module], None]
) -> None:
    """official -> ours -> timm -> ours."""
    first = models.build("tiny_vit_5m", num_classes=12).eval()
    fill(first)
    torch.save({"model": renamed(first, layout)}, tmp_path / "theirs.pth")
    ours = models.build("tiny_vit_5m", num_classes=12).eval()
    models.load_weights(ours, tmp_path / "theirs.pth")
    path = tmp_path / "timm.safetensors"
    models.save_weights(ours, path, metadata=METADATA, layout="timm")
    with safetensors.safe_open(path, framework="pt") as file:
        header = file.metadata()
    timms = timm.create_model(header["architecture"], checkpoint_path=path, **json.loads(header["arguments"])).eval()
    torch.save(timms.state_dict(), tmp_path / "back.pth")
    back = models.build("tiny_vit_5m", num_classes=12).eval()
    models.load_weights(back, tmp_path / "back.pth")
    pixels = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        expected = first(pixels)
        assert expected.std() > 0.05
        assert torch.equal(ours(pixels), expected)
        torch.testing.assert_close(timms(pixels), expected, rtol=0, atol=1e-5)
        assert torch.equal(back(pixels), expected)


@pytest.mark.parametrize("entry", ["model_ema", "state_dict_ema", "ema"])
def test_averaged_weights_are_taken_by_name_or_where_there_are_no_others(
    entry: str, small: models.TinyViT, fill: Callable[[nn.Module], None], tmp_path: Path
) -> None:
    path = tmp_path / "a.pth"
    plain, averaged = copy_of(small), copy_of(small)
    torch.save({entry: small.state_dict(), "model": plain.state_dict(), "epoch": 3}, path)
    models.load_weights(averaged, path)
    assert same_state(averaged, plain)
    models.load_weights(averaged, path, entry=entry)
    assert same_state(averaged, small)
    with pytest.raises(
        models.WeightsError, match=rf"has no entry 'emma' that holds tensors; its entries: {entry}, model"
    ):
        models.load_weights(averaged, path, entry="emma")
    torch.save({entry: {"module": {f"module.{k}": v for k, v in small.state_dict().items()}}}, path)
    models.load_weights(plain, path)
    assert same_state(plain, small)
    models.save_weights(small, tmp_path / "a.safetensors", metadata={})
    with pytest.raises(models.WeightsError, match="has no entries to choose from"):
        models.load_weights(plain, tmp_path / "a.safetensors", entry=entry)


def test_heads_of_21841_classes_load_and_others_are_refused(tmp_path: Path) -> None:
    net = models.build("tiny_vit_5m", num_classes=21841)
    torch.save({"model": renamed(net, "official")}, tmp_path / "a.pth")
    other = models.build("tiny_vit_5m", num_classes=21841)
    models.load_weights(other, tmp_path / "a.pth")
    assert same_state(other, net)
    refuse(
        models.build("tiny_vit_5m", num_classes=1000), tmp_path / "a.pth", "are for 21841 classes, the model has 1000"
    )


class Recipe(dict[str, Any]):
    """Like the configuration objects in published files; leaves a mark when pickle makes one."""

    made = 0
    note: str

    def __setstate__(self, state: Any) -> None:
        Recipe.made += 1


def test_objects_beside_the_tensors_are_never_made(small: models.TinyViT, tmp_path: Path) -> None:
    recipe = Recipe(lr=0.1, inner=Recipe(wd=0.2))
    recipe.note = "state"
    torch.save({"model": small.state_dict(), "config": recipe, "where": Path("x")}, tmp_path / "a.pth")
    torch.load(tmp_path / "a.pth", weights_only=False)
    assert Recipe.made > 0  # an unguarded load does make it
    Recipe.made = 0
    other = copy_of(small)
    models.load_weights(other, tmp_path / "a.pth")
    assert same_state(other, small)
    assert Recipe.made == 0


def test_a_whole_pickled_network_is_refused(small: models.TinyViT, tmp_path: Path) -> None:
    torch.save(small, tmp_path / "a.pth")
    refuse(small, tmp_path / "a.pth", "a.pth")


def test_wrong_class_count_is_refused_with_both_numbers(small: models.TinyViT, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    models.save_weights(small, path, metadata={})
    sizes = {**small.config.to_json(), "num_classes": 7}
    other = models.TinyViT(models.TinyViTConfig.from_json(sizes))
    refuse(other, path, r"weights in .*a\.safetensors are for 10 classes, the model has 7")


def test_missing_unexpected_and_reshaped_tensors_are_named(small: models.TinyViT, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    state = small.state_dict()
    torch.save({name: tensor for name, tensor in state.items() if name != "head.norm.bias"}, path)
    refuse(small, path, "missing head.norm.bias$")
    torch.save({**state, "head.extra": torch.zeros(1)}, path)
    refuse(small, path, "unexpected head.extra$")
    torch.save({**state, "head.norm.bias": torch.zeros(5)}, path)
    refuse(small, path, r"other shape head.norm.bias \(5,\) for \(32,\)")


def test_weights_for_other_windows_say_so(small: models.TinyViT, tmp_path: Path) -> None:
    models.save_weights(small, tmp_path / "a.safetensors", metadata={})
    other = models.TinyViT(models.TinyViTConfig.from_json({**small.config.to_json(), "windows": [4, 2, 2, 1]}))
    refuse(other, tmp_path / "a.safetensors", r"\(2, 16\) for \(2, 4\); the weights are for other attention windows")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.pth", None, "no weights file at .*none.pth"),
        ("a.pth", b"rubbish", "cannot read .*a.pth"),
        ("a.safetensors", b"rubbish", "cannot read .*a.safetensors"),
        ("empty.pth", b"", "cannot read .*empty.pth"),
    ],
)
def test_unreadable_files_are_named(
    name: str, content: bytes | None, message: str, small: models.TinyViT, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    refuse(small, tmp_path / name, message)


def test_files_of_other_things_are_refused(small: models.TinyViT, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"epoch": 3, "optimizer": {}}, path)
    refuse(small, path, r"holds no state dict.*found entries \['epoch', 'optimizer'\]")
    torch.save({"conv1.weight": torch.zeros(1)}, path)
    refuse(small, path, "no known TinyViT layout: conv1.weight")
    whole = tmp_path / "whole.pth"
    torch.save(small.state_dict(), whole)
    path.write_bytes(whole.read_bytes()[:5000])
    refuse(small, path, "cannot read .*a.pth")


def test_a_new_head_leaves_the_rest_as_in_the_file(small: models.TinyViT, tmp_path: Path) -> None:
    models.save_weights(small, tmp_path / "a.safetensors", metadata={})
    net = models.build("tiny_vit", **{**small.config.to_json(), "num_classes": 7})
    head = {name: tensor.clone() for name, tensor in net.state_dict().items() if name.startswith("head.fc.")}
    models.load_weights(net, tmp_path / "a.safetensors", new_head=True)
    expected = small.state_dict() | head
    assert head["head.fc.weight"].shape == (7, 32)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
