"""Export: writes the student of a run, or a file of weights, for use elsewhere, with a model card beside it.

    python -m distill.export run.dir=runs/a format=onnx
    python -m distill.export run.dir=runs/a format=timm out=tiny.safetensors
    python -m distill.export weights=tiny_vit_21m_22k.pth model.name=tiny_vit_21m model.num_classes=21841 \\
        classes=imagenet_1k image_size=384 format=safetensors out=tiny_vit_21m_384.safetensors

An ONNX file has a free batch axis, takes normalised pixels, and is written only if its logits in onnxruntime agree with
torch's. A timm file is what timm.create_model(..., checkpoint_path=FILE) takes. The card describes network, use, scores
and origin.
"""

from __future__ import annotations

from pathlib import Path

import torch

from distill import models
from distill.config import ExportConfig
from distill.config.command import Program, run_program
from distill.errors import DistillError
from distill.exporting.model_card import model_card
from distill.exporting.source import ExportSource, open_source
from distill.files import write_file
from distill.models.deploy.onnx import export_onnx

_SUFFIX = {"onnx": ".onnx", "timm": ".timm.safetensors", "safetensors": ".export.safetensors"}


def main(config: ExportConfig) -> None:
    source = open_source(config)
    path = _target(config, source)
    card = Path(f"{path}.md")
    for target in (path, card):
        if target.exists() and not config.overwrite:
            raise DistillError(f"{target} exists and is not overwritten: give out=FILE or overwrite=true")
    difference = _write(config, source, path)
    write_file(card, model_card(source, path=path, format=config.format, difference=difference))
    print(f"{path} written, with its card {card}", flush=True)


def _target(config: ExportConfig, source: ExportSource) -> Path:
    path = Path(config.out) if config.out else source.weights.with_suffix(_SUFFIX[config.format])
    if not path.parent.is_dir():
        raise DistillError(f"there is no folder {path.parent} to write {path.name} to")
    return path


def _write(config: ExportConfig, source: ExportSource, path: Path) -> float | None:
    """Writes the file.

    **Returns:** for ONNX, the largest difference of a logit from torch's (`distill.models.deploy.onnx.compare`).
    """
    if config.format != "onnx":
        layout = "timm" if config.format == "timm" else "ours"
        dtype = getattr(torch, config.dtype)
        models.save_weights(source.net, path, metadata=source.metadata(), dtype=dtype, layout=layout)
        return None
    side = source.net.config.image_size
    difference = export_onnx(source.net, path, image_size=side, metadata=source.metadata(), opset=config.opset)
    print(f"onnxruntime agrees with torch: largest difference {difference:.1e} of the largest logit", flush=True)
    return difference


PROGRAM = Program(main, "export", schema=ExportConfig, about=__doc__)

if __name__ == "__main__":
    run_program(PROGRAM)
