"""The embedded data set: 8,000 images of Fashion-MNIST, and how it is made from the full set.

    python scripts/demo/fashion_mnist.py unpack DST                  # embedded images -> DST/train, DST/val
    python scripts/demo/fashion_mnist.py unpack DST --source IDX     # the full set -> the same
    python scripts/demo/fashion_mnist.py subset IDX                  # the full set -> the embedded file

IDX is a folder with the four original idx files, such as /usr/share/datasets/fashion-mnist of Debian's package
`dataset-fashion-mnist`. Images become PNG files in a folder per class, like a user's own images. The 6,000 training
images of the embedded file are 600 per class of the original training set, its 2,000 validation images 200 per class of
the original test set: the first of each class in the original order.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import click
import cv2
import numpy as np
import numpy.typing as npt

EMBEDDED = Path(__file__).parent / "fashion_mnist_8000.npz"
CLASS_NAMES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot",
)  # fmt: skip
SPLITS = {"train": ("train", 600), "val": ("t10k", 200)}

Split = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


def read_idx(folder: Path, prefix: str) -> Split:
    """(n, 28, 28) images and (n,) labels of one pair of the original files."""
    with gzip.open(folder / f"{prefix}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(folder / f"{prefix}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return images, labels


def read_embedded(split: str) -> Split:
    with np.load(EMBEDDED) as file:
        return file[f"{split}_images"], file[f"{split}_labels"]


@click.group()
def main() -> None:
    """The embedded Fashion-MNIST images."""


@main.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--source", type=click.Path(path_type=Path, exists=True), help="Folder with the full set's idx files.")
def unpack(target: Path, source: Path | None) -> None:
    """Writes TARGET/train and TARGET/val: a folder per class, a PNG file per image."""
    for split, (prefix, _) in SPLITS.items():
        images, labels = read_idx(source, prefix) if source else read_embedded(split)
        for name in CLASS_NAMES:
            (target / split / name).mkdir(parents=True, exist_ok=True)
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            cv2.imwrite(str(target / split / CLASS_NAMES[label] / f"{number:05d}.png"), image)
        click.echo(f"{len(images)} images in {target / split}")


@main.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True))
def subset(source: Path) -> None:
    """Makes the embedded file again from the full set in SOURCE."""
    arrays: dict[str, npt.NDArray[np.uint8]] = {}
    for split, (prefix, per_class) in SPLITS.items():
        images, labels = read_idx(source, prefix)
        rows = np.sort(np.concatenate([np.flatnonzero(labels == label)[:per_class] for label in range(10)]))
        arrays |= {f"{split}_images": images[rows], f"{split}_labels": labels[rows]}
    np.savez_compressed(EMBEDDED, allow_pickle=False, **arrays)
    click.echo(f"{EMBEDDED}: {EMBEDDED.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
