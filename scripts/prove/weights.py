"""Proves that weights convert without loss: every published model from the official layout to ours, to timm, back to
ours, and to ONNX.

    python scripts/prove/weights.py runs/weights

Every tensor of the weights is random; logits are compared on random images. It prints a table: the largest difference
of a logit from the first network's, relative to the largest logit. Takes minutes; --quick leaves out 384 and 512 px.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import safetensors
import timm
import torch
from torch import Tensor, nn

from distill import models
from distill.models.weights import layouts

MODELS = [(name, 224) for name in ("tiny_vit_5m", "tiny_vit_11m", "tiny_vit_21m")]
LARGE = [("tiny_vit_21m", 384), ("tiny_vit_21m", 512)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where files are written")
    parser.add_argument("--quick", action="store_true", help="only models at 224 px")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print(f"{'model':<14}{'image':>5}{'ours':>10}{'timm':>10}{'ours again':>12}{'onnxruntime':>13}{'seconds':>9}")
    for name, size in MODELS if options.quick else MODELS + LARGE:
        began = time.monotonic()
        ours, timms, again, onnx = prove(name, size, options.folder)
        seconds = time.monotonic() - began
        print(f"{name:<14}{size:>5}{ours:>10.1e}{timms:>10.1e}{again:>12.1e}{onnx:>13.1e}{seconds:>9.0f}", flush=True)


def prove(name: str, size: int, folder: Path) -> tuple[float, float, float, float]:
    """Relative differences of the logits: official -> ours, -> timm, -> ours again, and of the ONNX file."""
    first = models.build(name, image_size=size).eval()
    randomise(first)
    pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    expected = forward(first, pixels)
    official, for_timm, from_timm = folder / "official.pth", folder / "timm.safetensors", folder / "back.pth"
    state = {layouts.from_ours(key, layout="official"): tensor for key, tensor in first.state_dict().items()}
    torch.save({"model": state}, official)
    ours = models.build(name, image_size=size).eval()
    models.load_weights(ours, official)
    models.save_weights(ours, for_timm, layout="timm")
    with safetensors.safe_open(for_timm, framework="pt") as file:
        header = file.metadata()
    arguments = json.loads(header["arguments"])
    timms = timm.create_model(header["architecture"], checkpoint_path=for_timm, **arguments).eval()
    torch.save(timms.state_dict(), from_timm)
    again = models.build(name, image_size=size).eval()
    models.load_weights(again, from_timm)
    ours_differs, timms_differs, again_differs = (
        relative_difference(forward(net, pixels), expected) for net in (ours, timms, again)
    )
    onnx_differs = models.export_onnx(again, folder / "a.onnx", image_size=size)
    return ours_differs, timms_differs, again_differs, onnx_differs


def randomise(net: nn.Module) -> None:
    """Fills every tensor with random values, so that a tensor that is lost changes the logits."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.ndim == 1 or name.endswith("attention_biases"):
                tensor.normal_(float(name.endswith(("bn.weight", "norm.weight"))), 0.2, generator=generator)


@torch.no_grad()
def forward(net: nn.Module, pixels: Tensor) -> Tensor:
    logits: Tensor = net(pixels)
    return logits


def relative_difference(logits: Tensor, expected: Tensor) -> float:
    return ((logits - expected).abs().max() / expected.abs().max()).item()


if __name__ == "__main__":
    main()
