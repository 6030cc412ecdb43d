"""`recode`: a smaller k, another encoding."""

import numpy as np
import pytest

import logitstore


def test_recode_adds_what_it_drops_to_the_tail(make_store, tmp_path):
    source = make_store(encoding="float16", missing=((0, 1),))
    spec = logitstore.recode(source, tmp_path / "small.zarr", topk=2, encoding="log8")
    assert (spec.topk, spec.encoding, spec.software["recoded_from"]) == (2, "log8", {"topk": 5, "encoding": "float16"})
    old, new = logitstore.open(source), logitstore.open(tmp_path / "small.zarr")
    np.testing.assert_array_equal(new.done(), old.done())
    for rows in (dict(epoch=1, rows=slice(None)), dict(epoch=0, rows=range(8))):
        a, b = old.read(**rows), new.read(**rows)
        np.testing.assert_array_equal(b.indices, a.indices[:, :2])
        np.testing.assert_array_equal(b.seeds, a.seeds)
        lost = np.exp(a.logprobs[:, 2:]).sum(axis=1) + np.exp(a.tail)
        np.testing.assert_allclose(np.exp(b.tail), lost, atol=0.02)
        assert (np.exp(b.tail) > np.exp(a.tail)).all()
    assert new.proof(1, 2) == old.proof(1, 2)
    np.testing.assert_array_equal(new.keys(slice(None)), old.keys(slice(None)))
    np.testing.assert_array_equal(new.labels(slice(None)), old.labels(slice(None)))


def test_recode_within_log8_keeps_the_ratios_of_classes(make_store, tmp_path):
    source = make_store()
    logitstore.recode(source, tmp_path / "small.zarr", topk=3)
    a = logitstore.open(source).read(epoch=0, rows=slice(None))
    b = logitstore.open(tmp_path / "small.zarr").read(epoch=0, rows=slice(None))
    np.testing.assert_allclose(np.diff(b.logprobs), np.diff(a.logprobs[:, :3]), atol=1e-5)


def test_recode_continues_and_refuses_what_it_cannot_do(make_store, tmp_path):
    source, target = make_store(), tmp_path / "small.zarr"
    logitstore.recode(source, target, topk=3, epochs=[1])
    assert logitstore.open(target).done().tolist() == [[False] * 3, [True] * 3]
    logitstore.recode(source, target, topk=3)
    assert logitstore.open(target).done().all()
    with pytest.raises(logitstore.StoreConflict, match="topk: store has 3, request has 4"):
        logitstore.recode(source, target, topk=4)
    with pytest.raises(logitstore.SpecError, match="has 5 classes per view"):
        logitstore.recode(source, tmp_path / "more.zarr", topk=6)
