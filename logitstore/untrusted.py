"""What comes from others, believed only as far as it bears out: names, files, JSON, and text for a terminal.

Stores, packed data, weights and run folders are made to be shared, so whoever wrote them may be careless or hostile.
Everything that reads their bytes takes names, opens files, parses JSON and prints text through this module, so that
one rule holds everywhere (`docs/security.md`). It raises `BadInput`, a `ValueError` whose message says what is wrong;
the caller adds where, and what to do.
"""

import errno
import json
import os
import stat
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TextIO

MAX_NAME_BYTES = 255
"""The longest name that the usual file systems hold."""
MAX_JSON_BYTES = 32 * 2**20
"""JSON of this size takes at most some 1 GB when it is parsed."""


class BadInput(ValueError):
    """Something that came from elsewhere is not what it must be."""


def plain_name(name: object) -> str:
    """A name of one file or folder, which cannot lead out of its folder.

    **Arguments** name: what was read; anything but a plain name is refused: no text, empty, `.` or `..`, with a slash,
    a backslash, a control character or an unpaired surrogate, or above 255 bytes.

    Raises `BadInput`.
    """
    if not isinstance(name, str):
        raise BadInput(f"a name is expected, not {type(name).__name__}")
    try:
        size_bytes = len(name.encode())
    except UnicodeEncodeError:
        raise BadInput(f"{printable(name)!r} is no plain name: it is not valid Unicode") from None
    if name in ("", ".", "..") or "/" in name or "\\" in name or any(unicodedata.category(c) == "Cc" for c in name):
        raise BadInput(f"'{printable(name)}' is no plain name: it could lead to another folder, or cannot be shown")
    if size_bytes > MAX_NAME_BYTES:
        raise BadInput(f"'{printable(name[:40])}...' is no plain name: it has {size_bytes} bytes")
    return name


def plain_path(path: object) -> str:
    """A relative path of plain names, joined by slashes, which cannot lead out of the folder that it is relative to.

    Raises `BadInput`.
    """
    if not isinstance(path, str):
        raise BadInput(f"a path is expected, not {type(path).__name__}")
    for part in path.split("/"):
        try:
            plain_name(part)
        except BadInput as error:
            raise BadInput(f"the path '{printable(path[:200])}' cannot be used: {error}") from None
    return path


def open_regular(path: Path | str, *, follow: bool = True) -> int:
    """A descriptor of a regular file, for reading. A FIFO, a device, a socket or a folder in its place is refused, and
    never waited for.

    **Arguments** follow: False refuses a symbolic link as the last part of the path too.

    Raises `BadInput`, and `OSError` where the file cannot be opened.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP and not follow:
            raise BadInput("it is a symbolic link: put the file itself in its place") from None
        if error.errno == errno.ENXIO:  # A socket.
            raise BadInput("it is a socket, where a file is expected") from None
        raise
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise BadInput("it is a device or a pipe, where a file is expected")
    return descriptor


def read_regular(path: Path | str, *, limit: int, follow: bool = True) -> bytes:
    """All bytes of a regular file of at most `limit` bytes.

    Raises `BadInput` where it is larger or no file, and `OSError` where it cannot be read.
    """
    with os.fdopen(open_regular(path, follow=follow), "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise BadInput(f"it is larger than the {limit:,} bytes that such a file may have")
    return data


def parse_json(data: bytes | str, *, allow_nan: bool = False) -> Any:
    """JSON values of a UTF-8 text.

    **Arguments** allow_nan: take `NaN` and `Infinity`, which JSON does not have, for numbers.

    Raises `BadInput`: no JSON, nested too deeply, too large, or numbers that are none.
    """
    if len(data) > MAX_JSON_BYTES:
        raise BadInput(f"it has {len(data):,} bytes, where {MAX_JSON_BYTES:,} are the most that is read")
    try:
        return json.loads(data, parse_constant=None if allow_nan else _no_constant)
    except RecursionError:
        raise BadInput("its JSON is nested too deeply") from None
    except BadInput:
        raise
    except ValueError as error:
        raise BadInput(f"it is not valid JSON ({error})") from None


def _no_constant(name: str) -> NoReturn:
    raise BadInput(f"its JSON holds {name}, which is not a number")


def printable(text: str, *, keep: str = "") -> str:
    r"""Text as a terminal or a log may show it: control characters (ESC, C0, C1), line and paragraph separators,
    direction overrides and unpaired surrogates become escapes such as `\x1b` and `\u202e`.

    **Arguments** keep: control characters to leave as they are, such as `"\n\t"`.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c in keep or _is_shown(c) else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def _is_shown(character: str) -> bool:
    category = unicodedata.category(character)
    return category not in ("Cc", "Cs", "Zl", "Zp") and character not in _DIRECTIONS


_DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Marks that change in which direction the text after them is shown."""


class PlainOutput:
    """A text stream that shows what is written to it as `printable` does, line by line, and never fails at a character
    that its encoding does not have."""

    def __init__(self, stream: TextIO) -> None:
        self.unescaped = stream
        """The stream itself, for a library that draws with escape sequences of its own."""

    def write(self, text: str) -> int:
        plain = printable(text, keep="\n\t")
        try:
            self.unescaped.write(plain)
        except UnicodeEncodeError:
            encoding = self.unescaped.encoding or "ascii"
            self.unescaped.write(plain.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unescaped, name)


@contextmanager
def plain_output() -> Iterator[None]:
    """What is printed within shows no escape sequences, whoever put them into a name or a message."""
    before = sys.stdout, sys.stderr
    if not isinstance(sys.stdout, PlainOutput):
        sys.stdout, sys.stderr = PlainOutput(sys.stdout), PlainOutput(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def terminal(stream: TextIO) -> TextIO:
    """The stream under a `PlainOutput`, for drawing bars and tables; what is drawn must be `printable`."""
    return stream.unescaped if isinstance(stream, PlainOutput) else stream
