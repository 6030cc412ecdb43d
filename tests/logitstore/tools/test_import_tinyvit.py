"""Logits that TinyViT's own programs stored, as a store."""

import numpy as np
import pytest

import logitstore
from logitstore.tools.export import export
from logitstore.tools.import_tinyvit import import_tinyvit

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
