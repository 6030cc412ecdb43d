"""Stores to and from other formats."""

import json
import sys

import numpy as np
import pytest

import logitstore
from logitstore.tools.export import export
from logitstore.tools.import_tinyvit import import_tinyvit


def test_npz(make_store, tmp_path):
    store = logitstore.open(make_store())
    assert export(store, tmp_path / "v.npz", form="npz", epoch=1, rows=range(3, 19)) == 16
    rows = store.read(epoch=1, rows=range(3, 19))
    with np.load(tmp_path / "v.npz") as found:
        np.testing.assert_array_equal(found["row"], np.arange(3, 19))
        np.testing.assert_array_equal(found["seed"], rows.seeds)
        np.testing.assert_array_equal(found["indices"], rows.indices)
        np.testing.assert_array_equal(found["logprobs"], rows.logprobs)
        np.testing.assert_array_equal(found["log_tail"], rows.tail)
        np.testing.assert_array_equal(found["label"], store.labels(range(3, 19)))


def test_jsonl_leaves_out_what_holds_nothing(make_store, rows_for, tmp_path):
    path = make_store(missing=((0, 0),), encoding="float16")
    with logitstore.writer(path) as writer:
        block = rows_for(writer.spec, 0, 0)
        block["logprobs"][2], block["tail"][2] = -np.inf, 0
        writer.write(0, 0, **block)
    store = logitstore.open(path)
    export(store, tmp_path / "v.jsonl", form="jsonl")
    records = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert [record["row"] for record in records] == list(range(20))
    assert records[2]["indices"] == records[2]["logprobs"] == []
    rows = store.read(epoch=0, rows=19)
    assert records[19]["indices"] == rows.indices[0].tolist()
    np.testing.assert_allclose(records[19]["logprobs"], rows.logprobs[0])
    assert records[19]["key_hash"] == f"{19 * 7:016x}"


def test_parquet(make_store, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    store = logitstore.open(make_store())
    export(store, tmp_path / "v.parquet", form="parquet")
    table = parquet.read_table(tmp_path / "v.parquet")
    rows = store.read(epoch=0, rows=slice(None))
    assert table.num_rows == 20
    assert table["indices"].to_pylist() == rows.indices.tolist()
    np.testing.assert_array_equal(np.array(table["logprobs"].to_pylist(), np.float32), rows.logprobs)
    assert table["seed"].to_pylist() == rows.seeds.tolist()


def test_what_is_missing_is_said_and_nothing_is_left(make_store, tmp_path, monkeypatch):
    store = logitstore.open(make_store(missing=((0, 1),)))
    with pytest.raises(logitstore.MissingBlocks):
        export(store, tmp_path / "v.npz", form="npz")
    with pytest.raises(logitstore.OutOfRange):
        export(store, tmp_path / "v.npz", form="npz", rows=range(5, 25))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(logitstore.StoreError, match="pip install pyarrow"):
        export(store, tmp_path / "v.parquet", form="parquet", rows=range(8))
    (tmp_path / "there.npz").write_text("mine")
    with pytest.raises(logitstore.StoreExists):
        export(store, tmp_path / "there.npz", form="npz", rows=range(8))
    assert (tmp_path / "there.npz").read_text() == "mine"
    assert [path.name for path in tmp_path.glob("v.*")] == []


K = 4
RECORD = np.dtype([("seed", "<i4"), ("indices", "<i2", (K,)), ("values", "<f2", (K,))])


def published(folder, epoch, ranks):
    """Files as the published program writes them: `ranks` lists (key, seed, classes, probabilities) of each rank."""
    path = folder / f"logits_top{K}_epoch{epoch}"
    path.mkdir(parents=True)
    for rank, views in enumerate(ranks):
        (path / f"rank{rank}-keys.txt").write_text("".join(f"{key}\n" for key, *_ in views))
        np.array([tuple(view[1:]) for view in views], RECORD).tofile(path / f"rank{rank}-values.bin")


def test_published_records(tmp_path):
    views = {
        "a": ([3, 1, 2, 9], [0.5, 0.25, 0.125, 0.0]),
        "b": ([7, -1, 0, 1], [0.25, 0.5, 0.125, 0.0625]),
        "c": ([1, 2, 3, 4], [0.25] * 4),
    }
    published(tmp_path / "p", 5, [[("a", 11, *views["a"]), ("b", -2, *views["b"])], [("c", 13, *views["c"])]])
    published(tmp_path / "p", 12, [[("c", 23, *views["c"])], [("a", 21, *views["a"]), ("c", 99, *views["b"])]])
    done = import_tinyvit(tmp_path / "p", tmp_path / "i.zarr", num_classes=65_536)
    assert (done.num_samples, done.num_epochs, done.topk, done.views) == (3, 2, K, 5)
    assert (done.missing, done.repeated) == (1, 1)
    store = logitstore.open(tmp_path / "i.zarr")
    assert store.spec.view["replayable"] is False
    first, second = store.read(epoch=0, rows=slice(None)), store.read(epoch=1, rows=slice(None))
    assert first.seeds.tolist() == [11, 2**32 - 2, 13]
    assert second.seeds.tolist() == [21, 0, 23]
    assert first.indices.tolist() == [[3, 1, 2, 0], [65_535, 7, 0, 1], [1, 2, 3, 4]]
    np.testing.assert_allclose(np.exp(first.logprobs[1]), [0.5, 0.25, 0.125, 0.0625], rtol=1e-3)
    np.testing.assert_allclose(np.exp(first.tail), [0.125, 0.0625, 0], rtol=1e-3)
    assert np.isneginf(second.logprobs[1]).all()
    assert logitstore.check(tmp_path / "i.zarr").ok
    assert import_tinyvit(tmp_path / "p", tmp_path / "i.zarr", num_classes=65_536) == done
    logitstore.recode(tmp_path / "i.zarr", tmp_path / "r.zarr", topk=2, encoding="log8")
    export(logitstore.open(tmp_path / "r.zarr"), tmp_path / "r.jsonl", form="jsonl", epoch=1)


def test_keys_hash_as_in_a_catalog(tmp_path, catalog):
    keys = [catalog.key(row) for row in range(5)]
    published(tmp_path / "p", 0, [[(key, 1, [0, 1, 2, 3], [0.25] * 4) for key in keys]])
    import_tinyvit(tmp_path / "p", tmp_path / "i.zarr", num_classes=10)
    stored = logitstore.open(tmp_path / "i.zarr").keys(slice(None))
    np.testing.assert_array_equal(stored, catalog.key_hashes()[:5])


def test_published_files_that_do_not_fit(tmp_path):
    with pytest.raises(logitstore.StoreMissing, match="logits_topK_epochE"):
        import_tinyvit(tmp_path, tmp_path / "i.zarr", num_classes=10)
    published(tmp_path / "p", 0, [[("a", 1, [0, 1, 2, 3], [0.25] * 4)]])
    values = tmp_path / "p" / f"logits_top{K}_epoch0" / "rank0-values.bin"
    published(tmp_path / "many", 0, [[("a", 1, [0, 1, 2, 9], [0.25] * 4)]])
    with pytest.raises(logitstore.SpecError, match=r"a class is outside 0\.\.8"):
        import_tinyvit(tmp_path / "many", tmp_path / "few.zarr", num_classes=9)
    values.write_bytes(values.read_bytes()[:-1])
    with pytest.raises(logitstore.StoreError, match="19 bytes where 1 keys need 20"):
        import_tinyvit(tmp_path / "p", tmp_path / "i.zarr", num_classes=10)
    values.unlink()
    with pytest.raises(logitstore.StoreError, match="it is missing"):
        import_tinyvit(tmp_path / "p", tmp_path / "i.zarr", num_classes=10)
    assert not (tmp_path / "i.zarr").exists()
