"""Teachers for one's own classes: a network with another linear classifier, in a file that describes it.

Written after a linear probe was fitted to a model's features (`distill.transfer` with `save`), read by
`models.build_teacher(kind="saved")`. A TinyViT is written by `save_weights`; for other models the header names timm's
architecture.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from distill.models.errors import ModelError, WeightsError
from distill.models.features.embedding import classifier_names
from distill.models.image_model import ImageModel
from distill.models.teachers import timm_networks
from distill.models.tinyvit.network import TinyViT
from distill.models.weights.load import load_strictly, require_size
from distill.models.weights.save import JSON_KEYS, save_weights
from distill.models.weights.tensor_files import read_header, read_tensors, write_tensors

FORMAT = "distill.teacher"
FORMAT_VERSION = "1"
_HEADER_KEYS = ("architecture", "name", "num_classes", "image_size", *JSON_KEYS)


def check_saveable(net: nn.Module, *, name: str) -> None:
    """Checks that `save_teacher` can write a network. **Arguments:** `name`: of the model, for messages.

    **Raises** ModelError where it is neither a TinyViT nor a model of timm, or its classifier is not one linear map.
    """
    if not isinstance(net, TinyViT) and _architecture(net) is None:
        raise ModelError(f"{name} is neither a TinyViT nor a model of timm's: it cannot be saved with other classes")
    classifier_names(net, name=name)


def save_teacher(
    teacher: ImageModel, path: str | Path, *, weight_cd: Tensor, bias_c: Tensor, class_names: Sequence[str]
) -> None:
    """Writes `teacher` with another classifier, the linear map `features @ weight_cd.T + bias_c`.

    The file appears under its name only when it is complete; an existing one is replaced. `build_teacher(kind="saved",
    weights=path)` reads it.

    **Arguments**

    - `teacher`: left unchanged.
    - `weight_cd`, `bias_c`: float32, for c classes and d features, which are the inputs of the present classifier.
    - `class_names`: c of them.

    **Raises** ModelError as `check_saveable`; WeightsError where the map does not fit the features, or writing fails.
    """
    check_saveable(teacher.net, name=teacher.name)
    architecture: dict[str, Any] = {
        "name": teacher.name, "image_size": teacher.image_size, "num_classes": len(class_names),
    }  # fmt: skip
    metadata = {"mean": teacher.mean, "std": teacher.std, "crop": teacher.crop, "interpolation": teacher.interpolation,
                "class_names": list(class_names)}  # fmt: skip
    if isinstance(teacher.net, TinyViT):
        net: nn.Module = TinyViT(
            dataclasses.replace(teacher.net.config, num_classes=len(class_names), image_size=teacher.image_size)
        )
    else:
        architecture["architecture"] = _architecture(teacher.net)
        net = _create(architecture, path)
    state, expected = teacher.net.state_dict(), net.state_dict()
    for classifier in classifier_names(teacher.net, name=teacher.name):
        weight_name = f"{classifier}.weight"  # of a linear map (c, d), or of a 1x1 convolution (c, d, 1, 1)
        state[weight_name] = weight_cd.reshape(*weight_cd.shape, *expected[weight_name].shape[2:])
        state[f"{classifier}.bias"] = bias_c
    load_strictly(net, state, path=path)
    if isinstance(net, TinyViT):
        save_weights(net, path, metadata={key: json.dumps(value) for key, value in metadata.items()})
        return
    header = {key: json.dumps(value) for key, value in (architecture | metadata).items()}
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in net.state_dict().items()}
    write_tensors(tensors, Path(path), metadata={"format": FORMAT, "format_version": FORMAT_VERSION, **header})


def is_saved_teacher(path: str | Path) -> bool:
    """Whether `load_saved` reads the file, by its header. **Raises** WeightsError where it is no safetensors file."""
    return read_header(path).get("format") == FORMAT


def load_saved(path: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network with its weights, and the values of the header (`name`, `num_classes`, .., `class_names`).

    **Raises** WeightsError for a file that `save_teacher` did not write, one of a later version, or a damaged one.
    """
    header = read_header(path)
    if header.get("format") != FORMAT or header.get("format_version") != FORMAT_VERSION:
        raise WeightsError(
            f"{path} is no saved teacher of version {FORMAT_VERSION}, but says format={header.get('format')}, "
            f"format_version={header.get('format_version')}"
        )
    try:
        values = {key: json.loads(header[key]) for key in _HEADER_KEYS}
    except (KeyError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} does not say its {error} as JSON") from None
    with suppress(NotImplementedError, RuntimeError), torch.device("meta"):  # Not every model can be built there.
        require_size(_create(values, path), path)
    net = _create(values, path)
    load_strictly(net, read_tensors(path), path=path)
    return net, values


def _architecture(net: nn.Module) -> str | None:
    """The name by which timm builds the network, or None."""
    pretrained_cfg: Any = getattr(net, "pretrained_cfg", None) or {}
    name = pretrained_cfg.get("architecture")
    return name if name and timm.is_model(name) else None


def _create(header: Mapping[str, Any], path: str | Path) -> nn.Module:
    """The network that the header of `path` describes, freshly initialised."""
    name, num_classes, image_size = (header[key] for key in ("architecture", "num_classes", "image_size"))
    # A name with a prefix, such as hf-hub:, would make timm go to the network.
    if not isinstance(name, str) or not timm.is_model(name):
        raise WeightsError(f"{path} is of {name!r:.80}, which is no architecture of timm {timm.__version__}")
    if not all(type(size) is int and 0 < size < limit for size, limit in ((num_classes, 2**24), (image_size, 2**14))):
        raise WeightsError(f"{path} says that it has {num_classes!r:.40} classes and {image_size!r:.40} pixels")
    try:
        return timm_networks.create(name, pretrained=False, num_classes=num_classes, image_size=image_size)
    except Exception as error:
        raise WeightsError(f"timm {timm.__version__} cannot build {name}, which {path} is of: {error}") from error
