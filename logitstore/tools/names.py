"""Numbers to names: what a store's provenance says of its classes, labels and samples.

The store itself holds only class numbers, labels and key hashes. Names of classes come from its provenance
(`teacher.class_names`, `data.class_names`); keys of samples from the catalog of the packed data set.

This is the one place that decides what class n is called and which class a label stands for. The lists of published
teachers (ImageNet's) are not in this package: a program that has them passes them to `class_names`.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import ArrayLike, NDArray

from logitstore.errors import StoreError
from logitstore.spec import StoreSpec
from logitstore.store import Store
from logitstore.untrusted import MAX_JSON_BYTES, BadInput, open_regular, parse_json, read_regular

_SYNSET_ID = re.compile(r"n\d{8}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassList:
    """A published list of classes, in the order of its models' outputs."""

    ids: tuple[str, ...]
    """(C,) WordNet ids, such as n01440764."""
    names: tuple[str, ...]
    """(C,) what they stand for, such as tench."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassNames:
    """Names of the teacher's classes and of the data's labels, and which class each label stands for."""

    classes: tuple[str, ...] | None
    """(C,) names of the teacher's classes; None where unknown."""
    labels: tuple[str, ...] | None
    """(L,) names of the data's labels; None where unknown."""
    class_of_label: NDArray[np.int64] | None
    """(L,) the teacher's class of each label, -1 where it has none; None where labels and classes are different things.
    Where the names of the labels are unknown, each label is taken for the class of its number."""

    def class_name(self, index: int) -> str | None:
        """Name of one of the teacher's classes, None where unknown."""
        return _item(self.classes, index)

    def label_name(self, label: int) -> str | None:
        """Name of a label, None where unknown, and for the label -1."""
        return _item(self.labels, label)

    def classes_of(self, labels: ArrayLike) -> NDArray[np.int64]:
        """The teacher's class of each label, (n,) integers to (n,) int64; -1 where there is none."""
        labels = np.asarray(labels, np.int64)
        if self.class_of_label is None or not len(self.class_of_label):
            return np.full(labels.shape, -1, np.int64)
        valid = (labels >= 0) & (labels < len(self.class_of_label))
        return np.where(valid, self.class_of_label[np.where(valid, labels, 0)], -1)


def class_names(source: Store | StoreSpec, *, published: Mapping[int, ClassList] | None = None) -> ClassNames:
    """Names of a store's classes and labels, from its provenance.

    A teacher without names has the data's where there are as many, else the published ones of its number of classes.
    WordNet ids are replaced by their names where a published list has them. A label stands for the class of its number
    where there are as many classes as labels, else for the class of the same WordNet id, or of the same name if all
    labels have one.

    **Arguments** published: by number of classes, the lists that teachers of so many classes are taken to have, such as
    ImageNet's 1,000; where two lists name one id, the list of fewer classes decides.

        names = logitstore.class_names(store)
        names.class_name(int(views.indices[0, 0]))
    """
    spec = source.spec if isinstance(source, Store) else source
    published = published or {}
    labels = _list(spec.data.get("class_names"))
    classes = _list(spec.teacher.get("class_names"))
    if classes is not None and len(classes) != spec.num_classes:
        classes = None
    elif classes is None and labels is not None and len(labels) == spec.num_classes:
        classes = labels
    standard = published.get(spec.num_classes)
    if classes is None and standard is not None:
        classes = standard.names
    return ClassNames(
        classes=_with_names(classes, published),
        labels=_with_names(labels, published),
        class_of_label=_class_of_label(spec.num_classes, classes, labels, standard),
    )


def labels_are_classes(spec: StoreSpec) -> bool:
    """Whether a label can be the number of a class: not where the data is known to have fewer or more labels."""
    labels = _list(spec.data.get("class_names"))
    return labels is None or len(labels) == spec.num_classes


def key_text(data: Path, row: int, *, store: Store) -> str:
    """Key of a sample from the catalog of the packed data set at `data`.

    Reads `key_offsets.npy`, (N + 1,) uint64, without loading it, and one piece of `keys.bin`, UTF-8. The key must have
    the hash that the store holds.

    Raises `StoreError` where there is no catalog, or one of other data than the store's.
    """
    folder, expected = data / "catalog", store.spec.data.get("fingerprint")
    try:
        head = parse_json(read_regular(folder / "catalog.json", limit=MAX_JSON_BYTES))
        fingerprint = head.get("fingerprint") if isinstance(head, dict) else None
        offsets = _offsets(folder / "key_offsets.npy")
        begin, end = int(offsets[row]), int(offsets[row + 1])
        with os.fdopen(open_regular(folder / "keys.bin"), "rb") as file:
            if not 0 <= begin <= end <= os.fstat(file.fileno()).st_size:
                raise BadInput(f"the key of row {row} lies outside keys.bin")
            file.seek(begin)
            key = file.read(min(end - begin, MAX_JSON_BYTES))
        text = key.decode()
    except (OSError, ValueError, IndexError, TypeError) as error:
        raise StoreError(f"{folder} cannot be read as a catalog ({error}): name the packed data set") from None
    if fingerprint != expected:
        raise StoreError(
            f"{data} is other data than the store's: its fingerprint is {fingerprint!s:.80}, the store's {expected}"
        )
    if xxhash.xxh3_64_intdigest(key) != int(store.keys(row)[0]):
        raise StoreError(f"{folder} is damaged: the key of row {row} is not the one that the store was made with")
    return text


def _offsets(path: Path) -> NDArray[Any]:
    """An array of a file, mapped into memory. Raises `BadInput` where the file holds none."""
    with os.fdopen(open_regular(path), "rb"):
        try:
            return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        except Exception as error:  # What numpy's reader raises for a header that is none has any type.
            raise BadInput(f"{path.name} is no array ({type(error).__name__})") from None


def _class_of_label(
    num_classes: int, classes: tuple[str, ...] | None, labels: tuple[str, ...] | None, standard: ClassList | None
) -> NDArray[np.int64] | None:
    if labels is None or len(labels) == num_classes:
        return np.arange(num_classes)
    by_id = _are_synset_ids(labels)
    if by_id and standard is not None and not _are_synset_ids(classes or ()):
        classes = standard.ids
    number = {name: index for index, name in enumerate(classes or ())}
    class_of_label = np.array([number.get(name, -1) for name in labels], np.int64)
    found = class_of_label >= 0
    return class_of_label if found.all() or (by_id and found.any()) else None


def _with_names(names: tuple[str, ...] | None, published: Mapping[int, ClassList]) -> tuple[str, ...] | None:
    """WordNet ids become what they stand for."""
    if names is None or not _are_synset_ids(names):
        return names
    name_of: dict[str, str] = {}
    for count in sorted(published, reverse=True):
        name_of |= dict(zip(published[count].ids, published[count].names, strict=True))
    return tuple(name_of.get(name, name) for name in names)


def _are_synset_ids(names: Sequence[str]) -> bool:
    return bool(names) and all(_SYNSET_ID.fullmatch(name) for name in names)


def _list(value: object) -> tuple[str, ...] | None:
    return tuple(map(str, value)) if isinstance(value, list) and value else None


def _item(names: tuple[str, ...] | None, index: int) -> str | None:
    return names[index] if names is not None and 0 <= index < len(names) else None
