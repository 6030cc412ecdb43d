"""The dry run of the teacher pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.distill.student.test_dry_run import dry_run
from tests.programs import call, teacher_arguments


def test_a_dry_run_counts_the_missing_views_and_writes_nothing(
    data_path: Path, teacher_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = teacher_arguments(data_path, teacher_weights, tmp_path / "t.zarr")
    dry_run("save_logits", words)
    assert "for the 300 views that the store lacks" in capfd.readouterr().out
    assert list(tmp_path.iterdir()) == []
    call("save_logits", [*words, "store.epochs=1"])
    (tmp_path / "t.zarr" / "proofs" / "c" / "0" / "2").unlink()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    dry_run("save_logits", words)
    assert "for the 172 views that the store lacks" in capfd.readouterr().out  # 150, and a block of 22.
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
