"""A store from elsewhere reaches only its own files: links and pipes in it are neither followed nor waited for."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import logitstore
from logitstore.cli import main

FILES = [
    "zarr.json", "seeds/zarr.json", "seeds/c/0/0", "indices/c/0/0/0", "logprobs/c/0/0/0", "tail/c/0/0", "proofs/c/0/0",
    "samples/keys/c/0", "samples/labels/c/0", "proofs/writer.lock",
]  # fmt: skip
FOLDERS = [
    "seeds",
    "seeds/c",
    "seeds/c/0",
    "indices/c/0/0",
    "proofs",
    "proofs/c",
    "proofs/c/0",
    "samples",
    "samples/keys",
]
COMMANDS = [
    ("info", "{}"), ("info", "{}", "--json"), ("show", "{}", "--row", "0"), ("check", "{}"), ("stats", "{}"),
    ("diff", "{}", "{other}"), ("repair", "{}", "--dry-run"), ("repair", "{}"), ("grow", "{}", "--epochs", "3"),
    ("copy", "{}", "{new}"), ("merge", "{}", "{other}"), ("recode", "{}", "{new}", "--topk", "2"),
    ("export", "{}", "{new}", "--format", "npz"),
]  # fmt: skip
LOOKING = [
    command
    for command in COMMANDS
    if command[0] in ("info", "show", "check", "stats", "diff") or "--dry-run" in command
]


def contents(folder: Path) -> dict[str, tuple[str, bytes]]:
    """Every file and link below a folder, links as what they point to."""
    return {
        str(path.relative_to(folder)): ("link", os.fsencode(path.readlink()))
        if path.is_symlink()
        else ("file", path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
        if not path.is_dir() or path.is_symlink()
    }


def run(command: tuple[str, ...], path: Path, other: Path, new: Path) -> tuple[int, str]:
    words = [word.format(path, other=other, new=new) for word in command]
    done = CliRunner().invoke(main, words)
    assert done.exception is None or isinstance(done.exception, SystemExit), (words, done.exception)
    return done.exit_code, done.output


@pytest.mark.parametrize("place", FILES + FOLDERS)
def test_a_link_leads_nowhere(make_store: Callable[..., Path], tmp_path: Path, place: str) -> None:
    good, other, foreign = make_store(), make_store(name="other.zarr"), tmp_path / "home"
    foreign.mkdir()
    for number, command in enumerate(COMMANDS):
        path = tmp_path / f"{number}.zarr"
        shutil.copytree(good, path)
        target = foreign / f"{number}"
        if place == "proofs/writer.lock":
            target.write_text("precious")
            (path / place).unlink(missing_ok=True)
        else:
            (path / place).rename(target)
        (path / place).symlink_to(target)
        before = contents(foreign)
        code, text = run(command, path, other, tmp_path / f"{number}.new")
        assert contents(foreign) == before, command
        if command[0] == "check" and place != "proofs/writer.lock":
            assert code == 1, text


@pytest.mark.parametrize("place", FILES)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_not_waited_for(
    make_store: Callable[..., Path], tmp_path: Path, place: str, kind: str
) -> None:
    path, other = make_store(), make_store(name="other.zarr")
    (path / place).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path / place)
    elif kind == "folder":
        (path / place).mkdir()
    else:
        try:
            os.mknod(path / place, 0o20666, os.makedev(1, 5))  # /dev/zero
        except PermissionError:
            pytest.skip("devices cannot be made here")
    for number, command in enumerate(COMMANDS):
        run(command, path, other, tmp_path / f"{number}.new")


@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
def test_looking_writes_nothing(make_store: Callable[..., Path], command: tuple[str, ...]) -> None:
    path, other = make_store(), make_store(name="other.zarr")
    (path / "proofs/writer.lock").unlink()
    (path / "tail/c/0/0").write_bytes(b"damaged")
    before = {file: file.stat().st_mtime_ns for file in [path, *path.rglob("*")]}
    run(command, path, other, path.with_name("new"))
    assert {file: file.stat().st_mtime_ns for file in [path, *path.rglob("*")]} == before
    assert not path.with_name("new").exists()
    assert logitstore.open(path).done().all()


def test_the_path_to_a_store_may_be_a_link(make_store: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "link.zarr").symlink_to(make_store())
    assert logitstore.check(tmp_path / "link.zarr").ok
    with logitstore.writer(tmp_path / "link.zarr"):
        pass
