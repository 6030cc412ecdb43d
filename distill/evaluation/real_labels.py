"""ReaL labels: for each picture of ImageNet-1k's validation set, all the classes that people found in it.

Beyer et al., "Are we done with ImageNet?" (arXiv 2006.07159). The published file is a JSON list of 50,000 lists of
class numbers, that of picture ILSVRC2012_val_0000000N at place N - 1; an empty list means that nobody agreed, and the
picture is left out. timm ships the file.
"""

from __future__ import annotations

import importlib.resources
import json
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from distill.data.image_folder import Images
from distill.errors import DistillError, UsageError
from distill.models.weights.class_maps import are_synset_ids, synset_ids

SHIPPED = "shipped"
NUM_CLASSES = 1000
_NUMBER = re.compile(r"ILSVRC2012_val_(\d{8})")


class RealLabels:
    """The classes of each picture of a data set, found by its key."""

    def __init__(self, answers: list[list[int]], images: Images) -> None:
        self._answers = answers
        self._images = images

    def of(self, rows: Iterable[int]) -> Tensor:
        """(b, m) int64: the classes of each row, filled up with -1.

        **Raises:** `DistillError` for a row whose key names no picture of the list.
        """
        lists = [self._answers[self._place(row)] for row in rows]
        filled = np.full((len(lists), max(1, *map(len, lists))), -1, np.int64)
        for n, classes in enumerate(lists):
            filled[n, : len(classes)] = classes
        return torch.from_numpy(filled)

    def _place(self, row: int) -> int:
        key = self._images.key(row)
        found = _NUMBER.search(key)
        if not found or not 0 < int(found[1]) <= len(self._answers):
            raise DistillError(
                f"row {row} of {self._images.where} is {key}, and ReaL labels go by the name of ImageNet's validation "
                f"pictures, ILSVRC2012_val_00000001 to _{len(self._answers):08d}: leave eval.real_labels out, or "
                "evaluate on those pictures under their own names"
            )
        return int(found[1]) - 1


def open_real_labels(source: str, images: Images) -> RealLabels:
    """Reads the labels from a JSON file, or the copy in timm for `shipped`.

    **Raises:** `DistillError` for a file that is not such a list; `UsageError` for data of other than 1,000 classes.
    """
    if images.num_classes != NUM_CLASSES:
        raise UsageError(
            f"eval.real_labels is about ImageNet's {NUM_CLASSES} classes; {images.where} has {images.num_classes}"
        )
    if are_synset_ids(images.class_names) and images.class_names != synset_ids("imagenet_1k"):
        raise UsageError(f"eval.real_labels goes by ImageNet's order of classes; {images.where} has others")
    path = Path(source)
    try:
        if source == SHIPPED:
            text = (importlib.resources.files("timm.data") / "_info" / "imagenet_real_labels.json").read_text()
        else:
            text = path.read_text()
        answers = json.loads(text)
    except (OSError, ValueError) as error:
        raise DistillError(f"cannot read ReaL labels from {path}: {error}") from None
    if not _is_answers(answers):
        raise DistillError(f"{path} holds no ReaL labels: a JSON list of lists of class numbers from 0 to 999")
    return RealLabels(answers, images)


def _is_answers(answers: object) -> bool:
    if not isinstance(answers, list) or not answers:
        return False
    lists = all(isinstance(classes, list) for classes in answers)
    return lists and all(type(c) is int and 0 <= c < NUM_CLASSES for classes in answers for c in classes)
