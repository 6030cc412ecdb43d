"""Files and folders that appear whole or not at all."""

import os
import stat

import pytest

from logitstore.storage import atomic
from logitstore.storage.atomic import atomic_path, write_atomically


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("sole_writer", [True, False])
@pytest.mark.parametrize("sync", [True, False])
def test_a_file_is_replaced_at_once(tmp_path, sole_writer, sync):
    path = tmp_path / "a.json"
    path.write_text("old")
    with atomic_path(path, sole_writer=sole_writer, sync=sync) as temporary:
        assert temporary.parent == tmp_path and temporary.name.endswith(atomic.TEMPORARY)
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    write_atomically(path, "käse\n", sole_writer=sole_writer, sync=sync)
    assert path.read_bytes() == "käse\n".encode()
    write_atomically(path, b"\0", sole_writer=sole_writer, sync=sync)
    assert path.read_bytes() == b"\0"
    assert names(tmp_path) == ["a.json"]


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("x")
    write_atomically(tmp_path / "atomic", "x")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "atomic")]
    assert modes[0] == modes[1]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    (tmp_path / "a").write_text("old")
    with pytest.raises(error), atomic_path(tmp_path / "a") as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise error
    with pytest.raises(error), atomic_path(tmp_path / "a"):  # Before anything was written.
        raise error
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_a_folder_appears_at_once_and_what_fails_is_removed(tmp_path):
    with pytest.raises(ValueError, match="no"), atomic_path(tmp_path / "folder", folder=True) as temporary:  # noqa: PT012
        (temporary / "x").write_text("half")
        raise ValueError("no")
    assert names(tmp_path) == []
    with atomic_path(tmp_path / "folder", folder=True) as temporary:
        (temporary / "x").write_text("whole")
    assert (tmp_path / "folder" / "x").read_text() == "whole"
    with pytest.raises(OSError, match="not empty"), atomic_path(tmp_path / "folder", folder=True):
        pass
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("leftover", ["file", "folder", "link"])
def test_what_a_killed_sole_writer_left_does_not_pile_up(tmp_path, leftover):
    left, other = tmp_path / "a.0123abcd.tmp", tmp_path / "a.old.tmp"
    other.touch()
    if leftover == "file":
        left.write_text("half of one")
    elif leftover == "folder":
        left.mkdir()
        (left / "x").touch()
    else:
        left.symlink_to(other)
    write_atomically(tmp_path / "a", "whole", sole_writer=True)
    assert names(tmp_path) == ["a", "a.old.tmp"]


def test_links_are_replaced_and_never_followed(tmp_path, monkeypatch):
    foreign = tmp_path / "foreign"
    foreign.write_text("mine")
    (tmp_path / "a").symlink_to(foreign)
    write_atomically(tmp_path / "a", "new")
    assert (foreign.read_text(), (tmp_path / "a").read_text()) == ("mine", "new")
    assert not (tmp_path / "a").is_symlink()
    # Even where somebody has guessed the temporary name.
    monkeypatch.setattr(atomic.secrets, "token_hex", lambda n: "0" * 8)
    (tmp_path / "b.00000000.tmp").symlink_to(foreign)
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "b", "new")
    assert foreign.read_text() == "mine"


def test_sync_flushes_the_whole_file_before_the_rename(tmp_path, monkeypatch):
    calls = []
    fsync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: calls.append(os.fstat(file).st_size) or fsync(file))
    monkeypatch.setattr(os, "replace", lambda a, b: calls.append("rename") or rename(a, b))
    write_atomically(tmp_path / "a", b"12345", sync=True)
    assert calls == [5, "rename"]


def test_errors_of_the_disk_are_os_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "gone" / "a", "x")
