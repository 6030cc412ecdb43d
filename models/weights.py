"""Weights between files and a TinyViT: load any published layout, save our own with what a reader must know.

Sits between `models.tensor_files` (bytes to named tensors) and the network; used by students and by teachers
that were once students.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from models import layouts
from models.config import TinyViTConfig
from models.errors import WeightsError
from models.tensor_files import read_tensors
from models.tiny_vit import TinyViT

FORMAT = "distill.tiny_vit"
FORMAT_VERSION = "1"
HEAD = "head.fc.weight"
OWN_KEYS = ("format", "format_version", "config")
JSON_KEYS = ("mean", "std", "crop", "interpolation", "class_names")
SHOWN_NAMES = 5


def load_weights(net: TinyViT, path: str | Path) -> None:
    """Copies the weights in a file into `net`, converting them to its dtype and device.

    **Arguments**

    - `path`: `.safetensors`, or a file of `torch.save` (only tensors are read); names as published, as in
      timm, as in mmpretrain or as written by `save_weights`.

    **Raises** WeightsError where the file cannot be read, is for another number of classes, or lacks, adds or
    reshapes a tensor; `net` is then unchanged. Stored bias index buffers are ignored.
    """
    tensors = read_tensors(path)
    layout = layouts.recognise(tensors)
    if layout is None:
        shown = ", ".join(list(tensors)[:SHOWN_NAMES])
        raise WeightsError(f"the names in {path} are of no known TinyViT layout: {shown}, ...")
    state = {
        layouts.to_ours(name, layout=layout): tensor
        for name, tensor in tensors.items()
        if not name.endswith(".attention_bias_idxs")
    }
    check_classes(state, head=HEAD, num_classes=net.num_classes, path=path)
    load_strictly(net, state, path=path)


def save_weights(
    net: TinyViT, path: str | Path, *, metadata: Mapping[str, str], dtype: torch.dtype | None = None
) -> None:
    """Writes weights and what is needed to rebuild and use the network to a safetensors file.

    The file appears under its name only when it is complete; one of that name is replaced.

    **Arguments**

    - `metadata`: further entries of the header. `mean` and `std` (3 numbers, pixels being 0..1), `crop`
      (fraction), `interpolation` (name) and `class_names` (one a class) must be JSON; other values are free
      text. The config, with classes and picture size, is added here.
    - `dtype`: stores floating-point tensors in this type (half the size in float16); None keeps theirs.

    **Raises** WeightsError where metadata is not as said, `dtype` cannot hold a value, or writing fails.
    """
    path = Path(path)
    own = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "config": json.dumps(net.config.to_json()),
    }
    if taken := sorted(set(own) & set(metadata)):
        raise WeightsError(f"metadata may not set {', '.join(taken)}: saving does")
    _parse_metadata(metadata, num_classes=net.num_classes, path=path)
    tensors = {name: _stored(name, tensor, dtype) for name, tensor in net.state_dict().items()}
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        safetensors.torch.save_file(tensors, partial, metadata={**metadata, **own})
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"cannot write weights to {path}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def describe_weights(path: str | Path) -> dict[str, Any]:
    """Reads the header of a file that `save_weights` wrote, not its tensors.

    **Returns** a JSON dict: `format`, `format_version`, `config` (fields of TinyViTConfig), `num_classes`,
    `image_size`; `mean`, `std`, `crop`, `interpolation`, `class_names` (None where not given); the rest of
    the metadata as it was given.

    **Raises** WeightsError for any other file.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header: dict[str, str] = file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"cannot read {path} as safetensors: {error}") from error
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


def check_classes(state: Mapping[str, Tensor], *, head: str, num_classes: int, path: str | Path) -> None:
    """Refuses weights whose classifier, the tensor named `head`, has another number of rows.

    **Raises** WeightsError naming both numbers.
    """
    if head in state and (found := state[head].shape[0]) != num_classes:
        raise WeightsError(
            f"weights in {path} are for {found} classes, the model has {num_classes}: "
            f"build it with num_classes={found}, or take other weights"
        )


def load_strictly(net: nn.Module, state: Mapping[str, Tensor], *, path: str | Path) -> None:
    """Copies `state` into `net` if and only if names and shapes are the same.

    **Raises** WeightsError listing the first missing, unexpected and differently shaped tensors.
    """
    own = net.state_dict()
    faults = []
    if missing := [name for name in own if name not in state]:
        faults.append(f"missing {_some(missing)}")
    if unexpected := [name for name in state if name not in own]:
        faults.append(f"unexpected {_some(unexpected)}")
    reshaped = [name for name in own if name in state and state[name].shape != own[name].shape]
    if reshaped:
        shapes = [f"{name} {tuple(state[name].shape)} for {tuple(own[name].shape)}" for name in reshaped]
        faults.append(f"other shape {_some(shapes)}")
        if all(name.endswith(".attention_biases") for name in reshaped):
            faults.append("the weights are for other attention windows (another picture size)")
    if faults:
        raise WeightsError(f"weights in {path} do not fit the model: {'; '.join(faults)}")
    net.load_state_dict(state)


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


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more
