"""The library: views as a data set, in the order of the programs; a plain training loop; stores from any logits."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm.optim
import torch
from torch.utils.data import DataLoader, default_collate

import distill
import logitstore
from distill import EpochSampler, Normalise, StoreFiller, ViewDataset, ViewSpec, models, soft_target_loss
from distill.data.catalog import Catalog
from distill.errors import DamagedImage, DistillError, UsageError
from distill.views import render
from tests.conftest import TINY
from tests.programs import ROOT, call, student_arguments, teacher_arguments

MIXED = ("view=randaugment_mix", "view.mix.group_size=16")


@pytest.fixture(scope="module", params=["plain", "mixed"])
def store_path(
    request: pytest.FixtureRequest, data_path: Path, teacher_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    more = MIXED if request.param == "mixed" else ()
    call("save_logits", teacher_arguments(data_path, teacher_weights, folder / "t.zarr", *more), views=folder / "seen")
    return folder / "t.zarr"


def seen_by(path: Path) -> list[str]:
    return sorted(path.with_name(path.name + ".rank0").read_text().splitlines())


def test_items_are_the_views_that_the_teacher_saw_and_what_it_predicted(store_path: Path, data_path: Path) -> None:
    dataset = ViewDataset(store_path, data_path, image_size=32)
    assert len(dataset) == 300 and dataset.num_classes == 3
    assert dataset.class_names == ("anchor", "bell", "cup")
    from distill.views import pixel_digest

    items = [dataset[n] for n in range(0, 300, 7)]
    lines = {f"{int(i.epoch)} {int(i.row)} {pixel_digest(i.image.numpy()):016x}" for i in items}
    assert lines <= set(seen_by(store_path.parent / "seen"))
    store = logitstore.open(store_path)
    for item in items:
        rows = store.read(epoch=int(item.epoch), rows=int(item.row))
        assert np.array_equal(item.target.indices, rows.indices[0])
        assert np.array_equal(item.target.logprobs, rows.logprobs[0])
        assert item.target.tail == rows.tail[0]
        assert item.label == dataset.catalog.labels[int(item.row)]
    assert dataset.index(1, 3) == 153
    assert dataset.describe(153)[0].startswith("image: ")
    for wrong in (300, -301):
        with pytest.raises(IndexError):
            dataset[wrong]


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_of_either_kind_give_the_same_batches(store_path: Path, data_path: Path, context: str) -> None:
    dataset = ViewDataset(store_path, data_path, image_size=32)
    sampler = EpochSampler(dataset, batch_size=50)
    loader = DataLoader(dataset, batch_sampler=sampler, num_workers=2, multiprocessing_context=context)
    for indices, batch in zip(sampler, loader, strict=True):
        expected = default_collate([dataset[n] for n in indices])
        for ours, theirs in zip(batch, expected, strict=True):
            for one, other in zip(ours, theirs, strict=True):
                assert torch.equal(one, other)
    assert len(pickle.dumps(dataset)) < 20_000


def test_the_sampler_gives_the_order_of_the_program(store_path: Path, data_path: Path, tmp_path: Path) -> None:
    words = student_arguments(data_path, tmp_path / "run", f"store.path={store_path}", "train.batch_size=30")
    call("train_student", [*words, "train.epochs=3", "data.window_shards=3"], views=tmp_path / "seen")
    dataset = ViewDataset(store_path, data_path, image_size=32)
    sampler = EpochSampler(dataset, batch_size=30, window_shards=3)
    places = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        assert len(list(sampler)) == len(sampler) == 5
        for indices in sampler:
            places += [f"{e} {r}" for e, r in zip(*(v.tolist() for v in dataset.coordinates(indices)), strict=True)]
    logged = (tmp_path / "seen.rank0").read_text().splitlines()
    assert places == [line.rsplit(" ", 1)[0] for line in logged]
    sampler.set_epoch(2, step=3)
    rest = [f"{e} {r}" for indices in sampler for e, r in zip(*map(list, dataset.coordinates(indices)), strict=True)]
    assert rest == places[-60:]


def test_ranks_share_an_epoch(store_path: Path, data_path: Path) -> None:
    dataset = ViewDataset(store_path, data_path, image_size=32)
    whole = [n for indices in EpochSampler(dataset, batch_size=36, seed=4) for n in indices]
    halves = [list(EpochSampler(dataset, batch_size=18, seed=4, rank=rank, world=2)) for rank in range(2)]
    together = [n for step in zip(*halves, strict=True) for indices in step for n in indices]
    assert sorted(together) == sorted(whole)
    with pytest.raises(UsageError, match="do not fill one step"):
        EpochSampler(dataset, batch_size=1000)


def plain_loop(store: Path, data: Path, *, epochs: int) -> list[float]:
    """A training loop in plain PyTorch, as docs/library.md has it."""
    dataset = ViewDataset(store, data, image_size=32)
    sampler = EpochSampler(dataset, batch_size=16, window_shards=3)
    loader = DataLoader(dataset, batch_sampler=sampler)
    torch.manual_seed(0)
    net = models.build("tiny_vit", num_classes=dataset.num_classes, image_size=32, **TINY)
    net.to(memory_format=torch.channels_last).train()
    groups = timm.optim.param_groups_weight_decay(net, 0.05, no_weight_decay_list=net.no_weight_decay())
    optimizer = torch.optim.AdamW(groups, lr=2e-3, fused=True)
    normalise = Normalise(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), channels_last=True)
    losses = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for batch in loader:
            losses_b = soft_target_loss(net(normalise(batch.image)), batch.target)
            loss = (losses_b * batch.weight).sum() / len(batch.weight)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    return losses


def test_a_plain_loop_has_the_losses_of_the_program_to_the_last_bit(
    store_path: Path, data_path: Path, tmp_path: Path
) -> None:
    words = student_arguments(
        data_path, tmp_path / "run", f"store.path={store_path}", "train.epochs=2", "optim.warmup_epochs=0",
        "optim.min_lr=2e-3", "student.drop_path=0",
    )  # fmt: skip
    threads = torch.get_num_threads()
    call("train_student", words)
    torch.set_num_threads(1)
    try:
        losses = plain_loop(store_path, data_path, epochs=2)
    finally:
        torch.set_num_threads(threads)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert losses == [line["loss"] for line in lines]


def predict(images: np.ndarray) -> np.ndarray:
    """Any function of the images: here brightness, in float64."""
    means = images.reshape(len(images), -1, 3).mean(axis=1, dtype=np.float64)
    return means @ np.array([[1, 0.5, 0.1], [0, 1, 0.2], [0.3, 0, 1]]) / 10


def filler(path: Path, data: Path | Catalog, **settings: Any) -> StoreFiller:
    defaults: dict[str, Any] = {
        "view": ViewSpec(), "num_classes": 3, "topk": 2, "epochs": 2, "image_size": 32, "rows_per_block": 64,
        "batch_size": 24, "teacher": {"name": "brightness"},
    }  # fmt: skip
    return StoreFiller(path, data, **(defaults | settings))


def test_a_store_is_filled_from_any_source_and_goes_on_where_it_was(data_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "f.zarr"
    with filler(path, data_path) as first:
        assert first.missing() == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
        for batch in first:
            if batch.epoch == 1:
                break
            first.add(predict(batch.images))
    with filler(path, data_path, workers=1) as again:
        assert again.missing() == [(1, 0), (1, 1), (1, 2)]
        for batch in again:
            again.add(torch.from_numpy(predict(batch.images)))
        assert again.missing() == []
    assert logitstore.check(path).ok
    dataset = ViewDataset(path, data_path, image_size=32)
    for n in (0, 77, 299):
        item = dataset[n]
        logits = torch.from_numpy(predict(item.image.numpy()[None]))[0]
        expected = logits.log_softmax(dim=0).topk(2)
        assert torch.equal(item.target.indices, expected.indices)
        assert (item.target.logprobs - expected.values).abs().max() < 0.07  # log8
    call("train_student", student_arguments(data_path, tmp_path / "run", f"store.path={path}", "train.steps=2"))


def test_ranks_fill_other_blocks_whatever_is_written_meanwhile(data_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "f.zarr"
    ranks = [filler(path, data_path, rank=rank, world=2) for rank in range(2)]
    for rank, blocks in zip(ranks, ([(0, 0), (0, 2), (1, 1)], [(0, 1), (1, 0), (1, 2)]), strict=True):
        assert rank.missing() == blocks  # The second is asked when the first has written all of its own.
        with rank as fill:
            for batch in fill:
                fill.add(predict(batch.images))
    assert logitstore.check(path).ok


def test_an_iteration_that_was_left_leaves_nothing_behind(data_path: Path, tmp_path: Path) -> None:
    with filler(tmp_path / "f.zarr", data_path) as fill:
        for batch in fill:
            fill.add(predict(batch.images))
            break  # 24 of the 64 rows of the first block have their logits.
        next(iter(fill))  # This batch gets none.
        for batch in fill:
            fill.add(predict(batch.images))
    assert logitstore.check(tmp_path / "f.zarr").ok


def test_a_filler_explains_what_it_cannot_take(data_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "f.zarr"
    with filler(path, data_path) as fill:
        with pytest.raises(DistillError, match="no batch has been requested"):
            fill.add(np.zeros((24, 3)))
        batches = iter(fill)
        next(batches)
        with pytest.raises(UsageError, match=r"shape \(24, 4\) for 24 views of 3 classes"):
            fill.add(np.zeros((24, 4)))
        wrong = np.zeros((24, 3))
        wrong[5, 1] = np.nan
        with pytest.raises(UsageError, match="a logit of epoch 0 row 5 is not finite"):
            fill.add(wrong)
        with pytest.raises(DistillError, match="no logits yet"):
            next(batches)
    with pytest.raises(DistillError, match="is a store with other settings"):
        filler(path, data_path, topk=1)
    with pytest.raises(UsageError, match="topk=4"):
        filler(tmp_path / "g.zarr", data_path, topk=4)
    with pytest.raises(UsageError, match="group_size=10: must divide the rows of a block, 64"):
        filler(tmp_path / "g.zarr", data_path, view={"mix": {"group_size": 10}})


def test_damaged_images_stop_or_have_no_weight(
    store_path: Path, data_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = ViewDataset(store_path, data_path, image_size=32, check="off", damaged="skip")
    read = dataset.views.reader.read
    monkeypatch.setattr(dataset.views.reader, "read", lambda row: read(row)[:40] if row == 3 else read(row))
    assert dataset[3].weight == 0
    dataset.damaged = "stop"
    with pytest.raises(DamagedImage, match="row 3"):
        dataset[3]


def test_views_that_do_not_replay_are_refused(
    store_path: Path, data_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import distill.data.view_reader

    monkeypatch.setattr(distill.data.view_reader, "render", lambda *a, **k: render(*a, **k) ^ 1)
    with pytest.raises(DistillError, match="as the teacher saw them"):
        ViewDataset(store_path, data_path, image_size=32)
    with pytest.raises(DistillError, match="was made from other data"):
        ViewDataset(store_path, _other_data(data_path))


def _other_data(data_path: Path) -> Catalog:
    from dataclasses import replace

    return replace(distill.open_catalog(data_path), fingerprint="0" * 32)


@pytest.mark.slow
def test_two_processes_of_ddp_see_each_row_once(store_path: Path, data_path: Path, tmp_path: Path) -> None:
    code = f"""
import sys, torch, torch.distributed as dist
from torch.utils.data import DataLoader
from distill import EpochSampler, ViewDataset
if __name__ == "__main__":
    dist.init_process_group("gloo")
    dataset = ViewDataset({str(store_path)!r}, {str(data_path)!r}, image_size=32)
    loader = DataLoader(dataset, batch_sampler=EpochSampler(dataset, batch_size=18), num_workers=1)
    rows = torch.cat([batch.row for batch in loader])
    gathered = [torch.empty_like(rows) for _ in range(2)]
    dist.all_gather(gathered, rows)
    assert torch.cat(gathered).unique().numel() == 144, gathered
    dist.destroy_process_group()
"""
    (tmp_path / "ddp.py").write_text(code)
    command_line = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv-backend=c10d",
                    "--rdzv-endpoint=localhost:0", str(tmp_path / "ddp.py")]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command_line, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_public_names_are_there_and_importing_is_cheap() -> None:
    for name in distill.__all__:
        assert getattr(distill, name).__doc__, name
    with pytest.raises(AttributeError):
        distill.no_such_name  # noqa: B018
    code = "import sys, distill; print([m for m in ('torch', 'cv2', 'numpy') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"
