"""ReaL labels: for each image of ImageNet-1k's validation set, all the classes that people found in it.

Beyer et al., "Are we done with ImageNet?" (arXiv 2006.07159). The published file is a JSON list of 50,000 lists of
class numbers, that of image ILSVRC2012_val_0000000N at index N - 1. An empty list means that people did not agree: the
image is left out. timm ships the file.
"""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from distill.data.image_folder import Images
from distill.errors import DistillError, UsageError
from distill.files import read_text
from distill.models.weights.class_maps import are_synset_ids, synset_ids
from logitstore.untrusted import BadInput, parse_json

SHIPPED = "shipped"
NUM_CLASSES = 1000
_NUMBER = re.compile(r"ILSVRC2012_val_(\d{8})")


class RealLabels:
    """The classes of each image of a data set, found by its key."""

    def __init__(self, classes: list[list[int]], images: Images) -> None:
        """**Arguments:** `classes`: of all validation images, in the order of their numbers."""
        self._classes = classes
        self._images = images

    def of(self, rows: Iterable[int]) -> Tensor:
        """(b, m) int64: the classes of each row, padded with -1.

        **Raises:** `DistillError` for a row whose key is not the name of a validation image.
        """
        lists = [self._classes[self._index(row)] for row in rows]
        padded = np.full((len(lists), max(1, *map(len, lists))), -1, np.int64)
        for n, classes in enumerate(lists):
            padded[n, : len(classes)] = classes
        return torch.from_numpy(padded)

    def _index(self, row: int) -> int:
        """The index of a row's image in the published list."""
        key = self._images.key(row)
        number = _NUMBER.search(key)
        if not number or not 0 < int(number[1]) <= len(self._classes):
            raise DistillError(
                f"row {row} of {self._images.where} is {key}, and ReaL labels are found by the names of ImageNet's "
                f"validation images, ILSVRC2012_val_00000001 to _{len(self._classes):08d}: leave eval.real_labels out, "
                "or evaluate on those images under their own names"
            )
        return int(number[1]) - 1


def open_real_labels(source: str, images: Images) -> RealLabels:
    """Reads the labels from a JSON file, or the copy in timm for `shipped`.

    **Raises:** `DistillError` for a file that is not such a list; `UsageError` for data of other than 1,000 classes.
    """
    if images.num_classes != NUM_CLASSES:
        raise UsageError(
            f"eval.real_labels are for ImageNet's {NUM_CLASSES} classes; {images.where} has {images.num_classes}"
        )
    if are_synset_ids(images.class_names) and images.class_names != synset_ids("imagenet_1k"):
        raise UsageError(f"eval.real_labels follow ImageNet's order of classes; {images.where} has another")
    path = Path(source)
    try:
        if source == SHIPPED:
            text = (importlib.resources.files("timm.data") / "_info" / "imagenet_real_labels.json").read_text()
        else:
            text = read_text(path)
        classes = parse_json(text)
    except FileNotFoundError as error:
        raise DistillError(f"cannot read ReaL labels from {path}: {error.strerror}") from None
    except BadInput as error:
        raise DistillError(f"cannot read ReaL labels from {path}: {error}") from None
    if not _are_class_lists(classes):
        raise DistillError(f"{path} holds no ReaL labels: a JSON list of lists of class numbers from 0 to 999")
    return RealLabels(classes, images)


def _are_class_lists(value: object) -> bool:
    if not isinstance(value, list) or not value or not all(isinstance(classes, list) for classes in value):
        return False
    return all(type(c) is int and 0 <= c < NUM_CLASSES for classes in value for c in classes)
