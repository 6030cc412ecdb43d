"""Every script can be started from any folder, and says with --help what it does."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.programs import ROOT

RUNNABLE = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "scripts").rglob("*.py")
    if 'if __name__ == "__main__":' in path.read_text()
)
WITHOUT_CLICK = {"scripts/prove/weights.py": "argparse"}


def module_of(script: str) -> str:
    return script.removesuffix(".py").replace("/", ".")


def command_of(script: str) -> click.Command:
    """The command that a script runs: its `main`, or whatever stands under `if __name__ == "__main__"`."""
    tree = ast.parse((ROOT / script).read_text())
    (name,) = (
        ast.unparse(node.body[-1]).removesuffix("()") for node in tree.body if isinstance(node, ast.If) and node.body
    )
    command = getattr(importlib.import_module(module_of(script)), name)
    assert isinstance(command, click.Command), f"{script} calls {name}, which is no command"
    return command


@pytest.mark.parametrize("script", RUNNABLE)
def test_a_script_that_imports_others_finds_them(script: str) -> None:
    """Python looks for `scripts` in the script's own folder, so each one puts the root in front."""
    text = (ROOT / script).read_text()
    lines = [line for line in text.splitlines() if "sys.path" in line]
    if "\nfrom scripts." in text:
        depth = script.count("/")
        assert lines == [f"sys.path.insert(0, str(Path(__file__).resolve().parents[{depth}]))"]
        assert text.index(lines[0]) < text.index("\nfrom scripts.")
    else:
        assert not lines


@pytest.mark.parametrize("script", [script for script in RUNNABLE if script not in WITHOUT_CLICK])
def test_a_script_explains_itself(script: str) -> None:
    command = command_of(script)
    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0, result.output
    assert command.help
    if isinstance(command, click.Group):
        for name in command.commands:
            assert CliRunner().invoke(command, [name, "--help"]).exit_code == 0


@pytest.mark.parametrize("script", ["scripts/bench_store.py", "scripts/bench/sizes.py", "scripts/pack.py"])
def test_a_script_starts_in_another_folder(script: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, ROOT / script, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: ")
