"""Names of a store's classes, and which of the teacher's classes a label stands for.

`logitstore.tools.names` gives the names that the store itself holds. Added here is what needs ImageNet's lists of
classes, which `logitstore` does not have: names of 1,000 or 21,841 unnamed classes, and words for WordNet ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

import logitstore
from distill.models.teachers.build import NUM_22K, imagenet_names
from distill.models.weights.class_maps import are_synset_ids, ids_of_count
from logitstore.tools import names

_SUBSETS = {1000: "imagenet-1k", NUM_22K: "imagenet-22k"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """The teacher's classes and the labels of the data."""

    spec: logitstore.StoreSpec
    class_of_label: npt.NDArray[np.int64] | None
    """(L,) the teacher's class of each label, -1 where it has none; None: labels are not the teacher's classes."""

    def name(self, index: int) -> str:
        """Of one of the teacher's classes; its number where it has no name."""
        name = _class_name(self.spec, index)
        return f"class {index}" if name is None else _in_words(name)

    def label_name(self, label: int) -> str:
        """Of a label; its number where it has no name."""
        name = names.label_name(self.spec, label)
        return f"label {label}" if name is None else _in_words(name)

    def class_of(self, labels_n: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """The teacher's class of each label, (n,); -1 where there is none."""
        if self.class_of_label is None or not len(self.class_of_label):
            return np.full(len(labels_n), -1, np.int64)
        inside_n = (labels_n >= 0) & (labels_n < len(self.class_of_label))
        return np.where(inside_n, self.class_of_label[np.where(inside_n, labels_n, 0)], -1)


def classes_of(spec: logitstore.StoreSpec) -> Classes:
    """The classes of a store."""
    return Classes(spec=spec, class_of_label=_class_of_label(spec))


def _class_of_label(spec: logitstore.StoreSpec) -> npt.NDArray[np.int64] | None:
    """By number where there are as many labels as classes, else by WordNet id, or by name if the teacher has a class of
    every label's name."""
    if names.labels_are_classes(spec):
        return np.arange(spec.num_classes)
    labels = [str(name) for name in spec.data["class_names"]]
    classes = [_class_name(spec, index) for index in range(spec.num_classes)]
    by_id = are_synset_ids(labels)
    if by_id and spec.num_classes in _SUBSETS and not are_synset_ids([name or "" for name in classes]):
        classes = [*ids_of_count(spec.num_classes)]
    index_of = {name: index for index, name in enumerate(classes) if name is not None}
    class_of_label = np.array([index_of.get(name, -1) for name in labels], np.int64)
    matched = class_of_label >= 0
    return class_of_label if matched.all() or (by_id and matched.any()) else None


def _class_name(spec: logitstore.StoreSpec, index: int) -> str | None:
    """As the store has it, else ImageNet's where the number of classes is that of ImageNet-1k or 22k."""
    name = names.class_name(spec, index)
    if name is None and spec.num_classes in _SUBSETS and 0 <= index < spec.num_classes:
        return _imagenet_names(spec.num_classes)[index]
    return name


def _in_words(name: str) -> str:
    """What a WordNet id stands for; any other name as it is."""
    return _words_of_synsets().get(name, name) if are_synset_ids([name]) else name


@cache
def _imagenet_names(num_classes: int) -> tuple[str, ...]:
    return imagenet_names(_SUBSETS[num_classes])


@cache
def _words_of_synsets() -> dict[str, str]:
    words: dict[str, str] = {}
    for count in sorted(_SUBSETS, reverse=True):  # The 1,000 classes have shorter words than the same among 21,841.
        words |= dict(zip(ids_of_count(count), _imagenet_names(count), strict=True))
    return words
