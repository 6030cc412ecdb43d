"""A byte range of an open file as a file, such as a tar inside a tar."""

from __future__ import annotations

import io
import os
from typing import BinaryIO

_MOST = 2**30
"""Bytes of one read: above the directory of any zip, and a bound for headers that claim more."""


class FileWindow(io.RawIOBase):
    """Bytes begin .. begin + size - 1 of a file, by positioned reads; closing it leaves the file open."""

    def __init__(self, file: BinaryIO, begin: int, size: int) -> None:
        self._file, self._begin, self._size, self._position = file.fileno(), begin, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        left = min(max(0, self._size - self._position), _MOST)
        data = os.pread(self._file, left if size is None or size < 0 else min(size, left), self._begin + self._position)
        self._position += len(data)
        return data
