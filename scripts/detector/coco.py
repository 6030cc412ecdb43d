"""Object annotations in COCO's format, for training a detector: the images of a folder with boxes and classes.

    annotations.json: {"images": [{"id", "file_name", ..}], "categories": [{"id", "name"}],
                       "annotations": [{"image_id", "category_id", "bbox": [x, y, width, height], "iscrowd", ..}]}

Only `train_detector.py` reads it. Classes are numbered from 1 in the order of their COCO ids, as torchvision's
detectors expect them (0 is the background). Crowds, boxes without area and images without a box are left out, and
counted.

Why not `torchvision.datasets.CocoDetection`: it needs pycocotools, keeps every annotation as a Python dict, and reports
a wrong file by a KeyError; what is below it would still have to be checked and converted here.

Lin et al., "Microsoft COCO: Common Objects in Context" (ECCV 2014); https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from distill.data.catalog import Keys
from distill.data.catalog_files import MAX_IMAGE_BYTES
from distill.errors import DamagedImage, DistillError
from distill.files import read_text
from distill.views import decode
from logitstore.untrusted import BadInput, plain_path, printable, read_regular

_MAX_BYTES = 2**30
"""Of annotations; those of COCO's 118,287 training images have 448 MB."""

Target = dict[str, Tensor]
"""`boxes` (k, 4) float32, left, top, right, bottom in pixels; `labels` (k,) int64; `image_id` (1,) int64, COCO's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotations:
    """Boxes of n images, flat: those of image i are at starts[i]:starts[i + 1]."""

    path: Path
    class_names: tuple[str, ...]
    """Of the labels 1, 2, ..."""
    files: Keys
    """(n) paths relative to the folder of images."""
    image_ids: npt.NDArray[np.int64]
    """(n,) COCO's."""
    starts: npt.NDArray[np.int64]
    """(n + 1,)"""
    boxes: npt.NDArray[np.float32]
    """(m, 4) left, top, right, bottom in pixels."""
    labels: npt.NDArray[np.int64]
    """(m,)"""
    num_left_out: int
    """Annotations left out: crowds and boxes without area."""

    def __len__(self) -> int:
        return len(self.image_ids)


def read_annotations(path: str | Path) -> Annotations:
    """Reads a file of annotations.

    **Raises:** `DistillError` if it does not hold any, if they refer to images or categories that it does not hold, or
    if no image has a box.
    """
    path = Path(path)
    try:
        content = json.loads(read_text(path, limit=_MAX_BYTES))
        categories = {int(each["id"]): str(each["name"]) for each in content["categories"]}
        files = {int(each["id"]): plain_path(each["file_name"]) for each in content["images"]}
        rows = [_row(each) for each in content["annotations"]]
    except OSError as error:
        raise DistillError(f"cannot read annotations from {path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        reason = printable(f"{type(error).__name__}: {error}")[:300]
        raise DistillError(
            f"{path} does not hold COCO annotations ({reason}): it needs images, categories and "
            "annotations with image_id, category_id and bbox [x, y, width, height]"
        ) from None
    label_of = {category: label for label, category in enumerate(sorted(categories), start=1)}
    for image, category, *_ in rows:
        if image not in files or category not in label_of:
            missing = f"image {image}" if image not in files else f"category {category}"
            raise DistillError(f"an annotation in {path} refers to {missing}, which the file does not hold")
    objects = sorted(row for row in rows if not row[-1] and row[4] > row[2] and row[5] > row[3])
    if not objects:
        raise DistillError(f"{path} has no box of an object")
    image_ids, first = np.unique(np.array([row[0] for row in objects], np.int64), return_index=True)
    return Annotations(
        path=path,
        class_names=tuple(categories[category] for category in sorted(categories)),
        files=Keys.of(files[image].encode() for image in image_ids.tolist()),
        image_ids=image_ids,
        starts=np.append(first, len(objects)).astype(np.int64),
        boxes=np.array([row[2:6] for row in objects], np.float32),
        labels=np.array([label_of[row[1]] for row in objects], np.int64),
        num_left_out=len(rows) - len(objects),
    )


def _row(annotation: dict[str, Any]) -> tuple[int, int, float, float, float, float, bool]:
    """Image, category, left, top, right, bottom, whether it is a crowd."""
    x, y, width, height = (float(value) for value in annotation["bbox"])
    if not np.isfinite([x, y, width, height]).all():
        raise ValueError(f"bbox {annotation['bbox']}")
    ids = int(annotation["image_id"]), int(annotation["category_id"])
    return (*ids, x, y, x + width, y + height, bool(annotation.get("iscrowd", 0)))


class AnnotatedImages(Dataset[tuple[Tensor, Target]]):
    """The annotated images of a folder: float32 RGB (3, H, W) in 0..1, and the target of each."""

    def __init__(self, folder: str | Path, annotations: Annotations) -> None:
        self.folder, self.annotations = Path(folder), annotations

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        """**Raises:** `DamagedImage` if the image is missing or cannot be decoded, or if a box lies outside it."""
        annotations = self.annotations
        path, image_id = self.folder / annotations.files[index].decode(), int(annotations.image_ids[index])
        try:
            pixels_hwc = decode(read_regular(path, limit=MAX_IMAGE_BYTES))
        except (OSError, BadInput, DamagedImage) as error:
            raise DamagedImage(
                f"{path}, image {image_id} of {annotations.path}, is missing or cannot be decoded ({error})"
            ) from None
        height, width = pixels_hwc.shape[:2]
        boxes = slice(int(annotations.starts[index]), int(annotations.starts[index + 1]))
        boxes_k4 = np.clip(annotations.boxes[boxes], 0, [width, height, width, height]).astype(np.float32)
        if (boxes_k4[:, 2:] <= boxes_k4[:, :2]).any():
            raise DamagedImage(
                f"a box in {annotations.path} lies outside its image {path} of {width} x {height} pixels"
            )
        target = {
            "boxes": torch.from_numpy(boxes_k4),
            "labels": torch.from_numpy(annotations.labels[boxes].copy()),
            "image_id": torch.tensor([image_id]),
        }
        return torch.from_numpy(pixels_hwc).permute(2, 0, 1).float() / 255, target
