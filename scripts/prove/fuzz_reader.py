"""What the fuzzer knows of a reader: its valid files, and how to read them with one of them changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Something that reads files from elsewhere."""

    name: str
    kind: str
    """Of the files, for the mutator: `bytes`, `shard`, `root`, `head`, `json`, `jsonl`, `yaml` or `checkpoint`."""
    files: dict[str, bytes]
    """Valid files by name, of which one is changed."""
    read: Callable[[Path, str, bytes], object]
    """Reads the changed file, (scratch folder, its name, its bytes)."""


def in_place(valid: Path, work: Callable[[Path], object]) -> Callable[[Path, str, bytes], object]:
    """A reader of a copy of the folder `valid`, in which one file is changed."""

    def read(folder: Path, name: str, data: bytes) -> object:
        copy = folder / "copy"
        if not copy.exists():
            shutil.copytree(valid, copy)
        (copy / name).write_bytes(data)
        try:
            return work(copy)
        finally:
            if copy.exists():
                shutil.copy(valid / name, copy / name)

    return read


def file(name: str, work: Callable[[Path], object]) -> Callable[[Path, str, bytes], object]:
    """A reader of one file."""

    def read(folder: Path, _: str, data: bytes) -> object:
        path = folder / name
        path.write_bytes(data)
        return work(path)

    return read
