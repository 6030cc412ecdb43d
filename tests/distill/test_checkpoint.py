"""Checkpoint files: whole or named as damaged; the newest few and the best stay."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distill.errors import DistillError
from distill.runs.checkpoint import (
    DamagedCheckpoint,
    checkpoint_path,
    list_checkpoints,
    load_checkpoint,
    load_newest,
    save_checkpoint,
)


def state(step: int) -> dict[str, object]:
    return {"step": step, "model": {"weight": torch.full((50,), float(step))}}


def saved(folder: Path, steps: range, *, keep: int = 100, best: int | None = None) -> list[str]:
    for step in steps:
        save_checkpoint(folder, state(step), step=step, keep=keep, best=best)
    return [path.name for path in list_checkpoints(folder)]


def test_what_was_saved_is_loaded_and_torch_reads_it_too(tmp_path: Path) -> None:
    saved(tmp_path, range(3, 4))
    path = checkpoint_path(tmp_path, 3)
    for loaded in (load_checkpoint(path), torch.load(path, weights_only=True)):
        assert loaded["step"] == 3
        assert torch.equal(loaded["model"]["weight"], torch.full((50,), 3.0))


def test_the_newest_few_and_the_best_stay(tmp_path: Path) -> None:
    assert saved(tmp_path, range(6), keep=2, best=1) == ["step-00000001.pt", "step-00000004.pt", "step-00000005.pt"]


@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.9, 0.99])
def test_a_changed_byte_anywhere_is_found(tmp_path: Path, place: float) -> None:
    saved(tmp_path, range(1))
    path = checkpoint_path(tmp_path, 0)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedCheckpoint, match=r"was changed after it was written|is truncated"):
        load_checkpoint(path)


@pytest.mark.parametrize("length", [0, 10, 1000, -1])
def test_a_file_that_is_cut_off_is_found(tmp_path: Path, length: int) -> None:
    saved(tmp_path, range(1))
    path = checkpoint_path(tmp_path, 0)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DamagedCheckpoint, match="is truncated"):
        load_checkpoint(path)


def test_a_damaged_newest_gives_way_to_the_one_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path, range(1, 4))
    newest = checkpoint_path(tmp_path, 3)
    newest.write_bytes(newest.read_bytes()[:-100])
    found = load_newest(tmp_path)
    assert found and found[0] == checkpoint_path(tmp_path, 2) and found[1]["step"] == 2
    printed = capsys.readouterr().out
    assert f"{newest} is truncated" in printed and "trying the one before" in printed
    assert (tmp_path / "step-00000003.pt.damaged").exists() and not newest.exists()


def test_a_run_whose_checkpoints_are_all_damaged_does_not_begin_anew_by_itself(tmp_path: Path) -> None:
    assert load_newest(tmp_path / "none") is None
    saved(tmp_path, range(1, 3))
    for path in list_checkpoints(tmp_path):
        path.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(DistillError, match=r"all checkpoints .* are damaged"):
            load_newest(tmp_path)
