"""An image folder with one sub-folder per class, read without packing: for evaluation.

    folder/class/image.jpg  ->  rows in sorted order, classes numbered as `pack` numbers them

`ImageFolder` and `ImageFolderReader` correspond to `Catalog` and `ShardReader` of packed data. There are no digests of
the files, so only decoding detects damage, and no fingerprint: training needs packed data.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from distill.data.catalog import Catalog, Keys
from distill.data.catalog_files import FOLDER, MAX_IMAGE_BYTES
from distill.data.packing.listing import scan
from distill.errors import DamagedImage, DistillError
from logitstore.storage import is_url
from logitstore.untrusted import BadInput, printable, read_regular


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFolder:
    """The images of a folder, listed. Row n is the n-th file, folder by folder in sorted order."""

    path: Path
    class_names: tuple[str, ...]
    labels: npt.NDArray[np.int32]
    """(N,) index into the class names."""
    keys: Keys

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def where(self) -> str:
        return str(self.path)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def key(self, row: int) -> str:
        """The row's path relative to the folder."""
        return self.keys[row].decode()


Images = Catalog | ImageFolder
"""Labelled images to evaluate on."""


def is_packed(path: str) -> bool:
    """Whether a path is opened as packed data: a URL, a folder with a catalog, or a path that is no folder."""
    return is_url(path) or (Path(path) / FOLDER).exists() or not Path(path).is_dir()


def open_image_folder(path: str | Path) -> ImageFolder:
    """Lists the images of a folder. **Raises:** `DistillError` if it has none, or one outside a class folder."""
    try:
        keys, labels, class_names = scan(Path(path))
    except DistillError as error:
        raise DistillError(f"{error}. ({path} has no {FOLDER}/ and was taken for an image folder)") from None
    return ImageFolder(path=Path(path), class_names=class_names, labels=labels, keys=keys)


class ImageFolderReader:
    """Reads files of a folder by row."""

    def __init__(self, folder: ImageFolder) -> None:
        self.folder = folder

    def read(self, row: int) -> bytes:
        """The bytes of row `row`'s file. **Raises:** `DamagedImage` if it cannot be read."""
        try:
            return read_regular(self.folder.path / self.folder.key(row), limit=MAX_IMAGE_BYTES)
        except (OSError, UnicodeDecodeError, BadInput) as error:
            raise DamagedImage(f"{self.where(row)}: {error}") from None

    def where(self, row: int) -> str:
        """Names a row for messages."""
        return f"row {row} ({printable(self.folder.keys[row].decode(errors='replace'))}) in {self.folder.where}"
