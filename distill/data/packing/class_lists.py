"""The class of each image of a flat archive, from the lists that come with ImageNet's validation set.

- its development kit, ILSVRC2012_devkit_t12.tar.gz or the folder unpacked: numbers in the order of the images, and
  meta.mat, which maps them to WordNet ids (they are not in the order of the ids). Needs scipy;
- two columns, image and WordNet id: LOC_val_solution.csv of the competition's site, or another such text;
- one column of WordNet ids in the order of the images, such as imagenet_2012_validation_synset_labels.txt.
"""

from __future__ import annotations

import io
import re
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from distill.errors import DistillError
from distill.files import read_text
from logitstore.untrusted import printable, read_regular

_NUMBERS, _META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
_MAX_BYTES = 64 * 2**20
"""Of a development kit, unpacked; the published one has 3 MB."""
_WORDNET = re.compile(r"n\d{8}")


def classes_by_name(path: Path, names: Sequence[str]) -> list[str]:
    """The class of each image, for names in any order. "The order of the images" is that of their sorted names.

    **Raises:** `DistillError` for a list that does not fit the images.
    """
    try:
        if path.is_dir() or path.name.endswith((".tar.gz", ".tgz", ".tar")):
            return _in_order(_of_devkit(path), names, path)
        lines = [line for line in read_text(path).splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise DistillError(f"cannot read the classes in {path}: {error.strerror}") from None
    rows = [re.split(r"[\s,]+", line.strip()) for line in lines]
    if rows and rows[0][0] == "ImageId":
        rows = rows[1:]
    classes = [row[0] if len(row) == 1 else row[1] for row in rows]
    invalid = next((text for text in classes if not _WORDNET.fullmatch(text)), None)
    if invalid is not None:
        raise DistillError(
            f"{path}: {invalid!r} is not a WordNet id such as n01440764. Bare numbers have other meanings in every "
            "list: use one with WordNet ids, or the development kit, which defines its numbers"
        )
    if all(len(row) == 1 for row in rows):
        return _in_order(classes, names, path)
    by_name = {PurePosixPath(row[0]).stem: of for row, of in zip(rows, classes, strict=True)}
    missing = [name for name in names if PurePosixPath(name).stem not in by_name]
    if missing:
        raise DistillError(f"{path} has no class for {missing[0]} ({len(missing)} such images)")
    return [by_name[PurePosixPath(name).stem] for name in names]


def _in_order(classes: Sequence[str], names: Sequence[str], path: Path) -> list[str]:
    if len(classes) != len(names):
        raise DistillError(f"{path} has classes of {len(classes)} images, the archive has {len(names)}")
    position = {name: n for n, name in enumerate(sorted(names))}
    return [classes[position[name]] for name in names]


def _of_devkit(path: Path) -> list[str]:
    """WordNet ids in the order of the images."""
    try:
        from scipy.io import loadmat
    except ImportError:
        raise DistillError(f"meta.mat in {path} needs scipy: pip install scipy, or use a list of WordNet ids") from None
    try:
        files = _unpacked(path)
        synsets = loadmat(io.BytesIO(files[_META]), squeeze_me=True)["synsets"]
        names = {int(number): str(name) for number, name in zip(synsets["ILSVRC2012_ID"], synsets["WNID"], strict=True)}
        return [names[int(number)] for number in files[_NUMBERS].split()]
    except DistillError:
        raise
    except Exception as error:  # Whatever scipy, tarfile or gzip raise for files that are something else.
        reason = printable(f"{type(error).__name__}: {error}")[:300]
        raise DistillError(f"cannot read the classes in {path}: it is no development kit ({reason})") from None


def _unpacked(path: Path) -> dict[str, bytes]:
    """The two files of a development kit."""
    files: dict[str, bytes] = {}
    if path.is_dir():
        found = {file.name: file for name in (_NUMBERS, _META) for file in path.rglob(name)}
        files = {name: read_regular(file, limit=_MAX_BYTES) for name, file in found.items()}
    else:
        data = read_regular(path, limit=_MAX_BYTES)
        if data.startswith(b"\x1f\x8b"):
            data = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(data, _MAX_BYTES)
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for member in tar:
                if (name := PurePosixPath(member.name).name) in (_NUMBERS, _META) and (file := tar.extractfile(member)):
                    files[name] = file.read()
    for name in (_NUMBERS, _META):
        if name not in files:
            raise DistillError(f"{path} is not the development kit of ILSVRC2012: it has no {name}")
    return files
