import errno
import os
import subprocess
import threading
import uuid
from pathlib import Path

import numpy as np
import pytest

import logitstore
from logitstore.storage import open_storage


def test_a_short_last_block_is_one_file_write_each(make_store, rows_for, monkeypatch):
    path = make_store(missing=((0, 2),))
    written = []
    rename = os.replace

    def recorded(source, target):
        written.append(Path(target).relative_to(path).as_posix())
        rename(source, target)

    monkeypatch.setattr(os, "replace", recorded)
    with logitstore.writer(path) as writer:
        writer.write(0, 2, **rows_for(writer.spec, 0, 2))
    assert written == ["seeds/c/0/2", "indices/c/0/2/0", "logprobs/c/0/2/0", "tail/c/0/2", "proofs/c/0/2"]
    assert len(logitstore.open(path).read(epoch=0, rows=range(16, 20))) == 4


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"seeds": np.zeros(7, np.uint64)}, "seeds"),
        ({"seeds": np.zeros(8)}, "seeds is float64"),
        ({"seeds": np.full(8, -1)}, "negative"),
        ({"indices": np.zeros((8, 4), int)}, "indices"),
        ({"indices": np.tile([0, 1, 2, 3, 30], (8, 1))}, "row 8: a class is outside 0..29"),
        ({"indices": np.tile([0, 1, 2, 3, -1], (8, 1))}, "outside"),
        ({"indices": np.tile([0, 1, 2, 3, 2], (8, 1))}, "occurs twice"),
        ({"logprobs": np.full((8, 5), np.nan, np.float32)}, "not a number"),
        ({"logprobs": np.full((8, 5), -np.inf, np.float32)}, "sum to 1"),
        ({"logprobs": np.full((8, 5), 3.0, np.float32)}, "sum to 1"),
        ({"tail": np.full(8, np.nan, np.float32)}, "not a number"),
        ({"tail": np.full(8, 0.0, np.float32)}, "sum to 1"),
        ({"proof": 0}, "proof is 0"),
        ({"proof": 2**64}, "proof is"),
    ],
)
def test_rows_that_make_no_sense_are_refused_before_anything_is_written(make_store, rows_for, change, part):
    path = make_store(missing=((1, 1),))
    with logitstore.writer(path) as writer, pytest.raises(logitstore.SpecError, match=part) as caught:
        writer.write(1, 1, **{**rows_for(writer.spec, 1, 1), **change})
    assert "epoch 1, block 1" in str(caught.value)
    assert not (path / "seeds/c/1/1").exists()


def test_unordered_classes_are_refused(make_store, rows_for):
    path = make_store(missing=((0, 0),))
    with logitstore.writer(path) as writer:
        block = rows_for(writer.spec, 0, 0)
        block["logprobs"] = block["logprobs"][:, ::-1]
        with pytest.raises(logitstore.SpecError, match="most probable first"):
            writer.write(0, 0, **block)


@pytest.mark.parametrize("encoding", ["log8", "float16"])
def test_empty_entries(make_store, rows_for, encoding):
    path = make_store(missing=((0, 0),), encoding=encoding)
    with logitstore.writer(path) as writer:
        block = rows_for(writer.spec, 0, 0)
        lost = np.exp(block["logprobs"][:, 3:]).sum(axis=1)
        block["logprobs"][:, 3:] = -np.inf
        block["indices"][:, 3:] = 99_999
        block["tail"] = np.log(np.exp(block["tail"]) + lost)
        writer.write(0, 0, **block)
    rows = logitstore.open(path).read(epoch=0, rows=slice(0, 8))
    assert np.isneginf(rows.logprobs[:, 3:]).all()
    assert (rows.indices[:, 3:] == 0).all()
    np.testing.assert_array_equal(rows.indices[:, :3], block["indices"][:, :3])
    np.testing.assert_allclose(rows.dense().sum(axis=1), 1, atol=1e-6)
    assert logitstore.check(path).ok


@pytest.mark.parametrize("encoding", ["log8", "float16"])
def test_a_row_may_hold_no_class_at_all(make_store, rows_for, encoding):
    """As for an image that could not be read: all mass is in the tail."""
    path = make_store(missing=((0, 0),), encoding=encoding)
    with logitstore.writer(path) as writer:
        block = rows_for(writer.spec, 0, 0)
        block["logprobs"][2], block["tail"][2] = -np.inf, 0
        writer.write(0, 0, **block)
    rows = logitstore.open(path).read(epoch=0, rows=slice(0, 8))
    assert np.isneginf(rows.logprobs[2]).all()
    np.testing.assert_allclose(rows.tail[2], 0, atol=1e-6)
    np.testing.assert_allclose(rows.dense()[2], 1 / 30, rtol=1e-6)
    np.testing.assert_allclose(rows.dense().sum(axis=1), 1, atol=1e-6)
    assert np.isfinite(rows.logprobs[[0, 1, 3]]).all()
    assert logitstore.check(path).ok


def test_a_committed_block_is_replaced_only_on_request(make_store, rows_for):
    path = make_store()
    with logitstore.writer(path) as writer:
        other = rows_for(writer.spec, 1, 1)
        with pytest.raises(logitstore.BlockExists, match="epoch 0, block 0"):
            writer.write(0, 0, **other)
        assert logitstore.open(path).proof(0, 0) == 1
        writer.write(0, 0, **other, replace=True)
    assert logitstore.open(path).read(epoch=0, rows=0).seeds.tolist() == other["seeds"][:1].tolist()
    assert logitstore.check(path).ok
    assert open_storage(path).list_temporary() == []


def test_a_replacement_that_dies_leaves_the_block_absent(make_store, rows_for, monkeypatch):
    path = make_store()
    rename = os.replace

    def dying(source, target):
        if "logprobs" in str(target):
            raise KeyboardInterrupt
        rename(source, target)

    with logitstore.writer(path) as writer:
        monkeypatch.setattr(os, "replace", dying)
        with pytest.raises(KeyboardInterrupt):
            writer.write(0, 0, **rows_for(writer.spec, 1, 1), replace=True)
    store = logitstore.open(path)
    assert not store.done()[0, 0]
    with pytest.raises(logitstore.MissingBlocks):
        store.read(epoch=0, rows=0)


def test_a_closed_writer_writes_no_more(make_store, rows_for):
    with logitstore.writer(make_store(missing=((0, 0),))) as writer:
        pass
    with pytest.raises(logitstore.StoreError, match="closed"):
        writer.write(0, 0, **rows_for(writer.spec, 0, 0))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", [1, 3, 5])
def test_a_full_disk_leaves_the_store_intact(make_store, rows_for, content, monkeypatch, code, call):
    path = make_store(missing=((1, 2),))
    before = content(path)
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == call:
            raise OSError(code, os.strerror(code))

    with logitstore.writer(path) as writer:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(logitstore.StoreFull, match=r"(?s)no space left.*run the same command again"):
            writer.write(1, 2, **rows_for(writer.spec, 1, 2))
        assert content(path) == before
        assert open_storage(path).list_temporary() == []
        writer.write(1, 2, **rows_for(writer.spec, 1, 2))
    assert logitstore.check(path).ok


def test_other_disk_errors_name_the_file(make_store, rows_for, monkeypatch):
    path = make_store(missing=((1, 2),))

    def broken(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    with logitstore.writer(path) as writer:
        monkeypatch.setattr(os, "fsync", broken)
        with pytest.raises(logitstore.StoreError, match=r"seeds/c/1/2 failed: Input/output error"):
            writer.write(1, 2, **rows_for(writer.spec, 1, 2))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_really_full_disk(tmp_path, make_spec, rows_for):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        path = Path(disk / "t.zarr")
        spec = make_spec(num_samples=300_000, rows_per_block=4096)
        keys = np.random.default_rng(0).integers(0, 2**63, 300_000)
        with pytest.raises(logitstore.StoreFull):
            logitstore.create(path, spec, keys=keys, labels=np.zeros(300_000, int))
        assert list(disk.iterdir()) == []
        spec = make_spec(num_samples=40_960, rows_per_block=4096, num_classes=200, topk=20)
        logitstore.create(path, spec, keys=np.zeros(40_960, np.uint64), labels=np.zeros(40_960, int))
        written = 0
        with pytest.raises(logitstore.StoreFull, match="no space left"), logitstore.writer(path) as writer:  # noqa: PT012
            for block in range(spec.num_blocks):
                writer.write(0, block, **rows_for(spec, 0, block))
                written += 1
        assert 0 < written < spec.num_blocks
        report = logitstore.check(path)
        assert {fault.id for fault in report.faults} == {"missing-blocks"}
        assert report.blocks_committed == written
    finally:
        subprocess.run(["umount", disk], check=True)


def test_of_writers_of_the_same_block_one_wins_whole(make_store, rows_for, content):
    """More threads than blocks, each with content of its own; nobody holds the store's lock."""
    path = make_store(missing=tuple((0, b) for b in range(3)))
    lost, won = [], {}

    def work(number):
        with logitstore.writer(path, exclusive=False) as writer:
            for block in range(3):
                rows = rows_for(writer.spec, 0, block)
                rows["seeds"] = rows["seeds"] + np.uint64(1000 * number)
                try:
                    writer.write(0, block, **{**rows, "proof": 100 + number})
                    won[block] = number
                except logitstore.BlockExists:
                    lost.append(block)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(lost) == [0] * 5 + [1] * 5 + [2] * 5
    store = logitstore.open(path)
    for block, number in won.items():
        assert store.proof(0, block) == 100 + number
        expected = rows_for(store.spec, 0, block)["seeds"] + np.uint64(1000 * number)
        np.testing.assert_array_equal(store.read(epoch=0, rows=store.spec.block_rows(block)).seeds, expected)
    assert logitstore.check(path).ok


def test_replacing_a_block_again_and_again_never_shows_a_mixed_one(make_store, rows_for):
    path = make_store(num_epochs=1, num_samples=8)
    stop = threading.Event()

    def work(number):
        with logitstore.writer(path, exclusive=False) as writer:
            rows = rows_for(writer.spec, number, 0)
            while not stop.is_set():
                writer.write(0, 0, **rows, replace=True)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    spec = logitstore.open(path).spec
    expected = {rows_for(spec, n, 0)["seeds"].tobytes(): rows_for(spec, n, 0) for n in range(2)}
    seen = 0
    while seen < 60:
        try:
            rows = logitstore.open(path).read(epoch=0, rows=slice(None))
        except (logitstore.MissingBlocks, logitstore.DamagedBlock):
            continue  # Caught between two writings, and said so.
        # Classes that tie come in another order than they were written in.
        written = expected[rows.seeds.tobytes()]["indices"]
        np.testing.assert_array_equal(np.sort(rows.indices), np.sort(written))
        seen += 1
    stop.set()
    for thread in threads:
        thread.join()
    assert logitstore.check(path).ok


def fill(path, spec, logits, seen, *, stop_after=None):
    """As a program of one's own does, with whatever gives logits; stopped after some blocks."""
    logitstore.create(path, spec, keys=np.arange(20), labels=np.full(20, -1), exist_ok=True)
    with logitstore.writer(path) as writer:
        for epoch, block in writer.missing():
            if len(seen) == stop_after:
                raise KeyboardInterrupt
            seen.append((epoch, block))
            rows = spec.block_rows(block)
            seeds = np.arange(rows.start, rows.stop, dtype=np.uint64) + np.uint64(100 * epoch)
            writer.write_logits(epoch, block, seeds=seeds, logits=logits[epoch, rows.start : rows.stop], proof=1)


@pytest.mark.parametrize("at", ["disk", "memory"])
def test_filling_a_store_from_logits_goes_on_where_it_was_stopped(tmp_path, make_spec, at):
    path = tmp_path / "t.zarr" if at == "disk" else f"memory://stores/{uuid.uuid4().hex}/t.zarr"
    spec = make_spec(encoding="float16", proof_rows=0)
    logits = np.random.default_rng(0).normal(size=(2, 20, 30)).astype(np.float32) * 3
    seen = []
    with pytest.raises(KeyboardInterrupt):
        fill(path, spec, logits, seen, stop_after=4)
    fill(path, spec, logits, seen)
    assert seen == [(epoch, block) for epoch in range(2) for block in range(3)]
    fill(path, spec, logits, seen)
    assert len(seen) == 6
    store = logitstore.open(path)
    assert store.missing() == [] and logitstore.check(path).ok
    for epoch in range(2):
        views = store.read(epoch=epoch, rows=slice(None))
        probabilities = np.exp(logits[epoch].astype(np.float64))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        order = np.argsort(-probabilities, axis=1)[:, :5]
        np.testing.assert_array_equal(views.indices, order)
        np.testing.assert_allclose(np.exp(views.logprobs), np.take_along_axis(probabilities, order, axis=1), atol=1e-3)
        assert views.seeds.tolist() == list(range(100 * epoch, 100 * epoch + 20))


def test_a_writer_of_some_blocks_is_missing_those(make_store):
    path = make_store(missing=((0, 0), (0, 2), (1, 1), (1, 2)))
    with logitstore.writer(path, blocks=range(1, 3)) as writer:
        assert writer.missing() == [(0, 2), (1, 1), (1, 2)]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"logits": np.zeros((8, 29))}, r"logits are \(8, 29\), expected \(8, 30\)"),
        ({"logits": np.zeros((7, 30))}, r"logits are \(7, 30\)"),
        ({"logits": np.zeros((8, 30), int)}, "expected floats"),
        ({"logits": np.where(np.arange(30) == 3, np.nan, np.zeros((8, 30)))}, "logits of row 0 are not finite"),
        ({"seeds": np.zeros(7, np.uint64)}, "seeds"),
        ({"proof": 0}, "proof is 0"),
    ],
)
def test_logits_that_do_not_fit_are_refused(make_store, change, part):
    path = make_store(missing=((0, 0),))
    block = {"seeds": np.zeros(8, np.uint64), "logits": np.zeros((8, 30)), "proof": 1}
    with logitstore.writer(path) as writer, pytest.raises(logitstore.SpecError, match=part) as caught:
        writer.write_logits(0, 0, **{**block, **change})
    assert "epoch 0, block 0" in str(caught.value)
    assert not logitstore.open(path).done()[0, 0]


def test_logits_are_not_drawn_from(tmp_path, make_spec):
    path, spec = tmp_path / "t.zarr", make_spec(selection="sample", encoding="counts", draws=5)
    logitstore.create(path, spec, keys=np.arange(20), labels=np.zeros(20, int))
    with logitstore.writer(path) as writer, pytest.raises(logitstore.SpecError, match="selection is sample"):
        writer.write_logits(0, 0, seeds=np.zeros(8, np.uint64), logits=np.zeros((8, 30)), proof=1)
