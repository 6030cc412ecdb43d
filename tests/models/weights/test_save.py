"""Files of weights that we write: what is in them, and that nothing half-written is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from distill import models

METADATA = {"mean": "[0.5, 0.4, 0.3]", "std": "[0.2, 0.2, 0.2]", "note": "not JSON"}


def copy_of(net: models.TinyViT) -> models.TinyViT:
    return models.TinyViT(net.config).eval()


def same_state(one: nn.Module, other: nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_saved_and_loaded_weights_are_equal(small: models.TinyViT, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    last = small.to(memory_format=torch.channels_last)
    models.save_weights(last, path, metadata=METADATA)
    other = copy_of(small)
    assert not same_state(other, small)
    models.load_weights(other, path)
    assert same_state(other, small)
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_small_networks_reach_timm_too(small: models.TinyViT, tmp_path: Path) -> None:
    path = tmp_path / "timm.safetensors"
    models.save_weights(small, path, metadata={}, layout="timm")
    with safetensors.safe_open(path, framework="pt") as file:
        header = file.metadata()
    timms = timm.create_model(header["architecture"], checkpoint_path=path, **json.loads(header["arguments"])).eval()
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(timms(pixels), small(pixels), rtol=0, atol=1e-5)
    with pytest.raises(models.WeightsError, match="was not written by save_weights"):
        models.describe_weights(path)
    with pytest.raises(models.WeightsError, match=r"unknown layout 'tim' .*; known: ours, timm"):
        models.save_weights(small, path, metadata={}, layout="tim")
    other = models.TinyViT(models.TinyViTConfig.from_json({**small.config.to_json(), "stem_stride": 2}))
    with pytest.raises(models.WeightsError, match=r"cannot write .* for timm: .*stem of stride 4"):
        models.save_weights(other, tmp_path / "b.safetensors", metadata={}, layout="timm")
    assert not (tmp_path / "b.safetensors").exists()


def test_the_description_holds_what_was_saved(small: models.TinyViT, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    names = [f"class {index}" for index in range(10)]
    models.save_weights(small, path, metadata={**METADATA, "class_names": json.dumps(names)})
    description = models.describe_weights(path)
    assert models.TinyViTConfig.from_json(description["config"]) == small.config
    assert (description["num_classes"], description["image_size"]) == (10, 32)
    assert (description["mean"], description["std"], description["crop"]) == ([0.5, 0.4, 0.3], [0.2, 0.2, 0.2], None)
    assert (description["class_names"], description["note"]) == (names, "not JSON")
    json.dumps(description)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"config": "{}"}, "metadata may not set config"),
        ({"mean": "0.5"}, "mean .* must be a list of three numbers"),
        ({"std": "[1, 2]"}, "std .* must be a list of three numbers"),
        ({"crop": "wide"}, "crop .* is not JSON"),
        ({"class_names": '["a"]'}, "class_names .* must be a list of 10 names"),
        ({"note": 3}, "metadata note .* must be text"),
    ],
)
def test_wrong_metadata_is_refused(
    metadata: dict[str, Any], message: str, small: models.TinyViT, tmp_path: Path
) -> None:
    with pytest.raises(models.WeightsError, match=message):
        models.save_weights(small, tmp_path / "a.safetensors", metadata=metadata)
    assert not list(tmp_path.iterdir())


def test_only_our_files_describe_themselves(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(models.WeightsError, match="was not written by save_weights"):
        models.describe_weights(path)
    header = {"format": "distill.tiny_vit", "format_version": "2"}
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, metadata=header)
    with pytest.raises(models.WeightsError, match="is of version 2 of its format"):
        models.describe_weights(path)


def test_half_precision_is_stored_and_upcast(small: models.TinyViT, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    models.save_weights(small, path, metadata={}, dtype=torch.float16)
    assert safetensors.torch.load_file(path)["head.fc.weight"].dtype == torch.float16
    other = copy_of(small)
    models.load_weights(other, path)
    assert torch.equal(other.head.fc.weight, small.head.fc.weight.half().float())
    assert other.head.fc.weight.dtype == torch.float32
    with torch.no_grad():
        small.head.fc.bias[0] = 1e6
    with pytest.raises(models.WeightsError, match=r"head\.fc\.bias holds values that torch\.float16 cannot"):
        models.save_weights(small, path, metadata={}, dtype=torch.float16)


def test_failed_save_leaves_the_old_file(
    small: models.TinyViT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    models.save_weights(small, path, metadata={})
    before = path.read_bytes()

    def fail(tensors: Any, target: Path, metadata: Any) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(models.WeightsError, match=r"cannot write weights to .*No space left"):
        models.save_weights(small, path, metadata={})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]
    with pytest.raises(models.WeightsError, match="cannot write weights to"):
        models.save_weights(small, tmp_path / "no" / "a.safetensors", metadata={})
