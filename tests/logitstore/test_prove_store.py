"""`scripts/prove/store.py` with few acts of each kind."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_nothing_is_silently_wrong(tmp_path):
    words = ["--corruptions", "12", "--kills", "3", "--rounds", "1", "--json", tmp_path / "counts.json"]
    program = [sys.executable, ROOT / "scripts" / "prove" / "store.py", tmp_path / "work", *words]
    done = subprocess.run(program, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert sum(counts["corruptions"].values()) == 12
    assert counts["kills"]["killed"] == 3
    assert counts["full disk"] == {"clear errors": 10, "stores intact": 10}
