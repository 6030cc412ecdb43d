"""docs/commands.md is what `scripts/dev/make_command_reference.py` makes of the commands as they are now."""

import re
import subprocess
import sys
from pathlib import Path

from logitstore.cli import main

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "commands.md"


def test_the_reference_is_fresh(tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(ROOT / "scripts" / "dev")!r})
import make_command_reference
sys.stdout.write(make_command_reference.make())
"""
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=ROOT).stdout.decode()
    assert _without_sizes(made) == _without_sizes(REFERENCE.read_text(encoding="utf-8")), (
        "run scripts/dev/make_command_reference.py"
    )


def _without_sizes(text: str) -> str:
    """Compressed sizes may differ by a few bytes with the compressor's version."""
    lines = [re.sub(r"[\d.,]+", "#", line) if "bytes" in line else line for line in text.splitlines()]
    return "\n".join(lines)


def test_every_command_is_in_it():
    text = REFERENCE.read_text(encoding="utf-8")
    for name in main.commands:
        assert f"\n## {name}\n" in text
        assert f"\n$ logitstore {name} " in text
