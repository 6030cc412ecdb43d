"""Stores written by earlier releases open, with the values they had. The literals here never change.

`max_mass` has a setting that is no longer offered: such stores must work for ever, as sources of new ones too.
"""

import uuid
from pathlib import Path

import numpy as np
import pytest
import zarr

import logitstore
from logitstore.format import codec

VERSIONS = (1, 2)
NAMES = ("log8", "float16", "counts", "hybrid", "max_mass")
GOLDEN = Path(__file__).with_name("golden")
INDICES = {
    "log8": [[7, 0, 3], [1, 2, 9], [4, 5, 6], [8, 7, 0], [9, 7, 8]],
    "float16": [[7, 0, 3], [1, 2, 9], [4, 5, 6], [8, 7, 0], [9, 7, 8]],
    "counts": [[7, 0, 3], [1, 2, 0], [4, 5, 6], [8, 0, 0], [9, 7, 8]],
    "hybrid": [[7, 0, 3], [1, 2, 9], [4, 5, 6], [8, 7, 0], [9, 8, 7]],
    "max_mass": [[7, 0, 0], [1, 0, 0], [4, 5, 6], [8, 0, 0], [9, 7, 8]],
}
STORED_INDICES = {
    "log8": [[7, 0, 3], [1, 2, 9], [4, 5, 1], [8, 7, 0], [9, 7, 1]],
    "float16": [[7, 0, 3], [1, 2, 9], [4, 5, 1], [8, 7, 0], [9, 7, 1]],
    "counts": [[7, 0, 3], [1, 2, 0], [4, 5, 6], [8, 0, 0], [9, 7, 1]],
    "hybrid": [[7, 0, 3], [1, 2, 9], [4, 5, 1], [8, 7, 0], [9, 8, 7]],
    "max_mass": [[7, 0, 0], [1, 0, 0], [4, 5, 1], [8, 0, 0], [9, 7, 1]],
}
STORED = {
    "log8": ([[6, 5, 6], [1, 23, 13], [7, 3, 0], [0, 61, 255], [13, 0, 0]], [112, 103, 0, 67, 125]),
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
    "counts": ([[4, 3, 1], [6, 2, 0], [3, 3, 2], [8, 0, 0], [4, 2, 2]], [0, 0, 0, 0, 0]),
    "hybrid": ([[6, 5, 254], [1, 23, 254], [7, 3, 0], [0, 61, 254], [13, 0, 254]], [119, 104, 0, 67, 131]),
    "max_mass": ([[6, 5, 255], [1, 255, 255], [7, 3, 0], [0, 255, 255], [13, 0, 0]], [119, 110, 0, 73, 125]),
}
PROBABILITIES = {
    "log8": (
        [
            [0.492588, 0.263663, 0.124546],
            [0.897321, 0.050623, 0.009968],
            [0.421127, 0.289436, 0.289436],
            [0.999025, 0.000488, 0.0],
            [0.197556, 0.197556, 0.197556],
        ],
        [0.119203, 0.042088, 0.0, 0.000488, 0.407333],
    ),
    "counts": (
        [[0.5, 0.375, 0.125], [0.75, 0.25, 0.0], [0.375, 0.375, 0.25], [1.0, 0.0, 0.0], [0.5, 0.25, 0.25]],
        [0.0] * 5,
    ),
    "hybrid": (
        [
            [0.491718, 0.263197, 0.245085],
            [0.901704, 0.050871, 0.047426],
            [0.421127, 0.289436, 0.289436],
            [0.999025, 0.000488, 0.000488],
            [0.203667, 0.203667, 0.592667],
        ],
        [0.0] * 5,
    ),
    "max_mass": (
        [
            [0.491718, 0.263197, 0.0],
            [0.904651, 0.0, 0.0],
            [0.421127, 0.289436, 0.289436],
            [0.998968, 0.0, 0.0],
            [0.197556, 0.197556, 0.197556],
        ],
        [0.245085, 0.095349, 0.0, 0.001032, 0.407333],
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


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", NAMES)
def test_values(name, version):
    path = GOLDEN / f"v{version}-{name}.zarr"
    store = logitstore.open(path)
    assert store.format_version == version
    assert store.spec.encoding == {"hybrid": "log8", "max_mass": "log8"}.get(name, name)
    assert store.spec.max_mass == (0.75 if name == "max_mass" else 1)
    assert store.spec.selection == {"hybrid": "hybrid", "counts": "sample"}.get(name, "topk")
    assert (store.spec.store_seed, store.spec.teacher["name"]) == (42, "golden")
    assert store.done().tolist() == [[True, True], [True, False]]
    assert [store.proof(0, 0), store.proof(0, 1), store.proof(1, 0), store.proof(1, 1)] == [100, 101, 110, 0]
    assert store.keys(slice(None)).tolist() == [1, 2, 3, 4, 2**63]
    assert store.labels(slice(None)).tolist() == [0, 1, 2, -1, 9]
    rows = store.read(epoch=0, rows=slice(None))
    assert rows.seeds.tolist() == [11, 12, 13, 14, 15]
    assert rows.indices.tolist() == INDICES[name]
    probabilities, tail = PROBABILITIES[name]
    np.testing.assert_allclose(np.exp(rows.logprobs), probabilities, atol=2e-6)
    np.testing.assert_allclose(np.exp(rows.tail), tail, atol=2e-6)
    assert store.read(epoch=1, rows=range(4)).seeds.tolist() == [21, 22, 23, 24]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", NAMES)
def test_values_with_plain_zarr(name, version):
    group = zarr.open(GOLDEN / f"v{version}-{name}.zarr", mode="r")
    values, tail = STORED[name]
    assert group["indices"][0].tolist() == STORED_INDICES[name]
    np.testing.assert_array_equal(group["logprobs"][0], np.array(values, group["logprobs"].dtype))
    np.testing.assert_array_equal(group["tail"][0], np.array(tail, group["tail"].dtype))
    assert group["proofs"][:].tolist() == [[100, 101], [110, 0]]


@pytest.mark.parametrize("place", ["disk", "memory"])
@pytest.mark.parametrize("name", NAMES)
def test_the_zarr_group_of_a_store(name, place):
    path = GOLDEN / f"v1-{name}.zarr"
    if place == "memory":
        url = f"memory://golden/{uuid.uuid4().hex}/v1.zarr"
        logitstore.copy(path, url)
        path = url
    store = logitstore.open(path)
    group, rows = store.zarr(), store.read(epoch=0, rows=slice(None))
    np.testing.assert_array_equal(group["seeds"][0], rows.seeds)
    np.testing.assert_array_equal(group["samples/keys"][:], store.keys(slice(None)))
    np.testing.assert_array_equal(group["samples/labels"][:], store.labels(slice(None)))
    np.testing.assert_array_equal(group["proofs"][:] != 0, store.done())
    assert group["proofs"][1].tolist() == [store.proof(1, 0), 0]
    # The others are encoded: what they hold decodes to what is read.
    assert group["indices"][0].tolist() == STORED_INDICES[name]
    classes, codes = codec.decode_classes(group["indices"][0], group["logprobs"][0], spec=store.spec)
    np.testing.assert_array_equal(classes, rows.indices)
    logprobs, tail = codec.decode(codes, group["tail"][0], spec=store.spec)
    np.testing.assert_array_equal(logprobs, rows.logprobs)
    np.testing.assert_array_equal(tail, rows.tail)
    assert group["logprobs"].metadata.dimension_names == ("epoch", "row", "kept")
    assert ("tail_model" in group) == (name == "log8")
    for write in (
        lambda: group["seeds"].__setitem__((0, 0), 1),
        lambda: group.create_array("more", shape=(1,), dtype="u1"),
    ):
        with pytest.raises(ValueError, match="read-only"):
            write()


def test_stores_with_max_mass_are_sources_of_new_ones(tmp_path):
    source = GOLDEN / "v1-max_mass.zarr"
    logitstore.copy(source, tmp_path / "copy.zarr")
    logitstore.merge(tmp_path / "merged.zarr", [source, tmp_path / "copy.zarr"])
    assert logitstore.grow(tmp_path / "merged.zarr", epochs=3).max_mass == 0.75
    for name in ("copy", "merged"):
        rows = logitstore.open(tmp_path / f"{name}.zarr").read(epoch=0, rows=slice(None))
        assert rows.indices.tolist() == INDICES["max_mass"]
    spec = logitstore.recode(source, tmp_path / "recoded.zarr", topk=2, encoding="float16")
    assert (spec.topk, spec.max_mass) == (2, 0.75)
    rows = logitstore.open(tmp_path / "recoded.zarr").read(epoch=0, rows=slice(None))
    assert rows.indices.tolist() == [row[:2] for row in INDICES["max_mass"]]
    np.testing.assert_allclose(rows.dense().sum(axis=1), 1, atol=1e-5)
    dropped = [sum(row[2:]) for row in PROBABILITIES["max_mass"][0]]
    np.testing.assert_allclose(np.exp(rows.tail), np.add(PROBABILITIES["max_mass"][1], dropped), atol=1e-3)
    assert [fault.id for fault in logitstore.check(tmp_path / "recoded.zarr").faults] == ["missing-blocks"]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_only_fault_is_the_absent_block(version):
    for name in NAMES:
        report = logitstore.check(GOLDEN / f"v{version}-{name}.zarr")
        assert [fault.id for fault in report.faults] == ["missing-blocks"]
        assert [note.id for note in report.notes] == ["old-version"] * (version == 1)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_tail_model(version):
    model = logitstore.open(GOLDEN / f"v{version}-log8.zarr").tail_model()
    assert model.groups.tolist() == [0, 1] * 5
    assert np.exp(model.logprobs[0]).round(3).tolist() == pytest.approx([0.1] * 10)
    assert np.exp(model.logprobs[1]).round(4).tolist()[:5] == pytest.approx([0.4999, 0.2499, 0.1249, 0.0624, 0.0313])
    assert logitstore.open(GOLDEN / f"v{version}-float16.zarr").tail_model() is None
