"""A teacher of classes of one's own: a known network with another last linear map, in a file that says all of it.

Written where a linear probe was fitted to a model's features (`distill.transfer` with `save`), read by
`models.build_teacher(kind="saved")`. A TinyViT is saved as any TinyViT is; of timm's models the header names the
architecture.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
from torch import Tensor, nn

from distill.models.errors import ModelError, WeightsError
from distill.models.features.embedding import classifier_places
from distill.models.teachers import timm_networks
from distill.models.tinyvit.network import TinyViT
from distill.models.weights.load import load_strictly
from distill.models.weights.save import JSON_KEYS, save_weights
from distill.models.weights.tensor_files import read_header, read_tensors, write_tensors

if TYPE_CHECKING:
    from distill.models.image_model import ImageModel

FORMAT = "distill.teacher"
FORMAT_VERSION = "1"
_FACTS = ("architecture", "name", "num_classes", "image_size", *JSON_KEYS)


def check_saveable(net: nn.Module, *, name: str) -> None:
    """**Raises** ModelError for a network that a file cannot describe, or whose classifier is not one linear map."""
    if not isinstance(net, TinyViT) and _architecture(net) is None:
        raise ModelError(f"{name} is neither a TinyViT nor a model of timm's: it cannot be saved with other classes")
    classifier_places(net, name=name)


def save_teacher(
    teacher: ImageModel, path: str | Path, *, weight_cd: Tensor, bias_c: Tensor, class_names: Sequence[str]
) -> None:
    """Writes `teacher` with the linear map `features @ weight_cd.T + bias_c` in the place of its classifier.

    The file appears under its name only when it is complete; one of that name is replaced.

    **Arguments:** `weight_cd`, `bias_c`: float32, of c classes and the d features of
    `distill.models.features.embedding`.

    **Raises** ModelError as `check_saveable`; WeightsError where the map does not fit the features, or writing fails.
    """
    check_saveable(teacher.net, name=teacher.name)
    facts = {"name": teacher.name, "image_size": teacher.image_size, "num_classes": len(class_names)}
    told = {"mean": teacher.mean, "std": teacher.std, "crop": teacher.crop, "interpolation": teacher.interpolation,
            "class_names": list(class_names)}  # fmt: skip
    places = classifier_places(teacher.net, name=teacher.name)
    if isinstance(teacher.net, TinyViT):
        net: nn.Module = TinyViT(
            dataclasses.replace(teacher.net.config, num_classes=len(class_names), image_size=teacher.image_size)
        )
    else:
        facts["architecture"] = _architecture(teacher.net)
        net = _empty(facts, path)
    state, empty = teacher.net.state_dict(), net.state_dict()
    for place in places:
        state[f"{place}.weight"] = weight_cd.reshape(*weight_cd.shape, *empty[f"{place}.weight"].shape[2:])
        state[f"{place}.bias"] = bias_c
    load_strictly(net, state, path=path)
    if isinstance(net, TinyViT):
        save_weights(net, path, metadata={key: json.dumps(value) for key, value in told.items()})
        return
    header = {key: json.dumps(value) for key, value in (facts | told).items()}
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in net.state_dict().items()}
    write_tensors(tensors, Path(path), metadata={"format": FORMAT, "format_version": FORMAT_VERSION, **header})


def is_saved_teacher(path: str | Path) -> bool:
    """Whether the header says that `load_saved` reads the file. **Raises** WeightsError for no safetensors file."""
    return read_header(path).get("format") == FORMAT


def load_saved(path: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network with its weights, and the header's values (`name`, `num_classes`, .., `class_names`).

    **Raises** WeightsError for a file that `save_teacher` did not write, a later version's, or a damaged one.
    """
    header = read_header(path)
    if header.get("format") != FORMAT or header.get("format_version") != FORMAT_VERSION:
        raise WeightsError(
            f"{path} is no saved teacher of version {FORMAT_VERSION}, but says format={header.get('format')}, "
            f"format_version={header.get('format_version')}"
        )
    try:
        facts = {key: json.loads(header[key]) for key in _FACTS}
    except (KeyError, json.JSONDecodeError) as error:
        raise WeightsError(f"{path} does not say its {error} as JSON") from None
    net = _empty(facts, path)
    load_strictly(net, read_tensors(path), path=path)
    return net, facts


def _architecture(net: nn.Module) -> str | None:
    """The name by which timm builds it."""
    told: Any = getattr(net, "pretrained_cfg", None) or {}
    name = told.get("architecture")
    return name if name and timm.is_model(name) else None


def _empty(facts: Mapping[str, Any], path: str | Path) -> nn.Module:
    name = facts["architecture"]
    try:
        return timm_networks.create(
            name, pretrained=False, num_classes=facts["num_classes"], image_size=facts["image_size"]
        )
    except Exception as error:
        raise WeightsError(f"timm {timm.__version__} cannot build {name}, which {path} is of: {error}") from error
