"""What a classifier looks at: a network without the linear map to its classes.

For probes of a model's features. One rule serves TinyViTs, teachers and every timm model: a feature is the vector that
the last linear map multiplies, after whatever pooling, normalisation and projection the model puts before it.
"""

from typing import Any

from torch import nn

from distill.models.errors import ModelError


def remove_classifier(net: nn.Module, *, name: str) -> None:
    """Puts the identity in the place of the classifier of `net`, which then answers with features (b, d).

    **Arguments:** `name`, of the model, for messages.

    **Raises** ModelError for a network whose classifier is not one linear map.
    """
    for place in classifier_places(net, name=name):
        parent, _, child = place.rpartition(".")
        setattr(net.get_submodule(parent), child, nn.Identity())


def classifier_places(net: nn.Module, *, name: str) -> list[str]:
    """The names under which `net` holds its last linear map; one, unless modules share it. As `remove_classifier`."""
    own: Any = net
    classifier: Any = own.get_classifier() if hasattr(net, "get_classifier") else net.get_submodule("head.fc")
    if isinstance(classifier, nn.Sequential) and len(classifier):
        classifier = classifier[-1]
    places = [path for path, module in net.named_modules() if module is classifier]
    if not isinstance(classifier, (nn.Linear, nn.Conv2d, nn.Identity)) or not places:
        raise ModelError(
            f"{name} has no single linear classifier (but {type(classifier).__name__}): it has no features"
        )
    return places
