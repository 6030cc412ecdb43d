"""A network as an ONNX file, checked against torch's logits.

Needs the packages of the extra `export`, imported only when used: onnx and onnxscript to write, onnxruntime to check.
The input is normalised float32 pixels (batch, 3, S, S), the output logits (batch, classes); the batch size is free.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from distill.models.atomic import replacing
from distill.models.errors import ModelError

INPUT, OUTPUT = "pixels", "logits"
TOLERANCE = 1e-4
"""Largest accepted difference, relative to the largest logit or, where that is below 1, absolute."""
BATCH_SIZES = (1, 3)
"""Batch sizes at which logits are compared; the network is traced at another one."""
_TRACED_BATCH_SIZE = 2


def export_onnx(
    net: nn.Module, path: str | Path, *, image_size: int, metadata: Mapping[str, str] | None = None, opset: int = 18
) -> float:
    """Writes `net` to an ONNX file and compares the file's logits with torch's.

    The file appears under its name only when it is complete and its logits agree; an existing one is replaced. Its
    input `pixels` is normalised float32 (batch, 3, image_size, image_size), its output `logits` (batch, num_classes);
    the batch size is free.

    **Arguments**

    - `net`: on the CPU, in float32; it is put into evaluation mode.
    - `image_size`: side in pixels.
    - `metadata`: entries of the file, text to text.
    - `opset`: version of ONNX's operators.

    **Returns** the largest difference of a logit from torch's, relative to max(1, largest |logit|).

    **Raises** ModelError where a package of the extra `export` is missing, exporting or writing fails, or the logits
    differ by more than 1e-4.
    """
    path = Path(path)
    for name in ("onnx", "onnxscript", "onnxruntime"):
        _import(name)
    try:
        with replacing(path) as partial:
            _write(net.eval(), partial, image_size=image_size, metadata=metadata or {}, opset=opset)
            difference = compare(net, partial, image_size=image_size)
            if not difference <= TOLERANCE:  # NaN is a difference too.
                raise ModelError(
                    f"the logits of the ONNX file differ from torch's by {difference:.2e} of the largest logit, "
                    f"{TOLERANCE:.0e} is accepted. Nothing was written; try another opset"
                )
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error}") from None
    return difference


def compare(net: nn.Module, path: str | Path, *, image_size: int, batch_sizes: Sequence[int] = BATCH_SIZES) -> float:
    """Runs network and file on the same random images, in batches of several sizes.

    **Returns** the largest |difference| of a logit over max(1, largest |logit|).
    """
    runtime = _import("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    differences = []
    for batch_size in batch_sizes:
        pixels_bchw = torch.randn(batch_size, 3, image_size, image_size, generator=generator)
        with torch.no_grad():
            expected_bc = net(pixels_bchw)
        (logits_bc,) = session.run([OUTPUT], {INPUT: pixels_bchw.numpy()})
        difference = (torch.from_numpy(logits_bc) - expected_bc).abs().max().item()
        differences.append(difference / expected_bc.abs().max().clamp(min=1).item())
    return torch.tensor(differences).max().item()  # NaN if any is: Python's max would pass over it.


def _write(net: nn.Module, path: Path, *, image_size: int, metadata: Mapping[str, str], opset: int) -> None:
    pixels_bchw = torch.zeros(_TRACED_BATCH_SIZE, 3, image_size, image_size)
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


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModelError(f"ONNX files need the package {name}: pip install 'distill[export]'") from error
