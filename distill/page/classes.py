"""What classes are called, and which of the teacher's classes a label stands for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

import logitstore
from distill.models.teachers.build import NUM_22K, imagenet_names
from distill.models.weights.class_maps import are_synset_ids, ids_of_count

_SUBSETS = {1000: "imagenet-1k", NUM_22K: "imagenet-22k"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """The teacher's classes and the data's."""

    names: tuple[str, ...] | None
    """Of the teacher's classes; None: unknown."""
    label_names: tuple[str, ...] | None
    """Of the data's."""
    class_of_label: npt.NDArray[np.int64] | None
    """(L,) the teacher's class of each label, -1 where it has none; None: labels and classes are different things."""

    def name(self, index: int) -> str:
        """Of one of the teacher's classes; its number where it has no name."""
        return self.names[index] if self.names and 0 <= index < len(self.names) else f"class {index}"

    def label_name(self, label: int) -> str:
        return self.label_names[label] if self.label_names and 0 <= label < len(self.label_names) else f"label {label}"

    def class_of(self, labels: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """The teacher's classes of some labels (n,); -1 where unknown."""
        if self.class_of_label is None or not len(self.class_of_label):
            return np.full(len(labels), -1, np.int64)
        known = (labels >= 0) & (labels < len(self.class_of_label))
        return np.where(known, self.class_of_label[np.where(known, labels, 0)], -1)


def classes_of(spec: logitstore.StoreSpec) -> Classes:
    """What a store's provenance says of its classes. Names missing there are ImageNet's where the number of classes is
    1,000 or 21,841; WordNet ids are put into words."""
    data = _names(spec.data.get("class_names"))
    teacher = _names(spec.teacher.get("class_names"))
    if teacher is None and data is not None and len(data) == spec.num_classes:
        teacher = data
    if teacher is None and spec.num_classes in _SUBSETS:
        teacher = imagenet_names(_SUBSETS[spec.num_classes])
    return Classes(
        names=_in_words(teacher), label_names=_in_words(data), class_of_label=_class_of_label(spec, teacher, data)
    )


def _class_of_label(
    spec: logitstore.StoreSpec, teacher: tuple[str, ...] | None, data: tuple[str, ...] | None
) -> npt.NDArray[np.int64] | None:
    """By number where there are as many, else by WordNet id, or by name if the teacher has a class of every name."""
    if data is None or len(data) == spec.num_classes:
        return np.arange(spec.num_classes)
    by_id = are_synset_ids(data)
    if by_id and not are_synset_ids(teacher or ()) and spec.num_classes in _SUBSETS:
        teacher = ids_of_count(spec.num_classes)
    number = {name: index for index, name in enumerate(teacher or ())}
    found = np.array([number.get(name, -1) for name in data], np.int64)
    return found if (found >= 0).all() or (by_id and (found >= 0).any()) else None


def _names(value: Any) -> tuple[str, ...] | None:
    return tuple(map(str, value)) if isinstance(value, list) and value else None


def _in_words(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """WordNet ids become what they stand for."""
    if names is None or not are_synset_ids(names):
        return names
    words = _words_of_synsets()
    return tuple(words.get(name, name) for name in names)


@cache
def _words_of_synsets() -> dict[str, str]:
    found: dict[str, str] = {}
    for count in sorted(_SUBSETS, reverse=True):  # A thousand of the larger list's have shorter words in the smaller.
        found |= dict(zip(ids_of_count(count), imagenet_names(_SUBSETS[count]), strict=True))
    return found
