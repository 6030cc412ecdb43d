"""Replay is verified at the start and at the first read of every block: a changed operation stops the run."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distill.replay.open_store
import distill.replay.proofs
import distill.student.loop
import distill.views
import logitstore
from distill.data.catalog import Catalog
from distill.errors import DistillError
from distill.replay.proofs import ProofVerifier, VerifyFirstReads
from distill.views import ViewSpec, ops
from tests.programs import call, student_arguments, teacher_arguments


@pytest.fixture(scope="module")
def store_path(data_path: Path, teacher_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every view is solarised completely, so a changed operation changes every image."""
    path = tmp_path_factory.mktemp("proofs") / "t.zarr"
    policy = "view.policy={kind: randaugment, layers: 1, prob: 1.0, operations: [SolarizeIncreasing]}"
    call("save_logits", teacher_arguments(data_path, teacher_weights, path, policy))
    return path


def falsify(monkeypatch: pytest.MonkeyPatch) -> None:
    """Solarize inverts all grey levels now, not those from a bound on: a difference in dark pixels only."""
    monkeypatch.setitem(ops.OPERATIONS, "Solarize", ops.OPERATIONS["Invert"])


def falsify_at_step(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    right = distill.student.loop._step

    def later(training: Any, *args: Any, **kwargs: Any) -> float:
        if training.step == step:
            falsify(monkeypatch)
        return right(training, *args, **kwargs)

    monkeypatch.setattr(distill.student.loop, "_step", later)


def test_a_changed_operation_stops_the_run_at_the_start(
    store_path: Path, data_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    falsify(monkeypatch)
    words = student_arguments(data_path, tmp_path / "run", f"store.path={store_path}")
    with pytest.raises(DistillError, match=r"(?s)synthetic images.*no library version differs.*store\.check=warn"):
        call("train_student", words)
    monkeypatch.setattr(distill.replay.open_store, "_PROOFS_AT_START", 6)
    stored = logitstore.open(store_path).spec.software["views"]["digest"]
    monkeypatch.setattr(distill.replay.open_store, "view_digest", lambda spec: stored)
    with pytest.raises(DistillError, match=r"6 proofs fail: epoch 0 block 0, epoch 0 block 1"):
        call("train_student", words)
    assert not (tmp_path / "run").exists()


def test_another_version_of_a_library_is_named(
    store_path: Path, data_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    falsify(monkeypatch)
    software = distill.views.software()
    monkeypatch.setattr(distill.views, "software", lambda: software | {"opencv": "9.9", "machine": "abacus"})
    words = student_arguments(data_path, tmp_path / "run", f"store.path={store_path}")
    with pytest.raises(DistillError, match=r"machine \S+ there, abacus here; opencv \S+ there, 9\.9 here"):
        call("train_student", words)


def test_a_change_is_found_when_a_later_block_is_first_read(
    store_path: Path, data_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine steps an epoch: the operation changes in the first epoch's midst, by then every block of it was read."""
    falsify_at_step(monkeypatch, 5)
    words = student_arguments(data_path, tmp_path / "run", f"store.path={store_path}", "run.save_every=3")
    with pytest.raises(DistillError, match=r"proofs? fail: epoch 1 block"):
        call("train_student", words)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len([line for line in lines if '"lr"' in line]) == 9


def test_a_change_is_found_within_an_epoch_too(
    store_path: Path, data_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With windows of one tar shard blocks are met one after another."""
    falsify_at_step(monkeypatch, 1)
    words = student_arguments(
        data_path, tmp_path / "run", f"store.path={store_path}", "data.window_shards=1", "train.batch_size=10"
    )
    with pytest.raises(DistillError, match=r"proofs? fail: epoch 0 block"):
        call("train_student", words)


def test_warn_says_it_once_and_off_says_nothing(
    store_path: Path, data_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    falsify_at_step(monkeypatch, 5)
    words = student_arguments(data_path, tmp_path / "warn", f"store.path={store_path}", "store.check=warn")
    call("train_student", words)
    assert capsys.readouterr().out.count("warning: the views of") == 1
    call("train_student", student_arguments(data_path, tmp_path / "off", f"store.path={store_path}", "store.check=off"))
    assert "warning" not in capsys.readouterr().out


def test_workers_verify_too(store_path: Path, data_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The change is made after the checks at the start; workers are forked with it."""
    right = ProofVerifier.failed

    def failed(self: ProofVerifier, blocks: list[tuple[int, int]], *, pass_damage: bool = False) -> Any:
        if not pass_damage:
            falsify(monkeypatch)
            return iter(())
        return right(self, blocks, pass_damage=pass_damage)

    monkeypatch.setattr(distill.replay.proofs.ProofVerifier, "failed", failed)
    words = student_arguments(data_path, tmp_path / "run", f"store.path={store_path}", "data.workers=2")
    with pytest.raises(DistillError, match="do not come out here"):
        call("train_student", words)


@pytest.mark.parametrize(("rows_per_block", "proof_rows", "world"), [(64, 2, 1), (4096, 2, 8), (4096, 2, 50)])
def test_first_reads_cost_less_than_a_hundredth(
    catalog: Catalog, store_path: Path, rows_per_block: int, proof_rows: int, world: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Counts how often each block is verified when every reader reads all of them, twice."""
    store = logitstore.open(store_path)
    spec = replace(store.spec, num_samples=40 * rows_per_block, rows_per_block=rows_per_block, proof_rows=proof_rows)
    monkeypatch.setattr(store, "spec", spec)
    verifier = ProofVerifier(store, ViewSpec(), catalog)
    verified: Counter[tuple[int, int]] = Counter()
    monkeypatch.setattr(verifier, "failed", lambda blocks, pass_damage: verified.update(blocks) or ())
    rows = np.arange(0, spec.num_samples, rows_per_block)
    for rank in range(world):
        reads = VerifyFirstReads(verifier, rank=rank, world=world, strict=True)
        for epoch in (0, 1, 0):
            assert reads(np.full(len(rows), epoch), rows) is None
    assert len(verified) == 80  # Every block by some reader.
    cost = max(verified.values()) * proof_rows / rows_per_block
    assert cost <= 0.01 or set(verified.values()) == {1}
    if world <= 20 and rows_per_block == 4096:
        assert set(verified.values()) == {world}
