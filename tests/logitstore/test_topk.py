"""Top-k and tail of dense logits against a reference of higher precision, and by properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from logitstore import topk
from logitstore.topk import select_topk

logits_rows = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 6), st.just(12)), elements=st.floats(-80, 80, allow_nan=False, width=32)
)


@settings(deadline=None)
@given(logits=logits_rows, k=st.integers(1, 12))
def test_against_long_doubles(logits, k):
    indices, logprobs, tail = select_topk(logits, k=k)
    exact = np.exp(logits.astype(np.longdouble))
    exact /= exact.sum(axis=1, keepdims=True)
    order = np.argsort(-logits.astype(np.float64), axis=1, kind="stable")  # Of equal ones the lower number first.
    np.testing.assert_array_equal(indices, order[:, :k])
    np.testing.assert_allclose(logprobs, np.log(np.take_along_axis(exact, order[:, :k], axis=1)), rtol=1e-6, atol=1e-6)
    rest = np.take_along_axis(exact, order[:, k:], axis=1).sum(axis=1)
    np.testing.assert_allclose(np.exp(tail), rest, rtol=1e-4, atol=1e-12)
    assert (indices.dtype, logprobs.dtype, tail.dtype) == (np.int64, np.float32, np.float32)
    assert np.isneginf(tail).all() or k < 12


def test_rows_do_not_depend_on_one_another(monkeypatch):
    logits = np.random.default_rng(0).normal(size=(50, 20))
    whole = select_topk(logits, k=3)
    monkeypatch.setattr(topk, "_CHUNK_ELEMENTS", 60)
    for a, b in zip(whole, select_topk(logits, k=3), strict=True):
        np.testing.assert_array_equal(a, b)


def test_log_probabilities_with_impossible_classes():
    with np.errstate(divide="ignore"):
        logits = np.log(np.array([[0.5, 0.0, 0.25, 0.25], [0.0, 0.0, 1.0, 0.0]]))
    indices, logprobs, tail = select_topk(logits, k=3)
    assert indices[0].tolist() == [0, 2, 3] and indices[1, 0] == 2
    np.testing.assert_allclose(np.exp(logprobs), [[0.5, 0.25, 0.25], [1, 0, 0]])
    assert np.isneginf(tail).all()


@pytest.mark.parametrize("row", [[0, np.nan, 1], [0, np.inf, 1], [-np.inf] * 3])
def test_rows_without_a_softmax_are_named(row):
    with pytest.raises(ValueError, match="logits of row 1 are not finite"):
        select_topk(np.array([[0.0, 1, 2], row]), k=2)


@pytest.mark.parametrize(("logits", "k"), [(np.zeros(3), 1), (np.zeros((2, 3)), 4), (np.zeros((2, 3)), 0)])
def test_other_shapes_are_refused(logits, k):
    with pytest.raises(ValueError, match="expected floats"):
        select_topk(logits, k=k)
