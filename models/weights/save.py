"""Weights of a TinyViT into files: our own, which says what a reader must know, and timm's.

Counterpart of `distill.models.weights.load`. Our names are timm's, so the two layouts differ only in the header: ours
describes the network for `describe_weights`; timm's names the call that builds it, and is refused where timm cannot.
"""

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
OWN_KEYS = ("format", "format_version", "config")
JSON_KEYS = ("mean", "std", "crop", "interpolation", "class_names")


def save_weights(
    net: TinyViT,
    path: str | Path,
    *,
    metadata: Mapping[str, str],
    dtype: torch.dtype | None = None,
    layout: str = "ours",
) -> None:
    """Writes the weights of a network to a safetensors file.

    The file appears under its name only when it is complete; one of that name is replaced.

    **Arguments**

    - `metadata`: further entries of the header. `mean` and `std` (3 numbers, pixels being 0..1), `crop`
      (fraction), `interpolation` (name) and `class_names` (one a class) must be JSON; other values are free
      text.
    - `dtype`: stores floating-point tensors in this type (half the size in float16); None keeps theirs.
    - `layout`: `ours`: the config, with classes and picture size, is added to the header, so that the file describes
      itself. `timm`: the file is what `timm.create_model(architecture, checkpoint_path=path, **arguments)` takes;
      the header names architecture and arguments.

    **Raises** WeightsError where metadata is not as said, `dtype` cannot hold a value, timm cannot build the network,
    or writing fails.
    """
    path = Path(path)
    own = _header(net, layout, path)
    if taken := sorted(set(own) & set(metadata)):
        raise WeightsError(f"metadata may not set {', '.join(taken)}: saving does")
    _parse_metadata(metadata, num_classes=net.num_classes, path=path)
    tensors = {name: _stored(name, tensor, dtype) for name, tensor in net.state_dict().items()}
    write_tensors(tensors, path, metadata={**metadata, **own})


def describe_weights(path: str | Path) -> dict[str, Any]:
    """Reads the header of a file that `save_weights` wrote in our layout, not its tensors.

    **Returns** a JSON dict: `format`, `format_version`, `config` (fields of TinyViTConfig), `num_classes`,
    `image_size`; `mean`, `std`, `crop`, `interpolation`, `class_names` (None where not given); the rest of
    the metadata as it was given.

    **Raises** WeightsError for any other file.
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
    free = {key: value for key, value in header.items() if key not in OWN_KEYS}
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "config": config.to_json(),
        "num_classes": config.num_classes,
        "image_size": config.image_size,
        **dict.fromkeys(JSON_KEYS),
        **_parse_metadata(free, num_classes=config.num_classes, path=path),
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
    # `pt` says, by the convention of safetensors, that the tensors are torch's.
    return {"format": "pt", "architecture": architecture, "arguments": json.dumps(arguments)}


def _stored(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    tensor = tensor.detach().cpu()
    if dtype is not None and tensor.is_floating_point():
        converted = tensor.to(dtype)
        if converted.isfinite().sum() != tensor.isfinite().sum():
            raise WeightsError(f"{name} holds values that {dtype} cannot: save in a wider type")
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
        raise WeightsError(f"class_names for {path} must be a list of {num_classes} names, one a class")
    return parsed


def _json(text: str, *, key: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise WeightsError(f"{key} for {path} is not JSON: {text[:60]!r}") from error


def _is_triple(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(isinstance(part, (int, float)) for part in value)
