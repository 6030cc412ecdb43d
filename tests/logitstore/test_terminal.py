"""Names from elsewhere are shown, and do nothing to the terminal."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from logitstore.cli import main

EVIL = "\x1b]0;owned\x07\x1b[2J[bold]x[/bold]\nforged line\u202e\x9b1m"


@pytest.mark.parametrize(
    "command",
    [("info",), ("show", "--row", "1"), ("check",), ("stats", "--classes", "9"), ("diff", "OTHER"), ("repair",)],
    ids=lambda words: words[0],
)
def test_no_command_prints_an_escape(make_store: Callable[..., Path], command: tuple[str, ...]) -> None:
    names = [f"{EVIL}{n}" for n in range(30)]
    about = {"name": EVIL, EVIL: EVIL, "class_names": names}
    path = make_store(teacher=about, data={"class_names": names, "fingerprint": EVIL}, view={EVIL: EVIL})
    other = make_store(name="other.zarr", teacher={"name": "x" + EVIL})
    if command[0] in ("check", "repair"):
        (path / "tail/c/0/1").unlink()
    words = [str(other) if word == "OTHER" else word for word in command]
    done = CliRunner().invoke(main, [words[0], str(path), *words[1:]])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert not set("\x1b\x07\x9b\u202e") & set(done.output)
    assert not any(line.startswith("forged line") for line in done.output.splitlines())
    if command[0] in ("info", "show", "stats"):
        assert "[bold]x[/bold]" in done.output


def test_a_name_of_a_store_that_is_not_there() -> None:
    done = CliRunner().invoke(main, ["info", f"/nowhere/{EVIL}"])
    assert done.exit_code == 1 and "\x1b" not in done.output
