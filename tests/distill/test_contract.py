"""The search as a program: its files, its restart, and the same result from several processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import distill.config.command
import distill.contract
import distill.contraction.search
import distill.contraction.train_candidate
from distill.config import ContractConfig
from distill.errors import DistillError, LossNotFinite, Stopped, UsageError
from distill.runs import run_dir
from tests.programs import call, fresh_state, kill_at_work, run, student_arguments, teacher_arguments


@pytest.fixture(scope="module")
def store_path(data_path: Path, teacher_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "t.zarr"
    call("save_logits", teacher_arguments(data_path, teacher_weights, path))
    return path


def contract_arguments(data: Path, store: Path, folder: Path, *more: str) -> list[str]:
    """A search of a few rounds of 4 candidates with 3 steps each, from 27 k parameters to 10 k."""
    return [
        f"data.path={data}", f"store.path={store}", f"run.dir={folder}", "student=tiny_vit_micro",
        "student.image_size=32", "student.dims=[8,16,24,32]", "student.depths=[1,1,2,1]", "student.heads=[1,2,3,4]",
        "student.windows=[4,4,2,1]", "limits.params=15e3", "limits.macs=0.3e6", "strides.dims=8", "strides.windows=2",
        "least.dims=[8,8,8,8]", "least.windows=[2,2,2,1]", "strides.head_dim=4", "least.head_dim=4",
        "search.shrink=0.7", "search.candidates=4", "train.steps=3", "train.batch_size=16", "optim.base_batch=null",
        "optim.lr=2e-3", "data.workers=0", "data.window_shards=3", "compute.threads=1", *more,
    ]  # fmt: skip


def read_table(folder: Path) -> list[dict[str, Any]]:
    """All candidates of a search, without their times."""
    found = [json.loads(line) for line in (folder / "candidates.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in found]


@pytest.fixture(scope="module")
def reference(data_path: Path, store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search without interruption, in this process."""
    folder = tmp_path_factory.mktemp("reference") / "search"
    call("contract", contract_arguments(data_path, store_path, folder))
    return folder


def test_a_search_writes_its_files_and_a_student_to_train(
    reference: Path, data_path: Path, store_path: Path, tmp_path: Path
) -> None:
    summary = json.loads((reference / "summary.json").read_text())
    assert summary["costs"]["params"] <= 15e3 and summary["costs"]["macs"] <= 0.3e6
    found = read_table(reference)
    assert len(found) == summary["candidates"] > 5
    for line in found[1:]:
        limits = json.loads((reference / "rounds" / f"{line['name'][:2]}.json").read_text())["limits"]
        assert all(line["costs"][name] <= limit for name, limit in limits.items())
    best: dict[str, Any] = {}
    for line in found:
        if line["name"][:2] not in best or line["loss"] < best[line["name"][:2]]["loss"]:
            best[line["name"][:2]] = line
    assert [line["name"] for line in best.values()] == summary["path"]
    assert all(line["kept"] == (line["name"] in summary["path"]) for line in found)
    kept = {path.name.removesuffix(".safetensors") for path in (reference / "candidates").glob("*.safetensors")}
    assert kept == set(summary["path"])
    assert "| **00-00** |" in (reference / "report.md").read_text()
    assert (reference / "pareto.png").stat().st_size > 10_000
    arguments = ["--config-dir", str(reference / "conf"), f"student.init={reference / 'contracted.safetensors'}"]
    arguments += [text for text in student_arguments(data_path, tmp_path / "run") if not text.startswith("student")]
    call("train_student", [*arguments, "student=contracted", f"store.path={store_path}", "train.steps=2"])
    trained = run_dir.read_config(tmp_path / "run").student
    assert trained.dims == summary["config"]["dims"]


def test_a_search_that_stops_goes_on_without_repeating_and_ends_alike(
    reference: Path, data_path: Path, store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = contract_arguments(data_path, store_path, tmp_path / "search")
    train, trained = distill.contraction.train_candidate.train_candidate, []

    def interrupted_at_times(*args: Any, **kwargs: Any) -> Any:
        trained.append(args[1].name)
        if len(trained) in (3, 7, 8):
            raise KeyboardInterrupt
        return train(*args, **kwargs)

    with pytest.raises(Stopped, match="time limit"):
        call("contract", [*arguments, "run.time_limit=0.01s"])
    assert not list((tmp_path / "search" / "candidates").iterdir())
    monkeypatch.setattr(distill.contraction.search, "train_candidate", interrupted_at_times)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            call("contract", arguments)
    call("contract", arguments)
    assert read_table(tmp_path / "search") == read_table(reference)
    assert len(trained) == len(read_table(reference)) + 3, "each candidate once, and once more where it was interrupted"
    call("contract", arguments)
    assert len(trained) == len(read_table(reference)) + 3
    assert not list((tmp_path / "search" / "candidates").glob("*.inherited.*"))
    with pytest.raises(DistillError, match=r"search\.shrink: 0\.7 there, 0\.6 now"):
        call("contract", [*arguments, "search.shrink=0.6"])


@pytest.mark.slow
def test_two_processes_killed_and_started_again_find_the_same(
    reference: Path, data_path: Path, store_path: Path, tmp_path: Path
) -> None:
    arguments = contract_arguments(data_path, store_path, tmp_path / "search")
    kill_at_work("contract", arguments, line="round 1: ", seconds=0.3, processes=2)
    assert not (tmp_path / "search" / "summary.json").exists()
    done = run("contract", arguments, processes=2)
    assert done.returncode == 0, done.stderr
    assert "2 processes train different candidates" in done.stdout
    assert read_table(tmp_path / "search") == read_table(reference)


def test_fresh_candidates_beams_and_measured_limits(data_path: Path, store_path: Path, tmp_path: Path) -> None:
    arguments = contract_arguments(
        data_path, store_path, tmp_path / "search", "search.inherit=fresh", "search.beam=2", "search.shrink=0.5",
        "limits.latency_ms=10000", "limits.images_per_s=0.001", "search.measure_batch=2", "search.measure_batches=1",
        "search.rank_by=agreement", "train.steps=1",
    )  # fmt: skip
    call("contract", arguments)
    summary = json.loads((tmp_path / "search" / "summary.json").read_text())
    assert summary["costs"].keys() == {"params", "macs", "latency_ms", "image_ms"}
    assert 0 < summary["costs"]["latency_ms"] < 10000


def test_diverged_candidates_are_recorded_and_not_selected(
    data_path: Path, store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = distill.contraction.train_candidate._train
    tried: list[Any] = []

    def diverges_at_times(*args: Any, **kwargs: Any) -> None:
        tried.append(len(tried))
        if tried[-1] in bad:
            raise LossNotFinite("the loss of step 2 is nan")
        train(*args, **kwargs)

    monkeypatch.setattr(distill.contraction.train_candidate, "_train", diverges_at_times)
    arguments = contract_arguments(data_path, store_path, tmp_path / "search")
    bad = {0}
    with pytest.raises(LossNotFinite, match="candidate 00-00: the loss of step 2 is nan"):
        call("contract", arguments)
    bad = {3, 5}  # The second and the fourth of the first round; number 1 is the initial architecture again.
    call("contract", arguments)
    losses = {line["name"]: line["loss"] for line in read_table(tmp_path / "search")}
    assert [name for name, loss in losses.items() if loss is None] == ["01-01", "01-03"]
    assert not {"01-01", "01-03"} & set(json.loads((tmp_path / "search" / "summary.json").read_text())["path"])
    assert "| 01-01 |" in (report := (tmp_path / "search" / "report.md").read_text()) and "| diverged |" in report
    tried.clear()
    bad = set(range(1, 100))
    with pytest.raises(DistillError, match="round 1: the training of every candidate diverged"):
        call(
            "contract",
            [argument for argument in arguments if "run.dir" not in argument] + [f"run.dir={tmp_path / 'again'}"],
        )
    assert len(read_table(tmp_path / "again")) == 5


def test_a_dry_run_estimates_the_search_and_writes_nothing(
    data_path: Path, store_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = contract_arguments(data_path, store_path, tmp_path / "search", "search.shrink=0.5", "train.steps=4")
    with fresh_state():
        distill.contract.dry_run(distill.config.command.load("contract", ContractConfig, arguments))
    printed = capfd.readouterr().out
    assert "2 rounds and 9 candidates at most, 1 at a time" in printed and "nothing was written" in printed
    assert not (tmp_path / "search").exists()
    with fresh_state(), pytest.raises(DistillError, match="out of reach"):
        distill.contract.dry_run(
            distill.config.command.load("contract", ContractConfig, [*arguments, "limits.params=100"])
        )


def test_impossible_searches_are_refused_before_anything_is_written(
    data_path: Path, store_path: Path, tmp_path: Path
) -> None:
    def arguments(*more: str) -> list[str]:
        return contract_arguments(data_path, store_path, tmp_path / "search", *more)

    with pytest.raises(DistillError, match=r"out of reach.*the smallest architecture .* has"):
        call("contract", arguments("limits.params=100"))
    with pytest.raises(DistillError, match="measured limits are out of reach"):
        call("contract", arguments("limits.latency_ms=1e-6", "search.measure_batches=1"))
    with pytest.raises(DistillError, match="nothing to contract"):
        call("contract", arguments("limits.params=1e9", "limits.macs=1e9"))
    with pytest.raises(UsageError, match="no limit is set"):
        call("contract", arguments("limits.params=null", "limits.macs=null"))
    with pytest.raises(UsageError, match="would be left to train on"):
        call("contract", arguments("search.hold_out=0.999"))
    with pytest.raises(UsageError, match=r"student\.init"):
        call("contract", arguments("search.seed_steps=0"))
    assert not (tmp_path / "search").exists()
