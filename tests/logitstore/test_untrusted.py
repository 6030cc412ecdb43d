import io
import os
import socket
import sys
from pathlib import Path

import click
import pytest

from logitstore.untrusted import (
    MAX_JSON_BYTES,
    BadInput,
    PlainOutput,
    open_regular,
    parse_json,
    plain_name,
    plain_output,
    plain_path,
    printable,
    read_regular,
)


@pytest.mark.parametrize("name", ["shard-000000.tar", "näme", "a b", "..a", "-", "x" * 255])
def test_plain_names(name: str) -> None:
    assert plain_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/etc/passwd", "../x", "a/b", "a\\b", "a\0b", "a\nb", "\x1b[2J", "\x9b", "x" * 256, 7, None]
)
def test_names_that_are_not_plain(name: object) -> None:
    with pytest.raises(BadInput):
        plain_name(name)
    with pytest.raises(BadInput):
        plain_name("\ud800")


def test_plain_paths() -> None:
    assert plain_path("train/n01440764/a.jpg") == "train/n01440764/a.jpg"
    for path in ("/a", "a/../b", "a//b", "a/", "", "./a", 3, "a/\x07"):
        with pytest.raises(BadInput):
            plain_path(path)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    file, link, pipe, name = (tmp_path / name for name in ("file", "link", "pipe", "socket"))
    file.write_bytes(b"abc")
    link.symlink_to(file)
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(name))
        for path in (pipe, name, Path("/dev/zero")):
            with pytest.raises(BadInput):
                open_regular(path)
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)
    assert read_regular(link, limit=3) == b"abc"
    with pytest.raises(BadInput, match="symbolic link"):
        read_regular(link, limit=3, follow=False)
    with pytest.raises(BadInput, match="larger"):
        read_regular(file, limit=2)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none", limit=1)


def test_json() -> None:
    assert parse_json(b'{"a": [1, null]}') == {"a": [1, None]}
    assert parse_json("[NaN]", allow_nan=True)[0] != 0
    for text in ("{", "[NaN]", "[-Infinity]", b"\xff", "[" * 100_000, "9" * 5000, b" " * (MAX_JSON_BYTES + 1)):
        with pytest.raises(BadInput):
            parse_json(text)


def test_text_for_a_terminal() -> None:
    assert printable("tench, größer 木") == "tench, größer 木"
    assert printable("a\x1b]0;x\x07b\x9b\u202ec\n") == "a\\x1b]0;x\\x07b\\x9b\\u202ec\\n"
    assert printable("a\nb\u2028\ud800", keep="\n") == "a\nb\\u2028\\ud800"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_output_shows_no_escapes_and_never_fails(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    with plain_output():
        print("a\x1b[2J 木\x9b31m\r\tend\nnext", flush=True)
        click.echo("ok \x07", file=sys.stdout)
        with plain_output():
            print("inner \x1b")
        sys.stdout.flush()
    text = raw.getvalue().decode(encoding)
    shown = "木" if encoding == "utf-8" else "\\u6728"
    assert text == f"a\\x1b[2J {shown}\\x9b31m\\r\tend\nnext\nok \\x07\ninner \\x1b\n"
    assert not isinstance(sys.stdout, PlainOutput)
