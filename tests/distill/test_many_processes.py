"""One, two and four processes of the same global batch: the same losses, gradients, weights and scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.distill import many_processes
from tests.programs import call, fresh_state, spawn, teacher_arguments


@pytest.fixture(scope="module")
def store_path(data_path: Path, teacher_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "t.zarr"
    call("save_logits", teacher_arguments(data_path, teacher_weights, path))
    return path


@pytest.fixture(scope="module")
def alone(data_path: Path, store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("alone") / "found.pt"
    with fresh_state():
        many_processes.main(data_path, store_path, out)
    return torch.load(out)


@pytest.fixture(scope="module", params=[2, 4])
def several(
    request: pytest.FixtureRequest, data_path: Path, store_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("several") / "found.pt"
    words = [str(path) for path in (data_path, store_path, out)]
    process = spawn("", words, processes=request.param, module="tests.distill.many_processes")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    found = torch.load(out)
    assert found["world"] == request.param
    return found


@pytest.mark.parametrize("case", many_processes.CASES)
def test_losses_gradients_and_weights_are_those_of_one_process(
    alone: dict[str, Any], several: dict[str, Any], case: str
) -> None:
    ours, theirs = several[case], alone[case]
    torch.testing.assert_close(ours["losses"], theirs["losses"], rtol=1e-5, atol=0)
    for name, gradient in theirs["gradients"].items():
        size = gradient.abs().max().item()
        torch.testing.assert_close(ours["gradients"][name], gradient, rtol=0, atol=2e-4 * size + 1e-8, msg=name)
    for kind in ("weights", "average") if ours["average"] else ("weights",):
        for name, tensor in theirs[kind].items():
            torch.testing.assert_close(ours[kind][name], tensor, rtol=1e-3, atol=1e-3, msg=f"{kind} {name}")
    assert torch.stack([g.abs().max() for g in theirs["gradients"].values()]).max() > 1e-3


def test_the_rate_follows_the_global_batch_and_not_the_processes(
    alone: dict[str, Any], several: dict[str, Any]
) -> None:
    for case, rows in (("sync", 24), ("frozen", 48)):
        assert several[case]["peak"] == alone[case]["peak"] == pytest.approx(0.05 * rows / 512)


def test_gradients_are_reduced_once_a_step_however_many_parts_it_has(several: dict[str, Any]) -> None:
    assert several["sync"]["accumulate"] == 1 and several["frozen"]["accumulate"] == 2
    assert several["sync"]["reductions"] >= 1
    assert several["frozen"]["reductions"] == several["sync"]["reductions"] < several["sync"]["parameters"]
    assert several["partial"]["reductions"] == several["sync"]["reductions"]


def test_a_partial_step_takes_the_rest_of_the_epoch(alone: dict[str, Any], several: dict[str, Any]) -> None:
    for found in (alone, several):
        assert found["partial"]["rows"] == 150
        assert found["partial"]["parts"] == 7  # Three steps of 48 rows, and one of 6 rows in a single part.


def test_evaluation_counts_every_image_once(alone: dict[str, Any], several: dict[str, Any]) -> None:
    for case in many_processes.CASES:
        ours, theirs = several[case]["scores"], alone[case]["scores"]
        assert ours["num_images"] == theirs["num_images"] == 150
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-2)
    assert {"ema_top1", "ema_top5", "ema_loss"} <= several["sync"]["scores"].keys()
