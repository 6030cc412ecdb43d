import numpy as np
import pytest

import logitstore


@pytest.mark.parametrize("encoding", ["log8", "float16"])
def test_dense_has_a_uniform_tail_over_the_other_classes(make_store, rows_for, encoding):
    store = logitstore.open(make_store(encoding=encoding))
    rows = store.read(epoch=1, rows=slice(0, 8))
    dense = rows.dense()
    assert dense.shape == (8, 30)
    assert dense.dtype == np.float32
    np.testing.assert_allclose(dense.sum(axis=1), 1, atol=1e-6)
    for row in range(8):
        expected = np.full(30, np.exp(rows.tail[row]) / 25)
        for index, logprob in zip(rows.indices[row], rows.logprobs[row], strict=True):
            expected[index] = np.exp(logprob)
        np.testing.assert_allclose(dense[row], expected, rtol=1e-6)


def test_dense_ignores_empty_entries():
    rows = logitstore.Rows(
        seeds=np.array([1], np.uint64),
        indices=np.array([[3, 0]]),
        logprobs=np.array([[np.log(0.7), -np.inf]], np.float32),
        tail=np.log(np.array([0.3], np.float32)),
        num_classes=4,
    )
    np.testing.assert_allclose(rows.dense(), [[0.1, 0.1, 0.1, 0.7]], rtol=1e-6)


def test_dense_without_tail(make_store):
    rows = logitstore.open(make_store(num_classes=5, topk=5)).read(epoch=0, rows=slice(None))
    assert len(rows) == 20
    assert np.isneginf(rows.tail).all()
    np.testing.assert_allclose(rows.dense().sum(axis=1), 1, atol=1e-6)
