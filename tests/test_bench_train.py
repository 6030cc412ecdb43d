"""The benchmark of training runs and gives every figure it promises. What the figures are is nobody's test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
KEYS = {
    "train_f32_vs_timm", "train_bf16_vs_timm", "infer_f32_vs_timm", "infer_bf16_vs_timm", "distill_vs_labels",
    "teacher_vs_forward",
}  # fmt: skip


@pytest.mark.slow
def test_every_ratio_is_measured(tmp_path: Path) -> None:
    target = tmp_path / "train.json"
    words = [sys.executable, str(ROOT / "scripts" / "bench_train.py"), "--quick", "--threads", "1", "--json"]
    done = subprocess.run([*words, str(target)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    values = json.loads(target.read_text())
    assert values.keys() >= KEYS
    assert all(value > 0 for value in values.values())
    assert all(key in done.stdout for key in KEYS)
