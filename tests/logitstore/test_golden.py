"""Stores written by earlier releases open, with the values they had. The literals here never change."""

from pathlib import Path

import numpy as np
import pytest
import zarr

import logitstore

GOLDEN = Path(__file__).with_name("golden")
INDICES = [[7, 0, 3], [1, 2, 9], [4, 5, 6], [8, 7, 0], [9, 8, 7]]
STORED = {
    "log8": ([[11, 11, 11], [2, 46, 26], [15, 4, 0], [0, 122, 255], [26, 0, 0]], [112, 103, 0, 67, 125]),
    "float16": (
        [
            [-0.693359375, -1.38671875, -2.080078125],
            [-0.1053466796875, -2.99609375, -4.60546875],
            [-0.91650390625, -1.2041015625, -1.2041015625],
            [-0.0010004043579101562, -7.6015625, -np.inf],
            [-1.609375, -1.609375, -1.609375],
        ],
        [-2.080078125, -3.21875, -np.inf, -7.6015625, -0.91650390625],
    ),
}
PROBABILITIES = {
    "log8": (
        [
            [0.501687, 0.252264, 0.126846],
            [0.897321, 0.050623, 0.009968],
            [0.390991, 0.304504, 0.304504],
            [0.999025, 0.000488, 0.0],
            [0.197556, 0.197556, 0.197556],
        ],
        [0.119203, 0.042088, 0.0, 0.000488, 0.407333],
    ),
    "float16": (
        [
            [0.500106, 0.25, 0.124973],
            [0.900016, 0.049982, 0.009997],
            [0.39998, 0.30001, 0.30001],
            [0.999001, 0.0005, 0.0],
            [0.200028, 0.200028, 0.200028],
        ],
        [0.12492, 0.040005, 0.0, 0.0005, 0.399915],
    ),
}


@pytest.mark.parametrize("encoding", ["log8", "float16"])
def test_version_1(encoding):
    path = GOLDEN / f"v1-{encoding}.zarr"
    store = logitstore.open(path)
    assert (store.spec.encoding, store.spec.store_seed, store.spec.teacher["name"]) == (encoding, 42, "golden")
    assert store.done().tolist() == [[True, True], [True, False]]
    assert [store.proof(0, 0), store.proof(0, 1), store.proof(1, 0), store.proof(1, 1)] == [100, 101, 110, 0]
    assert store.keys(slice(None)).tolist() == [1, 2, 3, 4, 2**63]
    assert store.labels(slice(None)).tolist() == [0, 1, 2, -1, 9]
    rows = store.read(epoch=0, rows=slice(None))
    assert rows.seeds.tolist() == [11, 12, 13, 14, 15]
    assert rows.indices.tolist() == INDICES
    probabilities, tail = PROBABILITIES[encoding]
    np.testing.assert_allclose(np.exp(rows.logprobs), probabilities, atol=2e-6)
    np.testing.assert_allclose(np.exp(rows.tail), tail, atol=2e-6)
    assert store.read(epoch=1, rows=range(4)).seeds.tolist() == [21, 22, 23, 24]


@pytest.mark.parametrize("encoding", ["log8", "float16"])
def test_version_1_with_plain_zarr(encoding):
    group = zarr.open(GOLDEN / f"v1-{encoding}.zarr", mode="r")
    values, tail = STORED[encoding]
    np.testing.assert_array_equal(group["logprobs"][0], np.array(values, group["logprobs"].dtype))
    np.testing.assert_array_equal(group["tail"][0], np.array(tail, group["tail"].dtype))
    assert group["proofs"][:].tolist() == [[100, 101], [110, 0]]


def test_the_only_fault_is_the_absent_block():
    for encoding in ("log8", "float16"):
        report = logitstore.check(GOLDEN / f"v1-{encoding}.zarr")
        assert [fault.id for fault in report.faults] == ["missing-blocks"]
        assert not report.notes
