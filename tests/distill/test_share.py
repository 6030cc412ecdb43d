"""Shares of a teacher pass: together they are the pass, and none touches another's blocks."""

from __future__ import annotations

from pathlib import Path

import pytest

import logitstore
from distill.config.block_share import BlockShare, parse_block_share
from distill.errors import DistillError, Stopped, UsageError
from tests.distill.test_save_logits import content
from tests.programs import call, run, spawn, teacher_arguments


@pytest.mark.parametrize(("num_blocks", "count"), [(1, 1), (7, 3), (3467, 16), (5, 5)])
def test_shares_divide_the_blocks_evenly_and_in_order(num_blocks: int, count: int) -> None:
    shares = [BlockShare(index, count).blocks(num_blocks) for index in range(count)]
    assert [block for blocks in shares for block in blocks] == list(range(num_blocks))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_what_is_no_share_is_refused() -> None:
    assert parse_block_share(None) is None
    assert parse_block_share("0/3") == BlockShare(0, 3)
    for text in ("3/3", "1", "-1/3", "1/0", "a/b", "1/3/5"):
        with pytest.raises(UsageError, match=r"run\.share="):
            parse_block_share(text)
    with pytest.raises(UsageError, match="only 2 blocks"):
        BlockShare(0, 3).blocks(2)


def test_shares_make_the_store_that_one_run_makes(
    data_path: Path, teacher_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, shared = tmp_path / "whole.zarr", tmp_path / "shared.zarr"
    call("save_logits", teacher_arguments(data_path, teacher_weights, whole))
    words = teacher_arguments(data_path, teacher_weights, shared)
    with pytest.raises(DistillError, match=r"0 of 2 epochs.*run\.make_only=true"):
        call("save_logits", [*words, "run.share=0/2"])
    assert not shared.exists()
    call("save_logits", [*words, "run.make_only=true"])
    assert not logitstore.open(shared).done().any()
    call("save_logits", [*words, "run.share=1/2"])
    assert logitstore.open(shared).done().tolist() == [[False, True, True]] * 2
    assert "4 of 4 blocks to do" in capsys.readouterr().out
    call("save_logits", [*words, "run.share=1/2"])
    assert "0 of 4 blocks to do" in capsys.readouterr().out
    call("save_logits", [*words, "run.share=0/2"])
    assert f"share 0/2 of {shared} is complete: 2 epochs of 64 views" in capsys.readouterr().out
    assert content(shared) == content(whole)


def test_a_share_that_is_stopped_leaves_a_marker_of_its_own(
    data_path: Path, teacher_weights: Path, tmp_path: Path
) -> None:
    path = tmp_path / "t.zarr"
    words = teacher_arguments(data_path, teacher_weights, path)
    call("save_logits", [*words, "run.make_only=true"])
    with pytest.raises(Stopped, match="3 blocks left of share 1/2"):
        call("save_logits", [*words, "run.share=1/2", "run.time_limit=0s"])
    marker = tmp_path / "t.zarr.share-1-of-2.requeue"
    assert marker.read_text().startswith("its time limit, 3 blocks left of share 1/2")
    call("save_logits", [*words, "run.share=0/2"])
    assert marker.exists()  # Of another share: left alone.
    call("save_logits", [*words, "run.share=1/2"])
    assert not marker.exists()
    assert logitstore.open(path).done().all()


def test_a_share_is_grown_by_the_run_that_makes_the_store(
    data_path: Path, teacher_weights: Path, tmp_path: Path
) -> None:
    path = tmp_path / "t.zarr"
    call("save_logits", teacher_arguments(data_path, teacher_weights, path, "store.epochs=1"))
    words = teacher_arguments(data_path, teacher_weights, path)
    with pytest.raises(DistillError, match="1 of 2 epochs"):
        call("save_logits", [*words, "run.share=0/3"])
    call("save_logits", [*words, "run.make_only=true"])
    for index in range(3):
        call("save_logits", [*words, f"run.share={index}/3"])
    assert logitstore.open(path).done().all()


def test_a_share_and_making_the_store_do_not_go_together(
    data_path: Path, teacher_weights: Path, tmp_path: Path
) -> None:
    words = teacher_arguments(data_path, teacher_weights, tmp_path / "t.zarr", "run.share=0/2", "run.make_only=true")
    with pytest.raises(UsageError, match=r"run\.make_only"):
        call("save_logits", words)


@pytest.mark.slow
def test_two_shares_write_at_the_same_time(data_path: Path, teacher_weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.zarr"
    words = teacher_arguments(data_path, teacher_weights, path, "store.rows_per_block=16", "data.damaged=skip")
    call("save_logits", [*words, "run.make_only=true"])
    shares = [spawn("save_logits", [*words, f"run.share={index}/2"]) for index in range(2)]
    outputs = [share.communicate(timeout=300) for share in shares]
    assert [share.returncode for share in shares] == [0, 0], outputs
    assert logitstore.check(path).faults == ()
    whole = tmp_path / "whole.zarr"
    call("save_logits", [*words, f"store.path={whole}"])
    assert content(path) == content(whole)


@pytest.mark.slow
def test_a_share_that_another_run_has_is_refused(data_path: Path, teacher_weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.zarr"
    words = teacher_arguments(data_path, teacher_weights, path)
    call("save_logits", [*words, "run.make_only=true"])
    with logitstore.writer(path, blocks=range(1, 3)):
        refused = run("save_logits", [*words, "run.share=1/2"])
    assert refused.returncode == 1
    assert "is being written by blocks 1..2: pid" in refused.stderr
