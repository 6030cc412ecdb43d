"""Reading: any rows in any order, what is missing, what cannot be trusted, other processes, plain zarr."""

import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import logitstore
from logitstore.format import codec, shard

FORKING = multiprocessing.get_context("fork")


def test_rows_come_back_as_written(make_store, rows_for):
    store = logitstore.open(make_store(encoding="float16"))
    for epoch in range(2):
        for block in range(3):
            written = rows_for(store.spec, epoch, block)
            rows = store.read(epoch=epoch, rows=store.spec.block_rows(block))
            np.testing.assert_array_equal(rows.seeds, written["seeds"])
            np.testing.assert_array_equal(rows.indices, written["indices"])
            np.testing.assert_allclose(rows.logprobs, written["logprobs"], rtol=2e-3, atol=2e-3)
            np.testing.assert_allclose(rows.tail, written["tail"], rtol=2e-3)
            assert store.proof(epoch, block) == written["proof"]
    assert rows.seeds.dtype == np.uint64
    assert rows.indices.dtype == np.int64
    assert rows.logprobs.dtype == rows.tail.dtype == np.float32
    assert store.done().all()


@pytest.mark.parametrize("cache_bytes", [0, 600, 2**20])
@pytest.mark.parametrize("rows_per_block", [8, 2048])
def test_any_order_and_repetition(make_store, cache_bytes, rows_per_block):
    n = 20 if rows_per_block == 8 else 4500
    path = make_store(num_samples=n, rows_per_block=rows_per_block, num_epochs=1)
    whole = logitstore.open(path).read(epoch=0, rows=slice(None))
    store = logitstore.open(path, cache_bytes=cache_bytes)

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(wanted=st.lists(st.integers(0, n - 1), max_size=60))
    def same(wanted):
        rows = store.read(epoch=0, rows=np.array(wanted, dtype=np.int32))
        for name in ("seeds", "indices", "logprobs", "tail"):
            np.testing.assert_array_equal(getattr(rows, name), getattr(whole, name)[wanted])

    same()
    np.testing.assert_array_equal(store.read(epoch=0, rows=range(n - 1, 2, -3)).seeds, whole.seeds[n - 1 : 2 : -3])
    np.testing.assert_array_equal(store.read(epoch=0, rows=slice(3, 10**9, 4)).seeds, whole.seeds[3::4])
    assert store.read(epoch=0, rows=7).seeds.tolist() == [whole.seeds[7]]
    assert store._cache.size_bytes <= cache_bytes


@pytest.mark.parametrize("bad", [20, -1, range(15, 21), [0, 99], np.array([-3]), 2.5, [[0, 1]], np.array([True])])
def test_rows_out_of_range(make_store, bad):
    store = logitstore.open(make_store())
    with pytest.raises(logitstore.OutOfRange, match="rows"):
        store.read(epoch=0, rows=bad)
    with pytest.raises(logitstore.OutOfRange, match="rows"):
        store.labels(bad)


def test_epoch_and_block_out_of_range(make_store):
    store = logitstore.open(make_store())
    for epoch in (-1, 2):
        with pytest.raises(logitstore.OutOfRange, match="epoch"):
            store.read(epoch=epoch, rows=0)
    with pytest.raises(logitstore.OutOfRange, match="block 3"):
        store.proof(0, 3)


def test_keys_and_labels(make_store):
    store = logitstore.open(make_store())
    assert store.keys([19, 0, 3]).tolist() == [133, 0, 21]
    assert store.labels(slice(0, 6)).tolist() == [-1, 0, 1, 2, 3, -1]
    assert store.keys(0).dtype == np.uint64
    assert store.labels(0).dtype == np.int32


def test_keys_of_several_shards(tmp_path, make_spec):
    n = 140_000
    keys = np.random.default_rng(0).integers(0, 2**64, n, dtype=np.uint64)
    spec = make_spec(num_samples=n, rows_per_block=1024)
    logitstore.create(tmp_path / "t.zarr", spec, keys=keys, labels=np.full(n, -1))
    store = logitstore.open(tmp_path / "t.zarr")
    wanted = np.array([139_999, 0, 65_535, 65_536, 131_072])
    np.testing.assert_array_equal(store.keys(wanted), keys[wanted])
    np.testing.assert_array_equal(zarr.open(tmp_path / "t.zarr", mode="r")["samples/keys"][:], keys)


def test_missing_blocks_are_named(make_store):
    store = logitstore.open(make_store(missing=((1, 0), (1, 2))))
    assert store.done().tolist() == [[True] * 3, [False, True, False]]
    assert store.missing() == [(1, 0), (1, 2)]
    assert store.proof(1, 0) == 0
    with pytest.raises(logitstore.MissingBlocks, match=r"epoch 1 lacks blocks 0, 2 "):
        store.read(epoch=1, rows=slice(None))
    assert len(store.read(epoch=1, rows=range(8, 16))) == 8


def test_blocks_written_after_opening_are_seen(make_store, rows_for):
    path = make_store(missing=((0, 0),))
    store = logitstore.open(path)
    with pytest.raises(logitstore.MissingBlocks):
        store.read(epoch=0, rows=0)
    with logitstore.writer(path) as writer:
        writer.write(0, 0, **rows_for(store.spec, 0, 0))
    assert store.read(epoch=0, rows=0).seeds.tolist() == rows_for(store.spec, 0, 0)["seeds"][:1].tolist()


def test_a_url_that_zarr_cannot_read_is_one_error(make_store, monkeypatch):
    url = f"memory://stores/{uuid.uuid4().hex}/t.zarr"
    logitstore.copy(make_store(), url)
    store = logitstore.open(url)

    def unknown(*args, **more):
        raise ImportError("no such driver")

    monkeypatch.setattr(zarr.storage.FsspecStore, "from_url", unknown)
    with pytest.raises(
        logitstore.StoreError, match=r"t\.zarr: zarr cannot read it there .*no such driver.*logitstore copy"
    ):
        store.zarr()


def test_zarr_is_loaded_when_it_is_needed():
    code = "import sys, logitstore, logitstore.cli; print('zarr' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("encoding", ["log8", "float16"])
@pytest.mark.filterwarnings("error")
def test_plain_zarr_reads_every_array(make_store, encoding):
    path = make_store(encoding=encoding, num_samples=2500, rows_per_block=2048)
    store = logitstore.open(path)
    group = zarr.open(path, mode="r")
    assert sorted(name for name, _ in group.members()) == ["indices", "logprobs", "proofs", "samples", "seeds", "tail"]
    for epoch in range(2):
        rows = store.read(epoch=epoch, rows=slice(None))
        np.testing.assert_array_equal(group["seeds"][epoch], rows.seeds)
        indices, codes = codec.decode_classes(group["indices"][epoch], group["logprobs"][epoch], spec=store.spec)
        np.testing.assert_array_equal(indices, rows.indices)
        logprobs, tail = codec.decode(codes, group["tail"][epoch], spec=store.spec)
        np.testing.assert_array_equal(logprobs, rows.logprobs)
        np.testing.assert_array_equal(tail, rows.tail)
    np.testing.assert_array_equal(group["samples/keys"][:], store.keys(slice(None)))
    np.testing.assert_array_equal(group["samples/labels"][:], store.labels(slice(None)))
    np.testing.assert_array_equal(group["proofs"][:], [[store.proof(e, b) for b in range(2)] for e in range(2)])
    # A part of a shard, which readers fetch by byte range.
    np.testing.assert_array_equal(group["seeds"][1, 1100:1105], store.read(epoch=1, rows=range(1100, 1105)).seeds)


def test_many_classes_take_wide_indices(make_store):
    path = make_store(num_classes=70_000)
    indices = logitstore.open(path).read(epoch=0, rows=slice(None)).indices
    assert indices.max() > 65_535
    group = zarr.open(path, mode="r")
    assert group["indices"].dtype == np.uint32
    spec = logitstore.open(path).spec
    np.testing.assert_array_equal(
        codec.decode_classes(group["indices"][0], group["logprobs"][0], spec=spec)[0], indices
    )


def edit_root(path: Path, change):
    root = json.loads((path / "zarr.json").read_text())
    change(root["attributes"])
    (path / "zarr.json").write_text(json.dumps(root))


def test_opening_what_is_not_a_store(tmp_path, make_store):
    with pytest.raises(logitstore.StoreMissing, match="nowhere"):
        logitstore.open(tmp_path / "nowhere")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    zarr.create_group(tmp_path / "other.zarr")
    for name in ("folder", "file", "other.zarr"):
        with pytest.raises(logitstore.NotAStore, match=name):
            logitstore.open(tmp_path / name)


@pytest.mark.parametrize(
    ("change", "error", "part"),
    [
        (lambda a: a.update(format_version=3), logitstore.UnsupportedVersion, "version 3"),
        (lambda a: a.update(format_version=1), logitstore.UnsupportedVersion, "store_id"),
        (lambda a: a.update(store_id="00000000000000ff"), logitstore.NotAStore, "checksum"),
        (lambda a: a.update(store_id=17), logitstore.NotAStore, "checksum"),
        (lambda a: a.update(format_version="1"), logitstore.NotAStore, "format_version"),
        (lambda a: a.update(colour=1), logitstore.UnsupportedVersion, "colour"),
        (lambda a: a["spec"].update(colour=1), logitstore.UnsupportedVersion, "colour"),
        (lambda a: a["spec"].update(topk=99), logitstore.NotAStore, "topk is 99"),
        (lambda a: a["spec"].update(store_seed=1), logitstore.NotAStore, "checksum"),
        (lambda a: a["spec"]["view"].update(scale=2), logitstore.NotAStore, "checksum"),
        (lambda a: a["spec"].pop("topk"), logitstore.NotAStore, "topk"),
        (lambda a: a.pop("spec"), logitstore.NotAStore, "spec"),
    ],
)
def test_attributes_that_this_version_cannot_trust(make_store, change, error, part):
    path = make_store()
    edit_root(path, change)
    with pytest.raises(error, match=part):
        logitstore.open(path)


def test_array_metadata_that_contradicts_the_spec(make_store):
    path = make_store()
    document = json.loads((path / "tail" / "zarr.json").read_text())
    (path / "tail" / "zarr.json").write_text(json.dumps({**document, "data_type": "int8"}))
    with pytest.raises(logitstore.NotAStore, match=r'tail/zarr.json: data_type is "int8"'):
        logitstore.open(path)
    (path / "tail" / "zarr.json").unlink()
    with pytest.raises(logitstore.NotAStore, match="missing or no readable JSON"):
        logitstore.open(path)


def test_opening_reads_only_metadata(make_spec, tmp_path, monkeypatch):
    spec = make_spec(num_samples=100_000, num_epochs=90, rows_per_block=1024)
    logitstore.create(tmp_path / "t.zarr", spec, keys=np.zeros(100_000, np.uint64), labels=np.zeros(100_000, int))
    opened = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *more: opened.append(Path(path).name) or real(path, *more))
    logitstore.open(tmp_path / "t.zarr")
    assert set(opened) == {"zarr.json"}
    assert len(opened) == 10


def _read_in_child(store, path, results):
    again = logitstore.open(path)
    results.put((store.read(epoch=1, rows=[3, 17]).seeds.tolist(), again.read(epoch=1, rows=[3, 17]).seeds.tolist()))


def test_forked_and_spawned_readers(make_store):
    path = make_store()
    store = logitstore.open(path)
    expected = store.read(epoch=1, rows=[3, 17]).seeds.tolist()
    # zarr's own event loop runs in the parent when it forks.
    assert zarr.open(path, mode="r")["seeds"][1, 3] == expected[0]
    for context in (FORKING, multiprocessing.get_context("spawn")):
        results = context.Queue()
        child = context.Process(target=_read_in_child, args=(store, path, results))
        child.start()
        assert results.get(timeout=60) == (expected, expected)
        child.join(60)
        assert child.exitcode == 0


def test_pickled_store_reads_the_same(make_store):
    store = logitstore.open(make_store(), cache_bytes=12345)
    again = pickle.loads(pickle.dumps(store))
    assert again.spec == store.spec
    assert again._cache.limit_bytes == 12345
    np.testing.assert_array_equal(again.read(epoch=0, rows=5).logprobs, store.read(epoch=0, rows=5).logprobs)


def test_context_manager_gives_memory_back(make_store):
    with logitstore.open(make_store()) as store:
        store.read(epoch=0, rows=slice(None))
        assert store._cache.size_bytes > 0
    assert store._cache.size_bytes == 0


def test_a_cached_chunk_is_read_from_disk_once(make_store, monkeypatch):
    store = logitstore.open(make_store())
    calls = []
    decode = shard.decode_shard
    monkeypatch.setattr(shard, "decode_shard", lambda *a, **k: calls.append(1) or decode(*a, **k))
    store.read(epoch=0, rows=[0, 1])
    store.read(epoch=0, rows=[7, 2])
    assert len(calls) == 5  # The marker and four files.
