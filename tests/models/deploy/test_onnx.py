"""ONNX files give the logits of torch. Needs the packages of the extra `export`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from distill import models
from distill.models.deploy import onnx as onnx_file

needs_onnx = pytest.mark.usefixtures("onnx_packages")


@pytest.fixture
def onnx_packages() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)


@needs_onnx
def test_the_file_gives_torchs_logits_at_any_batch_size_and_holds_its_metadata(
    small: models.TinyViT, tmp_path: Path
) -> None:
    import onnx
    import onnxruntime

    path = tmp_path / "a.onnx"
    difference = onnx_file.export_onnx(small, path, image_size=32, metadata={"mean": "[0.5, 0.5, 0.5]"})
    assert 0 <= difference < 1e-5
    assert [file.name for file in tmp_path.iterdir()] == ["a.onnx"]
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(path)
    assert session.get_modelmeta().custom_metadata_map["mean"] == "[0.5, 0.5, 0.5]"
    assert [(port.name, port.shape[1:]) for port in session.get_inputs()] == [("pixels", [3, 32, 32])]
    for batch in (1, 2, 7):
        pixels = torch.randn(batch, 3, 32, 32)
        (logits,) = session.run(["logits"], {"pixels": pixels.numpy()})
        with torch.no_grad():
            expected = small(pixels)
        assert expected.std() > 0.05
        torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=0, atol=1e-5)


class Shifting(nn.Module):
    """Adds an offset that can be changed after the file is written."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = 0.0

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.mean((2, 3)) + self.offset


@needs_onnx
def test_a_file_with_other_logits_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = Shifting()
    write = onnx_file._write

    def change_afterwards(*args: object, **kwargs: object) -> None:
        write(*args, **kwargs)  # type: ignore[arg-type]
        net.offset = 0.01

    monkeypatch.setattr(onnx_file, "_write", change_afterwards)
    with pytest.raises(models.ModelError, match=r"differ from torch's by 1\.00e-02 of the largest logit"):
        onnx_file.export_onnx(net, tmp_path / "a.onnx", image_size=8, metadata={})
    assert not list(tmp_path.iterdir())


def test_a_missing_package_says_what_to_install(
    small: models.TinyViT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(models.ModelError, match=r"need the package onnx: pip install 'distill\[export\]'"):
        onnx_file.export_onnx(small, tmp_path / "a.onnx", image_size=32, metadata={})
