"""Views as npz, JSON lines and parquet."""

import json
import sys

import numpy as np
import pytest

import logitstore
from logitstore.tools.export import export


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


def test_jsonl_leaves_out_empty_entries(make_store, rows_for, tmp_path):
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
