"""The proofs of `scripts/prove/` on what comes from others, each with few acts. (test_prove_store.py: the store's.)"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("program", "words", "end"),
    [
        ("packed.py", ["--corruptions", "40", "--seed", "3"], "nothing was silently wrong"),
        ("runs.py", ["--corruptions", "8", "--seed", "3"], "nothing was silently wrong"),
        ("endpoint.py", ["--runs", "10", "--seed", "3"], "0 WRONG"),
        ("fuzz.py", ["--inputs", "350", "--seed", "3"], "350 inputs, 0 failures"),
    ],
)
def test_a_proof_in_small(tmp_path: Path, program: str, words: list[str], end: str) -> None:
    command: list[str | Path] = [sys.executable, ROOT / "scripts" / "prove" / program, tmp_path / "work", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert end in done.stdout
