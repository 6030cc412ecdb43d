"""The teacher pass: what it stores is what the teacher says of the views, however it was run or stopped."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import timm
import torch

import logitstore
from distill import models
from distill.data.catalog import Catalog
from distill.data.shards import ShardReader
from distill.errors import DistillError
from distill.views import ViewSpec, draw, image_size, render
from tests.programs import call, kill_at_work, run, spawn, student_arguments, teacher_arguments


@pytest.fixture(scope="module")
def store_path(data_path: Path, teacher_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "t.zarr"
    call("save_logits", teacher_arguments(data_path, teacher_weights, path))
    return path


def content(path: Path | str) -> tuple[bytes, ...]:
    """Everything a store says of its views."""
    store = logitstore.open(path)
    spec = store.spec
    assert store.done().all()
    everything = [store.read(epoch=epoch, rows=slice(None)) for epoch in range(spec.num_epochs)]
    arrays = [a for rows in everything for a in (rows.seeds, rows.indices, rows.logprobs, rows.tail)]
    proofs = [store.proof(e, b) for e in range(spec.num_epochs) for b in range(spec.num_blocks)]
    return (*(array.tobytes() for array in arrays), np.array(proofs, np.uint64).tobytes())


def test_the_store_holds_what_the_teacher_says_of_each_view(
    store_path: Path, catalog: Catalog, teacher_weights: Path
) -> None:
    store = logitstore.open(store_path)
    spec = ViewSpec.from_json(store.spec.view)
    teacher = models.build_teacher(kind="tiny_vit", weights=str(teacher_weights))
    shards = ShardReader(catalog)
    for epoch in range(2):
        stored = store.read(epoch=epoch, rows=slice(None))
        assert len(np.unique(stored.seeds)) == len(catalog)
        images = []
        for row in range(len(catalog)):
            data = shards.read(row)
            images.append(render(data, draw(spec, int(stored.seeds[row]), image_size(data)), size=32))
        pixels = torch.from_numpy(np.stack(images))
        inputs = (pixels.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
        with torch.inference_mode():
            probs = teacher.net(inputs).softmax(dim=1)
        top = probs.topk(2, dim=1)
        assert (stored.indices[:, 0] == top.indices[:, 0].numpy()).mean() > 0.99
        np.testing.assert_allclose(stored.dense(), probs.numpy(), atol=0.04)
    assert store.spec.teacher["precision"] == "no"
    assert store.spec.data["fingerprint"] == catalog.fingerprint
    assert logitstore.check(store_path).faults == ()


def test_worker_count_and_a_second_run_change_nothing(
    store_path: Path, data_path: Path, teacher_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = teacher_arguments(data_path, teacher_weights, tmp_path / "t.zarr", "data.workers=2")
    call("save_logits", words)
    assert content(tmp_path / "t.zarr") == content(store_path)
    call("save_logits", words)
    assert "0 of 6 blocks to do" in capsys.readouterr().out


def test_an_uncommitted_block_is_done_again(
    store_path: Path, data_path: Path, teacher_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = teacher_arguments(data_path, teacher_weights, tmp_path / "t.zarr")
    call("save_logits", words)
    (tmp_path / "t.zarr" / "proofs" / "c" / "1" / "1").unlink()
    call("save_logits", words)
    assert "1 of 6 blocks to do" in capsys.readouterr().out
    assert content(tmp_path / "t.zarr") == content(store_path)


@pytest.mark.slow
def test_two_processes_store_what_one_does(
    store_path: Path, data_path: Path, teacher_weights: Path, tmp_path: Path
) -> None:
    result = run("save_logits", teacher_arguments(data_path, teacher_weights, tmp_path / "t.zarr"), processes=2)
    assert result.returncode == 0, result.stderr
    assert "2 processes on cpu" in result.stdout
    assert content(tmp_path / "t.zarr") == content(store_path)


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "kills"), [(1, 4), (2, 2)])
def test_kills_at_random_moments_leave_no_trace(
    store_path: Path, data_path: Path, teacher_weights: Path, tmp_path: Path, processes: int, kills: int
) -> None:
    """A small version of `scripts/prove/kills.py`."""
    path = tmp_path / "t.zarr"
    words = teacher_arguments(data_path, teacher_weights, path, "data.workers=1")
    chance = random.Random(0)
    for _ in range(kills):
        kill_at_work("save_logits", words, line="blocks to do", seconds=chance.uniform(0, 1.2), processes=processes)
    result = run("save_logits", words, processes=processes)
    assert result.returncode == 0, result.stderr
    assert content(path) == content(store_path)
    assert logitstore.check(path).faults == ()


def test_another_request_for_the_same_store_is_refused(data_path: Path, teacher_weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.zarr"
    call("save_logits", teacher_arguments(data_path, teacher_weights, path, "store.epochs=1"))
    before = content(path)
    changed = teacher_arguments(data_path, teacher_weights, path, "store.epochs=1", "store.topk=1", "view.erase=0.5")
    with pytest.raises(DistillError, match=r"(?s)store with other settings.*topk.*view\.erase"):
        call("save_logits", changed)
    assert content(path) == before


def test_any_timm_classifier_with_a_local_file_can_teach(data_path: Path, catalog: Catalog, tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "weights.pth"
    torch.save(timm.create_model("test_efficientnet", num_classes=3).state_dict(), weights)
    words = [
        f"data.path={data_path}", "teacher=timm", "teacher.name=test_efficientnet", f"teacher.weights={weights}",
        "teacher.num_classes=3", "teacher.image_size=64", f"store.path={tmp_path / 't.zarr'}", "store.topk=3",
        "view=crop_flip", "data.workers=0", "store.encoding=float16", "compute.threads=1",
    ]  # fmt: skip
    call("save_logits", words)
    store = logitstore.open(tmp_path / "t.zarr")
    assert store.spec.teacher["name"] == "test_efficientnet"
    assert store.spec.teacher["image_size"] == 64
    rows = store.read(epoch=0, rows=slice(None))
    assert len(rows) == len(catalog)
    assert np.isneginf(rows.tail).all()
    np.testing.assert_allclose(np.exp(rows.logprobs).sum(axis=1), 1, rtol=1e-5)


def test_more_epochs_are_added_to_a_finished_store(
    data_path: Path, teacher_weights: Path, store_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = teacher_arguments(data_path, teacher_weights, tmp_path / "t.zarr")
    call("save_logits", [*words, "store.epochs=1"])
    capsys.readouterr()
    call("save_logits", words)
    out = capsys.readouterr().out
    assert "grows from 1 to 2 epochs" in out
    assert "3 of 6 blocks to do" in out
    assert content(tmp_path / "t.zarr") == content(store_path)
    with pytest.raises(DistillError, match="num_epochs: store has 2, request has 1"):
        call("save_logits", [*words, "store.epochs=1"])


def test_a_student_trains_from_complete_epochs_while_the_teacher_goes_on(
    data_path: Path, store_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(store_path, tmp_path / "t.zarr")
    (tmp_path / "t.zarr/proofs/c/1/1").unlink()
    words = student_arguments(data_path, tmp_path / "run", f"store.path={tmp_path / 't.zarr'}", "train.steps=3")
    with logitstore.writer(tmp_path / "t.zarr"):
        with pytest.raises(DistillError, match=r"epoch 1 lacks blocks 1\b"):
            call("train_student", words)
        call("train_student", [*words, "store.epochs=complete"])
    assert "1 stored epochs" in capsys.readouterr().out


def test_an_imported_store_is_not_replayed(data_path: Path, store_path: Path, tmp_path: Path) -> None:
    old = logitstore.open(store_path)
    spec = replace(old.spec, view={"replayable": False, "source": "elsewhere"})
    logitstore.create(tmp_path / "i.zarr", spec, keys=old.keys(slice(None)), labels=old.labels(slice(None)))
    with pytest.raises(DistillError, match=r"cannot be replayed: its logits were imported \(elsewhere\)"):
        call("verify_logits", [f"data.path={data_path}", f"store.path={tmp_path / 'i.zarr'}", "show.row=0"])
    with pytest.raises(DistillError, match="cannot be replayed"):
        call("train_student", student_arguments(data_path, tmp_path / "run", f"store.path={tmp_path / 'i.zarr'}"))


def test_both_passes_work_on_a_store_behind_a_url(
    data_path: Path, teacher_weights: Path, store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"memory://{tmp_path.name}/t.zarr"
    call("save_logits", ["store.path=" + url if w.startswith("store.path") else w for w in
                         teacher_arguments(data_path, teacher_weights, tmp_path / "t.zarr")])  # fmt: skip
    assert content(url) == content(store_path)
    call("train_student", student_arguments(data_path, tmp_path / "run", f"store.path={url}", "train.steps=2"))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.slow
def test_processes_end_with_their_launcher(data_path: Path, teacher_weights: Path, tmp_path: Path) -> None:
    """Or they would wait for their peers for ever and hold the store's lock."""
    words = teacher_arguments(data_path, teacher_weights, tmp_path / "t.zarr", "store.epochs=500")
    launcher = spawn("save_logits", words, processes=2)
    assert launcher.stdout
    for line in launcher.stdout:
        if "blocks to do" in line:
            break
    family = psutil.Process(launcher.pid).children(recursive=True)
    assert len(family) >= 2
    launcher.kill()
    launcher.communicate()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
    with logitstore.writer(tmp_path / "t.zarr"):
        pass


@pytest.mark.parametrize("view", [(), ("view=randaugment_mix", "view.mix.group_size=16")])
def test_a_store_is_the_same_from_fewer_decodings(
    data_path: Path, teacher_weights: Path, tmp_path: Path, view: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("store.epochs=3", *view)
    call("save_logits", teacher_arguments(data_path, teacher_weights, tmp_path / "one.zarr", *words))
    reads: Counter[int] = Counter()
    read = ShardReader.read

    def counted(self: ShardReader, row: int) -> bytes:
        reads[row] += 1
        return read(self, row)

    monkeypatch.setattr(ShardReader, "read", counted)
    more = (*words, "store.epochs_per_read=2")
    call("save_logits", teacher_arguments(data_path, teacher_weights, tmp_path / "two.zarr", *more))
    assert set(reads.values()) == {2}  # epochs 0 and 1 together, then 2
    assert content(tmp_path / "two.zarr") == content(tmp_path / "one.zarr")
