"""The public names of `distill.models`: documented, enough for a TinyViT from building to export, light to import."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from distill import models

SHAPE: dict[str, Any] = {
    "dims": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "heads": [1, 1, 2, 2],
    "windows": [7, 7, 14, 7],
}


@pytest.mark.parametrize("name", models.__all__)
def test_every_public_name_is_documented_with_its_options(name: str) -> None:
    public = getattr(models, name)
    doc = inspect.getdoc(public)
    assert doc
    if inspect.isfunction(public):
        options = [one.name for one in inspect.signature(public).parameters.values() if one.kind == one.KEYWORD_ONLY]
        assert [option for option in options if f"`{option}`" not in doc] == []


def test_build_load_convert_and_export_with_public_names(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    ids = ["n01440764", "n01443537", "n01484850"]
    net = models.build("tiny_vit", num_classes=3, image_size=224, **SHAPE)
    models.save_weights(net, tmp_path / "a.safetensors")
    loaded = models.build("tiny_vit", num_classes=3, image_size=224, **SHAPE)
    models.load_weights(loaded, tmp_path / "a.safetensors")
    class_map = models.match_classes(ids, ids[::-1])
    converted = models.convert(loaded, class_map=class_map, image_size=384)
    assert converted.config.windows == (12, 12, 24, 12) and converted.config.image_size == 384
    assert models.export_onnx(converted, tmp_path / "a.onnx", image_size=384) < 1e-4
    pixels = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = net.eval()(pixels)
        assert torch.equal(models.convert(loaded, class_map=class_map)(pixels), expected.flip(1))


def test_importing_the_models_loads_no_optional_package() -> None:
    names = ("onnx", "onnxscript", "onnxruntime", "matplotlib", "scipy")
    code = f"import sys, distill.models; print(sorted(name for name in {names} if name in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
