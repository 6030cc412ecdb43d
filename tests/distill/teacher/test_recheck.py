"""Stores of earlier versions, whose classes end at a cumulative mass: verified, trained from, but not continued."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import logitstore
from distill.errors import DistillError
from distill.targets.sparse import SparseTargets
from scripts.studies.fidelity import end_at_mass
from tests.distill.test_verify import verify_arguments
from tests.programs import call, student_arguments, teacher_arguments

MAX_MASS = 0.3


@pytest.fixture(scope="module")
def store_path(data_path: Path, teacher_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with `max_mass`, which the teacher pass made before."""
    folder = tmp_path_factory.mktemp("mass")
    words = teacher_arguments(data_path, teacher_weights, folder / "whole.zarr", "store.epochs=1")
    call("save_logits", words)
    whole, path = logitstore.open(folder / "whole.zarr"), folder / "t.zarr"
    spec = replace(whole.spec, max_mass=MAX_MASS)
    logitstore.create(path, spec, keys=whole.keys(slice(None)), labels=whole.labels(slice(None)))
    with logitstore.writer(path) as writer:
        for block in range(spec.num_blocks):
            rows = whole.read(epoch=0, rows=spec.block_rows(block))
            arrays = (rows.indices, rows.logprobs, rows.tail)
            ended = end_at_mass(SparseTargets(*map(torch.from_numpy, arrays)), MAX_MASS)
            indices, logprobs, tail = (tensor.numpy() for tensor in ended)
            proof = whole.proof(0, block)
            writer.write(0, block, seeds=rows.seeds, indices=indices, logprobs=logprobs, tail=tail, proof=proof)
    assert np.isneginf(logitstore.open(path).read(epoch=0, rows=slice(None)).logprobs).any()
    return path


def test_it_is_verified_and_trained_from(
    store_path: Path, data_path: Path, teacher_weights: Path, tmp_path: Path
) -> None:
    assert logitstore.check(store_path).ok
    call("verify_logits", verify_arguments(data_path, teacher_weights, store_path))
    call("train_student", student_arguments(data_path, tmp_path / "run", f"store.path={store_path}", "train.steps=3"))
    assert (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_teacher_pass_over_it_is_refused(
    store_path: Path, data_path: Path, teacher_weights: Path, tmp_path: Path
) -> None:
    path = tmp_path / "t.zarr"
    shutil.copytree(store_path, path)
    (path / "proofs" / "c" / "0" / "1").unlink()
    with pytest.raises(DistillError, match=r"max_mass=0\.3, which no longer exists.*verified and trained from"):
        call("save_logits", teacher_arguments(data_path, teacher_weights, path, "store.epochs=1"))
