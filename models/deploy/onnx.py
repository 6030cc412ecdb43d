"""A network as an ONNX file, and the proof that it answers alike.

Needs the packages of the extra `export`: onnx and onnxscript to write, onnxruntime to check. The input is normalised
float32 pixels (batch, 3, S, S), the output logits (batch, classes); the batch axis is free.
"""

import importlib
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from distill.models.errors import ModelError

INPUT, OUTPUT = "pixels", "logits"
TOLERANCE = 1e-4
"""Largest difference that is accepted, as a share of the largest logit or, where that is below 1, absolute."""
BATCHES = (1, 3)
"""Sizes that are compared; the file is traced with another."""
_TRACED = 2


def export_onnx(
    net: nn.Module, path: str | Path, *, image_size: int, metadata: Mapping[str, str], opset: int = 18
) -> float:
    """Writes `net` to an ONNX file and compares its answers with torch's.

    The file appears under its name only when it is complete and answers alike; one of that name is replaced.

    **Arguments**

    - `net`: on the CPU, in float32; its mode is set to evaluation.
    - `metadata`: entries of the file, text to text.
    - `opset`: version of ONNX's operators.

    **Returns** the largest difference of a logit from torch's, as `compare` measures it.

    **Raises** ModelError where a package is missing, exporting fails or the answers differ.
    """
    path = Path(path)
    for name in ("onnx", "onnxscript", "onnxruntime"):
        _needed(name)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        _write(net.eval(), partial, image_size=image_size, metadata=metadata, opset=opset)
        difference = compare(net, partial, image_size=image_size)
        if difference > TOLERANCE:
            raise ModelError(
                f"the ONNX file answers differently: by {difference:.2e} of the largest logit, {TOLERANCE:.0e} is "
                "accepted. Nothing was written; try another opset"
            )
        partial.replace(path)
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error}") from None
    finally:
        partial.unlink(missing_ok=True)
    return difference


def compare(net: nn.Module, path: str | Path, *, image_size: int, batches: Sequence[int] = BATCHES) -> float:
    """Asks network and file about the same random pictures, in batches of several sizes.

    **Returns** the largest |difference| of a logit over max(1, largest |logit|).
    """
    runtime = _needed("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for batch in batches:
        pixels_bchw = torch.randn(batch, 3, image_size, image_size, generator=generator)
        with torch.no_grad():
            expected_bc = net(pixels_bchw)
        (found,) = session.run([OUTPUT], {INPUT: pixels_bchw.numpy()})
        gap = (torch.from_numpy(found) - expected_bc).abs().max().item()
        worst = max(worst, gap / max(1.0, expected_bc.abs().max().item()))
    return worst


def _write(net: nn.Module, path: Path, *, image_size: int, metadata: Mapping[str, str], opset: int) -> None:
    pixels_bchw = torch.zeros(_TRACED, 3, image_size, image_size)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                net, (pixels_bchw,), dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},), opset_version=opset,
                input_names=[INPUT], output_names=[OUTPUT], verbose=False,
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"torch cannot export the network to ONNX opset {opset}: {reason}") from error
    finally:
        logger.setLevel(level)
    program.model.metadata_props.update(metadata)
    program.save(str(path), external_data=False)


def _needed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModelError(f"ONNX files need the package {name}: pip install 'distill[export]'") from error
