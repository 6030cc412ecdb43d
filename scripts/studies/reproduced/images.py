"""The data sets: embedded images of Fashion-MNIST, one folder per class, packed."""

from __future__ import annotations

import shutil
from pathlib import Path
from unittest import mock

import cv2
import numpy as np

from distill.data.order import permutation
from distill.data.packing.pack import pack
from scripts.demo.fashion_mnist import CLASS_NAMES, read_embedded
from scripts.studies.reproduced.settings import Data


def data_path(work: Path, data: Data) -> Path:
    kind = "" if data.shuffled else "-sorted"
    return work / "data" / f"{data.split}-{10 * data.per_class}-{data.rows_per_shard}{kind}"


def make_data(work: Path, data: Data) -> None:
    """Packs the data set, unless that is done."""
    target = data_path(work, data)
    if target.exists():
        return
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    images, labels = read_embedded(data.split)
    for label, name in enumerate(CLASS_NAMES):
        folder = part / "images" / name
        folder.mkdir(parents=True)
        for number in np.flatnonzero(labels == label)[: data.per_class]:
            cv2.imwrite(str(folder / f"{number:05d}.png"), images[number])
    # Packing always shuffles; one question is what would happen if it did not.
    order = permutation if data.shuffled else lambda length, *, key: np.arange(length)
    with mock.patch("distill.data.packing.pack.permutation", order):
        pack(part / "images", part / "packed", rows_per_shard=data.rows_per_shard)
    (part / "packed").rename(target)
    shutil.rmtree(part)
