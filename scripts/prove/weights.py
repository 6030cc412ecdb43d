"""Proves that weights move freely: every published model goes official -> ours -> timm -> ours, and to ONNX.

    python scripts/prove/weights.py runs/weights

Weights are random, every tensor of them; outputs are compared on random pictures. It prints a table: the largest
difference of a logit from the first network's, as a share of the largest logit. Takes minutes; --quick leaves 384 and
512 px out.
"""

import argparse
import json
import time
from pathlib import Path

import safetensors
import timm
import torch
from torch import Tensor, nn

from distill import models
from distill.models.deploy.onnx import export_onnx
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
    """Differences of: official -> ours; -> timm; -> ours; and of onnxruntime."""
    first = models.build(name, image_size=size).eval()
    randomise(first)
    pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    expected = answer(first, pixels)
    official, moved, back = folder / "official.pth", folder / "timm.safetensors", folder / "back.pth"
    state = {layouts.from_ours(key, layout="official"): tensor for key, tensor in first.state_dict().items()}
    torch.save({"model": state}, official)
    ours = models.build(name, image_size=size).eval()
    models.load_weights(ours, official)
    models.save_weights(ours, moved, metadata={}, layout="timm")
    with safetensors.safe_open(moved, framework="pt") as file:
        header = file.metadata()
    timms = timm.create_model(header["architecture"], checkpoint_path=moved, **json.loads(header["arguments"])).eval()
    torch.save(timms.state_dict(), back)
    again = models.build(name, image_size=size).eval()
    models.load_weights(again, back)
    found = [gap(answer(net, pixels), expected) for net in (ours, timms, again)]
    return found[0], found[1], found[2], export_onnx(again, folder / "a.onnx", image_size=size, metadata={})


def randomise(net: nn.Module) -> None:
    """Fills every tensor, so that none can be lost unseen."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.ndim == 1 or name.endswith("attention_biases"):
                tensor.normal_(float(name.endswith(("bn.weight", "norm.weight"))), 0.2, generator=generator)


@torch.no_grad()
def answer(net: nn.Module, pixels: Tensor) -> Tensor:
    logits: Tensor = net(pixels)
    return logits


def gap(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


if __name__ == "__main__":
    main()
