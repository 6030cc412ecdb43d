import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from logitstore import StoreSpec
from logitstore.format import codec

ENCODINGS = ("log8", "float16")


def spec_for(encoding, *, k=6, num_classes=50):
    return StoreSpec(num_samples=1, num_epochs=1, num_classes=num_classes, topk=k, encoding=encoding)


def classes_of(values):
    """Some classes for n rows of k values."""
    return np.tile(np.arange(values.shape[1]), (len(values), 1))


def round_trip(logprobs, tail, spec):
    stored = codec.encode_classes(classes_of(logprobs), logprobs.astype(np.float32), spec=spec)
    tail_codes = codec.encode_tail(tail.astype(np.float32), spec=spec)
    _, codes = codec.decode_classes(stored[0].astype(np.uint16), stored[1], spec=spec)
    return codec.decode(codes, tail_codes, spec=spec)


def top_k(logits, k):
    logprobs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    ordered = -np.sort(-logprobs, axis=1)
    with np.errstate(divide="ignore"):
        tail = np.logaddexp.reduce(ordered[:, k:], axis=1) if k < logits.shape[1] else np.full(len(logits), -np.inf)
    return ordered[:, :k], tail


def divergence(logprobs, tail, decoded, decoded_tail):
    """KL(exact || decoded) in nats over the selected classes and one bucket for the rest."""
    p = np.concatenate([np.exp(logprobs), np.exp(tail)[:, None]], axis=1).astype(np.float64)
    q = np.concatenate([decoded, decoded_tail[:, None]], axis=1).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * (np.log(p) - q), 0)
    return terms.sum(axis=1)


logits_rows = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 5), st.just(50)), elements=st.floats(-60, 60, allow_nan=False, width=32)
)


@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=150, deadline=None)
@given(logits=logits_rows, k=st.integers(1, 50))
def test_any_row_comes_back_close_and_sums_to_one(encoding, logits, k):
    spec = spec_for(encoding, k=k)
    logprobs, tail = top_k(logits, k)
    decoded, decoded_tail = round_trip(logprobs, tail, spec)
    mass = np.exp(decoded.astype(np.float64)).sum(axis=1) + np.exp(decoded_tail.astype(np.float64))
    np.testing.assert_allclose(mass, 1, atol=2e-6)
    assert (divergence(logprobs, tail, decoded, decoded_tail) <= 1e-2).all()
    # Most probable first stays most probable first.
    assert (np.diff(decoded, axis=1) <= 0).all()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("scale", [0.1, 1, 3, 6, 20])
@pytest.mark.parametrize(("k", "num_classes"), [(10, 1000), (100, 1000), (1000, 1000), (1, 1000), (100, 5000)])
def test_divergence_is_small_on_average(encoding, scale, k, num_classes):
    logits = np.random.default_rng(0).normal(size=(200, num_classes)) * scale
    logprobs, tail = top_k(logits, k)
    decoded, decoded_tail = round_trip(logprobs, tail, spec_for(encoding, k=k, num_classes=num_classes))
    kl = divergence(logprobs, tail, decoded, decoded_tail)
    assert kl.mean() <= 1e-3
    assert kl.max() <= 1e-2


@given(value=st.floats(-15.875, 0, width=32))
def test_log8_errs_by_at_most_half_a_step(value):
    spec = spec_for("log8", k=1)
    code = codec.encode_classes(np.array([[3]]), np.array([[value]], np.float32), spec=spec)[1][0, 0]
    assert abs(-float(code) * spec.log_step - value) <= spec.log_step / 2 + 1e-6


@given(log_odds=st.floats(-15.8, 15.8))
def test_log8_tail_errs_by_at_most_half_a_step_of_log_odds(log_odds):
    spec = spec_for("log8")
    tail = np.array([-np.logaddexp(0, -log_odds)], np.float32)
    # What float32 itself does to a tail near 1 is not the code's doing.
    true = float(tail[0].astype(np.float64) - np.log(-np.expm1(tail[0].astype(np.float64)))) if tail[0] < 0 else 20
    code = int(codec.encode_tail(tail, spec=spec)[0])
    if true <= 15.8:
        assert abs((code - codec.TAIL_CENTRE) * spec.tail_step - true) <= spec.tail_step / 2 + 1e-6


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(tails=hnp.arrays(np.float32, 20, elements=st.floats(-200, 0, width=32)))
def test_tail_is_monotone(encoding, tails):
    spec = spec_for(encoding)
    tails.sort()
    decoded = codec.decode_tail(codec.encode_tail(tails, spec=spec), spec=spec)
    assert (np.diff(decoded) >= 0).all()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_empty_tail_is_exactly_empty(encoding):
    spec = spec_for(encoding, k=2, num_classes=2)
    decoded, tail = round_trip(np.log([[0.75, 0.25]]), np.array([-np.inf]), spec)
    assert tail[0] == -np.inf
    np.testing.assert_allclose(np.exp(decoded).sum(), 1, atol=1e-6)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_empty_entries_stay_empty(encoding):
    spec = spec_for(encoding, k=4)
    logprobs = np.array([[np.log(0.6), np.log(0.3), -np.inf, -np.inf], np.log([0.4, 0.3, 0.1, 0.1])])
    decoded, _ = round_trip(logprobs, np.log([0.1, 0.1]), spec)
    assert np.isneginf(decoded[0, 2:]).all()
    assert np.isfinite(decoded[1]).all()
    np.testing.assert_allclose(np.exp(decoded).sum(axis=1), 0.9, atol=0.02)


def test_log8_stored_values_are_differences_of_codes():
    spec = spec_for("log8", k=4)
    values = np.array([[-0.5, -1.0, -40.0, -np.inf]], np.float32)
    indices, stored = codec.encode_classes(np.array([[7, 3, 9, 0]]), values, spec=spec)
    assert stored.tolist() == [[4, 4, 245, 255]]
    assert indices.tolist() == [[7, 3, 9, 0]]
    assert codec.decode_classes(indices, stored, spec=spec)[1].tolist() == [[4, 8, 253, 255]]


def test_tied_classes_are_stored_as_differences_in_the_order_of_their_numbers():
    spec = spec_for("log8", k=6)
    values = np.array([[-0.5, -0.5, -2.01, -2.0, -1.99, -3.0]], np.float32)
    indices, stored = codec.encode_classes(np.array([[7, 3, 40, 2, 11, 1]]), values, spec=spec)
    # 7 and 3 tie, but the first two entries are always whole numbers; 2, 11, 40 tie.
    assert indices.tolist() == [[7, 3, 2, 9, 29, 1]]
    assert stored.tolist() == [[4, 0, 12, 0, 0, 8]]
    assert codec.decode_classes(indices, stored, spec=spec)[0].tolist() == [[7, 3, 2, 11, 40, 1]]


def test_drawn_classes_have_equal_parts_of_the_tail():
    spec = spec_for("log8", k=5)
    spec = dataclasses.replace(spec, selection="hybrid")
    values = np.array([[np.log(0.5), np.log(0.25), np.inf, np.inf, -np.inf]], np.float32)
    indices, stored = codec.encode_classes(np.array([[7, 3, 40, 2, 0]]), values, spec=spec)
    assert stored.tolist() == [[6, 5, 254, 254, 255]]
    assert indices.tolist() == [[7, 3, 2, 38, 0]]
    classes, codes = codec.decode_classes(indices.astype(np.uint16), stored, spec=spec)
    assert classes.tolist() == [[7, 3, 2, 40, 0]]
    tail = codec.encode_tail(np.log([0.25]).astype(np.float32), spec=spec)
    decoded, left = codec.decode(codes, tail, spec=spec)
    np.testing.assert_allclose(np.exp(decoded), [[0.5, 0.25, 0.125, 0.125, 0]], atol=0.02)
    np.testing.assert_allclose(np.exp(decoded).sum(), 1, atol=1e-6)
    assert left[0] == -np.inf
    assert codec.is_drawn(codes, spec=spec).tolist() == [[False, False, True, True, False]]


def test_counts_are_exact():
    spec = dataclasses.replace(spec_for("log8", k=4), selection="sample", encoding="counts", draws=7)
    with np.errstate(divide="ignore"):
        values = np.log(np.array([[4, 2, 1, 0], [0, 0, 0, 0]]) / 7).astype(np.float32)
    indices, stored = codec.encode_classes(np.array([[9, 1, 8, 0], [0, 0, 0, 0]]), values, spec=spec)
    assert stored.tolist() == [[4, 2, 1, 0], [0, 0, 0, 0]]
    classes, codes = codec.decode_classes(indices.astype(np.uint16), stored, spec=spec)
    decoded, tail = codec.decode(codes, codec.encode_tail(np.zeros(2, np.float32), spec=spec), spec=spec)
    np.testing.assert_allclose(np.exp(decoded), [[4 / 7, 2 / 7, 1 / 7, 0], [0, 0, 0, 0]], rtol=1e-6)
    assert tail.tolist() == [-np.inf, 0]
    assert classes[0].tolist() == [9, 1, 8, 0]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_classes_come_back_with_their_values(encoding, dtype, data):
    k = data.draw(st.integers(1, 12))
    spec = spec_for(encoding, k=k, num_classes=60_000)
    draw = data.draw(st.lists(st.integers(0, 59_999), min_size=k, max_size=k, unique=True))
    values = -np.sort(-data.draw(hnp.arrays(np.float32, k, elements=st.floats(-4, 0, width=16))))
    stored = codec.encode_classes(np.array([draw]), values[None], spec=spec)
    classes, codes = codec.decode_classes(stored[0].astype(dtype), stored[1], spec=spec)
    assert classes[0, 0] == draw[0]
    code_of = dict(zip(classes[0].tolist(), codes[0].tolist(), strict=True))
    single = spec_for(encoding, k=1, num_classes=60_000)
    for number, value in zip(draw, values, strict=True):
        alone = codec.encode_classes(np.array([[number]]), np.array([[value]], np.float32), spec=single)[1][0, 0]
        assert code_of[number] == alone


def test_log8_tail_codes():
    spec = spec_for("log8")
    tails = np.log(np.array([1e-30, 0.1, 0.5, 0.9]))
    assert codec.encode_tail(tails.astype(np.float32), spec=spec).tolist() == [1, 110, 128, 146]
    assert codec.encode_tail(np.array([-np.inf, 0.0], np.float32), spec=spec).tolist() == [0, 255]
