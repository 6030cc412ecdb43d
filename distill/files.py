"""Files that appear whole or not at all, and files from elsewhere that are believed only as far as they go.

Run folders and caches are shared: what is read here may have been written by anybody. So sizes are bounded, a link or a
pipe in the place of a file is refused, and YAML is plain data. One clear error where the disk, or the file, is not what
it must be. (`logitstore.untrusted` has the rules.)
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import yaml

from distill.errors import DistillError
from logitstore.storage.atomic import write_atomically
from logitstore.untrusted import BadInput, parse_json, printable, read_regular

MAX_TEXT_BYTES = 256 * 2**20
"""Of a log, the largest text that is read."""
MAX_YAML_BYTES = 2**17
_MAX_DEPTH = 32


@contextmanager
def write_errors(path: Path | str) -> Iterator[None]:
    """Turns an `OSError` within into a `DistillError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise DistillError(f"cannot write {path}: {error.strerror or error}") from None


def write_file(path: Path, data: bytes | str, *, name: str | None = None) -> None:
    """Writes a whole file, text as UTF-8, under a temporary name and renames it; makes its folder. A symbolic link at
    `path` is replaced, not followed.

    **Arguments:** `name`: what a message calls the file, such as `out=page.html`; by default its path.

    **Raises:** `DistillError`.
    """
    with write_errors(name or path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)


def open_to_append(path: Path) -> IO[str]:
    """A text file to write at the end of, made where it is not there. **Raises:** `DistillError`, also for a link."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with write_errors(path):
        descriptor = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DistillError(f"cannot write {path}: it is no regular file")
    return os.fdopen(descriptor, "a", encoding="utf-8")


def refuse_links(folder: Path) -> None:
    """**Raises:** `DistillError` where there is anything but files and folders below a folder that programs read and
    write, such as a run's: a symbolic link would lead them to other files, a pipe would keep them waiting. The folder
    itself may be a link."""
    for parent, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            path = Path(parent, name)
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:  # Another process has removed it.
                continue
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                kind = "a symbolic link" if stat.S_ISLNK(mode) else "a pipe, a socket or a device"
                raise DistillError(f"{printable(str(path))} is {kind}: {folder} may hold files and folders only")


def read_text(path: Path, *, limit: int = MAX_TEXT_BYTES) -> str:
    """The text of a regular file, UTF-8, of at most `limit` bytes.

    **Raises:** `FileNotFoundError`; `DistillError` for what cannot be read.
    """
    try:
        return read_regular(path, limit=limit).decode("utf-8-sig")
    except FileNotFoundError:
        raise
    except UnicodeDecodeError:
        raise DistillError(f"cannot read {path}: it is not UTF-8 text") from None
    except BadInput as error:
        raise DistillError(f"cannot read {path}: {error}") from None
    except OSError as error:
        raise DistillError(f"cannot read {path}: {error.strerror}") from None


def read_json(path: Path, *, allow_nan: bool = False) -> Any:
    """The values of a JSON file. **Raises:** `FileNotFoundError`; `DistillError` for what is no JSON."""
    try:
        return parse_json(read_text(path), allow_nan=allow_nan)
    except BadInput as error:
        raise DistillError(f"cannot read {path}: {error}") from None


def read_json_object(path: Path, *, allow_nan: bool = False) -> dict[str, Any]:
    """`read_json` of a file that must hold an object."""
    values = read_json(path, allow_nan=allow_nan)
    if not isinstance(values, dict):
        raise DistillError(f"cannot read {path}: it holds a {type(values).__name__} where an object belongs")
    return values


def read_yaml_mapping(path: Path) -> dict[str, Any]:
    """The mapping of a YAML file as plain values: no aliases, no tags but YAML's own, no key twice, nothing resolved.

    **Raises:** `FileNotFoundError`; `DistillError` for anything else.
    """
    text = read_text(path, limit=MAX_YAML_BYTES)
    try:
        values = yaml.load(text, Loader=_PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DistillError(f"cannot read {path}: it is no plain YAML ({printable(reason)})") from None
    if not isinstance(values, dict):
        raise DistillError(f"cannot read {path}: it holds a {type(values).__name__} where a mapping belongs")
    return values


class _PlainLoader(yaml.SafeLoader):
    """Plain data of bounded depth."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("an alias")
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise yaml.YAMLError("nested too deeply")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(keys) != len(node.value):
            raise yaml.YAMLError(f"a key that is no word in line {node.start_mark.line + 1}")
        if len(set(keys)) < len(keys):
            raise yaml.YAMLError(f"a key twice in the mapping in line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep=deep)
