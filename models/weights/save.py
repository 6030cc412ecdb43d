"""Writing the weights of a TinyViT to a file, in our layout or timm's.

Counterpart of `distill.models.weights.load`. Our tensor names are timm's, so the two layouts differ only in the header:
ours describes the network for `describe_weights`; timm's holds the `timm.create_model` call that builds it. A network
that timm cannot build is not written in timm's layout.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.models.errors import ModelError, WeightsError
from distill.models.tinyvit.config import TinyViTConfig
from distill.models.tinyvit.network import TinyViT
from distill.models.weights.tensor_files import read_header, write_tensors
from distill.models.weights.timm_names import timm_model

FORMAT = "distill.tiny_vit"
FORMAT_VERSION = "1"
LAYOUTS = ("ours", "timm")
CONFIG_KEYS = ("format", "format_version", "config")
JSON_KEYS = ("mean", "std", "crop", "interpolation", "class_names")


def save_weights(
    net: TinyViT,
    path: str | Path,
    *,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
    layout: str = "ours",
) -> None:
    """Writes the weights of a network to a safetensors file.

    The file appears under its name only when it is complete; an existing file of that name is replaced.

    **Arguments**

    - `metadata`: further entries of the header. `mean` and `std` (three numbers, for pixels in 0..1), `crop` (a
      fraction), `interpolation` (a name) and `class_names` (one per class) must be JSON; other values are free text.
    - `dtype`: of the stored floating-point tensors (float16 takes half the bytes); None keeps theirs.
    - `layout`: `ours` adds the config, with classes and image size, to the header, so that the file describes itself
      (`describe_weights`). `timm` writes a file for `timm.create_model(architecture, checkpoint_path=path,
      **arguments)`; its header holds architecture and arguments.

    **Raises** WeightsError where metadata is invalid, `dtype` cannot hold a value, timm cannot build the network, or
    writing fails.
    """
    path, metadata = Path(path), metadata or {}
    header = _header(net, layout, path)
    if reserved := sorted(set(header) & set(metadata)):
        raise WeightsError(f"metadata may not set {', '.join(reserved)}: saving does")
    _parse_metadata(metadata, num_classes=net.num_classes, path=path)
    tensors = {name: _stored(name, tensor, dtype) for name, tensor in net.state_dict().items()}
    write_tensors(tensors, path, metadata={**metadata, **header})


def describe_weights(path: str | Path) -> dict[str, Any]:
    """Reads the header of a file that `save_weights` wrote in our layout; tensors are not read.

    **Returns** a JSON dict: `format`, `format_version`, `config` (fields of TinyViTConfig), `num_classes`,
    `image_size` (pixels); `mean`, `std`, `crop`, `interpolation`, `class_names` (None where the file does not say
    them); and the rest of the metadata as text.

    **Raises** WeightsError for any other file, or a later version of the format.
    """
    path = Path(path)
    header = read_header(path)
    if header.get("format") != FORMAT:
        raise WeightsError(f"{path} does not describe its model: it was not written by save_weights")
    if header.get("format_version") != FORMAT_VERSION:
        raise WeightsError(
            f"{path} is of version {header.get('format_version')} of its format; "
            f"this program reads version {FORMAT_VERSION}"
        )
    config = TinyViTConfig.from_json(_json(header.get("config", "null"), key="config", path=path) or {})
    metadata = {key: value for key, value in header.items() if key not in CONFIG_KEYS}
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "config": config.to_json(),
        "num_classes": config.num_classes,
        "image_size": config.image_size,
        **dict.fromkeys(JSON_KEYS),
        **_parse_metadata(metadata, num_classes=config.num_classes, path=path),
    }


def _header(net: TinyViT, layout: str, path: Path) -> dict[str, str]:
    if layout == "ours":
        return {"format": FORMAT, "format_version": FORMAT_VERSION, "config": json.dumps(net.config.to_json())}
    if layout != "timm":
        raise WeightsError(f"unknown layout {layout!r} for {path}; known: {', '.join(LAYOUTS)}")
    try:
        architecture, arguments = timm_model(net.config)
    except ModelError as error:
        raise WeightsError(f"cannot write {path} for timm: {error}") from None
    # By convention of safetensors, `pt` stands for tensors of torch.
    return {"format": "pt", "architecture": architecture, "arguments": json.dumps(arguments)}


def _stored(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    tensor = tensor.detach().cpu()
    if dtype is not None and tensor.is_floating_point():
        converted = tensor.to(dtype)
        if converted.isfinite().sum() != tensor.isfinite().sum():
            raise WeightsError(f"{name} holds values that {dtype} cannot: save in a wider dtype")
        tensor = converted
    return tensor.contiguous().clone()  # safetensors refuses tensors that share memory


def _parse_metadata(metadata: Mapping[str, str], *, num_classes: int, path: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for key, text in metadata.items():
        if not isinstance(text, str):
            raise WeightsError(f"metadata {key} for {path} must be text, got {type(text).__name__}")
        parsed[key] = _json(text, key=key, path=path) if key in JSON_KEYS else text
    for key in ("mean", "std"):
        if (value := parsed.get(key)) is not None and not _is_triple(value):
            raise WeightsError(f"{key} for {path} must be a list of three numbers, got {value!r}")
    names = parsed.get("class_names")
    if names is not None and (not isinstance(names, list) or len(names) != num_classes):
        raise WeightsError(f"class_names for {path} must be a list of {num_classes} names, one per class")
    return parsed


def _json(text: str, *, key: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{key} for {path} is not JSON: {text[:60]!r}") from error


def _is_triple(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(isinstance(number, (int, float)) for number in value)
