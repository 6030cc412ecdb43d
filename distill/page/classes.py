"""Names of a store's classes on the page: those that `logitstore.class_names` finds, with ImageNet's published lists,
which `logitstore` does not have."""

from __future__ import annotations

from functools import cache

import logitstore
from distill.models.teachers.build import NUM_22K, imagenet_names
from distill.models.weights.class_maps import ids_of_count
from logitstore.tools.names import ClassList, ClassNames

_SUBSETS = {1000: "imagenet-1k", NUM_22K: "imagenet-22k"}


def classes_of(spec: logitstore.StoreSpec) -> ClassNames:
    """The classes of a store, those of ImageNet-1k and 22k named where the store does not name them."""
    return logitstore.class_names(spec, published={count: _published(count) for count in _SUBSETS})


def class_name(names: ClassNames, index: int) -> str:
    """Of one of the teacher's classes; its number where it has no name."""
    return names.class_name(index) or f"class {index}"


def label_name(names: ClassNames, label: int) -> str:
    """Of a label; its number where it has no name."""
    return names.label_name(label) or f"label {label}"


@cache
def _published(count: int) -> ClassList:
    return ClassList(ids=tuple(ids_of_count(count)), names=imagenet_names(_SUBSETS[count]))
