"""Stores whose classes were drawn, and stores with a tail model: written, read, checked, copied, described."""

import dataclasses

import numpy as np
import pytest
from click.testing import CliRunner

import logitstore
from logitstore.cli import main
from logitstore.tools.compare import compare
from logitstore.tools.stats import statistics

SPEC = logitstore.StoreSpec(num_samples=50, num_epochs=1, num_classes=40, topk=6, rows_per_block=32, tail_groups=3)


def tail_model(groups=3, classes=40):
    logits = np.random.default_rng(1).normal(size=(groups, classes))
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return logitstore.TailModel(groups=np.arange(classes) % groups, logprobs=logprobs.astype(np.float32))


def drawn_rows(spec, n):
    """Rows of a teacher pass: three exact classes and three drawn ones, or 8 draws; all entries of row 5 are empty."""
    random = np.random.default_rng(2)
    indices = np.stack([random.permutation(spec.num_classes)[: spec.topk] for _ in range(n)])
    logprobs = np.full((n, spec.topk), -np.inf, np.float32)
    tail = np.full(n, -np.inf, np.float32)
    if spec.selection == "sample":
        logprobs[:, :4] = np.log(np.array([4, 2, 1, 1]) / 8)
    else:
        logprobs[:, :3], logprobs[:, 3:], tail[:] = np.log([0.4, 0.3, 0.1]), np.inf, np.log(0.2)
    logprobs[5], tail[5] = -np.inf, 0
    return {"seeds": np.arange(n, dtype=np.uint64), "indices": indices, "logprobs": logprobs, "tail": tail, "proof": 1}


@pytest.fixture(params=["sample", "hybrid"])
def drawn_store(request, tmp_path):
    sampled = request.param == "sample"
    spec = dataclasses.replace(
        SPEC,
        selection=request.param,
        encoding="counts" if sampled else "log8",
        draws=8 if sampled else 0,
        tail_groups=0,
    )
    path = tmp_path / "t.zarr"
    logitstore.create(path, spec, keys=np.arange(50), labels=np.zeros(50, int))
    written = drawn_rows(spec, 50)
    with logitstore.writer(path) as writer:
        for block in range(spec.num_blocks):
            rows = spec.block_rows(block)
            part = {name: v[rows.start : rows.stop] for name, v in written.items() if name != "proof"}
            writer.write(0, block, **part, proof=1)
    return path, written


def test_drawn_classes_come_back_with_weights_that_sum_to_one(drawn_store):
    path, written = drawn_store
    assert logitstore.check(path).ok
    rows = logitstore.open(path).read(epoch=0, rows=range(32))
    good = np.arange(32) != 5
    np.testing.assert_allclose(np.exp(rows.logprobs[good]).sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(rows.dense()[good].sum(axis=1), 1, atol=1e-6)
    assert np.isneginf(rows.tail[good]).all()
    assert np.isneginf(rows.logprobs[5]).all()
    assert rows.tail[5] == pytest.approx(0, abs=1e-6)
    expected = [0.5, 0.25, 0.125, 0.125, 0, 0] if rows.drawn[0].sum() == 4 else [0.4, 0.3, 0.1] + [0.2 / 3] * 3
    np.testing.assert_allclose(np.exp(rows.logprobs[0]), expected, atol=0.02)
    kept = np.exp(rows.logprobs[0]) > 0
    assert set(rows.indices[0][kept]) == set(written["indices"][0][kept])
    assert rows.indices[0, 0] == written["indices"][0, 0]


def test_the_store_can_be_copied_compared_and_described(drawn_store, tmp_path):
    path, _ = drawn_store
    logitstore.copy(path, tmp_path / "copy.zarr")
    assert compare(logitstore.open(path), logitstore.open(tmp_path / "copy.zarr"))["same"]
    assert statistics(logitstore.open(path))["kept_mass"]["mean"] == pytest.approx(49 / 50, abs=0.02)


def test_commands_say_what_was_drawn(drawn_store):
    path, _ = drawn_store
    told = CliRunner().invoke(main, ["info", str(path)]).output
    spec = logitstore.open(path).spec
    assert f"6 of 40 classes, {spec.selection}, {spec.encoding}" in told
    assert ("8 draws" in told) == (spec.selection == "sample")
    shown = CliRunner().invoke(main, ["show", str(path), "--epoch", "0", "--row", "0"]).output
    assert shown.count("drawn") == (4 if spec.selection == "sample" else 3)
    assert CliRunner().invoke(main, ["check", str(path)]).exit_code == 0


def test_drawn_classes_cannot_be_recoded(drawn_store, tmp_path):
    with pytest.raises(logitstore.SpecError, match="were drawn"):
        logitstore.recode(drawn_store[0], tmp_path / "r.zarr", topk=2)


def test_rows_that_do_not_fit_the_selection_are_refused(tmp_path):
    hybrid = dataclasses.replace(SPEC, selection="hybrid", tail_groups=0)
    sample = dataclasses.replace(SPEC, selection="sample", encoding="counts", draws=8, tail_groups=0)
    topk = dataclasses.replace(SPEC, tail_groups=0)
    for spec, rows, part in (
        (topk, drawn_rows(hybrid, 32), "drawn classes do not go with the selection topk"),
        (sample, drawn_rows(hybrid, 32), "drawn classes do not go"),
        (dataclasses.replace(sample, draws=7), drawn_rows(sample, 32), "not counts of 7 draws"),
    ):
        path = tmp_path / f"{spec.selection}{spec.draws}.zarr"
        logitstore.create(path, spec, keys=np.arange(50), labels=np.zeros(50, int))
        with logitstore.writer(path) as writer, pytest.raises(logitstore.SpecError, match=part):
            writer.write(0, 0, **rows)


def test_a_tail_model_is_kept_with_the_store(tmp_path):
    path, model = tmp_path / "t.zarr", tail_model()
    logitstore.create(path, SPEC, keys=np.arange(50), labels=np.zeros(50, int), tail_model=model)
    found = logitstore.open(path).tail_model()
    assert found.groups.tolist() == model.groups.tolist()
    np.testing.assert_allclose(found.logprobs, model.logprobs, rtol=1e-3)
    logitstore.copy(path, tmp_path / "copy.zarr")
    logitstore.recode(path, tmp_path / "recoded.zarr", topk=2)
    for name in ("copy", "recoded"):
        again = logitstore.open(tmp_path / f"{name}.zarr").tail_model()
        np.testing.assert_array_equal(again.logprobs, found.logprobs)
    assert logitstore.grow(path, epochs=3).tail_groups == 3
    np.testing.assert_array_equal(logitstore.open(path).tail_model().logprobs, found.logprobs)


def test_a_damaged_tail_model_is_detected(tmp_path):
    path = tmp_path / "t.zarr"
    logitstore.create(path, SPEC, keys=np.arange(50), labels=np.zeros(50, int), tail_model=tail_model())
    file = path / "tail_model/logprobs/c/0/0"
    data = bytearray(file.read_bytes())
    data[60] ^= 4
    file.write_bytes(bytes(data))
    assert [f.array for f in logitstore.check(path).faults if f.id == "damaged-samples"] == ["tail_model/logprobs"]
    with pytest.raises(logitstore.DamagedBlock, match="tail_model/logprobs"):
        logitstore.open(path).tail_model()


@pytest.mark.parametrize(
    ("model", "part"),
    [
        (None, "give a tail model"),
        (tail_model(groups=2), "the spec requires"),
        (dataclasses.replace(tail_model(), groups=np.full(40, 3)), "outside 0..2"),
        (dataclasses.replace(tail_model(), logprobs=np.zeros((3, 40), np.float32)), "does not sum to 1"),
    ],
)
def test_tail_models_that_do_not_fit_are_refused(tmp_path, model, part):
    with pytest.raises(logitstore.SpecError, match=part):
        logitstore.create(tmp_path / "t.zarr", SPEC, keys=np.arange(50), labels=np.zeros(50, int), tail_model=model)
    assert not (tmp_path / "t.zarr").exists()


def test_parts_with_different_tail_models_can_be_merged(tmp_path):
    """As made on machines that each learned a tail model."""
    spec = dataclasses.replace(SPEC, num_samples=32)
    model = tail_model()
    shifted = dataclasses.replace(model, logprobs=model.logprobs + np.float32(1e-3))
    for name, each in (("a", model), ("b", shifted)):
        logitstore.create(tmp_path / name, spec, keys=np.arange(32), labels=np.zeros(32, int), tail_model=each)
    logitstore.merge(tmp_path / "whole", [tmp_path / "a", tmp_path / "b"])
    found = logitstore.open(tmp_path / "whole").tail_model()
    np.testing.assert_array_equal(found.logprobs, logitstore.open(tmp_path / "a").tail_model().logprobs)
