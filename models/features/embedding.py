"""Features of a classifier: a network without the linear map to its classes.

For probes of a model's features. One rule holds for TinyViTs, teachers and every timm model: a feature is the input of
the last linear map, after the model's pooling, normalisation and projection.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from distill.models.errors import ModelError


def remove_classifier(net: nn.Module, *, name: str) -> None:
    """Replaces the classifier of `net` by the identity, so that its output is features (b, d).

    **Arguments:** `name`: of the model, for messages.

    **Raises** ModelError for a network whose classifier is not a single linear map.
    """
    for module_name in classifier_names(net, name=name):
        parent, _, child = module_name.rpartition(".")
        setattr(net.get_submodule(parent), child, nn.Identity())


def classifier_names(net: nn.Module, *, name: str) -> list[str]:
    """The module names of the last linear map of `net`: one, unless modules share it.

    Arguments and errors are those of `remove_classifier`.
    """
    timm_net: Any = net  # torch declares no `get_classifier`
    classifier: Any = timm_net.get_classifier() if hasattr(net, "get_classifier") else net.get_submodule("head.fc")
    if isinstance(classifier, nn.Sequential) and len(classifier):
        classifier = classifier[-1]
    names = [module_name for module_name, module in net.named_modules() if module is classifier]
    if not isinstance(classifier, (nn.Linear, nn.Conv2d, nn.Identity)) or not names:
        raise ModelError(
            f"{name} has no single linear classifier (but {type(classifier).__name__}): it has no features"
        )
    return names
